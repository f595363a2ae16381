"""Rows of codes that differ in few places, found without comparing all of them."""

from __future__ import annotations

import numpy as np

from core.arrays import Int

_MAX_PAIRS = 4_000_000  # comparisons held in memory at once


def hamming_neighbours(
    queries: Int[np.ndarray, "q length"], patterns: Int[np.ndarray, "p length"], distance: int
) -> tuple[Int[np.ndarray, "pairs"], Int[np.ndarray, "pairs"], Int[np.ndarray, "pairs"]]:
    """All pairs (query, pattern) that differ in at most `distance` places, and in how many they do.

    Cut into `distance + 1` blocks, such a pair agrees in at least one whole block: only those pairs are compared.
    """
    queries, patterns = queries.astype(np.int32), patterns.astype(np.int32)
    groups: list[tuple[np.ndarray, np.ndarray]] = []
    keys = [np.empty(0, dtype=np.int64)]
    for block in np.array_split(np.arange(queries.shape[1]), distance + 1):
        group = _numbered(np.concatenate([queries[:, block], patterns[:, block]]))
        groups.append((group[: len(queries)], group[len(queries) :]))
        keys += _close_pairs(queries, patterns, groups, distance)
    query_idx, pattern_idx = np.divmod(np.sort(np.concatenate(keys)), max(len(patterns), 1))
    return query_idx, pattern_idx, (queries[query_idx] != patterns[pattern_idx]).sum(axis=1)


def _numbered(rows: np.ndarray) -> np.ndarray:
    """Equal rows get equal numbers."""
    number = np.zeros(len(rows), dtype=np.int64)
    for column in rows.T:
        # one column more at a time: numbers stay below the number of rows, so that the product fits
        number = np.unique(number * (int(column.max(initial=0)) + 1) + column, return_inverse=True)[1]
    return number


def _close_pairs(
    queries: np.ndarray, patterns: np.ndarray, groups: list[tuple[np.ndarray, np.ndarray]], distance: int
) -> list[np.ndarray]:
    """Keys query * len(patterns) + pattern of the close pairs that agree in the last block of `groups` and in none
    before it, in bounded memory.
    """
    query_group, pattern_group = groups[-1]
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
        for earlier_query, earlier_pattern in groups[:-1]:
            new = earlier_query[q] != earlier_pattern[p]
            q, p = q[new], p[new]
        close = (queries[q] != patterns[p]).sum(axis=1) <= distance
        keys.append(q[close] * len(patterns) + p[close])
        start = stop
    return keys
