"""A room in which targets move while cameras expose: what is seen, what is solved for, and the derivatives.

Every target is made of parts (its panels, or itself), and every part sits on a body: the room, or something that moves
on a trajectory. A point of a part is seen by a camera at its own time, that of its frame and row on the camera's clock:

    t = t_frame + offset + drift (t_frame - middle) + jitter_frame + row_time y
    r = lens.project(world_from_cam^-1 world_from_body(t) body_from_part X) - px

The jitter is of frames that are stamped when a computer read them, as webcams' are: they were exposed up to a frame of
the sensor earlier, each by another amount.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from calibration.scene import LensPrior
from calibration.trajectory import STATE, Trajectory
from core.arrays import Bool, Float, Int
from core.cameras import Lens
from core.transforms import SE3, hat

ROOM = -1  # the body of parts that do not move
STEADY = -1  # the frame of points whose frame times are exact
CLOCK = 3  # numbers a clock: offset, drift, row time


@dataclass(frozen=True, eq=False)
class TimedPoints:
    """Image points of parts, each at its time, flat.

    Attributes:
        camera_idx: (n,) camera that saw the point.
        part_idx: (n,) part it belongs to.
        points_m: (n, 3) the point in the part's frame, metres.
        xy_px: (n, 2) where it was seen.
        sigma_px: (n,) standard deviation of each coordinate.
        t_s: (n,) session time of its frame's first row, by the clock the bundle starts from.
        frame_idx: (n,) its frame among all frames of all cameras whose times jitter; `STEADY` where they do not.
    """

    camera_idx: Int[np.ndarray, "n"]
    part_idx: Int[np.ndarray, "n"]
    points_m: Float[np.ndarray, "n 3"]
    xy_px: Float[np.ndarray, "n 2"]
    sigma_px: Float[np.ndarray, "n"]
    t_s: Float[np.ndarray, "n"]
    frame_idx: Int[np.ndarray, "n"]

    def __len__(self) -> int:
        return len(self.camera_idx)

    def __getitem__(self, rows: Int[np.ndarray, "m"] | Bool[np.ndarray, "n"]) -> TimedPoints:
        return TimedPoints(*(getattr(self, f.name)[rows] for f in dataclasses.fields(self)))

    @staticmethod
    def concatenate(parts: list[TimedPoints]) -> TimedPoints:
        """One table from several."""
        names = [f.name for f in dataclasses.fields(TimedPoints)]
        return TimedPoints(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


@dataclass(frozen=True, eq=False)
class MovingScene:
    """Unknowns of the bundle, which of them may move, and what is known of them beforehand.

    Attributes:
        lenses: of each camera.
        world_from_cam: (cameras,).
        clocks: (cameras, 3) offset (s), drift (s/s), row time (s), all relative to the frames' given times.
        body_from_part: (parts,).
        part_body: (parts,) position in `motions`, or `ROOM`.
        motions: trajectories of the bodies.
        middle_s: time about which the drift turns.
        camera_free: (cameras, 6) what may move.
        lens_free: (cameras, p) the same for lens parameters, p the longest parameter vector.
        clock_free: (cameras, 3) the same for clocks.
        part_free: (parts, 6) the same for parts.
        clock_prior: (cameras, 3) what the clocks are expected to be.
        clock_sigma: (cameras, 3) standard deviations of that expectation.
        jitter_s: (frames,) by how much each frame whose time jitters was exposed later than its clock says.
        jitter_sigma_s: (frames,) standard deviation of these.
        lens_prior: priors on lenses.
    """

    lenses: tuple[Lens, ...]
    world_from_cam: SE3
    clocks: Float[np.ndarray, "cameras 3"]
    body_from_part: SE3
    part_body: Int[np.ndarray, "parts"]
    motions: tuple[Trajectory, ...]
    middle_s: float
    camera_free: Bool[np.ndarray, "cameras 6"]
    lens_free: Bool[np.ndarray, "cameras p"]
    clock_free: Bool[np.ndarray, "cameras 3"]
    part_free: Bool[np.ndarray, "parts 6"]
    clock_prior: Float[np.ndarray, "cameras 3"]
    clock_sigma: Float[np.ndarray, "cameras 3"]
    jitter_s: Float[np.ndarray, "frames"]
    jitter_sigma_s: Float[np.ndarray, "frames"]
    lens_prior: LensPrior | None = None

    @property
    def dense_sizes(self) -> tuple[int, int, int, int, int]:
        """Numbers of camera, lens, clock, part and jitter unknowns, in the dense block's order; lenses only if free."""
        lens = self.lens_free.size if self.lens_free.any() else 0
        cameras = len(self.lenses)
        return 6 * cameras, lens, CLOCK * cameras, 6 * len(self.part_body), len(self.jitter_s)

    @property
    def dense_free(self) -> Bool[np.ndarray, "d"]:
        """Which unknowns of the dense block may move."""
        lens = self.lens_free if self.lens_free.any() else np.zeros((0,), bool)
        flags = (self.camera_free, lens, self.clock_free, self.part_free, np.ones(len(self.jitter_s), bool))
        return np.concatenate([flag.ravel() for flag in flags])

    @property
    def first_knots(self) -> list[int]:
        """Position of each motion's first knot among all knots, and the number of all."""
        return [int(k) for k in np.cumsum([0, *(len(motion) for motion in self.motions)])]

    def moved(self, dense: Float[np.ndarray, "d"], knots: Float[np.ndarray, "k 12"]) -> MovingScene | None:
        """The scene after a step; None if a focal length would turn negative."""
        camera, lens, clock, part, jitter = np.split(dense, np.cumsum(self.dense_sizes)[:-1])
        lenses = list(self.lenses)
        for k, row in enumerate(lens.reshape(self.lens_free.shape) if len(lens) else ()):
            params = self.lenses[k].params + row[: len(self.lenses[k].params)]
            if params[:2].min() <= 0:
                return None
            lenses[k] = self.lenses[k].with_params(params)
        edges = self.first_knots
        motions = [m.retract(knots[a:b]) for m, a, b in zip(self.motions, edges, edges[1:], strict=False)]
        return dataclasses.replace(
            self,
            lenses=tuple(lenses),
            world_from_cam=self.world_from_cam.retract(camera.reshape(-1, 6)),
            clocks=self.clocks + clock.reshape(-1, CLOCK),
            body_from_part=self.body_from_part.retract(part.reshape(-1, 6)),
            jitter_s=self.jitter_s + jitter,
            motions=tuple(motions),
        )

    def times(self, points: TimedPoints) -> Float[np.ndarray, "n"]:
        """When each point was exposed, session time."""
        by_clock = (self.clocks[points.camera_idx] * self.clock_arm(points)).sum(axis=-1)
        return points.t_s + by_clock + np.append(self.jitter_s, 0.0)[points.frame_idx]

    def clock_arm(self, points: TimedPoints) -> Float[np.ndarray, "n 3"]:
        """Derivative of the exposure's time by the camera's clock."""
        return np.stack([np.ones(len(points)), points.t_s - self.middle_s, points.xy_px[:, 1]], axis=-1)


