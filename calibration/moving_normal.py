"""Normal equations of a moving scene: a dense block, and the banded block of the trajectories' knots, eliminated.

A knot is coupled to its neighbours alone: the knots' block is factored by banded Cholesky (LAPACK's pbtrf), and its
Schur complement is solved densely.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import LinAlgError, cho_solve, cho_solve_banded, cholesky_banded

from calibration.moving_scene import MovingScene
from calibration.normal_equations import factor_dense
from calibration.trajectory import STATE
from calibration.tridiagonal import solve_chain
from core.errors import GateError

_BAND = 2 * STATE


@dataclass(frozen=True, eq=False)
class MovingNormal:
    """Normal equations: a dense block, the banded block of the knots, and what couples them."""

    H: np.ndarray  # (d, d)
    g: np.ndarray  # (d,)
    free: np.ndarray  # (d,) which rows are solved for
    cross: np.ndarray  # (12 knots, d)
    own: np.ndarray  # (knots, 12, 12)
    ahead: np.ndarray  # (knots, 12, 12) of each knot with its successor
    g_knots: np.ndarray  # (12 knots,)

    def reduced(self, damping: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Schur complement of the knots, its right-hand side, and the knots' block inverse times (cross, gradient)."""
        solved = np.zeros((len(self.g_knots), len(self.g) + 1))
        if len(self.own):
            both = np.column_stack([self.cross, self.g_knots])
            solved = cho_solve_banded((_factor_banded(self.own, self.ahead, damping), True), both, check_finite=False)
        S = self.H + damping * np.diag(np.diag(self.H)) - self.cross.T @ solved[:, :-1]
        return S, self.g - self.cross.T @ solved[:, -1], solved

    def solve(self, damping: float) -> tuple[np.ndarray, np.ndarray]:
        """The step of the dense unknowns (d,) and of the knots (k, 12)."""
        S, b, solved = self.reduced(damping)
        step, index = np.zeros(len(b)), np.flatnonzero(self.free)
        if len(index):
            step[index] = -cho_solve(factor_dense(S[np.ix_(index, index)]), b[index])
        return step, -(solved[:, -1] + solved[:, :-1] @ step).reshape(-1, STATE)

    def spreads(self, scene: MovingScene) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Covariances of the knots (k, 12, 12), of each with its successor (k - 1, 12, 12) (rows the successor's), and
        variances of the jitters (frames,)."""
        own, after = np.zeros((2, 0, STATE, STATE))
        if len(self.own):
            below = np.swapaxes(self.ahead[:-1], -1, -2)
            _, own, after = solve_chain(self.own, below, np.zeros((len(self.own), STATE)))
        S, _, solved = self.reduced(0.0)
        index = np.flatnonzero(self.free)
        variance = np.zeros(len(S))
        if len(index):  # what is not known of cameras, clocks and jitters moves the knots
            root = factor_dense(S[np.ix_(index, index)])
            inverse = cho_solve(root, np.eye(len(index)))
            variance[index] = np.diag(inverse)
            moved = solved[:, index].reshape(-1, STATE, len(index))
            weighted = moved @ inverse
            own = own + weighted @ np.swapaxes(moved, -1, -2)
            after = after + weighted[1:] @ np.swapaxes(moved[:-1], -1, -2)
        return own, after, variance[sum(scene.dense_sizes[:4]) :]

    def covariance(self) -> np.ndarray:
        """Of the dense unknowns (d, d); zero where they are held."""
        S = self.reduced(0.0)[0]
        index, full = np.flatnonzero(self.free), np.zeros_like(S)
        if len(index):
            full[np.ix_(index, index)] = cho_solve(factor_dense(S[np.ix_(index, index)]), np.eye(len(index)))
        return full


def _factor_banded(own: np.ndarray, ahead: np.ndarray, damping: float) -> np.ndarray:
    """Cholesky factor of the knots' block, in LAPACK's lower band storage."""
    own = own + damping * np.einsum("kii->ki", own)[:, :, None] * np.eye(STATE)
    # of every knot the columns below the diagonal: its own block's, then its successor's
    below = np.concatenate([own, np.swapaxes(ahead, -1, -2)], axis=1)  # (k, 24, 12)
    row = np.arange(_BAND)[:, None] + np.arange(STATE)
    inside = row < _BAND
    band = np.where(inside, below[:, np.where(inside, row, 0), np.arange(STATE)], 0.0)  # (k, 24, 12): [i - j, j]
    matrix = np.ascontiguousarray(np.swapaxes(band, 0, 1).reshape(_BAND, -1))
    try:
        factor: np.ndarray = cholesky_banded(matrix, overwrite_ab=True, lower=True, check_finite=False)
    except LinAlgError as error:
        raise GateError(
            "bundle", f"the points do not determine the way of what is carried ({error})", "carry it more slowly"
        ) from error
    return factor
