"""Synthetic rooms with exact truth for the calibration tests: cameras, targets, what they see, and unlocked clocks."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from calibration.resection import PointRays
from calibration.rig_targets import Sighting
from capture.markers import MarkerPoints
from capture.targets import Target
from core.cameras import Camera, Lens, Rig
from core.transforms import SE3

RADTAN = Lens("radtan", (800, 600), (436.0, 437.0), (401.5, 297.0), (-0.12, 0.03, 0.0004, -0.0003, 0.0))
FISHEYE = Lens("fisheye", (512, 512), (195.0, 195.0), (256.5, 254.0), (-0.02, 0.004, -0.001, 0.0))
DOWN = SE3.from_rotvec(np.array([np.pi, 0.0, 0.0]), np.zeros(3))  # a print on the floor, read from above: z into it


def look_at(centre: np.ndarray, target: np.ndarray, up: np.ndarray | None = None) -> SE3:
    """`world_from_cam` at a place, looking at another."""
    z = (target - centre) / np.linalg.norm(target - centre)
    x = np.cross(z, np.array([0.0, 0.0, 1.0]) if up is None else up)
    x = x / np.linalg.norm(x)
    return SE3(np.stack([x, np.cross(z, x), z], axis=-1), centre)


def charuco(name: str, mounting: str, pose: SE3 | None = None, first: int = 0, square_m: float = 0.1) -> Target:
    """A 6 x 5 board with 20 corners."""
    return Target(
        name, "charuco", mounting, (6, 5), square_m, 0.7 * square_m, "DICT_5X5_1000", first, world_from_target=pose
    )


def carried_rig() -> Target:
    """Four boards around a box, so that every side shows one or two."""
    panels, poses = [], []
    for k in range(4):
        turn = SE3.from_rotvec(np.array([0.0, k * np.pi / 2, 0.0]), np.zeros(3))
        poses.append(turn @ SE3(np.eye(3), np.array([-0.18, -0.15, -0.25])))
        panels.append(charuco(f"rig/{k}", "carried", first=400 + 20 * k, square_m=0.06))
    return Target("rig", "rig", "carried", panels=tuple(panels), target_from_panel=tuple(poses))


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
    placed = [SE3.identity()] if target.kind != "rig" else list(target.target_from_panel)
    for (part, start), pose in zip(target.parts, placed, strict=True):
        world_from_part = world_from_target @ pose
        camera_in_part = world_from_part.inverse().apply(world_from_cam.t)
        middle = np.array([*np.array(part.size_m) / 2, 0.0])
        ray = camera_in_part - middle
        if -ray[2] / np.linalg.norm(ray) < 0.2:  # from behind, or at a grazing angle
            continue
        px = lens.project(world_from_cam.inverse().apply(world_from_part.apply(part.points_m)))
        inside = lens.contains(np.nan_to_num(px, nan=-1e6), 4.0)
        index.append(start + np.flatnonzero(inside))
        xy.append(px[inside] + noise_px * rng.standard_normal((int(inside.sum()), 2)))
    if not index:
        return np.zeros(0, int), np.zeros((0, 2))
    return np.concatenate(index), np.concatenate(xy)


def table_of(target_ids: tuple[str, ...], rows: list[tuple[int, int, np.ndarray, np.ndarray]]) -> MarkerPoints:
    """A table from (frame, target, points, pixels)."""
    frame = np.concatenate([np.full(len(p), f) for f, _, p, _ in rows] or [np.zeros(0)]).astype(np.int32)
    target = np.concatenate([np.full(len(p), t) for _, t, p, _ in rows] or [np.zeros(0)]).astype(np.int32)
    point = np.concatenate([p for _, _, p, _ in rows] or [np.zeros(0)]).astype(np.int32)
    xy = np.concatenate([x for _, _, _, x in rows] or [np.zeros((0, 2))]).astype(np.float32)
    return MarkerPoints(target_ids, frame, target, point, xy, np.full(len(frame), 0.2, np.float32))


def make_room(
    rng: np.random.Generator, *, num_cameras: int = 4, noise_px: float = 0.2, num_photos: int = 12, seconds: float = 4.0
) -> Room:
    """A room whose cameras run at 20 frames a second with phases and rates of their own."""
    rig = room_cameras(num_cameras)
    targets, truth = room_targets()
    ids = tuple(targets)
    sightings = {}
    for camera in rig:
        t_s = rng.uniform(0, 1 / 20) + np.arange(int(20 * seconds)) / 20 * (1 + rng.uniform(-8e-5, 8e-5))
        carried = way_through_the_room(t_s)
        rows = []
        for frame in range(len(t_s)):
            for index, name in enumerate(ids):
                if name != "rig" and frame % 15:
                    continue
                pose = carried[frame] if name == "rig" else truth[name]
                seen = see(camera.world_from_cam, camera.lens, targets[name], pose, rng, noise_px)
                rows.append((frame, index, *seen))
        hidden = [row for row in rows if ids[row[1]] != "table"]  # the table hides its underside from room cameras
        sightings[camera.id] = Sighting(camera.lens, table_of(ids, hidden), t_s)
    if num_photos:
        sightings["photos"] = Sighting(RADTAN, _photographs(rng, targets, truth, noise_px, num_photos), None)
    return Room(rig, targets, truth, sightings)


def _photographs(
    rng: np.random.Generator, targets: dict[str, Target], truth: dict[str, SE3], noise_px: float, num: int
) -> MarkerPoints:
    """Photographs from near the floor, half of them of the table's underside with a ceiling board behind."""
    rows = []
    ids = tuple(targets)
    for photo in range(num):
        centre = np.array([rng.uniform(-0.6, 0.6), rng.uniform(-0.6, 0.6), rng.uniform(0.15, 0.4)])
        aim = np.array([0.9, 0.7, 1.1]) if photo % 2 == 0 else np.array([0.2, 0.2, 2.6])
        pose = look_at(centre, aim + 0.1 * rng.standard_normal(3))
        for index, name in enumerate(ids):
            if name != "rig":
                rows.append((photo, index, *see(pose, RADTAN, targets[name], truth[name], rng, noise_px)))
    return table_of(ids, rows)


def mirrored(points: MarkerPoints, targets: dict[str, Target], name: str) -> MarkerPoints:
    """The table with one board's corners numbered from the right: what a mirrored print gives."""
    columns, _ = targets[name].corner_grid
    rows = points.target == points.target_ids.index(name)
    swapped = points.point_idx - 2 * (points.point_idx % columns) + columns - 1
    return dataclasses.replace(points, point_idx=np.where(rows, swapped, points.point_idx).astype(np.int32))


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
