"""Charts of the report: plain, labelled, with units, in colours that the colour-blind tell apart (Okabe and Ito)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from calibration.pictures.canvas import BLACK, BLUE, GREEN, ORANGE, PINK, RED, SKY, png_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["COLOURS", "new_chart", "png_bytes", "shade_rejected"]

COLOURS = (BLUE, RED, GREEN, PINK, ORANGE, SKY, BLACK)


def new_chart(rows: int = 1, height: float = 2.4) -> tuple[Figure, list[Axes]]:
    """A figure with stacked panels that share the time axis."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, height * rows), layout="constrained")
    axes = figure.subplots(rows, 1, sharex=True, squeeze=False)[:, 0]
    for axis in axes:
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, list(axes)


def shade_rejected(axis: Axes, t_s: np.ndarray, valid: np.ndarray) -> None:
    """Marks stretches of rejected frames."""
    edges = np.flatnonzero(np.diff(np.concatenate([[True], valid.astype(bool), [True]]).astype(int)))
    for number, (start, stop) in enumerate(edges.reshape(-1, 2)):
        label = "rejected" if number == 0 else None
        axis.axvspan(t_s[start], t_s[min(stop, len(t_s) - 1)], color="#bbbbbb", alpha=0.5, label=label)
