"""Pictures of calibration results, which stages leave in their folders and the report shows.

A `..._figure` makes a figure of arrays; a `draw_...` writes it. matplotlib is loaded when the first is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from calibration.pictures.canvas import png_bytes, save
from calibration.pictures.clocks import Reading, clocks_figure
from calibration.pictures.lenses import lens_figure
from calibration.pictures.rigs import Room, camera_figure, rig_figure
from calibration.pictures.scenes import scene_figure
from calibration.pictures.tracks import Way, ways_figure
from core.arrays import Bool, Float
from core.cameras import Rig
from core.transforms import SE3

if TYPE_CHECKING:
    from calibration.lens_solver import LensSolution
    from calibration.scene import Observations
    from calibration.scene_points import SceneMap

__all__ = [
    "Reading",
    "Room",
    "Way",
    "camera_figure",
    "clocks_figure",
    "draw_coverage",
    "draw_lens",
    "draw_rig",
    "draw_scene",
    "draw_track",
    "lens_figure",
    "png_bytes",
    "rig_figure",
    "save",
    "scene_figure",
    "ways_figure",
]


def draw_lens(
    path: Path,
    title: str,
    size_px: tuple[int, int],
    xy_px: Float[np.ndarray, "n 2"],
    residual_px: Float[np.ndarray, "n 2"],
    kept: Bool[np.ndarray, "n"],
    sigma_px: Float[np.ndarray, "rows columns"] | None = None,
) -> None:
    """Where corners lay, what their residuals still show, and how sure a projection is over the image."""
    save(lens_figure(title, size_px, xy_px, residual_px, kept, sigma_px), path)


def draw_coverage(path: Path, title: str, solution: LensSolution, observations: Observations) -> None:
    """`draw_lens` of a solution: the corners of the pictures that it keeps."""
    from calibration.lens_quality import projection_sigma_px
    from calibration.lens_solver import MIN_WEIGHT

    shown = solution.used[observations.image_idx]
    said = f"{title}: {int(solution.used.sum())} of {len(solution.used)} pictures"
    sigma_px = projection_sigma_px(solution.lens, solution.covariance)
    xy_px, residual_px, kept = (
        observations.xy_px[shown],
        solution.residual_px[shown],
        solution.weight[shown] > MIN_WEIGHT,
    )
    draw_lens(path, said, solution.lens.size_px, xy_px, residual_px, kept, sigma_px)


def draw_rig(
    path: Path,
    rig: Rig,
    targets: Mapping[str, SE3],
    sizes_m: Mapping[str, tuple[float, float]],
    covariance: Mapping[str, Float[np.ndarray, "6 6"]] | None = None,
    target_covariance: Mapping[str, Float[np.ndarray, "6 6"]] | None = None,
) -> None:
    """The rig from above and from the side: cameras with their views, targets, and what is not sure of them."""
    save(rig_figure(Room(rig, targets, sizes_m, covariance or {}, target_covariance or {})), path)


def draw_track(
    path: Path,
    title: str,
    t_s: Float[np.ndarray, "frames"],
    centre_m: Float[np.ndarray, "frames 3"],
    filled: Bool[np.ndarray, "frames"],
    valid: Bool[np.ndarray, "frames"],
    sigma_m: Float[np.ndarray, "frames 3"] | None = None,
) -> None:
    """A moving camera's way in plan and its height over time; filled frames marked, gaps left open."""
    save(ways_figure(title, {title: Way(t_s, centre_m, filled, valid, sigma_m)}), path)


def draw_scene(path: Path, rig: Rig, scene: SceneMap, walk: SE3) -> None:
    """The map of the still room, the cameras that it was tied to, and the way of the walk-through (NaN: not placed)."""
    sigma_m = np.sqrt(np.linalg.eigvalsh(scene.covariance)[:, -1])
    save(scene_figure(scene.xyz_m, sigma_m, Room(rig), walk.t), path)
