"""Damped Gauss-Newton for whole sequences: block-banded normal equations in time, bordered by a few global unknowns.

The unknowns are one block of D numbers for each frame and G numbers shared by all frames (shape, mounts). Temporal
terms reach at most two frames back, so the normal equations are an arrow: block-pentadiagonal with a border. Frames
are taken in pairs, which makes the band block-tridiagonal; it is factored by block Cholesky in time linear in the
number of frames, the border by its Schur complement. The same factor gives marginal covariances without the inverse
(Takahashi, Fagan and Chin 1973; the backward pass of a Rauch-Tung-Striebel smoother).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.linalg.blas import dtrsm
from scipy.linalg.lapack import dpotrf

from core.arrays import Float
from core.errors import InputError

State = TypeVar("State")


@dataclass(frozen=True)
class SolverConfig:
    """How the normal equations are iterated.

    Attributes:
        iterations: most Gauss-Newton steps, refused ones included.
        tolerance: stop when a step lowers the cost by less than this share.
        damping: first Levenberg-Marquardt damping, relative to the diagonal.
    """

    iterations: int = 12
    tolerance: float = 1e-4
    damping: float = 1e-4


@dataclass(frozen=True, eq=False)
class ArrowSystem:
    """Normal equations `H d = -g` of a cost.

    Attributes:
        cost: value of the cost, half the weighted sum of squares.
        diagonal: blocks of each frame with itself, (frames, D, D).
        back1: blocks (t, t-1) in row t; row 0 is unused, (frames, D, D).
        back2: blocks (t, t-2) in row t; rows 0 and 1 are unused, (frames, D, D).
        border: frames by globals, (frames, D, G).
        corner: globals by globals, (G, G).
        gradient: by the frames' unknowns, (frames, D).
        gradient_global: by the globals, (G,).
    """

    cost: float
    diagonal: np.ndarray
    back1: np.ndarray
    back2: np.ndarray
    border: np.ndarray
    corner: np.ndarray
    gradient: np.ndarray
    gradient_global: np.ndarray

    @staticmethod
    def zeros(num_frames: int, num_unknowns: int, num_globals: int) -> ArrowSystem:
        """A system to which terms are added in place."""
        T, D, G = num_frames, num_unknowns, num_globals
        blocks = (np.zeros((T, D, D)) for _ in range(3))
        diagonal, back1, back2 = blocks
        return ArrowSystem(
            0.0, diagonal, back1, back2, np.zeros((T, D, G)), np.zeros((G, G)), np.zeros((T, D)), np.zeros(G)
        )


@dataclass(frozen=True, eq=False)
class ArrowFactor:
    """Cholesky factor of a damped system: `diagonal` (n, 2D, 2D) lower triangles and `below` (n, 2D, 2D) couplings of
    frame pairs, and `schur` (G, G), the globals' information once the frames are eliminated."""

    diagonal: np.ndarray
    below: np.ndarray
    half_border: np.ndarray
    schur: np.ndarray
    num_frames: int


