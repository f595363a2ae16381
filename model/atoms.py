"""Action Atoms: where a movement ends and the next begins, found on root-local joints at the recording's own rate.

Rules find where an Atom may begin. `line` is Eq. A of "Action Motifs" (arXiv 2604.28173, appendix A.2; see
`model.straight_line`). `turns` cuts where a movement turns (see `model.turns`), `pauses` where the body slows down or
rests (see `model.pauses`), `clock` at equal times, for ablations. On real motion Eq. A is nearly a clock of half a
second whose cuts move under a millimetre of noise; docs/a4mer.md has the figures. Cuts are then carried to the model's
grid of 5 frames a second.

Choices that hold for all rules:

| open              | choice            | reason                                                                      |
|-------------------|-------------------|-----------------------------------------------------------------------------|
| start of a clip   | counts as a cut   | the 0.5 s pause then holds for the first Atom too                           |
| mapping to 5 fps  | nearest frame     | 0.5 s is 2.5 frames, so rounding keeps every Atom at two frames or more     |
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from core.arrays import Bool, Float, Int
from core.errors import InputError
from model.pauses import PauseConfig, PauseReach, body_speed, pause_candidates
from model.straight_line import ErrorUnit, line_candidates
from model.turns import TurnConfig, body_acceleration, turn_candidates, turn_future

Rule = Literal["turns", "pauses", "line", "clock"]


@dataclass(frozen=True)
class AtomConfig:
    """Settings of the Atom rule.

    Attributes:
        rule: `turns`, `pauses`, `line` for the paper's Eq. A, or `clock`.
        pause_s: no other cut within this time of the last one, seconds; of `clock`: the time between two cuts.
        min_frames: shortest Atom on the model's grid, frames.
        turns: settings of `turns`.
        pauses: settings of `pauses`.
        window_s: of `line`: length of the straight-line fit, seconds.
        slope_threshold: of `line`: tau1, rise of the error from one frame to the next, in `error_unit`.
        error_unit: of `line`: errors in units of their own spread over the clip, as printed, or in metres.
    """

    rule: Rule = "turns"
    pause_s: float = 0.5
    min_frames: int = 2
    turns: TurnConfig = field(default_factory=TurnConfig)
    pauses: PauseConfig = field(default_factory=PauseConfig)
    window_s: float = 1 / 6
    slope_threshold: float = 0.005
    error_unit: ErrorUnit = "spread"


def atom_candidates(
    joints_m: Float[np.ndarray, "frames joints 3"],
    valid: Bool[np.ndarray, "frames joints"],
    rate_hz: float,
    config: AtomConfig,
) -> Bool[np.ndarray, "frames"]:
    """Frames at which an Atom may begin, by the rule alone.

    Raises:
        InputError: if a straight line of `window_s` has fewer than two frames.
    """
    if config.rule == "line":
        window = max(2, round(config.window_s * rate_hz))
        return line_candidates(joints_m, valid, window, config.slope_threshold, config.error_unit)
    if config.rule == "turns":
        acceleration = body_acceleration(joints_m, valid, rate_hz, config.turns)
        return turn_candidates(acceleration, rate_hz, config.turns)
    if config.rule == "clock":
        return np.ones(len(joints_m), dtype=bool)
    reach = PauseReach.of(config.pauses, rate_hz)
    return pause_candidates(body_speed(joints_m, valid, rate_hz, reach), config.pauses, reach)


def future_frames(rate_hz: float, config: AtomConfig) -> int:
    """Frames after one, and before it, that may decide whether an Atom begins there.

    Raises:
        InputError: if the rule looks at the whole recording.
    """
    if config.rule == "line":
        problem = "the Atom rule 'line' counts errors by the whole recording"
        raise InputError("stream", problem, 'use AtomConfig(rule="turns")')
    if config.rule == "turns":
        return turn_future(rate_hz, config.turns)
    if config.rule == "clock":
        return 0
    return PauseReach.of(config.pauses, rate_hz).future


def thinned(candidates: Int[np.ndarray, "n"], pause: int) -> Int[np.ndarray, "atoms"]:
    """Accepts candidates in order, each at least `pause` frames after the last cut; frame 0 is the first cut."""
    accepted = [0]
    position = 0
    # one turn for each accepted cut, not for each frame
    while (position := int(np.searchsorted(candidates, accepted[-1] + pause))) < len(candidates):
        accepted.append(int(candidates[position]))
    return np.array(accepted, dtype=np.int64)


def atom_starts(
    joints_m: Float[np.ndarray, "frames joints 3"],
    valid: Bool[np.ndarray, "frames joints"],
    rate_hz: float,
    config: AtomConfig,
) -> Int[np.ndarray, "atoms"]:
    """First frames of the Atoms of one clip, at the clip's own rate; the first is 0.

    Args:
        joints_m: joints in the heading-aligned frame of the pelvis, metres.
        valid: joints that were measured.
        rate_hz: frames a second.
        config: settings; its times scale to the rate.
    """
    candidates = np.flatnonzero(atom_candidates(joints_m, valid, rate_hz, config))
    return thinned(candidates, max(1, round(config.pause_s * rate_hz)))


def cut_times(
    joints_m: Float[np.ndarray, "frames joints 3"],
    valid: Bool[np.ndarray, "frames joints"],
    rate_hz: float,
    grid_hz: float,
    config: AtomConfig,
) -> Float[np.ndarray, "atoms"]:
    """Times at which the Atoms of a clip begin, seconds from its first frame; the first is 0.

    Cuts that would leave an Atom of fewer than `min_frames` on the model's grid are dropped, at the clip's end too.
    """
    starts_s = atom_starts(joints_m, valid, rate_hz, config) / rate_hz
    on_grid = grid_frame(starts_s, grid_hz)
    kept = thinned(np.unique(on_grid), config.min_frames)
    num_grid = int((len(joints_m) - 1) / rate_hz * grid_hz + 1e-6) + 1
    kept = kept[(kept == 0) | (kept <= num_grid - config.min_frames)]
    return starts_s[np.searchsorted(on_grid, kept)]


def grid_frame(time_s: Float[np.ndarray, "n"], grid_hz: float) -> Int[np.ndarray, "n"]:
    """Nearest frame of the model's grid; halves go up, whatever rounding did to them."""
    return np.floor(time_s * grid_hz + 0.5 + 1e-6).astype(np.int64)


def atom_of_frames(
    cuts_s: Float[np.ndarray, "atoms"], start_s: float, grid_hz: float, num_frames: int
) -> Int[np.ndarray, "frames"]:
    """Atom of the clip that each frame of a window belongs to; frame i lies at `start_s + i / grid_hz`."""
    return np.searchsorted(grid_frame(cuts_s - start_s, grid_hz), np.arange(num_frames), side="right") - 1
