"""Damped Gauss-Newton for whole sequences: block-banded normal equations in time, bordered by a few global unknowns.

The unknowns are one block of D numbers for each frame, in slots of three, and G numbers shared by all frames (shape,
mounts). Temporal terms reach at most two frames back, each slot to itself, so the normal equations are an arrow:
block-pentadiagonal with a border. Frames are taken in pairs, which makes the band block-tridiagonal; it is factored by
block Cholesky in time linear in the number of frames (`fitting.band`), the border by its Schur complement. The same
factor gives marginal covariances without the inverse, as the backward pass of a smoother does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from core.arrays import Float
from fitting.backend import CPU, Array, beside, on_host, zeros, zeros_beside
from fitting.band import Band, factorised

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
        tied: whether any term ties frames to each other; if not, `back1` and `back2` stay zero.
    """

    cost: float
    diagonal: Array
    back1: Array
    back2: Array
    border: Array
    corner: Array
    gradient: Array
    gradient_global: Array
    link: Array | None = None
    tied: bool = True

    @staticmethod
    def zeros(
        num_frames: int,
        num_unknowns: int,
        num_globals: int,
        linked: bool = False,
        device: str = CPU,
        tied: bool = True,
    ) -> ArrowSystem:
        """A system on a device, to which terms are added in place."""
        T, D, G = num_frames, num_unknowns, num_globals
        shapes = ((T, D, D), (T, D // 3, 3, 3), (T, D // 3, 3, 3), (T, D, G), (G, G), (T, D), (G,))
        diagonal, back1, back2, border, corner, gradient, gradient_global = (zeros(shape, device) for shape in shapes)
        link = zeros((T, D, D), device) if linked else None
        return ArrowSystem(0.0, diagonal, back1, back2, border, corner, gradient, gradient_global, link, tied)

    def beside(self, array: np.ndarray) -> Array:
        """An array as one that can be added to these."""
        return beside(array, self.diagonal)


@dataclass(frozen=True, eq=False)
class ArrowFactor:
    """Cholesky factor of a damped system.

    Attributes:
        band: of pairs of frames, or of single ones where no term ties them; blocks of 2D or D unknowns.
        half_border: the border after the forward pass, (n, 2D, G).
        half_gradient: the gradient after it, (n, 2D).
        schur: information on the globals once the frames are eliminated, (G, G).
        num_frames: without the one that may fill up the last pair.
        num_unknowns: D, of a frame.
    """

    band: Band
    half_border: Array
    half_gradient: Array
    schur: Float[np.ndarray, "G G"]
    num_frames: int
    num_unknowns: int


def factorise(system: ArrowSystem, damping: float = 0.0) -> ArrowFactor:
    """Factors the system with its diagonal enlarged by the share `damping`.

    Raises:
        InputError: if it is not positive definite: an unknown that no term determines.
    """
    T, D, _ = system.diagonal.shape
    blocks, below = _paired(system, damping) if system.tied else _single(system, damping)
    band = factorised(blocks, below, D)
    # the border and the gradient go through the band together
    half = band.forward(_rows(system, 2 if system.tied else 1))
    border, gradient = half[..., :-1], half[..., -1]
    corner, axis = on_host(system.corner).copy(), np.arange(len(system.corner))
    corner[axis, axis] *= 1 + damping
    flat = _flat(border)
    return ArrowFactor(band, border, gradient, corner - on_host(flat.T @ flat), T, D)


def solve(system: ArrowSystem, factor: ArrowFactor) -> tuple[Float[np.ndarray, "frames D"], Float[np.ndarray, "G"]]:
    """The step that the factored system asks for."""
    half, step_global = -factor.half_gradient, np.zeros(len(factor.schur))
    if len(step_global):
        right = -on_host(system.gradient_global) - on_host(_flat(factor.half_border).T @ half.reshape(-1))
        step_global = cho_solve(cho_factor(factor.schur, lower=True), right)
    step = factor.band.backward((half - factor.half_border @ beside(step_global, half))[..., None])
    return on_host(step).reshape(-1, factor.num_unknowns)[: factor.num_frames], step_global


def marginals(
    factor: ArrowFactor, cov_global: Float[np.ndarray, "G G"] | None = None
) -> tuple[Float[np.ndarray, "frames D D"], Float[np.ndarray, "frames D G"], Float[np.ndarray, "G G"]]:
    """Covariances of each frame's unknowns, of them with the globals, and of the globals; all else marginalised out.

    Args:
        factor: of the system without damping.
        cov_global: of the globals, where they were found elsewhere and held; else the system tells it.
    """
    G = len(factor.schur)
    covariance = on_host(factor.band.inverse_blocks())
    n, size, _ = covariance.shape
    if cov_global is None:
        cov_global = np.linalg.inv(factor.schur) if G else np.zeros((0, 0))
    cross = np.zeros((n, size, G))
    if G:
        reach = on_host(factor.band.backward(factor.half_border))
        cross = -reach @ cov_global
        covariance -= cross @ np.swapaxes(reach, -1, -2)
    D, T = factor.num_unknowns, factor.num_frames
    frames = np.stack([covariance[:, i : i + D, i : i + D] for i in range(0, size, D)], axis=1).reshape(-1, D, D)
    return frames[:T], cross.reshape(n * size // D, D, G)[:T], cov_global


def _foretold(system: ArrowSystem, step: np.ndarray, step_global: np.ndarray, damping: float) -> float:
    """By how much the damped quadratic model lowers the cost: (d^T D d - d^T g) / 2."""
    scale, scale_global = on_host(system.diagonal.diagonal(0, 1, 2)), on_host(system.corner.diagonal())
    inside = damping * (scale * step**2).sum() - (on_host(system.gradient) * step).sum()
    shared = damping * (scale_global * step_global**2).sum() - on_host(system.gradient_global) @ step_global
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


def _paired(system: ArrowSystem, damping: float) -> tuple[Array, Array]:
    """Diagonal and lower blocks (n, 2D, 2D) of pairs of frames; a missing last frame is padded with identity."""
    T, D, _ = system.diagonal.shape
    n, S = (T + 1) // 2, D // 3
    blocks, coupling = (zeros_beside((n, 2 * D, 2 * D), system.diagonal) for _ in range(2))
    even, odd, m = slice(0, T, 2), slice(1, T, 2), T // 2
    blocks[:, :D, :D] = system.diagonal[even]
    blocks[:m, D:, D:] = system.diagonal[odd]
    axis, slot = np.arange(2 * D), np.arange(S)
    blocks[:, axis, axis] *= 1 + damping
    blocks[m:, axis[D:], axis[D:]] = 1.0
    # slot by slot: (n, 2, slots, 3, 2, slots, 3); advanced indices lead: (slots, n, 3, 3)
    inside, before = (array.reshape(n, 2, S, 3, 2, S, 3) for array in (blocks, coupling))
    inside[:m, 1, slot, :, 0, slot] = system.back1[odd].swapaxes(0, 1)
    inside[:m, 0, slot, :, 1, slot] = system.back1[odd].swapaxes(0, 1).swapaxes(-1, -2)
    before[1:, 0, slot, :, 0, slot] = system.back2[even][1:].swapaxes(0, 1)
    before[1:, 0, slot, :, 1, slot] = system.back1[even][1:].swapaxes(0, 1)
    before[1:m, 1, slot, :, 1, slot] = system.back2[odd][1:].swapaxes(0, 1)
    if system.link is not None:
        blocks[:m, D:, :D] += system.link[odd]
        blocks[:m, :D, D:] += system.link[odd].swapaxes(1, 2)
        coupling[1:, :D, D:] += system.link[even][1:]
    return blocks, coupling


def _single(system: ArrowSystem, damping: float) -> tuple[Array, None]:
    """Diagonal blocks of single frames, which nothing ties."""
    blocks, axis = zeros_beside(system.diagonal.shape, system.diagonal), np.arange(system.diagonal.shape[-1])
    blocks[:] = system.diagonal
    blocks[:, axis, axis] *= 1 + damping
    return blocks, None


def _rows(system: ArrowSystem, per_block: int) -> Array:
    """Border and gradient side by side, (blocks, frames of a block times D, G + 1), padded with zeros."""
    T, D, G = system.border.shape
    n = -(-T // per_block)
    rows = zeros_beside((per_block * n, D, G + 1), system.border)
    rows[:T, :, :G], rows[:T, :, G] = system.border, system.gradient
    return rows.reshape(n, per_block * D, G + 1)


def _flat(rows: Array) -> Array:
    """(pairs, 2D, k) as (pairs * 2D, k)."""
    n, size, k = rows.shape
    return rows.reshape(n * size, k)
