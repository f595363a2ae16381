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

from calibration.place_noise import Places, pose_covariances
from calibration.resection import PointRays, Resection, RollingShutter, pose_candidates, refine_poses
from calibration.robust import variance_factor
from calibration.smoothing import SmoothedWay, SmoothingConfig, acceleration, shifted, smooth_way
from core.arrays import Bool, Float, Int
from core.cameras import Lens
from core.transforms import SE3, geodesic

_SPEED_MPS = 6.0  # scales how far the camera may move between frames; a foot in fast swing
_SPIN_RADPS = 25.0
_PASSES = 2
_FAST_FRAMES = 60
_FAST = np.repeat([1 / 1.0, 1 / 0.5], 3)  # rad/s and m/s at which a rolling shutter shows
# how far a smoothed velocity may be off in a swing: rad/s and m/s
MOTION_SIGMA = np.array([5.0, 5.0, 5.0, 1.0, 1.0, 1.0])


@dataclass(frozen=True)
class TrackConfig:
    """Settings of a moving camera's poses.

    Attributes:
        min_points: points a frame must show.
        min_sigma_px: least standard deviation of a point; what noise there really is the residuals tell.
        exposure_s: exposure of the camera, or the longest it may be; points that move meanwhile weigh less.
        blur_share: standard deviation of a point for each pixel that it moves meanwhile.
        shared_px: error of the detector that the points of a target share, frame after frame, while the camera rests.
        corner_px: the same, each point's own.
        max_position_sigma_m: standard deviation of the position above which a frame does not count as measured.
        max_rotation_sigma_rad: the same for the orientation.
        max_rms_px: reprojection error of a frame above which it does not count as measured.
        smoothing: settings of the smoother.
    """

    min_points: int = 4
    min_sigma_px: float = 0.02
    exposure_s: float = 0.005
    blur_share: float = 0.1
    shared_px: float = 0.03
    corner_px: float = 0.03
    max_position_sigma_m: float = 0.1
    max_rotation_sigma_rad: float = 0.1
    max_rms_px: float = 4.0
    smoothing: SmoothingConfig = dataclasses.field(default_factory=SmoothingConfig)


@dataclass(frozen=True, eq=False)
class Track:
    """A moving camera's way and the measurements behind it.

    Attributes:
        way: the smoothed way.
        measured: (frames,) poses solved from the frame alone; NaN where there are none.
        picture: (frames, 6, 6) covariance of these by the noise of the pictures.
        place: (frames, 6, 6) by what is off in the same way in every frame: places, lens.
        delay_s: (frames,) how long after its frame's time each of them belongs.
        known: (frames,) frames with a measurement.
        num_points: (frames,) points seen.
        rms_px: (frames,) reprojection error; NaN where there is none.
        residual_px: (n, 2) predicted minus seen, of each point.
        noise_px: (n,) standard deviation of each point in the picture, as large as the residuals show.
        weighed_px: (n,) the same with what its uncertain place adds.
    """

    way: SmoothedWay
    measured: SE3
    picture: Float[np.ndarray, "frames 6 6"]
    place: Float[np.ndarray, "frames 6 6"]
    delay_s: Float[np.ndarray, "frames"]
    known: Bool[np.ndarray, "frames"]
    num_points: Int[np.ndarray, "frames"]
    rms_px: Float[np.ndarray, "frames"]
    residual_px: Float[np.ndarray, "n 2"]
    noise_px: Float[np.ndarray, "n"]
    weighed_px: Float[np.ndarray, "n"]


def track_camera(
    lens: Lens,
    t_s: Float[np.ndarray, "frames"],
    points: PointRays,
    *,
    row_time_s: float = 0.0,
    places: Places | None = None,
    lens_covariance: Float[np.ndarray, "p p"] | None = None,
    config: TrackConfig | None = None,
) -> Track:
    """Poses of a moving camera.

    Args:
        lens: its lens.
        t_s: frame times, seconds: row 0 is exposed then, row v at `t_s + v * row_time_s`.
        points: points of the room by frame (`pose_idx`), in the world.
        row_time_s: readout time of one row.
        places: which targets the points belong to, and how uncertain their places in the room are.
        lens_covariance: of the lens's parameters.
        config: settings.
    """
    config, frames = config or TrackConfig(), len(t_s)
    places = places or Places.none(len(points.pose_idx))
    points = dataclasses.replace(points, sigma_px=np.maximum(points.sigma_px, config.min_sigma_px))
    enough = np.bincount(points.pose_idx, minlength=frames) >= config.min_points
    solved, has_pose = _first_poses(lens, points, enough, t_s)
    seen = _Seen(lens, lens_covariance, points, places, solved.world_from_cam)
    delay = points.xy_px[:, 1] * row_time_s
    middle = middle_delay(points, delay, frames, lens.size_px[1] * row_time_s / 2)
    shutter = None
    picture, place, known, _ = seen.measurements(solved, has_pose, shutter, config)
    for _ in range(_PASSES if row_time_s > 0 else 1):
        way = smooth_way(t_s + middle, solved.world_from_cam, picture + place, known, config.smoothing)
        start, has_pose = _restart(solved.world_from_cam, way, has_pose, enough)
        if row_time_s > 0:
            late = delay - middle[points.pose_idx]
            shutter = RollingShutter(late, way.motion, np.minimum(way.motion_sigma, MOTION_SIGMA), acceleration(way))
        seen.weigh(config.blur_share * seen.blur_px(way, config.exposure_s))
        solved = refine_poses(lens, start, seen.weighed, shutter=shutter)
        picture, place, known, factor = seen.measurements(solved, has_pose, shutter, config)
    nan = np.where(known, 1.0, np.nan)
    measured = SE3(solved.world_from_cam.R * nan[:, None, None], solved.world_from_cam.t * nan[:, None])
    return Track(
        way=_smoothed(t_s, middle, measured, picture, place, known, known, config),
        measured=measured,
        picture=picture,
        place=place,
        delay_s=middle,
        known=known,
        num_points=np.bincount(points.pose_idx, minlength=frames),
        rms_px=solved.rms_px * nan,
        residual_px=solved.residual_px,
        noise_px=np.sqrt(factor) * seen.noise_px,
        weighed_px=seen.weighed.sigma_px,
    )


