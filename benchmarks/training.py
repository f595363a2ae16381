"""What a recipe costs: seconds a step of both phases, peak memory, hours of the whole schedule.

`python benchmarks/training.py [--recipe paper] [--steps 5] [--minutes 20] [--accumulate 1] [--precision float32]
[--compile] [--threads 1]`: steps of `model.train` on simulated clips of two minutes, without evaluations; then the
mining, and as many steps of both stages. Medians after a first step that does not count, of the clock and of the
processor; on a busy machine, that of one thread says what a quiet core takes, as several threads wait for each other
at work. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dataset.build import build_from
from dataset.schema import Clip
from dataset.shards import AmdDataset
from model.devices import reproducible
from model.distributed import Hardware, connected
from model.loop import Training
from model.overrides import override
from model.recipes import Recipe, recipe_named
from simulation.clips import simulated_clip

CLIP_S, SUBJECTS = 120.0, 10


def read(seed: int, item: str) -> list[Clip]:
    """The one sequence of a recording of the dataset."""
    number = int(item[1:])
    return [simulated_clip(item, seed * 10_000 + number, f"s{number % SUBJECTS}", CLIP_S)]


def time_steps(training: Training, number: int) -> tuple[float, float]:
    """Median seconds of a step, and of the processor, after one that does not count."""
    marks: list[tuple[float, float]] = []

    def mark() -> None:
        marks.append((time.perf_counter(), time.process_time()))

    training.steps(training.step + number + 1, mark, lambda line: None)
    mark()
    wall_s, cpu_s = np.median(np.diff(marks, axis=0)[1:], axis=0)
    return float(wall_s), float(cpu_s)


def peak_gb(device: torch.device) -> float:
    """Most memory held so far: of the GPU, or of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def measure(dataset: AmdDataset, recipe: Recipe, hardware: Hardware, steps: int) -> dict[str, Any]:
    """Costs of a recipe."""
    with connected(hardware, recipe.precision) as world, reproducible(recipe.threads):
        training = Training(dataset, recipe, world, hardware)
        training.segment()
        start_gb = peak_gb(world.device)
        stage1_s, stage1_cpu_s = time_steps(training, steps)
        begun = time.perf_counter()
        training.mine()
        mining_s = time.perf_counter() - begun
        training.step = max(training.step, recipe.stage1_steps)
        joint_s, joint_cpu_s = time_steps(training, steps)
        hours = (stage1_s * recipe.stage1_steps + joint_s * recipe.joint_steps) / 3600
        weights = sum(w.numel() for w in training.model.parameters() if w.requires_grad)
        return {
            "recipe": recipe.name, "device": str(world.device), "weights": weights, "before_gb": start_gb,
            "peak_gb": peak_gb(world.device), "stage1_s_per_step": stage1_s, "joint_s_per_step": joint_s,
            "stage1_cpu_s": stage1_cpu_s, "joint_cpu_s": joint_cpu_s, "mining_s": mining_s, "hours": hours,
        }  # fmt: skip


def main() -> None:
    """Prints a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="paper")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--accumulate", type=int, default=1)
    parser.add_argument("--precision", choices=("float32", "bf16"), default="float32")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    settings = [f"{name}={getattr(given, name)}" for name in ("precision", "seed", "threads") if getattr(given, name)]
    recipe = override(recipe_named(given.recipe), settings)
    hardware = Hardware(accumulate=given.accumulate, compile=given.compile)
    items = [f"c{i:05d}" for i in range(round(60 * given.minutes / CLIP_S))]
    with tempfile.TemporaryDirectory() as folder:
        build_from(items, partial(read, given.seed), Path(folder) / "amd")
        found = measure(AmdDataset(Path(folder) / "amd"), recipe, hardware, given.steps)
    for name, value in found.items():
        print(f"{name:>18} {value:.3f}" if isinstance(value, float) else f"{name:>18} {value}", flush=True)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
