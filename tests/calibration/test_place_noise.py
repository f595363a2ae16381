from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from synthetic_scenes import FISHEYE, charuco, foot_way

from calibration.place_noise import Places, pose_covariances
from calibration.resection import PointRays, RollingShutter, refine_poses
from core.transforms import SE3

BOARDS = SE3(
    np.tile(np.diag([1.0, -1.0, -1.0]), (3, 1, 1)), np.array([[0.2, 0.3, 2.5], [-0.9, -0.2, 2.5], [0.4, 0.6, 0.8]])
)
CAMERA = foot_way(np.array([0.1]))


def seen(boards: SE3 = BOARDS) -> tuple[PointRays, Places]:
    """Three boards over one camera, without noise; where they are believed to be may differ."""
    inside = charuco("b", "static", square_m=0.08).points_m
    world = np.concatenate([BOARDS[k].apply(inside) for k in range(3)])
    believed = np.concatenate([boards[k].apply(inside) for k in range(3)])
    xy, n = FISHEYE.project(CAMERA[0].inverse().apply(world)), len(world)
    points = PointRays(np.zeros(n, int), believed, xy, np.full(n, 0.2))
    spread = np.diag(np.tile(np.repeat([0.002, 0.003], 3) ** 2, 3))
    return points, Places(np.repeat(np.arange(3), len(inside)), boards, spread, np.zeros(n))


def shutter_of(points: PointRays) -> RollingShutter:
    late = (points.xy_px[:, 1] - points.xy_px[:, 1].mean()) * 2e-5
    return RollingShutter(late, np.zeros((1, 6)), np.full((1, 6), 0.5), np.zeros((1, 6)))


@pytest.mark.parametrize("rolling", [False, True])
def test_a_target_that_is_off_moves_the_pose_as_stated(rolling: bool) -> None:
    points, places = seen()
    shutter = shutter_of(points) if rolling else None
    solved = refine_poses(FISHEYE, CAMERA, points, shutter=shutter, loss="none")
    _, place = pose_covariances(FISHEYE, solved, points, points.sigma_px, places, shutter)
    expected, step = np.zeros((6, 6)), 1e-4
    for target in range(3):
        for axis in range(6):
            delta = np.zeros((3, 6))
            delta[target, axis] = step
            off = refine_poses(FISHEYE, CAMERA, seen(BOARDS.retract(delta))[0], shutter=shutter, loss="none")
            change = solved.world_from_cam[0].local(off.world_from_cam[0]) / step
            expected += np.outer(change, change) * places.covariance[6 * target + axis, 6 * target + axis]
    np.testing.assert_allclose(place[0], expected, rtol=0.02, atol=1e-3 * np.abs(expected).max())


def test_noise_of_the_picture_gives_the_normal_equations_covariance() -> None:
    points, places = seen()
    solved = refine_poses(FISHEYE, CAMERA, points, loss="none")
    exact = dataclasses.replace(places, covariance=np.zeros((18, 18)))
    picture, place = pose_covariances(FISHEYE, solved, points, points.sigma_px, exact, None)
    np.testing.assert_allclose(picture, solved.covariance, rtol=1e-6)
    assert not place.any()


def test_the_places_error_is_that_of_one_target_not_of_its_many_points() -> None:
    """A board alone, 3 mm off to every side, puts the camera 3 mm off and more, however many points it has."""
    points, places = seen()
    rows = places.target == 0
    few = PointRays(points.pose_idx[rows], points.points_m[rows], points.xy_px[rows], points.sigma_px[rows])
    shifted = np.diag(np.tile([0.0, 0.0, 0.0, 0.003, 0.003, 0.003], 3) ** 2)
    alone = Places(places.target[rows], places.world_from_target, shifted, places.own_sigma_m[rows])
    solved = refine_poses(FISHEYE, CAMERA, few, loss="none")
    _, place = pose_covariances(FISHEYE, solved, few, few.sigma_px, alone, None)
    np.testing.assert_allclose(np.sqrt(np.diag(place[0])[3:]), 0.003, rtol=1e-3)
    np.testing.assert_allclose(alone.sigma_m(few.points_m), 0.003, rtol=1e-6)


def test_targets_that_are_off_together_take_the_camera_along() -> None:
    points, places = seen()
    solved = refine_poses(FISHEYE, CAMERA, points, loss="none")
    of_one = np.diag([0.0, 0.0, 0.0, 0.003, 0.003, 0.003]) ** 2
    together = dataclasses.replace(places, covariance=np.kron(np.ones((3, 3)), of_one))
    _, place = pose_covariances(FISHEYE, solved, points, points.sigma_px, together, None)
    apart = dataclasses.replace(places, covariance=np.kron(np.eye(3), of_one))
    _, other = pose_covariances(FISHEYE, solved, points, points.sigma_px, apart, None)
    np.testing.assert_allclose(place[0, 3:, 3:], of_one[3:, 3:], rtol=1e-3, atol=1e-9)
    np.testing.assert_allclose(place[0, :3, :3], 0.0, atol=1e-10)  # the room moved, and did not turn
    assert np.diag(other[0])[:3].min() > 1e-7


def test_points_of_the_scene_err_each_by_itself_and_systematic_errors_together() -> None:
    points, places = seen()
    solved = refine_poses(FISHEYE, CAMERA, points, loss="none")
    n = len(points.pose_idx)
    own = dataclasses.replace(Places.none(n), own_sigma_m=np.full(n, 0.003))
    _, place = pose_covariances(FISHEYE, solved, points, points.sigma_px, own, None)
    one = PointRays(points.pose_idx, points.points_m, points.xy_px, points.sigma_px)
    _, shared = pose_covariances(FISHEYE, solved, one, one.sigma_px, places, None)
    assert 0 < place[0, 3, 3] < shared[0, 3, 3] and not own.sigma_m(points.points_m).any()
    exact = dataclasses.replace(places, covariance=np.zeros((18, 18)))
    _, lens = pose_covariances(FISHEYE, solved, points, points.sigma_px, exact, None, steady_px=(0.2, 0.0))
    assert np.sqrt(lens[0, 0, 0]) > 0.2 / max(FISHEYE.focal_px) / 3  # of a shift of all the picture: a third for three
    # each corner's own error is noise like the picture's, but for its size
    picture, corners = pose_covariances(
        FISHEYE, solved, points, points.sigma_px, exact, None, steady_px=(0.0, points.sigma_px[0] / 2)
    )
    np.testing.assert_allclose(corners, picture / 4, rtol=1e-9)


def test_a_lens_that_is_off_moves_the_pose_as_stated() -> None:
    points, places = seen()
    solved = refine_poses(FISHEYE, CAMERA, points, loss="none")
    exact = dataclasses.replace(places, covariance=np.zeros((18, 18)))
    spread = np.zeros((8, 8))
    spread[2, 2] = 0.3**2  # the principal point, across
    _, place = pose_covariances(FISHEYE, solved, points, points.sigma_px, exact, None, lens_covariance=spread)
    cx, cy = FISHEYE.centre_px
    other = dataclasses.replace(FISHEYE, centre_px=(cx + 0.3, cy))
    off = solved.world_from_cam[0].local(refine_poses(other, CAMERA, points, loss="none").world_from_cam[0])
    np.testing.assert_allclose(place[0], np.outer(off, off), rtol=0.02, atol=0.02 * np.abs(np.outer(off, off)).max())
