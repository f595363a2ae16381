"""Landmarks on the body and their derivatives, against the full mesh and numeric differences."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from core.skeletons import BODY_25, BODY_25B, COCO_17, SKELETONS, SMPL_24, Skeleton
from core.transforms import so3_exp
from fitting.landmarks import VERTEX_IDS, Landmarks, landmark_positions_and_jacobian, landmarks_of
from fitting.smpl import BodyModel, PosedBody
from fitting.stand_in import stand_in_body

STEP = 1e-6
# central differences of metre-sized values: truncation ~ STEP^2, rounding ~ 1e-16 / STEP
TOLERANCE = 1e-8


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return stand_in_body()


def _posed(body: BodyModel, rng: np.random.Generator, frames: int = 3) -> PosedBody:
    shaped = body.with_shape(rng.normal(size=10))
    return shaped.with_pose(0.5 * rng.normal(size=(frames, 24, 3)), rng.normal(size=(frames, 3)))


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=lambda s: s.name)
def test_positions_are_those_of_joints_and_vertices(
    body: BodyModel, rng: np.random.Generator, skeleton: Skeleton
) -> None:
    posed = _posed(body, rng)
    positions, mesh = landmarks_of(body, skeleton).positions(posed), posed.mesh()
    checked = 0
    for k, name in enumerate(skeleton.joints):
        if name in VERTEX_IDS:
            expected = mesh[:, VERTEX_IDS[name]]
        elif skeleton is SMPL_24 or name.split("_")[-1] in ("shoulder", "elbow", "wrist", "knee", "ankle"):
            if name == "mid_shoulder":
                continue
            expected = posed.joints[:, SMPL_24.idx(name)]
        else:
            continue
        checked += 1
        np.testing.assert_allclose(positions[:, k], expected, atol=1e-12)
    assert checked >= len(skeleton) - 4


@pytest.mark.parametrize("skeleton", [SMPL_24, BODY_25B], ids=lambda s: s.name)
def test_derivatives_by_pose_equal_numeric_ones(body: BodyModel, rng: np.random.Generator, skeleton: Skeleton) -> None:
    posed = _posed(body, rng, frames=2)
    landmarks = landmarks_of(body, skeleton)
    analytic = landmarks.linearise(posed).by_pose
    transl = posed.joints[:, 0] - posed.shaped.rest_joints[0]
    for k in range(72):
        turn = np.zeros((2, 24, 3))
        turn[:, k // 3, k % 3] = STEP
        ahead, behind = (
            landmarks.positions(posed.shaped.with_rotations(posed.rotations @ so3_exp(sign * turn), transl))
            for sign in (1, -1)
        )
        np.testing.assert_allclose(analytic[..., k], (ahead - behind) / (2 * STEP), atol=TOLERANCE)


def test_derivatives_by_betas_equal_numeric_ones(body: BodyModel, rng: np.random.Generator) -> None:
    betas, poses = rng.normal(size=10), 0.5 * rng.normal(size=(2, 24, 3))
    landmarks = landmarks_of(body, BODY_25)
    analytic = landmarks.linearise(body.with_shape(betas).with_pose(poses)).by_betas
    for k in range(10):
        step = STEP * (np.arange(10) == k)
        ahead, behind = (landmarks.positions(body.with_shape(betas + s * step).with_pose(poses)) for s in (1, -1))
        np.testing.assert_allclose(analytic[..., k], (ahead - behind) / (2 * STEP), atol=TOLERANCE)


def test_pose_blend_shapes_have_a_derivative(body: BodyModel, rng: np.random.Generator) -> None:
    """It is large enough for the numeric test above to have found it missing."""
    posed = _posed(body, rng)
    plain = Landmarks.of(body, BODY_25)
    still = dataclasses.replace(plain, posedirs=np.zeros_like(plain.posedirs))
    difference = plain.linearise(posed).by_pose - still.linearise(posed).by_pose
    assert np.abs(difference).max() > 100 * TOLERANCE


def test_a_vertex_regressor_gives_the_same_as_the_mesh(body: BodyModel, rng: np.random.Generator) -> None:
    regressor = rng.random((3, 6890)) * (rng.random((3, 6890)) < 0.003)
    regressor /= regressor.sum(axis=1, keepdims=True)
    landmarks = Landmarks.from_regressors(body, ("a", "b", "c"), np.zeros((3, 24)), regressor)
    posed = _posed(body, rng)
    np.testing.assert_allclose(landmarks.positions(posed), regressor @ posed.mesh(), atol=1e-12)


def test_a_detectors_hips_lie_outside_and_above_the_joints(body: BodyModel) -> None:
    posed = body.with_shape(np.zeros(10)).with_pose(np.zeros((24, 3)))
    hip = landmarks_of(body, COCO_17).positions(posed)[COCO_17.idx("left_hip")]
    outward, upward, _ = hip - posed.joints[SMPL_24.idx("left_hip")]
    assert 0.02 < outward < 0.05
    assert 0.01 < upward < 0.04


def test_named_function_and_any_batch(body: BodyModel, rng: np.random.Generator) -> None:
    posed = _posed(body, rng)
    result = landmark_positions_and_jacobian(body, BODY_25, posed)
    assert result.by_pose.shape == (3, 25, 3, 72)
    assert result.by_betas.shape == (3, 25, 3, 10)
    single = posed.shaped.with_rotations(posed.rotations[1], posed.joints[1, 0] - posed.shaped.rest_joints[0])
    np.testing.assert_allclose(landmarks_of(body, BODY_25).positions(single), result.positions[1], atol=1e-12)
