"""A board waved before four webcams that expose when they like: the rig with every frame at its own time.

`python benchmarks/moving_board.py [--inputs FOLDER] [--corners shipped|own] [--every 5]` solves cameras, lenses, clocks
(latencies, rolling shutters) and the board's way from caliscope's recording `caliscope_charuco_4cam`, looked for in
`../shared/data` or below `MOTIFS_SHARED`. `--corners own` finds the corners in the videos with this project's detector.

Printed are the residuals of all corners, beside those that remain where frames are taken as simultaneous; the cameras'
poses from odd frames against those from even ones, once with lenses, clocks and readout times as the whole recording
tells them but poses, the board's way, its smoothness and the corners' noise from each half (`odd_even`), once with
everything found anew from each half (`odd_even_alone`); and how well frames that were left out, every fifth of a
camera, are predicted from the others.
The priors of lenses and clocks are stated below. The last line is JSON.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import time
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from calibration.rig_targets import Sighting, TargetRig, solve_target_rig
from capture.finder import TargetFinder
from capture.markers import MarkerPoints
from capture.targets import Target
from core.cameras import Lens
from core.clock import Clock
from core.transforms import geodesic

BOARD = Target("board", "charuco", "carried", (4, 5), 0.054, 0.75 * 0.054, "DICT_4X4_1000", inverted=True)
LATENCY_SIGMA_S = 0.1  # webcams buffer a few frames, and expose up to 1/16 s before they tell
READOUT_S, READOUT_SIGMA_S = 0.015, 0.010  # of a whole picture; rolling shutters of webcams take 0 to 30 ms
FOCAL_SIGMA, CENTRE_SIGMA_PX = 0.005, 5.0  # the shipped lenses, from 33 to 40 boards at 0.3 to 0.5 px, are this good
DISTORTION_SIGMA = (0.025, 0.05, 0.001, 0.001, 0.05)
REJECTED_SIGMAS = 6.0  # of a camera's own noise
_HEIGHT_PX = 720


@dataclass(frozen=True)
class Recording:
    """The recording: `points` and frame times `t_s` by camera, and the lenses that came with it."""

    points: Mapping[str, MarkerPoints]
    t_s: Mapping[str, np.ndarray]
    lenses: Mapping[str, Lens]


def load(folder: Path) -> Recording:
    """Shipped corners, frame times and lenses."""
    with (folder / "camera_array.toml").open("rb") as file:
        cameras = tomllib.load(file)["cameras"]
    lenses = {}
    for key, c in cameras.items():
        K = c["matrix"]
        size = (int(c["size"][0]), int(c["size"][1]))
        lenses[f"cam{key}"] = Lens("radtan", size, (K[0][0], K[1][1]), (K[0][2], K[1][2]), tuple(c["distortions"]))
    extrinsic = folder / "calibration" / "extrinsic"
    with (extrinsic / "timestamps.csv").open() as file:
        times = [(int(r["sync_index"]), f"cam{r['cam_id']}", float(r["frame_time"])) for r in csv.DictReader(file)]
    first = min(sync for sync, _, _ in times)
    t_s = {name: np.array([t for _, c, t in sorted(times) if c == name]) for name in lenses}
    with (extrinsic / "CHARUCO" / "xy_CHARUCO.csv").open() as file:
        rows = list(csv.DictReader(file))
    points = {}
    for name in lenses:
        own = [r for r in rows if f"cam{r['cam_id']}" == name]
        xy = np.array([[float(r["img_loc_x"]), float(r["img_loc_y"])] for r in own])
        frame = np.array([int(r["sync_index"]) - first for r in own])
        points[name] = _table(frame, np.array([int(r["keypoint_id"]) for r in own]), xy)
    return Recording(points, t_s, lenses)


def _table(frame: np.ndarray, point: np.ndarray, xy: np.ndarray) -> MarkerPoints:
    """Corners of the board; their noise is found out by the solver."""
    sigma = np.full(len(xy), 0.3, np.float32)
    return MarkerPoints(("board",), frame, np.zeros(len(xy), int), point, xy, sigma)


def with_own_corners(recording: Recording, folder: Path) -> Recording:
    """The recording with corners found in the videos by this project's detector."""
    import cv2

    finder = TargetFinder({"board": BOARD})
    points = {}
    for name in recording.lenses:
        video = cv2.VideoCapture(str(folder / "calibration" / "extrinsic" / f"{name.replace('cam', 'cam_')}.mp4"))
        tables, frame = [], 0
        while (read := video.read())[0]:
            tables.append(finder.find(cv2.cvtColor(read[1], cv2.COLOR_BGR2GRAY), frame))
            frame += 1
        points[name] = MarkerPoints.concatenate(tables, ("board",))
    return replace(recording, points=points)


