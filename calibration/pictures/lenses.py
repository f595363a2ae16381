"""One lens: where corners lay, what the residuals still show, and how far the lens may be wrong over the image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from calibration.pictures.canvas import BLUE, GRAY, RED, SMALL, literal, new_figure, nice_factor, plain
from core.arrays import Bool, Float

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_CELLS = 8  # as coverage is counted
_BINS = 12  # arrows along the longer side
_LEAST = 3  # corners in a bin that make an arrow


def lens_figure(
    title: str,
    size_px: tuple[int, int],
    xy_px: Float[np.ndarray, "n 2"],
    residual_px: Float[np.ndarray, "n 2"],
    kept: Bool[np.ndarray, "n"],
    sigma_px: Float[np.ndarray, "rows columns"] | None = None,
) -> Figure:
    """Coverage, the residual field and, where it is known, the uncertainty of a projection, side by side.

    Args:
        title: name of the camera and what else is to be said.
        size_px: image width and height.
        xy_px: corners seen.
        residual_px: predicted minus seen; NaN where there is none.
        kept: corners that the solution rests on.
        sigma_px: standard deviation of a projection over the image, rows first; NaN where nothing is projected.
    """
    width, height = size_px
    panels = 2 if sigma_px is None else 3
    side = 4.0 * min(1.0, width / height)
    figure = new_figure(side * panels, (side - 0.6) * height / width + 0.8)
    axes = figure.subplots(1, panels, squeeze=False)[0]
    figure.suptitle(literal(title), fontsize=10, x=0.01, ha="left")
    _coverage(axes[0], size_px, xy_px, kept)
    shown = kept & np.isfinite(residual_px[:, 0])
    _residuals(axes[1], size_px, xy_px[shown], residual_px[shown])
    if sigma_px is not None:
        _uncertainty(axes[2], size_px, sigma_px)
    for panel in axes:
        panel.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
        panel.spines[["top", "right"]].set_visible(True)
    return figure


def _coverage(axes: Axes, size_px: tuple[int, int], xy_px: np.ndarray, kept: np.ndarray) -> None:
    width, height = size_px
    edges = [np.linspace(-0.5, side - 0.5, _CELLS + 1) for side in (width, height)]
    count = np.histogram2d(xy_px[kept, 0], xy_px[kept, 1], edges)[0].T
    axes.pcolormesh(*edges, np.where(count > 0, np.nan, 1.0), cmap="Reds", vmin=0, vmax=4, linewidth=0)
    axes.plot(*xy_px[~kept].T, "x", color=RED, markersize=3, markeredgewidth=0.6, label="rejected")
    axes.plot(*xy_px[kept].T, ".", color=BLUE, markersize=2, label="used")
    plain(
        axes,
        f"corners: {(count > 0).mean():.0%} of the cells (red: none), {int((~kept).sum())} rejected (x)",
        "px",
        "px",
        equal=True,
    )
    axes.grid(visible=False)


def _residuals(axes: Axes, size_px: tuple[int, int], xy_px: np.ndarray, residual_px: np.ndarray) -> None:
    width, height = size_px
    cell = max(width, height) / _BINS
    columns, rows = max(1, round(width / cell)), max(1, round(height / cell))
    index = np.clip((xy_px + 0.5) / np.array(size_px) * [columns, rows], 0, [columns - 1, rows - 1]).astype(int)
    flat = index[:, 1] * columns + index[:, 0]
    count = np.bincount(flat, minlength=rows * columns)
    sums = [np.bincount(flat, weights=value, minlength=rows * columns) for value in (*xy_px.T, *residual_px.T)]
    enough = count >= _LEAST
    x, y, dx, dy = (value[enough] / count[enough] for value in sums)
    length = np.hypot(dx, dy)
    factor = nice_factor(float(np.quantile(length, 0.95)) if len(length) else 0.0, cell)
    axes.plot(*xy_px.T, ".", color=GRAY, markersize=1, alpha=0.5)
    axes.quiver(
        x, y, dx, dy, angles="xy", scale_units="xy", scale=1 / factor, color=RED, width=0.004, headwidth=4, zorder=3
    )
    rms = float(np.sqrt((residual_px**2).mean())) if len(residual_px) else float("nan")
    mean = f", arrows are means x{factor:g}" if len(length) else ""
    plain(axes, f"residuals: {rms:.3f} px rms{mean}", "px", "", equal=True)
    axes.grid(visible=False)


def _uncertainty(axes: Axes, size_px: tuple[int, int], sigma_px: np.ndarray) -> None:
    width, height = size_px
    rows, columns = sigma_px.shape
    known = np.ma.masked_invalid(sigma_px)
    top = float(np.nanquantile(sigma_px, 0.95)) if known.count() else 1.0
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    image = axes.imshow(known, extent=extent, cmap="cividis", vmin=0, vmax=top, interpolation="bilinear", aspect="auto")
    x = (np.arange(columns) + 0.5) * width / columns - 0.5
    y = (np.arange(rows) + 0.5) * height / rows - 0.5
    if known.count() and known.min() < top:
        lines = axes.contour(x, y, known, levels=np.linspace(0, top, 6)[1:], colors="white", linewidths=0.7)
        axes.clabel(lines, fontsize=SMALL, fmt="%.2g px")
    bar = axes.figure.colorbar(image, ax=axes, shrink=0.85, pad=0.02)
    bar.ax.tick_params(labelsize=SMALL)
    plain(axes, "standard deviation of a projection, px", "px", "", equal=True)
    axes.grid(visible=False)
