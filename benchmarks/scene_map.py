"""Structure from motion on real pictures, and a map of a simulated room: how far both are from the truth.

`python benchmarks/scene_map.py [--inputs FOLDER] [--session SESSION] [--seed N] [--cameras N]`

- `--inputs`: a folder of `image_l/*.png`, `calib.txt` and `poses.txt` as KITTI odometry has them; without it,
  `kitti_excerpt_1` is looked for in `../shared/data` or below `MOTIFS_SHARED`. The lens is given; the path found is
  laid onto the true one by a similarity (Umeyama 1991), as a single camera knows no scale. `kitti_ate_percent` is the
  root mean square distance, `kitti_end_percent` the last frame's distance with the similarity of the first half alone,
  both in percent of the path's length; `kitti_segment_percent` is the mean error of the way over every 10 m, in percent
  of it.
- The room has no boards but the one on the floor. With `--session` a finished simulated session is read (`motifs run`
  as far as `calibrate feet`); else one is simulated and run, which takes long: ten minutes on two quiet cores. The
  figures are of the map's cameras, and of the foot cameras on it while the person moves, in the world of the floor
  board, nothing aligned.

The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from calibration.align import pose_errors
from calibration.egomotion import EgomotionConfig
from calibration.egomotion import run as run_feet
from calibration.features import FeatureConfig, find_features
from calibration.scene_map import STAGE, load_scene_map
from calibration.sfm import SfmConfig, solve_structure
from capture.session import Session
from capture.stills import list_stills, read_still
from core.cameras import Lens
from core.files import read_npz
from core.stage import Manifest
from core.transforms import SE3, align_points
from motifs.pipeline import STEPS, RunConfig
from motifs.truth import foot_errors, room_errors
from simulation.recording import SimulateConfig, simulate

_SEGMENT_M = 10.0
_WALK_FRAMES = 96


def kitti_figures(folder: Path) -> dict[str, float]:
    """Errors of the path found from a KITTI folder's left camera."""
    lens, truth = read_kitti(folder)
    start = time.perf_counter()
    features = [find_features(read_still(path), FeatureConfig()) for path in list_stills(folder / "image_l")]
    zeros = np.zeros(len(features), np.int64)
    found = solve_structure(features, [lens], zeros, zeros, SfmConfig(neighbours=6, partners=0))
    seconds = time.perf_counter() - start
    path, known = found.world_from_cam.t, found.registered
    return {"kitti_registered": float(known.mean()), **path_errors(path[known], truth[known]), "kitti_s": seconds}


def read_kitti(folder: Path) -> tuple[Lens, np.ndarray]:
    """The left camera's lens and its true places (n, 3)."""
    P = np.array([float(v) for v in (folder / "calib.txt").read_text().splitlines()[0].split()[-12:]]).reshape(3, 4)
    height, width = read_still(list_stills(folder / "image_l")[0]).shape
    lens = Lens("pinhole", (width, height), (P[0, 0], P[1, 1]), (P[0, 2], P[1, 2]))
    return lens, np.loadtxt(folder / "poses.txt").reshape(-1, 3, 4)[:, :, 3]


def path_errors(path: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Errors of a path of unknown scale, in percent of the true one's length."""
    way = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(truth, axis=0), axis=1))])

    def laid(rows: slice) -> np.ndarray:
        pose, scale = align_points(path[rows], truth[rows], with_scale=True)
        return scale * path @ pose.R.T + pose.t

    everywhere, by_first_half = laid(slice(None)), laid(slice(0, len(path) // 2))
    ate = np.sqrt((np.linalg.norm(everywhere - truth, axis=1) ** 2).mean())
    ends = [(a, int(np.searchsorted(way, way[a] + _SEGMENT_M))) for a in range(len(way))]
    errors = [
        np.linalg.norm((everywhere[b] - everywhere[a]) - (truth[b] - truth[a])) / (way[b] - way[a])
        for a, b in ends
        if b < len(way)
    ]
    return {
        "kitti_ate_percent": 100 * float(ate / way[-1]),
        "kitti_end_percent": 100 * float(np.linalg.norm(by_first_half[-1] - truth[-1]) / way[-1]),
        "kitti_segment_percent": 100 * float(np.mean(errors)),
    }


def make_session(folder: Path, seed: int, cameras: int) -> Session:
    """A simulated session in a room without boards overhead, annotated as far as the foot cameras."""
    config = SimulateConfig(
        seed=seed, num_room_cameras=cameras, num_walkthrough=_WALK_FRAMES, boards_overhead=False, num_photos=0
    )
    simulate(folder, config, workers=os.cpu_count() or 1)
    session, run = Session.load(folder), RunConfig()
    for step in STEPS:
        if step.command == "calibrate feet":
            break
        if step.applies(session):
            step.run(folder, getattr(run, step.setting), workers=os.cpu_count() or 1)
    run_feet(folder, EgomotionConfig(on="scene"), workers=os.cpu_count() or 1)
    return session


def room_figures(session: Session) -> dict[str, float]:
    """Errors of a simulated session's map and foot cameras."""
    cameras, truth = read_npz(session.stage(STAGE) / "cameras.npz"), session.folder / "truth"
    true_walk = read_npz(truth / "walkthrough.npz")
    rows = np.flatnonzero(cameras["view"] == "walkthrough")
    frames = cameras["frame_idx"][rows]
    found = SE3(cameras["world_from_cam_R"][rows], cameras["world_from_cam_t_m"][rows])
    walk = pose_errors(found, SE3(true_walk["world_from_cam_R"], true_walk["world_from_cam_t_m"])[frames])
    figures = {
        "rig_mm": room_errors(session).median_mm,
        "map_points": float(len(load_scene_map(session.folder))),
        "map_registered": float(np.isfinite(found.t[:, 0]).mean()),
        "map_camera_mm": walk.median_mm,
        "map_camera_deg": walk.median_deg,
        "map_s": Manifest.read(session.stage(STAGE)).seconds,
    }
    feet = [foot_errors(session, view.id) for view in session.views if view.is_foot]
    moving = np.concatenate([t_s for t_s, _ in feet]) >= session.spans_s["motion"][0]
    place = 1000 * np.concatenate([errors.centre_m for _, errors in feet])[moving]
    angle = np.degrees(np.concatenate([errors.rotation_rad for _, errors in feet]))[moving]
    for name, values in (("mm", place), ("deg", angle)):
        figures |= {
            f"feet_median_{name}": float(np.median(values)),
            f"feet_p95_{name}": float(np.quantile(values, 0.95)),
        }
    return figures


def main() -> None:
    """Prints a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = Path(os.environ.get("MOTIFS_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    parser.add_argument("--inputs", type=Path, default=shared / "data" / "kitti_excerpt_1")
    parser.add_argument("--session", type=Path, help="finished simulated session with a walk-through")
    parser.add_argument("--seed", type=int, default=47)
    parser.add_argument("--cameras", type=int, default=8)
    parser.add_argument("--only", choices=("kitti", "room"), help="one of the two alone")
    chosen = parser.parse_args()
    figures: dict[str, float] = {}
    if chosen.only != "room":
        figures |= kitti_figures(chosen.inputs)
    if chosen.only != "kitti":
        with tempfile.TemporaryDirectory() as name:
            own = None if chosen.session is None else Session.load(chosen.session)
            figures |= room_figures(own or make_session(Path(name) / "session", chosen.seed, chosen.cameras))
    for name, value in figures.items():
        print(f"{name:24} {value:10.4f}")
    print(json.dumps({name: round(value, 4) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
