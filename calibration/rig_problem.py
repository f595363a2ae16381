"""The bundle behind a rig from targets: what the cameras saw, as points, parts, trajectories and clocks."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from calibration.bundle import BundleConfig
from calibration.initial import observed_rays
from calibration.moving_bundle import MovingResult, learn_freedom, solve_moving
from calibration.moving_scene import ROOM, STEADY, MovingScene, TimedPoints
from calibration.moving_target import KNOT_S, MAX_LINK_S, CarriedPoints, at_knots, chosen_clusters, clusters, follow
from calibration.robust import variance_factor
from calibration.scene import LensPrior, Observations, num_params
from calibration.trajectory import Smoothness, Trajectory, estimate_smoothness
from capture.markers import MarkerPoints
from capture.targets import Target
from core.arrays import Float, Int
from core.cameras import Lens
from core.transforms import SE3

_MIN_POINTS = 4  # that fix a pose
_MIN_FRAMES = 3  # in which a point of the room must be seen by a video
_SYSTEMATIC_PX = 0.08  # detector error that averaging over frames does not lower
_FIRST_PASS = BundleConfig(loss="huber", loss_sigmas=30.0, max_iterations=15, tolerance=1e-4)
_ROUGH = BundleConfig(max_iterations=10, tolerance=1e-5, damping=1e-8)
_LAST_PASS = BundleConfig(tolerance=1e-9, damping=1e-8)  # of the cost: what is left is a hundredth of an uncertainty
_ROUNDS = 12  # of noise and smoothness; a hand whose haste changes needs eight
_SETTLED = 0.1  # change of a jitter's standard deviation that matters no more
_LEAST_NOISE = 0.5  # of the stated standard deviation: residuals of few points may be small by chance
_SHARPEST = 1e-9  # eigenvalue of a correlation matrix below which it is rounding
_ENOUGH = 50  # points from which a camera's own noise can be told


@dataclass(frozen=True, eq=False)
class Sighting:
    """What one room video saw of the targets.

    Attributes:
        lens: its lens.
        points: its table of points.
        t_s: times of its frames' first rows on the session clock.
        clock_sigma_s: standard deviation of these times, as a whole; 0 for cameras that hardware locks.
        clock_rate_sigma: standard deviation of the clock's rate.
        row_time_s: rolling shutter: readout time of one row.
        row_time_sigma: standard deviation of that; 0 where it is known.
        jitter_sigma_s: standard deviation, to start from, of each frame's time by itself: of webcams, whose frames are
            stamped when a computer reads them. What it really is is found from the data; 0 for times that are exact.
        lens_covariance: of the lens's parameters: they are then solved with the rig, from what is known of them; None
            for a lens that is taken as true.
    """

    lens: Lens
    points: MarkerPoints
    t_s: Float[np.ndarray, "frames"]
    clock_sigma_s: float = 0.001
    clock_rate_sigma: float = 0.0
    row_time_s: float = 0.0
    row_time_sigma: float = 0.0
    jitter_sigma_s: float = 0.0
    lens_covariance: Float[np.ndarray, "p p"] | None = None


@dataclass(frozen=True, eq=False)
class Seen:
    """What was seen, by camera.

    Attributes:
        views: ids of the cameras.
        sightings: of each.
        targets: by id.
        still: ids of those that do not move.
        still_points: their points, `image_idx` the camera and `target_idx` the place in `still`.
        carried: points of each carried target.
    """

    views: tuple[str, ...]
    sightings: tuple[Sighting, ...]
    targets: Mapping[str, Target]
    still: tuple[str, ...]
    still_points: Observations
    carried: Mapping[str, CarriedPoints]

    @staticmethod
    def gather(sightings: Mapping[str, Sighting], targets: Mapping[str, Target]) -> Seen:
        """From the sightings; targets that nobody saw leave no trace."""
        still = tuple(name for name, target in targets.items() if target.mounting in ("world", "static"))
        parts = [
            still_points(camera, index, targets[name], sighting.points.of_target(name), video=True)
            for camera, sighting in enumerate(sightings.values())
            for index, name in enumerate(still)
        ]
        carried = {}
        for name in (name for name, target in targets.items() if target.mounting == "carried"):
            tables = {k: (s.points.of_target(name), s.t_s) for k, s in enumerate(sightings.values())}
            points = CarriedPoints.gather(tables)
            if len(points):
                carried[name] = points
        flat = Observations.concatenate([part for part in parts if len(part)] or [_none()])
        return Seen(tuple(sightings), tuple(sightings.values()), targets, still, flat, carried)

    @property
    def lenses(self) -> tuple[Lens, ...]:
        """Of each camera."""
        return tuple(sighting.lens for sighting in self.sightings)

    def frozen(self, name: str, knot_s: Float[np.ndarray, "k"]) -> Observations:
        """A carried target at some instants (`target_idx`), as the cameras saw it then."""
        target, seen = self.targets[name], self.carried[name]
        knot, camera, point, xy = at_knots(seen, knot_s, target.num_points)
        sigma = np.full(len(knot), np.hypot(float(np.median(seen.sigma_px)), _SYSTEMATIC_PX))
        return Observations(camera, knot, target.points_m[point], xy, sigma)

    def rays(self, observations: Observations) -> Float[np.ndarray, "n 3"]:
        """Unit rays of observations."""
        return observed_rays(self.lenses, np.arange(len(self.views)), observations)


def _none() -> Observations:
    zero = np.zeros(0, int)
    return Observations(zero, zero, np.zeros((0, 3)), np.zeros((0, 2)), np.zeros(0))


def still_points(image: int, index: int, target: Target, seen: MarkerPoints, *, video: bool) -> Observations:
    """A target that does not move, in one image: medians over the frames of a video.

    Args:
        image: index of the image.
        index: index of the target.
        target: the target.
        seen: its points in the image, or in all frames of the video.
        video: whether a point must be seen in several frames to count.
    """
    order = np.argsort(seen.point_idx, kind="stable")
    point, first, count = np.unique(seen.point_idx[order], return_index=True, return_counts=True)
    groups = np.split(seen.xy_px[order].astype(float), first[1:]) if len(point) else []
    xy = np.array([np.median(group, axis=0) for group in groups]).reshape(-1, 2)
    # a median's variance is pi/2 times a mean's
    sigma = np.array([np.median(s) for s in np.split(seen.sigma_px[order], first[1:])]) if len(point) else np.zeros(0)
    sigma = np.sqrt(sigma**2 * np.where(count > 1, np.pi / 2 / count, 1.0) + _SYSTEMATIC_PX**2)
    enough = count >= (_MIN_FRAMES if video else 1)
    if enough.sum() < _MIN_POINTS:
        return _none()
    n = int(enough.sum())
    where = (np.full(n, image), np.full(n, index), target.points_m[point[enough]])
    return Observations(*where, xy[enough], sigma[enough])


@dataclass(frozen=True, eq=False)
class FirstValues:
    """What the bundle starts from.

    Attributes:
        world_from_cam: (cameras,).
        world_from_still: (still targets,); NaN where not located.
        held: still targets that define the world; without any the first camera does.
        clocks: (cameras, 3) corrections as in `MovingScene`.
    """

    world_from_cam: SE3
    world_from_still: SE3
    held: Int[np.ndarray, "a"]
    clocks: Float[np.ndarray, "cameras 3"]


@dataclass(frozen=True, eq=False)
class Problem:
    """The bundle in continuous time, with the names of its unknowns.

    Attributes:
        seen: what was seen.
        located: places in `seen.still` of the targets that are parts of the room, in the order of the parts.
        carried: id of the target on each motion.
        middles_m: (motions) the middle of each in its own frame: the origin of its body.
        parts: (motions) its parts.
        point_idx: (n,) point of the target that each row is of.
        frame_idx: (n,) frame of its camera's video that each row is of; `STEADY` for what does not move.
        scene: start values.
        points: what the bundle uses.
        smoothness: of each motion.
    """

    seen: Seen
    located: Int[np.ndarray, "k"]
    carried: tuple[str, ...]
    middles_m: tuple[Float[np.ndarray, "3"], ...]
    parts: tuple[Int[np.ndarray, "p"], ...]
    point_idx: Int[np.ndarray, "n"]
    frame_idx: Int[np.ndarray, "n"]
    scene: MovingScene
    points: TimedPoints
    smoothness: tuple[Smoothness, ...]

    def again(self, result: MovingResult, apart: Mapping[str, tuple[bool, ...]], max_knots: int) -> Problem:
        """The problem built anew from a solution: knots where frames really were, first values from it."""
        scene, still = result.scene, np.full((len(self.seen.still), 3), np.nan)
        rotation = np.full((len(self.seen.still), 3, 3), np.nan)
        places = scene.body_from_part[np.arange(len(self.located))]
        still[self.located], rotation[self.located] = places.t, places.R
        held = self.located[~scene.part_free[: len(self.located), 0]]
        carried = {}
        for name, points in self.seen.carried.items():
            clock = scene.clocks[points.camera_idx]
            late = clock[:, 0] + clock[:, 1] * (points.given_s - scene.middle_s) + clock[:, 2] * points.xy_px[:, 1]
            carried[name] = points.retimed(points.given_s + late)
        seen = dataclasses.replace(self.seen, carried=carried)
        start = FirstValues(scene.world_from_cam, SE3(rotation, still), held, scene.clocks)
        return build_problem(seen, start, apart, max_knots)

    def panel_of_point(self, name: str) -> Int[np.ndarray, "n"]:
        """Panel of a carried rig that each row is of; -1 for rows of other targets."""
        starts = [start for _, start in self.seen.targets[name].parts]
        own = np.isin(self.points.part_idx, self.parts[self.carried.index(name)])
        return np.where(own, np.searchsorted(starts, self.point_idx, side="right") - 1, -1)

    def jitters(self, result: MovingResult) -> tuple[dict[str, np.ndarray], dict[str, float]]:
        """By camera: of every frame of its video by how much it was late, and the standard deviation of that."""
        late_s = {view: np.zeros(len(s.t_s)) for view, s in zip(self.seen.views, self.seen.sightings, strict=True)}
        sigma_s = dict.fromkeys(self.seen.views, 0.0)
        for k, view in enumerate(self.seen.views):
            rows = np.flatnonzero((self.points.camera_idx == k) & (self.points.frame_idx != STEADY))
            late_s[view][self.frame_idx[rows]] = result.scene.jitter_s[self.points.frame_idx[rows]]
            if len(rows):
                sigma_s[view] = float(result.scene.jitter_sigma_s[self.points.frame_idx[rows[0]]])
        return late_s, sigma_s

    def solve(self) -> MovingResult:
        """All points count while clocks may be far off; then robustly, with what each round tells of the noise.

        The noise is that of every camera's points, of its frames' times, and of the accelerations of what is carried:
        all are found from the data, because neither detectors nor webcams nor hands state theirs.
        """
        points, smoothness = self.points, self.smoothness
        scene = solve_moving(self.scene, points, smoothness, _FIRST_PASS).scene
        for _ in range(_ROUNDS):
            before, jitter_s = smoothness, scene.jitter_sigma_s
            result = solve_moving(scene, points, smoothness, _ROUGH)
            points = dataclasses.replace(points, sigma_px=self.points.sigma_px * self._noise(result))
            smoothness, jitter_sigma_s = learn_freedom(result.scene, points, smoothness)
            scene = dataclasses.replace(result.scene, jitter_sigma_s=jitter_sigma_s)
            settled = all(old.resembles(new) for old, new in zip(before, smoothness, strict=True))
            if settled and np.allclose(jitter_sigma_s, jitter_s, rtol=_SETTLED):
                break
        return solve_moving(scene, points, smoothness, _LAST_PASS)

    def _noise(self, result: MovingResult) -> np.ndarray:
        """By how much each point's noise exceeds what was stated, as its camera's other points of its kind tell."""
        moving = self.scene.part_body[self.points.part_idx] != ROOM
        noise = np.ones(len(self.points))
        whitened = result.residual_px / self.points.sigma_px[:, None]
        for kind in np.unique(np.stack([self.points.camera_idx, moving], axis=-1), axis=0):
            rows = (self.points.camera_idx == kind[0]) & (moving == kind[1])
            if rows.sum() >= _ENOUGH:
                noise[rows] = max(np.sqrt(variance_factor(whitened[rows], result.weight[rows])), _LEAST_NOISE)
        return noise


def build_problem(seen: Seen, start: FirstValues, apart: Mapping[str, tuple[bool, ...]], max_knots: int) -> Problem:
    """Parts, trajectories, clocks and points from first values.

    Args:
        seen: what was seen.
        start: first values of cameras and still targets.
        apart: carried rigs whose panels are parts of their own, and which of these may move.
        max_knots: knots of each trajectory at most.
    """
    located = np.flatnonzero(np.isfinite(start.world_from_still.t[:, 0]))
    place = np.full(len(seen.still) + 1, -1)
    place[located] = np.arange(len(located))
    poses, body = [start.world_from_still[int(k)] for k in located], [ROOM] * len(located)
    free = [int(k) not in start.held for k in located]
    o = seen.still_points[place[seen.still_points.target_idx] >= 0]
    none = np.full(len(o), STEADY)
    tables = [TimedPoints(o.image_idx, place[o.target_idx], o.points_m, o.xy_px, o.sigma_px, np.zeros(len(o)), none)]
    numbers = [np.zeros(len(o), int)]
    motions: list[Trajectory] = []
    names, middles, parts = [], [], []
    for name in seen.carried:
        target = seen.targets[name]
        middle = target.points_m.mean(axis=0)
        motion = _way(seen, name, start.world_from_cam, middle, max_knots)
        if motion is None:
            continue
        panels, part_of_point, local_m = _panels(target, apart=name in apart)
        chosen = seen.carried[name]
        chosen = chosen[motion.near(chosen.t_s, KNOT_S)]
        own = len(poses) + np.arange(len(panels))
        point, sigma = chosen.point_idx, np.hypot(chosen.sigma_px, _SYSTEMATIC_PX)
        where = (chosen.camera_idx, own[part_of_point[point]], local_m[point])
        tables.append(TimedPoints(*where, chosen.xy_px, sigma, chosen.given_s, chosen.frame_idx))
        numbers.append(point)
        poses += [SE3(np.eye(3), -middle) @ pose for pose in panels]
        body += [len(motions)] * len(panels)
        free += apart.get(name, (False,))
        motions.append(motion)
        names.append(name)
        middles.append(middle)
        parts.append(own)
    points = TimedPoints.concatenate(tables)
    frames = points.frame_idx
    points = _with_frames(points, seen)
    scene = _scene(seen, start, SE3.stack(poses), np.array(body, int), np.array(free), tuple(motions), points)
    smoothness = tuple(estimate_smoothness(motion) for motion in motions)
    point = np.concatenate(numbers)
    return Problem(seen, located, tuple(names), tuple(middles), tuple(parts), point, frames, scene, points, smoothness)


def _way(seen: Seen, name: str, world_from_cam: SE3, middle: np.ndarray, max_knots: int) -> Trajectory | None:
    """The start trajectory of a carried target's middle; None if no knot can be placed."""
    points = seen.carried[name]
    instant_s, cluster = clusters(points.t_s)
    knot_s = instant_s[chosen_clusters(points, cluster, max_knots)]
    frozen = seen.frozen(name, knot_s)
    placed, pose = follow(frozen, seen.rays(frozen), world_from_cam, len(knot_s))
    if not len(placed):
        return None
    return Trajectory.through(knot_s[placed], pose @ SE3(np.eye(3), middle), MAX_LINK_S).densified(KNOT_S)