@dataclass(frozen=True, eq=False)
class Residuals:
    """Residuals of points and their derivatives.

    Attributes:
        px: (n, 2) predicted minus seen; NaN where the lens cannot see the point.
        by_dense: (n, 2, 15 + p) by the camera, its lens (if free), its clock, the part and (if any) the frame's jitter.
        by_knots: (n, 2, 24) by the two knots around the point's time; zero for what does not move.
        knot: (n,) the first of these among all knots.
        speed_px_s: (n, 2) how fast the point moves in the picture.
    """

    px: Float[np.ndarray, "n 2"]
    by_dense: Float[np.ndarray, "n 2 w"]
    by_knots: Float[np.ndarray, "n 2 24"]
    knot: Int[np.ndarray, "n"]
    speed_px_s: Float[np.ndarray, "n 2"]


def _placed(scene: MovingScene, points: TimedPoints, jacobians: bool) -> tuple[SE3, np.ndarray, np.ndarray, np.ndarray]:
    """Body poses (n,) of every point's time, their velocities, derivatives by knots, and the knots."""
    n = len(points)
    pose, velocity, knot = SE3.identity(n), np.zeros((n, 6)), np.zeros(n, int)
    by_knots = np.zeros((n, 6, 2 * STATE if jacobians else 0))
    body, times = scene.part_body[points.part_idx], scene.times(points)
    for m, motion in enumerate(scene.motions):
        rows = np.flatnonzero(body == m)
        moments, place = np.unique(times[rows], return_inverse=True)  # without rolling shutter one a frame
        sample = motion.sample(moments, jacobians=jacobians)
        pose.R[rows], pose.t[rows] = sample.world_from_body.R[place], sample.world_from_body.t[place]
        velocity[rows], knot[rows] = sample.velocity[place], sample.knot[place] + scene.first_knots[m]
        by_knots[rows] = sample.by_knots[place]
    return pose, velocity, by_knots, knot


