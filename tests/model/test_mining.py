"""Codes, patterns and covers against brute force."""

from __future__ import annotations

import functools
import itertools

import numpy as np
import pytest

from model.codes import kmeans, nearest_code
from model.covering import cover, covers
from model.hamming import hamming_neighbours
from model.mining import MiningConfig, Patterns, find_patterns, num_codes_for

SMALL = MiningConfig(max_length=6, count_short=4.0, count_long=2.0, max_distance=2.0)


def make_sequences(seed: int, num_codes: int = 4) -> list[np.ndarray]:
    """Random codes with planted repetitions, some of them altered in one place."""
    rng = np.random.default_rng(seed)
    motif = rng.integers(num_codes, size=5)
    sequences = []
    for _ in range(5):
        parts = []
        for _ in range(4):
            copy = motif.copy()
            copy[rng.integers(5)] = rng.integers(num_codes)
            parts += [rng.integers(num_codes, size=rng.integers(4)), copy, np.full(rng.integers(4), 1)]
        sequences.append(np.concatenate(parts).astype(np.int64))
    return sequences


def patterns_by_brute_force(sequences: list[np.ndarray], config: MiningConfig) -> dict[tuple[int, ...], int]:
    """The definition, word for word, with dictionaries."""

    def occurrences(length: int) -> dict[tuple[int, ...], int]:
        found: dict[tuple[int, ...], int] = {}
        for s in sequences:
            for i in range(len(s) - length + 1):
                gram = tuple(s[i : i + length].tolist())
                found[gram] = found.get(gram, 0) + 1
        return found

    frequent = {g: c for g, c in occurrences(1).items() if c > config.threshold(1)}
    for length in range(2, config.max_length + 1):
        joined = {a + b for a, b in itertools.product(frequent, frequent) if len(a) + len(b) == length}
        candidates = {g: c for g, c in occurrences(length).items() if g in joined}
        for g in candidates:
            alike = [c for other, c in candidates.items() if sum(map(int.__ne__, g, other)) <= config.tolerance(length)]
            if sum(alike) > config.threshold(length):
                frequent[g] = sum(alike)
    return {g: c for g, c in frequent.items() if len(g) > 1}


@pytest.mark.parametrize("seed", range(6))
def test_patterns_agree_with_brute_force(seed: int) -> None:
    sequences = make_sequences(seed)
    found = find_patterns(sequences, 4, SMALL)
    expected = patterns_by_brute_force(sequences, SMALL)
    flat = {
        tuple(p): int(c)
        for length, patterns in found.by_length.items()
        for p, c in zip(patterns.tolist(), found.counts[length], strict=True)
    }
    assert flat == expected and max(map(len, flat)) >= 4
    assert [found.codes_of(t) for t in range(4, found.num_types)] == sorted(expected, key=lambda g: (len(g), g))
    assert found.codes_of(2) == (2,)


def cover_by_brute_force(codes: np.ndarray, patterns: Patterns, config: MiningConfig) -> tuple[int, int]:
    """Smallest (number of patterns, mismatches) over all ways to cut the sequence."""

    @functools.cache
    def price(piece: tuple[int, ...]) -> int | None:
        options = [0] if len(set(piece)) == 1 else []
        for p in patterns.by_length.get(len(piece), np.empty((0, len(piece)))).tolist():
            distance = sum(a != b for a, b in zip(piece, p, strict=True))
            options += [distance] if distance <= config.tolerance(len(piece)) else []
        return min(options, default=None)

    best = (len(codes), 0)
    for cuts in itertools.product([False, True], repeat=len(codes) - 1):
        edges = [0, *(i + 1 for i, cut in enumerate(cuts) if cut), len(codes)]
        prices = [price(tuple(codes[a:b].tolist())) for a, b in itertools.pairwise(edges)]
        if all(p is not None for p in prices):
            best = min(best, (len(prices), sum(p for p in prices if p is not None)))
    return best


