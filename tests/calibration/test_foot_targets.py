from __future__ import annotations

import dataclasses
from functools import lru_cache

import numpy as np
import pytest
from synthetic_scenes import FISHEYE, foot_points

from calibration.foot_targets import TargetCheck, TargetReport, check_targets
from calibration.place_noise import Places
from calibration.resection import PointRays
from calibration.tracking import track_camera
from core.arrays import Bool
from core.transforms import SE3

T_S = np.arange(0, 2.4, 1 / 30)
ROW_S = 1 / 30 / 600
PLACE_M = 1e-4


@lru_cache(maxsize=4)
def seen(seed: int = 3) -> tuple[PointRays, Places]:
    """A rolling-shutter camera's points on boards overhead, each row of boards one target."""
    points = foot_points(np.random.default_rng(seed), T_S, row_time_s=ROW_S)
    row = np.round(points.points_m[:, 0] / 1.2).astype(int)
    target = np.unique(row, return_inverse=True)[1]
    n = int(target.max()) + 1
    centres = np.stack([points.points_m[target == k].mean(axis=0) for k in range(n)])
    poses = SE3(np.tile(np.eye(3), (n, 1, 1)), centres)
    return points, Places(target, poses, PLACE_M**2 * np.eye(6 * n), np.zeros(len(target)))


def checked(points: PointRays, places: Places, check: TargetCheck | None = None) -> TargetReport:
    track = track_camera(FISHEYE, T_S, points, row_time_s=ROW_S, places=places)
    names = [f"board{k}" for k in range(len(places.world_from_target))]
    return check_targets(FISHEYE, T_S, points, track, places, names, row_time_s=ROW_S, check=check)


def believed_elsewhere(points: PointRays, rows: Bool[np.ndarray, "n"], by_m: tuple[float, float, float]) -> PointRays:
    """The same pictures, with a map that has some of the points elsewhere."""
    return dataclasses.replace(points, points_m=points.points_m + np.where(rows[:, None], by_m, 0.0))


def without(points: PointRays, places: Places, rows: Bool[np.ndarray, "n"]) -> tuple[PointRays, Places]:
    names = ("pose_idx", "points_m", "xy_px", "sigma_px")
    kept = PointRays(*(getattr(points, name)[~rows] for name in names))
    return kept, dataclasses.replace(places, target=places.target[~rows], own_sigma_m=places.own_sigma_m[~rows])


@pytest.mark.parametrize("seed", [3, 4, 5])
def test_targets_that_hang_where_they_are_mapped_stay_within_what_is_stated(seed: int) -> None:
    report = checked(*seen(seed))
    assert not report.moved and not report.unchecked and len(report.others) == 4
    # the largest of 24 independent components: four deviations are a chance in 650
    assert max(found.sigmas for found in report.others.values()) < 4.0


@pytest.mark.parametrize("by_m", [(0.0, 0.1, 0.0), (0.03, 0.0, 0.0), (0.0, 0.0, -0.05)])
def test_a_moved_target_is_named_and_its_way_found(by_m: tuple[float, float, float]) -> None:
    points, places = seen()
    report = checked(believed_elsewhere(points, places.target == 1, by_m), places)
    assert set(report.moved) == {"board1"}
    found = report.moved["board1"]
    # one part in ten for linearity, and the place as well as thirty frames of a moving camera tell it
    assert found.off_m == pytest.approx(np.linalg.norm(by_m), rel=0.1, abs=0.008)
    assert found.turned_rad < np.radians(1.0)
    assert max(other.sigmas for other in report.others.values()) < TargetCheck().max_sigmas


def test_two_moved_targets_are_both_named() -> None:
    points, places = seen()
    points = believed_elsewhere(points, places.target == 0, (0.0, 0.2, 0.0))
    points = believed_elsewhere(points, places.target == 1, (0.1, 0.0, 0.0))
    check = TargetCheck(parts=1)
    assert set(checked(points, places, check).moved) >= {"board0", "board1"}


def test_a_target_moved_half_way_is_named_with_the_time() -> None:
    points, places = seen()
    late = T_S[points.pose_idx] > 1.5
    report = checked(believed_elsewhere(points, late & (places.target == 1), (0.0, 0.1, 0.0)), places)
    assert set(report.moved) == {"board1"} and report.moved["board1"].at_s > 1.5


def test_of_two_targets_alone_nothing_tells_which_was_moved() -> None:
    points, places = without(*seen(), seen()[1].target > 1)
    report = checked(believed_elsewhere(points, places.target == 1, (0.0, 0.1, 0.0)), places)
    assert set(report.moved) == {"board0 or board1"} and not report.others


def test_a_target_that_is_never_seen_beside_others_is_reported_unchecked() -> None:
    points, places = seen()
    early = T_S[points.pose_idx] < 1.2
    points, places = without(points, places, np.where(early, places.target != 0, places.target == 0))
    report = checked(points, places)
    assert report.unchecked == ("board0",) and "board0" not in report.others
