"""What representations of motion are worth on people that they have never seen: recognition, prediction, interpolation.

`python benchmarks/representation.py AMD --groups bandai-2a bandai-2b bandai-2c [--also OTHER_AMD ...] [--methods simple
poses untrained a4mer] [--recipe cpu_10min] [--set NAME=VALUE ...] [--seeds 0 1 2] [--left-out bandai-2a ...]
[--protocols recognition prediction interpolation] [--no-heads] [--resume DIR]`

AMD is a dataset with action labels, `--also` are further ones for pretraining alone. For each group in turn A4Mer is
pretrained, without labels, on everybody else, then frozen; probes and heads are trained on the other groups and judged
on the one left out. `simple` are hand-made statistics and guesses, `poses` is the network that forecasts from tokens,
on poses instead, `untrained` is A4Mer before its first step. Every finished cell (method, group, seed) is kept under
`--resume` and never computed twice; training goes on from its last checkpoint there. Tables, then one line of JSON.
docs/evaluation.md explains the figures.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from core.files import sha256_of_file, to_jsonable
from dataset.shards import AmdDataset
from model.devices import choose_device
from model.distributed import Hardware
from model.loading import load_run
from model.overrides import override
from model.protocols.a4mer import A4MerEncoder
from model.protocols.cells import Cells
from model.protocols.features import Statistics
from model.protocols.forecast import ForecastConfig, pose_rows, simple_rows, token_rows
from model.protocols.groups import leave_out
from model.protocols.motions import PART_NAMES, load_motions
from model.protocols.recognition import recognition_rows
from model.protocols.report import accuracy_summary, accuracy_table, error_summary, error_table
from model.protocols.windows import Task, pose_windows
from model.recipes import Recipe, recipe_named
from model.train import train

VERSION = 7  # of the protocols: cells of another one are computed anew
METHODS = ("simple", "poses", "untrained", "a4mer")
TASKS = {
    "prediction": {"2 s -> 3 s": Task(10, 15)},
    "interpolation": {"1 s": Task(5, 5, 5), "2 s": Task(5, 10, 5), "4 s": Task(5, 20, 5)},
}
PROTOCOLS = ("recognition", *TASKS)
NO_HEADS = "no heads"  # in the name of a cell without the paper's heads


class Benchmark:
    """Everything that the cells share."""

    def __init__(self, given: argparse.Namespace, folder: Path) -> None:
        self.given, self.folder = given, folder
        self.datasets = [AmdDataset(path) for path in (given.dataset, *given.also)]
        self.motions = load_motions(self.datasets[0], given.groups)
        self.recipe: Recipe = override(recipe_named(given.recipe), given.set)
        self.device = choose_device(given.device)
        data = [sha256_of_file(d.path / "meta" / "clips.json") for d in self.datasets]
        self.common = {"version": VERSION, "groups": given.groups, "data": data[:1]}
        self.trained_on = {**self.common, "data": data, "recipe": to_jsonable(self.recipe)}
        self.windows = lru_cache(maxsize=1)(lambda task: pose_windows(self.motions, task))
        self.run = lru_cache(maxsize=1)(self._run)

    def cells(self, protocol: str, method: str) -> Cells:
        """Where a method's cells are kept."""
        settings = self.common if method in ("simple", "poses") else self.trained_on
        parts = {"parts": self.given.parts} if protocol == "recognition" else {}
        return Cells(self.folder / "cells", {**settings, **parts})

    def _run(self, group: str, seed: int) -> Any:
        """A network pretrained on all but a group."""
        recipe = dataclasses.replace(self.recipe, seed=seed)
        rate_hz = recipe.data.rate_hz
        view = self.folder / "data" / f"{group}-{rate_hz:g}-{_digest(self.trained_on['data'])}"
        data = leave_out(self.datasets, group, view, rate_hz=rate_hz)
        out = self.run_folder(group, seed)
        train(data, recipe, out, hardware=Hardware(device=self.given.device))
        return load_run(out, self.device)

    def run_folder(self, group: str, seed: int) -> Path:
        """Where it lies."""
        what = [self.trained_on["data"], self.trained_on["recipe"]]
        return self.folder / "runs" / f"{self.recipe.name}-{_digest(what)}-{group}-{seed}"

    def encoder(self, method: str, group: str, seed: int) -> A4MerEncoder:
        """A4Mer without a group, or its control."""
        return A4MerEncoder(self.run(group, seed), method, untrained=method == "untrained")

    def work(
        self, protocol: str, method: str, group: str, seed: int, *, heads: bool = True
    ) -> dict[str, Callable[[], Any]]:
        """What is to be computed for one cell of each task of a protocol, by the cell's name.

        Args:
            heads: whether forecasts are also made by the paper's heads, which take most of the time.
        """
        test, name = self.given.groups.index(group), f"{protocol}/{method}/{group}/{seed}"
        parts = self.given.parts
        trained = method in ("untrained", "a4mer")
        if protocol == "recognition":
            kinds = ("ms", "full") if method == "simple" else ("",)
            return {
                f"{name}/{kind}" if kind else name: lambda kind=kind: recognition_rows(
                    Statistics(kind) if kind else self.encoder(method, group, seed), self.motions, test, parts, seed
                )
                for kind in kinds
            }
        return {
            f"{name}/{task}" if heads or not trained else f"{name}/{NO_HEADS}/{task}": lambda shape=shape: (
                self._forecast(method, group, seed, shape, heads)
            )
            for task, shape in TASKS[protocol].items()
        }

    def _forecast(self, method: str, group: str, seed: int, task: Task, heads: bool) -> Mapping[str, Any]:
        test, windows = self.given.groups.index(group), self.windows(task)
        config = ForecastConfig()
        config = dataclasses.replace(
            config,
            heads=dataclasses.replace(config.heads, seed=seed) if heads and config.heads else None,
            regression=dataclasses.replace(config.regression, seed=seed),
        )
        if method == "simple":
            return simple_rows(windows, test)
        if method == "poses":
            return pose_rows(windows, test, config, self.device)
        return token_rows(self.encoder(method, group, seed), self.motions, windows, test, config, self.device)


