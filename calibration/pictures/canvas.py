"""What every picture shares: figures without a window, colours, labels that keep clear of each other, ellipses.

Colours are Okabe and Ito's, which the colour-blind tell apart; maps are perceptually even. The same picture gives the
same bytes.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from core.arrays import Float
from core.files import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, RED, GREEN, PINK, ORANGE, SKY, BLACK = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000",
)  # fmt: skip
GRAY = "#8A939C"
SMALL = 7.5  # point sizes of text
PLAIN = 9.0
_DPI = 110
CHI2_95 = 5.991  # of two degrees of freedom: the ellipse that holds 95 %
_STEPS = np.array([(1, 1), (-1, 1), (1, -1), (-1, -1), (0, 1.3), (0, -1.3), (1.3, 0), (-1.3, 0)])


def new_figure(width: float, height: float) -> Figure:
    """A figure of so many inches, laid out without overlaps."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def plain(axes: Axes, title: str = "", x: str = "", y: str = "", *, equal: bool = False, lift: float = 6.0) -> None:
    """Title (`lift` points above), axis labels with units, a faint grid, and no more frame than needed."""
    axes.set_title(title, fontsize=PLAIN, loc="left", pad=lift)
    axes.set_xlabel(x, fontsize=SMALL)
    axes.set_ylabel(y, fontsize=SMALL)
    axes.tick_params(labelsize=SMALL)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if equal:
        axes.set_aspect("equal")


def literal(name: str) -> str:
    """A name as it is, where matplotlib would take dollars for formulas."""
    return name.replace("$", r"\$")


def png_bytes(figure: Figure) -> bytes:
    """A figure as PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})
    return buffer.getvalue()


def save(figure: Figure, path: Path) -> None:
    """Writes a figure as a PNG file, complete or not at all."""
    write_bytes(path, png_bytes(figure))


def ellipse(
    centre: Float[np.ndarray, "2"], covariance: Float[np.ndarray, "2 2"], magnified: float = 1.0
) -> Float[np.ndarray, "65 2"]:
    """Outline of the area that holds 95 % of a normal distribution, its axes stretched by `magnified`."""
    value, vector = np.linalg.eigh(covariance)
    angle = np.linspace(0, 2 * np.pi, 65)
    axes = vector * np.sqrt(np.maximum(value, 0) * CHI2_95) * magnified
    return centre + np.stack([np.cos(angle), np.sin(angle)], axis=-1) @ axes.T


def nice_factor(largest: float, wanted: float) -> float:
    """The power of ten times 1, 2 or 5, at least 1, that brings `largest` nearest below `wanted`."""
    if not largest > 0 or largest >= wanted:
        return 1.0
    decade = 10.0 ** np.floor(np.log10(wanted / largest))
    return float(max(step * decade for step in (1, 2, 5) if step * decade * largest <= wanted))


def place_labels(
    axes: Axes,
    points: Float[np.ndarray, "n 2"],
    texts: Sequence[str],
    colours: Sequence[str],
    *,
    size: float = SMALL,
    reach: Sequence[float] = (5.0, 14.0, 26.0, 42.0),
) -> None:
    """Writes a label beside each point where it covers no other label and no point, as far as there is room.

    Places are tried around the point, farther and farther; a label that had to go far gets a line to its point. The
    limits of the axes must be final.
    """
    from matplotlib.patheffects import withStroke

    figure: Any = axes.figure
    figure.draw_without_rendering()  # the layout decides where points lie on the page
    page = axes.transData.transform(points) * 72 / figure.dpi if len(points) else points
    frame = axes.get_window_extent()
    bounds = np.array([[frame.x0, frame.y0], [frame.x1, frame.y1]]) * 72 / figure.dpi
    taken = [np.array([p - 2.5, p + 2.5]) for p in page]
    for point, data, text, colour in zip(page, points, texts, colours, strict=True):
        extent = np.array([0.65 * size * max(map(len, text.split("\n"))) + 2, 1.25 * size * (1 + text.count("\n"))])
        choices = [(far, far * step) for far in reach for step in _STEPS]
        boxes = [_box(point + offset, extent, offset) for _, offset in choices]
        costs = [_overlap(box, taken, bounds) + 0.2 * far for box, (far, _) in zip(boxes, choices, strict=True)]
        best = int(np.argmin(costs))
        far, offset = choices[best]
        taken.append(boxes[best])
        axes.annotate(
            literal(text), data, xytext=tuple(offset), textcoords="offset points", fontsize=size, color=colour,
            ha=_side(offset[0], "left", "right"), va=_side(offset[1], "bottom", "top"), zorder=6,
            path_effects=[withStroke(linewidth=2, foreground="white")],  # lines behind do not cross the letters
            arrowprops={"arrowstyle": "-", "color": colour, "lw": 0.5, "alpha": 0.6} if far > reach[1] else None,
        )  # fmt: skip


def _side(offset: float, positive: str, negative: str) -> str:
    return "center" if offset == 0 else positive if offset > 0 else negative


def _box(anchor: np.ndarray, extent: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """Lower left and upper right of a text that is anchored on the side towards its point."""
    low = anchor - np.where(offset > 0, 0.0, np.where(offset < 0, 1.0, 0.5)) * extent
    return np.array([low, low + extent])


def _overlap(box: np.ndarray, others: Sequence[np.ndarray], bounds: np.ndarray) -> float:
    """Area in square points that a box shares with others or has outside the bounds."""
    stacked = np.array(others)
    shared = np.minimum(box[1], stacked[:, 1]) - np.maximum(box[0], stacked[:, 0])
    outside = np.maximum(bounds[0] - box[0], 0).sum() + np.maximum(box[1] - bounds[1], 0).sum()
    return float(np.maximum(shared, 0).prod(axis=-1).sum() + 50 * outside)
