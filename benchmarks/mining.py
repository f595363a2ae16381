"""How long mining takes: k-means, patterns and covers of the Atoms of many hours.

`python benchmarks/mining.py [--frames 1500000] [--rate 30] [--atom-frames 15.5] [--width 256] [--seed 0]`: so many
frames have an Atom every `--atom-frames`: 15.5 by Eq. A, about 30 at pauses (`benchmarks/boundaries.py`). Tokens are
drawn from clusters in `--width` dimensions, in sequences of two minutes whose clusters follow a Markov chain with runs,
and with phrases that come again, some of them altered: patterns of every length and their Hamming neighbours occur.
The paper's settings (512 codes, 20 Atoms, 15 to 5 occurrences, distance 4). `minutes` is the whole, `cpu_s` the time
that cores worked for it, which other programs do not lengthen as much. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time

import numpy as np

from model.codes import kmeans, nearest_code
from model.covering import covers
from model.mining import MiningConfig, find_patterns, num_codes_for

SESSION_S, CLUSTERS, PHRASES = 120.0, 700, 400


def code_sequences(num_atoms: int, per_sequence: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Clusters of Atoms: phrases of 2 to 20 that come again (one place in ten altered), runs, and wandering between."""
    phrases = [rng.integers(CLUSTERS, size=rng.integers(2, 21)) for _ in range(PHRASES)]
    popularity = 1 / np.arange(1, PHRASES + 1)
    following = rng.integers(CLUSTERS, size=(CLUSTERS, 8))
    parts, length = [], 0
    while length < num_atoms:
        kind = rng.random()
        if kind < 0.5:
            part = phrases[rng.choice(PHRASES, p=popularity / popularity.sum())].copy()
            altered = rng.random(len(part)) < 0.1
            part[altered] = rng.integers(CLUSTERS, size=altered.sum())
        elif kind < 0.7:
            part = np.full(rng.integers(2, 12), rng.integers(CLUSTERS))
        else:
            steps = [int(rng.integers(CLUSTERS))]
            for choice in rng.integers(8, size=rng.integers(1, 10)):
                steps.append(int(following[steps[-1], choice]))
            part = np.array(steps)
        parts.append(part)
        length += len(part)
    whole = np.concatenate(parts)[:num_atoms]
    return np.split(whole, np.arange(per_sequence, num_atoms, per_sequence))


def tokens_of(clusters: np.ndarray, width: int, rng: np.random.Generator) -> np.ndarray:
    """Points about the clusters' centres, float32 as the network gives them."""
    centres = rng.normal(size=(CLUSTERS, width)).astype(np.float32)
    return centres[clusters] + 0.5 * rng.normal(size=(len(clusters), width)).astype(np.float32)


def main() -> None:
    """Prints a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=1_500_000)
    parser.add_argument("--rate", type=float, default=30.0)
    parser.add_argument("--atom-frames", type=float, default=15.5)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rng, config = np.random.default_rng(given.seed), MiningConfig()
    num_atoms = round(given.frames / given.atom_frames)
    clusters = code_sequences(num_atoms, round(SESSION_S * given.rate / given.atom_frames), rng)
    tokens = tokens_of(np.concatenate(clusters), given.width, rng)

    begin, cpu = time.perf_counter(), time.process_time()
    centroids = kmeans(tokens, num_codes_for(num_atoms, config), np.random.default_rng(given.seed), config.iterations)
    codes = np.split(nearest_code(tokens, centroids)[0], np.cumsum([len(c) for c in clusters])[:-1])
    clustered = time.perf_counter()
    patterns = find_patterns(codes, len(centroids), config)
    searched = time.perf_counter()
    found = covers(codes, patterns, config)
    done, cpu = time.perf_counter(), time.process_time() - cpu

    steps = {"kmeans_s": clustered - begin, "patterns_s": searched - clustered, "cover_s": done - searched}
    num_motifs = sum(len(own.starts) for own in found)
    print(
        f"{given.frames} frames ({given.frames / given.rate / 3600:.1f} h), {num_atoms} Atoms, {len(codes)} sequences"
    )
    for name, value in {**steps, "all": done - begin}.items():
        print(f"{name:>12} {value:9.1f} s")
    sizes = {length: len(found) for length, found in patterns.by_length.items()}
    print(f"patterns by length: {sizes}; {num_motifs} Motifs, {num_atoms / num_motifs:.2f} Atoms each")
    result = {
        "minutes": (done - begin) / 60,
        **steps,
        "cpu_s": cpu,
        "atoms": num_atoms,
        "codes": len(centroids),
        "patterns": sum(sizes.values()),
        "atoms_per_motif": num_atoms / num_motifs,
        "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "cores": len(os.sched_getaffinity(0)),
    }
    print(json.dumps({name: round(value, 3) for name, value in result.items()}))


if __name__ == "__main__":
    main()
