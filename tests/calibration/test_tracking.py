from __future__ import annotations

import numpy as np
import pytest
from synthetic_scenes import FISHEYE, foot_points, foot_way

from calibration.align import pose_errors
from calibration.resection import PointRays
from calibration.smoothing import SmoothingConfig, bridged, smooth_way
from calibration.tracking import TrackConfig, track_camera
from core.transforms import SE3

T_S = np.arange(0, 2.4, 1 / 30)
ROW_S = 1 / 30 / 600


@pytest.mark.parametrize("row_time_s", [0.0, ROW_S], ids=["global", "rolling"])
def test_a_stepping_foot_camera_is_followed_to_millimetres(row_time_s: float, rng: np.random.Generator) -> None:
    points = foot_points(rng, T_S, row_time_s=row_time_s)
    track = track_camera(FISHEYE, T_S, points, row_time_s=row_time_s)
    errors = pose_errors(track.way.world_from_cam, foot_way(T_S))
    assert track.way.used.mean() > 0.95
    # 0.2 px of 195 px at 2.5 m over some 250 points is 0.5 mm; a rolling shutter adds the velocity's error times 14 ms
    assert errors.median_mm < (1.0 if row_time_s == 0 else 2.5)
    assert errors.median_deg < (0.03 if row_time_s == 0 else 0.1)
    assert np.percentile(errors.centre_m, 95) < 0.01


def test_ignoring_the_rolling_shutter_costs_centimetres(rng: np.random.Generator) -> None:
    points = foot_points(rng, T_S, row_time_s=ROW_S)
    blind = pose_errors(track_camera(FISHEYE, T_S, points).way.world_from_cam, foot_way(T_S))
    assert np.percentile(blind.centre_m, 90) > 0.01


def test_short_gaps_are_filled_and_flagged_and_long_ones_stay_open(rng: np.random.Generator) -> None:
    dark = np.zeros(len(T_S), bool)
    dark[3:6], dark[30:60] = True, True
    track = track_camera(FISHEYE, T_S, foot_points(rng, T_S, row_time_s=ROW_S, blind=dark), row_time_s=ROW_S)
    assert track.way.valid[3:6].all() and not track.way.used[3:6].any()
    assert not track.way.valid[31:59].any()
    errors = pose_errors(track.way.world_from_cam, foot_way(T_S))
    assert errors.centre_m[3:6].max() < 0.01  # the foot stands there
    sigma = np.sqrt(np.einsum("nii->ni", track.way.covariance)[:, 3:].max(axis=-1))
    assert sigma[4] > 1.2 * sigma[[1, 7]].max() and (errors.centre_m[3:6] < 3 * np.sqrt(3) * sigma[3:6]).all()


def test_a_frame_that_went_wrong_is_dropped(rng: np.random.Generator) -> None:
    points = foot_points(rng, T_S, row_time_s=0.0)
    wrong = points.pose_idx == 8  # the ceiling seems half a metre away from where it is
    moved = points.points_m + np.where(wrong[:, None], [0.5, 0.0, 0.0], 0.0)
    track = track_camera(FISHEYE, T_S, PointRays(points.pose_idx, moved, points.xy_px, points.sigma_px))
    assert track.known[8] and not track.way.used[8] and track.way.valid[8]
    assert pose_errors(track.way.world_from_cam, foot_way(T_S)).centre_m[8] < 0.01


def test_nothing_seen_is_nothing_known() -> None:
    none = PointRays(np.zeros(0, int), np.zeros((0, 3)), np.zeros((0, 2)), np.zeros(0))
    track = track_camera(FISHEYE, T_S, none, row_time_s=ROW_S)
    assert not track.known.any() and not track.way.valid.any()


def test_the_smoother_beats_its_measurements_and_knows_by_how_much(rng: np.random.Generator) -> None:
    t_s = np.arange(0, 4, 1 / 30)
    calm = SmoothingConfig(acceleration_mps2=1.0, angular_acceleration_radps2=2.0)
    truth = SE3.from_rotvec(
        np.stack([0.3 * np.sin(t_s), 0.2 * t_s, 0 * t_s], axis=-1),
        np.stack([0.5 * np.sin(t_s), 0.3 * np.cos(t_s), 0.1 * t_s], axis=-1),
    )
    sigma = np.repeat([0.01, 0.02], 3)
    measured = truth.retract(sigma * rng.standard_normal((len(t_s), 6)))
    covariance = np.broadcast_to(np.diag(sigma**2), (len(t_s), 6, 6))
    way = smooth_way(t_s, measured, covariance, np.ones(len(t_s), bool), calm)
    before, after = pose_errors(measured, truth), pose_errors(way.world_from_cam, truth)
    assert after.rmse_mm < 0.7 * before.rmse_mm and after.median_deg < 0.7 * before.median_deg
    off = way.world_from_cam.local(truth)
    inside = np.abs(off) < 2 * np.sqrt(np.einsum("nii->ni", way.covariance))
    assert inside.mean() > 0.9
    np.testing.assert_allclose(way.motion[60:70, 5], 0.1, atol=0.15)


def test_gaps_count_from_measurement_to_measurement() -> None:
    used = np.array([False, True, False, False, True, False, True, False])
    t_s = np.arange(8.0)
    assert bridged(t_s, used, 2.5).tolist() == [False, True, False, False, True, True, True, False]
    assert bridged(t_s, used, 3.0).tolist() == [False, True, True, True, True, True, True, False]


def test_points_that_blur_weigh_less_and_the_poses_gain(rng: np.random.Generator) -> None:
    """A camera spins about its axis: points far out are off by a tenth of their streaks, those near it are sharp."""
    t_s = np.arange(0, 1, 1 / 30)
    spin = SE3.from_rotvec(t_s[:, None] * [0.0, 0.0, 20.0], np.zeros((len(t_s), 3)))
    world = np.stack([*np.meshgrid(np.linspace(-3, 3, 13), np.linspace(-3, 3, 13)), np.full((13, 13), 2.0)], axis=-1)
    frame, world = np.repeat(np.arange(len(t_s)), 169), np.tile(world.reshape(-1, 3), (len(t_s), 1))
    px = FISHEYE.project(spin[frame].inverse().apply(world))
    ends = [FISHEYE.project((spin[frame].inverse()).apply(world) @ turn) for turn in _turns(20.0 * 0.0025)]
    streak = ends[1] - ends[0]
    xy = px + 0.1 * streak * rng.standard_normal((len(px), 1)) + 0.1 * rng.standard_normal(px.shape)
    points = PointRays(frame, world, xy, np.full(len(xy), 0.1))
    rmse, ratio = {}, {}
    for share in (0.0, 0.1):
        way = track_camera(FISHEYE, t_s, points, config=TrackConfig(exposure_s=0.005, blur_share=share)).way
        off = way.world_from_cam.local(spin)
        rmse[share] = np.sqrt((off[:, 3:] ** 2).mean())
        ratio[share] = np.sqrt((off**2 / np.einsum("nii->ni", way.covariance)).mean())
    assert rmse[0.1] < 0.8 * rmse[0.0]
    assert ratio[0.1] < 1.5


def _turns(angle_rad: float) -> list[np.ndarray]:
    """Rotations about the axis by an angle either way."""
    return [SE3.from_rotvec(np.array([0.0, 0.0, by]), np.zeros(3)).R for by in (-angle_rad, angle_rad)]
