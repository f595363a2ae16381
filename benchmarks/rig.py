"""Rig calibration on a fixed file of board corners: camera-centre error after a rigid alignment, and seconds.

`python benchmarks/rig.py [--inputs rig_boards.npz] [--seed 100 --seeds 10] [--peers]`; without a file it is looked for
in `../shared/bench` or below `MOTIFS_SHARED`; with `--seed` boards of the same layout are simulated instead. `known`:
the true lenses are given; `free`: lenses are found from the same boards, from nothing; `floor`: the same from the true
state, with only what the truth really varies free (focal length, principal point, k1, k2), and `bound` the root mean
square error that the Cramer-Rao bound of that problem allows. `--peers` runs caliscope, aniposelib and OpenCV 5 on the
same corners in environments of their own (`stepwise`: their lenses come from cv2.calibrateCamera). The last line is
JSON.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import time
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import numpy as np
from peers.environment import PeerError, run_on_boards

from calibration.align import rig_errors, rig_poses
from calibration.boards import board_observations, solve_boards
from calibration.bundle import BundleConfig, solve_bundle
from calibration.lens_prior import weak_lens_prior
from calibration.lens_solver import lenses_from_boards
from calibration.normal_equations import System
from calibration.scene import Observations, Scene
from core.cameras import Camera, Lens, Rig
from core.files import read_npz
from core.transforms import SE3, align_points, hat
from simulation.board_rigs import board_rig

_PEERS = (
    ("opencv", "known"), ("caliscope", "known"), ("aniposelib", "known"), ("opencv", "free"), ("caliscope", "free"),
    ("aniposelib", "free"), ("opencv", "stepwise"), ("caliscope", "stepwise"), ("aniposelib", "stepwise"),
)  # fmt: skip

Row = dict[str, float]


@dataclasses.dataclass(frozen=True, eq=False)
class Input:
    """Corners of a board in many places, and the truth."""

    corners_px: np.ndarray
    board_m: np.ndarray
    truth: Rig
    world_from_board: SE3


def truth_of(arrays: dict[str, np.ndarray]) -> Rig:
    """The true cameras of a benchmark file."""
    size = (int(arrays["truth_size_px"][0]), int(arrays["truth_size_px"][1]))
    cameras = []
    for v, (K, dist) in enumerate(zip(arrays["truth_K"], arrays["truth_dist"], strict=True)):
        lens = Lens("radtan", size, (K[0, 0], K[1, 1]), (K[0, 2], K[1, 2]), tuple(float(k) for k in dist))
        pose = SE3(arrays["truth_R_cam_from_world"][v], arrays["truth_t_cam_from_world"][v])
        cameras.append(Camera(f"cam{v}", lens, pose))
    return Rig(tuple(cameras))


def from_file(path: Path) -> Input:
    """Reads a benchmark file."""
    arrays = read_npz(path)
    board = arrays["board_m"]
    places = [align_points(board, seen)[0] for seen in arrays["board_in_world_m"]]
    return Input(arrays["corners_px"].astype(float), board, truth_of(arrays), SE3.stack(places))


def simulated(seed: int) -> Input:
    """Another draw of the same layout."""
    made = board_rig(np.random.default_rng(seed))
    return Input(made.corners_px, made.board_m, made.rig, made.world_from_board)


def measure(solve: Callable[[], Rig], truth: Rig) -> Row:
    """Errors and wall time of one solution."""
    start = time.perf_counter()
    rig = solve()
    seconds = time.perf_counter() - start
    errors = rig_errors(rig, truth, align=True)
    return {"rmse_mm": errors.rmse_mm, "deg": errors.median_deg, "s": seconds}


def ours(given: Input) -> dict[str, Row]:
    """The project's own figures, beside the floor."""
    truth, lenses = given.truth, tuple(camera.lens for camera in given.truth)

    def solve_free() -> Rig:
        start = lenses_from_boards(given.corners_px, given.board_m, "radtan", lenses[0].size_px)
        return solve_boards(truth.ids, start, given.corners_px, given.board_m, free_lenses=True).rig

    rows = {
        "known": measure(lambda: solve_boards(truth.ids, lenses, given.corners_px, given.board_m).rig, truth),
        "free": measure(solve_free, truth),
    }
    scene, observations = _true_state(given)
    rows["floor"] = measure(lambda: _solved(scene, observations, truth), truth)
    rows["floor"]["bound"] = _bound_mm(scene, observations)
    return rows


