"""Terms added to the normal equations of a sequence, each pulled back to the unknowns that it depends on.

Every `add_` changes a system in place, wherever its arrays lie, and returns the cost of its term where it has one.
"""

from __future__ import annotations

import numpy as np

from core.arrays import Float, Int
from core.transforms import right_jacobian_inverse
from fitting.backend import Array
from fitting.chains import Chain
from fitting.mount_geometry import MountTerm
from fitting.pose_density import PoseTerm
from fitting.residuals import JointTerm, PointTerm, TimeTerm
from fitting.solver import ArrowSystem

_ANCHOR_SIGMA = 1e-4  # of poses that frames are held at: metres, radians


def add_chain(
    system: ArrowSystem,
    chain: Chain,
    term: PointTerm,
    by_pose: np.ndarray,
    by_betas: np.ndarray,
    by_offsets: np.ndarray,
) -> None:
    """Pulls a term on landmarks back to poses, translation, betas and offsets, for the landmarks of one chain."""
    rows = chain.landmark_idx
    T, L, num_betas = len(by_pose), len(rows), by_betas.shape[-1]
    own = (3 * np.append(0, 1 + chain.joint_idx)[:, None] + np.arange(3)).ravel()
    # landmarks with an offset of their own, and its columns
    moved = np.flatnonzero(rows < by_offsets.shape[1]) if by_offsets.size else np.zeros(0, int)
    D, B = len(own), len(own) + num_betas
    J = np.zeros((T, L, 3, B + 3 * len(moved)))
    J[..., :3], J[..., 3:D], J[..., D:B] = np.eye(3), by_pose.reshape(T, L, 3, -1), by_betas[:, rows]
    for k, row in enumerate(moved):
        J[:, row, :, B + 3 * k : B + 3 * k + 3] = by_offsets[:, rows[row]]
    J, hessian, gradient = (system.beside(array) for array in (J, term.hessian[:, rows], term.gradient[:, rows]))
    HJ = (hessian @ J).reshape(T, 3 * L, -1)
    J = J.reshape(T, 3 * L, -1)
    H = J.swapaxes(1, 2) @ HJ
    g = (gradient.reshape(T, 1, -1) @ J)[:, 0]
    system.diagonal[:, own[:, None], own] += H[:, :D, :D]
    system.gradient[:, own] += g[:, :D]
    shared = np.concatenate([np.arange(num_betas), (num_betas + 3 * rows[moved][:, None] + np.arange(3)).ravel()])
    if len(shared):
        system.border[:, own[:, None], shared] += H[:, :D, D:]
        system.corner[np.ix_(shared, shared)] += H[:, D:, D:].sum(axis=0)
        system.gradient_global[shared] += g[:, D:].sum(axis=0)


def add_links(system: ArrowSystem, chain: Chain, coupling: np.ndarray, by_pose: np.ndarray) -> None:
    """Ties landmarks of one chain to themselves one frame on: minus J_t+1^T w J_t below the diagonal."""
    assert system.link is not None
    tied = np.flatnonzero(coupling[:, chain.landmark_idx].any(axis=0))
    frames = np.flatnonzero(coupling[:, chain.landmark_idx].any(axis=1))
    if not len(frames):
        return
    own = (3 * np.append(0, 1 + chain.joint_idx)[:, None] + np.arange(3)).ravel()
    J = np.zeros((len(by_pose), len(tied), 3, len(own)))
    J[..., :3], J[..., 3:] = np.eye(3), by_pose[:, tied].reshape(len(by_pose), len(tied), 3, -1)
    weight = coupling[np.ix_(frames, chain.landmark_idx[tied])][..., None, None]
    before = (weight * J[frames]).reshape(len(frames), -1, len(own))
    after = J[frames + 1].reshape(len(frames), -1, len(own))
    system.link[(frames + 1)[:, None, None], own[:, None], own] -= system.beside(np.swapaxes(after, 1, 2) @ before)


def add_seat(system: ArrowSystem, column: int, term: MountTerm) -> float:
    """Adds a term on a mount, whose six globals begin at a column."""
    axis = column + np.arange(6)
    system.corner[np.ix_(axis, axis)] += system.beside(term.hessian)
    system.gradient_global[axis] += system.beside(term.gradient)
    return term.cost


def add_joints(system: ArrowSystem, term: JointTerm, first: int) -> float:
    """Adds a term on joints that begin with the given one."""
    slots = np.arange(1 + first, 1 + first + term.gradient.shape[1])
    # advanced indices lead: (joints, frames, 3, 3)
    _slots(system.diagonal)[:, slots, :, slots] += system.beside(term.hessian.transpose(1, 0, 2, 3))
    _by_slot(system.gradient)[:, slots] += system.beside(term.gradient)
    return term.cost


def add_whole(system: ArrowSystem, term: PoseTerm) -> float:
    """Adds a term on the joints after the pelvis together."""
    own = slice(6, 6 + term.gradient.shape[1])
    system.diagonal[:, own, own] += system.beside(term.hessian)
    system.gradient[:, own] += system.beside(term.gradient)
    return term.cost


def add_time(system: ArrowSystem, term: TimeTerm) -> float:
    """Adds a term on all slots of neighbouring frames."""
    n, reach, S = term.jacobian.shape[:3]
    slots, gradient = np.arange(S), _by_slot(system.gradient)
    for a in range(reach):
        Jt = np.swapaxes(term.jacobian[:, a], -1, -2)
        gradient[a : a + n] += system.beside(np.einsum("nsij,nsj->nsi", Jt, term.residual))
        for b in range(a + 1):
            block = Jt @ term.jacobian[:, b]
            if a == b:
                _slots(system.diagonal)[a : a + n][:, slots, :, slots] += system.beside(block.transpose(1, 0, 2, 3))
            else:
                (system.back1, system.back2)[a - b - 1][a : a + n] += system.beside(block)
    return term.cost


def add_anchors(
    system: ArrowSystem,
    frames: Int[np.ndarray, "n"],
    shift_m: Float[np.ndarray, "n 3"],
    turn_rad: Float[np.ndarray, "n joints 3"],
) -> float:
    """Holds some frames at given poses, from which they are off by a shift and by rotation vectors."""
    J = right_jacobian_inverse(turn_rad)
    Jt = np.swapaxes(J, -1, -2)
    identity = np.broadcast_to(np.eye(3), (len(frames), 1, 3, 3))
    hessian = np.concatenate([identity, Jt @ J], axis=1) / _ANCHOR_SIGMA**2
    gradient = np.concatenate([shift_m[:, None], (Jt @ turn_rad[..., None])[..., 0]], axis=1) / _ANCHOR_SIGMA**2
    slots = np.arange(hessian.shape[1])
    _slots(system.diagonal)[frames[:, None], slots, :, slots] += system.beside(hessian)
    _by_slot(system.gradient)[frames] += system.beside(gradient)
    return 0.5 * float((shift_m**2).sum() + (turn_rad**2).sum()) / _ANCHOR_SIGMA**2


def _slots(blocks: Array) -> Array:
    """The (frames, slots, 3, slots, 3) view of (frames, unknowns, unknowns) blocks."""
    S = blocks.shape[-1] // 3
    return blocks.reshape(-1, S, 3, S, 3)


def _by_slot(rows: Array) -> Array:
    """The (frames, slots, 3) view of (frames, unknowns)."""
    return rows.reshape(len(rows), -1, 3)
