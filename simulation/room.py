"""The furnished room: walls, furniture, boards on floor, ceiling and under the tables, and the carried marker rig."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from capture.targets import Target
from core.arrays import Float
from core.transforms import SE3, so3_exp
from simulation.cameras import ROOM_M
from simulation.fittings import fittings
from simulation.furniture import Furniture
from simulation.render import Quads
from simulation.scenery import BOX_DOWN, BOX_NORMALS, PRINT_MARGIN_M, Scenery, Vector
from simulation.textures import Picture, cloudy, lit, painting, plain, planks, wallpaper

DICTIONARY = "DICT_4X4_250"  # the coarsest cells, readable from the far end of the room
# A marker needs about 18 px, 3 a cell, and 3 px of white around it for its corners to be found without bias: these
# squares give that at 4 m in a room camera, and on the ceiling in a foot camera.
_SQUARE_M, _MARKER_SHARE = 0.36, 0.72
_FLOOR_XY_M = (-1.15, 0.0)  # where neither table nor chair stand
_RIG_SQUARE_M, _RIG_MARKER_M = 0.18, 0.14
_TOP_M, _SEAT_M, _CHAIR_M = 0.03, 0.05, 0.44  # thickness of the table's top and of the seat; side of the seat
_CEILING_X_M, _CEILING_Y_M = (-1.6, 0.0, 1.6), (-1.25, 0.0, 1.25)
_WALL_PX_PER_M = 220
_WALL_CONTRAST = 5.0


@dataclass(frozen=True, eq=False)
class Room:
    """Everything that can be seen but the person.

    Attributes:
        targets: all boards and the rig, as `targets.json` describes them.
        world_from_target: true poses of the boards that do not move.
        pictures: what `Quads.picture_idx` refers to.
        static: walls, furniture and boards.
        rig: the marker rig in its own frame.
        lens_board: the lens board in its own frame.
    """

    targets: Mapping[str, Target]
    world_from_target: Mapping[str, SE3]
    pictures: tuple[Picture, ...]
    static: Quads
    rig: Quads
    lens_board: Quads


def build_room(rng: np.random.Generator, furniture: Furniture, *, boards_overhead: bool = True) -> Room:
    """Furnishes the room.

    Args:
        rng: textures and small misplacements of the boards.
        furniture: where table and chair stand; a board goes under the table.
        boards_overhead: whether boards hang from the ceiling and under the table.
    """
    scenery = Scenery()
    parts = [_shell(scenery, rng), _furniture(scenery, rng, furniture), _decoration(scenery, rng)]
    parts.append(fittings(scenery, rng.spawn(1)[0]))
    placed = _static_targets(rng, furniture)[: None if boards_overhead else 1]
    parts += [scenery.printed(target, pose) for target, pose in placed]
    rig = _rig_target(first_marker=sum(len(target.marker_ids) for target, _ in placed))
    panels = zip(rig.panels, rig.placed_panels, strict=True)
    box = scenery.box(
        (0, 0, 0), (3 * _RIG_SQUARE_M + 2 * PRINT_MARGIN_M - 0.004,) * 3, scenery.add(plain((60, 60, 60)))
    )
    rig_quads = Quads.concatenate([box, *(scenery.printed(panel, pose) for panel, pose in panels)])
    lens = Target("lens_board", "charuco", "lens", (9, 7), 0.06, 0.045, DICTIONARY, rig.marker_ids[-1] + 1)
    lens_quads = scenery.printed(lens, SE3.identity(), px_per_m=1000.0)
    return Room(
        targets={target.id: target for target in [*(target for target, _ in placed), rig, lens]},
        world_from_target={target.id: pose for target, pose in placed},
        pictures=tuple(scenery.pictures),
        static=Quads.concatenate(parts),
        rig=rig_quads,
        lens_board=lens_quads,
    )


def _shell(scenery: Scenery, rng: np.random.Generator) -> Quads:
    """Floor just below z = 0 (the board on it defines zero), ceiling, four walls."""
    x, y, z = ROOM_M
    px = _WALL_PX_PER_M
    floor = scenery.add(planks(rng, (int(x * px), int(y * px)), (88, 122, 160), 30))
    ceiling = scenery.add(cloudy(rng, (int(x * 100), int(y * 100)), (228, 230, 232), 3.0))
    covers = (cloudy, wallpaper, cloudy, cloudy)
    colours = ((176, 190, 196), (190, 186, 172), (170, 188, 178), (186, 182, 190))
    walls = [
        scenery.add(lit(cover(rng, (int(length * px), int(z * px)), colour, _WALL_CONTRAST), 0.82, 1.06))
        for length, colour, cover in zip((x, x, y, y), colours, covers, strict=True)
    ]
    h, v = x / 2, y / 2
    return Quads.concatenate(
        [
            scenery.rectangle((-h, v, -0.001), (x, 0, 0), (0, -y, 0), floor),
            scenery.rectangle((-h, -v, z), (x, 0, 0), (0, y, 0), ceiling),
            scenery.rectangle((-h, v, z), (x, 0, 0), (0, 0, -z), walls[0]),
            scenery.rectangle((h, -v, z), (-x, 0, 0), (0, 0, -z), walls[1]),
            scenery.rectangle((h, v, z), (0, -y, 0), (0, 0, -z), walls[2]),
            scenery.rectangle((-h, -v, z), (0, y, 0), (0, 0, -z), walls[3]),
        ]
    )


def table_box(furniture: Furniture) -> Float[np.ndarray, "2 3"]:
    """Lower and upper corner of the space that the table takes."""
    half = np.array(furniture.table_size) / 2
    centre = np.array(furniture.table_centre)
    return np.array([[*(centre - half), 0.0], [*(centre + half), furniture.table_height]])


def _furniture(scenery: Scenery, rng: np.random.Generator, furniture: Furniture) -> Quads:
    wood = scenery.add(planks(rng, (300, 200), (60, 98, 150), 50))
    dark = scenery.add(planks(rng, (120, 120), (50, 66, 92), 40))
    cloth = scenery.add(cloudy(rng, (150, 150), (140, 96, 70), 14.0))
    low, high = table_box(furniture)
    table = [scenery.box(*_centre_and_size((low[0], low[1], high[2] - _TOP_M), high), wood)]
    table += [scenery.box(*_centre_and_size(*leg), dark) for leg in _legs(low, high, _TOP_M)]
    half, seat_m = _CHAIR_M / 2, furniture.chair_seat_height
    low, high = np.array([-half, -half, 0.0]), np.array([half, half, seat_m])
    chair = [scenery.box(*_centre_and_size((-half, -half, seat_m - _SEAT_M), high), cloth)]
    chair += [scenery.box(*_centre_and_size(*leg), dark) for leg in _legs(low, high, _SEAT_M)]
    # the backrest is open: two posts and a rail
    chair += [
        scenery.box((0.02 - half, y, seat_m + 0.22), (0.04, 0.04, 0.44), dark) for y in (0.02 - half, half - 0.02)
    ]
    chair.append(scenery.box((0.02 - half, 0.0, seat_m + 0.38), (0.03, _CHAIR_M - 0.08, 0.12), wood))
    turn = so3_exp(np.array([0.0, 0.0, furniture.chair_heading]))
    placed = Quads.concatenate(chair).moved(SE3(turn, np.array([*furniture.chair_xy, 0.0])))
    return Quads.concatenate([*table, placed])


def _legs(low: np.ndarray, high: np.ndarray, top_m: float) -> list[tuple[np.ndarray, np.ndarray]]:
    """Boxes of four legs under a top."""
    width = 0.05
    corners = [(x, y) for x in (low[0], high[0] - width) for y in (low[1], high[1] - width)]
    return [(np.array([x, y, low[2]]), np.array([x + width, y + width, high[2] - top_m])) for x, y in corners]


def _centre_and_size(low: Vector, high: Vector) -> tuple[np.ndarray, list]:
    low, high = np.asarray(low, float), np.asarray(high, float)
    return (low + high) / 2, list(high - low)


def _decoration(scenery: Scenery, rng: np.random.Generator) -> Quads:
    """What gives walls a face: paintings, a window, a door, a bookcase, skirting."""
    x, y, _ = ROOM_M / 2
    near = 0.01
    parts = []
    for offset in (-1.5, 0.1, 1.5):
        picture = scenery.add(painting(rng, (220, 165)))
        parts.append(scenery.rectangle((offset - 0.4, y - near, 1.95), (0.8, 0, 0), (0, 0, -0.6), picture))
        picture = scenery.add(painting(rng, (220, 165)))
        parts.append(scenery.rectangle((offset + 0.35, near - y, 1.9), (-0.7, 0, 0), (0, 0, -0.5), picture))
    window = _window_picture()
    parts.append(scenery.rectangle((x - near, 0.8, 2.05), (0, -1.5, 0), (0, 0, -1.1), scenery.add(window), glows=True))
    door = scenery.add(planks(rng, (90, 205), (120, 150, 176), 205))
    parts.append(scenery.rectangle((near - x, -1.5, 2.05), (0, 0.9, 0), (0, 0, -2.05), door))
    parts.append(
        scenery.rectangle((near - x, 0.1, 1.9), (0, 1.2, 0), (0, 0, -0.8), scenery.add(painting(rng, (330, 220))))
    )
    return Quads.concatenate([*parts, _bookcase(scenery, rng)])


def _window_picture() -> Picture:
    """Sky over hills behind four panes."""
    height, width = 220, 300
    image = np.zeros((height, width, 3))
    image[:] = np.linspace((235, 205, 165), (240, 232, 222), height)[:, None]
    hill = 150 + 22 * np.sin(np.arange(width) / 38) + 9 * np.sin(np.arange(width) / 11)
    image[np.arange(height)[:, None] > hill] = (96, 148, 118)
    for centre in (0, width // 2, width - 1):
        image[:, max(centre - 5, 0) : centre + 6] = (238, 240, 242)
    for centre in (0, height // 2, height - 1):
        image[max(centre - 5, 0) : centre + 6] = (238, 240, 242)
    return image.astype(np.uint8)


def _bookcase(scenery: Scenery, rng: np.random.Generator) -> Quads:
    """A low case with coloured book backs, against the wall at -x."""
    low, high = np.array([-2.48, 1.35, 0.0]), np.array([-2.2, 1.95, 0.9])
    case = scenery.box(*_centre_and_size(low, high), scenery.add(planks(rng, (100, 100), (70, 96, 120), 50)))
    backs = np.full((225, 150, 3), (40, 50, 60), np.uint8)
    for shelf in range(3):
        x = 4
        while x < 138:
            width, height = int(rng.integers(5, 12)), int(rng.integers(45, 66))
            bottom = 75 * shelf + 71
            backs[bottom - height : bottom, x : x + width - 1] = rng.integers(40, 220, 3)
            x += width
    front = scenery.rectangle((high[0] + 0.002, low[1], high[2]), (0, 0.6, 0), (0, 0, -0.9), scenery.add(backs))
    return Quads.concatenate([case, front])


def _static_targets(rng: np.random.Generator, furniture: Furniture) -> list[tuple[Target, SE3]]:
    """The floor board, which fixes the world, and boards on the ceiling and under the table, with their poses."""
    marker = _MARKER_SHARE * _SQUARE_M
    down = np.diag([1.0, -1.0, -1.0])  # a board on the floor faces up: z of its frame goes down
    corner = np.array([_FLOOR_XY_M[0] - 2.5 * _SQUARE_M, _FLOOR_XY_M[1] + 2 * _SQUARE_M, 0.0])
    floor_pose = SE3(down, corner)
    floor = Target("floor", "charuco", "world", (5, 4), _SQUARE_M, marker, DICTIONARY, world_from_target=floor_pose)
    placed = [(floor, floor_pose)]
    first = len(floor.marker_ids)
    for i, (x, y) in enumerate((x, y) for y in _CEILING_Y_M for x in _CEILING_X_M):
        target = Target(f"ceiling{i}", "charuco", "static", (3, 3), _SQUARE_M, marker, DICTIONARY, first)
        middle = np.array([x, y, ROOM_M[2] - 0.003]) + np.array([*rng.uniform(-0.03, 0.03, 2), 0.0])
        placed.append((target, _facing_down(middle, rng.uniform(-0.1, 0.1), target)))
        first += len(target.marker_ids)
    low, high = table_box(furniture)
    long, short = max(furniture.table_size), min(furniture.table_size)
    square = float(np.floor(min((long - 0.26) / 7, (short - 0.12) / 4) * 100) / 100)
    under = Target("table", "charuco", "static", (7, 4), square, _MARKER_SHARE * square, DICTIONARY, first)
    turn = 0.0 if furniture.table_size[0] > furniture.table_size[1] else np.pi / 2
    middle = np.array([*((low + high) / 2)[:2], high[2] - _TOP_M - 0.002])
    return [*placed, (under, _facing_down(middle, turn + rng.uniform(-0.02, 0.02), under))]


def _facing_down(middle_m: np.ndarray, turn_rad: float, target: Target) -> SE3:
    """Pose of a board overhead: its z goes up, into the ceiling."""
    c, s = np.cos(turn_rad), np.sin(turn_rad)
    R = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])
    width, height = target.size_m
    return SE3(R, middle_m - R @ np.array([width / 2, height / 2, 0.0]))


def _rig_target(first_marker: int) -> Target:
    """A cube with a board on each face; its frame sits in the middle."""
    half, marker = 1.5 * _RIG_SQUARE_M + PRINT_MARGIN_M, _RIG_MARKER_M
    panels, poses = [], []
    for i, (normal, down) in enumerate(zip(BOX_NORMALS, BOX_DOWN, strict=True)):
        right = np.cross(down, -normal)
        first = first_marker + 4 * i
        panels.append(Target(f"rig/{i}", "charuco", "carried", (3, 3), _RIG_SQUARE_M, marker, DICTIONARY, first))
        pose = SE3(np.stack([right, down, -normal], axis=1), half * normal - 1.5 * _RIG_SQUARE_M * (right + down))
        poses.append(pose)
    return Target("rig", "rig", "carried", panels=tuple(panels), target_from_panel=tuple(poses))