def _true_state(given: Input) -> tuple[Scene, Observations]:
    """The scene at the truth with those numbers free that the truth varies, and what was seen of it."""
    lenses = tuple(camera.lens for camera in given.truth)
    index = np.arange(len(lenses))
    scene = Scene.fixed_lenses(
        lenses, index, rig_poses(given.truth), given.world_from_board, held_images=np.zeros(1, int)
    )
    free = np.zeros((len(lenses), len(lenses[0].params)), bool)
    free[:, :6] = True
    scene = dataclasses.replace(scene, lens_free=free, lens_prior=weak_lens_prior(lenses))
    return scene, board_observations(given.corners_px, given.board_m, 0.3)


def _solved(scene: Scene, observations: Observations, truth: Rig) -> Rig:
    solved = solve_bundle(scene, observations, BundleConfig(loss="none")).scene
    cameras = zip(truth, solved.lenses, strict=True)
    return Rig(tuple(Camera(c.id, lens, solved.world_from_cam[k].inverse()) for k, (c, lens) in enumerate(cameras)))


def _bound_mm(scene: Scene, observations: Observations) -> float:
    """Root mean square centre error that the Cramer-Rao bound leaves after the best rigid alignment."""
    order = np.lexsort((observations.target_idx, observations.image_idx))
    normal = System(observations[order], BundleConfig(loss="none")).linearise(scene)
    S = normal.reduced(0.0)[0]
    free = np.flatnonzero(normal.free)
    full = np.zeros_like(S)
    full[np.ix_(free, free)] = np.linalg.inv(S[np.ix_(free, free)])
    n = len(scene.world_from_cam)
    rows = (6 * np.arange(n)[:, None] + np.arange(3, 6)).ravel()
    centres = scene.world_from_cam.t
    motions = np.concatenate([np.tile(np.eye(3), (n, 1)), hat(centres - centres.mean(axis=0)).reshape(-1, 3)], axis=1)
    rest = np.eye(3 * n) - motions @ np.linalg.pinv(motions)
    return float(1000 * np.sqrt(np.trace(rest @ full[np.ix_(rows, rows)] @ rest) / n))


def peers(given: Input) -> Iterator[tuple[str, Row | str]]:
    """The peers' figures on the same corners, or why there are none, as they come."""
    lenses = [camera.lens for camera in given.truth]
    arrays = {
        "corners_px": given.corners_px,
        "board_m": given.board_m,
        "K": np.stack([lens.K for lens in lenses]),
        "dist": np.stack([lens.distortion for lens in lenses]),
        "size_px": np.array(lenses[0].size_px),
    }
    for peer, mode in _PEERS:
        try:
            found = run_on_boards(peer, mode, arrays)
        except PeerError as error:
            yield f"{peer} {mode}", str(error)
            continue
        names = zip(given.truth, found.R, found.t, strict=True)
        rig = Rig(tuple(dataclasses.replace(c, cam_from_world=SE3(R, t)) for c, R, t in names))
        errors = rig_errors(rig, given.truth, align=True)
        yield f"{peer} {mode}", {"rmse_mm": errors.rmse_mm, "deg": errors.median_deg, "s": found.seconds}


def main() -> None:
    """Prints a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    shared = Path(os.environ.get("MOTIFS_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    parser.add_argument("--inputs", type=Path, default=shared / "bench" / "rig_boards.npz")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--peers", action="store_true")
    options = parser.parse_args()
    if options.seed is None:
        inputs = {options.inputs.name: from_file(options.inputs)}
    else:
        inputs = {f"seed {k}": simulated(k) for k in range(options.seed, options.seed + options.seeds)}
    print(f"{'input':16} {'intrinsics':22} {'rmse mm':>8} {'median deg':>11} {'seconds':>8} {'bound mm':>9}")
    table: dict[str, list[Row]] = {}
    for name, given in inputs.items():
        for label, row in chain(ours(given).items(), peers(given) if options.peers else ()):
            if isinstance(row, str):
                print(f"{name:16} {label:22} {row}", flush=True)
                continue
            table.setdefault(label, []).append(row)
            bound = f"{row['bound']:9.3f}" if "bound" in row else ""
            print(f"{name:16} {label:22} {row['rmse_mm']:8.3f} {row['deg']:11.4f} {row['s']:8.2f} {bound}", flush=True)
    flat: dict[str, float] = {}
    for label, found in table.items():
        key = label.replace(" ", "_")
        errors = np.array([row["rmse_mm"] for row in found])
        flat |= {
            f"{key}_rmse_mm": round(float(errors.mean()), 3),
            f"{key}_s": round(float(np.mean([r["s"] for r in found])), 3),
        }
        if len(errors) > 1:
            flat[f"{key}_spread_mm"] = round(float(errors.std(ddof=1)), 3)
            print(f"{label:22} over {len(errors)} seeds: {errors.mean():.3f} +- {errors.std(ddof=1):.3f} mm")
    print(json.dumps(flat))


if __name__ == "__main__":
    main()
