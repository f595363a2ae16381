"""A4Mer as an encoder: what is hidden reaches no token, and segments begin where they are told to."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from dataset.resample import Motion
from dataset.shards import AmdDataset
from model.atoms import grid_frame
from model.loading import TrainedRun
from model.protocols.a4mer import A4MerEncoder
from model.protocols.encoders import Encoder, part_edges
from model.protocols.forecast import ForecastConfig, token_rows
from model.protocols.motions import LabelledMotions
from model.protocols.recognition import recognition_rows
from model.protocols.token_heads import HeadConfig
from model.protocols.windows import Task, pose_windows


def _shaken(motion: Motion, start: int, stop: int) -> Motion:
    """Another pose in some frames."""
    poses, joints = motion.poses.copy(), motion.joints_m.copy()
    poses[start:stop] += 0.3
    joints[start:stop] += np.random.default_rng(1).normal(scale=0.2, size=(stop - start, 24, 3)).astype(np.float32)
    return dataclasses.replace(motion, poses=poses, joints_m=joints)


@pytest.mark.parametrize("borders_s", [(2.0,), (2.0, 4.0)])
def test_nothing_hidden_reaches_a_token(
    run: TrainedRun, motions: LabelledMotions, borders_s: tuple[float, ...]
) -> None:
    encoder = A4MerEncoder(run)
    assert isinstance(encoder, Encoder)
    windows = [motion.part(0, 180) for motion in motions.motions]
    first = encoder.encode(windows, borders_s, 1)
    edges = part_edges(windows[0], borders_s)[1]
    second = encoder.encode([_shaken(window, *edges) for window in windows], borders_s, 1)
    for level in ("frames", "local", "atoms", "motifs"):
        for a, b in zip(first[level], second[level], strict=True):
            assert np.array_equal(a.z, b.z) and np.array_equal(a.start_s, b.start_s)
            assert not ((a.start_s >= 2.0) & (a.start_s < (4.0 if len(borders_s) > 1 else 9.0))).any()
    whole = encoder.encode(windows, borders_s)
    shaken = encoder.encode([_shaken(window, *edges) for window in windows], borders_s)
    assert not np.array_equal(whole["motifs"][0].z, shaken["motifs"][0].z)


def test_segments_cover_the_motion_and_begin_at_borders(run: TrainedRun, motions: LabelledMotions) -> None:
    windows = [motion.part(0, 180) for motion in motions.motions]
    for level, tokens in A4MerEncoder(run, batch_size=4).encode(windows, (2.0, 4.0)).items():
        for found in tokens:
            assert found.start_s[0] == 0.0 and found.stop_s[-1] == pytest.approx(6.0)
            assert found.stop_s[:-1] == pytest.approx(found.start_s[1:])
            assert {2.0, 4.0} <= set(found.start_s.tolist()) and len(found.z) == len(found)
        assert level in ("frames", "local", "atoms", "motifs")


def test_local_tokens_do_not_see_other_segments(run: TrainedRun, motions: LabelledMotions) -> None:
    # cut at the same times, and changed in the last second alone
    motion = motions.motions[0].part(0, 120)
    borders_s = (1.0, 2.0, 3.0)
    first, second = (A4MerEncoder(run).encode([m], borders_s) for m in (motion, _shaken(motion, 90, 120)))
    for level in ("frames", "local"):
        before = first[level][0].start_s < 3.0
        assert np.allclose(first[level][0].z[before], second[level][0].z[: before.sum()], atol=1e-5)
    before = first["atoms"][0].start_s < 3.0
    assert not np.allclose(first["atoms"][0].z[before], second["atoms"][0].z[: before.sum()], atol=1e-3)


def test_segments_are_those_of_the_clip(run: TrainedRun, motions: LabelledMotions, people: Path) -> None:
    dataset = AmdDataset(people)
    clip = dataset[motions.ids[0]]
    found = A4MerEncoder(run).encode(motions.motions[:1])["atoms"][0]
    cuts_s = run.segment(dataset, (clip,)).cuts_s[clip.id]
    assert found.start_s == pytest.approx(grid_frame(cuts_s, 5.0) / 5.0)
    control = A4MerEncoder(run, untrained=True).encode(motions.motions[:1])["atoms"][0]
    assert np.array_equal(control.start_s, found.start_s) and not np.allclose(control.z, found.z)


def test_all_protocols_take_it(run: TrainedRun, motions: LabelledMotions) -> None:
    encoder = A4MerEncoder(run)
    short = dataclasses.replace(motions, motions=tuple(motion.part(0, 100) for motion in motions.motions))
    rows = recognition_rows(encoder, short, 1, ["middle 1 s"])
    assert {"middle 1 s | ridge", "middle 1 s | k-NN, chosen pooling", "middle 1 s | 5-shot ridge, segments"} <= set(
        rows
    )
    views = [rows[f"middle 1 s | ridge, alpha = 100{kind}"]["view"] for kind in ("", ", segments")]
    assert views == [f"middle 1 s: {levels}local+atoms+motifs mean+sd" for levels in ("frames+", "")]
    config = ForecastConfig(train_windows=8, heads=HeadConfig(steps=2, batch_size=4, attention_heads=2, layers=1))
    for task in (Task(5, 5), Task(4, 4, 4)):
        windows = pose_windows(short, task)
        found = token_rows(encoder, short, windows, 1, config, torch.device("cpu"))
        assert all(np.isfinite(row["mm"]) for row in found.values())
