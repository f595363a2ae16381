"""Runs of the systems beside A4Mer go on exactly, are refused under other settings, and are judged as encoders."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from core.errors import InputError, StageError
from dataset.loader import WindowReader, WindowRef, collate
from dataset.resample import num_instants
from dataset.shards import AmdDataset
from model.baselines.gl_transformer import GlTransformerConfig
from model.baselines.mamp import MampConfig
from model.baselines.motion_codes import MotionCodesConfig
from model.baselines.plain_frames import MaskedFramesConfig, PlainJepaConfig
from model.baselines.pretraining import SystemRecipe, fresh_system, load_system, pretrain
from model.baselines.recipes import system_recipe
from model.baselines.skeletons import skeleton_of, skeletons_of
from model.baselines.systems import SYSTEMS, build_system, longest_frames
from model.checkpoint import load_checkpoint
from model.protocols.forecast import ForecastConfig, token_rows
from model.protocols.motions import load_motions
from model.protocols.recognition import recognition_rows
from model.protocols.regression import RegressionConfig
from model.protocols.systems import SystemEncoder
from model.protocols.token_heads import HeadConfig
from model.protocols.windows import Task, pose_windows
from model.recipes import OptimConfig

TINY = {
    "mamp": MampConfig(frames=40, joints=22, width=16, heads=2, encoder_layers=1, decoder_layers=1, origin_joint=6),
    "gl_transformer": GlTransformerConfig(
        frames=40, persons=1, joints=22, centre=9, shoulders=(16, 17), joint_width=4, heads=2, blocks=1
    ),
    "motion_codes": MotionCodesConfig(
        width=16, heads=2, encoder_layers=1, decoder_layers=1, frames=4, num_codes=8, revive_after=2
    ),
    "masked_frames": MaskedFramesConfig(width=16, heads=2, layers=1),
    "plain_jepa": PlainJepaConfig(width=16, heads=2, layers=1, predictor_layers=1),
}


def recipe_of(kind: str) -> SystemRecipe:
    return SystemRecipe(
        "tiny", TINY[kind], window_s=2.0, rate_hz=15.0, tempo=0.1, optim=OptimConfig(warmup_steps=2),
        batch_size=4, steps=5, checkpoint_every=2,
    )  # fmt: skip


@pytest.mark.parametrize("kind", list(SYSTEMS))
def test_a_run_goes_on_where_it_stopped(people: Path, tmp_path: Path, kind: str) -> None:
    recipe = recipe_of(kind)
    first = pretrain(people, recipe, tmp_path / "parts", stop_at=3)
    again = pretrain(people, recipe, tmp_path / "parts")
    whole = pretrain(people, recipe, tmp_path / "whole")
    assert (first.steps, again.steps, whole.steps) == (3, 5, 5)
    assert (tmp_path / "parts" / "losses.jsonl").read_bytes() == (tmp_path / "whole" / "losses.jsonl").read_bytes()
    a, b = (load_checkpoint(tmp_path / run / "checkpoint.pt").model for run in ("parts", "whole"))
    assert all(torch.equal(a[name], b[name]) for name in b)
    started = fresh_system(recipe, AmdDataset(people)).state_dict()
    assert any(not torch.equal(started[name], b[name]) for name in b)
    assert pretrain(people, recipe, tmp_path / "whole") == whole  # nothing is done twice
    loaded = load_system(tmp_path / "whole", torch.device("cpu"))
    assert loaded.recipe == recipe
    with pytest.raises(StageError, match=r"recipe\.steps 5 -> 6"):
        pretrain(people, dataclasses.replace(recipe, steps=6), tmp_path / "whole")


@pytest.mark.parametrize("kind", list(SYSTEMS))
def test_tokens_tell_nothing_of_what_is_hidden(people: Path, tmp_path: Path, kind: str) -> None:
    recipe = recipe_of(kind)
    pretrain(people, recipe, tmp_path / "run", stop_at=1)
    encoder = SystemEncoder(load_system(tmp_path / "run", torch.device("cpu")), kind, torch.device("cpu"), batch_size=2)
    motions = load_motions(AmdDataset(people), ["p0"]).motions
    rate_hz = motions[0].rate_hz
    first, second = encoder.encode(motions, (1.0,), 1)["steps"][0], encoder.encode(motions, (1.0,), 0)["steps"][0]
    assert first.start_s[0] == 0.0 and first.stop_s[-1] <= 1.0 and second.start_s[0] == 1.0
    assert np.allclose(first.start_s[1:], first.stop_s[:-1])
    changed = [dataclasses.replace(m, joints_m=m.joints_m.copy()) for m in motions]
    for motion in changed:
        motion.joints_m[round(rate_hz) :] += np.random.default_rng(0).normal(
            size=motion.joints_m[round(rate_hz) :].shape
        )
    assert np.array_equal(encoder.encode(changed, (1.0,), 1)["steps"][0].z, first.z)
    assert not np.array_equal(encoder.encode(changed, (1.0,), 0)["steps"][0].z, second.z)


@pytest.mark.parametrize("kind", list(SYSTEMS))
def test_frames_that_are_not_valid_divide_a_motion(people: Path, tmp_path: Path, kind: str) -> None:
    pretrain(people, recipe_of(kind), tmp_path / "run", stop_at=1)
    encoder = SystemEncoder(load_system(tmp_path / "run", torch.device("cpu")), kind, torch.device("cpu"))
    motion = AmdDataset(people).motion(AmdDataset(people).clips[0].id, 0, 120)
    bad = dataclasses.replace(motion, frame_valid=np.arange(120) != 60, joints_m=motion.joints_m.copy())
    bad.joints_m[60] = np.nan
    (tokens,) = encoder.encode([bad])["steps"]
    assert np.isfinite(tokens.z).all() and tokens.start_s[0] == 0.0 and tokens.stop_s[-1] > 3.5
    gone = (tokens.start_s < 60.5 / 30) & (tokens.stop_s > 60.5 / 30)
    assert not gone.any()
    (nothing,) = encoder.encode([dataclasses.replace(bad, frame_valid=np.zeros(120, dtype=bool))])["steps"]
    assert len(nothing) == 0


@pytest.mark.parametrize("kind", list(SYSTEMS))
def test_systems_forecast_by_the_same_heads(people: Path, tmp_path: Path, kind: str) -> None:
    recipe = dataclasses.replace(recipe_of(kind), rate_hz=30.0, window_s=1.0)
    pretrain(people, recipe, tmp_path / "run", stop_at=1)
    encoder = SystemEncoder(load_system(tmp_path / "run", torch.device("cpu")), kind, torch.device("cpu"))
    motions = load_motions(AmdDataset(people), ["p0", "p2", "p3"])
    heads = HeadConfig(steps=2, batch_size=4, layers=1)
    config = ForecastConfig(heads=heads, train_windows=12, regression=RegressionConfig(epochs=1))
    for task in (Task(10, 15), Task(5, 10, 5)):
        windows = pose_windows(motions, task)
        some = windows.rows(np.flatnonzero(windows.first % 10 == 0))
        rows = token_rows(encoder, motions, some, 1, config, torch.device("cpu"))
        assert {"network on tokens", "paper's heads"} <= rows.keys()
        assert all(np.isfinite(row["mm"]) for row in rows.values())


def test_what_is_longer_than_a_network_takes_is_seen_in_pieces(people: Path, tmp_path: Path) -> None:
    recipe = recipe_of("gl_transformer")
    pretrain(people, recipe, tmp_path / "run", stop_at=1)
    encoder = SystemEncoder(load_system(tmp_path / "run", torch.device("cpu")), "gl", torch.device("cpu"))
    motion = AmdDataset(people).motion(AmdDataset(people).clips[0].id)
    (tokens,) = encoder.encode([motion])["steps"]
    assert len(tokens) == num_instants(len(motion), Fraction(30), 15.0) > 2 * 40
    assert np.allclose(np.diff(tokens.start_s), 1 / 15) and np.isfinite(tokens.z).all()
    # a piece that begins later begins anew: the same frames by themselves give the same tokens
    (again,) = encoder.encode([motion.part(2 * 40, len(motion))])["steps"]
    assert np.allclose(tokens.z[40:80], again.z[:40], atol=1e-5)


@pytest.mark.parametrize("kind", list(SYSTEMS))
def test_systems_are_judged_as_any_other_representation(people: Path, tmp_path: Path, kind: str) -> None:
    pretrain(people, recipe_of(kind), tmp_path / "run", stop_at=1)
    encoder = SystemEncoder(load_system(tmp_path / "run", torch.device("cpu")), kind, torch.device("cpu"))
    rows = recognition_rows(encoder, load_motions(AmdDataset(people), ["p0", "p2", "p3"]), 1, ["middle 1 s"])
    assert 0 <= rows["middle 1 s | ridge, alpha = 100"]["accuracy"] <= 1 and len(rows) > 6


@pytest.mark.parametrize("coordinates", ["start", "heading"])
def test_windows_and_motions_tell_the_same_joints(people: Path, coordinates: str) -> None:
    dataset = AmdDataset(people)
    clip = dataset.clips[0]
    windows = collate([WindowReader(dataset, 2.0, 30.0).read(WindowRef(clip.id, 0, 0.0))])
    batch = skeletons_of(windows, 30.0, coordinates)
    motion = dataset.motion(clip.id, 0, 60)
    assert np.allclose(batch.joints_m[0, 0].numpy(), skeleton_of(motion, coordinates), atol=1e-4)
    windows["valid"][0, 20] = False
    assert skeletons_of(windows, 30.0, coordinates).exists[0, 0].sum() == 20


def test_recipes_are_known_by_system_and_name() -> None:
    for kind in SYSTEMS:
        plain = kind in ("masked_frames", "plain_jepa")  # nobody published these
        for name in ("cpu_10min", "gpu_10min", *(() if plain else ("published",))):
            recipe = system_recipe(kind, name)
            assert (recipe.kind, recipe.name) == (kind, name)
            longest = longest_frames(recipe.system)
            # a place that no window reaches has an untrained position
            assert longest is None or longest <= round(recipe.window_s * recipe.rate_hz)
    assert system_recipe("mamp", "published").system == MampConfig(joints=22, origin_joint=6)
    with pytest.raises(InputError, match="mamp published"):
        system_recipe("mamp", "gpu")


@pytest.mark.parametrize(("kind", "sizes"), [("mamp", {"heads": 3}), ("motion_codes", {"width": 20, "heads": 4})])
def test_sizes_that_do_not_fit_are_named(kind: str, sizes: dict[str, int]) -> None:
    with pytest.raises(InputError, match=f"{kind}: .* heads do not divide"):
        build_system(dataclasses.replace(TINY[kind], **sizes))
