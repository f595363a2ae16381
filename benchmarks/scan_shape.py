"""How well body shape is found from RGB-D scans of an A-pose, and whether its stated uncertainty holds.

`python benchmarks/scan_shape.py [--seed N] [--people 6] [--only bare]`: simulated scans (`simulation.scans`), each of
another person, all with sensor noise, holes and the floor. `even` rows fit the same scans with a loss that is the same
on both sides of the skin, which clothes bias. `skin_mm` is the mean distance of the rest body's vertices from the
truth's, `height_mm` the mean error of the height, `waist_mm` that of the depth and width of the trunk, `inside` the
share of betas inside their stated 95 % bounds, `nees` the squared error over the stated covariance, per beta (1 is
right, larger is too sure). `tight` clothes stand off by 12 mm at most, `dressed` by 30, `loose` by 60, all with hair.
The last line is JSON.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time

import numpy as np

from core.errors import MotifsError
from fitting.scan import ScanConfig, ScanShape, fit_clouds
from fitting.scan_files import PointCloud
from fitting.scan_objective import ScanLossConfig
from fitting.scan_quality import height
from fitting.smpl import BodyModel
from fitting.stand_in import stand_in_body
from simulation.scans import ScanConfig as SimulatedConfig
from simulation.scans import SimulatedScan, simulate_scan

DRESSED = SimulatedConfig(cloth_m=0.03, hair_m=0.03, num_holes=10)
SCENES: dict[str, SimulatedConfig] = {
    "tight": SimulatedConfig(cloth_m=0.012, hair_m=0.03, num_holes=10),
    "bare": SimulatedConfig(num_holes=10),
    "dressed": DRESSED,
    "loose": dataclasses.replace(DRESSED, cloth_m=0.06),
    "one camera": dataclasses.replace(DRESSED, num_cameras=1),
}
_LOSSES = {"": ScanLossConfig(), " even": ScanLossConfig(one_sided=False)}
COLUMNS = ("skin_mm", "height_mm", "waist_mm", "inside", "nees", "seconds")


def clouds(made: SimulatedScan) -> list[PointCloud]:
    """Its views as they come from files."""
    return [PointCloud(f"{k}.ply", *view) for k, view in enumerate(zip(made.points_m, made.normals, strict=True))]


def row(body: BodyModel, made: SimulatedScan, found: ScanShape) -> dict[str, float]:
    """Errors of one scan."""
    betas, covariance = found.fit.state.betas, found.fit.covariance
    off = betas - made.betas
    mine, true = (body.with_shape(b).rest_vertices for b in (betas, made.betas))
    waist = np.abs(true[:, 1] - body.joint_template[3, 1]) < 0.05
    waist &= body.weights[:, [0, 3, 6]].sum(axis=1) > 0.9
    width = [np.ptp(rest[waist], axis=0)[[0, 2]] for rest in (mine, true)]
    return {
        "skin_mm": 1000 * float(np.linalg.norm((mine - mine.mean(0)) - (true - true.mean(0)), axis=1).mean()),
        "height_mm": 1000 * abs(height(body, betas) - height(body, made.betas)),
        "waist_mm": 1000 * float(np.abs(width[0] - width[1]).mean()),
        "inside": float((np.abs(off) < 1.96 * np.sqrt(np.diagonal(covariance))).mean()),
        "nees": float(off @ np.linalg.solve(covariance, off)) / len(off),
    }


def main() -> None:
    """Prints a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1, help="of the first person; the others follow")
    parser.add_argument("--people", type=int, default=6)
    parser.add_argument("--only", default="", help="scenes that begin with this")
    given = parser.parse_args()
    body = stand_in_body()
    result: dict[str, float] = {}
    print(f"{'':16}" + "".join(f"{name:>11}" for name in COLUMNS) + "    refused")
    for scene, loss in ((s, ending) for s in SCENES if s.startswith(given.only) for ending in _LOSSES):
        rows, refused = [], 0
        for seed in range(given.seed, given.seed + given.people):
            made = simulate_scan(body, SCENES[scene], np.random.default_rng(seed))
            start = time.perf_counter()
            try:
                found = fit_clouds(clouds(made), body, ScanConfig(loss=_LOSSES[loss]))
            except MotifsError as error:
                refused += 1
                print(f"  seed {seed}: {error}")
                continue
            rows.append(row(body, made, found) | {"seconds": time.perf_counter() - start})
        means = {name: float(np.mean([r[name] for r in rows])) if rows else np.nan for name in COLUMNS}
        print(
            f"{scene + loss:16}" + "".join(f"{value:11.3f}" for value in means.values()) + f"{refused:11}", flush=True
        )
        result |= {f"{scene}{loss}_{key}".replace(" ", "_"): round(value, 3) for key, value in means.items() if rows}
        result[f"{scene}{loss}_refused".replace(" ", "_")] = refused
    print(json.dumps(result))


if __name__ == "__main__":
    main()
