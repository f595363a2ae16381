from __future__ import annotations

import dataclasses
from functools import lru_cache

import numpy as np
import pytest
from synthetic_scenes import FISHEYE, foot_points

from calibration.foot_gates import FootGates, feet_distance, figures, view_health
from calibration.foot_targets import TargetCheck
from calibration.resection import PointRays
from calibration.tracking import Track, TrackConfig, better_row_time, track_camera
from core.transforms import SE3

T_S = np.arange(0, 2.4, 1 / 30)
ROW_S = 1 / 30 / 600
CONFIG = TrackConfig()


@lru_cache(maxsize=1)
def seen() -> PointRays:
    """A rolling-shutter camera's points."""
    return foot_points(np.random.default_rng(3), T_S, row_time_s=ROW_S)


@lru_cache(maxsize=2)
def tracked(row_time_s: float = ROW_S) -> Track:
    return track_camera(FISHEYE, T_S, seen(), row_time_s=row_time_s)


def facts(track: Track) -> dict[str, object]:
    names = {"shutter_ratio": 1.0, "better_row_time_s": 0.0, "moved_targets": {}}
    return {**figures(track, np.ones(len(T_S), bool)), **names}


def refused(fact: dict[str, object]) -> dict[str, str]:
    return {h.name: h.action for h in view_health("left_foot", fact, FootGates(), TargetCheck().max_sigmas) if not h.ok}


def moved(track: Track, frame: int, by_m: tuple[float, float, float]) -> Track:
    pose = SE3(track.way.world_from_cam.R, track.way.world_from_cam.t.copy())
    pose.t[frame] += by_m
    return dataclasses.replace(track, way=dataclasses.replace(track.way, world_from_cam=pose))


def test_a_good_way_is_believed() -> None:
    assert not refused(facts(tracked()))


def test_a_leap_and_a_place_under_the_floor_are_refused_with_their_times() -> None:
    leap = refused(facts(moved(tracked(), 30, (0.5, 0.0, 0.0))))
    assert set(leap) == {"speed_mps"} and "0.97 s" in leap["speed_mps"]
    below = refused(facts(moved(tracked(), 12, (0.0, 0.0, -0.2))))
    assert set(below) == {"lowest_m"} and "0.40 s" in below["lowest_m"]


def test_a_camera_that_saw_little_is_refused() -> None:
    track = tracked()
    blind = dataclasses.replace(track.way, used=track.way.used & (np.arange(len(T_S)) < 20))
    assert "measured" in refused(facts(dataclasses.replace(track, way=blind)))


def test_a_target_that_was_moved_is_named() -> None:
    found = {"off_m": 0.098, "turned_rad": 0.02, "sigmas": 40.0, "at_s": 12.3}
    told = refused({**facts(tracked()), "moved_targets": {"table": found}})
    assert set(told) == {"target_off_sigmas"}
    assert "target table " in told["target_off_sigmas"] and "98 mm" in told["target_off_sigmas"]


@pytest.mark.parametrize("wrong", [-1.0, 0.0])
def test_another_rolling_shutter_shows_in_fast_frames(wrong: float) -> None:
    points = seen()
    ratio, better = better_row_time(FISHEYE, T_S, points, tracked(), ROW_S, CONFIG)
    assert ratio < 1.1
    if wrong == 0.0:
        ratio, better = better_row_time(FISHEYE, T_S, points, tracked(0.0), 0.0, CONFIG)
        assert ratio > FootGates().max_shutter_ratio and better > 0
        fact = {**facts(tracked()), "shutter_ratio": ratio, "better_row_time_s": better}
        assert f"{better:.3g}" in refused(fact)["shutter_ratio"]
    else:  # a camera that reads from below, stated to read from above
        turned = foot_points(np.random.default_rng(3), T_S, row_time_s=-ROW_S)
        track = track_camera(FISHEYE, T_S, turned, row_time_s=ROW_S)
        ratio, better = better_row_time(FISHEYE, T_S, turned, track, ROW_S, CONFIG)
        assert ratio > FootGates().max_shutter_ratio and better <= 0


def test_a_camera_that_never_moves_says_nothing_of_its_shutter() -> None:
    points = seen()
    rows = points.pose_idx == 2
    xy = np.tile(points.xy_px[rows], (20, 1))
    frame = np.repeat(np.arange(20), rows.sum())
    many = PointRays(frame, np.tile(points.points_m[rows], (20, 1)), xy, np.tile(points.sigma_px[rows], 20))
    track = track_camera(FISHEYE, T_S[:20], many, row_time_s=ROW_S)
    assert np.isnan(better_row_time(FISHEYE, T_S[:20], many, track, ROW_S, CONFIG)[0])


def test_feet_are_as_far_apart_as_legs_reach() -> None:
    t_s = np.arange(0, 3, 1 / 30)
    left = SE3.from_rotvec(np.zeros((90, 3)), np.zeros((90, 3)))
    right = SE3(left.R, np.stack([0.3 + 0 * t_s, 0 * t_s, 0 * t_s], axis=-1))
    right.t[40] = [3.0, 0.0, 0.0]
    both = [np.ones(90, bool)] * 2
    distance, at_s = feet_distance([t_s, t_s + 1e-9], [left, right], both)
    assert distance == pytest.approx(3.0, abs=1e-3) and at_s == pytest.approx(40 / 30)
    unseen = [both[0], np.arange(90) != 40]
    assert feet_distance([t_s, t_s], [left, right], unseen)[0] == pytest.approx(0.3)
    assert np.isnan(feet_distance([t_s], [left], both[:1])[0])
