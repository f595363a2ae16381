"""Stage `01_sync`: one session clock for all views.

Time codes fix when a view's clock stands where, sound how fast it runs against the others, and one least-squares
problem weighs both by their uncertainties. Recordings that were synchronised by hardware say so (`--method none`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from capture.session import Session, View
from capture.sound import SPEED_M_S, Sound, SoundLine, sound_line
from capture.time_code import CodeClock, TimeCodes, clock_from_codes, display_period_s, read_time_codes
from capture.video import probe, read_audio
from core.arrays import Float
from core.clock import Clock, frame_times
from core.errors import GateError, InputError
from core.files import read_json, read_npz, write_json, write_npz
from core.stage import Health, Manifest, Summary, run_stage

STAGE = "01_sync"
_NEXT = (
    "show every camera the QR time code, give `--given VIEW=OFFSET_S`, or `--method none` if hardware locks the clocks"
)


@dataclass(frozen=True)
class SyncConfig:
    """Settings of `motifs sync`.

    Attributes:
        method: `auto` uses time codes and sound, whichever each view has; `qr` and `sound` only that; `given` takes the
            numbers of `given`; `none` takes the container times as they are (hardware-synchronised cameras).
        given: clocks by hand, `VIEW=OFFSET_S` or `VIEW=OFFSET_S,RATE`, for views that need one.
        qr_span_s: stretch at the start of each video that is searched for time codes.
        display_period_ms: how long a code stays on display; 0 finds it from the codes.
        rate_prior_ppm: spread of the rates of recorders, where nothing measures them.
        path_difference_m: how much further from a sound one camera may be than another (standard deviation).
        max_violation_ms: contradiction between a view's own codes above which it is refused.
        max_disagreement_ms: contradiction between sound and codes above which a view is refused.
        max_sigma_ms: uncertainty of a clock above which it is refused.
    """

    method: Literal["auto", "qr", "sound", "given", "none"] = "auto"
    given: tuple[str, ...] = ()
    qr_span_s: float = 3.0
    display_period_ms: float = 0.0
    rate_prior_ppm: float = 60.0
    path_difference_m: float = 3.0
    max_violation_ms: float = 5.0
    max_disagreement_ms: float = 40.0
    max_sigma_ms: float = 20.0


def run(session_dir: Path, config: SyncConfig | None = None, *, workers: int = 1, redo: bool = False) -> Manifest:
    """Finds the clock of every view that has a time axis.

    Raises:
        InputError: if a video cannot be read or a given clock is malformed.
        GateError: if a view has no clock, or its measurements contradict each other.
    """
    config = config or SyncConfig()
    session = Session.load(session_dir)
    views = [view for view in session.views if view.role not in ("handheld", "walkthrough")]
    if not views:
        raise InputError(session.id, "it has no video and no keypoint sequence", "give at least one in `motifs ingest`")
    parse_given(config.given, session)
    inputs = {"session": session_dir / "session.json"}
    inputs |= {f"{view.id} video": session.path(view.video) for view in views if view.video}
    return run_stage(
        "sync",
        1,
        inputs=inputs,
        config=config,
        out=session.stage(STAGE),
        items=[view.id for view in views],
        process=partial(_process, session_dir, config),
        finish=partial(_finish, session_dir, config),
        workers=workers,
        redo=redo,
    )


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


def parse_given(given: Sequence[str], session: Session) -> dict[str, Clock]:
    """Clocks written by hand as `VIEW=OFFSET_S[,RATE]`.

    Raises:
        InputError: if one is malformed or names no view.
    """
    clocks = {}
    for text in given:
        view_id, _, numbers = text.partition("=")
        try:
            offset, _, rate = numbers.partition(",")
            clocks[session[view_id].id] = Clock(float(offset), float(rate or 1.0))
        except ValueError as error:
            raise InputError(text, "not a clock", "write it as VIEW=OFFSET_S or VIEW=OFFSET_S,RATE") from error
    return clocks


def _process(session_dir: Path, config: SyncConfig, view_id: str, folder: Path) -> Mapping[str, Any]:
    """Frame times and time codes of one view."""
    session = Session.load(session_dir)
    view = session[view_id]
    facts: dict[str, Any] = {"sound": False}
    if view.video is None:
        times = frame_times(view.num_frames, view.rate)
    else:
        info = probe(session.path(view.video))
        times, facts["sound"] = info.pts_s, info.has_audio
        if config.method in ("auto", "qr"):
            fisheye = view.lens_model == "fisheye"
            codes = read_time_codes(info, config.qr_span_s, view.row_time_s, fisheye=fisheye).consistent()
            facts |= {"local_s": codes.local_s.tolist(), "code_s": codes.code_s.tolist()}
    write_npz(folder / f"{view_id}.times.npz", {"t_local_s": times})
    return {**facts, "num_frames": len(times), "duration_s": float(times[-1] - times[0])}


def _finish(session_dir: Path, config: SyncConfig, folder: Path, facts: Mapping[str, Mapping[str, Any]]) -> Summary:
    session = Session.load(session_dir)
    given = parse_given(config.given, session)
    if config.method in ("none", "given"):
        clocks = {view_id: given.get(view_id, Clock()) for view_id in facts}
        if config.method == "given" and (without := facts.keys() - given.keys()):
            raise GateError(sorted(without)[0], "no clock was given for it", _NEXT)
        found = {view_id: _entry(clock, [config.method], 0.0) for view_id, clock in clocks.items()}
        write_json(folder / "clocks.json", {"clocks": found})
        return Summary({"num_views": len(found)})
    found, health = _measured(session, config, facts, given)
    write_json(folder / "clocks.json", {"clocks": found})
    return Summary({"num_views": len(found), "period_ms": 1e3 * _period_s(config, _codes(facts))}, health)


def _codes(facts: Mapping[str, Mapping[str, Any]]) -> dict[str, TimeCodes]:
    """Time codes of the views that saw any."""
    return {
        view_id: TimeCodes(np.array(fact["local_s"]), np.array(fact["code_s"]))
        for view_id, fact in facts.items()
        if fact.get("local_s")
    }


def _period_s(config: SyncConfig, codes: Mapping[str, TimeCodes]) -> float:
    return config.display_period_ms / 1e3 if config.display_period_ms else display_period_s(list(codes.values()))


def _measured(
    session: Session, config: SyncConfig, facts: Mapping[str, Mapping[str, Any]], given: Mapping[str, Clock]
) -> tuple[dict[str, Any], list[Health]]:
    """Clocks from codes and sound, with their health."""
    codes = _codes(facts)
    period_s = _period_s(config, codes)
    if codes and not np.isfinite(period_s):
        raise GateError(next(iter(codes)), "one single time code was seen, so its period is unknown", _NEXT)
    prior = config.rate_prior_ppm * 1e-6
    by_code = {view_id: clock_from_codes(c, period_s, prior) for view_id, c in codes.items()}
    lines: dict[str, SoundLine] = {}
    reference = ""
    if config.method in ("auto", "sound"):
        lines, reference = _sound_lines(session, facts, by_code)
    set_by = by_code.keys() | given.keys()
    if reference and set_by and not set_by & {reference, *lines}:
        problem = f"its sound is heard by no view that has time codes or a given clock ({', '.join(sorted(set_by))})"
        raise GateError(reference, problem, _NEXT)
    anchored = by_code.keys() | lines.keys() | given.keys() | {reference}
    for view_id in facts:
        if view_id not in anchored:
            raise GateError(view_id, f"neither time codes nor sound were found in it (method {config.method})", _NEXT)
    clocks = solve_clocks(list(facts), by_code, lines, reference, given, config)
    entries, health = {}, []
    for view_id, clock in clocks.items():
        methods = [name for name, has in (("qr", view_id in by_code), ("sound", view_id in lines)) if has]
        methods += ["given"] * (view_id in given) + ["reference"] * (view_id == reference and view_id not in by_code)
        residual = _code_residual_s(clock, codes[view_id], period_s) if view_id in codes else 0.0
        entries[view_id] = _entry(clock, methods, residual)
        health += _health(view_id, clock, by_code.get(view_id), config)
        if view_id in by_code and view_id in lines and reference in by_code:
            health.append(_agreement(view_id, clocks, by_code[view_id], lines[view_id], reference, config))
    return entries, health


def _sound_lines(
    session: Session, facts: Mapping[str, Mapping[str, Any]], by_code: Mapping[str, CodeClock]
) -> tuple[dict[str, SoundLine], str]:
    """Every view's sound against that of one reference, preferably one with time codes."""
    with_sound = sorted((v for v in facts if facts[v]["sound"]), key=lambda v: (v not in by_code, v))
    if len(with_sound) < 2:
        return {}, ""
    reference, *others = with_sound
    heard = _read_sound(session, session[reference])
    lines = {view_id: sound_line(heard, _read_sound(session, session[view_id])) for view_id in others}
    return {view_id: line for view_id, line in lines.items() if line is not None}, reference