@pytest.mark.parametrize("seed", range(6))
def test_cover_is_the_smallest(seed: int) -> None:
    sequences = make_sequences(seed)
    patterns = find_patterns(sequences, 4, SMALL)
    codes = np.random.default_rng(seed).permutation(np.concatenate(sequences))[:3]
    codes = np.concatenate([sequences[0][:7], codes])
    found = cover(codes, patterns, SMALL)
    edges = [*found.starts.tolist(), len(codes)]
    mismatches = 0
    for motif_type, a, b in zip(found.types, edges[:-1], edges[1:], strict=True):
        expected = patterns.codes_of(int(motif_type))
        expected = expected * (b - a) if len(expected) == 1 else expected
        assert len(expected) == b - a
        mismatches += sum(x != y for x, y in zip(expected, codes[a:b].tolist(), strict=True))
    assert (len(found.starts), mismatches) == cover_by_brute_force(codes, patterns, SMALL)


def test_many_sequences_are_covered_as_one_by_one() -> None:
    sequences = [*make_sequences(1), np.empty(0, dtype=np.int64), np.array([2])]
    patterns = find_patterns(sequences, 4, SMALL)
    together = covers(sequences, patterns, SMALL)
    for found, codes in zip(together, sequences, strict=True):
        alone = cover(codes, patterns, SMALL)
        assert np.array_equal(found.starts, alone.starts) and np.array_equal(found.types, alone.types)


def test_runs_of_any_length_are_one_motif() -> None:
    nothing = Patterns(3, {}, {})
    found = cover(np.array([1] * 50 + [2] + [1]), nothing, MiningConfig())
    assert found.starts.tolist() == [0, 50, 51] and found.types.tolist() == [1, 2, 1]
    assert len(cover(np.empty(0, dtype=np.int64), nothing, MiningConfig()).starts) == 0


def test_schedules_are_the_papers() -> None:
    config = MiningConfig()
    assert (config.threshold(1), config.threshold(20)) == (15, 5)
    assert (config.tolerance(1), config.tolerance(20)) == (0, 4)
    assert config.tolerance(10) == 1 and config.threshold(10) == pytest.approx(15 - 10 * 9 / 19)


def test_neighbours_agree_with_all_pairs() -> None:
    rng = np.random.default_rng(0)
    queries, patterns = rng.integers(3, size=(40, 7)), rng.integers(3, size=(30, 7))
    i, j, distance = hamming_neighbours(queries, patterns, 2)
    table = (queries[:, None] != patterns[None]).sum(axis=-1)
    assert np.array_equal(np.stack([i, j]), np.nonzero(table <= 2))
    assert np.array_equal(distance, table[i, j])


def test_kmeans_finds_separate_clusters_and_repeats() -> None:
    rng = np.random.default_rng(0)
    centres = 20 * rng.normal(size=(6, 8))
    points = (centres[rng.integers(6, size=300)] + rng.normal(size=(300, 8))).astype(np.float32)
    first, second = (kmeans(points, 6, np.random.default_rng(1)) for _ in range(2))
    assert np.array_equal(first, second)
    code, distance = nearest_code(points, first)
    assert len(np.unique(code)) == 6
    # 8 channels of unit variance around each centre
    assert distance.mean() == pytest.approx(8, rel=0.15)


def test_kmeans_with_fewer_points_than_codes() -> None:
    points = np.array([[0.0], [0.0], [1.0]])
    assert sorted(kmeans(points, 5, np.random.default_rng(0)).ravel().tolist()) == [0.0, 1.0]
    assert num_codes_for(5, MiningConfig()) == 2 and num_codes_for(10**6, MiningConfig()) == 512


def test_motifs_of_a_fixed_number_of_atoms() -> None:
    codes = np.array([4, 4, 1, 2, 2])
    found = cover(codes, find_patterns([codes], 5, MiningConfig()), MiningConfig(fixed_atoms=2))
    assert found.starts.tolist() == [0, 2, 4] and found.types.tolist() == [4, 1, 2]
