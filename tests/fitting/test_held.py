"""Held fingers and faces: landmarks on the joints that are solved are those of the whole body, exactly."""

from __future__ import annotations

import numpy as np
import pytest
from bodies_with_hands import stand_in_with_hands
from test_fit import foot_observations, walk

from core.skeletons import HALPE_26
from core.transforms import so3_exp
from fitting.body_kinds import NUM_BODY_JOINTS, SMPL, SMPL_H, SMPL_X, BodyKind
from fitting.fit_model import FitModel
from fitting.held import held_rotations, on_solved, solved_joints, with_held
from fitting.landmarks import Landmarks
from fitting.objective import FitState, Objective, Weights
from fitting.smpl import BodyModel
from fitting.stand_in import stand_in_body

KINDS = [SMPL_H, SMPL_X]


@pytest.fixture(scope="module")
def bodies() -> dict[str, BodyModel]:
    return {kind.name: stand_in_with_hands(kind) for kind in KINDS}


def state_of(rng: np.random.Generator, body: BodyModel) -> FitState:
    R = so3_exp(0.5 * rng.normal(size=(3, body.kind.solved.num_joints, 3)))
    return FitState(R, rng.normal(size=(3, 3)), rng.normal(size=10))


def points_of(body: BodyModel, rng: np.random.Generator) -> Landmarks:
    """Fingertips, whose bones bend; skin all over; every joint; the detectors' points."""
    vertices = [*body.kind.vertex_ids.values(), *rng.integers(0, body.kind.num_vertices, 60)]
    return Landmarks.of_vertices(body, np.array(vertices), np.arange(body.kind.num_joints))


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.name)
def test_points_and_their_derivatives_are_the_whole_bodys(
    bodies: dict[str, BodyModel], rng: np.random.Generator, kind: BodyKind
) -> None:
    body, state = bodies[kind.name], state_of(rng, bodies[kind.name])
    landmarks = points_of(body, rng)
    whole = landmarks.linearise(state.posed(body))
    solved = on_solved(body, landmarks).linearise(state.posed(solved_joints(body)))
    np.testing.assert_allclose(solved.positions, whole.positions, atol=1e-12)
    np.testing.assert_allclose(solved.by_betas, whole.by_betas, atol=1e-12)
    np.testing.assert_allclose(solved.by_pose, whole.by_pose[..., : 3 * kind.solved.num_joints], atol=1e-12)


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.name)
def test_an_expression_reaches_them_too(bodies: dict[str, BodyModel], rng: np.random.Generator, kind: BodyKind) -> None:
    body, state = bodies[kind.name], state_of(rng, bodies[kind.name])
    landmarks, expression = points_of(body, rng), rng.normal(size=body.num_expressions)
    solved = solved_joints(body).with_shape(state.betas, expression).with_rotations(state.R, state.transl)
    whole = body.with_shape(state.betas, expression).with_rotations(with_held(body, state.R), state.transl)
    np.testing.assert_allclose(on_solved(body, landmarks).positions(solved), landmarks.positions(whole), atol=1e-12)


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.name)
def test_fingers_rest_at_the_mean_pose_and_are_flat_without_one(bodies: dict[str, BodyModel], kind: BodyKind) -> None:
    body = bodies[kind.name]
    R = held_rotations(body)
    np.testing.assert_allclose(R[-kind.num_hand_joints :], so3_exp(body.hands_mean), atol=1e-12)
    np.testing.assert_array_equal(R[: -kind.num_hand_joints], np.tile(np.eye(3), (kind.num_joints - 30, 1, 1)))
    flat = BodyModel(**{**_fields(body), "hands_mean": np.zeros((0, 3))})
    np.testing.assert_array_equal(held_rotations(flat), np.tile(np.eye(3), (kind.num_joints, 1, 1)))


def _fields(body: BodyModel) -> dict[str, object]:
    return {name: value for name, value in vars(body).items() if name in BodyModel.__dataclass_fields__}


def test_of_smpl_nothing_is_held(rng: np.random.Generator) -> None:
    body = stand_in_body()
    landmarks = Landmarks.of(body, HALPE_26)
    assert on_solved(body, landmarks) is landmarks
    model, state = FitModel.of(body, landmarks), state_of(rng, body)
    assert model.body.kind is SMPL
    np.testing.assert_array_equal(with_held(body, state.R), state.R)


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.name)
def test_the_solver_sees_of_all_bodies_the_same(
    bodies: dict[str, BodyModel], rng: np.random.Generator, kind: BodyKind
) -> None:
    """Normal equations of the joints that bodies share, foot cameras included: the stand-ins are one person."""
    feet, mounts = foot_observations(walk(stand_in_body(), 3))
    systems = []
    for body in (stand_in_body(), bodies[kind.name]):
        model, rng = FitModel.of(body, Landmarks.of(body, HALPE_26)), np.random.default_rng(2)
        R = so3_exp(0.3 * rng.normal(size=(3, 24, 3)))[:, : model.body.kind.num_joints]
        state = FitState(R, rng.normal(size=(3, 3)), rng.normal(size=10), mounts, np.zeros((26, 3)))
        points_m = rng.normal(size=(3, 26, 3))
        systems.append(Objective(model, 1 / 30, Weights(), points_m=points_m, feet=feet).linearise(state))
    smpl, other = systems
    D = 3 + 3 * NUM_BODY_JOINTS
    hands = np.abs(smpl.diagonal[:, :D, D:]).max()
    assert hands < 1e-9, "nothing ties the hands to other joints"
    np.testing.assert_allclose(other.diagonal, smpl.diagonal[:, :D, :D], rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(other.border, smpl.border[:, :D], rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(other.gradient, smpl.gradient[:, :D], rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(other.back1, smpl.back1[:, : D // 3], rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(other.corner, smpl.corner, rtol=1e-9, atol=1e-6)


@pytest.mark.parametrize("kind", [SMPL, *KINDS], ids=lambda k: k.name)
def test_every_joint_belongs_to_one_of_smpls(kind: BodyKind) -> None:
    np.testing.assert_array_equal(kind.smpl_of_joint[kind.joint_of_smpl], np.arange(24))
    names = np.array(SMPL.skeleton.joints)[kind.smpl_of_joint]
    for joint, name in zip(kind.skeleton.joints[22:], names[22:], strict=True):
        assert name == ("head" if "eye" in joint or joint == "jaw" else f"{joint.split('_')[0]}_hand")