def bridged_way(
    track: Track,
    t_s: Float[np.ndarray, "frames"],
    others: SE3,
    covariance: Float[np.ndarray, "frames 6 6"],
    there: Bool[np.ndarray, "frames"],
    config: TrackConfig,
) -> SmoothedWay:
    """The way smoothed again, on another clock and with other measurements where the camera has none of its own.

    Args:
        track: what was measured.
        t_s: frame times.
        others: (frames,) poses, `delay_s` of the track after the frame times.
        covariance: (frames, 6, 6) of these.
        there: (frames,) where there are any; they still count as filled.
        config: settings.
    """
    own = track.known
    measured = SE3(
        np.where(own[:, None, None], track.measured.R, others.R), np.where(own[:, None], track.measured.t, others.t)
    )
    picture = np.where(own[:, None, None], track.picture, covariance)
    return _smoothed(t_s, track.delay_s, measured, picture, track.place, own | there, own, config)


def _smoothed(
    t_s: np.ndarray,
    middle: np.ndarray,
    measured: SE3,
    picture: np.ndarray,
    place: np.ndarray,
    known: np.ndarray,
    own: np.ndarray,
    config: TrackConfig,
) -> SmoothedWay:
    """The smoothed way at the frames' times; used are the measurements of the camera's own.

    Uncertain places weigh in the smoother, where other targets come into sight. But it takes them for new in every
    frame, and they are not: at measurements what they add is taken out of its covariance, and all of it put back.
    """
    noise = picture + np.where(own[:, None, None], place, 0.0)
    way = smooth_way(t_s + middle, measured, noise, known, config.smoothing)
    way = shifted(way.with_noise(noise, picture, known & own), -middle)
    way = dataclasses.replace(way, used=way.used & own)
    return _with_places(way, place)


def _with_places(way: SmoothedWay, place: np.ndarray) -> SmoothedWay:
    """The way with what uncertain places add: it is the same in all frames, so no smoothing takes it away."""
    keys = np.flatnonzero(way.used)
    if len(keys) == 0:
        return way
    after = np.clip(np.searchsorted(way.t_s[keys], way.t_s), 1, max(len(keys) - 1, 1))
    pair = np.stack([keys[after - 1], keys[np.minimum(after, len(keys) - 1)]])
    nearest = pair[np.argmin(np.abs(way.t_s[pair] - way.t_s), axis=0), np.arange(len(way.t_s))]
    return way.less_certain(place[nearest])


def better_row_time(
    lens: Lens,
    t_s: Float[np.ndarray, "frames"],
    points: PointRays,
    track: Track,
    row_time_s: float,
    config: TrackConfig,
) -> tuple[float, float]:
    """Whether another rolling shutter explains the fastest frames better: read from below, twice as slow, or none.

    Returns:
        cost with the stated readout over that with the best other one, and that one; NaN if it was never fast.
    """
    speed = np.linalg.norm(track.way.motion * _FAST, axis=-1)
    fast = np.argsort(np.where(track.way.used, -speed, 0.0), kind="stable")[:_FAST_FRAMES]
    fast = np.sort(fast[track.way.used[fast] & (speed[fast] > 1.0)])
    if len(fast) < _FAST_FRAMES // 3:
        return float("nan"), float("nan")
    rows = np.flatnonzero(np.isin(points.pose_idx, fast))
    xy = points.xy_px[rows]
    few = PointRays(np.searchsorted(fast, points.pose_idx[rows]), points.points_m[rows], xy, points.sigma_px[rows])
    half_frame = float(np.median(np.diff(t_s))) / lens.size_px[1] / 2
    others = (-row_time_s, 0.0, 2 * row_time_s) if row_time_s > 0 else (half_frame, -half_frame)
    costs = []
    for row_time in (row_time_s, *others):
        delay = xy[:, 1] * row_time
        middle = middle_delay(few, delay, len(fast), 0.0)
        by = np.zeros(len(t_s))
        by[fast] = middle
        way = shifted(track.way, by)
        sigma = np.minimum(way.motion_sigma, MOTION_SIGMA)[fast]
        shutter = RollingShutter(delay - middle[few.pose_idx], way.motion[fast], sigma, acceleration(way)[fast])
        costs.append(float(np.sum(refine_poses(lens, way.world_from_cam[fast], few, shutter=shutter).chi2)))
    best = int(np.argmin(costs[1:]))
    return costs[0] / max(costs[1 + best], 1e-9), others[best]


