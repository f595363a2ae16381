from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from core.transforms import (
    SE3,
    align_points,
    geodesic,
    hat,
    interpolate,
    matrix_to_rot6d,
    mean_rotation,
    nearest_rotation,
    right_jacobian,
    right_jacobian_inverse,
    rot6d_to_matrix,
    so3_exp,
    so3_log,
)

vectors = arrays(np.float64, 3, elements=st.floats(-1.7, 1.7))


def random_se3(rng: np.random.Generator, *batch: int) -> SE3:
    return SE3.from_rotvec(rng.normal(size=(*batch, 3)), rng.normal(size=(*batch, 3)))


def test_products_cancel_and_inverses_undo(rng: np.random.Generator) -> None:
    a_from_b, b_from_c, points = random_se3(rng, 5), random_se3(rng, 5), rng.normal(size=(5, 3))
    np.testing.assert_allclose((a_from_b @ b_from_c).apply(points), a_from_b.apply(b_from_c.apply(points)), atol=1e-12)
    np.testing.assert_allclose(a_from_b.inverse().apply(a_from_b.apply(points)), points, atol=1e-12)
    np.testing.assert_allclose(
        (a_from_b @ a_from_b.inverse()).matrix, np.broadcast_to(np.eye(4), (5, 4, 4)), atol=1e-12
    )


def test_one_transform_moves_many_points(rng: np.random.Generator) -> None:
    a_from_b, points = random_se3(rng), rng.normal(size=(4, 7, 3))
    assert a_from_b.apply(points).shape == (4, 7, 3)
    np.testing.assert_allclose(a_from_b.apply(points)[2, 3], a_from_b.R @ points[2, 3] + a_from_b.t)


@given(vectors)
def test_exp_and_log_are_inverse(w: np.ndarray) -> None:
    np.testing.assert_allclose(so3_log(so3_exp(w)), w, atol=1e-9)


@given(vectors, arrays(np.float64, 3, elements=st.floats(-1, 1)))
def test_right_jacobian_is_the_derivative_of_exp(w: np.ndarray, direction: np.ndarray) -> None:
    step = 1e-6
    numeric = so3_log(so3_exp(w).T @ so3_exp(w + step * direction)) / step
    np.testing.assert_allclose(right_jacobian(w) @ direction, numeric, atol=5e-6)
    np.testing.assert_allclose(right_jacobian(w) @ right_jacobian_inverse(w), np.eye(3), atol=1e-7)


def test_hat_is_the_cross_product(rng: np.random.Generator) -> None:
    v, x = rng.normal(size=(2, 6, 3))
    np.testing.assert_allclose(np.einsum("nij,nj->ni", hat(v), x), np.cross(v, x))


def test_retract_and_local_are_inverse(rng: np.random.Generator) -> None:
    start, delta = random_se3(rng, 8), rng.normal(scale=0.5, size=(8, 6))
    np.testing.assert_allclose(start.local(start.retract(delta)), delta, atol=1e-10)


def test_geodesic_resolves_tiny_angles() -> None:
    for angle in (1e-9, 1e-4, 1.0, 3.1):
        assert geodesic(np.eye(3), so3_exp(np.array([0, angle, 0]))) == pytest.approx(angle, rel=1e-6)


def test_rot6d_round_trip(rng: np.random.Generator) -> None:
    R = so3_exp(rng.normal(size=(9, 3)))
    np.testing.assert_allclose(rot6d_to_matrix(matrix_to_rot6d(R)), R, atol=1e-12)


def test_nearest_rotation_never_mirrors() -> None:
    mirrored = np.diag([1.0, 1.0, -1.0])
    assert np.linalg.det(nearest_rotation(mirrored)) == pytest.approx(1.0)


def test_mean_rotation_of_a_symmetric_pair_is_between() -> None:
    R = so3_exp(np.array([[0, 0, 0.4], [0, 0, -0.4]]))
    np.testing.assert_allclose(mean_rotation(R), np.eye(3), atol=1e-12)


def test_interpolation_meets_its_samples_and_turns_evenly() -> None:
    track = SE3.from_rotvec(np.array([[0, 0, 0], [0, 0, 1.0]]), np.array([[0.0, 0, 0], [2.0, 0, 0]]))
    middle = interpolate(track, np.array([0.0, 1.0]), np.array([0.0, 0.25, 1.0, 5.0]))
    np.testing.assert_allclose(middle.rotvec[:, 2], [0, 0.25, 1.0, 1.0], atol=1e-12)
    np.testing.assert_allclose(middle.t[:, 0], [0, 0.5, 2.0, 2.0])


@pytest.mark.parametrize("with_scale", [False, True])
def test_alignment_recovers_the_transform(rng: np.random.Generator, with_scale: bool) -> None:
    truth, scale = random_se3(rng), 1.7 if with_scale else 1.0
    source = rng.normal(size=(20, 3))
    found, found_scale = align_points(source, scale * source @ truth.R.T + truth.t, with_scale=with_scale)
    np.testing.assert_allclose(found.matrix, truth.matrix, atol=1e-10)
    assert found_scale == pytest.approx(scale)
