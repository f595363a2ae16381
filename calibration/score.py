"""Normal equations of one camera's freedoms, or a panel's, after the targets gave way: the ground of score tests.

A carried target follows whoever sees it, so its pose in every short time is free here, told by all cameras that saw it
then; so is a static target's pose in every block of time. What a camera's residuals say beyond that, no target
explains.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calibration.evidence import Evidence
from calibration.moving_target import KNOT_S
from core.arrays import Float, Int

BLOCKS = 16  # of time
_HUBER = (
    4.0  # standard deviations, of a camera's own typical residual if that is larger, beyond which points count less
)
_RAYLEIGH = 1.1774  # median of a Rayleigh distribution over sigma
POSE_SIGMA = np.repeat([0.5, 1.0], 3)  # radians, metres: how far things may have moved
_HELD = 1e9  # factor on the information of a pose that may not give way


@dataclass(frozen=True, eq=False)
class Whitened:
    """Evidence over its standard deviations, robustly weighted, in blocks of time.

    Attributes:
        r: (n, 2) residuals.
        weight: (n,) what derivatives are multiplied by.
        block: (n,) index of the block of time.
        starts_s: (blocks + 1,) bounds of the blocks.
        group: (n,) index of the target's pose that each row depends on.
        information: (groups, 6, 6) of each of these poses, from all cameras, with a weak prior.
        score: (groups, 6) J^T r of each.
    """

    r: Float[np.ndarray, "n 2"]
    weight: Float[np.ndarray, "n"]
    block: Int[np.ndarray, "n"]
    starts_s: Float[np.ndarray, "edges"]
    group: Int[np.ndarray, "n"]
    information: Float[np.ndarray, "groups 6 6"]
    score: Float[np.ndarray, "groups 6"]


def whiten(evidence: Evidence, *, apart: bool = False) -> Whitened:
    """Weights, blocks and target poses of some evidence.

    Args:
        evidence: what was seen.
        apart: give every camera target poses of its own, so that nothing that a camera does counts.
    """
    r = evidence.residual_px / evidence.sigma_px[:, None]
    norm = np.linalg.norm(r, axis=-1)
    typical = np.array(
        [
            np.median(norm[evidence.camera == k]) if (evidence.camera == k).any() else 1.0
            for k in range(len(evidence.cameras))
        ]
    )
    limit = _HUBER * np.maximum(typical / _RAYLEIGH, 1.0)[evidence.camera]
    root = np.sqrt(limit / np.maximum(norm, limit))
    t = evidence.t_s
    starts = np.linspace(t.min(), t.max() + 1e-6, BLOCKS + 1)
    block = np.clip(np.searchsorted(starts, t, side="right") - 1, 0, BLOCKS - 1)
    instant = np.where(evidence.carried[evidence.target], np.floor((t - starts[0]) / KNOT_S), 0).astype(np.int64)
    key = (evidence.target * BLOCKS + block) * (int(instant.max()) + 1) + instant
    if apart:
        key = key * len(evidence.cameras) + evidence.camera
    unique, group = np.unique(key, return_inverse=True)
    weight = root / evidence.sigma_px
    r = r * root[:, None]
    information, score = summed(group, len(unique), evidence.by_target * weight[:, None, None], r)
    held = np.zeros(len(unique), bool)
    held[group] = evidence.held[evidence.target]
    information += np.where(held, _HELD, 1.0)[:, None, None] * np.diag(1 / POSE_SIGMA**2)
    return Whitened(r, weight, block, starts, group, information, score)


def camera_score(evidence: Evidence, white: Whitened, camera: int) -> tuple[np.ndarray, np.ndarray]:
    """Reduced normal equations (blocks, 11, 11) and scores (blocks, 11) of a camera: pose, lens (4), clock."""
    rows = np.flatnonzero(evidence.camera == camera)
    own = [evidence.by_camera[rows], evidence.by_lens[rows], evidence.by_time[rows][..., None]]
    return _reduced(evidence, white, rows, np.concatenate(own, axis=-1))


def panel_score(evidence: Evidence, white: Whitened, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same (blocks, 6, 6) and (blocks, 6) of the place of a panel on its rig, from the panel's rows."""
    return _reduced(evidence, white, rows, evidence.by_panel[rows])


