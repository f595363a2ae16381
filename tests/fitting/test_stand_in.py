"""The stand-in body: SMPL's counts and numbering, one closed surface, a plausible human."""

from __future__ import annotations

import numpy as np
import pytest

from core.skeletons import SMPL_24
from fitting.landmarks import VERTEX_IDS
from fitting.smpl import BodyModel
from fitting.stand_in import stand_in_body
from fitting.stand_in_surface import SOLE_Y


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return stand_in_body()


def _edges(faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    sides = faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2)
    return sides, np.unique(np.sort(sides, axis=1), axis=0, return_counts=True)[1]


def test_it_is_one_closed_surface_without_handles(body: BodyModel) -> None:
    sides, shared_by = _edges(body.faces)
    assert body.faces.shape == (13776, 3)
    assert (shared_by == 2).all()
    # every directed side once: neighbours agree on which way is out
    assert len(np.unique(sides, axis=0)) == len(sides)
    assert len(np.unique(body.faces)) - len(shared_by) + len(body.faces) == 2


def test_triangles_look_outward(body: BodyModel) -> None:
    a, b, c = np.moveaxis(body.v_template[body.faces], 1, 0)
    litres = np.einsum("fi,fi->f", a, np.cross(b, c)).sum() / 6 * 1000
    assert 55 < litres < 80


def test_it_stands_as_tall_as_an_adult_on_flat_soles(body: BodyModel) -> None:
    height = np.ptp(body.v_template[:, 1])
    assert 1.66 < height < 1.74
    sole = body.v_template[np.abs(body.v_template[:, 1] - SOLE_Y) < 1e-6]
    assert len(sole) > 40
    left = sole[sole[:, 0] > 0]
    assert np.ptp(left[:, 2]) > 0.20
    assert body.v_template[:, 1].min() == pytest.approx(SOLE_Y, abs=1e-6)


def test_left_and_right_are_mirror_images(body: BodyModel) -> None:
    points = body.v_template
    order, image = np.lexsort(points.T), np.lexsort((points * [-1, 1, 1]).T)
    np.testing.assert_allclose(points[order], (points * [-1, 1, 1])[image], atol=1e-12)
    joints = body.joint_template
    np.testing.assert_allclose(joints[SMPL_24.swap_idx] * [-1, 1, 1], joints, atol=1e-9)
    np.testing.assert_allclose(
        body.joint_shapedirs[SMPL_24.swap_idx] * np.array([-1, 1, 1])[:, None], body.joint_shapedirs, atol=1e-6
    )


def test_smplx_vertex_numbers_are_at_their_places(body: BodyModel) -> None:
    v = {name: body.v_template[i] for name, i in VERTEX_IDS.items()}
    head = body.joint_template[SMPL_24.idx("head")]
    assert v["head_top"][1] > body.v_template[:, 1].max() - 0.01
    assert v["nose"][2] > max(v["left_eye"][2], head[2] + 0.05)
    assert v["left_ear"][0] > v["left_eye"][0] > 0 > v["right_eye"][0] > v["right_ear"][0]
    assert v["left_big_toe"][2] > v["left_small_toe"][2] > 0 > v["left_heel"][2]
    assert v["left_small_toe"][0] > v["left_big_toe"][0] > 0
    tips = body.v_template[[2319, 2445, 2556, 2673]]  # smplx's left fingers
    assert (tips[:, 0] > body.joint_template[SMPL_24.idx("left_hand"), 0] + 0.08).all()
    assert body.v_template[2746, 2] > tips[:, 2].max()  # the thumb points forward


def test_joints_come_from_few_vertices_with_positive_weights(body: BodyModel) -> None:
    assert (body.J_regressor >= 0).all()
    np.testing.assert_allclose(body.J_regressor.sum(axis=1), 1, atol=1e-9)
    assert (np.count_nonzero(body.J_regressor, axis=1) < 300).all()
    knee = body.joint_template[SMPL_24.idx("left_knee")]
    np.testing.assert_allclose(knee, [0.101, -0.690, 0.014], atol=1e-3)


def test_skinning_is_smooth_and_sparse(body: BodyModel) -> None:
    np.testing.assert_allclose(body.weights.sum(axis=1), 1, atol=1e-12)
    assert (np.count_nonzero(body.weights, axis=1) <= 4).all()
    sides, _ = _edges(body.faces)
    jump = np.abs(body.weights[sides[:, 0]] - body.weights[sides[:, 1]]).max(axis=1)
    assert jump.max() < 0.4


def test_shape_directions_are_of_human_size(body: BodyModel) -> None:
    tall = body.with_shape(np.eye(10)[0]).rest_vertices
    assert 0.035 < np.ptp(tall[:, 1]) - np.ptp(body.v_template[:, 1]) < 0.065
    rms = np.sqrt((body.shapedirs**2).sum(axis=1).mean(axis=0))
    assert (rms > 5e-4).all()
    assert rms.argmax() == 0
    # no two directions say the same
    flat = body.shapedirs.reshape(-1, 10)
    assert np.linalg.cond(flat / np.linalg.norm(flat, axis=0)) < 30


def test_soles_stay_flat_for_every_shape(body: BodyModel, rng: np.random.Generator) -> None:
    sole = np.abs(body.v_template[:, 1] - SOLE_Y) < 1e-6
    for betas in rng.normal(size=(4, 10)):
        assert np.ptp(body.with_shape(betas).rest_vertices[sole, 1]) < 0.002


def test_bent_joints_keep_their_volume(body: BodyModel) -> None:
    """No candy wrapper: an elbow and a knee at a right angle keep nine tenths of the body's volume around them."""
    poses = np.zeros((24, 3))
    poses[SMPL_24.idx("left_elbow"), 1] = -np.pi / 2
    poses[SMPL_24.idx("left_knee"), 0] = np.pi / 2
    bent = body.with_shape(np.zeros(10)).with_pose(poses).mesh()

    def volume(vertices: np.ndarray) -> float:
        a, b, c = np.moveaxis(vertices[body.faces], 1, 0)
        return float(np.einsum("fi,fi->f", a, np.cross(b, c)).sum() / 6)

    assert volume(bent) == pytest.approx(volume(body.v_template), rel=0.01)


def test_it_is_the_same_every_time(body: BodyModel) -> None:
    again = stand_in_body.__wrapped__()
    assert again.sha256 == body.sha256
