"""What each of A4Mer's choices is worth on a group of people that it has never seen: the paper's Table 3 on other data.

`python benchmarks/ablation.py AMD --groups bandai-2a bandai-2b bandai-2c --left-out bandai-2b [--also OTHER_AMD ...]
[--recipe cpu_10min] [--set NAME=VALUE ...] [--seeds 0 1 2] [--rows full "full attention" ...] [--resume DIR]`

Each row changes one thing in the recipe, pretrains without the group and is judged as in `representation.py`, whose
folder `--resume` may be: accuracy on the middle three seconds of clips (k-NN with k = 20; ridge with alpha = 100;
both of Atoms and Motifs without their frames), mean joint error of forecasts from tokens alone (3 s ahead; gaps of 2
s), and the mean length of a Motif in frames at 5 a second. Beside them the paper's figures, which are of its own data
and protocols: compare the order of rows, not the numbers. `--set` gives the recipe that is ablated; `--plain` takes
away from it what goes beyond the paper. A table, then a line of JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from core.files import read_json
from model.protocols.comparison import Comparison, ComparisonConfig
from model.run import MINING

# a window that is played faster or slower would have segments of other lengths
SEGMENTS = ("atoms.rule=clock", "mining.fixed_atoms=1", "bodies.tempo=0")
ROWS: Mapping[str, tuple[str, ...]] = {
    "plain loss, Eq. 1": ("model.decomposition=plain",),
    "local loss alone": ("model.decomposition=local",),
    "local + global, equal": ("model.decomposition=equal",),
    "full attention": ("model.attention=all",),
    "frames as segments": (*SEGMENTS, "atoms.pause_s=0.2", "atoms.min_frames=1"),
    "10 frames as segments": (*SEGMENTS, "atoms.pause_s=2.0"),
    "BERT-style": ("model.target=frames",),
    "full": (),
}
# Table 3 as printed: length, then accuracy of the recognition head and top-3 of k-NN (its two headings seem exchanged:
# Table 2 has these figures the other way round), then errors of prediction and interpolation in mm
PAPER = {
    "plain loss, Eq. 1": (24.1, 15.1, 51.7, 222, 210),
    "local loss alone": (22.3, 16.2, 51.0, 254, 218),
    "local + global, equal": (14.5, 25.8, 50.2, 188, 181),
    "full attention": (22.0, 20.6, 54.8, 212, 197),
    "frames as segments": (1.0, 31.5, 58.8, 309, 154),
    "10 frames as segments": (10.0, 26.3, 55.5, 208, 183),
    "BERT-style": (13.2, 34.8, 58.2, 169, 112),
    "full": (10.6, 38.1, 59.0, 150, 126),
}
PLAIN = (
    "model.two_views=0", "model.spread=0", "model.own_pose=0", "bodies.mirror=false", "bodies.tempo=0",
    "bodies.limbs=0", "bodies.posture_rad=0", "bodies.reach=0", "data.inputs=channels",
)  # fmt: skip
PART = "middle 3 s"
COLUMNS = ("motif_frames", "knn", "ridge", "prediction_mm", "gap_2s_mm")


def main() -> None:
    """Prints a line for each row as it is done, and one line of JSON."""
    given = parse()
    print(f"{'':24} {'Motif':>13} {'k-NN':>12} {'ridge':>12} {'3 s ahead':>13} {'gap of 2 s':>13}   paper", flush=True)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for row in given.rows:
            comparison = Comparison(config_of(given, row), given.resume or Path(temporary))
            seeds = [figures(comparison, given.left_out, seed) for seed in given.seeds]
            found[row] = {name: [seed[name] for seed in seeds] for name in COLUMNS}
            print(line(row, found[row]), flush=True)
    print(json.dumps({"group": given.left_out, "seeds": given.seeds, "rows": found}))


def config_of(given: argparse.Namespace, row: str) -> ComparisonConfig:
    """The comparison of a row."""
    return ComparisonConfig(
        given.dataset,
        tuple(given.groups),
        (given.left_out,),
        tuple(given.also),
        tuple(given.without),
        parts=(PART,),
        recipe=given.recipe,
        settings=(*given.set, *(PLAIN if given.plain else ()), *ROWS[row]),
        device=given.device,
    )


def figures(comparison: Comparison, group: str, seed: int) -> dict[str, float]:
    """The figures of a run; finished cells are read."""

    def cell(protocol: str, task: str = "") -> Any:
        work = comparison.work(protocol, "a4mer", group, seed, heads=False)
        name = next(name for name in work if name.endswith(task))
        return comparison.cells(protocol, "a4mer").get(name, work[name])

    recognition, prediction, gap = cell("recognition"), cell("prediction"), cell("interpolation", "2 s")
    mining = read_json(comparison.run_folder("a4mer", group, seed) / MINING)
    return {
        "motif_frames": float(mining["motif_frames"]),
        "knn": float(recognition[f"{PART} | k-NN, k = 20, segments"]["accuracy"]),
        "ridge": float(recognition[f"{PART} | ridge, alpha = 100, segments"]["accuracy"]),
        "prediction_mm": float(prediction["network on tokens"]["mm"]),
        "gap_2s_mm": float(gap["network on tokens"]["mm"]),
    }


def line(row: str, found: Mapping[str, list[float]]) -> str:
    """Mean and deviation over seeds, and the paper's figures."""
    digits = (1, 3, 3, 1, 1)
    cells = [_mean_sd(found[name], k) for name, k in zip(COLUMNS, digits, strict=True)]
    return f"{row:24} " + " ".join(f"{c:>13}" for c in cells) + "   " + " ".join(f"{x:g}" for x in PAPER[row])


def _mean_sd(values: list[float], digits: int) -> str:
    spread = f" ±{np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{np.mean(values):.{digits}f}{spread}"


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path, help="a dataset with action labels")
    parser.add_argument("--groups", nargs="+", required=True, help="subjects of it that are judged or learned from")
    parser.add_argument("--left-out", required=True, help="the one that is judged")
    parser.add_argument("--also", nargs="*", type=Path, default=[], help="further datasets, for pretraining alone")
    parser.add_argument("--without", nargs="*", default=[], help="subjects that nobody learns from")
    parser.add_argument("--recipe", default="cpu_10min")
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", help="settings of the recipe")
    parser.add_argument("--plain", action="store_true", help="without what goes beyond the paper")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--resume", type=Path, help="folder of finished cells and of training runs")
    given = parser.parse_args()
    if given.left_out not in given.groups:
        parser.error(f"--left-out {given.left_out} is none of --groups {' '.join(given.groups)}")
    return given


if __name__ == "__main__":
    main()
