"""Action Motifs out of Action Atoms: codes by k-means, frequent patterns of codes, a cover with the fewest of them.

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

from core.arrays import Float, Int
from core.errors import InputError

_MAX_PAIRS = 4_000_000  # comparisons held in memory at once


@dataclass(frozen=True)
class MiningConfig:
    """Settings of the codes and of the pattern search.

    Attributes:
        max_codes: K of k-means.
        atoms_per_code: fewest Atoms for one code; lowers K on little data.
        iterations: largest number of k-means steps.
        max_length: longest pattern, Atoms.
        count_short: a pattern of one Atom must occur more often than this.
        count_long: a pattern of `max_length` Atoms must occur more often than this.
        max_distance: Hamming distance within which patterns of `max_length` are equal.
    """

    max_codes: int = 512
    atoms_per_code: int = 8
    iterations: int = 50
    max_length: int = 20
    count_short: float = 15.0
    count_long: float = 5.0
    max_distance: float = 4.0

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


@dataclass(frozen=True, eq=False)
class Cover:
    """A sequence of Atoms cut into Motifs.

    Attributes:
        starts: first Atom of each Motif, increasing from 0.
        types: type number of each Motif, see `Patterns`.
    """

    starts: Int[np.ndarray, "motifs"]
    types: Int[np.ndarray, "motifs"]


def kmeans(
    points_ND: Float[np.ndarray, "N D"], num_codes: int, rng: np.random.Generator, iterations: int = 50
) -> Float[np.ndarray, "K D"]:
    """Centroids by Lloyd's steps from a k-means++ start (Arthur and Vassilvitskii 2007).

    A code that loses all its points moves to the point that is served worst. Fewer distinct points than codes give as
    many codes as there are distinct points.
    """
    points = np.unique(points_ND, axis=0) if len(points_ND) <= 4 * num_codes else points_ND
    centroids = _spread_start(points_ND, min(num_codes, len(points)), rng)
    previous: np.ndarray | None = None
    for _ in range(iterations):
        code, distance = nearest_code(points_ND, centroids)
        if previous is not None and np.array_equal(code, previous):
            break
        previous = code
        order = np.argsort(code, kind="stable")
        count = np.bincount(code, minlength=len(centroids))
        filled = np.flatnonzero(count)
        first = (np.cumsum(count) - count)[filled]
        centroids = centroids.copy()
        sums = np.add.reduceat(points_ND[order].astype(np.float64), first, axis=0)
        centroids[filled] = sums / count[filled, None]
        empty = np.flatnonzero(count == 0)
        centroids[empty] = points_ND[np.argsort(-distance, kind="stable")[: len(empty)]]
    return centroids


def nearest_code(
    points_ND: Float[np.ndarray, "N D"], centroids_KD: Float[np.ndarray, "K D"]
) -> tuple[Int[np.ndarray, "N"], Float[np.ndarray, "N"]]:
    """Nearest centroid of each point and the squared distance to it."""
    code = np.empty(len(points_ND), dtype=np.int64)
    distance = np.empty(len(points_ND), dtype=points_ND.dtype)
    norms_K = np.square(centroids_KD).sum(axis=1)
    rows = max(1, _MAX_PAIRS // len(centroids_KD))
    for i in range(0, len(points_ND), rows):
        part = points_ND[i : i + rows]
        score = norms_K - 2 * part @ centroids_KD.T
        code[i : i + rows] = score.argmin(axis=1)
        distance[i : i + rows] = score.min(axis=1) + np.square(part).sum(axis=1)
    return code, np.maximum(distance, 0)


def _spread_start(points_ND: np.ndarray, num_codes: int, rng: np.random.Generator) -> np.ndarray:
    """Greedy k-means++: of a few points drawn in proportion to their squared distance, the one that helps most."""
    tries = 2 + int(np.log(num_codes))  # the number of Arthur and Vassilvitskii's own code
    chosen = [int(rng.integers(len(points_ND)))]
    distance = _squared_distance(points_ND, points_ND[chosen])[0]
    while len(chosen) < num_codes and distance.sum() > 0:
        mass = np.cumsum(distance)
        drawn = np.minimum(np.searchsorted(mass, rng.random(tries) * mass[-1], side="right"), len(points_ND) - 1)
        nearer = np.minimum(distance, _squared_distance(points_ND, points_ND[drawn]))
        best = int(nearer.sum(axis=1).argmin())
        chosen.append(int(drawn[best]))
        distance = nearer[best]
        distance[chosen] = 0.0  # exactly: rounding must not choose a point twice
    return points_ND[chosen].copy()


def _squared_distance(points_ND: np.ndarray, to_KD: np.ndarray) -> np.ndarray:
    """Squared distances (K, N)."""
    squares = np.square(points_ND).sum(axis=1)
    return np.maximum(squares + np.square(to_KD).sum(axis=1)[:, None] - 2 * to_KD @ points_ND.T, 0).astype(np.float64)


def hamming_neighbours(
    queries: Int[np.ndarray, "q length"], patterns: Int[np.ndarray, "p length"], distance: int
) -> tuple[Int[np.ndarray, "pairs"], Int[np.ndarray, "pairs"], Int[np.ndarray, "pairs"]]:
    """All pairs (query, pattern) that differ in at most `distance` places, and in how many they do.

    Cut into `distance + 1` blocks, such a pair agrees in at least one whole block: only those pairs are compared.
    """
    keys = [np.empty(0, dtype=np.int64)]
    for block in np.array_split(np.arange(queries.shape[1]), distance + 1):
        stacked = np.concatenate([queries[:, block], patterns[:, block]])
        group = np.unique(stacked, axis=0, return_inverse=True)[1].ravel()
        keys += _close_pairs(queries, patterns, group[: len(queries)], group[len(queries) :], distance)
    pair = np.unique(np.concatenate(keys))
    query_idx, pattern_idx = np.divmod(pair, max(len(patterns), 1))
    return query_idx, pattern_idx, (queries[query_idx] != patterns[pattern_idx]).sum(axis=1)


def _close_pairs(
    queries: np.ndarray, patterns: np.ndarray, query_group: np.ndarray, pattern_group: np.ndarray, distance: int
) -> list[np.ndarray]:
    """Keys query * len(patterns) + pattern of the close pairs within equal groups, in bounded memory."""
    order = np.argsort(pattern_group, kind="stable")
    low = np.searchsorted(pattern_group[order], query_group, side="left")
    size = np.searchsorted(pattern_group[order], query_group, side="right") - low
    total = np.cumsum(size)
    keys = []
    start = 0
    while start < len(queries):
        done = total[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(total, done + _MAX_PAIRS, side="right")))
        part = size[start:stop]
        q = np.repeat(np.arange(start, stop), part)
        within = np.arange(len(q)) - np.repeat(np.cumsum(part) - part, part)
        p = order[np.repeat(low[start:stop], part) + within]
        close = (queries[q] != patterns[p]).sum(axis=1) <= distance
        keys.append(q[close] * len(patterns) + p[close])
        start = stop
    return keys


def find_patterns(sequences: Sequence[Int[np.ndarray, "_"]], num_codes: int, config: MiningConfig) -> Patterns:
    """Frequent contiguous patterns of at least two Atoms.

    A candidate of length n is the junction of two frequent patterns whose lengths add up to n (Apriori: shorter ones
    are known by then). Its count is the sum over all candidates within the tolerance.
    """
    text, room = _join_sequences(sequences)
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


def cover(codes: Int[np.ndarray, "atoms"], patterns: Patterns, config: MiningConfig) -> Cover:
    """Cuts a sequence into the fewest patterns; the frame of the choices is in the module's docstring."""
    n = len(codes)
    # a Motif costs 1, a mismatch less than 1 / (all mismatches there can be): exact in integers
    motif_cost = n + 1
    matches = _match_positions(codes, patterns, config)
    run_start = np.maximum.accumulate(np.where(np.diff(codes, prepend=-1) != 0, np.arange(n), 0))
    best = np.zeros(n + 1, dtype=np.int64)
    previous, chosen = np.zeros(n + 1, dtype=np.int64), np.zeros(n + 1, dtype=np.int64)
    for end in range(1, n + 1):
        run = run_start[end - 1]
        # the earliest of the best: the longest last run
        begin = run + int(best[run:end].argmin())
        option = (int(best[begin]) + motif_cost, begin, int(codes[end - 1]))
        for length, (types, mismatches) in matches.items():
            start = end - length
            if start >= 0 and types[start] >= 0:
                cost = int(best[start]) + motif_cost + int(mismatches[start])
                option = min(option, (cost, start, int(types[start])))
        best[end], previous[end], chosen[end] = option
    ends = [n] if n else []
    while ends and previous[ends[-1]] > 0:
        ends.append(int(previous[ends[-1]]))
    at = np.array(ends[::-1], dtype=np.int64)
    return Cover(previous[at], chosen[at])


