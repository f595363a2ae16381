"""The published recipes at their published size, from NTU RGB+D's text files to steps of pretraining: do they run?

`python benchmarks/published_recipes.py [--steps 200] [--batch 128] [--systems mamp gl_transformer motion_codes]
[--device auto] [--threads 1] [--seed 0] [--keep DIR]`: writes `.skeleton` files of moving stick people (one or two,
several subjects, cameras and setups), reads them through the real reader and split (NTU RGB+D 60, by subject), and
trains each network of `ntu_published` for so many steps. `--batch` is for machines that the published one is too large
for; the table says which batch ran, and the arithmetic of a step at the published one: multiplications and additions of
matrix products and attention, forward and back, counted by torch on two of the longest clips of one person. Peak memory
is torch's on a GPU, the process's on a CPU. Each recipe runs in a process of its own. The last line is JSON.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Generator, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from core.files import read_json
from dataset.kinect.benchmarks import benchmark_named
from dataset.kinect.cache import open_clips
from model.baselines.pretraining import SystemRecipe, first_weights, pretrain
from model.baselines.recipes import PUBLISHED, system_recipe
from model.baselines.skeletons import SkeletonBatch
from model.baselines.sources import ClipSource, Statistics, SystemClips
from model.baselines.views import training_view
from model.devices import choose_device
from model.masking import generator_of
from simulation.kinect import write_ntu_files

BENCHMARK = "ntu60-xsub"
# up to the longest of NTU RGB+D: a published batch is padded to nearly that, here as there
FRAMES = (40, 300)
COLUMNS: Mapping[str, tuple[str, str]] = {
    "weights": ("weights", "d"), "batch": ("batch", "d"), "paper's": ("published_batch", "d"), "steps": ("steps", "d"),
    "steps/s": ("steps_per_s", ".3f"), "peak GB": ("peak_gb", ".2f"), "first": ("first_loss", ".3f"),
    "last": ("last_loss", ".3f"), "GF/clip": ("gflops_per_clip", ".1f"),
    "TF/step": ("tflops_per_published_step", ".2f"),
}  # fmt: skip


class Timed:
    """A source that remembers when each batch was asked for."""

    def __init__(self, source: ClipSource) -> None:
        self.source, self.name, self.marks = source, source.name, list[float]()

    def identity(self) -> Mapping[str, str]:
        return self.source.identity()

    def statistics(self) -> Statistics:
        return self.source.statistics()

    def batches(self, start: int, end: int) -> Generator[tuple[int, Any], None, None]:
        for step, raw in self.source.batches(start, end):
            self.marks.append(time.perf_counter())
            yield step, raw
        self.marks.append(time.perf_counter())

    def prepare(self, raw: Any, generator: torch.Generator) -> SkeletonBatch:
        return self.source.prepare(raw, generator)


def flops_per_clip(recipe: SystemRecipe, seen: SystemClips) -> float:
    """Floating-point operations of matrix products and attention for a clip of a step, forward and back.

    Counted on the two longest clips of one person, to whose length a batch of the published size is padded.
    """
    alone = np.flatnonzero(seen.clips.people[seen.idx] == 1)
    rows = alone[np.argsort(seen.clips.frames[seen.idx[alone]])[-2:]].tolist()
    model = first_weights(recipe, ClipSource(seen, BENCHMARK, seed=0, batch_size=2)).train()
    generator = generator_of(recipe.seed, 0)
    batch = training_view(recipe.system, seen.batch(rows), generator)
    with FlopCounterMode(display=False) as counter:
        model.loss(batch, generator).total.backward()
    return float(counter.get_total_flops() / len(rows))


def measure(kind: str, clips_path: Path, given: argparse.Namespace) -> dict[str, Any]:
    """A recipe's costs, in this process."""
    published = system_recipe(kind, "ntu_published")
    batch = given.batch or published.batch_size
    optim = dataclasses.replace(published.optim, warmup_steps=min(published.optim.warmup_steps, given.steps // 4))
    recipe = dataclasses.replace(
        published, batch_size=batch, steps=given.steps, checkpoint_every=given.steps, optim=optim, seed=given.seed,
        threads=given.threads,
    )  # fmt: skip
    torch.set_num_threads(given.threads)
    benchmark = benchmark_named(BENCHMARK)
    clips = open_clips(clips_path, benchmark.source)
    seen = SystemClips(clips, clips.parts(benchmark).train, recipe.system)
    device = choose_device(given.device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    source = Timed(ClipSource(seen, BENCHMARK, seed=given.seed, batch_size=batch))
    with tempfile.TemporaryDirectory() as folder:
        run = pretrain(source, recipe, Path(folder) / "run", device=given.device).run
        lines = [json.loads(line) for line in (run / "losses.jsonl").read_text().splitlines()]
        assert read_json(run / "result.json")["steps"] == given.steps
    tenth = max(len(lines) // 10, 1)
    own = np.array([line["loss"] for line in lines])
    seconds = float(np.median(np.diff(source.marks)[1:] if len(source.marks) > 2 else np.diff(source.marks)))
    if device.type == "cuda":
        peak_gb = torch.cuda.max_memory_allocated(device) / 1e9
    else:
        peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    # after the peak has been taken, which it would add to
    flops = flops_per_clip(recipe, seen)
    weights = sum(w.numel() for w in first_weights(recipe, source).parameters())
    return {
        "system": kind, "device": str(device), "weights": weights,
        "batch": batch, "published_batch": published.batch_size, "steps": len(lines), "steps_per_s": 1 / seconds,
        "peak_gb": peak_gb, "first_loss": float(own[:tenth].mean()), "last_loss": float(own[-tenth:].mean()),
        "gflops_per_clip": flops / 1e9,
        "tflops_per_published_step": flops * published.batch_size / 1e12,
        "published_steps": published.steps,
    }  # fmt: skip


def main() -> None:
    """Prints a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--systems", nargs="+", choices=PUBLISHED, default=list(PUBLISHED))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the files that are made, instead of a temporary one")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.keep or Path(temporary)
        made = write_ntu_files(
            folder / "skeletons", given.seed, actions=(*range(1, 11), 50, 55), pairs=(50, 55), setups=(1, 2, 3),
            frames=FRAMES,
        )  # fmt: skip
        clips = open_clips(folder / "skeletons", "ntu", folder / "clips.h5")
        parts = clips.parts(benchmark_named(BENCHMARK))
        print(f"{len(made)} files, {len(clips)} clips, {int((clips.people == 2).sum())} of two people, "
              f"{len(parts.train)} to train on")  # fmt: skip
        print(f"{'system':>14} " + " ".join(f"{name:>11}" for name in COLUMNS), flush=True)
        found = []
        for kind in given.systems:
            # a process of its own: peak memory is of the process, and each recipe has its own
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
                row = pool.submit(measure, kind, folder / "clips.h5", given).result()
            found.append(row)
            print(f"{kind:>14} {' '.join(f'{row[key]:11{form}}' for key, form in COLUMNS.values())}", flush=True)
    print("GF/clip, TF/step: arithmetic of a clip, and of a step at the published batch, forward and back")
    print(json.dumps({"recipes": found, "files": len(made), "clips": len(clips)}))


if __name__ == "__main__":
    main()
