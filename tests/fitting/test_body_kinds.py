"""SMPL, SMPL-H and SMPL-X by one loader against smplx, and the sparse path and its derivatives on each of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from official_models import official_arrays, smplx_output, write_model

from core.errors import InputError
from core.skeletons import BODY_25B, COCO_17, SMPL_24
from core.transforms import so3_exp
from fitting.body_kinds import KINDS, SMPL, SMPL_H, SMPL_X, BodyKind
from fitting.fit import load_body
from fitting.landmarks import Landmarks, landmarks_of, vertices_and_jacobian
from fitting.smpl import BodyModel, PosedBody

FILES = {
    "SMPL_NEUTRAL.pkl": (SMPL, 10),
    "SMPLH_NEUTRAL.pkl": (SMPL_H, 10),
    "SMPLH_FEMALE.npz": (SMPL_H, 16),
    "SMPLX_NEUTRAL.npz": (SMPL_X, 20),
    "SMPLX_MALE.npz": (SMPL_X, 400),
}
# the order in which smplx appends them to the joints
EXTRAS = (
    "nose", "right_eye", "left_eye", "right_ear", "left_ear", "left_big_toe", "left_small_toe", "left_heel",
    "right_big_toe", "right_small_toe", "right_heel",
    *(f"{side}_{finger}_tip" for side in ("left", "right") for finger in ("thumb", "index", "middle", "ring", "pinky")),
)  # fmt: skip
# smplx works in float64 here, but adds 1e-8 to every axis-angle before taking its length
TOLERANCE_M = 1e-6
STEP = 1e-6
# central differences of metre-sized values: truncation ~ STEP^2, rounding ~ 1e-16 / STEP
JACOBIAN_TOLERANCE = 1e-8


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of files in the official formats."""
    folder, rng = tmp_path_factory.mktemp("models"), np.random.default_rng(3)
    for name, (kind, directions) in FILES.items():
        write_model(folder / name, official_arrays(kind, rng, directions))
    return folder


@pytest.fixture(scope="module")
def bodies(models: Path) -> dict[BodyKind, BodyModel]:
    names = {SMPL: "SMPL_NEUTRAL.pkl", SMPL_H: "SMPLH_NEUTRAL.pkl", SMPL_X: "SMPLX_NEUTRAL.npz"}
    return {kind: BodyModel.load(models / name) for kind, name in names.items()}


def _posed(body: BodyModel, rng: np.random.Generator, *batch: int) -> PosedBody:
    expression = rng.normal(size=body.num_expressions) if body.num_expressions else None
    poses = 0.4 * rng.normal(size=(*batch, body.kind.num_joints, 3))
    return body.with_shape(rng.normal(size=8), expression).with_pose(poses, rng.normal(size=(*batch, 3)))


@pytest.mark.parametrize("name", FILES)
def test_vertices_joints_and_named_points_equal_smplx(models: Path, rng: np.random.Generator, name: str) -> None:
    kind, _ = FILES[name]
    body = BodyModel.load(models / name)
    assert body.kind is kind and body.num_betas == 10 and body.num_expressions == (10 if kind is SMPL_X else 0)
    betas, transl = rng.normal(size=10), rng.normal(size=(2, 3))
    poses = 0.4 * rng.normal(size=(2, kind.num_joints, 3))
    posed = body.with_shape(betas).with_pose(poses, transl)
    vertices, joints = smplx_output(models / name, poses, transl, betas)
    np.testing.assert_allclose(posed.mesh(), vertices, atol=TOLERANCE_M)
    np.testing.assert_allclose(posed.joints, joints[:, : kind.num_joints], atol=TOLERANCE_M)
    points = vertices_and_jacobian(posed, [kind.vertex_ids[extra] for extra in EXTRAS]).positions
    np.testing.assert_allclose(points, joints[:, kind.num_joints :][:, : len(EXTRAS)], atol=TOLERANCE_M)


@pytest.mark.parametrize("name", ["SMPLX_NEUTRAL.npz", "SMPLX_MALE.npz"])
def test_expressions_equal_smplx_in_old_and_new_files(models: Path, rng: np.random.Generator, name: str) -> None:
    body = BodyModel.load(models / name)
    betas, expression, transl = rng.normal(size=10), rng.normal(size=10), rng.normal(size=(2, 3))
    poses = 0.4 * rng.normal(size=(2, 55, 3))
    posed = body.with_shape(betas, expression).with_pose(poses, transl)
    vertices, joints = smplx_output(models / name, poses, transl, betas, expression)
    np.testing.assert_allclose(posed.mesh(), vertices, atol=TOLERANCE_M)
    np.testing.assert_allclose(posed.joints, joints[:, :55], atol=TOLERANCE_M)
    assert np.abs(posed.mesh() - body.with_shape(betas).with_pose(poses, transl).mesh()).max() > 1e-3


