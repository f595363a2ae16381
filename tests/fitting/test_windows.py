"""Stretches: where they are cut, that the cuts do not show, that processes do not either, and their files."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from test_fit import NOISE_PX, STEP_S, foot_observations, room_rig, walk

from core.skeletons import HALPE_26
from fitting.estimate import EstimateConfig, Measurements
from fitting.fit_model import FitModel
from fitting.landmarks import Landmarks
from fitting.points import triangulate_points
from fitting.stand_in import stand_in_body
from fitting.stretches import Stretches
from fitting.subject import Subject, estimate_subject
from fitting.windows import Window, cut_windows, estimate_body

NUM_FRAMES = 150


@pytest.fixture(scope="module")
def measured() -> Measurements:
    rng = np.random.default_rng(8)
    rig, landmarks = room_rig(), Landmarks.of(stand_in_body(), HALPE_26)
    truth = walk(stand_in_body(), NUM_FRAMES)
    xy = rig.project(landmarks.positions(truth)) + rng.normal(0, NOISE_PX, (4, NUM_FRAMES, 26, 2))
    score = np.full(xy.shape[:-1], 0.9)
    points = triangulate_points(rig, xy, score, HALPE_26)
    return Measurements(rig, xy, score, points.xyz_m, STEP_S, foot_observations(truth)[0])


@pytest.fixture(scope="module")
def subject(measured: Measurements) -> Subject:
    return estimate_subject(FitModel.of(stand_in_body(), Landmarks.of(stand_in_body(), HALPE_26)), measured, QUICK)


QUICK = EstimateConfig(subject_frames=40)


def test_windows_cover_all_frames_once_and_are_cut_where_much_is_seen() -> None:
    seen = np.full(900, 26.0)
    seen[250:340] = 12.0  # where an even cut would lie
    windows = cut_windows(seen, 1 / 30, EstimateConfig(window_s=10.0, overlap_s=1.0))
    assert len(windows) == 3
    kept = np.concatenate([np.arange(w.begin, w.end) for w in windows])
    np.testing.assert_array_equal(kept, np.arange(900))
    assert seen[windows[0].end] == 26.0
    assert all(w.begin - w.first in (0, 30) and w.last - w.end in (0, 30) for w in windows)
    assert cut_windows(np.ones(90), 1 / 30, EstimateConfig()) == (Window(0, 0, 90, 90),)


def test_cuts_do_not_show(measured: Measurements, subject: Subject) -> None:
    """A tenth of a millimetre, where the noise is 13 mm a view and frame."""
    body = stand_in_body()
    landmarks = Landmarks.of(body, HALPE_26)
    tight = dataclasses.replace(QUICK.solver, tolerance=1e-7, iterations=30)
    whole = dataclasses.replace(QUICK, window_s=100.0, overlap_s=3.0, solver=tight)
    cut = dataclasses.replace(QUICK, window_s=2.0, overlap_s=1.0, solver=tight)
    joints = [
        estimate_body(body, landmarks, measured, config, subject).state.posed(body).joints for config in (whole, cut)
    ]
    assert len(cut_windows(measured.known, STEP_S, cut)) == 2
    assert len(cut_windows(measured.known, STEP_S, whole)) == 1
    off = np.linalg.norm(joints[0] - joints[1], axis=-1)
    assert np.median(off) < 1e-5 and off.max() < 1e-4


def test_who_does_the_stretches_does_not_matter(measured: Measurements, subject: Subject) -> None:
    body = stand_in_body()
    landmarks = Landmarks.of(body, HALPE_26)
    config = dataclasses.replace(QUICK, window_s=2.0, overlap_s=0.5)
    alone = estimate_body(body, landmarks, measured, config, subject)
    with ThreadPoolExecutor(2) as pool:
        shared = estimate_body(body, landmarks, measured, config, subject, pool=pool)
    np.testing.assert_array_equal(alone.state.R, shared.state.R)
    np.testing.assert_array_equal(alone.joint_covariance, shared.joint_covariance)


def test_stretches_hold_what_was_measured(measured: Measurements, tmp_path: Path) -> None:
    windows = {"a": Window(0, 0, 60, 70), "b": Window(50, 60, 150, 150)}
    Stretches.cut(tmp_path, measured, windows, HALPE_26)
    found = Stretches.load(tmp_path)
    assert found.windows == windows and len(found) == NUM_FRAMES and found.skeleton is HALPE_26
    for part, expected in ((found.read("b"), slice(50, 150)), (found.frames(slice(40, 90)), slice(40, 90))):
        original = measured.frames(expected)
        np.testing.assert_array_equal(part.points_m, original.points_m)
        np.testing.assert_array_equal(part.xy_px, original.xy_px)
        for view, foot in original.feet.items():
            np.testing.assert_array_equal(part.feet[view].information, foot.information)
            np.testing.assert_array_equal(part.feet[view].world_from_cam.R, foot.world_from_cam.R)
    assert found.step_s == measured.step_s
