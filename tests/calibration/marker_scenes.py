"""Rooms with exact truth for the marker map: located ceiling targets, hidden ones under tables, photographs of both."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from synthetic_scenes import DOWN, charuco, look_at, see, table_of

from calibration.photographs import Located, Stills
from capture.markers import MarkerPoints
from capture.targets import Target
from core.cameras import Lens
from core.transforms import SE3, hat

LENS = Lens("radtan", (1600, 1200), (1010.0, 1012.0), (803.0, 596.0), (-0.11, 0.02, 0.0003, -0.0002, 0.0))
CEILING_M = 2.6
TABLES = ((1.1, 0.7, 0.72), (-1.0, 0.9, 0.45))  # middle and height of each table's underside
NOISE_PX = 0.3
TILT_RAD, SHIFT_M = 1e-3, 1e-3  # error that all located targets have in common
OWN_RAD, OWN_M = 1.5e-3, 2e-3  # error that each has by itself


@dataclass(frozen=True, eq=False)
class MarkerScene:
    """A room.

    Attributes:
        targets: all that are expected.
        truth: their true poses.
        located: what room videos say of some of them, with errors drawn from the stated covariance.
        stills: the photographs.
        photos: true poses of the photographs.
    """

    targets: dict[str, Target]
    truth: dict[str, SE3]
    located: Located
    stills: Stills
    photos: tuple[SE3, ...]

    def errors(self, found: Mapping[str, SE3], names: Sequence[str]) -> np.ndarray:
        """True pose minus found (targets, 6)."""
        return np.stack([found[name].local(self.truth[name]) for name in names])


def single(name: str, first: int, side_m: float = 0.2) -> Target:
    """One marker."""
    return Target(name, "marker", "static", marker_m=side_m, dictionary="DICT_5X5_1000", first_marker=first)


def room_targets(rng: np.random.Generator, *, markers: bool = False) -> tuple[dict[str, Target], dict[str, SE3]]:
    """A board on the floor (world), six targets on the ceiling, three boards (or markers) under two tables."""
    targets, truth = {"floor": charuco("floor", "world", SE3(DOWN.R, np.array([-0.3, -0.6, 0.0])))}, {}
    truth["floor"] = SE3(DOWN.R, np.array([-0.3, -0.6, 0.0]))
    overhead = [
        (f"ceiling{k}", (x, y, CEILING_M)) for k, (x, y) in enumerate((x, y) for x in (-1.6, 0, 1.6) for y in (-1, 1))
    ]
    hidden = [
        ("table0", TABLES[0]),
        ("table1", TABLES[1]),
        ("table2", (TABLES[0][0] - 0.45, TABLES[0][1], TABLES[0][2])),
    ]
    for k, (name, place) in enumerate(overhead + hidden):
        turn = SE3.from_rotvec(np.array([0.0, 0.0, rng.uniform(-3, 3)]), np.zeros(3))
        truth[name] = SE3(turn.R, np.array(place) + np.array([*rng.uniform(-0.05, 0.05, 2), 0.0]))
        board = charuco(name, "static", first=40 + 20 * k, square_m=0.09 if k < 6 else 0.05)
        targets[name] = single(name, 40 + 20 * k, 0.3 if k < 6 else 0.2) if markers else board
    return targets, truth


def locate(rng: np.random.Generator, truth: Mapping[str, SE3], names: Sequence[str]) -> Located:
    """Places of some targets with the errors that room videos leave: of the world, and of each target."""
    poses = SE3.stack([truth[name] for name in names])
    Rt = np.swapaxes(poses.R, -1, -2)
    zero = np.zeros_like(Rt)
    tilt = np.concatenate([Rt, -hat(poses.t)], axis=1)  # of a turn of the world about its origin
    shift = np.concatenate([zero, np.broadcast_to(np.eye(3), zero.shape)], axis=1)
    common = np.concatenate([TILT_RAD * tilt, SHIFT_M * shift], axis=-1).reshape(-1, 6)
    own = np.tile(np.repeat([OWN_RAD, OWN_M], 3) ** 2, len(names))
    covariance = common @ common.T + np.diag(own)
    off = np.linalg.cholesky(covariance) @ rng.standard_normal(len(covariance))
    found = poses.retract(off.reshape(-1, 6))
    return Located({name: found[k] for k, name in enumerate(names)}, covariance)


def with_world(located: Located, name: str, pose: SE3) -> Located:
    """The same with a target that defines the world."""
    n = len(located.covariance)
    covariance = np.zeros((n + 6, n + 6))
    covariance[6:, 6:] = located.covariance
    return Located({name: pose, **located.world_from_target}, covariance)


def photograph(
    rng: np.random.Generator,
    targets: Mapping[str, Target],
    truth: Mapping[str, SE3],
    poses: Sequence[SE3],
    *,
    lens: Lens = LENS,
    noise_px: float = NOISE_PX,
    hide: Mapping[int, Sequence[str]] | None = None,
    first: int = 0,
) -> MarkerPoints:
    """What photographs show.

    Args:
        hide: by photograph, targets that something stands before.
        first: number of the first photograph.
    """
    ids = tuple(targets)
    rows = []
    for k, pose in enumerate(poses):
        for index, name in enumerate(ids):
            if name not in (hide or {}).get(k, ()):
                rows.append((first + k, index, *see(pose, lens, targets[name], truth[name], rng, noise_px)))
    table = table_of(ids, [row for row in rows if len(row[2])])
    return dataclasses.replace(table, sigma_px=np.full(len(table), NOISE_PX, np.float32))


def under_tables(rng: np.random.Generator, num: int) -> list[SE3]:
    """Photographs from near the floor beside the tables: undersides and ceiling."""
    poses = []
    for k in range(num):
        x, y, height = TABLES[k % 2]
        bearing = rng.uniform(0, 2 * np.pi)
        place = np.array([x, y, 0.1]) + (0.35 + 0.3 * rng.random()) * np.array([np.cos(bearing), np.sin(bearing), 0.0])
        aim = np.array([x, y, 0.0]) + rng.uniform(-0.1, 0.1, 3) + np.array([0.0, 0.0, 1.2 * height + 0.25])
        poses.append(look_at(place, aim, up=np.array([*rng.standard_normal(2), 0.3])))
    return poses


def make_scene(
    rng: np.random.Generator, *, num_photos: int = 14, markers: bool = False, noise_px: float = NOISE_PX
) -> MarkerScene:
    """Ceiling targets located by room videos, three targets under two tables, and photographs of them."""
    targets, truth = room_targets(rng, markers=markers)
    located = locate(rng, truth, [name for name in truth if name.startswith("ceiling")])
    located = with_world(located, "floor", truth["floor"])
    poses = under_tables(rng, num_photos)
    points = photograph(rng, targets, truth, poses, noise_px=noise_px)
    return MarkerScene(targets, truth, located, Stills(LENS, points, photo_names(num_photos)), tuple(poses))


def photo_names(num: int) -> tuple[str, ...]:
    """Names of photographs."""
    return tuple(f"photo{k}" for k in range(num))


def joined(*tables: MarkerPoints) -> MarkerPoints:
    """Tables of one camera."""
    return MarkerPoints.concatenate(tables, tables[0].target_ids)