def test_many_betas_equal_smplx(models: Path, rng: np.random.Generator) -> None:
    body = BodyModel.load(models / "SMPLX_MALE.npz", num_betas=300, num_expressions=100)
    assert (body.num_betas, body.num_expressions) == (300, 100)
    betas, poses, transl = 0.2 * rng.normal(size=300), 0.4 * rng.normal(size=(1, 55, 3)), rng.normal(size=(1, 3))
    vertices, _ = smplx_output(models / "SMPLX_MALE.npz", poses, transl, betas)
    np.testing.assert_allclose(body.with_shape(betas).with_pose(poses, transl).mesh(), vertices, atol=TOLERANCE_M)


@pytest.mark.parametrize("name", ["SMPLH_NEUTRAL.pkl", "SMPLX_NEUTRAL.npz"])
def test_the_mean_pose_is_what_smplx_adds_to_hands_that_are_not_flat(
    models: Path, rng: np.random.Generator, name: str
) -> None:
    body = BodyModel.load(models / name)
    poses = 0.4 * rng.normal(size=(1, body.kind.num_joints, 3))
    vertices, _ = smplx_output(models / name, poses, np.zeros((1, 3)), np.zeros(10), flat_hand_mean=False)
    posed = body.with_shape(np.zeros(10)).with_pose(poses + body.mean_pose)
    np.testing.assert_allclose(posed.mesh(), vertices, atol=TOLERANCE_M)
    assert not body.mean_pose[:-30].any() and body.mean_pose[-30:].all()


def test_smpl_has_no_fingers_to_relax(bodies: dict[BodyKind, BodyModel]) -> None:
    np.testing.assert_array_equal(bodies[SMPL].mean_pose, np.zeros((24, 3)))


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.name)
@pytest.mark.parametrize("batch", [(), (2,), (2, 2)])
def test_chosen_vertices_and_joints_equal_the_mesh_for_any_batch(
    bodies: dict[BodyKind, BodyModel], rng: np.random.Generator, kind: BodyKind, batch: tuple[int, ...]
) -> None:
    posed = _posed(bodies[kind], rng, *batch)
    vertices, joints = rng.integers(0, kind.num_vertices, 40), [0, kind.num_joints - 1, 5]
    expected = np.concatenate([posed.mesh()[..., vertices, :], posed.joints[..., joints, :]], axis=-2)
    landmarks = Landmarks.of_vertices(posed.shaped.body, vertices, np.array(joints))
    assert landmarks.names[-1] == "joint 5"
    np.testing.assert_allclose(landmarks.positions(posed), expected, atol=1e-12)
    linear = vertices_and_jacobian(posed, vertices.tolist(), joints)
    np.testing.assert_allclose(linear.positions, expected, atol=1e-12)
    assert linear.by_pose.shape == (*batch, 43, 3, 3 * kind.num_joints)


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.name)
def test_derivatives_by_pose_and_translation_equal_numeric_ones(
    bodies: dict[BodyKind, BodyModel], rng: np.random.Generator, kind: BodyKind
) -> None:
    posed = _posed(bodies[kind], rng, 2)
    transl = posed.joints[:, 0] - posed.shaped.rest_joints[0]
    on_skeleton = landmarks_of(bodies[kind], BODY_25B)
    chosen = Landmarks.of_vertices(bodies[kind], [7, 4000], [kind.num_joints - 1])
    for landmarks in (on_skeleton, chosen):
        linear = landmarks.linearise(posed)
        for k in range(3 * kind.num_joints):
            turn = np.zeros((2, kind.num_joints, 3))
            turn[:, k // 3, k % 3] = STEP
            ahead, behind = (
                landmarks.positions(posed.shaped.with_rotations(posed.rotations @ so3_exp(sign * turn), transl))
                for sign in (1, -1)
            )
            np.testing.assert_allclose(linear.by_pose[..., k], (ahead - behind) / (2 * STEP), atol=JACOBIAN_TOLERANCE)
        for k in range(3):
            moved = posed.shaped.with_rotations(posed.rotations, transl + np.eye(3)[k])
            np.testing.assert_allclose(
                linear.by_transl[..., k], landmarks.positions(moved) - linear.positions, atol=1e-12
            )


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.name)
def test_derivatives_by_betas_and_expression_equal_numeric_ones(
    bodies: dict[BodyKind, BodyModel], rng: np.random.Generator, kind: BodyKind
) -> None:
    body = bodies[kind]
    poses = 0.4 * rng.normal(size=(2, kind.num_joints, 3))
    betas, expression = rng.normal(size=8), rng.normal(size=min(body.num_expressions, 6))
    landmarks = Landmarks.of_vertices(body, [7, 4000], [0, 15, kind.num_joints - 1])
    linear = landmarks.linearise(body.with_shape(betas, expression).with_pose(poses))
    assert linear.by_betas.shape[-1] == 8 and linear.by_expression.shape[-1] == len(expression)
    # everything is linear in the shape, so a step of 1 has no truncation
    for k in range(8):
        moved = landmarks.positions(body.with_shape(betas + np.eye(8)[k], expression).with_pose(poses))
        np.testing.assert_allclose(linear.by_betas[..., k], moved - linear.positions, atol=1e-12)
    for k in range(len(expression)):
        moved = landmarks.positions(body.with_shape(betas, expression + np.eye(6)[k]).with_pose(poses))
        np.testing.assert_allclose(linear.by_expression[..., k], moved - linear.positions, atol=1e-12)


