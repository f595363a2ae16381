from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from synthetic_scenes import FISHEYE, charuco, foot_points, foot_way

from calibration.align import pose_errors
from calibration.egomotion import EgomotionConfig, run
from calibration.foot_points import marker_points, together
from calibration.photographs import Located
from calibration.place_noise import Places
from calibration.resection import PointRays
from calibration.tracking import track_camera
from capture.markers import MarkerPoints
from capture.session import Session, View
from core.errors import InputError
from core.transforms import SE3


def session_at(folder: Path, *roles: str) -> Path:
    views = tuple(View(role, role, (512, 512), video=f"{role}.mp4", num_frames=90) for role in roles)  # type: ignore[arg-type]
    Session(folder, "s", "p", views).save()
    return folder


def test_a_session_without_foot_cameras_or_anything_to_follow_them_on_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no foot camera"):
        run(session_at(tmp_path, "room"))
    folder = session_at(tmp_path, "room", "left_foot")
    for on, problem in (
        ("markers", "no targets"),
        ("both", "no targets"),
        ("scene", "scene map"),
        ("auto", "scene map"),
    ):
        with pytest.raises(InputError, match=problem):
            run(folder, EgomotionConfig(on=on))  # type: ignore[arg-type]


def test_points_of_located_targets_alone_come_ordered_with_their_places(rng: np.random.Generator) -> None:
    targets = {name: charuco(name, "static", square_m=0.1) for name in ("a", "b", "c")}
    seen = MarkerPoints(
        ("c", "a", "b"),
        np.array([5, 2, 2, 99, 0]), np.array([1, 1, 0, 1, 2]), np.array([0, 3, 1, 0, 0]),
        rng.uniform(0, 500, (5, 2)), np.full(5, 0.1),
    )  # fmt: skip
    where = {"a": SE3.identity(1)[0], "b": SE3(np.eye(3), np.array([1.0, 0.0, 2.0]))}
    spread = np.kron(np.array([[1e-6, 3e-7], [3e-7, 4e-6]]), np.eye(6))
    points, places = marker_points(seen, targets, Located(where, spread), 90)
    assert points.pose_idx.tolist() == [0, 2, 5]  # frame 99 is past the end, target c has no place
    np.testing.assert_allclose(points.points_m[0], targets["b"].points_m[0] + [1.0, 0.0, 2.0])
    np.testing.assert_allclose(points.points_m[1], targets["a"].points_m[3])
    variance = np.diag(places.covariance).reshape(-1, 6)
    b, a = places.target[:2]
    assert variance[b, 0] == 4e-6 and variance[a, 0] == 1e-6 and places.covariance[6 * a, 6 * b] == 3e-7


def test_points_of_markers_and_scene_go_into_one_estimate(rng: np.random.Generator) -> None:
    def some(frames: list[int]) -> PointRays:
        n = len(frames)
        return PointRays(np.array(frames), rng.uniform(size=(n, 3)), rng.uniform(size=(n, 2)), np.full(n, 0.3))

    markers, scene = some([0, 0, 3]), some([0, 1, 3, 4])
    of_markers = Places(np.array([0, 1, 1]), SE3.identity(2), np.eye(12), np.zeros(3))
    own = np.array([0.01, 0.02, 0.03, 0.04])
    points, places = together(
        (markers, of_markers), (scene, Places(np.full(4, -1), SE3.identity(1), np.zeros((6, 6)), own))
    )
    assert points.pose_idx.tolist() == [0, 0, 0, 1, 3, 3, 4]
    assert places.target.tolist() == [0, 1, -1, -1, 1, -1, -1]
    np.testing.assert_allclose(places.own_sigma_m, [0, 0, 0.01, 0.02, 0, 0.03, 0.04])
    np.testing.assert_allclose(points.points_m[3], scene.points_m[1])
    assert len(places.world_from_target) == 2


def test_both_sources_are_better_than_either(rng: np.random.Generator) -> None:
    """One board on the left of the ceiling, and points of a scene map with errors of their own on the right."""
    t_s = np.arange(0, 1.2, 1 / 30)
    points = foot_points(rng, t_s, row_time_s=0.0)
    left, right = points.points_m[:, 0] < -1.5, points.points_m[:, 0] > 0.2
    right &= rng.random(len(right)) < 0.3
    own_m = 0.01
    scene_m = points.points_m + own_m * rng.standard_normal(points.points_m.shape)

    def pick(rows: np.ndarray, where_m: np.ndarray) -> PointRays:
        return PointRays(points.pose_idx[rows], where_m[rows], points.xy_px[rows], points.sigma_px[rows])

    target = np.zeros(left.sum(), int)
    markers = pick(left, points.points_m), Places(target, SE3.identity(1), 1e-8 * np.eye(6), np.zeros(left.sum()))
    scene = (
        pick(right, scene_m),
        dataclasses.replace(Places.none(int(right.sum())), own_sigma_m=np.full(right.sum(), own_m)),
    )
    errors = {}
    for name, (seen, places) in {"markers": markers, "scene": scene, "both": together(markers, scene)}.items():
        way = track_camera(FISHEYE, t_s, seen, places=places).way
        errors[name] = pose_errors(way.world_from_cam, foot_way(t_s)).rmse_mm
    assert errors["both"] < 0.9 * min(errors["markers"], errors["scene"]), errors