def solve(recording: Recording, *, rate_sigma: float = 0.0, known: TargetRig | None = None) -> TargetRig:
    """The rig; the first camera's clock is the session's. Lenses and clocks are those of a `known` rig, if given."""
    sightings = {}
    for k, (name, lens) in enumerate(recording.lenses.items()):
        points, t_s = recording.points[name], recording.t_s[name]
        if known is not None:
            clock = known.clocks[name]
            t_s = clock.times(t_s, np.zeros(len(t_s)))
            sightings[name] = Sighting(known.rig[name].lens, points, t_s, 0.0, 0.0, clock.row_time_s)
            continue
        sightings[name] = Sighting(
            lens,
            points,
            t_s,
            clock_sigma_s=LATENCY_SIGMA_S if k else 0.0,
            clock_rate_sigma=rate_sigma if k else 0.0,
            row_time_s=READOUT_S / _HEIGHT_PX,
            row_time_sigma=READOUT_SIGMA_S / _HEIGHT_PX,
            lens_covariance=_lens_covariance(lens),
        )
    return solve_target_rig(sightings, {"board": BOARD})


def simultaneous(recording: Recording) -> tuple[Recording, TargetRig]:
    """The recording as most tools take it: frames of one number at one time, pictures read out at once."""
    together: np.ndarray = np.mean(list(recording.t_s.values()), axis=0)
    recording = replace(recording, t_s=dict.fromkeys(recording.t_s, together))
    sightings = {
        name: Sighting(lens, recording.points[name], together, 0.0, lens_covariance=_lens_covariance(lens))
        for name, lens in recording.lenses.items()
    }
    return recording, solve_target_rig(sightings, {"board": BOARD})


def _lens_covariance(lens: Lens) -> np.ndarray:
    fx, fy = lens.focal_px
    return np.diag([FOCAL_SIGMA * fx, FOCAL_SIGMA * fy, CENTRE_SIGMA_PX, CENTRE_SIGMA_PX, *DISTORTION_SIGMA]) ** 2


def residuals(recording: Recording, rig: TargetRig) -> dict[str, np.ndarray]:
    """Predicted minus seen (n, 2) of all corners by camera; NaN where the board was not followed."""
    found = {}
    for camera in rig.rig:
        table = recording.points[camera.id]
        xy = table.xy_px.astype(float)
        when = rig.clocks[camera.id].times(recording.t_s[camera.id][table.frame_idx], xy[:, 1])
        world = rig.carried["board"].at(when).apply(BOARD.points_m[table.point_idx])
        found[camera.id] = camera.project(world) - xy
    return found


