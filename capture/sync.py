"""Stage `01_sync`: one session clock for all views.

Every method (time codes, sound, a flash, motion of keypoints, numbers by hand) is a measurement with its own
uncertainty; one least-squares problem weighs them all (`capture.clock_problem`). Where two contradict each other the
stage refuses and names them. Recordings that hardware synchronised say so (`--method none`), and are checked against
what can be heard and seen.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from capture.clock_evidence import (
    GivenClock,
    code_evidence,
    given_evidence,
    keypoint_evidence,
    locked_evidence,
    parse_given,
    sound_evidence,
    sound_lines,
)
from capture.clock_problem import (
    Agreement,
    Evidence,
    Reading,
    agreements,
    by_method,
    groups_of,
    readings,
    solve,
)
from capture.code_clock import CodeClock, clock_from_codes, display_period_s
from capture.flash import Step, brightness, find_steps, flash_evidence
from capture.frame_times import read_frame_times
from capture.pictures import read_pictures
from capture.session import Session, View
from capture.settings import refuse_setting
from capture.sound_places import Room
from capture.sync_health import MAX_RATE_SPREADS, NEXT, agreement_health, clock_health, misfit_health, rate_health
from capture.time_code import CodeFrames, read_time_codes
from capture.video import probe
from core.arrays import Float
from core.cameras import Rig
from core.clock import Clock, frame_times
from core.errors import GateError, InputError
from core.files import read_json, read_npz, write_json, write_npz
from core.stage import Manifest, Summary, run_stage

STAGE = "01_sync"
_THIN = 5  # at the end of a video every so many frames are looked at before all are
_FIXED = {"none": "locked", "given": "given"}


@dataclass(frozen=True)
class SyncConfig:
    """Settings of `motifs sync`.

    Attributes:
        method: `auto` uses time codes, sound and a flash, whichever each view has, and the motion of keypoints where
            views have none of these; of a session that says that its cameras are synchronised it is `none`. `qr`,
            `sound`, `flash` and `motion` only that; `given` takes the numbers of `given`; `none` takes the frame times
            as they are (hardware-synchronised cameras; or webcams whose frame times one computer wrote down, which hold
            to within `--locked-sigma-ms 100`: a carried board refines them).
        given: clocks by hand, `VIEW=OFFSET_S`, `VIEW=OFFSET_S,RATE` or `VIEW=OFFSET_S,RATE,SIGMA_MS`.
        qr_span_s: stretch at the start of each video that is searched for time codes.
        qr_end_span_s: stretch at its end; codes at both ends give the rate of a camera without sound.
        display_period_ms: how long a code stays on display; 0 finds it from the codes.
        flash_span_s: stretch of the local clocks (first, last) in which the light was switched; (0, 0) looks nowhere in
            `auto` and everywhere in `flash`.
        rig: file with the places of the cameras (`rig.json` of an earlier session in the same room, or of an import),
            which frees the sound from the ways it travels.
        sound_at_m: where all the sounds were made, world; NaN if not known.
        rate_prior_ppm: spread of the rates of recorders, a prior on each.
        path_difference_m: how much further from a sound one camera may be than another (standard deviation), where
            their places are not known.
        locked_sigma_ms: how well `none` and `given` without a sigma are trusted to hold.
        check: whether `none` and `given` are compared with what can be heard and with the motion of keypoints.
        max_violation_ms: contradiction between a view's own codes above which it is refused.
        max_sigma_ms: uncertainty of a clock above which it is refused.
    """

    method: Literal["auto", "qr", "sound", "flash", "motion", "given", "none"] = "auto"
    given: tuple[str, ...] = ()
    qr_span_s: float = 3.0
    qr_end_span_s: float = 3.0
    display_period_ms: float = 0.0
    flash_span_s: tuple[float, float] = (0.0, 0.0)
    rig: Path | None = None
    sound_at_m: tuple[float, float, float] = (float("nan"), float("nan"), float("nan"))
    rate_prior_ppm: float = 60.0
    path_difference_m: float = 3.0
    locked_sigma_ms: float = 1.0
    check: bool = True
    max_violation_ms: float = 5.0
    max_sigma_ms: float = 20.0


def run(session_dir: Path, config: SyncConfig | None = None, *, workers: int = 1, redo: bool = False) -> Manifest:
    """Finds the clock of every view that has a time axis.

    Raises:
        InputError: if a setting cannot be, a video cannot be read or a given clock is malformed.
        GateError: if a view has no clock, or its measurements contradict each other.
    """
    config = config or SyncConfig()
    _check(config)
    session = Session.load(session_dir)
    if config.method == "auto" and session.synchronised:
        config = dataclasses.replace(config, method="none")
    views = [view for view in session.views if view.role not in ("handheld", "walkthrough")]
    if not views:
        raise InputError(session.id, "it has no video and no keypoint sequence", "give at least one in `motifs ingest`")
    parse_given(config.given, session)
    inputs = {"session": session_dir / "session.json"}
    for name in ("video", "images", "frame_times", "keypoints"):
        paths = {view.id: getattr(view, name) for view in views}
        inputs |= {f"{view_id} {name}": session.path(path) for view_id, path in paths.items() if path}
    inputs |= {"rig": config.rig} if config.rig is not None else {}
    return run_stage(
        "sync",
        4,
        inputs=inputs,
        config=config,
        out=session.stage(STAGE),
        items=[view.id for view in views],
        process=partial(_process, session_dir, config),
        finish=partial(_finish, session_dir, config),
        workers=workers,
        redo=redo,
    )


def _check(config: SyncConfig) -> None:
    """Refuses settings that no computation can use.

    Raises:
        InputError: if there is one.
    """
    for name in ("rate_prior_ppm", "path_difference_m", "locked_sigma_ms", "max_violation_ms", "max_sigma_ms"):
        refuse_setting(name, getattr(config, name), bool(getattr(config, name) > 0), "more than 0")
    for name in ("qr_span_s", "qr_end_span_s", "display_period_ms"):
        refuse_setting(name, getattr(config, name), bool(getattr(config, name) >= 0), "0 or more")
    told = np.isfinite(config.sound_at_m)
    refuse_setting("sound_at_m", config.sound_at_m, bool(told.all() or not told.any()), "three numbers")
    if told.any() and config.rig is None:
        problem = "it says where the sounds were made, but nothing says where the cameras stand"
        raise InputError("--sound-at-m", problem, "give `--rig rig.json` too, or leave it out")


def load_clocks(session_dir: Path) -> dict[str, Clock]:
    """Clock of every view.

    Raises:
        InputError: if the stage has not been run.
    """
    path = session_dir / STAGE / "clocks.json"
    if not path.is_file():
        raise InputError(str(session_dir), "its views are not synchronised yet", "run `motifs sync` first")
    return {view_id: Clock.from_json(clock) for view_id, clock in read_json(path)["clocks"].items()}


def load_times(session_dir: Path, view_id: str) -> Float[np.ndarray, "frames"]:
    """Times of a view's frames on the session clock, seconds (of row 0, for a rolling shutter).

    Raises:
        InputError: if the stage has not been run for this view.
    """
    clocks = load_clocks(session_dir)
    if view_id not in clocks:
        raise InputError(view_id, "it has no clock", "run `motifs sync` again with this view in session.json")
    return clocks[view_id].to_session(read_npz(session_dir / STAGE / f"{view_id}.times.npz")["t_local_s"])


def _process(session_dir: Path, config: SyncConfig, view_id: str, folder: Path) -> Mapping[str, Any]:
    """Frame times of one view, its time codes, and its changes of light.

    A sound track runs on the container's clock. Where a computer wrote down the frames' times, they are on another, and
    to within tens of milliseconds: the sound of such a view is not used.
    """
    session = Session.load(session_dir)
    view = session[view_id]
    times, has_sound = frame_times(view.num_frames, view.rate), False
    if view.video is not None:
        info = probe(session.path(view.video))
        times, has_sound = info.pts_s, info.has_audio
    if view.frame_times is not None:
        times, has_sound = read_frame_times(session.path(view.frame_times), view_id, view.num_frames), False
    write_npz(folder / f"{view_id}.times.npz", {"t_local_s": times})
    facts: dict[str, Any] = {"sound": has_sound, "frame_s": 1 / float(view.rate), "stretches": 0, "steps": []}
    if len(times) and view.has_pictures and config.method in ("auto", "qr"):
        for frames in _code_stretches(session, view, times, config):
            frames.save(folder / f"{view_id}.codes{facts['stretches']}.npz")
            facts["stretches"] += 1
    first, last = config.flash_span_s
    if len(times) and view.has_pictures and (config.method == "flash" or (config.method == "auto" and last > first)):
        wanted = np.flatnonzero((times >= first) & (times <= (last if last > first else np.inf))).tolist()
        frames_seen, light = brightness(read_pictures(session, view, wanted))
        steps = find_steps(times[frames_seen], light, view.row_time_s * view.size_px[1])
        facts["steps"] = [[step.local_s, step.sigma_s, step.brighter] for step in steps]
    return facts


def _code_stretches(
    session: Session, view: View, times: Float[np.ndarray, "frames"], config: SyncConfig
) -> Iterator[CodeFrames]:
    """Time codes at the start of a view and, if a glance finds any there, at its end."""
    read = partial(
        read_time_codes,
        times_s=times,
        row_time_s=view.row_time_s,
        picture_from_px=view.picture_from_px,
        fisheye=view.lens_model == "fisheye",
    )
    start = times - times[0] <= config.qr_span_s
    end = (times[-1] - times < config.qr_end_span_s) & ~start
    for stretch, thin in ((start, 1), (end, _THIN)):
        frames = np.flatnonzero(stretch).tolist()
        if thin > 1 and not read(read_pictures(session, view, frames[::thin])).read.any():
            continue
        found = read(read_pictures(session, view, frames)).consistent()
        if found.read.any():
            yield found


def _finish(session_dir: Path, config: SyncConfig, folder: Path, facts: Mapping[str, Mapping[str, Any]]) -> Summary:
    session = Session.load(session_dir)
    given, locked_s = parse_given(config.given, session), config.locked_sigma_ms / 1e3
    local_s = {view_id: read_npz(folder / f"{view_id}.times.npz")["t_local_s"] for view_id in facts}
    stretches = {
        view_id: [CodeFrames.load(folder / f"{view_id}.codes{i}.npz") for i in range(fact["stretches"])]
        for view_id, fact in facts.items()
        if fact["stretches"]
    }
    period_s = config.display_period_ms / 1e3 or display_period_s(
        [frames.code_s[frames.read] for found in stretches.values() for frames in found]
    )
    codes = _code_clocks(stretches, period_s, config, facts)
    if config.method in _FIXED:
        clocks = {view_id: _clock_as_given(given.get(view_id, GivenClock(0.0)), locked_s) for view_id in facts}
        if config.method == "given" and (without := facts.keys() - given.keys()):
            raise GateError(sorted(without)[0], "no clock was given for it", NEXT)
        items = given_evidence(given, locked_s) + locked_evidence(
            [v for v in facts if v not in given], config.locked_sigma_ms / 1e3
        )
        checks = _relative_evidence(session, config, facts, local_s, []) if config.check else []
        checked = {view_id for item in checks for view_id in item.views}
        unchecked = sorted(facts.keys() - checked)
        found = _by_method(list(facts), items + checks, clocks, config)
        health = agreement_health(found[0])
        metrics: dict[str, Any] = {"num_views": len(clocks), "unchecked": unchecked}
        held = ""
    else:
        absolute = code_evidence(codes) + given_evidence(given, locked_s)
        items = absolute + _relative_evidence(session, config, facts, local_s, [v for e in absolute for v in e.views])
        held = _check_groups(list(facts), items, config)
        solution = solve(items, list(facts), config.rate_prior_ppm * 1e-6, held)
        clocks = {view_id: solution.clock(view_id) for view_id in facts}
        found = _by_method(list(facts), items, clocks, config)
        health = [
            *clock_health(clocks, codes, config.max_sigma_ms, config.max_violation_ms),
            *agreement_health(found[0]),
            *misfit_health(items, config.rate_prior_ppm * 1e-6),
            *rate_health(clocks, given, config.rate_prior_ppm * 1e-6),
        ]
        metrics = {"num_views": len(clocks), "period_ms": 1e3 * period_s}
    write_json(folder / "clocks.json", _document(clocks, found[1], held))
    return Summary(metrics, health)


def _clock_as_given(given: GivenClock, sigma_s: float) -> Clock:
    """The clock of a view that is not measured."""
    return Clock(given.offset_s, given.rate or 1.0, given.sigma_s or sigma_s)


def _code_clocks(
    stretches: Mapping[str, list[CodeFrames]],
    period_s: float,
    config: SyncConfig,
    facts: Mapping[str, Mapping[str, Any]],
) -> dict[str, list[CodeClock]]:
    """What each stretch of codes says."""
    if stretches and not np.isfinite(period_s):
        raise GateError(next(iter(stretches)), "one single time code was seen, so its period is unknown", NEXT)
    spread = MAX_RATE_SPREADS * config.rate_prior_ppm * 1e-6
    return {
        view_id: [clock_from_codes(frames, period_s, spread, facts[view_id]["frame_s"]) for frames in found]
        for view_id, found in stretches.items()
    }


def _relative_evidence(
    session: Session,
    config: SyncConfig,
    facts: Mapping[str, Mapping[str, Any]],
    local_s: Mapping[str, Float[np.ndarray, "_"]],
    absolute: list[str],
) -> list[Evidence]:
    """What ties views to each other: sound, flash, and for views without these the motion of keypoints."""
    items: list[Evidence] = []
    with_sound = [view_id for view_id, fact in facts.items() if fact["sound"]]
    if config.method in ("auto", "sound", *_FIXED) and len(with_sound) > 1:
        lines, reference = sound_lines(session, with_sound, absolute)
        items += sound_evidence(reference, lines, config.path_difference_m, _room(config)) if lines else []
    steps = {view_id: [_step(step) for step in fact["steps"]] for view_id, fact in facts.items()}
    items += flash_evidence(steps, {view_id: fact["frame_s"] for view_id, fact in facts.items()})
    tied = {view_id for item in items for view_id in item.views} | set(absolute)
    if config.method in ("motion", *_FIXED) or (config.method == "auto" and facts.keys() - tied):
        items += keypoint_evidence(session, local_s)
    return items


def _check_groups(views: list[str], items: list[Evidence], config: SyncConfig) -> str:
    """The view whose clock is the session clock, if nothing sets that; refuses views that nothing ties together."""
    measured = {view_id for item in items for view_id in item.views}
    for view_id in views:
        if view_id not in measured and len(views) > 1:
            problem = f"neither time codes nor sound nor anything else tells its clock (method {config.method})"
            raise GateError(view_id, problem, NEXT)
    groups = groups_of(views, items)
    if len(groups) > 1:
        named = "; ".join(", ".join(members) for members, _ in groups)
        free = next((members for members, absolute in groups if not absolute), groups[-1][0])
        raise GateError(free[0], f"nothing ties its group to the others' clocks ({named})", NEXT)
    return "" if groups[0][1] else groups[0][0][0]


def _by_method(
    views: list[str], items: list[Evidence], clocks: Mapping[str, Clock], config: SyncConfig
) -> tuple[list[Agreement], dict[str, dict[str, Reading]]]:
    """How the methods agree, and where each alone puts each view's clock, where that is known best."""
    at_s = {view_id: clock.measured_at_s for view_id, clock in clocks.items()}
    alone = by_method(items, config.rate_prior_ppm * 1e-6)
    session_s = {view_id: float(clocks[view_id].to_session(np.array([at_s[view_id]]))[0]) for view_id in views}
    return agreements(alone, at_s), readings(alone, session_s, at_s)


