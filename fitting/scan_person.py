"""The person in a scan: the floor that they stand on, and the points that are theirs.

The floor is the plane on which somebody stands: of the planes with the most points, the first that has something of a
person's height and width right on it, and nothing below. Its normal is up. A wall has nobody standing on it, and a
plane through the chest has points on both sides. Without a floor the scan's up axis has to be given. Of two who stand
there neither is preferred: which of them is meant nobody can know.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from core.arrays import Float, Int
from core.errors import InputError
from fitting.scan_floor import planes

Up = Literal["floor", "x", "-x", "y", "-y", "z", "-z"]
_SPACING_M = 0.015  # of the points that are kept: the triangles of SMPL's mesh are about as large
_FLOOR_M = 0.025  # points so near the floor are the floor's: noise, and views that do not quite agree
_ON_FLOOR_M = 0.3  # a person begins below this, even if dark shoes are missing
_UNDER_M, _UNDER = 0.1, 0.1  # no more than this share of a scan is so far below a floor: reflections
_PERSON_M = (0.9, 2.4)  # height, of children too; the gates come after the fit
_REACH_M = 1.2  # from the middle to the tip of a spread arm
_LEAST_POINTS = 200
_LEAST_SHARE = 0.2  # of the points of the one with the most: less is a lamp or a pole
# Cells that touch at a face, an edge or a corner hang together. Dark trousers leave holes, which the large cells
# bridge, upwards more so; the small ones part a person from a wall close by.
_CELLS_M, _TOUCHING, _TALL_CELL = (0.12, 0.04), 1.8, 4.0
_MAX_TILT = np.cos(np.deg2rad(15.0))  # of a floor from the axis that is said to be up


@dataclass(frozen=True, eq=False)
class PersonCloud:
    """A person's points.

    Attributes:
        points_m: z up, the floor at 0, the person near the origin.
        normals: in the same frame, NaN for points without; None if there are none.
        floor_seen: whether the floor was in the scan; otherwise the lowest points are taken to be on it.
    """

    points_m: Float[np.ndarray, "n 3"]
    normals: Float[np.ndarray, "n 3"] | None
    floor_seen: bool


def find_person(
    name: str,
    points_m: Float[np.ndarray, "n 3"],
    normals: Float[np.ndarray, "n 3"] | None,
    up: Up,
    rng: np.random.Generator,
) -> PersonCloud:
    """Turns a scan upright and cuts out the person.

    Args:
        name: of the scan, for errors.
        points_m: all of it, in any frame.
        normals: of its points.
        up: the axis of the scan that points up; "floor" finds it from the floor.
        rng: draws which points are kept and which planes are tried.

    Raises:
        InputError: if there is no floor with a person on it, and no axis is given or nobody is there either; if several
            people stand there.
    """
    kept = thinned(points_m, rng)
    points, normals = points_m[kept], None if normals is None else normals[kept]
    wanted = None if up == "floor" else (-1.0 if up[0] == "-" else 1.0) * np.eye(3)["xyz".index(up[-1])]
    for normal, height in planes(points, rng):
        for n, h in ((normal, height), (-normal, -height)):
            if wanted is None or n @ wanted >= _MAX_TILT:
                people = _standing(points, points @ n - h, n)
                if people:
                    return _upright(points, normals, _only(name, points, people), n, h, True)
    if wanted is None:
        action = "check --scan-unit; scan the floor around the feet too, or give the scan's up axis, as --scan-up z"
        raise InputError(name, "there is no floor with a person standing on it", action)
    people = _standing(points, points @ wanted, wanted, floor_seen=False)
    if not people:
        problem = f"nothing in it is as tall as a person along {up} ({_PERSON_M[0]} to {_PERSON_M[1]} m)"
        raise InputError(name, problem, "check --scan-up and --scan-unit, and that the person is apart from all else")
    who = _only(name, points, people)
    return _upright(points, normals, who, wanted, float(np.quantile(points[who] @ wanted, 0.002)), False)


def thinned(points_m: Float[np.ndarray, "n 3"], rng: np.random.Generator) -> Int[np.ndarray, "m"]:
    """One point, drawn at random, of every cube of 15 mm; a mean would lie inside of whatever is round."""
    order = rng.permutation(len(points_m))
    _, first = np.unique(np.floor(points_m[order] / _SPACING_M).astype(np.int64), axis=0, return_index=True)
    return np.sort(order[first])


def _standing(
    points: np.ndarray, height_m: np.ndarray, up: np.ndarray, floor_seen: bool = True
) -> list[Int[np.ndarray, "n"]]:
    """The points of everybody who stands on a plane, given heights above it; of who stands anywhere, without one."""
    above = np.arange(len(points))
    if floor_seen:
        if (height_m < -_UNDER_M).mean() > _UNDER:
            return []
        above = np.flatnonzero((height_m > _FLOOR_M) & (height_m < _PERSON_M[1] + 0.3))
    across = points - height_m[:, None] * up
    lower = across + height_m[:, None] / _TALL_CELL * up
    for cell_m in _CELLS_M if len(above) > _LEAST_POINTS else ():
        label = _connected(lower[above], cell_m)
        sizes = np.bincount(label)
        large = np.flatnonzero(sizes > max(_LEAST_POINTS, _LEAST_SHARE * sizes.max()))
        candidates = [above[label == k] for k in large]
        people = [who for who in candidates if _is_person(height_m[who], across[who], floor_seen)]
        if people:
            return people
    return []


def _is_person(height_m: np.ndarray, across: np.ndarray, floor_seen: bool) -> bool:
    """Whether something begins at the floor and is as tall and as wide as a person."""
    low, high = np.quantile(height_m, [0.002, 0.998])
    reach = np.quantile(np.linalg.norm(across - np.median(across, axis=0), axis=1), 0.998)
    tall = high if floor_seen else high - low
    return bool((low < _ON_FLOOR_M or not floor_seen) and _PERSON_M[0] <= tall <= _PERSON_M[1] and reach < _REACH_M)


def _only(name: str, points: np.ndarray, people: list[np.ndarray]) -> Int[np.ndarray, "n"]:
    if len(people) > 1:
        places = "; ".join(str(np.median(points[who], axis=0).round(2).tolist()) for who in people)
        problem = f"{len(people)} as tall as a person stand in it, around {places} m"
        raise InputError(name, problem, "cut the scan to the one that is meant")
    return people[0]


def _connected(points: np.ndarray, cell_m: float) -> Int[np.ndarray, "n"]:
    """Labels of points that hang together over gaps of less than a cell."""
    cells, cell = np.unique(np.floor(points / cell_m).astype(np.int64), axis=0, return_inverse=True)
    pairs = KDTree(cells).query_pairs(_TOUCHING, output_type="ndarray")
    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(cells), len(cells)))
    return connected_components(graph, directed=False)[1][cell.ravel()]


def _upright(
    points: np.ndarray, normals: np.ndarray | None, who: np.ndarray, up: np.ndarray, height: float, floor_seen: bool
) -> PersonCloud:
    """Turns up to z and puts the person over the origin."""
    across = np.cross(up, np.eye(3)[np.abs(up).argmin()])
    across /= np.linalg.norm(across)
    R = np.stack([across, np.cross(up, across), up])
    turned = points[who] @ R.T
    middle = np.median(turned[:, :2], axis=0)
    return PersonCloud(
        turned - np.array([*middle, height]), None if normals is None else normals[who] @ R.T, floor_seen
    )
