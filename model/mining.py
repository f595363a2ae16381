"""Action Motifs out of Action Atoms: frequent patterns of codes (codes: `model.codes`, covers: `model.covering`).

Section 3.2 and A.3 of "Action Motifs" (arXiv 2604.28173). Atom tokens of the training data become codes (k-means); a
generalised sequential pattern search (Apriori) joins frequent patterns to longer ones; and each sequence is covered by
the fewest patterns (dynamic programming). Patterns are contiguous. Thresholds fall and the tolerated Hamming distance
grows linearly with the length; a run of one code is a pattern at any length.

Choices where the paper is silent: occurrences are counted over the whole data set, overlapping ones too; a pattern must
occur exactly at least once; a single Atom is always a pattern, so that a cover exists; among covers of equal size the
one with fewer mismatches wins, then the one whose last pattern is longest; the tolerance is rounded down.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from core.arrays import Int
from core.errors import InputError
from model.hamming import hamming_neighbours


@dataclass(frozen=True)
class MiningConfig:
    """Settings of the codes and of the pattern search.

    Attributes:
        max_codes: K of k-means.
        atoms_per_code: fewest Atoms for one code; lowers K on little data. The paper's 512 codes have some 190 Atoms
            each; with far fewer hardly any two Atoms in a row occur again, and Motifs are Atoms.
        iterations: largest number of k-means steps.
        max_length: longest pattern, Atoms.
        count_short: a pattern of one Atom must occur more often than this.
        count_long: a pattern of `max_length` Atoms must occur more often than this.
        max_distance: Hamming distance within which patterns of `max_length` are equal.
        fixed_atoms: this many Atoms make a Motif whatever they are, for an ablation of the paper; 0: patterns do.
    """

    max_codes: int = 512
    atoms_per_code: int = 150
    iterations: int = 50
    max_length: int = 20
    count_short: float = 15.0
    count_long: float = 5.0
    max_distance: float = 4.0
    fixed_atoms: int = 0

    def threshold(self, length: int) -> float:
        """Number of occurrences that a frequent pattern of this length exceeds."""
        return self.count_short + (self.count_long - self.count_short) * self._share(length)

    def tolerance(self, length: int) -> int:
        """Hamming distance within which two patterns of this length are equal."""
        return int(self.max_distance * self._share(length) + 1e-9)

    def _share(self, length: int) -> float:
        return (length - 1) / max(self.max_length - 1, 1)


@dataclass(frozen=True, eq=False)
class Patterns:
    """Frequent patterns of codes by length; type numbers 0..K-1 are the codes themselves and their runs.

    Attributes:
        num_codes: K.
        by_length: for each length, patterns (n, length) in lexicographic order.
        counts: their (fuzzy) numbers of occurrences.
    """

    num_codes: int
    by_length: dict[int, np.ndarray]
    counts: dict[int, np.ndarray]

    @property
    def first_type(self) -> dict[int, int]:
        """Type number of the first pattern of each length."""
        lengths = sorted(self.by_length)
        sizes = [len(self.by_length[n]) for n in lengths]
        return dict(zip(lengths, (self.num_codes + np.cumsum([0, *sizes[:-1]])).tolist(), strict=True))

    @property
    def num_types(self) -> int:
        """Codes and patterns together."""
        return self.num_codes + sum(len(p) for p in self.by_length.values())

    def codes_of(self, motif_type: int) -> tuple[int, ...]:
        """The codes of a type; one code for a run of it."""
        if motif_type < self.num_codes:
            return (motif_type,)
        for length, first in self.first_type.items():
            if motif_type < first + len(self.by_length[length]):
                return tuple(self.by_length[length][motif_type - first].tolist())
        raise InputError(f"motif type {motif_type}", f"there are {self.num_types}", "use a type of the same run")


def find_patterns(sequences: Sequence[Int[np.ndarray, "_"]], num_codes: int, config: MiningConfig) -> Patterns:
    """Frequent contiguous patterns of at least two Atoms.

    A candidate of length n is the junction of two frequent patterns whose lengths add up to n (Apriori: shorter ones
    are known by then). Its count is the sum over all candidates within the tolerance.
    """
    text, room = join_sequences(sequences)
    frequent = np.bincount(text, minlength=num_codes)[text] > config.threshold(1)
    known = {1: frequent}  # length -> positions at which a frequent pattern of that length begins
    by_length: dict[int, np.ndarray] = {}
    counts: dict[int, np.ndarray] = {}
    for length in range(2, config.max_length + 1):
        candidate = np.zeros(len(text), dtype=bool)
        for first, begins in known.items():
            if length - first in known:
                candidate[: len(text) - first] |= begins[: len(text) - first] & known[length - first][first:]
        position = np.flatnonzero(candidate & (room >= length))
        if len(position) == 0:
            continue
        grams = text[position[:, None] + np.arange(length)]
        unique, inverse, count = np.unique(grams, axis=0, return_inverse=True, return_counts=True)
        if config.tolerance(length):
            i, j, _ = hamming_neighbours(unique, unique, config.tolerance(length))
            count = np.bincount(i, weights=count[j], minlength=len(unique)).astype(np.int64)
        keep = count > config.threshold(length)
        if keep.any():
            by_length[length], counts[length] = unique[keep], count[keep]
            known[length] = np.zeros(len(text), dtype=bool)
            known[length][position[keep[inverse.ravel()]]] = True
    return Patterns(num_codes, by_length, counts)


def join_sequences(sequences: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """All codes in a row, and at each position how many codes its sequence still has."""
    lengths = np.array([len(s) for s in sequences], dtype=np.int64)
    text = np.concatenate([np.empty(0, dtype=np.int64), *sequences]).astype(np.int64)
    return text, np.repeat(np.cumsum(lengths), lengths) - np.arange(len(text))


def num_codes_for(num_atoms: int, config: MiningConfig) -> int:
    """K for this many Atoms: at most `max_codes`, at least two."""
    return max(2, min(config.max_codes, num_atoms // config.atoms_per_code))
