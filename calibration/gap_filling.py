"""What the Action Motif Dataset does to a smoothed way: splines through its gaps, and an exponential moving average.

Kochanek and Bartels, "Interpolating splines with local tension, continuity, and bias control", SIGGRAPH 1984 (equations
8, 9 and, for unequal intervals, section 3.3), on translations, and on rotations through Shoemake's quaternion Bezier
curves (SIGGRAPH 1985). Both replace the smoother's own estimate by another curve. The covariance then grows by the
square of the difference, which is the expected squared error of a curve that is not the mean.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from scipy.signal import lfilter

from calibration.smoothing import SmoothedWay
from core.arrays import Bool, Float, Int
from core.transforms import SE3, nearest_rotation, so3_exp, so3_log


@dataclass(frozen=True)
class GapConfig:
    """How gaps are filled and the way is averaged.

    Attributes:
        fill: `smoother` takes the smoother's own estimate in gaps, the cubic between the velocities at both ends;
            `kochanek_bartels` the spline that the Action Motif Dataset was made with; it knows no velocity but from key
            to key, and is further from the truth in simulated sessions.
        tension: of that spline, -1 to 1: shorter tangents.
        continuity: of that spline: corners at the ends of the gap.
        bias: of that spline: tangents follow more what comes before (1) or after (-1).
        average: exponential moving average over the finished way: `none`, `forward` over the past alone, which lags
            behind, or `both` ways, which does not. The smoother has already averaged as much as the motion allows: an
            average on top of it rounds off steps, and is further from the truth in simulated sessions.
        average_s: its time constant, seconds.
    """

    fill: Literal["smoother", "kochanek_bartels"] = "smoother"
    tension: float = 0.0
    continuity: float = 0.0
    bias: float = 0.0
    average: Literal["none", "forward", "both"] = "none"
    average_s: float = 0.05


def finish_way(way: SmoothedWay, config: GapConfig) -> SmoothedWay:
    """The way with its gaps filled and averaged as the config says."""
    if config.fill == "kochanek_bartels":
        way = _replaced(way, spline_through_gaps(way, config), way.valid & ~way.used)
    if config.average != "none":
        way = _replaced(way, moving_average(way, config), way.valid)
    return way


def spline_through_gaps(way: SmoothedWay, config: GapConfig) -> SE3:
    """Poses (n,) that are Kochanek-Bartels splines between the measured ones, and those themselves where measured."""
    keys = np.flatnonzero(way.used)
    if len(keys) < 2:
        return way.world_from_cam
    key = way.world_from_cam[keys]
    step = np.concatenate([so3_log(np.swapaxes(key.R[:-1], -1, -2) @ key.R[1:]), np.diff(key.t, axis=0)], axis=-1)
    arriving, leaving = _tangents(step, np.diff(way.t_s[keys]), config)
    inside = np.flatnonzero(~way.used & (np.arange(len(way.t_s)) > keys[0]) & (np.arange(len(way.t_s)) < keys[-1]))
    left = np.searchsorted(keys, inside) - 1
    share = (way.t_s[inside] - way.t_s[keys[left]]) / np.diff(way.t_s[keys])[left]
    start, end = key[left], key[left + 1]
    curve = [start, start.retract(leaving[left] / 3), end.retract(-arriving[left + 1] / 3), end]
    while len(curve) > 1:  # de Casteljau
        curve = [_between(a, b, share) for a, b in pairwise(curve)]
    pose = SE3(way.world_from_cam.R.copy(), way.world_from_cam.t.copy())
    pose.R[inside], pose.t[inside] = curve[0].R, curve[0].t
    return pose


def _tangents(
    step: Float[np.ndarray, "m 6"], dt: Float[np.ndarray, "m"], config: GapConfig
) -> tuple[Float[np.ndarray, "k 6"], Float[np.ndarray, "k 6"]]:
    """Tangents at the keys, each over the interval that it belongs to; the ends have one-sided ones."""
    before, after = np.concatenate([step[:1], step]), np.concatenate([step, step[-1:]])
    dt_before, dt_after = np.concatenate([dt[:1], dt])[:, None], np.concatenate([dt, dt[-1:]])[:, None]
    t, c, b = config.tension, config.continuity, config.bias
    arriving = (1 - t) * ((1 - c) * (1 + b) * before + (1 + c) * (1 - b) * after) / 2
    leaving = (1 - t) * ((1 + c) * (1 + b) * before + (1 - c) * (1 - b) * after) / 2
    both = dt_before + dt_after
    return arriving * 2 * dt_before / both, leaving * 2 * dt_after / both


def _between(a: SE3, b: SE3, share: Float[np.ndarray, "n"]) -> SE3:
    """Slerp of the rotations, and the straight line between the translations."""
    turn = so3_log(np.swapaxes(a.R, -1, -2) @ b.R)
    return SE3(a.R @ so3_exp(share[:, None] * turn), a.t + share[:, None] * (b.t - a.t))


def moving_average(way: SmoothedWay, config: GapConfig) -> SE3:
    """Exponentially weighted means of the poses (n,), of each stretch of valid frames by itself."""
    pose = SE3(way.world_from_cam.R.copy(), way.world_from_cam.t.copy())
    if len(way.t_s) < 2:
        return pose
    keep = float(np.exp(-np.median(np.diff(way.t_s)) / config.average_s))
    for rows in _stretches(way.valid):
        flat = np.concatenate([pose.R[rows].reshape(-1, 9), pose.t[rows]], axis=-1)
        flat = _filtered(flat, keep)
        if config.average == "both":
            flat = _filtered(flat[::-1], keep)[::-1]
        pose.R[rows], pose.t[rows] = nearest_rotation(flat[:, :9].reshape(-1, 3, 3)), flat[:, 9:]
    return pose


def _filtered(values: Float[np.ndarray, "n c"], keep: float) -> Float[np.ndarray, "n c"]:
    """y_k = keep y_{k-1} + (1 - keep) x_k, at rest before the first."""
    return np.asarray(lfilter([1 - keep], [1, -keep], values, axis=0, zi=keep * values[:1])[0])


def _stretches(valid: Bool[np.ndarray, "n"]) -> list[Int[np.ndarray, "_"]]:
    """Indices of each run of valid frames."""
    index = np.flatnonzero(valid)
    return [run for run in np.split(index, np.flatnonzero(np.diff(index) > 1) + 1) if len(run)]


def _replaced(way: SmoothedWay, pose: SE3, where: Bool[np.ndarray, "n"]) -> SmoothedWay:
    """The way with other poses in some frames, and the covariance that they deserve."""
    off = np.where(where[:, None], way.world_from_cam.local(pose), 0.0)
    pose = way.world_from_cam.retract(off)
    return dataclasses.replace(way.less_certain(off[:, :, None] * off[:, None, :]), world_from_cam=pose)
