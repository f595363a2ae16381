"""Clocks: how far each method of `motifs sync` and of `calibration.clock_keypoints` is off, and whether it says so.

`python benchmarks/sync.py [--seed N] [--runs N] [--inputs FOLDER] [--workers N]`: simulated time codes (real H.264
videos of displays that run locked to the camera and not), simulated sound with the cameras' places known and not, a
switched lamp, real keypoints of hardware-synchronised cameras (`pose2sim_single`, or a folder of its layout) shifted by
known amounts with and without a rig, and the coverage of the stated bounds over simulated clock problems. Errors are
those of session times in the middle of what was measured, milliseconds; `bound` is the share of errors within 1.96
stated deviations. The last line is JSON.

Rows named `locked` are a floor, not a fault: where the display's rate is p/q of the camera's (50/30 is 5/3), frames
meet q phases of it that lie P/q apart (P: a code's time), and a shorter exposure e mostly sees no change. A gap of
P/q - e stays open, with a deviation of (P/q - e)/sqrt(12): 1.6 ms for 50 Hz, 30 pictures a second and 1 ms, 2.5 ms for
60 Hz and 8 ms. Drift, 60 ppm, wanders through it in a minute or two, not in 1.5 s. Where e is P/q or longer, but q is 1
(60 Hz, 30 pictures a second, 16 ms), one share is measured and two things are asked, the time and e.

Rows of real data repeat one recording at other clocks: `motion_with_rig` has three independent errors, however many
runs, those of its cameras' joints as the detector sees them; `inside` 0.67 is two of three, no statement on coverage.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import moving_board  # beside this file
import numpy as np

from calibration.clock_keypoints import Track, refine_clocks
from calibration.formats import read_calibration
from calibration.rig_keypoints import refine_on_keypoints
from capture.clock_evidence import sound_evidence
from capture.clock_problem import SESSION, Tie, evidence, solve
from capture.code_clock import clock_from_codes, display_period_s
from capture.detectors import read_keypoints
from capture.flash import brightness, find_steps, flash_evidence
from capture.keypoint_motion import find_shift, motion_of
from capture.sound import Sound, sound_line
from capture.sound_places import Room
from capture.time_code import CodeFrames, read_time_codes
from capture.video import probe, read_frames
from capture.video_writer import VideoWriter
from core.clock import Clock
from core.skeletons import skeleton_named
from simulation.sound import RATE_HZ, heard, source_signals
from simulation.time_code import Display, film_display

PRIOR = 60e-6
Errors = tuple[np.ndarray, np.ndarray]  # errors and stated standard deviations, ms (or ppm)
_ROWS: dict[str, Callable[[np.random.Generator], Errors]] = {}  # forked processes find them here
_FEW = {"qr_60hz_29.97fps_8ms_20s": 3, "qr_both_ends_10min_ppm": 4, "board_shifted": 4, "board_shifted_ppm": 3}


def random_clock(rng: np.random.Generator) -> Clock:
    """A recorder's clock."""
    return Clock(rng.uniform(-0.5, 0.5), 1 + rng.normal(0, PRIOR))


def middle_error(found: Clock, truth: Clock, at_s: float) -> float:
    """Error of the session time of a local time, ms."""
    return 1e3 * (found.offset_s + found.rate * at_s - truth.offset_s - truth.rate * at_s)