def _with_frames(points: TimedPoints, seen: Seen) -> TimedPoints:
    """Numbers the frames whose times jitter through, over all cameras."""
    jitters = np.array([sighting.jitter_sigma_s > 0 for sighting in seen.sightings])
    rows = jitters[points.camera_idx] & (points.frame_idx != STEADY)
    key = points.camera_idx[rows] * (int(points.frame_idx.max(initial=0)) + 1) + points.frame_idx[rows]
    frame = np.full(len(points), STEADY)
    frame[rows] = np.unique(key, return_inverse=True)[1]
    return dataclasses.replace(points, frame_idx=frame)


def _panels(target: Target, *, apart: bool) -> tuple[tuple[SE3, ...], np.ndarray, np.ndarray]:
    """Parts of a target as poses in it, the part of each of its points, and the points in their parts' frames."""
    if not apart:
        return (SE3.identity(),), np.zeros(target.num_points, int), target.points_m
    part = np.concatenate([np.full(panel.num_points, k) for k, (panel, _) in enumerate(target.parts)])
    return target.placed_panels, part, np.concatenate([panel.points_m for panel, _ in target.parts])


def _scene(
    seen: Seen,
    start: FirstValues,
    poses: SE3,
    body: np.ndarray,
    free: np.ndarray,
    motions: tuple[Trajectory, ...],
    points: TimedPoints,
) -> MovingScene:
    """The start scene; cameras that see nothing move keep their clocks."""
    count = len(seen.views)
    moving = body[points.part_idx] != ROOM
    times = points.t_s[moving]
    sees_motion = np.isin(np.arange(count), points.camera_idx[moving])
    camera_free = np.ones((count, 6), bool)
    if not len(start.held):
        camera_free[0] = False
    expected = np.zeros((count, 3))
    expected[:, 2] = [sighting.row_time_s for sighting in seen.sightings]
    sigma = np.array([[s.clock_sigma_s, s.clock_rate_sigma, s.row_time_sigma] for s in seen.sightings])
    lens_free, lens_prior = _known_lenses(seen)
    jitter = np.zeros(int(points.frame_idx.max(initial=STEADY)) + 1)
    rows = points.frame_idx != STEADY
    jitter[points.frame_idx[rows]] = [seen.sightings[k].jitter_sigma_s for k in points.camera_idx[rows]]
    return MovingScene(
        lenses=seen.lenses,
        world_from_cam=start.world_from_cam,
        clocks=start.clocks,
        body_from_part=poses,
        part_body=body,
        motions=motions,
        middle_s=float((times.min() + times.max()) / 2) if len(times) else 0.0,
        camera_free=camera_free,
        lens_free=lens_free,
        clock_free=(sigma > 0) & sees_motion[:, None],
        part_free=np.repeat(free[:, None], 6, axis=1),
        clock_prior=expected,
        clock_sigma=np.maximum(sigma, 1e-9),
        jitter_s=np.zeros(len(jitter)),
        jitter_sigma_s=jitter,
        lens_prior=lens_prior,
    )


def _known_lenses(seen: Seen) -> tuple[np.ndarray, LensPrior]:
    """Which lens parameters are solved for (cameras, p), and what is known of them."""
    p = num_params(seen.lenses)
    free, mean = np.zeros((len(seen.views), p), bool), np.zeros((len(seen.views), p))
    information = np.zeros((len(seen.views), p, p))
    for k, sighting in enumerate(seen.sightings):
        params = sighting.lens.params
        mean[k, : len(params)] = params
        if sighting.lens_covariance is None:
            continue
        sigma = np.sqrt(np.diag(sighting.lens_covariance))
        known = np.flatnonzero(sigma > 0)
        free[k, known] = True
        correlation = sighting.lens_covariance[np.ix_(known, known)] / np.outer(sigma[known], sigma[known])
        # a combination known better than any number alone: rounding must not make its information negative
        values, vectors = np.linalg.eigh(correlation)
        inverse = (vectors / np.maximum(values, _SHARPEST)) @ vectors.T
        information[k][np.ix_(known, known)] = inverse / np.outer(sigma[known], sigma[known])
    return free, LensPrior(mean, information)