def test_an_expression_may_differ_by_frame(bodies: dict[BodyKind, BodyModel], rng: np.random.Generator) -> None:
    body, betas, expression = bodies[SMPL_X], rng.normal(size=4), rng.normal(size=(2, 10))
    poses = 0.4 * rng.normal(size=(2, 55, 3))
    together = body.with_shape(betas, expression).with_pose(poses)
    for k in range(2):
        alone = body.with_shape(betas, expression[k]).with_pose(poses[k])
        np.testing.assert_allclose(together.mesh()[k], alone.mesh(), atol=1e-12)


@pytest.mark.parametrize("kind", [SMPL_H, SMPL_X], ids=lambda k: k.name)
def test_a_bodys_skeleton_is_its_joints_and_detectors_find_theirs(
    bodies: dict[BodyKind, BodyModel], rng: np.random.Generator, kind: BodyKind
) -> None:
    posed = _posed(bodies[kind], rng, 2)
    joints = landmarks_of(bodies[kind], kind.skeleton).positions(posed)
    np.testing.assert_allclose(joints, posed.joints, atol=1e-12)
    nose = landmarks_of(bodies[kind], COCO_17).positions(posed)[:, 0]
    np.testing.assert_allclose(nose, posed.mesh()[:, kind.vertex_ids["nose"]], atol=1e-12)
    with pytest.raises(InputError, match=f"left_hand: skeleton {kind.skeleton.name} has no such joint"):
        Landmarks.of(bodies[kind], SMPL_24)


def test_what_a_body_does_not_have_is_named(
    bodies: dict[BodyKind, BodyModel], models: Path, rng: np.random.Generator
) -> None:
    shaped = bodies[SMPL_H].with_shape(np.zeros(10))
    with pytest.raises(InputError, match="poses of 24 joints given, SMPL-H has 52"):
        shaped.with_pose(np.zeros((24, 3)))
    with pytest.raises(InputError, match="2 expressions given, the model has 0"):
        bodies[SMPL_H].with_shape(np.zeros(10), np.zeros(2))
    with pytest.raises(InputError, match="no vertex 6890"):
        Landmarks.of_vertices(bodies[SMPL_H], [3, 6890])
    with pytest.raises(InputError, match="no landmarks asked for"):
        Landmarks.of_vertices(bodies[SMPL_H], [])
    with pytest.raises(InputError, match="no joint -1"):
        Landmarks.of_vertices(bodies[SMPL_H], [], [-1])
    with pytest.raises(InputError, match="no joint and no skinned vertex"):
        Landmarks.from_regressors(bodies[SMPL], ("nothing",), np.zeros((1, 24)), np.zeros((1, 6890)))
    with pytest.raises(InputError, match="a model of SMPL-H with 52 joints, a dataset takes SMPL"):
        load_body(str(models / "SMPLH_NEUTRAL.pkl")).require(SMPL, "a dataset")
