"""The way of a moving camera from known points in the room: pose by pose, rolling shutter and all.

Every frame's candidates come in closed form, are refined on pixels with the true lens, and one way through them is
chosen (planar targets have two poses each). With the velocities of the smoothed way, every point's camera is then
placed at the time its own row was exposed, and pose and velocity are solved again. That pose belongs to the mean time
of the points seen, where it does not depend on the velocity; the smoother carries it to the frame's time, row 0.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from calibration.resection import PointRays, Resection, RollingShutter, pose_candidates, refine_poses
from calibration.robust import variance_factor
from calibration.smoothing import SmoothedWay, SmoothingConfig, smooth_way
from core.arrays import Bool, Float, Int
from core.cameras import Lens
from core.transforms import SE3, geodesic

_SPEED_MPS = 6.0  # scales how far the camera may move between frames; a foot in fast swing
_SPIN_RADPS = 25.0
_PASSES = 2
# how far a smoothed velocity may be off in a swing: rad/s and m/s
_MOTION_SIGMA = np.array([5.0, 5.0, 5.0, 1.0, 1.0, 1.0])


@dataclass(frozen=True)
class TrackConfig:
    """Settings of a moving camera's poses.

    Attributes:
        min_points: points a frame must show.
        min_sigma_px: least standard deviation of a point, for errors that the detector does not state.
        max_position_sigma_m: standard deviation of the position above which a frame does not count as measured.
        max_rotation_sigma_rad: the same for the orientation.
        max_rms_px: reprojection error of a frame above which it does not count as measured.
        smoothing: settings of the smoother.
    """

    min_points: int = 6
    min_sigma_px: float = 0.15
    max_position_sigma_m: float = 0.05
    max_rotation_sigma_rad: float = 0.05
    max_rms_px: float = 4.0
    smoothing: SmoothingConfig = dataclasses.field(default_factory=SmoothingConfig)


@dataclass(frozen=True, eq=False)
class Track:
    """A moving camera's way and the measurements behind it.

    Attributes:
        way: the smoothed way.
        measured: (frames,) poses solved from the frame alone; NaN where there are none.
        measured_t_s: (frames,) the time each of them belongs to.
        known: (frames,) frames with a measurement.
        num_points: (frames,) points seen.
        rms_px: (frames,) reprojection error; NaN where there is none.
    """

    way: SmoothedWay
    measured: SE3
    measured_t_s: Float[np.ndarray, "frames"]
    known: Bool[np.ndarray, "frames"]
    num_points: Int[np.ndarray, "frames"]
    rms_px: Float[np.ndarray, "frames"]


def track_camera(
    lens: Lens,
    t_s: Float[np.ndarray, "frames"],
    points: PointRays,
    *,
    row_time_s: float = 0.0,
    place_sigma_m: Float[np.ndarray, "n"] | None = None,
    config: TrackConfig | None = None,
) -> Track:
    """Poses of a moving camera.

    Args:
        lens: its lens.
        t_s: frame times, seconds: row 0 is exposed then, row v at `t_s + v * row_time_s`.
        points: points of the room by frame (`pose_idx`), in the world.
        row_time_s: readout time of one row.
        place_sigma_m: standard deviation of each point's place in the room; near points feel it more.
        config: settings.
    """
    config = config or TrackConfig()
    frames = len(t_s)
    sigma = np.maximum(points.sigma_px, config.min_sigma_px)
    points = PointRays(points.pose_idx, points.points_m, points.xy_px, sigma)
    enough = np.bincount(points.pose_idx, minlength=frames) >= config.min_points
    solved, has_pose = _first_poses(lens, points, enough, t_s)
    if place_sigma_m is not None:
        distance = np.linalg.norm(points.points_m - solved.world_from_cam.t[points.pose_idx], axis=-1)
        place_px = max(lens.focal_px) * place_sigma_m / np.maximum(distance, 0.1)
        points = dataclasses.replace(points, sigma_px=np.hypot(points.sigma_px, place_px))
    delay = points.xy_px[:, 1] * row_time_s
    middle = _middle_delay(points, delay, frames, lens.size_px[1] * row_time_s / 2)
    covariance, known = _measurements(solved, has_pose, points, config)
    for _ in range(_PASSES if row_time_s > 0 else 1):
        way = smooth_way(t_s + middle, solved.world_from_cam, covariance, known, config.smoothing)
        start, has_pose = _restart(solved.world_from_cam, way, has_pose, enough)
        shutter = None
        if row_time_s > 0:
            late = delay - middle[points.pose_idx]
            acceleration = np.gradient(way.motion, t_s + middle, axis=0)
            shutter = RollingShutter(late, way.motion, np.minimum(way.motion_sigma, _MOTION_SIGMA), acceleration)
        solved = refine_poses(lens, start, points, shutter=shutter)
        covariance, known = _measurements(solved, has_pose, points, config)
    way = _smooth_at_frames(t_s, middle, solved.world_from_cam, covariance, known, config.smoothing)
    nan = np.where(known, 1.0, np.nan)
    measured = SE3(solved.world_from_cam.R * nan[:, None, None], solved.world_from_cam.t * nan[:, None])
    num_points = np.bincount(points.pose_idx, minlength=frames)
    return Track(way, measured, t_s + middle, known, num_points, solved.rms_px * nan)


def _middle_delay(points: PointRays, delay_s: np.ndarray, frames: int, default_s: float) -> np.ndarray:
    """Mean delay of the points of every frame (frames,); of the middle row where there are none."""
    count = np.bincount(points.pose_idx, minlength=frames)
    total = np.bincount(points.pose_idx, delay_s, minlength=frames)
    return np.where(count > 0, total / np.maximum(count, 1), default_s)


def _smooth_at_frames(
    t_s: np.ndarray, middle_s: np.ndarray, pose: SE3, covariance: np.ndarray, known: np.ndarray, config: SmoothingConfig
) -> SmoothedWay:
    """The smoothed way at the frames' own times, from measurements that lie `middle_s` after them."""
    frames = len(t_s)
    if middle_s.max(initial=0) <= 0:
        return smooth_way(t_s, pose, covariance, known, config)
    times = np.concatenate([t_s, t_s + np.maximum(middle_s, 1e-6)])
    order = np.argsort(times, kind="stable")
    both = np.tile(np.arange(frames), 2)[order]
    measured = order >= frames
    way = smooth_way(times[order], pose[both], covariance[both], known[both] & measured, config)
    place = np.argsort(order)
    at_frames, at_middle = way[place[:frames]], way[place[frames:]]
    # a frame is as valid as its own measurement, which comes later than it
    return dataclasses.replace(at_frames, used=at_middle.used, valid=at_middle.valid)


