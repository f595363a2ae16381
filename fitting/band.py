"""Block-tridiagonal systems in time: factors, and what is solved with them.

Blocks are eliminated one after the other, by block Cholesky, and the inverse's diagonal comes of a backward pass
(Takahashi, Fagan and Chin 1973). LAPACK works in place: a row-major block is the column-major transpose that it
expects, lower triangles are upper ones. On a GPU `fitting.odd_even` eliminates in another order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from scipy.linalg.blas import dtrsm, strsm
from scipy.linalg.lapack import dpotrf

from core.errors import InputError
from fitting.backend import Array


@runtime_checkable
class Band(Protocol):
    """A factor of a symmetric positive definite band, `H = F F^T` with its rows in the order of their elimination.

    Rows are (n, size, k), where the band lies.
    """

    def forward(self, rows: Array) -> Array:
        """`F^-1 rows`."""
        ...

    def backward(self, half: Array) -> Array:
        """`F^-T half`."""
        ...

    def inverse_blocks(self) -> Array:
        """Diagonal blocks of the inverse of `H`, (n, size, size)."""
        ...


def factorised(blocks: Array, below: Array | None, num_unknowns: int) -> Band:
    """Factors a band whose blocks are used up.

    Args:
        blocks: its diagonal, (n, size, size).
        below: coupling of each block with the one before, (n, size, size), the first unused; None where there is none.
        num_unknowns: of a frame; a block holds one frame or two.

    Raises:
        InputError: if it is not positive definite: an unknown that no term determines.
    """
    if isinstance(blocks, np.ndarray):
        return SequentialBand.of(blocks, below, num_unknowns)
    from fitting.odd_even import OddEvenBand

    return OddEvenBand.of(blocks, blocks.new_zeros(blocks.shape) if below is None else below, num_unknowns)


def undetermined(row: int, num_unknowns: int) -> InputError:
    """What to say of a row of the band that is not positive."""
    frame, unknown = divmod(row, num_unknowns)
    problem = f"unknown {unknown} of frame {frame} is not determined"
    return InputError("fit", problem, "give every unknown a prior")


@dataclass(frozen=True, eq=False)
class SequentialBand:
    """A band eliminated from the first block to the last.

    Attributes:
        diagonal: lower triangles, (n, size, size); what stands above them is not theirs.
        below: couplings of each block with the one before, (n, size, size); None where there is none.
    """

    diagonal: np.ndarray
    below: np.ndarray | None

    @staticmethod
    def of(blocks: np.ndarray, below: np.ndarray | None, num_unknowns: int) -> SequentialBand:
        """Factors in place."""
        size = blocks.shape[-1]
        for i in range(len(blocks)):
            if i and below is not None:  # below = E L^-T, that is L X^T = E^T
                dtrsm(1.0, blocks[i - 1].T, below[i].T, lower=0, trans_a=1, overwrite_b=1)
                blocks[i] -= below[i] @ below[i].T
            info = dpotrf(blocks[i].T, lower=0, clean=0, overwrite_a=1)[1]
            if info:
                raise undetermined(i * size + info - 1, num_unknowns)
        return SequentialBand(blocks, below)

    def forward(self, rows: np.ndarray) -> np.ndarray:
        """`F^-1 rows`."""
        result = rows.copy()
        for i in range(len(result)):
            if i and self.below is not None:
                result[i] -= self.below[i] @ result[i - 1]
            # L X = B, that is X^T L^T = B^T
            dtrsm(1.0, self.diagonal[i].T, result[i].T, side=1, lower=0, overwrite_b=1)
        return result

    def backward(self, half: np.ndarray) -> np.ndarray:
        """`F^-T half`."""
        result = half.copy()
        for i in reversed(range(len(result))):
            if i + 1 < len(result) and self.below is not None:
                result[i] -= self.below[i + 1].T @ result[i + 1]
            dtrsm(1.0, self.diagonal[i].T, result[i].T, side=1, lower=0, trans_a=1, overwrite_b=1)
        return result

    def inverse_blocks(self) -> np.ndarray:
        """Diagonal blocks of the inverse.

        Sums of squares throughout, so single precision keeps six digits of them, in half the time.
        """
        n, size, _ = self.diagonal.shape
        lower = self.diagonal.astype(np.float32)
        below = None if self.below is None else self.below.astype(np.float32)
        blocks = np.empty((n, size, size), np.float32)
        for i in reversed(range(n)):
            # L^-T (1 + E^T P E) L^-1, with P of the block that follows and E what couples it
            blocks[i] = np.eye(size, dtype=np.float32)
            if i + 1 < n and below is not None:
                blocks[i] += below[i + 1].T @ (blocks[i + 1] @ below[i + 1])
            strsm(1.0, lower[i].T, blocks[i].T, side=1, lower=0, trans_a=1, overwrite_b=1)
            strsm(1.0, lower[i].T, blocks[i].T, lower=0, overwrite_b=1)
        return blocks.astype(float)