def _document(
    clocks: Mapping[str, Clock], found: Mapping[str, Mapping[str, Reading]], held: str
) -> dict[str, dict[str, Any]]:
    """`clocks.json`: the clocks, and where each method alone puts them."""
    entries, by_view = {}, {}
    for view_id, clock in clocks.items():
        own = found.get(view_id, {})
        squares = [reading.residual_s**2 for reading in own.values()]
        entries[view_id] = {
            "offset_s": clock.offset_s,
            "rate": clock.rate,
            "offset_sigma_s": clock.offset_sigma_s,
            "rate_sigma": clock.rate_sigma,
            "measured_at_s": clock.measured_at_s,
            "residual_ms": 1e3 * float(np.sqrt(np.mean(squares))) if squares else 0.0,
            "methods": [*own, *(["reference"] if view_id == held else [])],
        }
        by_view[view_id] = {
            method: {
                "offset_ms": 1e3 * reading.offset_s,
                "sigma_ms": None if reading.sigma_s is None else 1e3 * reading.sigma_s,
                "residual_ms": 1e3 * reading.residual_s,
            }
            for method, reading in own.items()
        }
    return {"clocks": entries, "evidence": by_view}


def _step(values: list[Any]) -> Step:
    return Step(float(values[0]), float(values[1]), bool(values[2]))


def _room(config: SyncConfig) -> Room | None:
    """Places of cameras and sounds, as far as they are told.

    Raises:
        InputError: if the file is no rig.
    """
    if config.rig is None:
        return None
    try:
        rig = Rig.from_json(read_json(config.rig))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            str(config.rig), f"it is no rig ({error})", "give the rig.json of `motifs calibrate rig`"
        ) from error
    source = config.sound_at_m if all(map(np.isfinite, config.sound_at_m)) else None
    return Room({camera.id: camera.centre for camera in rig}, source)