def codes_of(rng: np.random.Generator, clock: Clock, local_s: np.ndarray, display: Display, row_s: float) -> CodeFrames:
    """Codes read from an H.264 video of a display."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "codes.mp4"
        with VideoWriter(path, (220, 220), Fraction(30)) as writer:
            for picture in film_display(rng, display, clock.to_session(local_s), row_time_s=row_s):
                writer.write(picture)
        return read_time_codes(read_frames(path, info=probe(path)), local_s, row_time_s=row_s).consistent()


def qr(
    rate_hz: float, fps: float, exposure_s: float, seconds: float, row_s: float = 0.0, known: bool = False
) -> Callable:
    """A row of time codes."""

    def run(rng: np.random.Generator) -> Errors:
        clock, local_s = random_clock(rng), np.arange(int(seconds * fps)) / fps
        clock = Clock(clock.offset_s + 2.0, clock.rate)
        display = Display(rate_hz, rng.uniform(0, 0.02), exposure_s)
        frames = codes_of(rng, clock, local_s, display, row_s)
        if not frames.read.any():  # two codes with equal shares in every frame: the stage refuses the view
            return np.zeros(0), np.zeros(0)
        period_s = 1 / rate_hz if known else display_period_s([frames.code_s[frames.read]])
        found = clock_from_codes(frames, period_s, 5 * PRIOR, 1 / fps)
        error = found.session_s - float(clock.to_session(np.array([found.local_s]))[0])
        return np.array([1e3 * error]), np.array([1e3 * found.session_sigma_s])

    return run


def qr_both_ends(rng: np.random.Generator) -> Errors:
    """Rate from codes at both ends of ten minutes, ppm."""
    clock, ties = random_clock(rng), []
    clock = Clock(clock.offset_s + 2.0, clock.rate)
    for first_s in (0.0, 600.0):
        local_s = first_s + np.arange(45) / 30
        frames = codes_of(rng, clock, local_s, Display(50.0, rng.uniform(0, 0.02)), 2e-5)
        if not frames.read.any():
            return np.zeros(0), np.zeros(0)
        found = clock_from_codes(frames, 0.02, 5 * PRIOR, 1 / 30)
        ties.append(Tie("foot", found.local_s, SESSION, found.session_s, found.session_sigma_s))
    solved = solve([evidence("qr", ties)], ["foot"], PRIOR).clock("foot")
    return np.array([solved.drift_ppm - clock.drift_ppm]), np.array([1e6 * solved.rate_sigma])


def sound(num_cameras: int, num_places: int, *, placed: bool, told: bool = False, ppm: bool = False) -> Callable:
    """A row of sound: claps and bursts at some places of a room of cameras, 12 s."""

    def run(rng: np.random.Generator) -> Errors:
        angle = np.arange(num_cameras) * 2 * np.pi / num_cameras + rng.uniform(0, 1)
        cameras = {
            f"cam{i}": np.array([2.4 * np.cos(a), 1.9 * np.sin(a), (2.2, 1.1)[i % 2]]) for i, a in enumerate(angle)
        }
        places = rng.uniform([-1.5, -1.2, 0.3], [1.5, 1.2, 1.7], (num_places, 3))
        clocks = {view: random_clock(rng) for view in cameras}
        signals, seconds = source_signals(rng, 12.0, num_places), 12.0
        sounds = {}
        for view, camera in cameras.items():
            parts = [
                heard(rng, s, clocks[view], float(np.linalg.norm(p - camera)), seconds)
                for s, p in zip(signals, places, strict=True)
            ]
            sounds[view] = Sound(np.sum(parts, axis=0).astype(np.float32), RATE_HZ, 0.0)
        lines = {view: sound_line(sounds["cam0"], sounds[view]) for view in cameras if view != "cam0"}
        room = Room(cameras, tuple(places[0]) if told else None) if placed else None
        found = solve(
            sound_evidence("cam0", {v: line for v, line in lines.items() if line}, 3.0, room),
            list(cameras),
            PRIOR,
            "cam0",
        )
        at_s = dict.fromkeys(cameras, seconds / 2)
        times, covariance = found.contrast(at_s, "cam0")
        true = np.array([float(clocks[view].to_session(np.array([seconds / 2]))[0]) for view in cameras])
        if ppm:
            rates = np.array([clocks[view].drift_ppm for view in cameras])
            gap = np.eye(len(cameras))[1:] - np.eye(len(cameras))[0]
            block = gap @ found.covariance[1::2, 1::2] @ gap.T
            return 1e6 * gap @ found.x[1::2] - gap @ rates, 1e6 * np.sqrt(np.diag(block))
        return 1e3 * (times - true + true[0])[1:], 1e3 * np.sqrt(np.diag(covariance))[1:]

    return run


def lamp(row_s: float, num_steps: int) -> Callable:
    """A lamp switched on and off before two cameras of 30 frames a second, with automatic exposure in one."""

    def film(
        rng: np.random.Generator, clock: Clock, steps_s: np.ndarray, local_s: np.ndarray
    ) -> Iterator[tuple[int, np.ndarray]]:
        exposure = rng.uniform(0.002, 0.02)
        scene, gain = rng.uniform(0.1, 0.5, (64, 64)), 1.0
        for i, t in enumerate(clock.to_session(local_s)):
            rows = t + row_s * np.arange(64)
            on = sum((-1) ** k * np.clip((rows + exposure / 2 - s) / exposure, 0, 1) for k, s in enumerate(steps_s))
            light = scene * (0.3 + 0.5 * on)[:, None] * gain
            gain *= (0.25 / light.mean()) ** 0.05  # automatic exposure answers over a second
            noisy = 255 * np.clip(light, 0, 1) ** (1 / 2.2) + 2 * rng.standard_normal(light.shape)
            yield i, np.clip(noisy, 0, 255).astype(np.uint8)

    def run(rng: np.random.Generator) -> Errors:
        clocks = {view: random_clock(rng) for view in ("cam1", "cam2")}
        steps_s = 1.5 + np.cumsum(rng.uniform(0.6, 1.4, num_steps))
        local_s, steps = np.arange(int(30 * (steps_s[-1] + 2))) / 30, {}
        for view, clock in clocks.items():
            frames, light = brightness(film(rng, clock, steps_s, local_s))
            steps[view] = find_steps(local_s[frames], light, 64 * row_s)
        found = solve(flash_evidence(steps, dict.fromkeys(clocks, 1 / 30)), list(clocks), PRIOR, "cam1")
        at_s = dict.fromkeys(clocks, float(steps_s.mean()))
        times, covariance = found.contrast(at_s, "cam1")
        true = [float(clock.to_session(np.array([at_s["cam1"]]))[0]) for clock in clocks.values()]
        return 1e3 * np.array([times[1] - true[1] + true[0]]), 1e3 * np.sqrt(covariance[1:, 1])

    return run


def person(folder: Path) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Keypoints of one person in hardware-synchronised views."""
    views = sorted((folder / "pose2d_body25b_associated").iterdir())
    found = [read_keypoints(view, "openpose", skeleton_named("BODY_25B")) for view in views]
    return [k.xy_px[:, 0].astype(float) for k in found], [k.score[:, 0].astype(float) for k in found]


