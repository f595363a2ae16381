"""Damped Gauss-Newton for whole sequences: block-banded normal equations in time, bordered by a few global unknowns.

The unknowns are one block of D numbers for each frame, in slots of three, and G numbers shared by all frames (shape,
mounts). Temporal terms reach at most two frames back, each slot to itself, so the normal equations are an arrow:
block-pentadiagonal with a border. Frames are taken in pairs, which makes the band block-tridiagonal; it is factored by
block Cholesky in time linear in the number of frames, the border by its Schur complement. The same factor gives
marginal covariances without the inverse (Takahashi, Fagan and Chin 1973; the backward pass of a smoother).

LAPACK works in place: a row-major block is the column-major transpose that it expects, lower triangles are upper ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.linalg.blas import dtrsm, strsm
from scipy.linalg.lapack import dpotrf

from core.arrays import Float
from core.errors import InputError

State = TypeVar("State")
_FIRST_GROWTH = 8.0  # of the damping at the first refusal; every further one doubles it


@dataclass(frozen=True)
class SolverConfig:
    """How the normal equations are iterated.

    Attributes:
        iterations: most Gauss-Newton steps, refused ones included.
        tolerance: stop when a step lowers the cost by less than this share.
        damping: first Levenberg-Marquardt damping, relative to the diagonal.
    """

    iterations: int = 12
    tolerance: float = 3e-4
    damping: float = 1e-4


@dataclass(frozen=True, eq=False)
class ArrowSystem:
    """Normal equations `H d = -g` of a cost.

    Attributes:
        cost: value of the cost, half the weighted sum of squares.
        diagonal: blocks of each frame with itself, (frames, D, D).
        back1: each slot with its own one frame back, in row t; row 0 is unused, (frames, slots, 3, 3).
        back2: the same two frames back; rows 0 and 1 are unused.
        border: frames by globals, (frames, D, G).
        corner: globals by globals, (G, G).
        gradient: by the frames' unknowns, (frames, D).
        gradient_global: by the globals, (G,).
        link: more of what is one frame back, all slots with all, in row t, (frames, D, D); None where there is none.
    """

    cost: float
    diagonal: np.ndarray
    back1: np.ndarray
    back2: np.ndarray
    border: np.ndarray
    corner: np.ndarray
    gradient: np.ndarray
    gradient_global: np.ndarray
    link: np.ndarray | None = None

    @staticmethod
    def zeros(num_frames: int, num_unknowns: int, num_globals: int, linked: bool = False) -> ArrowSystem:
        """A system to which terms are added in place."""
        T, D, G = num_frames, num_unknowns, num_globals
        back1, back2 = np.zeros((2, T, D // 3, 3, 3))
        link = np.zeros((T, D, D)) if linked else None
        border, corner = np.zeros((T, D, G)), np.zeros((G, G))
        return ArrowSystem(0.0, np.zeros((T, D, D)), back1, back2, border, corner, np.zeros((T, D)), np.zeros(G), link)


@dataclass(frozen=True, eq=False)
class ArrowFactor:
    """Cholesky factor of a damped system.

    Attributes:
        diagonal: lower triangles of frame pairs, (n, 2D, 2D); what stands above them is not theirs.
        below: couplings of each pair with the one before, (n, 2D, 2D).
        half_border: the border after the forward pass, (n, 2D, G).
        half_gradient: the gradient after it, (n, 2D).
        schur: information on the globals once the frames are eliminated, (G, G).
        num_frames: without the one that may fill up the last pair.
    """

    diagonal: np.ndarray
    below: np.ndarray
    half_border: np.ndarray
    half_gradient: np.ndarray
    schur: np.ndarray
    num_frames: int


def factorise(system: ArrowSystem, damping: float = 0.0) -> ArrowFactor:
    """Factors the system with its diagonal enlarged by the share `damping`.

    Raises:
        InputError: if it is not positive definite: an unknown that no term determines.
    """
    blocks, coupling = _paired(system, damping)
    size, linked = blocks.shape[-1], coupling.any()
    for i in range(len(blocks)):
        if i and linked:  # coupling = E L^-T, that is L X^T = E^T
            dtrsm(1.0, blocks[i - 1].T, coupling[i].T, lower=0, trans_a=1, overwrite_b=1)
            blocks[i] -= coupling[i] @ coupling[i].T
        info = dpotrf(blocks[i].T, lower=0, clean=0, overwrite_a=1)[1]
        if info:
            frame, unknown = divmod(info - 1, size // 2)
            raise InputError(
                "fit", f"unknown {unknown} of frame {2 * i + frame} is not determined", "give every unknown a prior"
            )
    # the border and the gradient go through the band together
    half = _forward(blocks, coupling, _pair_rows(np.concatenate([system.border, system.gradient[..., None]], -1), size))
    border, gradient = half[..., :-1], half[..., -1]
    schur = system.corner + np.diag(damping * np.diagonal(system.corner))
    schur = schur - np.tensordot(border, border, axes=([0, 1], [0, 1]))
    return ArrowFactor(blocks, coupling, border, gradient, schur, len(system.diagonal))


def solve(system: ArrowSystem, factor: ArrowFactor) -> tuple[Float[np.ndarray, "frames D"], Float[np.ndarray, "G"]]:
    """The step that the factored system asks for."""
    size = factor.diagonal.shape[-1]
    half, step_global = -factor.half_gradient, np.zeros(len(factor.schur))
    if len(step_global):
        right = -system.gradient_global - np.tensordot(factor.half_border, half, axes=([0, 1], [0, 1]))
        step_global = cho_solve(cho_factor(factor.schur, lower=True), right)
    step = _backward(factor.diagonal, factor.below, (half - factor.half_border @ step_global)[..., None])
    return step.reshape(-1, size // 2)[: factor.num_frames], step_global


def marginals(
    factor: ArrowFactor, cov_global: Float[np.ndarray, "G G"] | None = None
) -> tuple[Float[np.ndarray, "frames D D"], Float[np.ndarray, "frames D G"], Float[np.ndarray, "G G"]]:
    """Covariances of each frame's unknowns, of them with the globals, and of the globals; all else marginalised out.

    Args:
        factor: of the system without damping.
        cov_global: of the globals, where they were found elsewhere and held; else the system tells it.

    Sums of squares throughout, so single precision keeps six digits of them, in half the time.
    """
    n, size, _ = factor.diagonal.shape
    G = len(factor.schur)
    lower, below = factor.diagonal.astype(np.float32), factor.below.astype(np.float32)
    blocks = np.empty((n, size, size), np.float32)
    for i in reversed(range(n)):
        # L^-T (1 + E^T P E) L^-1, with P of the pair that follows and E what couples it
        blocks[i] = np.eye(size, dtype=np.float32)
        if i + 1 < n:
            blocks[i] += below[i + 1].T @ (blocks[i + 1] @ below[i + 1])
        strsm(1.0, lower[i].T, blocks[i].T, side=1, lower=0, trans_a=1, overwrite_b=1)
        strsm(1.0, lower[i].T, blocks[i].T, lower=0, overwrite_b=1)
    covariance = blocks.astype(float)
    if cov_global is None:
        cov_global = np.linalg.inv(factor.schur) if G else np.zeros((0, 0))
    cross = np.zeros((n, size, G))
    if G:
        reach = _backward(factor.diagonal, factor.below, factor.half_border)
        cross = -reach @ cov_global
        covariance -= cross @ np.swapaxes(reach, -1, -2)
    D, T = size // 2, factor.num_frames
    frames = np.stack([covariance[:, :D, :D], covariance[:, D:, D:]], axis=1).reshape(2 * n, D, D)
    return frames[:T], cross.reshape(2 * n, D, G)[:T], cov_global


def _foretold(system: ArrowSystem, step: np.ndarray, step_global: np.ndarray, damping: float) -> float:
    """By how much the damped quadratic model lowers the cost: (d^T D d - d^T g) / 2."""
    scale = np.einsum("tii->ti", system.diagonal)
    inside = damping * (scale * step**2).sum() - (system.gradient * step).sum()
    shared = damping * (np.diagonal(system.corner) * step_global**2).sum() - system.gradient_global @ step_global
    return 0.5 * float(inside + shared)


def minimise(
    state: State,
    linearise: Callable[[State], ArrowSystem],
    retract: Callable[[State, np.ndarray, np.ndarray], State],
    config: SolverConfig,
) -> Minimum[State]:
    """Levenberg-Marquardt: a step that raises the cost is refused and the damping raised (Nielsen 1999).

    Args:
        state: where to start.
        linearise: cost and normal equations at a state.
        retract: moves a state by (frames, D) and (G,) unknowns.
        config: settings.
    """
    system, damping, used = linearise(state), config.damping, 0
    costs = [system.cost]
    converged, growth = False, _FIRST_GROWTH
    for used in range(1, config.iterations + 1):  # noqa: B007
        step = solve(system, factorise(system, damping))
        trial = retract(state, *step)
        trial_system = linearise(trial)
        gained = system.cost - trial_system.cost
        if not gained > 0:
            converged = damping > 1e6
            damping, growth = max(damping, 1e-6) * growth, 2 * growth
        else:
            converged = gained <= config.tolerance * system.cost
            # Nielsen's rule: less damping the better the quadratic model foretold the gain, more where it promised more
            share = gained / max(_foretold(system, *step, damping), 1e-30)
            damping *= float(np.clip(1 - (2 * share - 1) ** 3, 0.2, 5.0))
            state, system, growth = trial, trial_system, _FIRST_GROWTH
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
    even, odd, m = slice(0, T, 2), slice(1, T, 2), T // 2
    blocks[:, :D, :D] = diagonal[even]
    blocks[:m, D:, D:] = diagonal[odd]
    blocks[m:, D:, D:] = np.eye(D)
    # slot by slot: (n, 2, slots, 3, 2, slots, 3)
    S = D // 3
    inside, before = (array.reshape(n, 2, S, 3, 2, S, 3) for array in (blocks, coupling))
    slot = np.arange(S)
    inside[:m, 1, slot, :, 0, slot] = np.moveaxis(system.back1[odd], 1, 0)
    inside[:m, 0, slot, :, 1, slot] = np.moveaxis(np.swapaxes(system.back1[odd], -1, -2), 1, 0)
    before[1:, 0, slot, :, 0, slot] = np.moveaxis(system.back2[even][1:], 1, 0)
    before[1:, 0, slot, :, 1, slot] = np.moveaxis(system.back1[even][1:], 1, 0)
    before[1:m, 1, slot, :, 1, slot] = np.moveaxis(system.back2[odd][1:], 1, 0)
    if system.link is not None:
        blocks[:m, D:, :D] += system.link[odd]
        blocks[:m, :D, D:] += np.swapaxes(system.link[odd], 1, 2)
        coupling[1:, :D, D:] += system.link[even][1:]
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
        dtrsm(1.0, diagonal[i].T, result[i].T, side=1, lower=0, overwrite_b=1)  # L X = B, that is X^T L^T = B^T
    return result


def _backward(diagonal: np.ndarray, below: np.ndarray, right: np.ndarray) -> np.ndarray:
    result = right.copy()
    for i in reversed(range(len(result))):
        if i + 1 < len(result):
            result[i] -= below[i + 1].T @ result[i + 1]
        dtrsm(1.0, diagonal[i].T, result[i].T, side=1, lower=0, trans_a=1, overwrite_b=1)
    return result
