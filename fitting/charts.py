"""One picture of a fit along time: how well each view agrees, how sure the joints are, what is not valid, what rests.

Long recordings have more frames than the picture has columns. Frames are gathered into columns: of uncertainties the
largest is shown and of reasons every one that holds, so that nothing short is lost; of errors and contacts the mean.
"""

from __future__ import annotations

from pathlib import Path
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
    literal,
    new_figure,
    plain,
    save,
)
from core.arrays import Float
from core.skeletons import SMPL_24
from fitting.sequence import CONTACTS, Reason, SmplSequence

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS = 1200  # about the pixels of the picture's width
_FEET = [SMPL_24.idx(f"{side}_{part}") for side in ("left", "right") for part in ("ankle", "foot")]
_REASON_COLOURS = (ORANGE, PINK, RED, SKY, GREEN, BLUE, BLACK)
_UNSEEN = "#E3E6E9"


def draw_fit(
    path: Path,
    sequence: SmplSequence,
    error_px: Float[np.ndarray, "views frames joints"],
    view_ids: tuple[str, ...],
    max_sigma_m: float,
) -> None:
    """Writes the picture of `fit_figure`."""
    save(fit_figure(sequence, error_px, view_ids, max_sigma_m), path)


def fit_figure(
    sequence: SmplSequence,
    error_px: Float[np.ndarray, "views frames joints"],
    view_ids: tuple[str, ...],
    max_sigma_m: float,
) -> Figure:
    """Reprojection errors by view, uncertainty of the joints, reasons and contacts along time, one below the other.

    Args:
        sequence: the fit.
        error_px: reprojection errors, NaN where there is no keypoint.
        view_ids: names of the views.
        max_sigma_m: joints less certain than this are not valid.
    """
    reasons = [reason for reason in Reason if (sequence.reasons & reason).any()]
    heights = [0.5 + 0.16 * len(view_ids), 1.7, 0.35 + 0.16 * (len(reasons) + len(CONTACTS) + 1)]
    figure = new_figure(10.0, sum(heights) + 0.6)
    above, middle, below = figure.subplots(3, 1, sharex=True, height_ratios=heights)
    columns = _Columns(sequence.t_s)
    _errors(above, columns, error_px, view_ids)
    _uncertainty(middle, columns, sequence, max_sigma_m)
    _bands(below, columns, sequence, reasons)
    above.set_xlim(*columns.span_s)
    return figure


class _Columns:
    """Frames gathered into the columns of a picture."""

    def __init__(self, t_s: np.ndarray) -> None:
        step_s = float(np.diff(t_s).mean()) if len(t_s) > 1 else 1.0
        self.span_s = (float(t_s[0]) - step_s / 2, float(t_s[-1]) + step_s / 2)
        self._starts = np.unique(np.linspace(0, len(t_s), min(len(t_s), _COLUMNS), endpoint=False).astype(int))
        ends = np.append(self._starts[1:], len(t_s))
        self.t_s = (t_s[self._starts] + t_s[ends - 1]) / 2

    def largest(self, values: np.ndarray) -> np.ndarray:
        """Along the last axis."""
        return np.asarray(np.maximum.reduceat(values, self._starts, axis=-1))

    def mean(self, values: np.ndarray) -> np.ndarray:
        """Along the last axis; NaN where nothing is known."""
        known = np.isfinite(values)
        total = np.add.reduceat(np.where(known, values, 0.0), self._starts, axis=-1)
        count = np.add.reduceat(known.astype(float), self._starts, axis=-1)
        return np.where(count > 0, total / np.maximum(count, 1.0), np.nan)


def _errors(axes: Axes, columns: _Columns, error_px: np.ndarray, view_ids: tuple[str, ...]) -> None:
    """A row for each view: the median over its joints."""
    medians = [np.ma.median(np.ma.masked_invalid(error), axis=1).filled(np.nan) for error in error_px]
    shown = columns.mean(np.stack(medians))
    worst = float(np.nanpercentile(shown, 99.5)) if np.isfinite(shown).any() else 1.0
    axes.set_facecolor(_UNSEEN)
    image = axes.imshow(
        shown, aspect="auto", cmap="viridis", vmin=0, vmax=max(worst, 1.0), interpolation="nearest",
        extent=(*columns.span_s, len(view_ids) - 0.5, -0.5),
    )  # fmt: skip
    plain(axes, "median reprojection error of each view, px (gray: no keypoints)")
    axes.set_yticks(range(len(view_ids)), [literal(view) for view in view_ids])
    axes.grid(visible=False)
    bar = axes.figure.colorbar(image, ax=axes, pad=0.01, fraction=0.03)
    bar.ax.tick_params(labelsize=7)


def _uncertainty(axes: Axes, columns: _Columns, sequence: SmplSequence, max_sigma_m: float) -> None:
    """Standard deviations along the worst direction: a typical joint, the worst of all, the worst of the feet."""
    from matplotlib.ticker import LogLocator, NullFormatter

    variance = np.linalg.eigvalsh(sequence.joint_covariance)[..., -1]
    sigma_mm = 1e3 * np.sqrt(np.maximum(variance, 1e-12))
    for label, colour, values in (
        ("worst joint", GRAY, sigma_mm.max(axis=1)),
        ("worst of the feet", RED, sigma_mm[:, _FEET].max(axis=1)),
        ("median joint", BLUE, np.median(sigma_mm, axis=1)),
    ):
        axes.plot(columns.t_s, columns.largest(values), color=colour, linewidth=1.2, label=label)
    axes.axhline(1e3 * max_sigma_m, color=BLACK, linewidth=0.8, linestyle="--", label="a joint is valid below")
    axes.set_yscale("log")
    plain(axes, "standard deviation of the joints, mm")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.legend(fontsize=7, ncols=4, frameon=False, loc="lower right", bbox_to_anchor=(1.0, 0.98), borderaxespad=0)


def _bands(axes: Axes, columns: _Columns, sequence: SmplSequence, reasons: list[Reason]) -> None:
    """A row for the frames that are not valid, one for each reason, and one for each part of the soles that rests."""
    rows = [("not valid", BLACK, sequence.reasons != 0)]
    for number, reason in enumerate(reasons):
        colour = _REASON_COLOURS[number % len(_REASON_COLOURS)]
        rows.append((str(reason.name).lower().replace("_", " "), colour, sequence.reasons & reason != 0))
    for row, (_, colour, held) in enumerate(rows):
        _band(axes, columns, row, colour, columns.largest(held.astype(float)))
    for part, contact in zip(CONTACTS, columns.mean(sequence.contacts.T), strict=True):
        rows.append((part.replace("_", " ").replace("big ", "") + " rests", GREEN, contact))
        _band(axes, columns, len(rows) - 1, GREEN, contact)
    plain(axes, f"valid: {sequence.frame_valid.mean():.1%} of {len(sequence)} frames", "session time, s")
    axes.set_yticks(range(len(rows)), [label for label, *_ in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(visible=False)


def _band(axes: Axes, columns: _Columns, row: int, colour: str, strength: np.ndarray) -> None:
    """Colours a row where something holds, fainter where it holds less; thin stretches are as wide as a column."""
    from matplotlib.colors import LinearSegmentedColormap

    fade = LinearSegmentedColormap.from_list("fade", ["#F4F5F6", colour])
    axes.imshow(
        strength[None], aspect="auto", cmap=fade, vmin=0, vmax=1, interpolation="nearest",
        extent=(*columns.span_s, row + 0.42, row - 0.42),
    )  # fmt: skip