def residuals(scene: MovingScene, points: TimedPoints) -> Float[np.ndarray, "n 2"]:
    """Predicted minus seen, pixels; NaN where the lens cannot see the point."""
    pose, _, _, _ = _placed(scene, points, False)
    in_body = scene.body_from_part[points.part_idx].apply(points.points_m)
    camera = scene.world_from_cam[points.camera_idx]
    in_cam = np.einsum("nji,nj->ni", camera.R, pose.apply(in_body) - camera.t)
    px = np.full((len(points), 2), np.nan)
    for k, lens in enumerate(scene.lenses):
        rows = np.flatnonzero(points.camera_idx == k)
        px[rows] = lens.project(in_cam[rows])
    return px - points.xy_px


def linearised(scene: MovingScene, points: TimedPoints) -> Residuals:
    """Residuals with all derivatives; those of `calibration.scene.reproject`, with the body's motion in between."""
    pose, velocity, body_by_knots, knot = _placed(scene, points, True)
    part = scene.body_from_part[points.part_idx]
    in_body = part.apply(points.points_m)
    camera = scene.world_from_cam[points.camera_idx]
    in_cam = np.einsum("nji,nj->ni", camera.R, pose.apply(in_body) - camera.t)
    n, p = len(points), scene.lens_free.shape[1]
    px, by_point, by_lens = np.full((n, 2), np.nan), np.zeros((n, 2, 3)), np.zeros((n, 2, p))
    for k, lens in enumerate(scene.lenses):
        rows = np.flatnonzero(points.camera_idx == k)
        px[rows], by_point[rows], by_lens[rows, :, : len(lens.params)] = lens.project_with_jacobian(in_cam[rows])
    by_world = by_point @ np.swapaxes(camera.R, -1, -2)
    by_body = by_world @ pose.R
    by_camera = np.concatenate([by_point @ hat(in_cam), -by_world], axis=-1)
    by_part = np.concatenate([-by_body @ part.R @ hat(points.points_m), by_body], axis=-1)
    by_pose = np.concatenate([-by_body @ hat(in_body), by_world], axis=-1)
    speed = (by_pose @ velocity[..., None])[..., 0]
    by_clock = speed[..., None] * scene.clock_arm(points)[:, None]
    dense = [by_camera, by_lens, by_clock, by_part] if scene.lens_free.any() else [by_camera, by_clock, by_part]
    if len(scene.jitter_s):
        dense.append(np.where((points.frame_idx == STEADY)[:, None], 0.0, speed)[..., None])
    return Residuals(px - points.xy_px, np.concatenate(dense, axis=-1), by_pose @ body_by_knots, knot, speed)


def from_behind(scene: MovingScene, points: TimedPoints) -> Bool[np.ndarray, "n"]:
    """Whether each point's camera is on the far side of its part's plane z = 0, into which a print's z points."""
    pose, _, _, _ = _placed(scene, points, False)
    part = pose @ scene.body_from_part[points.part_idx]
    sight = scene.world_from_cam.t[points.camera_idx] - part.t
    return np.asarray(np.einsum("ni,ni->n", part.R[:, :, 2], sight) > 0)


def dense_columns(
    scene: MovingScene, camera: Int[np.ndarray, "g"], part: Int[np.ndarray, "g"], frame: Int[np.ndarray, "g"]
) -> Int[np.ndarray, "g w"]:
    """Places in the dense block of what points depend on, in the order of `Residuals.by_dense`."""
    p = scene.lens_free.shape[1] if scene.lens_free.any() else 0
    widths, indices = (
        (6, p, CLOCK, 6, min(len(scene.jitter_s), 1)),
        (camera, camera, camera, part, np.maximum(frame, 0)),
    )
    starts = np.cumsum([0, *scene.dense_sizes[:-1]])
    blocks = zip(starts, widths, indices, strict=True)
    return np.concatenate([start + size * index[:, None] + np.arange(size) for start, size, index in blocks], axis=-1)