def _match_positions(
    codes: np.ndarray, patterns: Patterns, config: MiningConfig
) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """For each length: type of the closest pattern that begins at each position (-1 none), and its mismatches."""
    found = {}
    for length, known in patterns.by_length.items():
        types = np.full(len(codes), -1, dtype=np.int64)
        mismatches = np.zeros(len(codes), dtype=np.int64)
        if len(codes) >= length:
            grams = np.lib.stride_tricks.sliding_window_view(codes, length)
            i, j, distance = hamming_neighbours(grams, known, config.tolerance(length))
            order = np.lexsort((j, distance, i))
            position, first = np.unique(i[order], return_index=True)
            types[position] = patterns.first_type[length] + j[order][first]
            mismatches[position] = distance[order][first]
        found[length] = (types, mismatches)
    return found


def _join_sequences(sequences: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """All codes in a row, and at each position how many codes its sequence still has."""
    lengths = np.array([len(s) for s in sequences], dtype=np.int64)
    text = np.concatenate([np.empty(0, dtype=np.int64), *sequences]).astype(np.int64)
    return text, np.repeat(np.cumsum(lengths), lengths) - np.arange(len(text))


def num_codes_for(num_atoms: int, config: MiningConfig) -> int:
    """K for this many Atoms: at most `max_codes`, at least two."""
    return max(2, min(config.max_codes, num_atoms // config.atoms_per_code))
