"""Clocks: what each method says of each camera's offset, against what was made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from calibration.pictures.canvas import (
    BLACK,
    BLUE,
    GRAY,
    GREEN,
    ORANGE,
    PINK,
    RED,
    SKY,
    SMALL,
    literal,
    new_figure,
    plain,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MARKS = (("o", BLUE), ("s", ORANGE), ("^", GREEN), ("D", PINK), ("v", SKY), ("P", RED))


@dataclass(frozen=True)
class Reading:
    """What one method says of one camera's clock.

    Attributes:
        view: camera.
        method: name of the method.
        difference_s: its offset less that of the clock that was taken.
        sigma_s: the standard deviation of what it says.
    """

    view: str
    method: str
    difference_s: float
    sigma_s: float


def clocks_figure(
    offset_s: Mapping[str, float], sigma_s: Mapping[str, float], readings: Sequence[Reading] = ()
) -> Figure:
    """Offsets by method, in milliseconds about the clock that was taken; bars are two standard deviations.

    Args:
        offset_s: the clock's offset by camera.
        sigma_s: its standard deviation.
        readings: what the methods say, one by one.
    """
    views = list(offset_s)
    methods = list(dict.fromkeys(reading.method for reading in readings))
    figure = new_figure(8.5, 0.3 * len(views) + 1.3)
    axes = figure.subplots()
    rows = {view: row for row, view in enumerate(views)}
    for view, row in rows.items():
        half = 2e3 * sigma_s.get(view, 0.0)
        axes.fill_betweenx([row - 0.4, row + 0.4], -half, half, color=GRAY, alpha=0.35, linewidth=0)
        axes.vlines(0, row - 0.4, row + 0.4, color=BLACK, linewidth=1.2)
    for number, method in enumerate(methods):
        own = [reading for reading in readings if reading.method == method and reading.view in rows]
        mark, colour = _MARKS[number % len(_MARKS)]
        y = np.array([rows[r.view] for r in own]) + 0.6 * ((number + 1) / (len(methods) + 1) - 0.5)
        x = 1e3 * np.array([r.difference_s for r in own])
        bars = 2e3 * np.array([r.sigma_s for r in own])
        axes.errorbar(
            x,
            y,
            xerr=bars,
            fmt=mark,
            color=colour,
            markersize=4,
            elinewidth=1,
            capsize=2,
            label=literal(method),
            zorder=3,
        )
    plain(axes, "gray and bars: two standard deviations", "offset about the clock taken, ms", "")
    axes.set_yticks(list(rows.values()), [f"{literal(view)}  {1e3 * offset_s[view]:+.1f} ms" for view in views])
    axes.set_ylim(len(views) - 0.5, -0.5)
    if methods:
        axes.legend(fontsize=SMALL, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    return figure
