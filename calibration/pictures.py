"""Pictures of calibration results for the report: lens coverage, the rig from above, foot-camera tracks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from core.arrays import Bool, Float
from core.cameras import Rig
from core.files import atomic_path
from core.transforms import SE3

if TYPE_CHECKING:
    from calibration.lens_solver import LensSolution
    from calibration.scene import Observations

_ARROW_SCALE = 40.0  # residual arrows are drawn this many times their length


def draw_coverage(path: Path, title: str, solution: LensSolution, observations: Observations) -> None:
    """Where corners were seen, with residuals enlarged, and which pictures were kept."""
    width, height = solution.lens.size_px
    figure, axes = _figure(6.0, 6.0 * height / width + 0.6)
    kept = solution.used[observations.image_idx]
    xy, residual = observations.xy_px, solution.residual_px
    axes.plot(*xy[~kept].T, ".", color="0.8", markersize=2)
    axes.plot(*xy[kept].T, ".", color="tab:blue", markersize=2)
    shown = kept & np.isfinite(residual[:, 0])
    axes.quiver(
        *xy[shown].T,
        *residual[shown].T,
        angles="xy",
        scale_units="xy",
        scale=1 / _ARROW_SCALE,
        color="tab:red",
        width=0.002,
    )
    axes.set(xlim=(0, width), ylim=(height, 0), aspect="equal", xlabel="px", ylabel="px")
    axes.set_title(
        f"{title}: rms {solution.rms_px:.2f} px, {int(solution.used.sum())} pictures, "
        f"{solution.coverage:.0%} covered, arrows x{_ARROW_SCALE:.0f}",
        fontsize=8,
    )
    _save(figure, path)


def draw_rig(path: Path, rig: Rig, targets: Mapping[str, SE3], sizes_m: Mapping[str, tuple[float, float]]) -> None:
    """The rig from above: cameras with their viewing directions and ids, and targets with their outlines."""
    figure, axes = _figure(7.0, 7.0)
    reach = max(0.3, 0.12 * float(np.ptp(rig.centres[:, :2], axis=0).max()))
    for camera in rig:
        centre, forward = camera.centre, camera.world_from_cam.R[:, 2]
        axes.plot(centre[0], centre[1], "o", color="tab:blue")
        axes.plot(
            [centre[0], centre[0] + reach * forward[0]], [centre[1], centre[1] + reach * forward[1]], color="tab:blue"
        )
        axes.annotate(
            f"{camera.id} ({centre[2]:.2f} m)", centre[:2], textcoords="offset points", xytext=(4, 4), fontsize=8
        )
    for name, pose in targets.items():
        w, h = sizes_m.get(name, (0.0, 0.0))
        outline = pose.apply(np.array([[0, 0, 0], [w, 0, 0], [w, h, 0], [0, h, 0], [0, 0, 0.0]]))
        axes.plot(outline[:, 0], outline[:, 1], color="tab:orange", linewidth=1)
        middle = outline[:4].mean(axis=0)
        axes.annotate(f"{name} ({middle[2]:.2f} m)", middle[:2], fontsize=6, color="tab:orange", ha="center")
    axes.set(aspect="equal", xlabel="x, m", ylabel="y, m", title="rig from above (height in brackets)")
    axes.grid(alpha=0.3)
    _save(figure, path)


def draw_track(
    path: Path,
    title: str,
    t_s: Float[np.ndarray, "frames"],
    centre_m: Float[np.ndarray, "frames 3"],
    filled: Bool[np.ndarray, "frames"],
    valid: Bool[np.ndarray, "frames"],
) -> None:
    """A moving camera's way in plan and its height over time; filled frames in red, gaps left open."""
    figure, (plan, height) = _figure(7.0, 8.0, rows=2)
    where = np.where(valid[:, None], centre_m, np.nan)
    plan.plot(where[:, 0], where[:, 1], color="tab:blue", linewidth=1)
    plan.plot(*where[filled & valid, :2].T, ".", color="tab:red", markersize=4)
    plan.set(aspect="equal", xlabel="x, m", ylabel="y, m", title=f"{title}: way from above, filled frames in red")
    height.plot(t_s, where[:, 2], color="tab:blue", linewidth=1)
    height.plot(t_s[filled & valid], where[filled & valid, 2], ".", color="tab:red", markersize=4)
    height.set(xlabel="session time, s", ylabel="height, m")
    for axes in (plan, height):
        axes.grid(alpha=0.3)
    _save(figure, path)


def _figure(width: float, height: float, rows: int = 1) -> tuple[Any, Any]:
    """A figure without a window system, and its axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows)


def _save(figure: Any, path: Path) -> None:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110, metadata={"Software": None})
