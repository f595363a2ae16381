"""A board waved before four webcams that expose when they like: the rig with every frame at its own time.

`python benchmarks/moving_board.py [--inputs FOLDER] [--corners shipped|own] [--every 5]` solves cameras, lenses, clocks
(latencies, rolling shutters) and the board's way from caliscope's recording `caliscope_charuco_4cam`, looked for in
`../shared/data` or below `MOTIFS_SHARED`. `--corners own` finds the corners in the videos with this project's detector.

Printed are the residuals of all corners, beside those that remain where frames are taken as simultaneous; the cameras'
poses from odd frames against those from even ones, once with the lenses of the whole recording and everything else from
each half (`odd_even`), once with the lenses found anew from each half too (`odd_even_alone`: their stated deviations
are 0.1 to 0.5 degrees, most of it the 5 pixels within which principal points are known); and how well frames that were
left out, every fifth of a camera, are predicted from the others: as their stamps say (`hold_out`), and with their
jitter told by every second one of their corners and judged on the rest (`hold_out_timed`). `jitter` is the standard
deviation of the frames' times around the camera's clock. The priors of lenses and clocks are stated below. The last
line is JSON.
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

from calibration.lens_prior import imported_lens_covariance
from calibration.rig_targets import Sighting, TargetRig, solve_target_rig
from capture.finder import TargetFinder
from capture.markers import MarkerPoints
from capture.targets import Target
from core.cameras import Lens
from core.clock import Clock
from core.transforms import geodesic

BOARD = Target("board", "charuco", "carried", (4, 5), 0.054, 0.75 * 0.054, "DICT_4X4_1000", inverted=True)
LATENCY_SIGMA_S = 0.1  # webcams buffer a few frames, and expose up to 1/16 s before they tell
JITTER_SIGMA_S = 0.01  # to start from: they are stamped when read, up to 1/30 s after the exposure
READOUT_S, READOUT_SIGMA_S = 0.015, 0.010  # of a whole picture; rolling shutters of webcams take 0 to 30 ms
NOISE_PX = 0.4  # of a corner, where a frame's time is told from some of them
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


def solve(
    recording: Recording,
    *,
    latency_sigma_s: float = LATENCY_SIGMA_S,
    rate_sigma: float = 0.0,
    known: TargetRig | None = None,
) -> TargetRig:
    """The rig; the first camera's clock is the session's. Lenses are those of a `known` rig, if given."""
    sightings = {}
    for k, (name, lens) in enumerate(recording.lenses.items()):
        sightings[name] = Sighting(
            lens if known is None else known.rig[name].lens,
            recording.points[name],
            recording.t_s[name],
            clock_sigma_s=latency_sigma_s if k else 0.0,
            clock_rate_sigma=rate_sigma if k else 0.0,
            row_time_s=READOUT_S / _HEIGHT_PX,
            row_time_sigma=READOUT_SIGMA_S / _HEIGHT_PX,
            jitter_sigma_s=JITTER_SIGMA_S,
            lens_covariance=imported_lens_covariance(lens) if known is None else None,
        )
    return solve_target_rig(sightings, {"board": BOARD})


def simultaneous(recording: Recording) -> tuple[Recording, TargetRig]:
    """The recording as most tools take it: frames of one number at one time, pictures read out at once."""
    together: np.ndarray = np.mean(list(recording.t_s.values()), axis=0)
    recording = replace(recording, t_s=dict.fromkeys(recording.t_s, together))
    sightings = {
        name: Sighting(lens, recording.points[name], together, 0.0, lens_covariance=imported_lens_covariance(lens))
        for name, lens in recording.lenses.items()
    }
    return recording, solve_target_rig(sightings, {"board": BOARD})


def residuals(
    recording: Recording, rig: TargetRig, late_s: Mapping[str, np.ndarray] | None = None
) -> dict[str, np.ndarray]:
    """Predicted minus seen (n, 2) of all corners by camera; NaN where the board was not followed.

    Args:
        recording: what was seen.
        rig: the solution.
        late_s: (frames,) by how much each frame was late, by camera; what the solution says if None.
    """
    found = {}
    for camera in rig.rig:
        table = recording.points[camera.id]
        xy = table.xy_px.astype(float)
        late = (rig.jitter_s if late_s is None else late_s)[camera.id][table.frame_idx]
        when = late + rig.clocks[camera.id].times(recording.t_s[camera.id][table.frame_idx], xy[:, 1])
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


def hold_out(recording: Recording, every: int) -> tuple[np.ndarray, np.ndarray]:
    """Errors (pixels) of corners in frames that the solution did not use, all frames in turn.

    Returns:
        errors at the frames' stamps, and of every second corner at the times that the others tell.
    """
    stamped: list[np.ndarray] = []
    timed: list[np.ndarray] = []
    for turn in range(every):
        out = {name: (np.arange(len(t)) + 2 * k) % every == turn for k, (name, t) in enumerate(recording.t_s.items())}
        rig = solve(some_frames(recording, {name: ~mask for name, mask in out.items()}))
        left_out = some_frames(recording, out)
        stamped += residuals(left_out, rig).values()
        late_s = tell_jitter(left_out, rig)
        for name, errors in residuals(left_out, rig, late_s).items():
            timed.append(errors[left_out.points[name].point_idx % 2 == 1])
    at_stamps, told = (np.concatenate(errors) for errors in (stamped, timed))
    return at_stamps[np.isfinite(at_stamps[:, 0])], told[np.isfinite(told[:, 0])]


def tell_jitter(recording: Recording, rig: TargetRig) -> dict[str, np.ndarray]:
    """By how much each frame was late, from its even-numbered corners and the camera's usual jitter (Gauss-Newton)."""
    late_s = {name: np.zeros(len(t)) for name, t in recording.t_s.items()}
    step_s = 1e-4
    for _ in range(8):
        here = residuals(recording, rig, late_s)
        after = residuals(recording, rig, {name: late + step_s for name, late in late_s.items()})
        for name, table in recording.points.items():
            rows = (table.point_idx % 2 == 0) & np.isfinite(here[name][:, 0]) & np.isfinite(after[name][:, 0])
            speed, r = (after[name] - here[name])[rows] / step_s, here[name][rows]
            frame, size = table.frame_idx[rows], len(late_s[name])
            certain = 1 / max(rig.jitter_sigma_s[name], 1e-6) ** 2
            H = np.bincount(frame, (speed**2).sum(axis=-1) / NOISE_PX**2, size) + certain
            g = np.bincount(frame, (speed * r).sum(axis=-1) / NOISE_PX**2, size) + certain * late_s[name]
            late_s[name] = late_s[name] - g / H
    return late_s


def estimate_clocks(recording: Recording, shifts: Mapping[str, Clock] | None = None) -> dict[str, Clock]:
    """Clocks of the cameras against the first one's, after their recorded times were changed by `shifts`.

    What is known of the clocks beforehand is made so wide that it pulls none back to that given: pictures alone count.
    """
    shifts = shifts or {}
    moved = {name: shifts.get(name, Clock()).to_local(t) for name, t in recording.t_s.items()}
    rig = solve(replace(recording, t_s=moved), latency_sigma_s=0.5, rate_sigma=0.1)
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
    left_out, timed = hold_out(recording, every)
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
        "hold_out_timed_px": float(np.sqrt((timed**2).mean())),
        "hold_out_timed_median_px": float(np.median(np.linalg.norm(timed, axis=-1))),
        "s": seconds,
    } | {
        f"{what}_ms_{name}": 1e3 * value
        for name, clock in rig.clocks.items()
        for what, value in (
            ("latency", clock.offset_s),
            ("readout", clock.row_time_s * _HEIGHT_PX),
            ("jitter", rig.jitter_sigma_s[name]),
        )
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
