"""Foot cameras of a simulated session against their exact poses: all stages really run, from rendered videos.

`python benchmarks/egomotion.py [--room boards|bare] [--seed N] [--cameras N] [--seconds S] [--session DIR]`

`--room bare` has no board but the one on the floor: nothing overhead, and nothing drawn on boards that could serve as
texture; its rows are on the scene map alone. `--cameras` and `--seconds` make a smaller session, which is no measure of
the figures asked for. `--session` keeps the session there, or takes one that is there, with the stages that it has.
Errors are in the world frame, nothing is aligned, over **all** frames of the motion, each by its number; a frame
without a pose counts as infinitely wrong and is reported as `missing`.

The session, as it was chosen before anything was measured: 24 room cameras, two foot cameras of 512 px with a rolling
shutter of 10 ms and an exposure of 4 ms (blur is rendered), boards on the ceiling and under the table, a walk-through.
Something covers each foot camera in 20 % of the motion's frames: stretches begin at random frames, in stance and in
swing, with geometric lengths of mean 6 frames; they may touch and so last longer. Room cameras film the calibration;
during the motion their videos hold the waiting person (the keypoints are those of the motion): nothing here reads those
pictures, and rendering them would take most of the time.

Rows: `markers` is the stage on markers alone, `scene` the same on the scene map without any, `both` in one estimate.
`unbridged` does without the joints that room cameras saw; on top of that, `kochanek_bartels` fills gaps by splines and
`average` adds an exponential moving average (both ways, 50 ms), as the Action Motif Dataset did. `measured` and
`filled` are the frames with and without a measurement of their own; `coverage` is the share of error components inside
their stated 95 % bounds. Settings were chosen on seeds 31, 47 and 101 to 204 and on motion capture, not
on 3. The last line is JSON.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
import time
from pathlib import Path

import numpy as np

from calibration import egomotion
from calibration.align import pose_errors
from calibration.egomotion import Egomotion, EgomotionConfig
from calibration.foot_bridge import BridgeConfig
from calibration.gap_filling import GapConfig
from capture.session import Session
from core.clock import Clock
from core.errors import GateError
from core.files import read_json, read_npz
from core.transforms import SE3
from motifs.pipeline import STEPS, RunConfig
from simulation.recording import simulate
from simulation.world import SimulateConfig

_REFUSED = "05_egomotion.refused"


def session_config(seed: int, cameras: int = 24, bare: bool = False, seconds: float = 21.0) -> SimulateConfig:
    """The benchmark's session; a bare room has no boards overhead or under the table."""
    return SimulateConfig(
        seed=seed,
        duration_s=seconds,
        num_room_cameras=cameras,
        boards_overhead=not bare,
        num_photos=0 if bare else 18,
        foot_blind_share=0.2,
        foot_exposure_s=0.004,
        room_films_motion=False,
        num_walkthrough=160,
    )


def variants(folder: Path) -> dict[str, EgomotionConfig]:
    """What is compared; the default comes last, so that its result stays in the session."""
    scene, plain = EgomotionConfig(on="scene"), EgomotionConfig(on="markers")
    if not Session.load(folder).of_role("handheld"):  # a bare room
        return {"scene": scene}
    unbridged = dataclasses.replace(plain, bridge=BridgeConfig(joints=False))
    spline, average = GapConfig(fill="kochanek_bartels"), GapConfig(fill="kochanek_bartels", average="both")
    found = {"scene": scene, "both": EgomotionConfig(on="both")} if (folder / "04_scene").is_dir() else {}
    for name, gaps in (("average", average), ("kochanek_bartels", spline), ("unbridged", GapConfig())):
        found[name] = dataclasses.replace(unbridged, gaps=gaps)
    return found | {"markers": plain}


def run_stages(folder: Path, workers: int) -> None:
    """Every stage before the feet that has not been run."""
    session, config = Session.load(folder), RunConfig()
    for step in STEPS:
        if step.setting == "feet":
            return
        if step.applies(session) and not (folder / step.folder).exists():
            start = time.perf_counter()
            step.run(folder, getattr(config, step.setting), workers=workers, redo=False)
            print(f"{step.command:18} {time.perf_counter() - start:7.1f} s", flush=True)


