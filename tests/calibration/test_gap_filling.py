from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from calibration.gap_filling import GapConfig, finish_way, moving_average, spline_through_gaps
from calibration.smoothing import SmoothedWay
from core.transforms import SE3, geodesic

T_S = np.arange(0, 3, 1 / 30)
SPLINE = GapConfig(fill="kochanek_bartels")


def a_way(pose: SE3, used: np.ndarray, t_s: np.ndarray = T_S) -> SmoothedWay:
    n = len(t_s)
    return SmoothedWay(t_s, pose, np.zeros((n, 6)), np.tile(1e-6 * np.eye(12), (n, 1, 1)), used, np.ones(n, bool))


def turning(t_s: np.ndarray = T_S) -> SE3:
    """Constant velocity and angular velocity."""
    return SE3.from_rotvec(t_s[:, None] * [0.3, -0.5, 0.4], t_s[:, None] * [1.0, 0.5, -0.2])


def gap(first: int = 30, last: int = 40) -> np.ndarray:
    used = np.ones(len(T_S), bool)
    used[first:last] = False
    return used


def test_a_spline_keeps_steady_motion_and_the_measured_frames() -> None:
    truth, used = turning(), gap()
    broken = SE3(np.where(used[:, None, None], truth.R, np.eye(3)), np.where(used[:, None], truth.t, 9.0))
    found = spline_through_gaps(a_way(broken, used), SPLINE)
    np.testing.assert_array_equal(found.t[used], truth.t[used])
    assert np.abs(found.t[~used] - truth.t[~used]).max() < 0.1
    # keys at equal distances: for unequal ones the authors correct the tangents' lengths, which bends a straight line
    even = np.arange(len(T_S)) % 10 == 9
    steady = spline_through_gaps(a_way(truth, even), SPLINE)
    inside = slice(9, 90)
    np.testing.assert_allclose(steady.t[inside], truth.t[inside], atol=1e-9)
    assert geodesic(steady.R[inside], truth.R[inside]).max() < 1e-6


@pytest.mark.parametrize(("field", "value"), [("tension", 1.0), ("continuity", -1.0), ("bias", 1.0)])
def test_tension_continuity_and_bias_do_what_they_say(field: str, value: float) -> None:
    """Keys at 0, 1, 2, 3 s of a corner: x runs, then y runs."""
    t_s = np.arange(0, 3.01, 0.25)
    corner = np.stack([np.minimum(t_s, 1.0), np.clip(t_s - 1, 0, None), 0 * t_s], axis=-1)
    way = a_way(SE3(SE3.identity(len(t_s)).R, corner), np.isclose(t_s % 1, 0), t_s)
    plain = spline_through_gaps(way, SPLINE).t
    changed = spline_through_gaps(way, dataclasses.replace(SPLINE, **{field: value})).t
    slope = (plain[5] - plain[4]) / 0.25, (changed[5] - changed[4]) / 0.25
    assert slope[0][0] > 0.1  # Catmull-Rom swings round the corner
    if field == "tension":  # tangents vanish: the ends are left slowly, the middle is passed on the chord
        assert np.linalg.norm(slope[1]) < 0.9 * np.linalg.norm(slope[0])
        np.testing.assert_allclose(changed[6], (changed[4] + changed[8]) / 2, atol=1e-9)
    elif field == "continuity":  # a corner: straight lines
        np.testing.assert_allclose(changed, corner, atol=1e-9)
    else:  # the direction of before is kept for longer
        assert slope[1][0] > 1.3 * slope[0][0]


def test_what_replaces_the_estimate_says_so_in_its_covariance() -> None:
    truth = turning()
    bent = SE3(truth.R, truth.t + np.where(gap()[:, None], 0.0, [0.0, 0.0, 0.03]))
    way = a_way(bent, gap())
    done = finish_way(way, SPLINE)
    off = done.world_from_cam.t - bent.t
    more = done.covariance[:, 3:, 3:] - way.covariance[:, 3:, 3:]
    np.testing.assert_allclose(more, off[:, :, None] * off[:, None, :], atol=1e-12)
    assert np.abs(off[30:40, 2]).max() > 0.02 and np.abs(off[gap()]).max() == 0
    assert finish_way(way, GapConfig()) is way


def test_an_average_over_the_past_lags_and_one_both_ways_does_not() -> None:
    way = a_way(turning(), np.ones(len(T_S), bool))
    config = GapConfig(average="forward", average_s=0.05)
    lagging = moving_average(way, config).t[60] - turning().t[60]
    # of a ramp: dt k / (1 - k) behind, k = exp(-dt / tau)
    keep = np.exp(-1 / 30 / 0.05)
    np.testing.assert_allclose(lagging, -np.array([1.0, 0.5, -0.2]) * keep / (1 - keep) / 30, rtol=1e-6)
    both = moving_average(way, dataclasses.replace(config, average="both"))
    np.testing.assert_allclose(both.t[45], turning().t[45], atol=1e-4)
    assert geodesic(both.R[45], turning().R[45]) < 1e-4


def test_stretches_are_averaged_each_by_itself() -> None:
    way = a_way(turning(), np.ones(len(T_S), bool))
    valid = np.ones(len(T_S), bool)
    valid[40:50] = False
    apart = dataclasses.replace(way, valid=valid)
    config = GapConfig(average="forward", average_s=0.2)
    np.testing.assert_allclose(moving_average(apart, config).t[50], turning().t[50], atol=1e-12)
    done = finish_way(apart, config)
    np.testing.assert_allclose(done.world_from_cam.t[45], turning().t[45], atol=1e-12)