def _reduced(evidence: Evidence, white: Whitened, rows: np.ndarray, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Normal equations by block of time of freedoms of some rows (n, 2, k), after their targets have given way."""
    k = own.shape[-1]
    groups, index = np.unique(white.group[rows], return_inverse=True)
    both = np.concatenate([own, evidence.by_target[rows]], axis=-1) * white.weight[rows][:, None, None]
    P, p = summed(index, len(groups), both, white.r[rows])
    gain = P[:, :k, k:] @ np.linalg.inv(white.information[groups])
    A = P[:, :k, :k] - gain @ P[:, k:, :k]
    b = p[:, :k] - (gain @ white.score[groups][..., None])[..., 0]
    block = np.zeros(len(groups), np.int64)
    block[index] = white.block[rows]
    total_A, total_b = np.zeros((BLOCKS, k, k)), np.zeros((BLOCKS, k))
    np.add.at(total_A, block, A)
    np.add.at(total_b, block, b)
    return total_A, total_b


def target_score(evidence: Evidence, white: Whitened, target: int) -> tuple[np.ndarray, np.ndarray]:
    """Normal equations (blocks, 6, 6) and scores (blocks, 6) of a static target's pose, the cameras standing."""
    rows = np.flatnonzero(evidence.target == target)
    J = evidence.by_target[rows] * white.weight[rows][:, None, None]
    return summed(white.block[rows], BLOCKS, J, white.r[rows])


def size_score(evidence: Evidence, white: Whitened, target: int) -> tuple[float, float, float, int]:
    """c^T c, c^T r, r^T r and the degrees of freedom of a target's size, its poses giving way and the cameras standing.

    Only poses that two cameras saw count: one camera alone takes a larger print for a nearer one.
    """
    rows = np.flatnonzero(evidence.target == target)
    seen = np.unique(np.stack([white.group[rows], evidence.camera[rows]], axis=-1), axis=0)
    groups, count = np.unique(seen[:, 0], return_counts=True)
    rows = rows[np.isin(white.group[rows], groups[count >= 2])]
    if not len(rows):
        return 0.0, 0.0, 0.0, 0
    index = np.unique(white.group[rows], return_inverse=True)[1]
    w = white.weight[rows][:, None, None]
    everything = np.concatenate(
        [evidence.by_target[rows] * w, evidence.by_scale[rows][..., None] * w, white.r[rows][..., None]], axis=-1
    )
    M, _ = summed(index, int(index.max()) + 1, everything, white.r[rows])
    left = M[:, 6:, 6:] - M[:, 6:, :6] @ np.linalg.solve(M[:, :6, :6] + np.diag(1 / POSE_SIGMA**2), M[:, :6, 6:])
    total = left.sum(axis=0)
    return float(total[0, 0]), float(total[0, 1]), float(total[1, 1]), 2 * len(rows) - 6 * len(left)


def summed(index: np.ndarray, num: int, J: np.ndarray, r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """J^T J (num, p, p) and J^T r (num, p) of the rows of each index."""
    order = np.argsort(index, kind="stable")
    products = np.einsum("nki,nkj->nij", J, J)[order]
    scores = np.einsum("nki,nk->ni", J, r)[order]
    A, b = np.zeros((num, J.shape[-1], J.shape[-1])), np.zeros((num, J.shape[-1]))
    first = np.flatnonzero(np.diff(index[order], prepend=-1))
    if len(first):
        A[index[order][first]] = np.add.reduceat(products, first, axis=0)
        b[index[order][first]] = np.add.reduceat(scores, first, axis=0)
    return A, b
