"""The marker map on synthetic rooms with exact truth: errors of targets that only photographs show, and coverage.

`python benchmarks/marker_map.py [--seed 0] [--scenes 50]`. Each scene has six ceiling targets located with errors of
their own and in common, three targets under two tables, and 14 photographs with 0.3 px noise; every other scene has
single markers in place of boards. Coverage: share of targets whose true place (and pose) lies inside the stated 95 %
ellipsoid. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
from scipy.stats import chi2

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "calibration"))
from marker_scenes import MarkerScene, make_scene

from calibration.placing import MarkerMap, place_targets


def inside(error: np.ndarray, covariance: np.ndarray) -> bool:
    """Whether an error lies inside the 95 % ellipsoid."""
    return bool(error @ np.linalg.solve(covariance, error) <= chi2.ppf(0.95, len(error)))


def measure(scene: MarkerScene, made: MarkerMap) -> dict[str, list[float]]:
    """Errors of the hidden targets, and what lies inside its bounds of all targets."""
    rows: dict[str, list[float]] = {"mm": [], "deg": [], "place": [], "pose": [], "located": []}
    for k, name in enumerate(made.world_from_target):
        error = scene.errors(made.world_from_target, [name])[0]
        covariance = made.covariance[6 * k : 6 * k + 6, 6 * k : 6 * k + 6]
        if name.startswith("table"):
            rows["mm"].append(1000 * float(np.linalg.norm(error[3:])))
            rows["deg"].append(float(np.degrees(np.linalg.norm(error[:3]))))
            rows["place"].append(inside(error[3:], covariance[3:, 3:]))
            rows["pose"].append(inside(error, covariance))
        elif covariance.any():
            rows["located"].append(inside(error, covariance))
    return rows


def main() -> None:
    """Prints a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scenes", type=int, default=50)
    options = parser.parse_args()
    tables: dict[str, dict[str, list[float]]] = {}
    for k in range(options.scenes):
        kind = "markers" if k % 2 else "boards"
        scene = make_scene(np.random.default_rng([options.seed, k]), markers=kind == "markers")
        start = time.perf_counter()
        made = place_targets(scene.targets, scene.located, [scene.stills])
        rows = measure(scene, made)
        rows |= {"s": [time.perf_counter() - start], "placed": [float(len(rows["mm"])) / 3]}
        for table in (kind, "all"):
            for key, values in rows.items():
                tables.setdefault(table, {}).setdefault(key, []).extend(values)
    heads = ("median mm", "p95 mm", "median deg", "place", "pose", "located", "placed", "s")
    print(f"{'':8}" + "".join(f" {head:>10}" for head in heads))
    for name, rows in tables.items():
        values = [float(np.median(rows["mm"])), float(np.percentile(rows["mm"], 95)), float(np.median(rows["deg"]))]
        values += [float(np.mean(rows[key])) for key in ("place", "pose", "located", "placed")] + [
            float(np.median(rows["s"]))
        ]
        print(f"{name:8}" + "".join(f" {value:10.3f}" for value in values))
    rows = tables["all"]
    figures = {
        "median_mm": float(np.median(rows["mm"])),
        "p95_mm": float(np.percentile(rows["mm"], 95)),
        "median_deg": float(np.median(rows["deg"])),
        "coverage": float(np.mean(rows["place"])),
        "pose_coverage": float(np.mean(rows["pose"])),
        "located_coverage": float(np.mean(rows["located"])),
        "placed": float(np.mean(rows["placed"])),
        "seconds": float(np.median(rows["s"])),
    }
    print(json.dumps({key: round(value, 4) for key, value in figures.items()}))


if __name__ == "__main__":
    main()