def _digest(what: Any) -> str:
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:10]


def main() -> None:
    """Prints a table for each protocol and one line of JSON."""
    given = parse()
    with tempfile.TemporaryDirectory() as temporary:
        benchmark = Benchmark(given, given.resume or Path(temporary))
        found = {protocol: collect(benchmark, protocol) for protocol in given.protocols}
    for protocol, results in found.items():
        print(f"\n{protocol}")
        table = accuracy_table if protocol == "recognition" else error_table
        print("\n".join(table(results, given.groups)))
    print(json.dumps({protocol: summary(protocol, results, given.groups) for protocol, results in found.items()}))


def collect(benchmark: Benchmark, protocol: str) -> dict[str, dict[str, dict[int, Any]]]:
    """Rows of a protocol: row -> group -> seed -> figures."""
    given, results = benchmark.given, {}
    methods = [m for m in given.methods if (protocol, m) != ("recognition", "poses")]
    todo = [(m, g, s) for g in given.left_out for m in methods for s in (given.seeds if m != "simple" else [0])]
    for number, (method, group, seed) in enumerate(todo):
        print(f"{protocol}: {number + 1} of {len(todo)}", file=sys.stderr, flush=True)
        for name, compute in benchmark.work(protocol, method, group, seed, heads=given.heads).items():
            what = " ".join([method, *(part for part in name.split("/")[4:] if part != NO_HEADS)])
            for row, figures in benchmark.cells(protocol, method).get(name, compute).items():
                results.setdefault(f"{what} | {row}", {}).setdefault(group, {})[seed] = figures
    return results


def summary(protocol: str, results: Mapping[str, Any], groups: list[str]) -> dict[str, Any]:
    """Figures of every row, rounded."""
    if protocol == "recognition":
        rows = {name: accuracy_summary(cells, groups) for name, cells in results.items()}
        return {
            name: {"groups": _rounded(row["groups"], 3), "mean": _round(row["mean"], 3)} for name, row in rows.items()
        }
    errors = {name: error_summary(cells) for name, cells in results.items()}
    return {
        name: {"mm": round(row["mm"], 1), "moving_mm": round(row["moving_mm"], 1), "groups": _rounded(row["groups"], 1)}
        for name, row in errors.items()
    }


def _rounded(values: Mapping[str, float], digits: int) -> dict[str, float]:
    return {name: round(value, digits) for name, value in values.items()}


def _round(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path, help="a dataset with action labels")
    parser.add_argument("--groups", nargs="+", required=True, help="subjects of it, each left out in turn")
    parser.add_argument("--left-out", nargs="+", help="leave out these alone")
    parser.add_argument("--also", nargs="*", type=Path, default=[], help="further datasets, for pretraining alone")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--protocols", nargs="+", default=list(PROTOCOLS), choices=PROTOCOLS)
    parser.add_argument(
        "--parts", nargs="+", default=list(PART_NAMES), choices=PART_NAMES, help="of clips, for recognition"
    )
    parser.add_argument("--recipe", default="cpu_10min")
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", help="settings of the recipe")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument(
        "--no-heads", dest="heads", action="store_false", help="without the paper's heads, which take most of the time"
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--resume", type=Path, help="folder of finished cells and of training runs")
    given = parser.parse_args()
    given.left_out = given.left_out or given.groups
    return given


if __name__ == "__main__":
    main()
