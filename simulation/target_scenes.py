"""Rooms of cameras and targets as point tables with exact truth, without pictures: for tests of calibration.

Fixed cameras with clocks of their own see boards that hang in the room and a target that is carried through it. What is
declared of the room (targets, lenses, clocks) may differ from the truth: each way in which it can is a failure scene
(`simulation.failure_scenes`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from calibration.rig_targets import Sighting
from capture.markers import MarkerPoints
from capture.targets import Mounting, Target
from core.arrays import Float
from core.cameras import Camera, Lens, Rig
from core.transforms import SE3

RADTAN = Lens("radtan", (800, 600), (436.0, 437.0), (401.5, 297.0), (-0.12, 0.03, 0.0004, -0.0003, 0.0))
LONGER = Lens("radtan", (800, 600), (479.0, 480.0), (396.0, 304.0), (-0.08, 0.02, 0.0, 0.0, 0.0))
DOWN = SE3.from_rotvec(np.array([np.pi, 0.0, 0.0]), np.zeros(3))  # a print on the floor, read from above: z into it
_GRAZING = 0.2  # cosine of the angle to a print's normal below which no detector reads it
_MARGIN_PX = 4.0

Way = Callable[[Float[np.ndarray, "n"]], SE3]


@dataclass(frozen=True, eq=False)
class TargetScene:
    """A room, what is declared of it, and what its cameras saw.

    Attributes:
        rig: true cameras.
        targets: as declared.
        sightings: what the views saw, with the lenses and frame times as declared.
        world_from_target: true places of the targets that hang still.
    """

    rig: Rig
    targets: Mapping[str, Target]
    sightings: Mapping[str, Sighting]
    world_from_target: Mapping[str, SE3]


@dataclass(frozen=True, eq=False)
class Stage:
    """The truth that a scene is filmed from; what a camera or a target does may change with time.

    Attributes:
        rig: cameras.
        targets: as they really are.
        places: of those that hang still.
        ways: of those that are carried.
        seconds: how long it is filmed.
        rate_hz: frames a second.
        noise_px: of each coordinate in each frame.
        systematic_px: error of a corner that its place in the picture decides: the same in all frames while it stays.
        still_every: frames between those in which still targets are read.
        jitter_s: standard deviation of the true time of each frame around the camera's clock, as webcams have.
    """

    rig: Rig
    targets: Mapping[str, Target]
    places: Mapping[str, SE3]
    ways: Mapping[str, Way]
    seconds: float = 6.0
    rate_hz: float = 20.0
    noise_px: float = 0.2
    systematic_px: float = 0.08
    still_every: int = 5
    jitter_s: float = 0.0


def look_at(centre: np.ndarray, target: np.ndarray, up: np.ndarray | None = None) -> SE3:
    """`world_from_cam` at a place, looking at another."""
    z = (target - centre) / np.linalg.norm(target - centre)
    x = np.cross(z, np.array([0.0, 0.0, 1.0]) if up is None else up)
    x = x / np.linalg.norm(x)
    return SE3(np.stack([x, np.cross(z, x), z], axis=-1), centre)


def charuco(name: str, mounting: Mounting, pose: SE3 | None = None, first: int = 0, square_m: float = 0.1) -> Target:
    """A 6 x 5 board with 20 corners."""
    return Target(
        name, "charuco", mounting, (6, 5), square_m, 0.7 * square_m, "DICT_5X5_1000", first, world_from_target=pose
    )


def carried_rig(square_m: float = 0.06) -> Target:
    """Four boards around a box, so that every side shows one or two."""
    panels, poses = [], []
    for k in range(4):
        turn = SE3.from_rotvec(np.array([0.0, k * np.pi / 2, 0.0]), np.zeros(3))
        poses.append(turn @ SE3(np.eye(3), np.array([-3.0, -2.5, -25 / 6]) * square_m))
        panels.append(charuco(f"rig/{k}", "carried", first=400 + 20 * k, square_m=square_m))
    return Target("rig", "rig", "carried", panels=tuple(panels), target_from_panel=tuple(poses))


def room_cameras(num: int = 4, lens: Lens = RADTAN) -> Rig:
    """Cameras in the corners of a 5 x 4 m room, by turns high and low."""
    cameras = []
    for k in range(num):
        angle = 2 * np.pi * (k + 0.5) / num
        centre = np.array([2.4 * np.cos(angle), 1.9 * np.sin(angle), 2.2 if k % 2 == 0 else 1.1])
        aim = np.array([0.0, 0.0, 0.7 if k % 2 == 0 else 1.5])
        cameras.append(Camera(f"cam{k}", lens, look_at(centre, aim).inverse()))
    return Rig(tuple(cameras))


def room_targets() -> tuple[dict[str, Target], dict[str, SE3]]:
    """A board on the floor (world), two on the ceiling, one under a table (static), and the carried rig."""
    floor = SE3(DOWN.R, np.array([-0.3, 0.25, 0.0]))
    truth = {"floor": floor}
    targets = {"floor": charuco("floor", "world", floor)}
    for k, place in enumerate([(-0.8, -0.3, 2.6), (0.5, 0.2, 2.6)]):
        truth[f"ceiling{k}"] = SE3(np.eye(3), np.array(place))
        targets[f"ceiling{k}"] = charuco(f"ceiling{k}", "static", first=40 + 20 * k)
    truth["table"] = SE3(np.eye(3), np.array([1.2, 0.8, 0.7]))
    targets["table"] = charuco("table", "static", first=100, square_m=0.05)
    return {**targets, "rig": carried_rig()}, truth


def way_through_the_room(t_s: np.ndarray) -> SE3:
    """The carried rig: on an ellipse round the middle, turning and nodding."""
    a = 2 * np.pi * t_s / 6
    place = np.stack([0.9 * np.cos(a), 0.6 * np.sin(a), 1.2 + 0.3 * np.sin(2 * a)], axis=-1)
    upright = SE3.from_rotvec(np.array([np.pi / 2, 0, 0]), np.zeros(3)).R
    turns = np.stack([0.25 * np.sin(1.7 * a), 0.2 * np.cos(a), 1.5 * a], axis=-1)
    return SE3(SE3.from_rotvec(turns, place).R @ upright.T, place)


def see(
    world_from_cam: SE3, lens: Lens, target: Target, world_from_target: SE3, rng: np.random.Generator, noise_px: float
) -> tuple[np.ndarray, np.ndarray]:
    """Visible points of a target: their indices and noisy pixels. A print is seen from its front only."""
    index, xy = [], []
    placed = [SE3.identity()] if target.kind != "rig" else list(target.placed_panels)
    for (part, start), pose in zip(target.parts, placed, strict=True):
        world_from_part = world_from_target @ pose
        camera_in_part = world_from_part.inverse().apply(world_from_cam.t)
        ray = camera_in_part - np.array([*np.array(part.size_m) / 2, 0.0])
        if -ray[2] / np.linalg.norm(ray) < _GRAZING:  # from behind, or at a grazing angle
            continue
        px = lens.project(world_from_cam.inverse().apply(world_from_part.apply(part.points_m)))
        inside = lens.contains(np.nan_to_num(px, nan=-1e6), _MARGIN_PX)
        index.append(start + np.flatnonzero(inside))
        xy.append(px[inside] + noise_px * rng.standard_normal((int(inside.sum()), 2)))
    if not index:
        return np.zeros(0, int), np.zeros((0, 2))
    return np.concatenate(index), np.concatenate(xy)


def table_of(
    target_ids: tuple[str, ...], rows: list[tuple[int, int, np.ndarray, np.ndarray]], sigma_px: float = 0.2
) -> MarkerPoints:
    """A table from (frame, target, points, pixels)."""
    frame = np.concatenate([np.full(len(p), f) for f, _, p, _ in rows] or [np.zeros(0)]).astype(np.int32)
    target = np.concatenate([np.full(len(p), t) for _, t, p, _ in rows] or [np.zeros(0)]).astype(np.int32)
    point = np.concatenate([p for _, _, p, _ in rows] or [np.zeros(0)]).astype(np.int32)
    xy = np.concatenate([x for _, _, _, x in rows] or [np.zeros((0, 2))]).astype(np.float32)
    return MarkerPoints(target_ids, frame, target, point, xy, np.full(len(frame), sigma_px, np.float32))


def film(stage: Stage, camera: Camera, rng: np.random.Generator) -> Sighting:
    """What one camera sees of a stage, at frames of its own phase and rate."""
    num = int(stage.rate_hz * stage.seconds)
    t_s = (rng.uniform(0, 1) + np.arange(num) * (1 + rng.uniform(-8e-5, 8e-5))) / stage.rate_hz
    ids = tuple(stage.targets)
    exposed_s = t_s + stage.jitter_s * rng.standard_normal(num) if stage.jitter_s else t_s
    ways = {name: way(exposed_s) for name, way in stage.ways.items()}
    off = {
        name: stage.systematic_px * rng.standard_normal((stage.targets[name].num_points, 2)) for name in stage.places
    }
    rows = []
    for frame in range(num):
        for index, name in enumerate(ids):
            if name in ways:
                pose = ways[name][frame]
            elif frame % stage.still_every == 0 and name in stage.places:
                pose = stage.places[name]
            else:
                continue
            point, xy = see(camera.world_from_cam, camera.lens, stage.targets[name], pose, rng, stage.noise_px)
            wrong = off[name][point] if name in off else stage.systematic_px * rng.standard_normal(xy.shape)
            rows.append((frame, index, point, xy + wrong))
    return Sighting(camera.lens, table_of(ids, rows, stage.noise_px), t_s)


def film_all(stage: Stage, rng: np.random.Generator) -> TargetScene:
    """What all cameras of a stage see, declared as it is."""
    sightings = {camera.id: film(stage, camera, rng) for camera in stage.rig}
    return TargetScene(stage.rig, dict(stage.targets), sightings, dict(stage.places))


def room_stage(num_cameras: int = 4, seconds: float = 6.0) -> Stage:
    """The usual room: boards on floor and ceiling, and the carried rig."""
    targets, places = room_targets()
    del targets["table"], places["table"]
    return Stage(room_cameras(num_cameras), targets, places, {"rig": way_through_the_room}, seconds)


def joined(before: Sighting, after: Sighting, at_s: float) -> Sighting:
    """One camera's film of two states of the room: the first until a time, then the second."""
    assert before.t_s is not None and after.t_s is not None  # films have times
    early = before.points.where(before.t_s[before.points.frame_idx] < at_s)
    late = after.points.where(before.t_s[after.points.frame_idx] >= at_s)
    points = MarkerPoints.concatenate([early, late], before.points.target_ids)
    return dataclasses.replace(before, points=points)


def mirrored(points: MarkerPoints, targets: Mapping[str, Target], name: str) -> MarkerPoints:
    """The table with one board's corners numbered from the right: what a mirrored print gives."""
    columns, _ = targets[name].corner_grid
    rows = points.target == points.target_ids.index(name)
    swapped = points.point_idx - 2 * (points.point_idx % columns) + columns - 1
    return dataclasses.replace(points, point_idx=np.where(rows, swapped, points.point_idx).astype(np.int32))
