"""A dataset of 14 hours, 1.5 million frames: is it built, verified, loaded and trained on in bounded memory, in line?

`python benchmarks/long_dataset.py [--hours 14] [--sizes 4] [--steps 30] [--cache-mb 64] [--seed 0]`: simulated clips of
two minutes (`simulation.clips`) become a dataset of the given length and others of a half, a quarter and an eighth of
it. Each is built, verified, read once in random order (30-s windows), and trained on from its first step, with Atoms
found on all of it before. Every phase runs in a process of its own, whose largest resident memory is stated. Times are
of the processor, which other work on the machine does not lengthen; `wall_min` is by the clock. `linear` is the time an
hour of data takes in the largest dataset over that in the next smaller, `memory` the largest phase's memory in the one
over that in the other: 1 is perfect for both. The last line is JSON.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dataset.build import BuildConfig, build_from
from dataset.loader import WindowSampler
from dataset.schema import Clip
from dataset.shards import AmdDataset
from dataset.verify import verify
from simulation.clips import simulated_clip

CLIP_S, SUBJECTS, BATCH = 120.0, 20, 64
PHASES = ("build", "verify", "load", "train")


def read(seed: int, item: str) -> list[Clip]:
    """One of the dataset's sequences."""
    number = int(item[1:])
    return [simulated_clip(item, seed * 10_000 + number, f"s{number % SUBJECTS}", CLIP_S)]


def build_phase(path: Path, hours: float, seed: int) -> None:
    """Simulates and builds."""
    items = [f"c{i:05d}" for i in range(max(round(hours * 3600 / CLIP_S), SUBJECTS))]
    build_from(items, partial(read, seed), path, BuildConfig())


def verify_phase(path: Path) -> None:
    """Hashes everything again."""
    verify(path).require(path)


def load_phase(path: Path, cache_mb: int) -> None:
    """One epoch in random order."""
    dataset = AmdDataset(path)
    sampler = WindowSampler(dataset, "all", 30.0, 5.0, 0, batch_size=BATCH, cache_mb=cache_mb)
    valid = [sampler.batch(step)["valid"].mean() for step in range(sampler.steps_per_epoch)]
    assert np.mean(valid) > 0.9


def train_phase(path: Path, out: Path, steps: int, cache_mb: int) -> None:
    """Atoms of all clips, then some steps."""
    from model.distributed import Hardware
    from model.recipes import recipe_named
    from model.train import train

    recipe = recipe_named("debug_cpu")
    recipe = dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, cache_mb=cache_mb))
    found = train(path, recipe, out, hardware=Hardware(device="cpu"), stop_at=steps)
    assert found.steps == steps


def apart(work: Callable[..., None], *arguments: object) -> tuple[float, float, float]:
    """Seconds of the processor and of the clock, and largest resident memory, MiB, of work in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_measured, work, *arguments).result()


def _measured(work: Callable[..., None], *arguments: object) -> tuple[float, float, float]:
    begin, busy = time.perf_counter(), time.process_time()
    work(*arguments)
    wall_s, busy_s = time.perf_counter() - begin, time.process_time() - busy
    # not getrusage, whose maximum a new process inherits from its parent
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return busy_s, wall_s, int(lines["VmHWM"].split()[0]) / 1024


def measure(hours: float, steps: int, cache_mb: int, seed: int) -> dict[str, float]:
    """Minutes and memory of every phase, and the dataset's size."""
    with tempfile.TemporaryDirectory() as folder:
        path, row = Path(folder) / "amd", {"wall_min": 0.0}
        phases: tuple[tuple[Any, ...], ...] = (
            (build_phase, path, hours, seed),
            (verify_phase, path),
            (load_phase, path, cache_mb),
            (train_phase, path, Path(folder) / "run", steps, cache_mb),
        )
        for name, (work, *arguments) in zip(PHASES, phases, strict=True):
            busy_s, wall_s, row[f"{name}_mib"] = apart(work, *arguments)
            row[f"{name}_min"] = busy_s / 60
            row["wall_min"] += wall_s / 60
        info = AmdDataset(path).info
        row |= {"hours": info.duration_s / 3600, "frames": info.num_frames, "shards": len(info.shards)}
        row["disk_mib"] = sum(shard.num_bytes for shard in info.shards) / 2**20
    row["minutes"] = sum(row[f"{name}_min"] for name in PHASES)
    row["peak_mib"] = max(row[f"{name}_mib"] for name in PHASES)
    return row


def main() -> None:
    """Prints a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=14.0)
    parser.add_argument("--sizes", type=int, default=4, help="datasets, each half as long as the next")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--cache-mb", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    heads = [f"{name} {unit}" for name in PHASES for unit in ("min", "MiB")]
    print(f"{'hours':>6} {'frames':>8} {'disk MiB':>9}", *(f"{head:>10}" for head in heads), flush=True)
    rows = []
    for halvings in range(given.sizes - 1, -1, -1):
        rows.append(measure(given.hours / 2**halvings, given.steps, given.cache_mb, given.seed))
        row = rows[-1]
        figures = [f"{row[f'{name}_min']:10.2f} {row[f'{name}_mib']:10.0f}" for name in PHASES]
        print(f"{row['hours']:6.2f} {row['frames']:8d} {row['disk_mib']:9.0f}", *figures, flush=True)
    result = dict(rows[-1])
    if len(rows) > 1:
        small, large = rows[-2:]
        result["linear"] = (large["minutes"] / large["hours"]) / (small["minutes"] / small["hours"])
        result["memory"] = large["peak_mib"] / small["peak_mib"]
    print(json.dumps({key: round(value, 3) for key, value in result.items()}))


if __name__ == "__main__":
    main()
