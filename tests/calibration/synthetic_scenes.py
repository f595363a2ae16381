"""Synthetic rooms with exact truth for the calibration tests: cameras, targets, what they see, and unlocked clocks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calibration.resection import PointRays
from calibration.rig_targets import Sighting
from capture.targets import Target
from core.cameras import Lens, Rig
from core.transforms import SE3
from simulation.target_scenes import (
    DOWN,
    RADTAN,
    carried_rig,
    charuco,
    look_at,
    mirrored,
    room_cameras,
    room_targets,
    see,
    table_of,
    way_through_the_room,
)

__all__ = [
    "DOWN",
    "FISHEYE",
    "RADTAN",
    "Room",
    "carried_rig",
    "charuco",
    "foot_points",
    "foot_way",
    "look_at",
    "make_room",
    "mirrored",
    "room_cameras",
    "room_targets",
    "see",
    "table_of",
    "way_through_the_room",
]

FISHEYE = Lens("fisheye", (512, 512), (195.0, 195.0), (256.5, 254.0), (-0.02, 0.004, -0.001, 0.0))


@dataclass(frozen=True, eq=False)
class Room:
    """A room with its truth.

    Attributes:
        rig: true room cameras.
        targets: all targets; only the world's carries its pose.
        world_from_target: true poses of those that do not move.
        sightings: what the views saw.
    """

    rig: Rig
    targets: dict[str, Target]
    world_from_target: dict[str, SE3]
    sightings: dict[str, Sighting]


def make_room(
    rng: np.random.Generator,
    *,
    num_cameras: int = 4,
    noise_px: float = 0.2,
    seconds: float = 4.0,
    frame_rate: float = 20.0,
    row_time_s: float = 0.0,
    late_s: np.ndarray | None = None,
    way: Callable[[np.ndarray], SE3] = way_through_the_room,
) -> Room:
    """A room whose cameras run with phases and rates of their own; a rolling shutter bends what moves.

    Args:
        rng: of phases, rates and noise.
        num_cameras: number of cameras.
        noise_px: noise of a coordinate.
        seconds: how long the rig is carried.
        frame_rate: of every camera.
        row_time_s: readout time of a row.
        late_s: (cameras,) by how much the times that are stated of a camera's frames are late.
        way: of the carried rig.
    """
    rig = room_cameras(num_cameras)
    targets, truth = room_targets()
    ids = tuple(targets)
    sightings = {}
    for k, camera in enumerate(rig):
        period = 1 / frame_rate
        t_s = rng.uniform(0, period) + np.arange(int(frame_rate * seconds)) * period * (1 + rng.uniform(-8e-5, 8e-5))
        rows = []
        for frame, t in enumerate(t_s):
            for index, name in enumerate(ids):
                if name == "table" or (name != "rig" and frame % 15):  # the table hides its underside from room cameras
                    continue
                pose = way(np.array([t]))[0] if name == "rig" else truth[name]
                point, xy = see(camera.world_from_cam, camera.lens, targets[name], pose, rng, noise_px)
                if name == "rig" and row_time_s > 0 and len(point):
                    X, late = targets[name].points_m[point], way(t + row_time_s * xy[:, 1])
                    xy = xy + camera.project(late.apply(X)) - camera.project(pose.apply(X))
                rows.append((frame, index, point, xy))
        stated = t_s + (0.0 if late_s is None else late_s[k])
        sightings[camera.id] = Sighting(camera.lens, table_of(ids, rows), stated, row_time_s=row_time_s)
    return Room(rig, targets, truth, sightings)


def foot_way(t_s: np.ndarray) -> SE3:
    """A foot camera looking up while its foot steps about: swings of 0.3 s, stances of 0.3 s."""
    phase = (t_s / 0.6) % 1.0
    steps = np.floor(t_s / 0.6)
    s = np.clip((phase - 0.5) / 0.5, 0, 1)
    swing = s**3 * (10 - 15 * s + 6 * s * s)  # least jerk
    along = 0.5 * np.sin(0.5 * (steps + swing))
    lift = 0.12 * np.sin(np.pi * swing) ** 2
    place = np.stack([along, 0.2 * np.cos(0.4 * (steps + swing)), 0.1 + lift], axis=-1)
    turns = np.stack(
        [0.5 * np.sin(np.pi * swing) ** 2, 0.15 * np.sin(2 * np.pi * swing), 0.3 * (steps + swing)], axis=-1
    )
    upward = SE3.from_rotvec(np.array([0.1, 0.0, 0.0]), np.zeros(3)).R  # camera z up, tilted a little
    return SE3(SE3.from_rotvec(turns, place).R @ upward, place)


def foot_points(
    rng: np.random.Generator,
    t_s: np.ndarray,
    *,
    row_time_s: float,
    noise_px: float = 0.2,
    lens: Lens = FISHEYE,
    blind: np.ndarray | None = None,
) -> PointRays:
    """What a rolling-shutter foot camera sees of 12 boards on a ceiling at 2.6 m and two under a table at 0.7 m."""
    boards = [SE3(np.eye(3), np.array([x, y, 2.6])) for x in (-1.8, -0.6, 0.6, 1.4) for y in (-1.2, 0.0, 1.0)]
    boards += [SE3(np.eye(3), np.array([x, 0.5, 0.7])) for x in (0.3, 0.8)]
    board = charuco("b", "static", square_m=0.08).points_m
    world = np.concatenate([pose.apply(board) for pose in boards])
    time = np.repeat(t_s[:, None], len(world), axis=1)
    late = np.zeros_like(time)
    for _ in range(5 if row_time_s > 0 else 1):  # the row that exposes a point depends on where it is seen
        way = foot_way((time + late).ravel())
        at = np.swapaxes(way.R, -1, -2) @ (np.tile(world, (len(t_s), 1)) - way.t)[..., None]
        px = lens.project(at[..., 0]).reshape(len(t_s), len(world), 2)
        late = np.nan_to_num(px[..., 1], nan=lens.size_px[1] / 2) * row_time_s
    seen = lens.contains(np.nan_to_num(px, nan=-1e6), 4.0)
    if blind is not None:
        seen &= ~blind[:, None]
    frame, point = np.nonzero(seen)
    xy = px[frame, point] + noise_px * rng.standard_normal((len(frame), 2))
    return PointRays(frame, world[point], xy, np.full(len(xy), noise_px))