def factorise(system: ArrowSystem, damping: float = 0.0) -> ArrowFactor:
    """Factors the system with its diagonal enlarged by the share `damping`.

    Raises:
        InputError: if it is not positive definite: an unknown that no term determines.
    """
    blocks, coupling = _paired(system, damping)
    size = blocks.shape[-1]
    for i in range(len(blocks)):
        if i:
            # below = E L^-T, solved as X L^T = E
            coupling[i] = dtrsm(1.0, blocks[i - 1], coupling[i], side=1, lower=1, trans_a=1)
            blocks[i] -= coupling[i] @ coupling[i].T
        lower, info = dpotrf(blocks[i], lower=1)
        if info:
            frame, unknown = divmod(info - 1, size // 2)
            raise InputError(
                "fit", f"unknown {unknown} of frame {2 * i + frame} is not determined", "give every unknown a prior"
            )
        blocks[i] = lower
    half = _pair_rows(system.border, size)
    schur = system.corner + np.diag(damping * np.diagonal(system.corner))
    if len(schur):
        half = _forward(blocks, coupling, half)
        schur = schur - np.tensordot(half, half, axes=([0, 1], [0, 1]))
    return ArrowFactor(blocks, coupling, half, schur, len(system.diagonal))


def solve(system: ArrowSystem, factor: ArrowFactor) -> tuple[Float[np.ndarray, "frames D"], Float[np.ndarray, "G"]]:
    """The step that the factored system asks for."""
    size = factor.diagonal.shape[-1]
    half = _forward(factor.diagonal, factor.below, _pair_rows(-system.gradient[..., None], size))
    step_global = np.zeros(len(factor.schur))
    if len(step_global):
        right = -system.gradient_global - np.tensordot(factor.half_border, half[..., 0], axes=([0, 1], [0, 1]))
        step_global = cho_solve(cho_factor(factor.schur, lower=True), right)
    step = _backward(factor.diagonal, factor.below, half - (factor.half_border @ step_global)[..., None])
    return step.reshape(-1, size // 2)[: factor.num_frames], step_global


def marginals(
    factor: ArrowFactor,
) -> tuple[Float[np.ndarray, "frames D D"], Float[np.ndarray, "frames D G"], Float[np.ndarray, "G G"]]:
    """Covariances of each frame's unknowns, of them with the globals, and of the globals; all else marginalised out."""
    n, size, _ = factor.diagonal.shape
    G = len(factor.schur)
    blocks = np.empty((n, size, size))
    identity = np.eye(size)
    for i in reversed(range(n)):
        inverse = dtrsm(1.0, factor.diagonal[i], identity, lower=1)
        blocks[i] = inverse.T @ inverse
        if i + 1 < n:
            gain = inverse.T @ factor.below[i + 1].T
            blocks[i] += gain @ blocks[i + 1] @ gain.T
    cov_global = np.linalg.inv(factor.schur) if G else np.zeros((0, 0))
    cross = np.zeros((n, size, G))
    if G:
        reach = _backward(factor.diagonal, factor.below, factor.half_border)
        cross = -reach @ cov_global
        blocks -= cross @ np.swapaxes(reach, -1, -2)
    D, T = size // 2, factor.num_frames
    frames = np.stack([blocks[:, :D, :D], blocks[:, D:, D:]], axis=1).reshape(2 * n, D, D)
    return frames[:T], cross.reshape(2 * n, D, G)[:T], cov_global


def minimise(
    state: State,
    linearise: Callable[[State], ArrowSystem],
    retract: Callable[[State, np.ndarray, np.ndarray], State],
    config: SolverConfig,
) -> Minimum[State]:
    """Levenberg-Marquardt: a step that raises the cost is refused and the damping raised.

    Args:
        state: where to start.
        linearise: cost and normal equations at a state.
        retract: moves a state by (frames, D) and (G,) unknowns.
        config: settings.
    """
    system, damping, used = linearise(state), config.damping, 0
    costs = [system.cost]
    converged = False
    for used in range(1, config.iterations + 1):  # noqa: B007
        trial = retract(state, *solve(system, factorise(system, damping)))
        trial_system = linearise(trial)
        if not trial_system.cost < system.cost:
            converged = damping > 1e6
            damping = max(damping, 1e-6) * 10
        else:
            converged = system.cost - trial_system.cost <= config.tolerance * system.cost
            state, system, damping = trial, trial_system, damping / 5
            costs.append(system.cost)
        if converged:
            break
    return Minimum(state, system, tuple(costs), used, converged)


@dataclass(frozen=True, eq=False)
class Minimum(Generic[State]):
    """Where the iteration ended.

    Attributes:
        state: the best state met.
        system: normal equations there.
        costs: cost at the start and after each accepted step.
        num_steps: steps tried.
        converged: whether the last step changed too little to go on.
    """

    state: State
    system: ArrowSystem
    costs: tuple[float, ...]
    num_steps: int
    converged: bool


def _paired(system: ArrowSystem, damping: float) -> tuple[np.ndarray, np.ndarray]:
    """Diagonal and lower blocks (n, 2D, 2D) of pairs of frames; a missing last frame is padded with identity."""
    T, D, _ = system.diagonal.shape
    n = (T + 1) // 2
    diagonal = system.diagonal.copy()
    axis = np.arange(D)
    diagonal[:, axis, axis] *= 1 + damping
    blocks, coupling = np.zeros((n, 2 * D, 2 * D)), np.zeros((n, 2 * D, 2 * D))
    even, odd = slice(0, T, 2), slice(1, T, 2)
    m = T // 2
    blocks[:, :D, :D] = diagonal[even]
    blocks[:m, D:, D:] = diagonal[odd]
    blocks[m:, D:, D:] = np.eye(D)
    blocks[:m, D:, :D] = system.back1[odd]
    blocks[:m, :D, D:] = np.swapaxes(system.back1[odd], -1, -2)
    coupling[1:, :D, :D] = system.back2[even][1:]
    coupling[1:, :D, D:] = system.back1[even][1:]
    coupling[1:m, D:, D:] = system.back2[odd][1:]
    return blocks, coupling


def _pair_rows(rows: np.ndarray, size: int) -> np.ndarray:
    """(frames, D, k) as (pairs, 2D, k), padded with zeros."""
    T, D, k = rows.shape
    padded = np.zeros(((T + 1) // 2 * 2, D, k))
    padded[:T] = rows
    return padded.reshape((T + 1) // 2, size, k)


def _forward(diagonal: np.ndarray, below: np.ndarray, right: np.ndarray) -> np.ndarray:
    result = right.copy()
    for i in range(len(result)):
        if i:
            result[i] -= below[i] @ result[i - 1]
        result[i] = dtrsm(1.0, diagonal[i], result[i], lower=1)
    return result


def _backward(diagonal: np.ndarray, below: np.ndarray, right: np.ndarray) -> np.ndarray:
    result = right.copy()
    for i in reversed(range(len(result))):
        if i + 1 < len(result):
            result[i] -= below[i + 1].T @ result[i + 1]
        result[i] = dtrsm(1.0, diagonal[i], result[i], lower=1, trans_a=1)
    return result
