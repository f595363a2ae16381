"""Which compression and chunk length a shard should have: size on disk against speed of random windows.

`python benchmarks/shard_compression.py [--minutes 20] [--window-s 30] [--windows 200] [--seed 0]`: simulated clips of
five minutes (`simulation.clips`) are written in every way; then windows are read at random places, all fields that
features need, from a file that the system holds in memory, so that the disk does not count. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np

from dataset import shards
from dataset.schema import Clip
from simulation.clips import simulated_clip

CLIP_S = 300.0
WAYS = (
    ("none", 64), ("none", 256), ("none", 1024), ("auto", 64), ("auto", 256), ("auto", 1024), ("lzf", 256),
    ("gzip", 64), ("gzip", 256), ("gzip", 1024),
)  # fmt: skip


def measure(
    clips: Sequence[Clip], compression: str, chunk: int, starts: np.ndarray, window_s: float
) -> dict[str, float]:
    """Bytes a frame, seconds for writing an hour, and milliseconds for a window."""
    with tempfile.TemporaryDirectory() as folder:
        path, frames = Path(folder) / "shard.h5", sum(len(clip) for clip in clips)
        begin = time.perf_counter()
        with shards.new_shard(path) as file:
            for clip in clips:
                shards.write_clip(file, clip, compression, chunk)  # type: ignore[arg-type]
        written_s = time.perf_counter() - begin
        with h5py.File(path) as file:
            list(_windows(file, clips, starts, window_s))
            begin = time.perf_counter()
            list(_windows(file, clips, starts, window_s))
            read_s = time.perf_counter() - begin
        hours = frames / float(clips[0].rate) / 3600
        return {
            "bytes_per_frame": path.stat().st_size / frames,
            "write_s_per_hour": written_s / hours,
            "window_ms": 1000 * read_s / len(starts),
        }


def _windows(file: h5py.File, clips: Sequence[Clip], starts: np.ndarray, window_s: float) -> Iterator[dict]:
    """The fields that features need, at random places of the clips."""
    for number, start in enumerate(starts):
        clip = clips[number % len(clips)]
        length = round(window_s * float(clip.rate))
        first = int(start * (len(clip) - length))
        yield shards.read_fields(file["clips"][clip.id], shards.MOTION_FIELDS, first, first + length)


def main() -> None:
    """Prints a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--window-s", type=float, default=30.0)
    parser.add_argument("--windows", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    count = max(round(60 * given.minutes / CLIP_S), 1)
    clips = [simulated_clip(f"clip-{i}", given.seed + i, "s", CLIP_S) for i in range(count)]
    starts = np.random.default_rng(given.seed).random(given.windows)
    rows = {}
    print(f"{'compression':>12} {'chunk':>6} {'bytes/frame':>12} {'write s/h':>10} {'window ms':>10}")
    for compression, chunk in WAYS:
        rows[f"{compression}/{chunk}"] = row = measure(clips, compression, chunk, starts, given.window_s)
        figures = (row["bytes_per_frame"], row["write_s_per_hour"], row["window_ms"])
        print(f"{compression:>12} {chunk:6d} {figures[0]:12.0f} {figures[1]:10.1f} {figures[2]:10.2f}", flush=True)
    print(json.dumps({way: {k: round(v, 3) for k, v in row.items()} for way, row in rows.items()}))


if __name__ == "__main__":
    main()
