"""What representations of motion are worth on people that they have never seen: recognition, prediction, interpolation.

`python benchmarks/representation.py AMD --groups bandai-2a bandai-2b bandai-2c [--also OTHER_AMD ...] [--methods simple
poses untrained a4mer] [--recipe cpu_10min] [--set NAME=VALUE ...] [--seeds 0 1 2] [--left-out bandai-2a ...]
[--protocols recognition robustness segmentation prediction interpolation] [--no-heads] [--resume DIR]`

AMD is a dataset with action labels, `--also` are further ones for pretraining alone. For each group in turn A4Mer is
pretrained, without labels, on everybody else, then frozen; probes and heads are trained on the other groups and judged
on the one left out. `simple` are hand-made statistics and guesses, `poses` is the network that forecasts from tokens,
on poses instead, `untrained` is A4Mer before its first step. Every finished cell (method, group, seed) is kept under
`--resume` and never computed twice; training goes on from its last checkpoint there. Tables, then one line of JSON.
docs/evaluation.md explains the figures.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model.protocols.comparison import Comparison, ComparisonConfig
from model.protocols.motions import PART_NAMES
from model.protocols.names import METHODS, PROTOCOLS, SHARES
from model.protocols.report import accuracy_summary, accuracy_table, error_summary, error_table


def main() -> None:
    """Prints a table for each protocol and one line of JSON."""
    given = parse()
    with tempfile.TemporaryDirectory() as temporary:
        comparison = Comparison(config_of(given), given.resume or Path(temporary))
        found = {protocol: comparison.results(protocol) for protocol in comparison.protocols}
    for protocol, results in found.items():
        print(f"\n{protocol}")
        table = accuracy_table if protocol in SHARES else error_table
        print("\n".join(table(results, given.groups)))
    print(json.dumps({protocol: summary(protocol, results, given.groups) for protocol, results in found.items()}))


def config_of(given: argparse.Namespace) -> ComparisonConfig:
    """What the command line asks for."""
    return ComparisonConfig(
        given.dataset, tuple(given.groups), tuple(given.left_out or ()), tuple(given.also), tuple(given.without),
        tuple(given.methods), tuple(given.protocols), tuple(given.parts), given.recipe, tuple(given.set),
        tuple(given.seeds), heads=given.heads, device=given.device,
    )  # fmt: skip


def summary(protocol: str, results: Mapping[str, Any], groups: list[str]) -> dict[str, Any]:
    """Figures of every row, rounded."""
    if protocol in SHARES:
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
    parser.add_argument("--without", nargs="*", default=[], help="subjects that nobody learns from")
    parser.add_argument("--methods", nargs="+", default=list(ComparisonConfig.methods), choices=METHODS)
    parser.add_argument("--protocols", nargs="+", default=list(PROTOCOLS), choices=PROTOCOLS)
    parser.add_argument(
        "--parts", nargs="+", default=list(PART_NAMES), choices=PART_NAMES, help="of clips, for recognition"
    )
    parser.add_argument("--recipe", default="cpu_10min")
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="NAME=VALUE", help="settings of A4Mer's recipe, or mamp.steps=300"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument(
        "--no-heads", dest="heads", action="store_false", help="without the paper's heads, which take most of the time"
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--resume", type=Path, help="folder of finished cells and of training runs")
    return parser.parse_args()


if __name__ == "__main__":
    main()
