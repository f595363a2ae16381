from __future__ import annotations

import numpy as np
import pytest

from calibration.world_frame import fit_floor, moved_poses, plane_covariance, world_on
from core.errors import GateError
from core.transforms import SE3

TILTED = SE3.from_rotvec(np.array([0.4, -0.2, 0.3]), np.array([1.0, 2.0, -0.5]))  # old_from_world
ABOVE = TILTED.apply(np.array([0.0, 0.0, 1.5]))


def floor_points(rng: np.random.Generator, num: int, noise_m: float) -> np.ndarray:
    flat = np.column_stack([rng.uniform(-2, 2, (num, 2)), noise_m * rng.standard_normal(num)])
    return TILTED.apply(flat)


def test_the_floor_is_found_among_outliers_within_its_uncertainty(rng: np.random.Generator) -> None:
    points = floor_points(rng, 80, 0.01)
    points[:12] = TILTED.apply(rng.uniform([-2, -2, 0.3], [2, 2, 1.0], (12, 3)))
    plane = fit_floor(points, ABOVE, "floor")
    assert not plane.inlier[:12].any()
    up = TILTED.R[:, 2]
    # sigma 10 mm over a standard deviation of 1.15 m of 68 points is 1.1 mrad; four of it
    assert np.arccos(min(plane.normal @ up, 1.0)) < 4 * np.sqrt(2) * plane.tilt_sigma_rad
    assert plane.tilt_sigma_rad == pytest.approx(0.01 / (1.15 * np.sqrt(68)), rel=0.4)
    assert plane.normal @ up > 0


def test_points_on_a_line_tell_no_floor(rng: np.random.Generator) -> None:
    line = TILTED.apply(np.column_stack([np.linspace(-2, 2, 30), np.zeros((30, 2))]))
    with pytest.raises(GateError, match="vertical only to"):
        fit_floor(line + 0.005 * rng.standard_normal(line.shape), ABOVE, "A, B")
    with pytest.raises(GateError, match="2 points"):
        fit_floor(line[:2], ABOVE, "A")


def test_the_world_stands_on_the_plane_and_looks_ahead(rng: np.random.Generator) -> None:
    plane = fit_floor(floor_points(rng, 40, 0.0), ABOVE, "floor")
    world = world_on(plane, TILTED.R[:, 0])
    np.testing.assert_allclose(world.R @ TILTED.R, np.eye(3), atol=1e-9)
    np.testing.assert_allclose(world.apply(floor_points(rng, 5, 0.0))[:, 2], 0, atol=1e-9)
    with pytest.raises(GateError, match="is vertical"):
        world_on(plane, plane.normal)


def test_covariances_follow_into_a_world_told_by_the_poses_themselves(rng: np.random.Generator) -> None:
    """Against four hundred draws: three markers tell the floor, two cameras follow."""
    places = np.array([[0.0, 0, 2], [3, 1, 2.2], [0, 0, 0], [2, 0, 0], [0.5, 1.5, 0]])
    poses = TILTED @ SE3.from_rotvec(0.1 * rng.standard_normal((5, 3)), places)
    root = np.diag(np.tile(np.repeat([2e-3, 3e-3], 3), 5))
    root[:6] = 0.0  # the first camera holds the old frame

    def world_of(p: SE3) -> SE3:
        return world_on(fit_floor(p.t[2:], p.t[:2].mean(axis=0), "m"), p.R[2][:, 0])

    moved, covariance = moved_poses(poses, root @ root.T, world_of)
    np.testing.assert_allclose(moved.t[2:, 2], 0, atol=1e-9)
    draws = []
    for _ in range(400):
        drawn = poses.retract((root @ rng.standard_normal(30)).reshape(5, 6))
        draws.append(moved.local(world_of(drawn) @ drawn).ravel())
    seen = np.cov(np.array(draws).T)
    # a variance from 400 draws is known to 7 %: five of these
    big = np.diag(seen) > 1e-10
    np.testing.assert_allclose(np.diag(covariance)[big], np.diag(seen)[big], rtol=0.35)


def test_the_floors_own_uncertainty_tilts_far_cameras_more(rng: np.random.Generator) -> None:
    plane = fit_floor(floor_points(rng, 40, 0.01), ABOVE, "person")
    world = world_on(plane, TILTED.R[:, 0])
    poses = TILTED @ SE3.from_rotvec(np.zeros((2, 3)), np.array([[1.0, 0, 1], [8.0, 0, 1]]))
    _, covariance = moved_poses(poses, np.zeros((12, 12)), lambda _: world, plane_covariance(plane))
    sigma = np.sqrt(np.diag(covariance)).reshape(2, 6)
    np.testing.assert_allclose(sigma[1, 5], np.hypot(8 * plane.tilt_sigma_rad, plane.height_sigma_m), rtol=0.05)
    assert sigma[0, 5] < sigma[1, 5]