def _read_sound(session: Session, view: View) -> Sound:
    if view.video is None:
        raise InputError(view.id, "it has no video to take sound from", _NEXT)
    return Sound(*read_audio(session.path(view.video)))


def solve_clocks(
    views: Sequence[str],
    by_code: Mapping[str, CodeClock],
    lines: Mapping[str, SoundLine],
    reference: str,
    given: Mapping[str, Clock],
    config: SyncConfig,
) -> dict[str, Clock]:
    """Weighted least squares for every view's offset and rate.

    Unknowns: offset and rate error of each view. Time codes say `offset + rate * l = s`; a sound heard by two says that
    their session times differ by the unknown difference of its ways, and that their rates keep the slope of the line.
    Without any code or given clock the reference's own clock is the session clock.
    """
    column = {view_id: 2 * i for i, view_id in enumerate(views)}
    rows: list[tuple[dict[int, float], float, float]] = []  # coefficients, right side, standard deviation
    for view_id in views:
        o = column[view_id]
        rows.append(({o + 1: 1.0}, 0.0, config.rate_prior_ppm * 1e-6))
        if view_id in given:
            clock = given[view_id]
            rows += [({o: 1.0}, clock.offset_s, 1e-6), ({o + 1: 1.0}, clock.rate - 1.0, 1e-9)]
        elif view_id in by_code:
            code = by_code[view_id]
            rows.append(({o: 1.0, o + 1: code.local_s}, code.session_s - code.local_s, code.session_sigma_s))
            if code.rate_sigma < config.rate_prior_ppm * 1e-6:
                rows.append(({o + 1: 1.0}, code.rate - 1.0, code.rate_sigma))
    if reference and not {reference, *lines} & (by_code.keys() | given.keys()):
        rows.append(({column[reference]: 1.0}, 0.0, 1e-9))
    way_sigma_s = config.path_difference_m / SPEED_M_S
    for view_id, line in lines.items():
        o, r = column[view_id], column[reference]
        same_instant = {o: 1.0, o + 1: line.at_s, r: -1.0, r + 1: -line.reference_s}
        rows.append((same_instant, line.reference_s - line.at_s, way_sigma_s))
        rows.append(({o + 1: line.slope, r + 1: -1.0}, 1.0 - line.slope, line.slope_sigma))
    A, b = np.zeros((len(rows), 2 * len(views))), np.zeros(len(rows))
    for i, (coefficients, right, sigma) in enumerate(rows):
        A[i, list(coefficients)] = np.array(list(coefficients.values())) / sigma
        b[i] = right / sigma
    # seconds and rates differ by orders of magnitude: without scaling, the weaker ones would fall under the cut-off
    scale = 1 / np.maximum(np.linalg.norm(A, axis=0), 1e-30)
    scaled = A * scale
    covariance = np.linalg.pinv(scaled.T @ scaled) * np.outer(scale, scale)
    x = covariance @ (A.T @ b)
    clocks = {}
    for view_id, o in column.items():
        middle = by_code[view_id].local_s if view_id in by_code else lines[view_id].at_s if view_id in lines else 0.0
        at = np.array([1.0, middle])
        sigma = float(np.sqrt(max(at @ covariance[o : o + 2, o : o + 2] @ at, 0.0)))
        rate_sigma = float(np.sqrt(max(covariance[o + 1, o + 1], 0.0)))
        clocks[view_id] = Clock(float(x[o]), 1.0 + float(x[o + 1]), sigma, rate_sigma)
    return clocks


