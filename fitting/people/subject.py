"""Which of the people is the subject: the one whose feet carry the foot cameras, the one named, or the one most seen.

Where that leaves more than one answer none is given: a figure past its limit refuses the result, and says who the
people are and how to name one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from core.arrays import Float
from core.clock import resample
from core.errors import InputError
from core.stage import Health
from fitting.people import People, Track

AUTO, LARGEST, LONGEST = "auto", "largest", "longest"
_STILL_M = 0.05  # who moves less all the time is a picture, as far as others move
_FOOT_GAP_S = 0.1  # a foot camera's way is not bridged over more
_MIN_INSTANTS = 5  # of foot cameras and ankles together, to say anything
_WORTH_S = 1.0  # a shorter excursion is not worth a note
_NAMED = 6  # people named in a message


@dataclass(frozen=True)
class SubjectConfig:
    """When a subject is certain.

    Attributes:
        max_foot_m: farthest that an ankle may be from the camera on its foot, the median over time.
        foot_margin_m: by how much more everybody else's must be.
        max_exchange_m: by how much the ankle of the other side may be nearer than the camera's own.
        max_likeness: how much of the most seen person's time before cameras the next may have, without foot cameras.
    """

    max_foot_m: float = 0.35
    foot_margin_m: float = 0.15
    max_exchange_m: float = 0.05
    max_likeness: float = 0.7


@dataclass(frozen=True, eq=False)
class FootWay:
    """Where a foot camera was.

    Attributes:
        side: "left" or "right".
        t_s: (frames,) times on the session clock.
        centre_m: (frames, 3) in the world; NaN where not known.
    """

    side: str
    t_s: Float[np.ndarray, "frames"]
    centre_m: Float[np.ndarray, "frames 3"]


@dataclass(frozen=True)
class Subject:
    """The subject, or why there is none.

    Attributes:
        ids: of the tracks; several where the person was followed in pieces, none where nobody is certain.
        why: in words.
        health: the figure that decided it.
        foot_m: how far each person's ankles were from the foot cameras, metres, by id; empty without foot cameras.
    """

    ids: tuple[int, ...]
    why: str
    health: Health
    foot_m: Mapping[int, float]


def named_ids(asked: str) -> tuple[int, ...]:
    """The ids that a user named: "2", or "2+5" for a person who was followed in pieces; none for "auto" and the like.

    Raises:
        InputError: if it is neither.
    """
    if asked in (AUTO, LARGEST, LONGEST):
        return ()
    try:
        ids = tuple(int(part) for part in asked.split("+"))
    except ValueError as error:
        action = 'write "auto", "largest", "longest", the number of a track, or several as in 0+2'
        raise InputError(f"subject {asked!r}", "it names nobody", action) from error
    return tuple(dict.fromkeys(ids))


def choose_subject(
    people: People,
    asked: str = AUTO,
    feet: Mapping[str, FootWay] | None = None,
    heights: Mapping[int, float] | None = None,
    config: SubjectConfig | None = None,
) -> Subject:
    """Chooses the subject.

    Args:
        people: everybody.
        asked: "auto" for whoever wears the foot cameras, or is seen most; "largest" for the largest in the pictures;
            "longest" for the one seen for the longest time; or ids, as in `named_ids`.
        feet: ways of the tracked foot cameras, by view.
        heights: how large everybody is in the pictures, by id.
        config: limits.

    Raises:
        InputError: if somebody is named who is not there.
    """
    config = config or SubjectConfig()
    ids = named_ids(asked)
    foot_m = {track.id: foot_distance(track, feet) for track in people.tracks} if feet else {}
    if not people.tracks:
        action = "no two views agree about anybody of human size: check clocks, keypoints, and the rig and its scale"
        return Subject((), "nobody was found", Health("people", 0.0, 1.0, "min", action), foot_m)
    if missing := [i for i in ids if i >= len(people.tracks) or i < 0]:
        everybody = "; ".join(describe(track) for track in people.tracks[:_NAMED])
        raise InputError(f"subject {missing[0]}", "there is no such track", f"name one of: {everybody}")
    if not ids and asked == AUTO and any(np.isfinite(distance) for distance in foot_m.values()):
        return _by_feet(people, feet or {}, foot_m, config)
    certain = Health("people", float(len(people.tracks)), 1.0, "min", "")
    if ids:
        return Subject(ids, "named by the user", certain, foot_m)
    if asked == LARGEST:
        best = max(heights or {}, key=lambda i: (heights or {})[i], default=0)
        return Subject((best,), "the largest in the pictures", certain, foot_m)
    if asked == LONGEST:
        longest = max(people.tracks, key=lambda track: len(track.t_s))
        return Subject((longest.id,), "seen for the longest time", certain, foot_m)
    return _most_seen(people, foot_m, config)


def describe(track: Track) -> str:
    """A person in words: number, when, where."""
    x, y, _ = np.median(track.places_m, axis=0)
    times = " and ".join(f"{first:.1f} to {last:.1f}" for first, last in track.spans_s)
    return f"track {track.id} ({times} s, about x {x:.1f} y {y:.1f} m)"


def foot_distance(track: Track, feet: Mapping[str, FootWay], *, crossed: bool = False) -> float:
    """How far a person's ankles are from the cameras on these feet, metres: the median over time, the worse foot.

    NaN where they were not seen together. With `crossed`, left cameras are compared with right ankles.
    """
    distances = [_distances(track, way, crossed=crossed) for way in feet.values()]
    known = [distance[np.isfinite(distance)] for distance in distances]
    return max((float(np.median(d)) for d in known if len(d) >= _MIN_INSTANTS), default=np.nan)


def foot_notes(people: People, ids: Sequence[int], feet: Mapping[str, FootWay], max_foot_m: float) -> list[str]:
    """When for a second or more the ankles of the subject (ids) were not where the foot cameras were, in words."""
    notes = []
    for view, way in feet.items():
        for track in (people.tracks[i] for i in ids):
            distance = _distances(track, way)
            t_s, far = track.t_s[np.isfinite(distance)], distance[np.isfinite(distance)] > max_foot_m
            begins = np.flatnonzero(np.diff(np.concatenate([[False], far, [False]]).astype(int))).reshape(-1, 2)
            for first, last in begins:
                if t_s[last - 1] - t_s[first] > _WORTH_S:
                    said = f"{view} is farther than {max_foot_m:g} m from the ankle of track {track.id}"
                    notes.append(f"{said} from {t_s[first]:.1f} to {t_s[last - 1]:.1f} s")
    return notes


def _distances(track: Track, way: FootWay, *, crossed: bool = False) -> Float[np.ndarray, "instants"]:
    """Of a foot camera from the ankle of its side, or of the other, at the track's instants; NaN where not known."""
    side = {"left": "right", "right": "left"}[way.side] if crossed else way.side
    ankle = track.sure_m[:, track.body.idx(f"{side}_ankle")]
    return np.linalg.norm(ankle - resample(way.centre_m, way.t_s, track.t_s, max_gap_s=_FOOT_GAP_S), axis=-1)


