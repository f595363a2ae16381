"""Planes in a scan, of which one is the floor that a person stands on."""

from __future__ import annotations

import numpy as np

from core.arrays import Float

_PLANES, _TRIALS, _ON_PLANE_M = 4, 400, 0.015
_MOST_POINTS, _LEAST_POINTS = 20_000, 100
_LEAST_AREA_M2 = 1e-3  # of the triangle that a plane is laid through: smaller ones tell no direction


def planes(points_m: Float[np.ndarray, "n 3"], rng: np.random.Generator) -> list[tuple[np.ndarray, float]]:
    """Unit normals and offsets of the planes with the most points, most first (Fischler and Bolles 1981).

    Args:
        points_m: of a scan, evenly thinned.
        rng: draws which planes are tried.
    """
    left, found = points_m[rng.permutation(len(points_m))[:_MOST_POINTS]], []
    for _ in range(_PLANES):
        if len(left) < _LEAST_POINTS or (plane := _most_common(left, rng)) is None:
            break
        on = np.abs(left @ plane[0] - plane[1]) < _ON_PLANE_M
        found.append(_through(left[on]))
        left = left[np.abs(left @ found[-1][0] - found[-1][1]) >= _ON_PLANE_M]
    return found


def _most_common(points: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, float] | None:
    """The plane through three of the points that has the most on it."""
    a, b, c = points[rng.integers(0, len(points), (3, _TRIALS))]
    normals = np.cross(b - a, c - a)
    area = np.linalg.norm(normals, axis=1)
    usable = area > 2 * _LEAST_AREA_M2
    if not usable.any():
        return None
    normals = normals[usable] / area[usable, None]
    offsets = np.einsum("tc,tc->t", normals, a[usable])
    # in parts: 400 planes times 20,000 points would fill 64 MB at once
    counts = [
        np.count_nonzero(np.abs(points @ n.T - h) < _ON_PLANE_M, axis=0)
        for n, h in zip(np.array_split(normals, 8), np.array_split(offsets, 8), strict=True)
    ]
    best = int(np.concatenate(counts).argmax())
    return normals[best], float(offsets[best])


def _through(points: np.ndarray) -> tuple[np.ndarray, float]:
    centre = points.mean(axis=0)
    # the 3 x 3 scatter, not the points themselves: there are thousands
    normal = np.linalg.eigh((points - centre).T @ (points - centre))[1][:, 0]
    return normal, float(normal @ centre)
