"""Triangulation on a fixed file of noisy keypoints: error against the truth and frames a second.

`python benchmarks/triangulation.py --inputs triangulation.npz`; the last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

from core.cameras import Camera, Lens, Rig
from core.files import read_npz
from core.skeletons import HALPE_26
from core.transforms import SE3
from fitting.points import Points3d, triangulate_points


def rig_of(arrays: dict[str, np.ndarray]) -> Rig:
    """The cameras of a benchmark file."""
    size = (int(arrays["size_px"][0]), int(arrays["size_px"][1]))
    cameras = []
    for v, (K, dist) in enumerate(zip(arrays["K"], arrays["dist"], strict=True)):
        lens = Lens("radtan", size, (K[0, 0], K[1, 1]), (K[0, 2], K[1, 2]), tuple(float(k) for k in dist))
        pose = SE3(arrays["R_cam_from_world"][v], arrays["t_cam_from_world"][v])
        cameras.append(Camera(f"cam{v}", lens, pose))
    return Rig(tuple(cameras))


def measure(rig: Rig, xy_px: np.ndarray, score: np.ndarray, truth_m: np.ndarray) -> dict[str, float]:
    """Mean error in mm over the points found, share found, and frames a second (best of three)."""
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        points: Points3d = triangulate_points(rig, xy_px, score, HALPE_26)
        seconds.append(time.perf_counter() - start)
    error_mm = np.linalg.norm(points.xyz_m - truth_m, axis=-1)[points.valid] * 1000
    return {
        "mean_mm": float(error_mm.mean()),
        "p95_mm": float(np.percentile(error_mm, 95)),
        "found": float(points.valid.mean()),
        "fps": len(truth_m) / min(seconds),
    }


def main() -> None:
    """Prints a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=Path, required=True, help="triangulation.npz")
    arrays = read_npz(parser.parse_args().inputs)
    rig, truth = rig_of(arrays), arrays["truth_in_world_m"]
    dirty = measure(rig, arrays["dirty_px"], arrays["dirty_score"], truth)
    clean = measure(rig, arrays["clean_px"], np.ones_like(arrays["dirty_score"]), truth)
    print(f"{'input':8} {'mean mm':>8} {'p95 mm':>8} {'found':>7} {'frames/s':>9}")
    for name, row in (("dirty", dirty), ("clean", clean)):
        print(f"{name:8} {row['mean_mm']:8.2f} {row['p95_mm']:8.2f} {row['found']:7.4f} {row['fps']:9.0f}")
    result = {"frame_mean_mm": dirty["mean_mm"], "frame_fps": dirty["fps"], "clean_mean_mm": clean["mean_mm"]}
    print(json.dumps({key: round(value, 3) for key, value in result.items()}))


if __name__ == "__main__":
    main()
