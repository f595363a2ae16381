"""The scene map from above."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from calibration.scene_points import SceneMap
from core.cameras import Rig
from core.files import atomic_path
from core.transforms import SE3


def draw_scene(path: Path, rig: Rig, scene: SceneMap, walk: SE3) -> None:
    """Points coloured by height, room cameras, and the way of the walk-through; its unregistered frames are NaN."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 6.0), layout="constrained")
    axes = figure.subplots()
    order = np.argsort(scene.xyz_m[:, 2], kind="stable")
    x, y, z = scene.xyz_m[order].T
    drawn = axes.scatter(x, y, c=z, s=2, cmap="viridis", linewidths=0)
    figure.colorbar(drawn, ax=axes, label="height, m", shrink=0.8)
    axes.plot(walk.t[:, 0], walk.t[:, 1], ".-", color="0.6", linewidth=0.6, markersize=3, label="walk-through")
    for camera in rig:
        place = (float(camera.centre[0]), float(camera.centre[1]))
        axes.plot(*place, "o", color="tab:red", markersize=4)
        axes.annotate(camera.id, place, textcoords="offset points", xytext=(4, 4), fontsize=7)
    axes.set(aspect="equal", xlabel="x, m", ylabel="y, m", title=f"scene map from above, {len(scene)} points")
    axes.grid(alpha=0.3)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110, metadata={"Software": None})