def motion(folder: Path, fps: float) -> Callable:
    """Keypoints without a rig: each pair of views, one of them sampled elsewhere between the frames."""
    xy, score = person(folder)

    def run(rng: np.random.Generator) -> Errors:
        errors, sigmas = [], []
        for i in range(len(xy)):
            for k in range(i + 1, len(xy)):
                shift = rng.uniform(-0.3, 0.3)
                t = np.arange(len(xy[i])) / fps
                found = find_shift(motion_of(t, xy[i], score[i]), motion_of(t + shift, xy[k], score[k]))
                if found is not None:
                    errors.append(1e3 * (found.shift_s - shift))
                    sigmas.append(1e3 * found.sigma_s)
        return np.array(errors), np.array(sigmas)

    return run


def motion_with_rig(folder: Path, fps: float) -> Callable:
    """Keypoints with the imported rig, refined on them at other clocks, shifted by up to two frames and 100 ppm."""
    xy, score = person(folder)
    rig = read_calibration(folder / "calibration" / "Calib.qca.txt")
    rig = refine_on_keypoints(rig, np.stack(xy), np.nan_to_num(np.stack(score))).rig

    def run(rng: np.random.Generator) -> Errors:
        t = np.arange(len(xy[0])) / fps
        true = [Clock(), *(Clock(rng.uniform(-2, 2) / fps, 1 + rng.uniform(-1e-4, 1e-4)) for _ in xy[1:])]
        tracks = [Track(clock.to_local(t), x, s) for clock, x, s in zip(true, xy, score, strict=True)]
        found = refine_clocks(rig, tracks, [Clock()] * len(xy))
        errors = [middle_error(c, clock, c.measured_at_s) for c, clock in zip(found.clocks, true, strict=True)]
        return np.array(errors[1:]), np.array([1e3 * c.offset_sigma_s for c in found.clocks[1:]])

    return run