def _first_poses(lens: Lens, points: PointRays, enough: np.ndarray, t_s: np.ndarray) -> tuple[Resection, np.ndarray]:
    """All candidates refined, one chosen a frame; and which frames have one."""
    rays = lens.unproject(points.xy_px)
    edges = np.searchsorted(points.pose_idx, np.arange(len(t_s) + 1))
    frame_of, starts = [], []
    for frame in np.flatnonzero(enough):
        rows = slice(edges[frame], edges[frame + 1])
        for candidate in pose_candidates(points.points_m[rows], rays[rows]):
            frame_of.append(int(frame))
            starts.append(candidate.inverse())
    pose = SE3.identity(len(t_s))
    if not starts:
        return refine_poses(lens, pose, points, iterations=0), np.zeros(len(t_s), bool)
    row_of = np.concatenate([np.arange(edges[f], edges[f + 1]) for f in frame_of])
    candidate_idx = np.repeat(np.arange(len(frame_of)), edges[np.array(frame_of) + 1] - edges[np.array(frame_of)])
    copies = PointRays(candidate_idx, points.points_m[row_of], points.xy_px[row_of], points.sigma_px[row_of])
    refined = refine_poses(lens, SE3.stack(starts), copies)
    chosen = _choose_way(np.array(frame_of), refined, t_s)
    frames = np.array(frame_of)[chosen]
    pose.R[frames], pose.t[frames] = refined.world_from_cam.R[chosen], refined.world_from_cam.t[chosen]
    has_pose = np.zeros(len(t_s), bool)
    has_pose[frames] = True
    return refine_poses(lens, pose, points, iterations=2), has_pose


def _choose_way(frame_of: np.ndarray, refined: Resection, t_s: np.ndarray) -> np.ndarray:
    """One candidate a frame: the least sum of reprojection costs and of jumps between frames (Viterbi 1967)."""
    frames = np.unique(frame_of)
    members = [np.flatnonzero(frame_of == frame) for frame in frames]
    pose, best, back = refined.world_from_cam, refined.chi2[members[0]], []
    for k in range(1, len(frames)):
        before, here = members[k - 1], members[k]
        dt = t_s[frames[k]] - t_s[frames[k - 1]]
        way = np.linalg.norm(pose.t[before][:, None] - pose.t[here][None], axis=-1) / (_SPEED_MPS * dt)
        turns = np.broadcast_arrays(pose.R[before][:, None], pose.R[here][None])
        turn = geodesic(*turns) / (_SPIN_RADPS * dt)
        total = best[:, None] + way**2 + turn**2
        back.append(total.argmin(axis=0))
        best = total.min(axis=0) + refined.chi2[here]
    choice = [int(best.argmin())]
    for pointers in reversed(back):
        choice.append(int(pointers[choice[-1]]))
    return np.array([member[c] for member, c in zip(members, reversed(choice), strict=True)])


def _measurements(
    solved: Resection, has_pose: np.ndarray, points: PointRays, config: TrackConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Covariances with the noise that the residuals show, and which frames count as measured."""
    in_frames = has_pose[points.pose_idx] & np.isfinite(solved.residual_px[:, 0])
    whitened = solved.residual_px[in_frames] / points.sigma_px[in_frames, None]
    factor = max(variance_factor(whitened, solved.weight[in_frames]), 1.0)
    covariance = np.where(has_pose[:, None, None], factor * np.nan_to_num(solved.covariance, posinf=1e12), 1e12)
    variance = np.einsum("nii->ni", covariance)
    position, rotation = np.sqrt(variance[:, 3:].max(axis=-1)), np.sqrt(variance[:, :3].max(axis=-1))
    known = has_pose & (position < config.max_position_sigma_m) & (rotation < config.max_rotation_sigma_rad)
    with np.errstate(invalid="ignore"):
        known &= solved.rms_px < config.max_rms_px
    return covariance, known


def _restart(pose: SE3, way: SmoothedWay, has_pose: np.ndarray, enough: np.ndarray) -> tuple[SE3, np.ndarray]:
    """Start poses for the next pass: frames that were dropped, or had no pose, start again on the smoothed way."""
    again = enough & way.valid & ~way.used
    R = np.where(again[:, None, None], way.world_from_cam.R, pose.R)
    t = np.where(again[:, None], way.world_from_cam.t, pose.t)
    return SE3(R, t), has_pose | again
