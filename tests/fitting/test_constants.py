"""What stays the same of a person: shape, mounts, and how a detector's joints differ from the model's."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from test_fit import NOISE_PX, STEP_S, foot_observations, room_rig, walk

from core.errors import InputError
from core.skeletons import HALPE_26
from fitting.estimate import EstimateConfig, Measurements
from fitting.fit_model import FitModel
from fitting.landmarks import Landmarks
from fitting.objective import FitState, Objective, Weights
from fitting.points import triangulate_points
from fitting.residuals import information_factor
from fitting.stand_in import stand_in_body
from fitting.subject import Subject, estimate_subject

T = 90


def measured(rng: np.random.Generator, offsets_m: np.ndarray) -> Measurements:
    rig, truth = room_rig(), walk(stand_in_body(), T)
    landmarks = Landmarks.of(stand_in_body(), HALPE_26).shifted(offsets_m)
    xy = rig.project(landmarks.positions(truth)) + rng.normal(0, NOISE_PX, (4, T, 26, 2))
    score = np.ones(xy.shape[:-1])
    return Measurements(rig, xy, score, triangulate_points(rig, xy, score, HALPE_26).xyz_m, STEP_S)


def model() -> FitModel:
    return FitModel.of(stand_in_body(), Landmarks.of(stand_in_body(), HALPE_26))


def test_a_detector_that_means_the_same_joints_has_small_offsets(rng: np.random.Generator) -> None:
    found = estimate_subject(model(), measured(rng, np.zeros((26, 3))), EstimateConfig())
    assert np.linalg.norm(found.offsets, axis=-1).max() < 0.006
    sigma = np.sqrt(np.diagonal(found.covariance))
    assert (np.abs(found.offsets.ravel()) < 4 * sigma[10:88]).all()


def test_constant_differences_are_found_and_not_taken_for_shape(rng: np.random.Generator) -> None:
    offsets = np.zeros((26, 3))
    for name, off in (("left_ear", [0.02, 0, -0.02]), ("nose", [0, 0, 0.03])):  # of the head, which does not bend
        offsets[HALPE_26.idx(name)] = off
    found = estimate_subject(model(), measured(rng, offsets), EstimateConfig())
    for name in ("left_ear", "nose"):
        row = HALPE_26.idx(name)
        # neighbours and pose take a part of it
        assert found.offsets[row] @ offsets[row] > 0.5 * offsets[row] @ offsets[row], name
    off = np.abs(found.betas - np.append([0.8, -0.5, 0.3], np.zeros(7)))
    assert np.delete(off, 7).max() < 0.8, "the eighth is the shape of the head, which explains some of it"


def test_derivatives_by_offsets_are_exact(rng: np.random.Generator) -> None:
    posed = walk(stand_in_body(), 3)
    feet, mounts = foot_observations(posed)
    offsets = rng.normal(0, 0.01, (26, 3))
    transl = posed.joints[:, 0] - posed.shaped.rest_joints[0]
    state = FitState(posed.rotations.copy(), transl, rng.normal(0, 0.3, 10), mounts, offsets)
    points = Landmarks.of(stand_in_body(), HALPE_26).positions(posed) + rng.normal(0, 0.02, (3, 26, 3))
    objective = Objective(model(), None, Weights(), points_m=points, feet=feet)
    system, none = objective.linearise(state), np.zeros((3, 75))
    assert len(system.gradient_global) == 10 + 78 + 12
    for unknown in (0, 9, 10, 33, 87, 88, 99):
        step = np.zeros(100)
        step[unknown] = 1e-6
        plus, minus = (objective.linearise(state.retract(none, sign * step)).cost for sign in (1, -1))
        assert system.gradient_global[unknown] == pytest.approx((plus - minus) / 2e-6, rel=1e-3, abs=0.05)


def test_a_mount_is_read_from_frames_that_show_the_foot(rng: np.random.Generator) -> None:
    """A foot camera that is wrong where nobody saw the foot does not move the mount."""
    part = measured(rng, np.zeros((26, 3)))
    feet, mounts = foot_observations(walk(stand_in_body(), T))
    hidden = slice(40, 60)
    below = [HALPE_26.idx(f"left_{name}") for name in ("ankle", "heel", "big_toe", "small_toe")]
    part.points_m[hidden, below], part.score[:, hidden, below] = np.nan, 0.0
    feet["left_foot"].world_from_cam.t[hidden] += 0.4
    found = estimate_subject(model(), dataclasses.replace(part, feet=feet), EstimateConfig())
    assert not found.refused
    np.testing.assert_allclose(found.mounts["left_foot"].t, mounts["left_foot"].t, atol=0.015)


def test_a_subject_survives_the_disk(rng: np.random.Generator, tmp_path: Path) -> None:
    feet, mounts = foot_observations(walk(stand_in_body(), 3))
    covariance = np.eye(10 + 78 + 12)
    subject = Subject(rng.normal(size=10), rng.normal(size=(26, 3)), mounts, covariance, {"other": "too few frames"})
    subject.save(tmp_path / "subject.json", stand_in_body())
    again = Subject.load(tmp_path / "subject.json")
    np.testing.assert_allclose(again.offsets, subject.offsets)
    np.testing.assert_allclose(again.mounts["left_foot"].R, mounts["left_foot"].R, atol=1e-12)
    assert again.refused == subject.refused and set(again.mount_sigma) == set(feet)
    (tmp_path / "subject.json").write_text("{}")
    with pytest.raises(InputError, match="no file of a subject"):
        Subject.load(tmp_path / "subject.json")


def test_what_a_robust_loss_tells_is_between_its_curvature_and_all() -> None:
    """Simulated: the mean of many noisy points under the loss of `reprojection_term`, two coordinates each."""
    rng, scale = np.random.default_rng(2), 4.0
    r = rng.normal(size=(4000, 50, 2))
    mean = np.zeros((4000, 1, 2))
    for _ in range(30):
        w = (1 + ((r - mean) ** 2).sum(axis=-1, keepdims=True) / scale**2) ** -2.0
        mean = (w * r).sum(axis=1, keepdims=True) / w.sum(axis=1, keepdims=True)
    stated = 1 / w.sum(axis=1).mean() / information_factor(scale)
    assert np.var(mean) == pytest.approx(stated, rel=0.05)