def board(folder: Path, *, ppm: bool) -> Callable:
    """A waved board (`caliscope_charuco_4cam`): clocks shifted by up to 30 ms, 200 ppm, against the recorded ones."""
    recording = moving_board.load(folder)
    plain = moving_board.estimate_clocks(recording)

    def run(rng: np.random.Generator) -> Errors:
        names = list(recording.t_s)[1:]
        shifts = {name: Clock(rng.uniform(-0.03, 0.03), 1 + rng.uniform(-2e-4, 2e-4)) for name in names}
        found = moving_board.estimate_clocks(recording, shifts)
        errors, sigmas = [], []
        for name in names:
            middle = recording.t_s[name].mean(keepdims=True)
            late_s = found[name].to_session(shifts[name].to_local(middle)) - plain[name].to_session(middle)
            rate = found[name].rate / shifts[name].rate - plain[name].rate
            errors.append(1e6 * rate if ppm else 1e3 * float(late_s[0]))
            sigmas.append(1e6 * found[name].rate_sigma if ppm else 1e3 * found[name].offset_sigma_s)
        return np.array(errors), np.array(sigmas)

    return run


def problem(rng: np.random.Generator) -> Errors:
    """A drawn clock problem of codes and sound with their stated uncertainties: errors in stated deviations."""
    views = [f"cam{i}" for i in range(6)]
    clocks = {view: random_clock(rng) for view in views}
    items = []
    for i, view in enumerate(views[:4]):
        for at_s in (0.7, 300.0)[: 1 + i % 2]:
            sigma, session_s = rng.uniform(1e-4, 5e-3), float(clocks[view].to_session(np.array([at_s]))[0])
            items.append(evidence("qr", [Tie(view, at_s, SESSION, session_s + rng.normal(0, sigma), sigma)]))
    way_s, ties = rng.normal(0, 6e-3, len(views)), []
    for view, late_s in zip(views[1:], way_s[1:], strict=True):
        heard_s = clocks[views[0]].to_session(np.array([150.0])) + late_s - way_s[0] + rng.normal(0, 1e-4)
        slope = clocks[views[0]].rate / clocks[view].rate + rng.normal(0, 1e-6)
        at_s = float(clocks[view].to_local(heard_s)[0])
        ties.append(Tie(view, at_s, views[0], 150.0, float(np.hypot(1e-4, 6e-3)), slope, 1e-6))
    items.append(evidence("sound", ties, common_sigma_s=6e-3))
    found = solve(items, views, PRIOR)
    truth = np.array([[clock.offset_s, clock.rate - 1] for clock in clocks.values()]).ravel()
    return found.x - truth, np.sqrt(np.diag(found.covariance))


