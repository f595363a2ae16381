"""Whether a photograph that fits no pose was taken with another focal length than the lens was calibrated for."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
from scipy.optimize import minimize_scalar

from calibration.resection import PointRays, pose_candidates, ray_errors, refine_poses
from calibration.scene import Observations
from core.cameras import Lens
from core.transforms import SE3

_RANGE = (0.5, 2.0)  # focal lengths that are tried, over the calibrated one
_STEPS = 29  # 5 % apart
_CAP_RAD = 0.03
_NOTICEABLE = 0.01  # less than this is no other zoom


def fitting_zoom(
    lens: Lens, seen: Observations, world_from_target: Mapping[int, SE3], max_error_px: float
) -> float | None:
    """The focal length, over the calibrated one, with which a photograph's points fit; None if none does.

    Args:
        lens: the lens as calibrated.
        seen: points of one photograph.
        world_from_target: places of the targets in it that are known.
        max_error_px: median error up to which they fit.
    """
    seen = seen[np.isin(seen.target_idx, list(world_from_target))]
    if len(np.unique(seen.target_idx)) < 2:
        return None  # one flat target fits almost any focal length
    world = np.concatenate(
        [world_from_target[k].apply(p[None]) for k, p in zip(seen.target_idx, seen.points_m, strict=True)]
    )

    def error_px(log_scale: float) -> float:
        return _fit(_zoomed(lens, float(np.exp(log_scale))), seen, world, world_from_target)

    grid = np.linspace(float(np.log(_RANGE[0])), float(np.log(_RANGE[1])), _STEPS)
    errors = [error_px(value) for value in grid]
    near, step = float(grid[int(np.argmin(errors))]), float(grid[1] - grid[0])
    best = minimize_scalar(error_px, bounds=(near - step, near + step), method="bounded", options={"xatol": 1e-3})
    fits = best.fun < max_error_px and abs(best.x) > _NOTICEABLE
    return float(np.exp(best.x)) if fits else None


def _zoomed(lens: Lens, scale: float) -> Lens:
    return dataclasses.replace(lens, focal_px=(lens.focal_px[0] * scale, lens.focal_px[1] * scale))


def _fit(lens: Lens, seen: Observations, world: np.ndarray, world_from_target: Mapping[int, SE3]) -> float:
    """Median reprojection error of the best pose."""
    rays = lens.unproject(seen.xy_px)
    starts = [
        pose @ cam_from_target.inverse()
        for k, pose in world_from_target.items()
        for cam_from_target in pose_candidates(seen.points_m[seen.target_idx == k], rays[seen.target_idx == k])
    ]
    if not starts:
        return np.inf
    poses = SE3.stack(starts)
    in_cam = np.einsum("cji,cnj->cni", poses.R, world[None] - poses.t[:, None])
    cost = np.minimum(ray_errors(in_cam, rays[None]), _CAP_RAD).mean(axis=-1)
    data = PointRays(np.zeros(len(world), int), world, seen.xy_px, seen.sigma_px)
    refined = refine_poses(lens, poses[[int(cost.argmin())]], data, loss_sigmas=30.0)
    return float(np.median(np.nan_to_num(np.linalg.norm(refined.residual_px, axis=-1), nan=np.inf)))
