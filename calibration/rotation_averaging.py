"""Absolute rotations from relative ones of which many may be wrong.

Relative rotations are first voted for: every sighting that two cameras share offers a few, and the true one comes back
with every sighting while wrong ones scatter. They are then averaged over the graph as Chatterjee and Govindu do
("Efficient and robust large-scale rotation averaging", ICCV 2013): in the tangent space, by an L1 stage that bears
outliers and a reweighted least-squares stage that ends sharply. They start from a spanning tree of edges that close
their triangles; an edge that closes none of its triangles hardly counts.
"""

from __future__ import annotations

import numpy as np

from core.arrays import Bool, Float, Int
from core.transforms import geodesic, mean_rotation, so3_exp, so3_log

_VOTE_RAD = np.radians(6.0)  # within which two relative rotations are the same; a planar pose of 20 corners errs by 1-3
_RIVAL_RAD = np.radians(12.0)  # beyond which one is another
_L1_STEPS, _LEAST_SQUARES_STEPS = 20, 10
_SHARP_RAD = np.radians(5.0)  # scale of the last stage (Chatterjee and Govindu, section 5)
_TINY_RAD = 1e-4
_LOOP_RAD = np.radians(8.0)  # that three relative rotations may leave: their errors add up
_TINY = 1e-6


def vote(
    R: Float[np.ndarray, "m 3 3"], weight: Float[np.ndarray, "m"], ballot: Int[np.ndarray, "m"]
) -> tuple[Float[np.ndarray, "3 3"], float, float]:
    """The rotation that most ballots agree on.

    Args:
        R: candidates.
        weight: how much each counts.
        ballot: (m,) who casts it; each has one vote for any rotation, the best of its candidates.

    Returns:
        The mean of the agreeing candidates, their votes, and by how much these exceed those of the best rival.
    """
    flat = R.reshape(len(R), 9)
    cosine = (flat @ flat.T - 1) / 2
    voters = np.unique(ballot, return_inverse=True)[1]
    near = np.where(cosine > np.cos(_VOTE_RAD), weight, 0.0)
    votes = np.zeros((len(R), int(voters.max()) + 1))
    for m in np.argsort(weight, kind="stable"):  # the heaviest of a ballot comes last and counts
        votes[:, voters[m]] = np.where(near[:, m] > 0, near[:, m], votes[:, voters[m]])
    total = votes.sum(axis=1)
    best = int(total.argmax())
    rival = float(total[cosine[best] < np.cos(_RIVAL_RAD)].max(initial=0.0))
    return mean_rotation(R, near[best]), float(total[best]), float(total[best]) - rival


def average_rotations(
    num_nodes: int, pair: Int[np.ndarray, "m 2"], i_from_j: Float[np.ndarray, "m 3 3"], weight: Float[np.ndarray, "m"]
) -> tuple[Float[np.ndarray, "n 3 3"], Int[np.ndarray, "n"]]:
    """Rotations `world_from_node` of all nodes, each connected group in a world of its own, and the group of each.

    Args:
        num_nodes: number of nodes.
        pair: (m, 2) nodes i and j of each edge.
        i_from_j: relative rotations.
        weight: trust in each edge.
    """
    closed = _closed_triangles(num_nodes, pair, i_from_j)
    R, group = _spanning_trees(num_nodes, pair, i_from_j, weight * closed)
    if len(pair) == 0:
        return R, group
    weight = weight * np.minimum(closed, 1.0)
    held = np.unique(group, return_index=True)[1]
    free = np.setdiff1d(np.arange(num_nodes), held)
    A = np.zeros((len(pair), num_nodes))
    A[np.arange(len(pair)), pair[:, 0]], A[np.arange(len(pair)), pair[:, 1]] = -1.0, 1.0
    for step in range(_L1_STEPS + _LEAST_SQUARES_STEPS):
        off = so3_log(R[pair[:, 0]] @ i_from_j @ np.swapaxes(R[pair[:, 1]], -1, -2))
        angle = np.linalg.norm(off, axis=-1)
        if step < _L1_STEPS:
            trust = weight / np.maximum(angle, _TINY_RAD)
        else:
            trust = weight * _SHARP_RAD**2 / (_SHARP_RAD**2 + angle**2) ** 2
        normal = A[:, free].T @ (trust[:, None] * A[:, free])
        right = A[:, free].T @ (trust[:, None] * off)
        move = np.zeros((num_nodes, 3))
        move[free] = np.linalg.solve(normal, right) if len(free) else 0.0
        R = so3_exp(move) @ R
    return R, group


def _spanning_trees(
    num_nodes: int, pair: np.ndarray, i_from_j: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Rotations along the heaviest spanning trees (Kruskal), and the group of each node."""
    R, group = np.broadcast_to(np.eye(3), (num_nodes, 3, 3)).copy(), np.arange(num_nodes)
    for m in np.argsort(-weight, kind="stable"):
        i, j = pair[m]
        if group[i] == group[j]:
            continue
        joined = group == group[j]  # turned as one, so that the edge holds
        R[joined] = R[i] @ i_from_j[m] @ R[j].T @ R[joined]
        group[joined] = group[i]
    return R, np.unique(group, return_inverse=True)[1]


def _closed_triangles(num_nodes: int, pair: np.ndarray, i_from_j: np.ndarray) -> np.ndarray:
    """One and the number of triangles that each edge closes; for those that close none of theirs, nearly nothing."""
    relative = np.full((num_nodes, num_nodes, 3, 3), np.nan)
    relative[pair[:, 0], pair[:, 1]] = i_from_j
    relative[pair[:, 1], pair[:, 0]] = np.swapaxes(i_from_j, -1, -2)
    score = np.ones(len(pair))
    for m, (i, j) in enumerate(pair):
        trace = np.einsum("ab,kba->k", i_from_j[m], relative[j] @ relative[:, i])
        third = np.isfinite(trace)
        closed = int((trace[third] > 1 + 2 * np.cos(_LOOP_RAD)).sum())
        score[m] = 1 + closed if closed or not third.any() else _TINY
    return score


def near_rotation(R: Float[np.ndarray, "m 3 3"], mean: Float[np.ndarray, "3 3"], limit: float) -> Bool[np.ndarray, "m"]:
    """Which rotations lie within an angle (radians) of one."""
    return np.asarray(geodesic(R, np.broadcast_to(mean, R.shape)) < limit)