def rows_of(inputs: Path, shared: Path, only: str) -> dict[str, Callable[[np.random.Generator], Errors]]:
    """Every row whose name begins with `only`."""
    rows: dict[str, Callable[[np.random.Generator], Errors]] = {
        "qr_50hz_30fps_8ms": qr(50, 30, 0.008, 1.5),
        "qr_50hz_30fps_1ms_locked": qr(50, 30, 0.001, 1.5),
        "qr_60hz_25fps_4ms": qr(60, 25, 0.004, 1.5),
        "qr_60hz_30fps_16ms": qr(60, 30, 1 / 60, 1.5, known=True),
        "qr_60hz_30fps_8ms_locked": qr(60, 30, 0.008, 1.5, known=True),
        "qr_60hz_30fps_8ms_period_unknown": qr(60, 30, 0.008, 1.5),
        "qr_60hz_29.97fps_8ms_20s": qr(60, 30 / 1.001, 0.008, 20.0, known=True),
        "qr_rolling_50hz_30fps_8ms": qr(50, 30, 0.008, 1.5, 2e-5),
        "qr_both_ends_10min_ppm": qr_both_ends,
        "sound_4cams_source_told": sound(4, 1, placed=True, told=True),
        "sound_8cams_5_places": sound(8, 5, placed=True),
        "sound_8cams_5_places_ppm": sound(8, 5, placed=True, ppm=True),
        "sound_4cams_one_place": sound(4, 1, placed=True),
        "sound_4cams_no_positions": sound(4, 1, placed=False),
        "sound_4cams_no_positions_ppm": sound(4, 1, placed=False, ppm=True),
        "flash_global_shutter": lamp(0.0, 4),
        "flash_rolling_shutter": lamp(2e-4, 1),
    }
    if inputs.is_dir() and "motion".startswith(only[:6]):
        rows["motion_no_rig"] = motion(inputs, 60.0)
        rows["motion_with_rig"] = motion_with_rig(inputs, 60.0)
    caliscope = shared / "data" / "caliscope_charuco_4cam"
    if caliscope.is_dir() and "board".startswith(only[:5]):
        rows["board_shifted"] = board(caliscope, ppm=False)
        rows["board_shifted_ppm"] = board(caliscope, ppm=True)
    return {name: run for name, run in rows.items() if name.startswith(only)}


def run_row(name: str, seed: int, runs: int) -> Errors:
    """All simulations of a row, in a process that was forked with the rows."""
    runs = min(_FEW.get(name, runs), runs)
    found = [_ROWS[name](np.random.default_rng([seed, i, *name.encode()])) for i in range(runs)]
    error, sigma = (np.concatenate(part) for part in zip(*found, strict=True))
    return error, sigma


def main() -> None:
    """Prints a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    shared = Path(os.environ.get("MOTIFS_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    parser.add_argument("--inputs", type=Path, default=shared / "data" / "pose2sim_single")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=int, default=8, help="simulations a row")
    parser.add_argument("--only", default="", help="rows that begin with this")
    parser.add_argument("--workers", type=int, default=2, help="processes; the figures do not depend on it")
    options = parser.parse_args()
    _ROWS.update(rows_of(options.inputs, shared, options.only))
    figures: dict[str, float] = {}
    print(f"{'row':34} {'n':>4} {'median':>8} {'max':>8} {'sigma':>8} {'bound':>6}")
    job = partial(run_row, seed=options.seed, runs=options.runs)
    with get_context("fork").Pool(options.workers) as pool:
        for name, (error, sigma) in zip(_ROWS, pool.imap(job, _ROWS), strict=True):
            inside = float(np.mean(np.abs(error) <= 1.96 * sigma)) if len(error) else float("nan")
            size = np.abs(error) if len(error) else np.full(1, np.nan)
            least, most, stated = np.median(size), size.max(), np.median(sigma) if len(sigma) else np.nan
            print(f"{name:34} {len(error):4d} {least:8.3f} {most:8.3f} {stated:8.3f} {inside:6.2f}", flush=True)
            figures |= {f"{name}_median": round(float(least), 4), f"{name}_max": round(float(most), 4)}
            figures[f"{name}_inside"] = round(inside, 3)
    ratio = np.concatenate([np.divide(*problem(np.random.default_rng([options.seed, i, 7]))) for i in range(200)])
    figures["coverage"] = round(float(np.mean(np.abs(ratio) <= 1.96)), 4)
    print(f"coverage of 95 % bounds over 200 clock problems: {100 * figures['coverage']:.1f} %")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
