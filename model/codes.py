"""Codes of Action Atoms: the centroids of k-means (section 3.2 of "Action Motifs", arXiv 2604.28173)."""

from __future__ import annotations

import numpy as np

from core.arrays import Float, Int

_MAX_PAIRS = 4_000_000  # distances held in memory at once


def kmeans(
    points_ND: Float[np.ndarray, "N D"], num_codes: int, rng: np.random.Generator, iterations: int = 50
) -> Float[np.ndarray, "K D"]:
    """Centroids by Lloyd's steps from a k-means++ start (Arthur and Vassilvitskii 2007).

    A code that loses all its points moves to the point that is served worst. Fewer distinct points than codes give as
    many codes as there are distinct points.
    """
    points = np.unique(points_ND, axis=0) if len(points_ND) <= 4 * num_codes else points_ND
    centroids = _spread_start(points_ND, min(num_codes, len(points)), rng)
    previous: np.ndarray | None = None
    for _ in range(iterations):
        code, distance = nearest_code(points_ND, centroids)
        if previous is not None and np.array_equal(code, previous):
            break
        previous = code
        order = np.argsort(code, kind="stable")
        count = np.bincount(code, minlength=len(centroids))
        filled = np.flatnonzero(count)
        first = (np.cumsum(count) - count)[filled]
        centroids = centroids.copy()
        sums = np.add.reduceat(points_ND[order], first, axis=0, dtype=np.float64)
        centroids[filled] = sums / count[filled, None]
        empty = np.flatnonzero(count == 0)
        centroids[empty] = points_ND[np.argsort(-distance, kind="stable")[: len(empty)]]
    return centroids


def nearest_code(
    points_ND: Float[np.ndarray, "N D"], centroids_KD: Float[np.ndarray, "K D"]
) -> tuple[Int[np.ndarray, "N"], Float[np.ndarray, "N"]]:
    """Nearest centroid of each point and the squared distance to it."""
    code = np.empty(len(points_ND), dtype=np.int64)
    distance = np.empty(len(points_ND), dtype=points_ND.dtype)
    norms_K = np.square(centroids_KD).sum(axis=1)
    rows = max(1, _MAX_PAIRS // len(centroids_KD))
    for i in range(0, len(points_ND), rows):
        part = points_ND[i : i + rows]
        score = norms_K - 2 * part @ centroids_KD.T
        nearest = code[i : i + rows] = score.argmin(axis=1)
        distance[i : i + rows] = score[np.arange(len(part)), nearest] + np.einsum("nd,nd->n", part, part)
    return code, np.maximum(distance, 0)


def _spread_start(points_ND: np.ndarray, num_codes: int, rng: np.random.Generator) -> np.ndarray:
    """Greedy k-means++: of a few points drawn in proportion to their squared distance, the one that helps most."""
    tries = 2 + int(np.log(num_codes))  # the number of Arthur and Vassilvitskii's own code
    squares = np.square(points_ND).sum(axis=1)
    chosen = [int(rng.integers(len(points_ND)))]
    distance = _squared_distance(points_ND, squares, chosen)[0]
    while len(chosen) < num_codes and distance.sum() > 0:
        mass = np.cumsum(distance)
        drawn = np.minimum(np.searchsorted(mass, rng.random(tries) * mass[-1], side="right"), len(points_ND) - 1)
        nearer = np.minimum(distance, _squared_distance(points_ND, squares, drawn))
        best = int(nearer.sum(axis=1).argmin())
        chosen.append(int(drawn[best]))
        distance = nearer[best]
        distance[chosen] = 0.0  # exactly: rounding must not choose a point twice
    return points_ND[chosen].copy()


def _squared_distance(points_ND: np.ndarray, squares_N: np.ndarray, to_K: np.ndarray | list[int]) -> np.ndarray:
    """Squared distances (K, N) of all points to some of them."""
    product_KN = points_ND[to_K] @ points_ND.T
    return np.maximum(squares_N + squares_N[to_K][:, None] - 2 * product_KN, 0).astype(np.float64)
