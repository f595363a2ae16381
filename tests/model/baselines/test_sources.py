"""Pretraining on clips of NTU RGB+D's kind: exact resumption, published views, and networks of either skeleton."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from kinect_clips import BENCHMARK, TINY, made_clips, other_order, recipe_of, source_of

from core.errors import StageError
from dataset.kinect.clips import ClipFile
from dataset.shards import AmdDataset
from model.baselines.gl_transformer import GlTransformerConfig
from model.baselines.mamp import MampConfig
from model.baselines.mamp_views import num_frames
from model.baselines.motion_codes import MotionCodesConfig
from model.baselines.pretraining import first_weights, load_system, pretrain
from model.baselines.recipes import PUBLISHED, recipe_for_source, system_recipe, with_published_epochs
from model.baselines.sources import AmdWindows, BatchSource, ClipSource, SystemClips
from model.baselines.systems import SYSTEMS, num_joints
from model.baselines.views import testing_view as view_of_tests
from model.baselines.views import training_view
from model.checkpoint import load_checkpoint
from model.masking import generator_of
from model.protocols.motions import load_motions
from model.protocols.systems import SystemEncoder


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> ClipFile:
    return made_clips(tmp_path_factory.mktemp("clips"), (1, 5, 50))


@pytest.mark.parametrize("kind", list(SYSTEMS))
def test_a_run_on_clips_goes_on_where_it_stopped(clips: ClipFile, tmp_path: Path, kind: str) -> None:
    recipe = recipe_of(kind)
    first = pretrain(source_of(clips, recipe), recipe, tmp_path / "parts", stop_at=3)
    again = pretrain(source_of(clips, recipe), recipe, tmp_path / "parts")
    whole = pretrain(source_of(clips, recipe), recipe, tmp_path / "whole")
    assert (first.steps, again.steps, whole.steps) == (3, 5, 5)
    assert (tmp_path / "parts" / "losses.jsonl").read_bytes() == (tmp_path / "whole" / "losses.jsonl").read_bytes()
    a, b = (load_checkpoint(tmp_path / run / "checkpoint.pt").model for run in ("parts", "whole"))
    assert all(torch.equal(a[name], b[name]) for name in b)
    started = first_weights(recipe, source_of(clips, recipe)).state_dict()
    assert any(not torch.equal(started[name], b[name]) for name in b)
    assert load_system(tmp_path / "whole", torch.device("cpu")).recipe == recipe
    with pytest.raises(StageError, match=r"data\.chosen"):
        pretrain(source_of(clips, recipe, other_order(clips)), recipe, tmp_path / "whole")


def test_every_clip_comes_once_in_an_epoch_and_in_another_order_in_the_next(clips: ClipFile) -> None:
    recipe = recipe_of("mamp")
    source = source_of(clips, recipe)
    assert isinstance(source, BatchSource) and source.steps_per_epoch == 3
    epochs = [np.concatenate([source.rows(3 * epoch + k) for k in range(3)]) for epoch in range(2)]
    assert all(np.array_equal(np.sort(epoch), np.arange(12)) for epoch in epochs)
    assert not np.array_equal(*epochs)
    few = SystemClips(clips, clips.parts(BENCHMARK).train[:3], recipe.system)
    assert len(ClipSource(few, "x", seed=0, batch_size=8).rows(0)) == 8


def test_mamp_sees_a_centred_stretch_of_the_published_length(clips: ClipFile) -> None:
    seen = SystemClips(clips, clips.parts(BENCHMARK).train, TINY["mamp"])
    raw = seen.batch(range(len(seen)))
    assert raw.joints_m.shape[1] == 2 and raw.exists[:, 0].any(dim=1).all()
    pairs = raw.exists[:, 1].any(dim=1)
    assert pairs.sum() == len(seen) // 3  # nobody is made up beside those who are alone
    test = view_of_tests(TINY["mamp"], raw)
    assert test.joints_m.shape[2] == 16 and torch.equal(test.exists[:, 1].any(dim=1), pairs)
    assert (num_frames(test) == 16).all()
    first, again, other = (training_view(TINY["mamp"], raw, generator_of(0, step)) for step in (1, 1, 2))
    assert torch.equal(first.joints_m, again.joints_m) and not torch.equal(first.joints_m, other.joints_m)
    # the middle of the spine begins at the origin, before the stretch is chosen
    assert torch.linalg.vector_norm(test.joints_m[:, 0, 0, 1], dim=-1).max() < 0.3
    # turned by 0.3 rad about three axes at most: heads stay above pelvises
    up = first.joints_m[:, 0, :, 3] - first.joints_m[:, 0, :, 0]
    assert (up[..., 2] > 0.5 * torch.linalg.vector_norm(up, dim=-1)).all()


def test_gl_transformer_sees_two_people_and_as_many_frames_as_it_takes(clips: ClipFile) -> None:
    seen = SystemClips(clips, clips.parts(BENCHMARK).train, TINY["gl_transformer"])
    raw = seen.batch([0, 1])
    view = training_view(TINY["gl_transformer"], raw, generator_of(0, 0))
    assert raw.joints_m.shape[2] > 30 and view.joints_m.shape[1:] == (2, 30, 25, 3)


def test_codes_see_frames_by_themselves_and_normalise_by_the_clips(clips: ClipFile) -> None:
    recipe = recipe_of("motion_codes")
    source = source_of(clips, recipe)
    batch = source.prepare(next(source.batches(0, 1))[1], generator_of(0, 0))
    assert batch.joints_m[..., 0, :2].abs().max() < 1e-4  # pelvis above the origin in every frame
    mean, scale = source.statistics()
    known = batch.joints_m[batch.exists].flatten(1)
    assert mean.shape == (75,) and (known.mean(dim=0) - mean).abs().max() < 3 * scale


@pytest.mark.parametrize("kind", list(SYSTEMS))
def test_a_network_of_smpl_is_judged_on_kinect(clips: ClipFile, kind: str) -> None:
    size = {"joints": 22} if kind in ("mamp", "gl_transformer") else {"num_joints": 22}
    if kind == "gl_transformer":
        size |= {"persons": 1, "centre": 9, "shoulders": (16, 17)}
    config = dataclasses.replace(TINY[kind], **size)
    batch = SystemClips(clips, clips.parts(BENCHMARK).test, config).batch([0, 2])
    assert batch.joints_m.shape[3] == 22
    network = SYSTEMS[kind].network(config)
    tokens = network.encode(view_of_tests(config, batch))
    assert torch.isfinite(tokens.z[tokens.exists]).all()


@pytest.mark.parametrize("kind", list(SYSTEMS))
def test_a_network_of_kinect_learns_from_smpl_and_is_judged_on_it(people: Path, tmp_path: Path, kind: str) -> None:
    recipe = recipe_of(kind)
    dataset = AmdDataset(people)
    pretrain(people, recipe, tmp_path / "run", stop_at=2)
    encoder = SystemEncoder(load_system(tmp_path / "run", torch.device("cpu")), kind, torch.device("cpu"))
    (tokens, *_) = encoder.encode(load_motions(dataset, ["p0"]).motions[:1])["steps"]
    assert len(tokens) and np.isfinite(tokens.z).all()
    windows = AmdWindows(
        dataset, recipe.system, window_s=1.0, rate_hz=30.0, seed=0, batch_size=4, tempo=0.0
    )  # fmt: skip
    ((_, raw),) = windows.batches(0, 1)
    batch = windows.prepare(raw, generator_of(0, 0))
    assert batch.joints_m.shape[3] == 25 and torch.isfinite(batch.joints_m).all()


def test_published_recipes_have_the_published_sizes() -> None:
    assert system_recipe("mamp", "ntu_published").system == MampConfig()
    assert system_recipe("gl_transformer", "ntu_published").system == GlTransformerConfig()
    assert system_recipe("motion_codes", "ntu_published").system == MotionCodesConfig(num_joints=25, frames=100)
    for kind in PUBLISHED:
        for source, classes in (("ntu", 60), ("ntu", 120), ("pku1", 51), ("pku2", 51)):
            assert num_joints(recipe_for_source(kind, source, classes).system) == 25
    larger = recipe_for_source("mamp", "ntu", 120).system
    assert isinstance(larger, MampConfig) and (larger.decoder_layers, larger.temperature) == (5, 0.75)
    # 400 epochs of 313 batches, of which 20 warm up
    recipe = with_published_epochs(system_recipe("mamp", "ntu_published"), 40091)
    assert recipe == system_recipe("mamp", "ntu_published") and recipe.steps == 125_200
    assert with_published_epochs(system_recipe("gl_transformer", "ntu_published"), 40091).steps == 37_560
