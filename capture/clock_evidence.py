"""What each method found out about a session's clocks, gathered as evidence (`capture.clock_problem`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from capture.clock_problem import SESSION, Evidence, Tie, evidence
from capture.code_clock import CodeClock
from capture.detectors import read_keypoints
from capture.keypoint_motion import Motion, motion_evidence, motion_of
from capture.keypoints import best_person
from capture.session import Session
from capture.sound import SPEED_M_S, Sound, SoundLine, sound_line
from capture.sound_places import Room, located_sound
from capture.video import read_audio
from core.arrays import Float
from core.errors import InputError
from core.skeletons import skeleton_named

_GIVEN_RATE_SIGMA = 1e-9
_OWN_RATE_SIGMA = 1e-9  # hardware locks offsets and rates


@dataclass(frozen=True)
class GivenClock:
    """A clock written by hand: offset, rate and standard deviation of the offset; None where not written."""

    offset_s: float
    rate: float | None = None
    sigma_s: float | None = None


def parse_given(given: Sequence[str], session: Session) -> dict[str, GivenClock]:
    """Clocks written by hand as `VIEW=OFFSET_S[,RATE[,SIGMA_MS]]`.

    Raises:
        InputError: if one is malformed or names no view.
    """
    clocks = {}
    for text in given:
        view_id, _, numbers = text.partition("=")
        try:
            offset, *more = (float(number) for number in numbers.split(","))
            rate, sigma_ms = [*more, None, None][:2]
            if len(more) > 2 or not all(map(np.isfinite, (offset, *more))) or (sigma_ms is not None and sigma_ms <= 0):
                raise ValueError(numbers)
            if rate is not None and not 0.5 < rate < 2.0:
                raise ValueError(f"a rate of {rate}")
        except ValueError as error:
            action = "write it as VIEW=OFFSET_S, VIEW=OFFSET_S,RATE or VIEW=OFFSET_S,RATE,SIGMA_MS"
            raise InputError(text, "not a clock", action) from error
        clocks[session[view_id].id] = GivenClock(offset, rate, None if sigma_ms is None else sigma_ms / 1e3)
    return clocks


def given_evidence(given: Mapping[str, GivenClock], sigma_s: float) -> list[Evidence]:
    """Clocks by hand; `sigma_s` is the standard deviation of an offset that states none."""
    items = []
    for view_id, clock in given.items():
        slope = None if clock.rate is None else 1 / clock.rate
        tie = Tie(view_id, 0.0, SESSION, clock.offset_s, clock.sigma_s or sigma_s, slope, _GIVEN_RATE_SIGMA)
        items.append(evidence("given", [tie]))
    return items


def locked_evidence(views: Sequence[str], sigma_s: float) -> list[Evidence]:
    """Container times that are to hold as they are, for hardware-synchronised cameras."""
    return [evidence("locked", [Tie(view_id, 0.0, SESSION, 0.0, sigma_s, 1.0, _OWN_RATE_SIGMA)]) for view_id in views]


def code_evidence(stretches: Mapping[str, Sequence[CodeClock]]) -> list[Evidence]:
    """Time codes: each stretch is an instant of the session clock."""
    items = []
    for view_id, clocks in stretches.items():
        ties = []
        for clock in clocks:
            slope = 1 / clock.rate if np.isfinite(clock.rate_sigma) else None
            at = (clock.local_s, SESSION, clock.session_s, clock.session_sigma_s)
            ties.append(Tie(view_id, *at, slope, clock.rate_sigma if slope else 0.0))
        if ties:
            items.append(evidence("qr", ties))
    return items


def sound_lines(session: Session, views: Sequence[str], prefer: Sequence[str]) -> tuple[dict[str, SoundLine], str]:
    """Every view's sound against that of one reference.

    Args:
        session: the session.
        views: those with a sound track.
        prefer: views whose clocks something else sets; one of them is the reference if it can be.

    Returns:
        the lines, and the reference; a silent track is none, and the next one is tried where one hears nothing.
    """
    order = sorted(views, key=lambda view_id: (view_id not in prefer, view_id))
    best: dict[str, SoundLine] = {}
    chosen = ""
    sounds = {view_id: _read_sound(session, view_id) for view_id in order}
    for reference in order[:2]:  # a second try, should the first be a dead microphone
        lines = {view: sound_line(sounds[reference], sounds[view]) for view in order if view != reference}
        found = {view: line for view, line in lines.items() if line is not None}
        if len(found) > len(best):
            best, chosen = found, reference
        if len(best) >= (len(order) - 1) / 2:
            break
    return best, chosen


def _read_sound(session: Session, view_id: str) -> Sound:
    video = session[view_id].video
    if video is None:
        raise InputError(view_id, "it has no video to take sound from", "choose another method")
    return Sound(*read_audio(session.path(video)))


def sound_evidence(
    reference: str, lines: Mapping[str, SoundLine], path_difference_m: float, room: Room | None
) -> list[Evidence]:
    """Sound: with its ways where the places of cameras are known, else with the ways' spread as uncertainty.

    Args:
        reference: view against which the lines are.
        lines: of the others.
        path_difference_m: how much further from a sound one camera may be than another (standard deviation).
        room: places of cameras.
    """
    placed = {view: line for view, line in lines.items() if room is not None and view in room.camera_m}
    items = []
    if room is not None and reference in room.camera_m and placed:
        items.append(located_sound(reference, placed, room))
        lines = {view: line for view, line in lines.items() if view not in placed}
    own_way_s = path_difference_m / SPEED_M_S / np.sqrt(2)  # of each camera: two of them make the difference
    ties = []
    for view, line in lines.items():
        # a source that walked once from one camera to the other leaves a straight line, and tells nobody that it moved
        slope_sigma = float(np.hypot(line.slope_sigma, path_difference_m / SPEED_M_S / line.span_s))
        sigma_s = float(np.hypot(own_way_s, line.residual_s))
        ties.append(Tie(view, line.at_s, reference, line.reference_s, sigma_s, line.slope, slope_sigma))
    return [*items, evidence("sound", ties, common_sigma_s=own_way_s)] if ties else items


def keypoint_evidence(session: Session, local_s: Mapping[str, Float[np.ndarray, "_"]]) -> list[Evidence]:
    """Motion of the keypoints that some views brought along."""
    motions: dict[str, Motion] = {}
    for view_id, times in local_s.items():
        view = session[view_id]
        if view.role != "room" or None in (view.keypoints, view.keypoints_format, view.keypoints_skeleton):
            continue
        assert view.keypoints and view.keypoints_format and view.keypoints_skeleton
        skeleton = skeleton_named(view.keypoints_skeleton)
        found = best_person(read_keypoints(session.path(view.keypoints), view.keypoints_format, skeleton))
        count = min(found.num_frames, len(times))
        if count > 1 and found.valid.any():
            xy, score = found.xy_px[:count, 0].astype(float), found.score[:count, 0].astype(float)
            motions[view_id] = motion_of(times[:count], xy, score)
    return motion_evidence(motions)
