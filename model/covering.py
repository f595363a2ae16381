"""The fewest patterns that cover a sequence of codes: its Motifs (A.3 of "Action Motifs", arXiv 2604.28173).

Any code is a pattern, and so is a run of one code at any length. Among covers of equal size the one with fewer
mismatches wins, then the one whose last pattern is longest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from core.arrays import Int
from model.hamming import hamming_neighbours
from model.mining import MiningConfig, Patterns, join_sequences

# for each length: type of the closest pattern that begins at each position (-1 none), and its mismatches
Matches = dict[int, tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True, eq=False)
class Cover:
    """A sequence of Atoms cut into Motifs.

    Attributes:
        starts: first Atom of each Motif, increasing from 0.
        types: type number of each Motif, see `Patterns`.
    """

    starts: Int[np.ndarray, "motifs"]
    types: Int[np.ndarray, "motifs"]


def cover(codes: Int[np.ndarray, "atoms"], patterns: Patterns, config: MiningConfig) -> Cover:
    """Cuts a sequence into the fewest patterns."""
    return covers([codes], patterns, config)[0]


def covers(sequences: Sequence[Int[np.ndarray, "_"]], patterns: Patterns, config: MiningConfig) -> list[Cover]:
    """`cover` of many sequences: the patterns are looked up in all of them at once."""
    if config.fixed_atoms > 0:
        return [_fixed(np.asarray(codes), config.fixed_atoms) for codes in sequences]
    text, room = join_sequences(sequences)
    matches = _match_positions(text, room, patterns, config)
    found, start = [], 0
    for codes in sequences:
        stop = start + len(codes)
        own = {length: (types[start:stop], wrong[start:stop]) for length, (types, wrong) in matches.items()}
        found.append(_fewest(np.asarray(codes), own))
        start = stop
    return found


def _fixed(codes: Int[np.ndarray, "atoms"], size: int) -> Cover:
    """Motifs of one size, each of the type of its first Atom."""
    starts = np.arange(0, len(codes), size)
    return Cover(starts, codes[starts])


def _fewest(codes: Int[np.ndarray, "atoms"], matches: Matches) -> Cover:
    """The cover of one sequence, by dynamic programming over its ends."""
    n = len(codes)
    # a Motif costs 1, a mismatch less than 1 / (all mismatches there can be): exact in integers
    motif_cost = n + 1
    run_start = np.maximum.accumulate(np.where(np.diff(codes, prepend=-1) != 0, np.arange(n), 0))
    # plain lists: single numbers are read, some ten for each Atom
    ends_at = _by_end(matches, n)
    best, previous, chosen = [0] * (n + 1), [0] * (n + 1), [0] * (n + 1)
    for end in range(1, n + 1):
        run = int(run_start[end - 1])
        # the earliest of the best: the longest last run
        begin = min(range(run, end), key=best.__getitem__)
        option = (best[begin] + motif_cost, begin, int(codes[end - 1]))
        for start, motif_type, mismatches in ends_at[end]:
            option = min(option, (best[start] + motif_cost + mismatches, start, motif_type))
        best[end], previous[end], chosen[end] = option
    ends = [n] if n else []
    while ends and previous[ends[-1]] > 0:
        ends.append(previous[ends[-1]])
    at = np.array(ends[::-1], dtype=np.int64)
    return Cover(np.array(previous, dtype=np.int64)[at], np.array(chosen, dtype=np.int64)[at])


def _by_end(matches: Matches, n: int) -> list[list[tuple[int, int, int]]]:
    """(start, type, mismatches) of the patterns that end before each Atom."""
    found: list[list[tuple[int, int, int]]] = [[] for _ in range(n + 1)]
    for length, (types, mismatches) in matches.items():
        start = np.flatnonzero(types >= 0)
        for s, motif_type, wrong in zip(start.tolist(), types[start].tolist(), mismatches[start].tolist(), strict=True):
            found[s + length].append((s, motif_type, wrong))
    return found


def _match_positions(text: np.ndarray, room: np.ndarray, patterns: Patterns, config: MiningConfig) -> Matches:
    """The closest pattern of each length that begins at each position and ends within its sequence."""
    found = {}
    for length, known in patterns.by_length.items():
        types = np.full(len(text), -1, dtype=np.int64)
        mismatches = np.zeros(len(text), dtype=np.int64)
        begins = np.flatnonzero(room >= length)
        if len(begins):
            grams, gram_of = np.unique(text[begins[:, None] + np.arange(length)], axis=0, return_inverse=True)
            i, j, distance = hamming_neighbours(grams, known, config.tolerance(length))
            order = np.lexsort((j, distance, i))
            matched, first = np.unique(i[order], return_index=True)
            nearest, wrong = np.full(len(grams), -1, dtype=np.int64), np.zeros(len(grams), dtype=np.int64)
            nearest[matched] = patterns.first_type[length] + j[order][first]
            wrong[matched] = distance[order][first]
            types[begins], mismatches[begins] = nearest[gram_of.ravel()], wrong[gram_of.ravel()]
        found[length] = (types, mismatches)
    return found
