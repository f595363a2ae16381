"""The ways of everybody from above, among the cameras, and when each was seen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from calibration.pictures import Room, save
from calibration.pictures.canvas import BLUE, GREEN, ORANGE, PINK, RED, SKY, SMALL, new_figure, plain
from calibration.pictures.rigs import draw_room, label_room
from core.cameras import Rig
from fitting.people import People, Track

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = (RED, GREEN, PINK, ORANGE, SKY, BLUE)
_SHOWN = 24  # people, the longest seen; more would not be told apart
_MARGIN_M = 0.6


def draw_people(path: Path, people: People, rig: Rig, subject: Sequence[int]) -> None:
    """Writes `people_figure` as a PNG file."""
    save(people_figure(people, rig, subject), path)


def people_figure(people: People, rig: Rig, subject: Sequence[int]) -> Figure:
    """Everybody's way from above in the room, and below it the number of views that saw each, over time.

    The subject's way is thick.
    """
    shown = sorted(people.tracks, key=lambda track: -len(track.t_s))[:_SHOWN]
    shown.sort(key=lambda track: track.id)
    rows = max(len(shown), 1)
    figure = new_figure(8.5, 7.0 + 0.25 * rows)
    above, when = figure.subplots(2, 1, height_ratios=(6.0, 0.6 + 0.25 * rows))
    plain(above, "people from above; the subject's way is thick", "x, m", "y, m", equal=True)
    plain(when, "how many views saw each: a full row is all of them", "session time, s", "track")
    draw_room(above, Room(rig), (0, 1), 1.0, faint=True)
    for row, track in enumerate(shown):
        colour = _COLOURS[row % len(_COLOURS)]
        _draw_track(above, when, track, row, colour, len(rig), chosen=track.id in subject)
    places = np.concatenate([rig.centres[:, :2], *[track.places_m[:, :2] for track in shown]])
    low, high = places.min(axis=0) - _MARGIN_M, places.max(axis=0) + _MARGIN_M
    above.axis((low[0], high[0], low[1], high[1]))
    when.set(xlim=people.span_s, ylim=(rows - 0.4, -0.6))
    when.set_yticks(range(len(shown)), [str(track.id) for track in shown])
    label_room(above, Room(rig), (0, 1), targets=False)
    return figure


def _draw_track(above: Axes, when: Axes, track: Track, row: int, colour: str, num_views: int, *, chosen: bool) -> None:
    places = track.places_m
    for first, last in track.spans_s:
        inside = (track.t_s >= first) & (track.t_s <= last)
        above.plot(*places[inside, :2].T, color=colour, linewidth=2.4 if chosen else 1.0, zorder=3)
        height = row + 0.4 - 0.8 * track.views[inside] / num_views
        when.fill_between(track.t_s[inside], row + 0.4, height, step="mid", color=colour, alpha=0.7, linewidth=0)
    start = (float(places[0, 0]), float(places[0, 1]))
    above.plot(*start, "o", color=colour, markersize=5, zorder=4)
    above.annotate(str(track.id), start, xytext=(5, 5), textcoords="offset points", fontsize=SMALL, color=colour)
