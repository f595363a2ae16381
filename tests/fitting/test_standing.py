"""Feet that stand: the term by itself, who says that a sole rests, and what it does to a fit."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from core.skeletons import HALPE_26
from core.transforms import SE3, so3_exp
from fitting.fit_model import SOLES, FitModel
from fitting.foot_mount import FootObservation
from fitting.landmarks import Landmarks
from fitting.measurements import EstimateConfig, Measurements
from fitting.points import triangulate_points
from fitting.smpl import PosedBody
from fitting.stand_in import stand_in_body
from fitting.standing import StandingConfig, resting_soles, standing_term
from fitting.windows import estimate_body
from simulation.cameras import room_rig

STEP_S, SIGMA_M, SCALE = 1 / 30, 0.003, 4.0


def test_the_term_differentiates(rng: np.random.Generator) -> None:
    points = rng.normal(0, 0.004, size=(5, 3, 3))
    resting = rng.random((4, 3)) < 0.7
    term = standing_term(points, resting, SIGMA_M, SCALE)
    for index in np.ndindex(points.shape):
        step = np.zeros_like(points)
        step[index] = 1e-7
        plus, minus = (standing_term(points + s * step, resting, SIGMA_M, SCALE).cost for s in (1, -1))
        assert term.gradient[index] == pytest.approx((plus - minus) / 2e-7, rel=1e-5, abs=1e-3)


def test_curvature_is_that_of_squares_where_little_moves() -> None:
    """Two frames: ((p1 - p0) / sigma)^2 / 2 has second derivatives 1 / sigma^2, and minus that between the two."""
    term = standing_term(np.zeros((2, 1, 3)), np.ones((1, 1), bool), SIGMA_M, SCALE)
    np.testing.assert_allclose(term.own, 1 / SIGMA_M**2)
    np.testing.assert_allclose(term.coupling, 1 / SIGMA_M**2)


def test_a_step_taken_for_standing_lets_go() -> None:
    at = np.array([0.0, SCALE * SIGMA_M, 20 * SCALE * SIGMA_M])
    pulls = []
    for moved in at:
        points = np.zeros((2, 1, 3))
        points[1, 0, 0] = moved
        pulls.append(standing_term(points, np.ones((1, 1), bool), SIGMA_M, SCALE).gradient[1, 0, 0])
    assert pulls[0] == 0 and 0 < pulls[2] < 0.01 * pulls[1]


def test_a_shorter_step_moves_less() -> None:
    """A walk: over four short steps the spreads add up, squared, to that of one long step."""
    config = StandingConfig()
    assert 4 * config.step_sigma_m(1 / 120) ** 2 == pytest.approx(config.step_sigma_m(1 / 30) ** 2)


def test_cameras_have_the_word_where_they_measured() -> None:
    """A foot on a rung stands high and its camera is still; the other one is low and slow, and its camera moves."""
    T = 10
    soles = np.zeros((T, len(SOLES), 3))
    left = [k for k, name in enumerate(SOLES) if name.startswith("left")]
    right = [k for k, name in enumerate(SOLES) if name.startswith("right")]
    soles[:, left, 2] = 0.4
    t = np.arange(T)[:, None] * np.array([0.02, 0.0, 0.0])
    still = SE3(np.tile(np.eye(3), (T, 1, 1)), np.zeros((T, 3)))
    moving = SE3(np.tile(np.eye(3), (T, 1, 1)), t)
    known = np.arange(T) < 6
    covariance = np.tile(1e-6 * np.eye(6), (T, 1, 1))
    feet = {
        "a": FootObservation.of("left_foot", still, covariance, known),
        "b": FootObservation.of("right_foot", moving, covariance, known),
    }
    resting = resting_soles(soles, STEP_S, feet, StandingConfig())
    assert resting[:5][:, left].all() and not resting[:5][:, right].any()  # the cameras measured
    assert not resting[5:][:, left].any() and resting[5:][:, right].all()  # they did not


def standing_person(num: int) -> PosedBody:
    """Someone who stands still and waves."""
    body = stand_in_body()
    R = np.tile(np.eye(3), (num, 24, 1, 1))
    R[:, 0] = so3_exp(np.array([np.pi / 2, 0.0, 0.0]))  # y up to z up
    R[:, 16] = so3_exp(np.outer(np.sin(np.arange(num) / 5), [0.0, 0.0, 0.6]))
    shaped = body.with_shape(np.zeros(10))
    lowest = shaped.with_rotations(R[:1]).mesh()[..., 2].min()
    return shaped.with_rotations(R, np.tile([0.0, 0.0, -lowest], (num, 1)))


def test_a_standing_person_does_not_skate(rng: np.random.Generator) -> None:
    posed, rig = standing_person(45), room_rig(rng, 4, (1280, 720))
    body = stand_in_body()
    landmarks = Landmarks.of(body, HALPE_26)
    xy = rig.project(landmarks.positions(posed)) + rng.normal(0, 4, (4, 45, 26, 2))
    score = np.ones((4, 45, 26))
    points = triangulate_points(rig, xy, score, HALPE_26)
    measured = Measurements(rig, xy, score, points.xyz_m, STEP_S)
    skate = {}
    for sigma_m in (1e3, StandingConfig().sigma_m):
        config = EstimateConfig(standing=dataclasses.replace(StandingConfig(), sigma_m=sigma_m), subject_frames=20)
        state = estimate_body(body, landmarks, measured, config).state
        model = FitModel.of(body, landmarks)
        soles = model.landmarks.positions(state.posed(body))[:, model.sole_idx]
        skate[sigma_m] = np.linalg.norm(np.diff(soles, axis=0), axis=-1).mean()
    assert skate[StandingConfig().sigma_m] < 0.5 * skate[1e3]