def _by_feet(
    people: People, feet: Mapping[str, FootWay], foot_m: Mapping[int, float], config: SubjectConfig
) -> Subject:
    """Whoever wears the foot cameras, in one piece or several."""
    order = sorted((i for i in foot_m if np.isfinite(foot_m[i])), key=lambda i: foot_m[i])
    best, near = order[0], foot_m[order[0]]
    said = "; ".join(f"track {i}: {foot_m[i]:.2f} m" for i in order[:_NAMED])
    crossed = {i: foot_distance(people.tracks[i], feet, crossed=True) for i in order}
    wrong = min(crossed, key=lambda i: crossed[i])
    excess = near - crossed[wrong]
    if crossed[wrong] <= config.max_foot_m and excess > config.max_exchange_m:
        hint = "correct the roles in session.json, or name the subject with --subject"
        action = f"the left foot camera follows the right ankle of track {wrong}, at {crossed[wrong]:.2f} m: {hint}"
        health = Health("foot_exchange_m", excess, config.max_exchange_m, "max", action)
        return Subject((), "left and right foot cameras are exchanged", health, foot_m)
    if near > config.max_foot_m:
        hint = "check that they are of this session, their clocks and the marker map"
        action = f"nobody's ankles follow the foot cameras ({said}): {hint}; or name the subject with --subject"
        return Subject((), "nobody wears the foot cameras", _foot_health(near, config, action), foot_m)
    beside = [i for i in order[1:] if together_s(people.tracks[best], people.tracks[i]) > 0]
    margin = min((foot_m[i] for i in beside), default=np.inf) - near
    if margin < config.foot_margin_m:
        action = f"two people's ankles are as near to the foot cameras ({said}): name the subject with --subject"
        health = Health("foot_margin_m", margin, config.foot_margin_m, "min", action)
        return Subject((), "the foot cameras could be either's", health, foot_m)
    ids = [best]
    for i in order[1:]:
        if foot_m[i] <= config.max_foot_m and not any(together_s(people.tracks[i], people.tracks[k]) for k in ids):
            ids.append(i)
    why = f"wears the foot cameras ({said})"
    return Subject(tuple(sorted(ids)), why, _foot_health(near, config, ""), foot_m)


def _foot_health(distance_m: float, config: SubjectConfig, action: str) -> Health:
    return Health("foot_distance_m", distance_m, config.max_foot_m, "max", action)


def together_s(one: Track, other: Track) -> float:
    """For how long two people were there at once."""
    return sum(
        max(0.0, min(a_last, b_last) - max(a_first, b_first))
        for a_first, a_last in one.spans_s
        for b_first, b_last in other.spans_s
    )


def _most_seen(people: People, foot_m: Mapping[int, float], config: SubjectConfig) -> Subject:
    """Whoever was before the most cameras for the longest time; pictures on the wall come last."""
    moving: Sequence[Track] = [track for track in people.tracks if track.moved_m > _STILL_M] or people.tracks
    seen = {track.id: int(track.views.sum()) for track in moving}
    order = sorted(moving, key=lambda track: -seen[track.id])
    likeness = seen[order[1].id] / seen[order[0].id] if len(order) > 1 else 0.0
    alike = [track for track in order if seen[track.id] > config.max_likeness * seen[order[0].id]]
    action = f"name the subject with --subject NUMBER: {'; '.join(describe(track) for track in alike[:_NAMED])}"
    if any(together_s(alike[0], track) == 0 for track in alike[1:]):
        action += "; tracks of one person are joined by +, as in 0+1"
    health = Health("subject_likeness", likeness, config.max_likeness, "max", action)
    if not health.ok:
        return Subject((), "several people are seen as much as each other", health, foot_m)
    return Subject((order[0].id,), "seen most", health, foot_m)
