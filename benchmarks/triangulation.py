"""Triangulation on noisy keypoints: error against the truth and frames a second, frame by frame and in time.

`python benchmarks/triangulation.py --inputs triangulation.npz [--peers]`, or `--seed N`: a simulated person before the
same kind of rig, 8 cameras on a ring, 3 px of noise, 5 % outliers of 120 px that keep a plausible score and 10 %
missing. `dirty` and `clean` are each frame by itself; `paths` joins the frames in time and is timed with all before it.
`inside` is the share of points whose error lies inside the stated 95 % bounds. `--peers` runs the peers from PyPI in
environments of their own. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from core.cameras import Camera, Lens, Rig
from core.files import read_npz
from core.skeletons import HALPE_26
from core.transforms import SE3
from fitting.landmarks import landmarks_of
from fitting.points import Points3d, TriangulationConfig, triangulate_points
from fitting.stand_in import stand_in_body
from fitting.trajectories import Paths, smooth_paths
from simulation.person import simulate_motion

CHI2_95 = 7.815  # of three degrees of freedom
_RUNS = 3


def rig_of(arrays: dict[str, np.ndarray]) -> Rig:
    """The cameras of a benchmark file."""
    size = (int(arrays["size_px"][0]), int(arrays["size_px"][1]))
    cameras = []
    for v, (K, dist) in enumerate(zip(arrays["K"], arrays["dist"], strict=True)):
        lens = Lens("radtan", size, (K[0, 0], K[1, 1]), (K[0, 2], K[1, 2]), tuple(float(k) for k in dist))
        pose = SE3(arrays["R_cam_from_world"][v], arrays["t_cam_from_world"][v])
        cameras.append(Camera(f"cam{v}", lens, pose))
    return Rig(tuple(cameras))


def ring(num_views: int = 8) -> Rig:
    """Cameras on a ring of 4 m that look at its middle, a metre up."""
    cameras = []
    lens = Lens("radtan", (1920, 1080), (1150.0, 1150.0), (959.5, 539.5), (-0.12, 0.03, 0.0, 0.0, 0.0))
    for v, angle in enumerate(2 * np.pi * np.arange(num_views) / num_views):
        centre = np.array([4 * np.cos(angle), 4 * np.sin(angle), 2.4 if v % 2 else 1.2])
        z = np.array([0.0, 0.0, 1.0]) - centre
        z /= np.linalg.norm(z)
        x = np.cross(z, [0.0, 0.0, 1.0])
        x /= np.linalg.norm(x)
        R = np.stack([x, np.cross(z, x), z])
        cameras.append(Camera(f"cam{v}", lens, SE3(R, -R @ centre)))
    return Rig(tuple(cameras))


def simulated(seed: int, num_frames: int = 300) -> tuple[Rig, dict[str, np.ndarray]]:
    """A person before the ring, under the names of a benchmark file."""
    rng, rig = np.random.default_rng(seed), ring()
    motion, body = simulate_motion(rng, num_frames / 30, 30), stand_in_body()
    posed = body.with_shape(motion["betas"]).with_pose(motion["poses"], motion["trans"])
    truth = landmarks_of(body, HALPE_26).positions(posed)
    truth = truth - np.append(truth[..., :2].mean(axis=(0, 1)), 0.0)
    clean = rig.project(truth) + rng.normal(0, 3, (len(rig), *truth.shape[:2], 2))
    outlier, missing = (rng.random(clean.shape[:-1]) < share for share in (0.05, 0.1))
    dirty = clean + np.where(outlier[..., None], rng.normal(0, 120, clean.shape), 0.0)
    dirty[missing] = np.nan
    score = np.where(missing, 0.0, rng.uniform(0.6, 1.0, missing.shape))
    return rig, {"dirty_px": dirty, "dirty_score": score, "clean_px": clean, "truth_in_world_m": truth}


def triangulated(rig: Rig, xy_px: np.ndarray, score: np.ndarray) -> Points3d:
    """Every frame by itself, at 30 frames a second."""
    return triangulate_points(rig, xy_px.astype(float), score, HALPE_26, t_s=np.arange(score.shape[1]) / 30)


def followed(rig: Rig, xy_px: np.ndarray, score: np.ndarray) -> Paths:
    """All frames together, from keypoints on."""
    points, mirror = triangulated(rig, xy_px, score), HALPE_26.swap_idx
    xy_px = np.where(points.swapped[..., None], xy_px[:, :, mirror], xy_px)
    score = np.where(points.swapped, score[:, :, mirror], score)
    return smooth_paths(rig, xy_px.astype(float), score, points, TriangulationConfig().min_score)


def measure(found: Callable[[], Points3d | Paths], truth_m: np.ndarray) -> dict[str, float]:
    """Errors in mm over the points found, shares found and inside their bounds, frames a second (best of three)."""
    seconds = []
    for _ in range(_RUNS):
        start = time.perf_counter()
        points = found()
        seconds.append(time.perf_counter() - start)
    offset = (points.xyz_m - truth_m)[points.valid]
    error_mm = 1000 * np.linalg.norm(offset, axis=-1)
    squared = np.einsum("ni,nij,nj->n", offset, np.linalg.inv(points.covariance[points.valid]), offset)
    return {
        "mean_mm": float(error_mm.mean()),
        "p95_mm": float(np.percentile(error_mm, 95)),
        "inside": float((squared < CHI2_95).mean()),
        "found": float(points.valid.mean()),
        "fps": len(truth_m) / min(seconds),
    }


def main() -> None:
    """Prints a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=Path, help="triangulation.npz, or another file of its layout")
    parser.add_argument("--seed", type=int, default=1, help="of a simulated person, without --inputs")
    parser.add_argument("--peers", action="store_true", help="run the peers too")
    given = parser.parse_args()
    rig, arrays = simulated(given.seed) if given.inputs is None else (None, read_npz(given.inputs))
    rig = rig_of(arrays) if rig is None else rig
    truth, dirty, score = arrays["truth_in_world_m"], arrays["dirty_px"], arrays["dirty_score"]
    rows = {
        "dirty": measure(lambda: triangulated(rig, dirty, score), truth),
        "clean": measure(lambda: triangulated(rig, arrays["clean_px"], np.ones_like(score)), truth),
        "paths": measure(lambda: followed(rig, dirty, score), truth),
    }
    print(f"{'input':26} {'mean mm':>8} {'p95 mm':>8} {'inside':>7} {'found':>7} {'frames/s':>9}")
    for name, row in rows.items():
        values = f"{row['mean_mm']:8.2f} {row['p95_mm']:8.2f} {row['inside']:7.4f} {row['found']:7.4f}"
        print(f"{name:26} {values} {row['fps']:9.0f}")
    result = {
        "frame_mean_mm": rows["dirty"]["mean_mm"],
        "frame_fps": rows["dirty"]["fps"],
        "temporal_mean_mm": rows["paths"]["mean_mm"],
        "temporal_fps": rows["paths"]["fps"],
        "clean_mean_mm": rows["clean"]["mean_mm"],
        "frame_inside": rows["dirty"]["inside"],
        "temporal_inside": rows["paths"]["inside"],
    }
    if given.peers:
        sys.path.insert(0, str(Path(__file__).resolve().parent))
        from peers.triangulation import run_peers

        for name, peer in run_peers(rig, dirty, score, arrays["clean_px"], truth).items():
            for kind, row in peer.items():
                values = f"{row['mean_mm']:8.2f} {row['p95_mm']:8.2f} {'':7} {row['found']:7.4f} {row['fps']:9.1f}"
                print(f"{name + ', ' + kind:26} {values}", flush=True)
                result[f"{name}_{kind}_mean_mm"] = row["mean_mm"]
            result[f"{name}_fps"] = peer["dirty"]["fps"]
    print(json.dumps({key: round(value, 3) for key, value in result.items()}))


if __name__ == "__main__":
    main()
