"""Rig calibration on a fixed file of board corners: camera-centre error after a rigid alignment, and seconds.

`python benchmarks/rig.py [--inputs rig_boards.npz]`; without a file it is looked for in `../shared/bench` or below
`MOTIFS_SHARED`. `known`: the true lenses are given; `free`: lenses are found from the same boards, from nothing.
The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from calibration.align import rig_errors
from calibration.boards import solve_boards
from calibration.lens_solver import lenses_from_boards
from core.cameras import Camera, Lens, Rig
from core.files import read_npz
from core.transforms import SE3

_PEERS = "caliscope 0.48 mm in 10-21 s (known), 11.6 mm in 69 s (free), quoted, not run here"


def truth_of(arrays: dict[str, np.ndarray]) -> Rig:
    """The true cameras of a benchmark file."""
    size = (int(arrays["truth_size_px"][0]), int(arrays["truth_size_px"][1]))
    cameras = []
    for v, (K, dist) in enumerate(zip(arrays["truth_K"], arrays["truth_dist"], strict=True)):
        lens = Lens("radtan", size, (K[0, 0], K[1, 1]), (K[0, 2], K[1, 2]), tuple(float(k) for k in dist))
        pose = SE3(arrays["truth_R_cam_from_world"][v], arrays["truth_t_cam_from_world"][v])
        cameras.append(Camera(f"cam{v}", lens, pose))
    return Rig(tuple(cameras))


def measure(solve: Callable[[], Rig], truth: Rig) -> dict[str, float]:
    """Errors and wall time of one solution."""
    start = time.perf_counter()
    rig = solve()
    seconds = time.perf_counter() - start
    errors = rig_errors(rig, truth, align=True)
    return {"rmse_mm": errors.rmse_mm, "deg": errors.median_deg, "s": seconds}


def main() -> None:
    """Prints a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    shared = Path(os.environ.get("MOTIFS_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    parser.add_argument("--inputs", type=Path, default=shared / "bench" / "rig_boards.npz")
    arrays = read_npz(parser.parse_args().inputs)
    truth, corners, board = truth_of(arrays), arrays["corners_px"].astype(float), arrays["board_m"]
    lenses = tuple(camera.lens for camera in truth)

    def solve_free() -> Rig:
        start = lenses_from_boards(corners, board, "radtan", lenses[0].size_px)
        return solve_boards(truth.ids, start, corners, board, free_lenses=True).rig

    rows = {
        "known": measure(lambda: solve_boards(truth.ids, lenses, corners, board).rig, truth),
        "free": measure(solve_free, truth),
    }
    print(f"{'intrinsics':12} {'rmse mm':>8} {'median deg':>11} {'seconds':>8}")
    for name, row in rows.items():
        print(f"{name:12} {row['rmse_mm']:8.3f} {row['deg']:11.4f} {row['s']:8.2f}")
    print(f"peers: {_PEERS}")
    flat = {f"{name}_{key}": round(row[key], 3) for name, row in rows.items() for key in ("rmse_mm", "s")}
    print(json.dumps(flat))


if __name__ == "__main__":
    main()
