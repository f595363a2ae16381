"""The peers on the keypoints of `benchmarks/triangulation.py`."""

from __future__ import annotations

import numpy as np
from peers.environment import PeerError, run_tool

from core.cameras import Rig

# seconds that a peer may take; ransac's 0.3 frames a second make a thousand of 300 frames
_MODES = {"linear": 120.0, "optim": 900.0, "ransac": 1800.0}


def run_peers(
    rig: Rig, dirty_px: np.ndarray, score: np.ndarray, clean_px: np.ndarray, truth_m: np.ndarray
) -> dict[str, dict[str, dict[str, float]]]:
    """Errors and frames a second of each peer on dirty and clean keypoints; peers that fail are left out, aloud."""
    cameras = {
        "K": np.stack([camera.lens.K for camera in rig]),
        "dist": np.stack([np.array(camera.lens.distortion) for camera in rig]),
        "R": np.stack([camera.cam_from_world.R for camera in rig]),
        "t": np.stack([camera.cam_from_world.t for camera in rig]),
        "size_px": np.array(rig.cameras[0].lens.size_px),
    }
    found = {}
    for mode, limit_s in _MODES.items():
        name = f"aniposelib_{mode}"
        try:
            found[name] = {
                kind: _figures(run_tool("points_tool.py", "aniposelib", mode, arrays, limit_s=limit_s), truth_m)
                for kind, arrays in (
                    ("dirty", {**cameras, "xy_px": dirty_px, "score": score}),
                    ("clean", {**cameras, "xy_px": clean_px, "score": np.ones_like(score)}),
                )
                if kind == "dirty" or mode != "ransac"  # without outliers it takes as long for what `linear` does
            }
        except PeerError as error:
            print(f"{name:24} {error}")
    return found


def _figures(result: dict[str, np.ndarray], truth_m: np.ndarray) -> dict[str, float]:
    error_mm = 1000 * np.linalg.norm(result["xyz_m"] - truth_m, axis=-1)
    known = np.isfinite(error_mm)
    return {
        "mean_mm": float(error_mm[known].mean()),
        "p95_mm": float(np.percentile(error_mm[known], 95)),
        "found": float(known.mean()),
        "fps": len(truth_m) / float(result["seconds"]),
    }
