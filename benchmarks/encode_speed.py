"""Clips encoded a second by each system, at the same length of clip.

`python benchmarks/encode_speed.py [--seconds 4] [--clips 32] [--rounds 5] [--threads 1] [--device cpu] [--seed 0]`:
simulated motion at 30 frames a second is encoded by every network at its published size (`paper`, `published`; first
weights, which take as long as trained ones) and at that of `cpu_10min`. `from motion` begins with a clip's joints and
rotations and counts frame vectors, resampling, Atoms and codes; `network` is what tensors on the device cost. Systems
take turns; figures are medians over rounds. The last line is JSON; `a4mer_over_mamp` is from motion, at full size.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from dataset.resample import Motion, resample
from dataset.shards import motion_from_clip
from model.a4mer import A4Mer, MotionBatch
from model.baselines.pretraining import TrainedSystem
from model.baselines.recipes import PUBLISHED, system_recipe
from model.baselines.skeletons import SkeletonBatch, skeleton_of
from model.baselines.systems import SYSTEMS, build_system
from model.devices import choose_device
from model.lexicon import Lexicon
from model.loading import TrainedRun
from model.mining import Patterns
from model.protocols.a4mer import A4MerEncoder
from model.protocols.encoders import Encoder
from model.protocols.systems import SystemEncoder
from model.recipes import recipe_named
from simulation.clips import simulated_clip

SIZES = {"full size": ("paper", "published"), "cpu_10min": ("cpu_10min", "cpu_10min")}


@dataclass(frozen=True)
class Timed:
    """A system at a size: what encodes motions, and what runs its network alone."""

    encoder: Encoder
    network: Callable[[], object]
    parameters: int


def a4mer(recipe_name: str, motions: Sequence[Motion], device: torch.device, rng: np.random.Generator) -> Timed:
    """First weights with a codebook of the recipe's size; no patterns, so that every Atom is a Motif."""
    recipe = recipe_named(recipe_name)
    model = A4Mer(recipe.model).to(device).eval()
    codes = recipe.mining.max_codes
    centroids = rng.normal(size=(codes, recipe.model.width)).astype(np.float32)
    run = TrainedRun(Path(), recipe, 0, model, Lexicon(centroids, Patterns(codes, {}, {}), {}))
    encoder = A4MerEncoder(run)
    seen: list[MotionBatch] = []
    original = model.encode

    def remember(batch: MotionBatch) -> object:
        seen.append(batch)
        return original(batch)

    model.encode = remember  # type: ignore[assignment, method-assign]
    encoder.encode(motions)
    model.encode = original  # type: ignore[method-assign]
    return Timed(encoder, lambda: [original(batch) for batch in seen], _parameters(model.teacher))


def system(kind: str, recipe_name: str, motions: Sequence[Motion], device: torch.device) -> Timed:
    """First weights of another system."""
    # nobody published the plain references: their full size is A4Mer's width
    named = "gpu_10min" if recipe_name == "published" and kind not in PUBLISHED else recipe_name
    recipe = system_recipe(kind, named)
    network = build_system(recipe.system).to(device).eval()
    joints_m = torch.from_numpy(
        np.stack([skeleton_of(resample(m, recipe.rate_hz), SYSTEMS[kind].coordinates) for m in motions])
    )[:, None]
    batch = SkeletonBatch(joints_m, torch.ones(joints_m.shape[:3], dtype=torch.bool)).to(device)
    encoder = SystemEncoder(TrainedSystem(recipe, network), kind, device)  # type: ignore[arg-type]
    return Timed(encoder, lambda: encoder.system.encode(batch), _parameters(network))


def _parameters(network: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """How long one call takes."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    begin = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def main() -> None:
    """Prints a table and one line of JSON."""
    given = parse()
    torch.set_grad_enabled(False)
    torch.manual_seed(given.seed)
    torch.set_num_threads(given.threads)
    device, rng = choose_device(given.device), np.random.default_rng(given.seed)
    clips = [
        simulated_clip(f"c{i}", given.seed * 1000 + i, "anna", max(given.seconds, 3.0)) for i in range(given.clips)
    ]
    motions = [motion_from_clip(clip, 1.0).part(0, round(30 * given.seconds)) for clip in clips]
    print(f"{'':28} {'parameters':>11} {'clips/s from motion':>20} {'clips/s network':>16}")
    found: dict[str, dict[str, dict[str, float]]] = {}
    for size, (own, others) in SIZES.items():
        timed = {"a4mer": a4mer(own, motions, device, rng)}
        timed |= {kind: system(kind, others, motions, device) for kind in SYSTEMS}
        spent: dict[str, list[tuple[float, float]]] = {name: [] for name in timed}
        for _ in range(given.rounds + 1):  # the first round warms up
            for name, of in timed.items():
                whole_s = seconds(partial(of.encoder.encode, motions), device)
                spent[name].append((whole_s, seconds(of.network, device)))
        found[size] = {}
        for name, of in timed.items():
            whole, network = (given.clips / float(np.median(times[1:])) for times in zip(*spent[name], strict=True))
            found[size][name] = {
                "from_motion": round(whole, 2),
                "network": round(network, 2),
                "parameters": of.parameters,
            }
            print(f"{size + ', ' + name:28} {of.parameters:11,d} {whole:20.1f} {network:16.1f}", flush=True)
    ratio = found["full size"]["a4mer"]["from_motion"] / found["full size"]["mamp"]["from_motion"]
    print(json.dumps({"seconds": given.seconds, "device": str(device), "a4mer_over_mamp": round(ratio, 2), **found}))


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of a clip")
    parser.add_argument("--clips", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
