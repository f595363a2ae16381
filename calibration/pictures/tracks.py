"""The way of moving cameras through the room: from above, and their height over time, with what was filled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from calibration.pictures.canvas import BLUE, GREEN, RED, SMALL, literal, new_figure, plain
from calibration.pictures.rigs import Room, draw_room, label_room
from core.arrays import Bool, Float

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = (BLUE, GREEN)
_BAND = 1.96  # half width of the 95 % band of one coordinate, in standard deviations
_MARGIN_M = 0.4


@dataclass(frozen=True, eq=False)
class Way:
    """A moving camera's positions.

    Attributes:
        t_s: (frames,) session time.
        centre_m: (frames, 3) optical centres in the world; NaN where not valid.
        filled: (frames,) filled between measurements.
        valid: (frames,) measured or filled.
        sigma_m: (frames, 3) standard deviation of the position, or None where it is not known.
    """

    t_s: Float[np.ndarray, "frames"]
    centre_m: Float[np.ndarray, "frames 3"]
    filled: Bool[np.ndarray, "frames"]
    valid: Bool[np.ndarray, "frames"]
    sigma_m: Float[np.ndarray, "frames 3"] | None = None


def ways_figure(title: str, ways: Mapping[str, Way], room: Room | None = None) -> Figure:
    """From above, in the room where it is given, and the height over time.

    Filled frames are red, and lines break where there is no pose; a bar a camera shows the same over the whole
    recording. The band is the 95 % interval of the height.
    """
    figure = new_figure(8.5, 8.5)
    above, height = figure.subplots(2, 1, height_ratios=(3, 2))
    for number, (name, way) in enumerate(ways.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        where = np.where(way.valid[:, None], way.centre_m, np.nan)
        label = f"{literal(name)}: {_share(way.valid)} of the frames, {_share(way.filled & way.valid)} filled"
        above.plot(*where[:, :2].T, color=colour, linewidth=1.2, label=label, zorder=3)
        height.plot(way.t_s, where[:, 2], color=colour, linewidth=1.0, zorder=3)
        if way.sigma_m is not None:
            band = _BAND * way.sigma_m[:, 2]
            height.fill_between(way.t_s, where[:, 2] - band, where[:, 2] + band, color=colour, alpha=0.25, linewidth=0)
        shown = way.filled & way.valid
        above.plot(*where[shown, :2].T, ".", color=RED, markersize=3.5, zorder=4)
        height.plot(way.t_s[shown], where[shown, 2], ".", color=RED, markersize=3.5, zorder=4)
        _presence(height, way, colour, number)
    handles, labels = above.get_legend_handles_labels()
    plain(above, f"{literal(title)}: from above, filled frames red", "x, m", "y, m", equal=True)
    plain(
        height,
        "height, with its 95 % band; bars above: measured, filled (red), no pose (gray)",
        "session time, s",
        "z, m",
        lift=10.0 + 9.0 * len(ways),
    )
    _frame(above, height, ways)
    if room is not None:
        limits = above.axis()
        draw_room(above, room, (0, 1), 1.0, faint=True)
        above.axis(_wider(limits, room))
        label_room(above, room, (0, 1), targets=False)
    figure.legend(handles, labels, fontsize=SMALL, loc="outside lower center", ncols=2, frameon=False)
    return figure


def _share(chosen: np.ndarray) -> str:
    return f"{chosen.mean():.0%}" if len(chosen) else "none"


def _presence(axes: Axes, way: Way, colour: str, number: int) -> None:
    """A bar along the upper edge: where the camera has poses of its own, filled ones, and none."""
    low = 1.02 + 0.03 * number
    for chosen, shade in ((~way.valid, "#C9CED3"), (way.valid & ~way.filled, colour), (way.valid & way.filled, RED)):
        edges = np.flatnonzero(np.diff(np.concatenate([[False], chosen, [False]]).astype(int))).reshape(-1, 2)
        last = len(way.t_s) - 1
        spans = [(way.t_s[start], way.t_s[min(stop, last)] - way.t_s[start]) for start, stop in edges]
        axes.broken_barh(
            spans, (low, 0.022), facecolors=shade, linewidth=0, transform=axes.get_xaxis_transform(), clip_on=False
        )


def _frame(above: Axes, height: Axes, ways: Mapping[str, Way]) -> None:
    """Limits by the ways themselves: a wide band somewhere must not flatten the rest."""
    known = [way.centre_m[way.valid] for way in ways.values() if way.valid.any()]
    if not known:
        return
    low, high = np.concatenate(known).min(axis=0), np.concatenate(known).max(axis=0)
    above.axis((low[0] - _MARGIN_M, high[0] + _MARGIN_M, low[1] - _MARGIN_M, high[1] + _MARGIN_M))
    pad = 0.1 * max(float(high[2] - low[2]), 0.05)
    height.set_ylim(low[2] - pad, high[2] + pad)
    times = np.concatenate([way.t_s for way in ways.values()])
    height.set_xlim(times.min(), times.max())


def _wider(limits: tuple[float, float, float, float], room: Room) -> tuple[float, float, float, float]:
    """Limits that hold the room's cameras too."""
    low, high = room.rig.centres.min(axis=0) - _MARGIN_M, room.rig.centres.max(axis=0) + _MARGIN_M
    return (
        min(limits[0], low[0]), max(limits[1], high[0]), min(limits[2], low[1]), max(limits[3], high[1])
    )  # fmt: skip
