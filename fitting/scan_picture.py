"""The scan over the fitted body, from the front and from the side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from calibration.pictures.canvas import GRAY, SMALL, literal, new_figure, plain, save
from core.arrays import Float, Int
from fitting.scan import ScanShape
from fitting.smpl import BodyModel

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_RANGE_MM = 30.0  # of the colours: clothes lie farther out
_ASIDE_M = 1.2  # of the side view from the front


def draw_scan(path: Path, body: BodyModel, found: ScanShape) -> None:
    """Writes the picture of `scan_figure`."""
    save(scan_figure(body, found), path)


def scan_figure(body: BodyModel, found: ScanShape) -> Figure:
    """Each capture from the front and from its left: the body in grey, points coloured by their distance from it."""
    captures = len(found.people)
    columns, rows = min(captures, 2), (captures + 1) // 2
    figure = new_figure(7.5 * columns, 6.5 * rows)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes[captures:]:
        axis.set_visible(False)
    meshes = found.fit.state.posed(body).mesh()
    for k, (axis, mesh) in enumerate(zip(axes, meshes, strict=False)):
        drawn = _draw_capture(axis, mesh, found, k)
        name = found.scans[k] if captures > 1 else ", ".join(found.scans[:4])
        plain(axis, literal(name), "m", "m", equal=True)
    figure.colorbar(drawn, ax=list(axes), shrink=0.5, label="points before the body (mm); red: inside")
    figure.suptitle(str(found), fontsize=SMALL, x=0.01, ha="left")
    return figure


def _draw_capture(axis: Any, mesh: Float[np.ndarray, "vertices 3"], found: ScanShape, capture: int) -> Any:
    """Front and side next to each other; returns what the colours belong to."""
    points, distance = found.people[capture].points_m, found.fit.matches[capture].distance_m
    heading = found.fit.state.R[capture, 0] @ np.array([1.0, 0.0, 0.0])  # to the person's left
    left = heading * [1.0, 1.0, 0.0] / np.linalg.norm(heading[:2])
    ahead = np.cross(left, [0.0, 0.0, 1.0])
    for across, towards, aside in ((left, ahead, 0.0), (ahead, left, _ASIDE_M)):
        axis.scatter(mesh @ across + aside, mesh[:, 2], s=2, c=GRAY, alpha=0.35, linewidths=0)
        shown = _towards(points, towards)
        drawn = axis.scatter(
            (points @ across)[shown] + aside, points[shown, 2], s=3, linewidths=0, cmap="RdBu",
            c=1000 * distance[shown], vmin=-_RANGE_MM, vmax=_RANGE_MM,
        )  # fmt: skip
    return drawn


def _towards(points: Float[np.ndarray, "n 3"], axis: np.ndarray) -> Int[np.ndarray, "n"]:
    """Drawing order: the nearest to the viewer last."""
    return np.argsort(points @ axis, kind="stable")
