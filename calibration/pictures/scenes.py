"""The map of the still room: its points from above and from the side, with the cameras that it was tied to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from calibration.pictures.canvas import BLACK, PLAIN, SMALL
from calibration.pictures.rigs import Room, draw_room, label_room, plan_and_side
from core.arrays import Float

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_INNER = (0.01, 0.99)  # quantiles of the points that are sure to be shown: strays would shrink the room to a dot
_MARGIN_M = 0.5


def scene_figure(
    xyz_m: Float[np.ndarray, "n 3"],
    sigma_m: Float[np.ndarray, "n"],
    room: Room,
    walk_m: Float[np.ndarray, "frames 3"] | None = None,
) -> Figure:
    """Points coloured by how well they are known, in the plan and the side view of the room.

    Args:
        xyz_m: points in the world.
        sigma_m: standard deviation of each one's place, the root of the largest eigenvalue.
        room: cameras and targets.
        walk_m: way of the camera that was carried through it; NaN where it was not placed.
    """
    low, high = _limits(xyz_m, room)
    figure, above, side = plan_and_side(low, high)
    top = float(np.quantile(sigma_m, 0.9)) if len(sigma_m) else 1.0
    order = np.argsort(-sigma_m, kind="stable")  # the best known on top
    for axes, j in ((above, 1), (side, 2)):
        image = axes.scatter(
            xyz_m[order, 0], xyz_m[order, j], c=1e3 * sigma_m[order], s=2, cmap="viridis_r", vmin=0, vmax=1e3 * top,
            linewidths=0, zorder=1,
        )  # fmt: skip
        draw_room(axes, room, (0, j), 1.0)
        if walk_m is not None:
            axes.plot(walk_m[:, 0], walk_m[:, j], ".-", color=BLACK, linewidth=0.6, markersize=2.5, zorder=3)
    said = "" if walk_m is None else "; black: the walk-through"
    above.set_title(f"map of the still room: {len(xyz_m)} points{said}", fontsize=PLAIN, loc="left")
    bar = figure.colorbar(image, ax=[above, side], location="bottom", shrink=0.5, aspect=40, pad=0.01)
    bar.set_label("standard deviation of a point, mm", fontsize=SMALL)
    bar.ax.tick_params(labelsize=SMALL)
    for axes, j in ((above, 1), (side, 2)):
        label_room(axes, room, (0, j), targets=False)
    return figure


def _limits(xyz_m: np.ndarray, room: Room) -> tuple[np.ndarray, np.ndarray]:
    inner = np.quantile(xyz_m, _INNER, axis=0) if len(xyz_m) else np.zeros((2, 3))
    low = np.minimum(inner[0], room.rig.centres.min(axis=0)) - _MARGIN_M
    high = np.maximum(inner[1], room.rig.centres.max(axis=0)) + _MARGIN_M
    return low, high