def rejected(found: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Corners that do not count: far outside their camera's own noise, or not followed."""
    masks = {}
    for name, r in found.items():
        limit = REJECTED_SIGMAS * 1.4826 * np.nanmedian(np.abs(r))
        with np.errstate(invalid="ignore"):
            masks[name] = ~(np.linalg.norm(r, axis=-1) <= limit)
    return masks


def some_frames(recording: Recording, keep: Mapping[str, np.ndarray]) -> Recording:
    """The recording with the corners of some frames (masks by camera) alone."""
    points = {name: table.where(keep[name][table.frame_idx]) for name, table in recording.points.items()}
    return replace(recording, points=points)


def odd_against_even(recording: Recording, known: TargetRig | None) -> tuple[float, float]:
    """Largest difference of cameras solved from odd and from even frames: degrees, and percent of the distance."""
    poses = []
    for parity in (0, 1):
        keep = {name: np.arange(len(t)) % 2 == parity for name, t in recording.t_s.items()}
        cameras = solve(some_frames(recording, keep), known=known).rig.cameras
        poses.append([cameras[0].cam_from_world @ camera.world_from_cam for camera in cameras[1:]])
    pairs = list(zip(*poses, strict=True))
    turn = max(float(np.degrees(geodesic(a.R, b.R))) for a, b in pairs)
    return turn, max(100 * float(np.linalg.norm(a.t - b.t) / np.linalg.norm(a.t)) for a, b in pairs)


def hold_out(recording: Recording, every: int) -> np.ndarray:
    """Errors (pixels) of corners in frames that the solution did not use, all frames in turn."""
    errors = []
    for turn in range(every):
        out = {name: (np.arange(len(t)) + 2 * k) % every == turn for k, (name, t) in enumerate(recording.t_s.items())}
        rig = solve(some_frames(recording, {name: ~mask for name, mask in out.items()}))
        errors += [r[np.isfinite(r[:, 0])] for r in residuals(some_frames(recording, out), rig).values()]
    return np.concatenate(errors)


def estimate_clocks(recording: Recording, shifts: Mapping[str, Clock] | None = None) -> dict[str, Clock]:
    """Clocks of the cameras against the first one's, after their recorded times were changed by `shifts`."""
    shifts = shifts or {}
    moved = {name: shifts.get(name, Clock()).to_local(t) for name, t in recording.t_s.items()}
    rig = solve(replace(recording, t_s=moved), rate_sigma=0.01)
    return {name: rig.clocks[name].corrected(Clock()) for name in recording.t_s}


def measure(recording: Recording, every: int) -> dict[str, float]:
    """All figures of the table."""
    start = time.perf_counter()
    rig = solve(recording)
    seconds = time.perf_counter() - start
    found = residuals(recording, rig)
    out = np.concatenate(list(rejected(found).values()))
    r = np.concatenate(list(found.values()))
    taken, together = simultaneous(recording)
    at_once = residuals(taken, together)
    kept = np.concatenate([at_once[name][~mask] for name, mask in rejected(at_once).items()])
    left_out = hold_out(recording, every)
    degrees, percent = odd_against_even(recording, rig)
    degrees_alone, percent_alone = odd_against_even(recording, None)
    return {
        "rms_px": float(np.sqrt((r[~out] ** 2).mean())),
        "rms_all_px": float(np.sqrt(np.nanmean(r**2))),
        "median_px": float(np.nanmedian(np.linalg.norm(r, axis=-1))),
        "rejected": float(out.mean()),
        "corners": len(r),
        "simultaneous_rms_px": float(np.sqrt((kept**2).mean())),
        "simultaneous_median_px": float(np.nanmedian(np.linalg.norm(np.concatenate(list(at_once.values())), axis=-1))),
        "odd_even_deg": degrees,
        "odd_even_percent": percent,
        "odd_even_alone_deg": degrees_alone,
        "odd_even_alone_percent": percent_alone,
        "hold_out_px": float(np.sqrt((left_out**2).mean())),
        "hold_out_median_px": float(np.median(np.linalg.norm(left_out, axis=-1))),
        "s": seconds,
    } | {
        f"{what}_ms_{name}": 1e3 * value
        for name, clock in rig.clocks.items()
        for what, value in (("latency", clock.offset_s), ("readout", clock.row_time_s * _HEIGHT_PX))
    }


def data_folder() -> Path:
    """Where the recording lies."""
    shared = Path(os.environ.get("MOTIFS_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    return shared / "data" / "caliscope_charuco_4cam"


def main() -> None:
    """Prints a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=Path, default=data_folder())
    parser.add_argument("--corners", choices=("shipped", "own"), default="shipped")
    parser.add_argument("--every", type=int, default=5)
    arguments = parser.parse_args()
    recording = load(arguments.inputs)
    if arguments.corners == "own":
        recording = with_own_corners(recording, arguments.inputs)
    figures = measure(recording, arguments.every)
    for name, value in figures.items():
        print(f"{name:20} {value:10.3f}")
    print(json.dumps({name: round(value, 4) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
