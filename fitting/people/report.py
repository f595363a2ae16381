"""What is written down about the people of a recording: who they are, which detections are theirs, and a plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from capture.keypoints import Keypoints2d
from core.cameras import Rig
from core.files import write_json, write_npz
from fitting.people import People, PeopleConfig, Track
from fitting.people.owners import Way
from fitting.people.picture import draw_people
from fitting.people.subject import Subject

_WORTH_S = 1.0  # a shorter absence is not worth a note
_LISTED = 5


def picture_heights(people: People, rig: Rig, found: Sequence[Keypoints2d]) -> dict[int, float]:
    """How tall everybody is in the pictures, as a share of the pictures' height: the mean over their detections."""
    total, count = np.zeros((2, len(people.tracks)))
    for camera, owner, keypoints in zip(rig, people.owner, found, strict=True):
        frame, person = np.nonzero(owner >= 0)
        y = keypoints.xy_px[frame, person, :, 1].astype(float)
        if len(y):
            height = (np.nanmax(y, axis=1) - np.nanmin(y, axis=1)) / camera.lens.size_px[1]
            total += np.bincount(owner[frame, person], height, minlength=len(total))
            count += np.bincount(owner[frame, person], minlength=len(total))
    return {number: float(value) for number, value in enumerate(total / np.maximum(count, 1))}


def people_facts(people: People, subject: Subject, heights: Mapping[int, float], step_s: float) -> dict[str, Any]:
    """Everybody in plain types, for `people.json` and the manifest."""
    tracks = []
    for track in people.tracks:
        entry = _track_facts(track, people.span_s, step_s) | {"height_in_picture": heights[track.id]}
        if np.isfinite(distance := subject.foot_m.get(track.id, np.nan)):
            entry["foot_distance_m"] = distance
        tracks.append(entry)
    return {"span_s": people.span_s, "subject": {"tracks": subject.ids, "why": subject.why}, "tracks": tracks}


def _track_facts(track: Track, span_s: tuple[float, float], step_s: float) -> dict[str, Any]:
    instants = max((span_s[1] - span_s[0]) / step_s, 1.0)
    return {
        "id": track.id,
        "first_s": float(track.t_s[0]),
        "last_s": float(track.t_s[-1]),
        "spans_s": track.spans_s,
        "share": min(len(track.t_s) / instants, 1.0),
        "median_views": float(np.median(track.views)),
        "place_m": np.median(track.places_m, axis=0),
        "moved_m": track.moved_m,
        "stature_m": track.stature_m,
    }


def fits(people: People, rig: Rig, ids: Sequence[int], config: PeopleConfig) -> dict[str, dict[str, Any]]:
    """How well each view agrees with everybody else about a person, by view.

    `seen` is the share of its frames in which it shows the person. `fit` is the share of these among all in which the
    person should be in its picture and either is or a stranger is: a view whose clock or place is wrong shows
    strangers. It is None for a view that shows neither.
    """
    ways = [Way.of(people.tracks[i], config.follow) for i in ids]
    first, last = people.span_s
    result = {}
    for camera, owner, found, t_s in zip(rig, people.owner, people.seen, people.t_s, strict=True):
        inside = (t_s >= first) & (t_s <= last)
        mine = np.asarray(np.isin(owner, ids).any(axis=1))
        stranger = (found & (owner < 0)).any(axis=1)
        expected = np.zeros(len(t_s), dtype=bool)
        for way in ways:
            joints = way.at(t_s)
            middle = (joints[..., :3] * joints[..., 3:]).sum(axis=1) / np.maximum(joints[..., 3:].sum(axis=1), 1e-6)
            expected |= camera.lens.contains(camera.project(middle))
        matched = int((inside & mine).sum())
        missed = int((inside & ~mine & stranger & (expected | (matched == 0))).sum())
        fit = matched / (matched + missed) if matched + missed else None
        result[camera.id] = {"seen": float(mine[inside].mean()) if inside.any() else 0.0, "fit": fit}
    return result


def unseen_notes(people: People, ids: Sequence[int]) -> list[str]:
    """When nobody, or one view alone, saw a person for a second or more, in words."""
    first, last = people.span_s
    several = np.sort(np.concatenate([people.tracks[i].t_s[people.tracks[i].views > 1] for i in ids]))
    edges = np.concatenate([[first], several, [last]])
    gaps = [(edges[k], edges[k + 1]) for k in np.flatnonzero(np.diff(edges) > _WORTH_S)]
    if not gaps:
        return []
    spans = ", ".join(f"{start:.1f} to {end:.1f}" for start, end in gaps[:_LISTED])
    more = f" and {len(gaps) - _LISTED} times more" if len(gaps) > _LISTED else ""
    return [f"the subject is not seen by two views from {spans} s{more}"]


def save_people(folder: Path, people: People, rig: Rig, subject: Subject, facts: Mapping[str, Any]) -> None:
    """Writes `people.json` (who they are), `people.npz` (ways, and whose each detection is) and `people.png` (a plan).

    `people.npz` holds `places_m` (entries, 3), `t_s`, `views` and `track` (entries,), an entry for each instant at
    which somebody was seen, and for each view `owner VIEW` (frames, people): the track of each detection, -1 for
    nobody's.
    """
    write_json(folder / "people.json", facts)
    none = np.zeros(0)
    arrays = {
        "t_s": np.concatenate([none, *[track.t_s for track in people.tracks]]),
        "places_m": np.concatenate([np.zeros((0, 3)), *[track.places_m for track in people.tracks]]),
        "views": np.concatenate([none, *[track.views for track in people.tracks]]).astype(np.int16),
        "track": np.concatenate([none, *[np.full(len(t.t_s), t.id) for t in people.tracks]]).astype(np.int32),
    }
    owners = {f"owner {view}": owner.astype(np.int16) for view, owner in zip(rig.ids, people.owner, strict=True)}
    write_npz(folder / "people.npz", {**arrays, **owners})
    draw_people(folder / "people.png", people, rig, subject.ids)