def measure(folder: Path, config: EgomotionConfig, workers: int) -> dict[str, float]:
    """Errors of both feet together; of the refused result if a gate refused it, which `refused` then says."""
    start = time.perf_counter()
    try:
        egomotion.run(folder, config, workers=workers, redo=True)
        result, refused = folder / egomotion.STAGE, 0.0
    except GateError as error:
        print(f"refused: {error}")
        result, refused = folder / _REFUSED, 1.0
    seconds = time.perf_counter() - start
    session = Session.load(folder)
    feet = [view.id for view in session.views if view.is_foot]
    parts = [_errors(folder, result, view, session.spans_s["motion"][0]) for view in feet]
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    clock = max(_clock_error_ms(folder, result, view) for view in feet)
    return {**_summary(joined), "clock_ms": clock, "refused": refused, "s": seconds}


def _errors(folder: Path, result: Path, view: str, first_s: float) -> dict[str, np.ndarray]:
    """Errors of a view's frames during the motion."""
    truth, ego = read_npz(folder / "truth" / f"{view}.npz"), egomotion.load_way(result / f"{view}.npz")
    true = SE3(truth["world_from_cam_R"], truth["world_from_cam_t_m"])
    errors, rows = pose_errors(ego.world_from_cam, true), truth["t_s"] > first_s
    return {
        "mm": 1e3 * errors.centre_m[rows],
        "deg": np.degrees(errors.rotation_rad[rows]),
        "measured": (ego.valid & ~ego.filled)[rows],
        "inside": _inside(ego, true)[rows],
        "covered": truth["covered"][rows],
    }


def _inside(ego: Egomotion, true: SE3) -> np.ndarray:
    """Share of the six error components inside their stated 95 % bounds (frames,); NaN without a pose."""
    inside = np.full(len(ego.t_s), np.nan)
    valid = ego.valid
    off = ego.world_from_cam[valid].local(true[valid])
    sigma = np.sqrt(np.einsum("nii->ni", ego.covariance[valid]))
    inside[valid] = (np.abs(off) < 1.96 * sigma).mean(axis=-1)
    return inside


def _clock_error_ms(folder: Path, result: Path, view: str) -> float:
    """Largest error of a foot camera's clock over the recording."""
    truth = Clock.from_json(read_json(folder / "truth" / "clocks.json")["clocks"][view])
    found = Clock.from_json(read_json(result / "clocks.json")["clocks"][view])
    local = read_npz(folder / "01_sync" / f"{view}.times.npz")["t_local_s"]
    return 1e3 * float(np.abs(found.to_session(local) - truth.to_session(local)).max())


def _summary(errors: dict[str, np.ndarray]) -> dict[str, float]:
    measured, missing = errors["measured"], np.isnan(errors["mm"])
    filled = ~measured & ~missing
    figures = {"blind": float(errors["covered"].mean()), "missing": float(missing.mean())}
    for name, rows in (("", np.ones_like(measured)), ("measured_", measured), ("filled_", filled)):
        for unit in ("mm", "deg"):
            values = np.where(missing, np.inf, errors[unit])[rows]
            for label, q in (("median", 0.5), ("p95", 0.95)):
                figures[f"{name}{label}_{unit}"] = float(np.quantile(values, q, method="higher"))
        if name:
            figures[f"{name}coverage"] = float(errors["inside"][rows].mean())
    return figures


def main() -> None:
    """Prints a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--room", choices=("boards", "bare"), default="boards")
    parser.add_argument("--cameras", type=int, default=24)
    parser.add_argument("--seconds", type=float, default=21.0)
    parser.add_argument("--session", type=Path, help="where the session is, or is to be kept")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.session or Path(scratch) / "session"
        if not (folder / "session.json").is_file():
            config = session_config(given.seed, given.cameras, given.room == "bare", given.seconds)
            simulate(folder, config, workers=given.workers)
        run_stages(folder, given.workers)
        rows = {name: measure(folder, config, given.workers) for name, config in variants(folder).items()}
    columns = ("median_mm", "p95_mm", "median_deg", "p95_deg", "measured_p95_mm", "filled_median_mm", "filled_p95_mm",
               "measured_coverage", "filled_coverage", "missing", "clock_ms", "s")  # fmt: skip
    print(f"{'':17}" + "".join(f"{column:>18}" for column in columns))
    for name, row in rows.items():
        print(f"{name:17}" + "".join(f"{row[column]:18.3f}" for column in columns))
    flat = {
        (key if name == "markers" else f"{name}_{key}"): round(value, 4) if np.isfinite(value) else None
        for name, row in rows.items()
        for key, value in row.items()
    }
    print(json.dumps(flat))


if __name__ == "__main__":
    main()
