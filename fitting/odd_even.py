"""Block-tridiagonal systems on a GPU, whose blocks are eliminated in parallel: every other one of those that are left.

A recursion through time keeps a GPU waiting for one small block after another. Odd-even reduction (Buzbee, Golub and
Nielson 1970; a nested dissection of the chain) is the same Cholesky factorisation in another order: blocks 1, 3, 5 ...
depend on none of each other and go in one batch; what is left is again block-tridiagonal, half as long. With neighbours
a before and b after an eliminated block i, and L, U, V its row of the factor,

    L L^T = H_ii   U = L^-1 H_ia   V = L^-1 H_ib   H_aa -= U^T U   H_bb -= V^T V   H_ba -= V^T U

Twice the arithmetic of the recursion, in a depth of log2(n). The inverse comes back by the same levels: P_aa, P_bb and
P_ba of blocks that are neighbours when i is gone give those of i.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from fitting.band import undetermined


@dataclass(frozen=True, eq=False)
class _Level:
    """The factor's rows of the odd blocks of one level: L (m, s, s), U (m, s, s), V (those with a block after them)."""

    L: torch.Tensor
    U: torch.Tensor
    V: torch.Tensor


def _solved(L: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """`L^-1 rows`."""
    return torch.linalg.solve_triangular(L, rows, upper=False)


def _solved_back(L: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """`L^-T rows`."""
    return torch.linalg.solve_triangular(L.mT, rows, upper=True)


@dataclass(frozen=True, eq=False)
class OddEvenBand:
    """A band eliminated by halves.

    Attributes:
        levels: from the first that was eliminated to the last.
        top: lower triangle of the block that is left, (1, size, size).
    """

    levels: tuple[_Level, ...]
    top: torch.Tensor

    @staticmethod
    def of(blocks: torch.Tensor, below: torch.Tensor, num_unknowns: int) -> OddEvenBand:
        """Factors tensors.

        Raises:
            InputError: if the band is not positive definite.
        """
        H, E, levels, checks = blocks, below, [], []
        while len(H) > 1:
            L, info = torch.linalg.cholesky_ex(H[1::2])
            after = E[2::2].mT
            level = _Level(L, _solved(L, E[1::2]), _solved(L[: len(after)], after))
            levels.append(level)
            checks.append(info)
            H = H[0::2].clone()
            H[: len(L)] -= level.U.mT @ level.U
            H[1:] -= level.V.mT @ level.V
            E = torch.zeros_like(H)
            E[1:] = -level.V.mT @ level.U[: len(after)]
        top, info = torch.linalg.cholesky_ex(H)
        _check([*checks, info], H.shape[-1], num_unknowns)
        return OddEvenBand(tuple(levels), top)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """`F^-1 rows`."""
        left, parts = rows, []
        for level in self.levels:
            half = _solved(level.L, left[1::2])
            parts.append(half)
            left = left[0::2].clone()
            left[: len(half)] -= level.U.mT @ half
            left[1:] -= level.V.mT @ half[: len(level.V)]
        return self._joined(parts, _solved(self.top, left))

    def backward(self, half: torch.Tensor) -> torch.Tensor:
        """`F^-T half`."""
        parts, left = [], half
        for _ in self.levels:
            parts.append(left[1::2])
            left = left[0::2]
        found = _solved_back(self.top, left)
        for level, part in zip(reversed(self.levels), reversed(parts), strict=True):
            rows = part - level.U @ found[: len(part)]
            rows[: len(level.V)] -= level.V @ found[1:]
            found = _interleaved(found, _solved_back(level.L, rows))
        return found

    def inverse_blocks(self) -> torch.Tensor:
        """Diagonal blocks of the inverse."""
        identity = torch.eye(self.top.shape[-1], dtype=self.top.dtype, device=self.top.device)
        P = _solved_back(self.top, _solved(self.top, identity[None]))
        C = torch.zeros_like(P)  # of each block with the one before
        for level in reversed(self.levels):
            m, k = len(level.L), len(level.V)
            by_before = level.U @ P[:m]
            by_before[:k] += level.V @ C[1:]
            by_after = level.V @ P[1:] + level.U[:k] @ C[1:].mT
            inside = identity + by_before @ level.U.mT
            inside[:k] += by_after @ level.V.mT
            own = _solved_back(level.L, _solved_back(level.L, inside).mT)
            before, after = -_solved_back(level.L, by_before), -_solved_back(level.L[:k], by_after)
            P = _interleaved(P, own)
            C = torch.zeros_like(P)
            C[1::2], C[2::2] = before, after.mT
        return P

    def _joined(self, parts: list[torch.Tensor], top: torch.Tensor) -> torch.Tensor:
        """Rows of all levels in the order of time."""
        for part in reversed(parts):
            top = _interleaved(top, part)
        return top


def _interleaved(even: torch.Tensor, odd: torch.Tensor) -> torch.Tensor:
    whole = even.new_empty((len(even) + len(odd), *even.shape[1:]))
    whole[0::2], whole[1::2] = even, odd
    return whole


def _check(infos: list[torch.Tensor], size: int, num_unknowns: int) -> None:
    """Raises for the first block whose Cholesky factor does not exist."""
    if not torch.cat(infos).any():
        return
    for level, info in enumerate(infos):
        for position in torch.nonzero(info).ravel().tolist():
            first = level < len(infos) - 1
            block = (2 * position + 1 if first else position) << level
            raise undetermined(block * size + int(info[position]) - 1, num_unknowns)
