"""Symmetric block-tridiagonal systems by cyclic reduction: solution and the blocks of the inverse that smoothing needs.

Every second unknown is eliminated at once, again and again (Heller 1976, "Some aspects of the cyclic reduction
algorithm"); the blocks of the inverse come on the way back as in Takahashi's equations. All steps are batched matrix
products, so a chain of thousands costs tens of milliseconds where a filter's loop takes seconds.
"""

from __future__ import annotations

import numpy as np

from core.arrays import Float

Blocks = Float[np.ndarray, "n d d"]
_Solution = tuple[np.ndarray, np.ndarray, np.ndarray]


def solve_chain(
    diagonal: Blocks, below: Float[np.ndarray, "m d d"], right: Float[np.ndarray, "n d"]
) -> tuple[Float[np.ndarray, "n d"], Blocks, Float[np.ndarray, "m d d"]]:
    """Solves A x = b for a positive definite chain.

    Args:
        diagonal: blocks A[k, k].
        below: blocks A[k + 1, k], one fewer.
        right: b.

    Returns:
        x, and of the inverse of A the blocks [k, k] and [k + 1, k].
    """
    n, d = right.shape
    if n == 1:
        inverse = np.linalg.inv(diagonal)
        return (inverse @ right[..., None])[..., 0], inverse, below
    odd = np.arange(1, n, 2)
    last = n % 2 == 0  # the last odd one has no neighbour to its right
    after = np.zeros((len(odd), d, d))
    after[: len(odd) - last] = np.swapaxes(below[odd[: len(odd) - last]], -1, -2)
    sides = np.concatenate([below[odd - 1], after], axis=-1)  # A[i, i - 1] and A[i, i + 1]
    inverse = np.linalg.inv(diagonal[odd])
    gain = inverse @ sides
    free = (inverse @ right[odd, :, None])[..., 0]
    even_x, even_S, even_next = solve_chain(*_reduced(diagonal, right, sides, gain, free))
    return _expanded(n, odd, inverse, gain, free, (even_x, even_S, even_next))


def _reduced(
    diagonal: np.ndarray, right: np.ndarray, sides: np.ndarray, gain: np.ndarray, free: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The system of the even unknowns after elimination of the odd ones."""
    d = right.shape[1]
    D, b = diagonal[::2].copy(), right[::2].copy()
    count, to_right = len(gain), min(len(gain), len(D) - 1)
    product = np.swapaxes(sides, -1, -2) @ gain
    shift = (np.swapaxes(sides, -1, -2) @ free[..., None])[..., 0]
    D[:count] -= product[:, :d, :d]
    b[:count] -= shift[:, :d]
    D[1 : to_right + 1] -= product[:to_right, d:, d:]
    b[1 : to_right + 1] -= shift[:to_right, d:]
    return D, -product[:to_right, d:, :d], b


def _expanded(
    n: int, odd: np.ndarray, inverse: np.ndarray, gain: np.ndarray, free: np.ndarray, even: _Solution
) -> _Solution:
    """Puts the odd unknowns back between the even ones."""
    x_even, S_even, next_even = even
    d, count, pairs = free.shape[1], len(odd), len(next_even)
    around = np.zeros((count, 2 * d, 2 * d))  # covariance of the two neighbours; none to the right of the last
    around[:, :d, :d] = S_even[:count]
    around[:pairs, d:, d:] = S_even[1 : pairs + 1]
    around[:pairs, d:, :d] = next_even
    around[:pairs, :d, d:] = np.swapaxes(next_even, -1, -2)
    neighbours = np.zeros((count, 2 * d))
    neighbours[:, :d] = x_even[:count]
    neighbours[:pairs, d:] = x_even[1 : pairs + 1]
    across = -gain @ around
    x, S, below = np.empty((n, d)), np.empty((n, d, d)), np.empty((n - 1, d, d))
    x[::2], S[::2] = x_even, S_even
    x[odd] = free - (gain @ neighbours[..., None])[..., 0]
    S[odd] = inverse - across @ np.swapaxes(gain, -1, -2)
    below[odd - 1] = across[:, :, :d]
    below[odd[:pairs]] = np.swapaxes(across[:pairs, :, d:], -1, -2)
    return x, S, below