def _code_residual_s(clock: Clock, codes: TimeCodes, period_s: float) -> float:
    """Root mean square by which the frames leave the stretch in which their code was on display, seconds."""
    t_s = clock.to_session(codes.local_s)
    outside = np.maximum(codes.code_s - t_s, 0.0) + np.maximum(t_s - codes.code_s - period_s, 0.0)
    return float(np.sqrt(np.mean(outside**2)))


def _entry(clock: Clock, methods: Sequence[str], residual_s: float) -> dict[str, Any]:
    return {
        "offset_s": clock.offset_s,
        "rate": clock.rate,
        "offset_sigma_s": clock.offset_sigma_s,
        "rate_sigma": clock.rate_sigma,
        "residual_ms": 1e3 * residual_s,
        "methods": list(methods),
    }


def _health(view_id: str, clock: Clock, code: CodeClock | None, config: SyncConfig) -> list[Health]:
    figures = [Health("clock_sigma_ms", 1e3 * clock.offset_sigma_s, config.max_sigma_ms, "max", _NEXT, view_id)]
    if code is not None:
        action = "check that all displays show one clock, or give `--display-period-ms`"
        violation = 1e3 * code.violation_s
        figures.append(Health("time_code_violation_ms", violation, config.max_violation_ms, "max", action, view_id))
    return figures


def _agreement(
    view_id: str,
    clocks: Mapping[str, Clock],
    code: CodeClock,
    line: SoundLine,
    reference: str,
    config: SyncConfig,
) -> Health:
    """How far the sound puts a view's clock from where its codes put it."""
    rate = clocks[view_id].rate
    by_sound = float(clocks[reference].to_session(np.array([line.reference_s]))[0])
    by_codes = code.session_s + rate * (line.at_s - code.local_s)
    action = "check whether the sound track belongs to the picture; `--method qr` leaves the sound out"
    difference_ms = 1e3 * abs(by_sound - by_codes)
    return Health("sound_against_codes_ms", difference_ms, config.max_disagreement_ms, "max", action, view_id)
