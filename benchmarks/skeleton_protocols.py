"""MAMP, GL-Transformer and motion codes on NTU RGB+D and PKU-MMD, pretrained and judged as their papers do.

`python benchmarks/skeleton_protocols.py DATA --benchmark ntu60-xsub --system mamp --protocol linear fine-tune semi-1
semi-10 --out DIR [--steps N] [--batch N] [--epochs N] [--head-batch N] [--draws 5] [--from-run RUN] [--cache FILE]
[--missing FILE] [--workers 2] [--device auto] [--seed 0] [--threads 1]`

DATA is the folder of `.skeleton` files, or of PKU-MMD with its label and split files; it is read once, into a file
beside it (or `--cache`). The network learns from the training part without labels, in DIR/pretraining, and goes on from
its checkpoint if the command is given again; each protocol's result is kept as DIR/<protocol>.json. `--from-run` takes
a network that has learned elsewhere instead: transfer, if the protocol is fine-tune. `--steps` and `--epochs` shorten
pretraining and heads; without them both are the papers'. What was left out of the data is in DIR/skipped.json. A table
beside the papers' figures, then one line of JSON. docs/evaluation.md explains splits, rules and differences.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from core.errors import InputError, MotifsError
from core.files import read_json, sha256_of_file, to_jsonable, write_json
from dataset.kinect.benchmarks import BENCHMARKS, MISSING_FILE, Benchmark, benchmark_named
from dataset.kinect.cache import open_clips
from dataset.kinect.clips import ClipFile, Parts
from model.baselines.pretraining import SystemRecipe, load_system, pretrain
from model.baselines.recipes import PUBLISHED, recipe_for_source, with_published_epochs
from model.baselines.sources import ClipSource, SystemClips
from model.devices import choose_device, reproducible
from model.protocols.published import DRAWS, FIGURES, PROTOCOLS, TRANSFER_FIGURES, head_training, judge
from model.run import CHECKPOINT, CONFIG


def main() -> None:
    """Prints a table and one line of JSON."""
    given = parse()
    benchmark = benchmark_named(given.benchmark)
    check(given, benchmark)
    clips = open_clips(given.data, benchmark.source, given.cache, missing=given.missing, workers=given.workers)
    parts = clips.parts(benchmark)
    report_data(given.out, benchmark, clips, parts)
    run = given.from_run or pretrained(given, benchmark, clips, parts)
    found = {protocol: result(given, protocol, benchmark, clips, parts, run) for protocol in given.protocol}
    learned_from = read_json(run / CONFIG).get("dataset", "?")
    print(f"\n{given.system} of {learned_from}, on {benchmark.name}: per cent, after the last epoch")
    print("  protocol  accuracy   top-5  paper  labelled  tested  epochs        s")
    for protocol, row in found.items():
        row["paper"] = paper_figure(given.system, protocol, benchmark.name, given.from_run and learned_from)
        paper = "" if row["paper"] is None else f"{row['paper']:.1f}"
        print(
            f"{protocol:>10} {100 * row['accuracy']:9.2f} {100 * row['top5']:7.2f} {paper:>6} {row['train_clips']:9d} "
            f"{row['clips']:7d} {row['epochs']:7d} {row['seconds']:8.0f}"
        )
    whole = {
        "benchmark": benchmark.name, "system": given.system, "learned_from": learned_from, "clips": len(clips),
        "train": len(parts.train), "test": len(parts.test), "skipped": len(clips.skipped), "protocols": found,
    }  # fmt: skip
    print(json.dumps(to_jsonable(whole)))


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--benchmark", choices=tuple(BENCHMARKS), required=True)
    parser.add_argument("--system", choices=PUBLISHED, required=True)
    parser.add_argument("--protocol", choices=PROTOCOLS, nargs="+", default=["linear"])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--from-run", type=Path)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--head-batch", type=int)
    parser.add_argument("--draws", type=int, default=DRAWS)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--missing", type=Path, default=MISSING_FILE)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def check(given: argparse.Namespace, benchmark: Benchmark) -> None:
    """Names mistakes before anything is read or trained."""
    for protocol in given.protocol:
        head_training(given.system, protocol, benchmark)
    if given.draws < 1:
        raise InputError(f"--draws {given.draws}", "few labels are drawn once at least", f"give {DRAWS}")
    if given.from_run is not None:
        kind = load_system(given.from_run, torch.device("cpu")).recipe.kind
        if kind != given.system:
            raise InputError(str(given.from_run), f"is of {kind}", f"give --system {kind}")


def report_data(out: Path, benchmark: Benchmark, clips: ClipFile, parts: Parts) -> None:
    """What there is, and what was left out for which reason; every name of it goes into a file."""
    left_out = {**clips.skipped, **parts.left_out}
    write_json(out / "skipped.json", left_out)
    print(f"{benchmark.name}: {len(parts.train)} clips to train on, {len(parts.test)} to test on")
    if benchmark.complete not in (None, (len(parts.train), len(parts.test))):
        train, test = benchmark.complete
        print(f"not the whole dataset, which has {train} and {test}: the papers' figures are of those")
    print("left out:")
    for reason, number in Counter(left_out.values()).most_common(8):
        print(f"{number:9d}  {reason}")
    print(f"{len(left_out):9d}  in all, by name in {out / 'skipped.json'}", flush=True)


def pretrained(given: argparse.Namespace, benchmark: Benchmark, clips: ClipFile, parts: Parts) -> Path:
    """The run on the training part, gone on with if it is there."""
    recipe = recipe_for_source(given.system, benchmark.source, benchmark.classes)
    recipe = dataclasses.replace(recipe, seed=given.seed, threads=given.threads)
    if given.batch is not None:
        recipe = dataclasses.replace(recipe, batch_size=given.batch)
    recipe = with_published_epochs(recipe, len(parts.train))
    recipe = shortened(recipe, given.steps)
    seen = SystemClips(clips, parts.train, recipe.system)
    source = ClipSource(seen, benchmark.name, seed=recipe.seed, batch_size=recipe.batch_size)
    return pretrain(source, recipe, given.out / "pretraining", device=given.device).run


def shortened(recipe: SystemRecipe, steps: int | None) -> SystemRecipe:
    """A recipe of fewer steps, which warms up for the same share of them."""
    if steps is None:
        return recipe
    warmup = round(recipe.optim.warmup_steps * min(steps / recipe.steps, 1.0))
    optim = dataclasses.replace(recipe.optim, warmup_steps=warmup)
    return dataclasses.replace(recipe, steps=steps, optim=optim)


def result(
    given: argparse.Namespace, protocol: str, benchmark: Benchmark, clips: ClipFile, parts: Parts, run: Path
) -> dict[str, Any]:
    """The figures of a protocol: those that are kept if they are of the same network, data and settings."""
    how = dataclasses.replace(head_training(given.system, protocol, benchmark), seed=given.seed)
    if given.epochs is not None:
        how = dataclasses.replace(how, epochs=given.epochs, warmup_epochs=min(how.warmup_epochs, given.epochs // 2))
    if given.head_batch is not None:
        how = dataclasses.replace(how, batch_size=given.head_batch)
    about = to_jsonable({
        "benchmark": benchmark.name, "protocol": protocol, "training": how, "draws": given.draws,
        "checkpoint_sha256": sha256_of_file(run / CHECKPOINT), "clips_sha256": clips.content_sha256,
        "parts_sha256": hashlib.sha256(b"|".join(part.tobytes() for part in (parts.train, parts.test))).hexdigest(),
    })  # fmt: skip
    kept = given.out / f"{protocol}.json"
    if kept.is_file() and (found := read_json(kept)).get("about") == about:
        return dict(found["result"])
    device = choose_device(given.device)
    trained = load_system(run, device)
    with reproducible(given.threads):
        told = judge(trained, protocol, benchmark, clips, parts, how, device, given.draws)
    write_json(kept, {"about": about, "result": told})
    return told


def paper_figure(system: str, protocol: str, benchmark: str, learned_from: str | None) -> float | None:
    """What the paper reports, per cent; of a transfer, where it reports that one."""
    if learned_from and learned_from != benchmark:
        return TRANSFER_FIGURES.get(learned_from) if (protocol, benchmark) == ("fine-tune", "pku2-xsub") else None
    return FIGURES.get((system, protocol), {}).get(benchmark)


if __name__ == "__main__":
    try:
        main()
    except MotifsError as error:
        sys.exit(f"skeleton_protocols: {error}")
