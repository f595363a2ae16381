"""Does reading keep up with training: windows read a second over the windows that a training step takes in that time.

`python benchmarks/loader.py [--recipe cpu_10min] [--minutes 60] [--steps 12] [--seed 0]`: a dataset of simulated clips
of two minutes; batches of the recipe are read from decoded clips in memory, from the shards (which the system may hold
in its own memory), and by two processes ahead; in turns with them the recipe's network takes training steps, as
`model.train` does them, with the recipe's threads. `ratio` is of one reading process with the recipe's memory,
`ratio_disk` of one without. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch

from dataset.build import build_from
from dataset.loader import WindowSampler
from dataset.prefetch import prefetch
from dataset.schema import Clip
from dataset.shards import AmdDataset
from model.a4mer import A4Mer
from model.optimiser import make_optimizer
from model.recipes import Recipe, recipe_named
from model.segments import MotionBatch
from model.windows import find_atoms, make_batch
from simulation.clips import simulated_clip

CLIP_S, SUBJECTS = 120.0, 10


def read(seed: int, item: str) -> list[Clip]:
    """A clip of the dataset."""
    number = int(item[1:])
    return [simulated_clip(item, seed * 10_000 + number, f"s{number % SUBJECTS}", CLIP_S)]


def sampler(dataset: AmdDataset, recipe: Recipe, cache_mb: int) -> WindowSampler:
    """The windows of a recipe."""
    data = recipe.data
    return WindowSampler(
        dataset, "train", data.window_s, data.rate_hz, recipe.seed, batch_size=recipe.batch_size, cache_mb=cache_mb
    )


class Trainer:
    """Steps of a recipe's network on Atoms."""

    def __init__(self, dataset: AmdDataset, recipe: Recipe, number: int) -> None:
        torch.manual_seed(recipe.seed)
        self.model = A4Mer(recipe.model)
        stats = dataset.stats()
        self.model.set_statistics(*(torch.from_numpy(x.astype(np.float32)) for x in (stats.mean, stats.sd)))
        self.optimizer = make_optimizer(self.model, recipe.optim)
        windows = sampler(dataset, recipe, 0)
        clips = {ref.clip_id for step in range(number) for ref in windows.refs(step)}
        atoms = find_atoms(dataset, [dataset[clip_id] for clip_id in sorted(clips)], recipe.data, recipe.atoms)
        self.batches: list[MotionBatch] = [
            make_batch(windows.batch(step), dataset.clips, atoms, recipe.data.rate_hz)[0] for step in range(number)
        ]

    def step(self, number: int) -> None:
        """One step."""
        loss = self.model.loss(self.batches[number % len(self.batches)], torch.Generator().manual_seed(number))
        self.optimizer.zero_grad(set_to_none=True)
        loss.total.backward()
        self.optimizer.step()
        self.model.update_teacher()


def measure(dataset: AmdDataset, recipe: Recipe, steps: int) -> dict[str, float]:
    """Windows a second of every way of reading, and of training; medians over steps done in turns."""
    trainer = Trainer(dataset, recipe, min(steps, 4))
    kept, bare = sampler(dataset, recipe, recipe.data.cache_mb), sampler(dataset, recipe, 0)
    for step in range(min(kept.steps_per_epoch, 200)):  # fill the memory
        kept.batch(step)
    ahead = prefetch(sampler(dataset, recipe, recipe.data.cache_mb), 0, 10**9, workers=2)
    for _ in range(10):
        next(ahead)
    ways = {
        "memory": lambda n: kept.batch(1000 + n),
        "disk": lambda n: bare.batch(1000 + n),
        "two_processes": lambda n: next(ahead),
        "training": trainer.step,
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    trainer.step(0)
    for number in range(steps):
        for name, work in ways.items():
            begin = time.perf_counter()
            for inner in range(5 if name == "two_processes" else 1):  # what waits ahead is no work
                work(5 * number + inner)
            seconds[name].append((time.perf_counter() - begin) / (5 if name == "two_processes" else 1))
    ahead.close()
    found = {name: recipe.batch_size / float(np.median(times)) for name, times in seconds.items()}
    return found | {"ratio": found["memory"] / found["training"], "ratio_disk": found["disk"] / found["training"]}


def main() -> None:
    """Prints a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="cpu_10min")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    recipe = recipe_named(given.recipe)
    torch.set_num_threads(recipe.threads)
    items = [f"c{i:05d}" for i in range(round(60 * given.minutes / CLIP_S))]
    with tempfile.TemporaryDirectory() as folder:
        build_from(items, partial(read, given.seed), Path(folder) / "amd")
        found = measure(AmdDataset(Path(folder) / "amd"), recipe, given.steps)
    for name in ("memory", "disk", "two_processes", "training"):
        print(f"{name:>14} {found[name]:9.0f} windows/s", flush=True)
    print(json.dumps({name: round(value, 2) for name, value in found.items()}))


if __name__ == "__main__":
    main()