def middle_delay(points: PointRays, delay_s: np.ndarray, frames: int, default_s: float) -> np.ndarray:
    """Mean delay of the points of every frame (frames,); of the middle row where there are none."""
    count = np.bincount(points.pose_idx, minlength=frames)
    total = np.bincount(points.pose_idx, delay_s, minlength=frames)
    return np.where(count > 0, total / np.maximum(count, 1), default_s)


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


class _Seen:
    """The points of all frames, weighed by how well both they and their places are known.

    The points of a target are off together, so each carries the target's error by the root of their number: all of them
    then weigh as one.
    """

    def __init__(
        self, lens: Lens, lens_covariance: np.ndarray | None, points: PointRays, places: Places, world_from_cam: SE3
    ) -> None:
        self.lens, self.lens_covariance, self.points, self.places = lens, lens_covariance, points, places
        targets = len(places.world_from_target) + 1
        group = points.pose_idx * targets + places.target + 1
        together = np.bincount(group)[group] if len(group) else np.zeros(0)
        distance = np.linalg.norm(points.points_m - world_from_cam.t[points.pose_idx], axis=-1)
        place_m = np.hypot(places.sigma_m(points.points_m) * np.sqrt(together), places.own_sigma_m)
        self.place_px = max(lens.focal_px) * place_m / np.maximum(distance, 0.1)
        self.weigh(np.zeros(len(group)))

    def weigh(self, blur_px: Float[np.ndarray, "n"]) -> None:
        """Sets the points' standard deviations, with what blur adds."""
        self.noise_px = np.hypot(self.points.sigma_px, blur_px)
        self.weighed = dataclasses.replace(self.points, sigma_px=np.hypot(self.noise_px, self.place_px))

    def blur_px(self, way: SmoothedWay, exposure_s: float) -> Float[np.ndarray, "n"]:
        """How far each point moves in the picture during the exposure; zero where it is out of sight meanwhile."""
        index = self.points.pose_idx
        ends = [way.world_from_cam.retract(by * way.motion)[index] for by in (-exposure_s / 2, exposure_s / 2)]
        start, end = (self.lens.project(pose.inverse().apply(self.points.points_m)) for pose in ends)
        return np.asarray(np.nan_to_num(np.linalg.norm(end - start, axis=-1)))

    def measurements(
        self, solved: Resection, has_pose: np.ndarray, shutter: RollingShutter | None, config: TrackConfig
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
        """Covariances by the picture's noise, as large as the residuals show, and by the places; which frames count.

        Last, by how much the residuals made the noise's variance larger.
        """
        index = self.points.pose_idx
        in_frames = has_pose[index] & np.isfinite(solved.residual_px[:, 0])
        whitened = solved.residual_px[in_frames] / self.noise_px[in_frames, None]
        num_params = (12 if shutter is not None else 6) * len(np.unique(index[in_frames]))
        factor = max(variance_factor(whitened, solved.weight[in_frames], num_params), 1.0)
        picture, place = pose_covariances(
            self.lens,
            solved,
            self.weighed,
            self.noise_px,
            self.places,
            shutter,
            (config.shared_px, config.corner_px),
            self.lens_covariance,
        )
        solvable = has_pose & (picture[:, 0, 0] > 0)
        picture = np.where(solvable[:, None, None], factor * picture, 1e6 * np.eye(6))
        variance = np.einsum("nii->ni", picture + place)
        position, rotation = np.sqrt(variance[:, 3:].max(axis=-1)), np.sqrt(variance[:, :3].max(axis=-1))
        known = solvable & (position < config.max_position_sigma_m) & (rotation < config.max_rotation_sigma_rad)
        with np.errstate(invalid="ignore"):
            known &= solved.rms_px < config.max_rms_px
        return picture, place, known, factor


def _restart(pose: SE3, way: SmoothedWay, has_pose: np.ndarray, enough: np.ndarray) -> tuple[SE3, np.ndarray]:
    """Start poses for the next pass: frames that were dropped, or had no pose, start again on the smoothed way."""
    again = enough & way.valid & ~way.used
    R = np.where(again[:, None, None], way.world_from_cam.R, pose.R)
    t = np.where(again[:, None], way.world_from_cam.t, pose.t)
    return SE3(R, t), has_pose | again
