"""SMPL fit on a fixed file of noisy keypoints: error of the fitted BODY_25 joints and frames a second.

`python benchmarks/smpl_fit.py --inputs smpl_fit.npz --body smpl_body.npz`; the last line is JSON. Everything between
keypoints and SMPL parameters is timed, triangulation and covariances included.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

from core.files import read_npz
from core.parallel import process_pool
from core.skeletons import BODY_25
from fitting.backend import CPU, require_device
from fitting.estimate import Estimate, Measurements
from fitting.landmarks import Landmarks
from fitting.points import triangulate_points
from fitting.smpl import NUM_JOINTS, BodyModel
from fitting.windows import estimate_body

sys.path.insert(0, str(Path(__file__).resolve().parent))
from triangulation import rig_of

CHI2_95 = 7.815  # of three degrees of freedom
_RUNS = 4  # the first starts the processes


def fit(
    arrays: dict[str, np.ndarray], body: BodyModel, landmarks: Landmarks, workers: int = 1, device: str = CPU
) -> Estimate:
    """From keypoints to parameters."""
    rig = rig_of(arrays)
    xy, score = arrays["dirty_px"].astype(float), arrays["dirty_score"].astype(float)
    points = triangulate_points(rig, xy, score, BODY_25)
    mirror = BODY_25.swap_idx
    xy = np.where(points.swapped[..., None], xy[:, :, mirror], xy)
    score = np.where(points.swapped, score[:, :, mirror], score)
    measured = Measurements(rig, xy, score, points.xyz_m, 1 / float(arrays["fps"]))
    pool = process_pool(workers) if workers > 1 else None
    return estimate_body(body, landmarks, measured, pool=pool, device=device)


def main() -> None:
    """Prints a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=Path, required=True, help="smpl_fit.npz")
    parser.add_argument("--body", type=Path, required=True, help="smpl_body.npz, with body25_regressor")
    parser.add_argument("--workers", type=int, default=2, help="processes; the result does not depend on them")
    parser.add_argument("--device", type=require_device, default=CPU, help="cpu, cuda or cuda:1")
    given = parser.parse_args()
    arrays, body = read_npz(given.inputs), BodyModel.load(given.body)
    regressor = read_npz(given.body)["body25_regressor"].astype(float)
    landmarks = Landmarks.from_regressors(body, BODY_25.joints, np.zeros((len(BODY_25), NUM_JOINTS)), regressor)
    seconds = []
    for _ in range(_RUNS):
        start = time.perf_counter()
        found = fit(arrays, body, landmarks, given.workers, given.device)
        seconds.append(time.perf_counter() - start)
    posed = found.state.posed(body)
    error_mm = 1000 * np.linalg.norm(landmarks.positions(posed) - arrays["truth_body25_in_world_m"], axis=-1)
    offset = posed.joints - arrays["truth_joints24_in_world_m"]
    inside = np.einsum("tji,tjik,tjk->tj", offset, np.linalg.inv(found.joint_covariance), offset) < CHI2_95
    rows = {
        "mean BODY_25 error, mm": error_mm.mean(),
        "95th percentile, mm": np.percentile(error_mm, 95),
        "mean SMPL joint error, mm": 1000 * np.linalg.norm(offset, axis=-1).mean(),
        "joints inside their 95 % bounds": inside.mean(),
        "Gauss-Newton steps": found.num_steps,
        "frames/s": len(error_mm) / min(seconds),
    }
    for name, value in rows.items():
        print(f"{name:34} {value:8.3f}")
    result = {"mean_mm": float(error_mm.mean()), "fps": len(error_mm) / min(seconds), "coverage": float(inside.mean())}
    print(json.dumps({key: round(value, 3) for key, value in result.items()}))


if __name__ == "__main__":
    main()
