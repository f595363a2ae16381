"""Poses of single cameras from known points: candidates in closed form, then a batched robust refinement.

A planar target has two poses that explain its picture almost equally well (Schweighofer and Pinz 2006; IPPE, Collins
and Bartoli 2014). Both are kept here; what else is known decides between them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calibration.robust import Loss, robust_cost, robust_weight
from core.arrays import Bool, Float, Int
from core.cameras import Lens
from core.transforms import SE3, hat

_MAX_ANGLE_RAD = np.radians(80.0)  # from the axis: beyond it, coordinates on the plane z = 1 amplify noise too much
_FLAT = 1e-4  # thickness over width below which points count as planar
_NARROW = 1e-2  # height over width below which they count as a line, which fixes no pose


@dataclass(frozen=True, eq=False)
class PointRays:
    """Points of several independent pose problems, flat.

    Attributes:
        pose_idx: (n,) problem, sorted ascending.
        points_m: (n, 3) known points in the reference frame.
        xy_px: (n, 2) where they were seen.
        sigma_px: (n,) standard deviation of each coordinate.
    """

    pose_idx: Int[np.ndarray, "n"]
    points_m: Float[np.ndarray, "n 3"]
    xy_px: Float[np.ndarray, "n 2"]
    sigma_px: Float[np.ndarray, "n"]


@dataclass(frozen=True, eq=False)
class Resection:
    """Refined poses.

    Attributes:
        world_from_cam: (m,) poses.
        covariance: (m, 6, 6) in (rotation, translation) order, from the stated standard deviations.
        rms_px: (m,) root mean square of the robustly weighted residuals.
        chi2: (m,) robust cost over whitened residuals.
        residual_px: (n, 2) predicted minus seen.
        weight: (n,) robust weights.
    """

    world_from_cam: SE3
    covariance: Float[np.ndarray, "m 6 6"]
    rms_px: Float[np.ndarray, "m"]
    chi2: Float[np.ndarray, "m"]
    residual_px: Float[np.ndarray, "n 2"]
    weight: Float[np.ndarray, "n"]


def pose_candidates(points_m: Float[np.ndarray, "n 3"], rays: Float[np.ndarray, "n 3"]) -> list[SE3]:
    """`cam_from_target` candidates, best first: two for planar points, one for others, none where nothing fixes a pose.

    Args:
        points_m: points in the target's frame, metres.
        rays: unit rays in the camera frame; NaN where the lens has none.
    """
    import cv2

    with np.errstate(invalid="ignore"):
        usable = rays[:, 2] > np.cos(_MAX_ANGLE_RAD)
    if usable.sum() < 4:
        return []
    points, xy = points_m[usable], rays[usable, :2] / rays[usable, 2:]
    mean = points.mean(axis=0)
    _, spread, axes = np.linalg.svd(points - mean, full_matrices=False)
    if spread[1] < _NARROW * spread[0]:
        return []
    axes[2] = np.cross(axes[0], axes[1])
    plane_from_target = SE3(axes, -axes @ mean)
    flat = plane_from_target.apply(points)
    planar = spread[2] < _FLAT * spread[0]
    method = cv2.SOLVEPNP_IPPE if planar else cv2.SOLVEPNP_SQPNP
    if planar:
        flat[:, 2] = 0.0
    _, rotvecs, ts, _ = cv2.solvePnPGeneric(flat, xy, np.eye(3), None, flags=method)
    found = [SE3.from_rotvec(w[:, 0], t[:, 0]) @ plane_from_target for w, t in zip(rotvecs, ts, strict=True)]
    return [pose for pose in found if np.isfinite(pose.t).all() and (pose.apply(points)[:, 2] > 0).mean() > 0.5]


def ray_errors(points_in_cam: Float[np.ndarray, "*n 3"], rays: Float[np.ndarray, "*m 3"]) -> Float[np.ndarray, "*n"]:
    """Chord between predicted and seen directions, which is the angle in radians where it is small; at most 2."""
    norm = np.linalg.norm(points_in_cam, axis=-1, keepdims=True)
    return np.asarray(np.linalg.norm(points_in_cam / np.maximum(norm, 1e-12) - rays, axis=-1))


def refine_poses(
    lens: Lens,
    world_from_cam: SE3,
    data: PointRays,
    *,
    loss: Loss = "cauchy",
    loss_sigmas: float = 3.0,
    iterations: int = 25,
    camera_motion: Float[np.ndarray, "m 6"] | None = None,
    delay_s: Float[np.ndarray, "n"] | None = None,
) -> Resection:
    """Levenberg-Marquardt on every pose at once, each with its own damping.

    Args:
        lens: the camera's lens.
        world_from_cam: (m,) start poses.
        data: points; a pose without any stays where it is and gets an infinite covariance.
        loss: robust loss of a residual.
        loss_sigmas: residual, in standard deviations, at which it begins to bend.
        iterations: steps at most.
        camera_motion: (m, 6) angular velocity in the camera's frame (rad/s) and velocity in the world (m/s): with
            `delay_s` it places every point's camera at the time its own row was exposed (rolling shutter).
        delay_s: (n,) time of a point's row after the time of the pose.
    """
    system = _Poses(lens, data, len(world_from_cam), loss, loss_sigmas, camera_motion, delay_s)
    pose, damping = world_from_cam, np.full(len(world_from_cam), 1e-3)
    cost = system.cost(pose)
    for _ in range(iterations):
        H, g = system.normal(pose)[:2]
        diagonal = np.maximum(np.einsum("mii->mi", H), 1e-12)
        damped = H + (damping[:, None] * diagonal)[..., None] * np.eye(6)
        step = -np.linalg.solve(damped, g[..., None])[..., 0]
        trial = pose.retract(step)
        trial_cost = system.cost(trial)
        better = trial_cost <= cost
        pose = SE3(np.where(better[:, None, None], trial.R, pose.R), np.where(better[:, None], trial.t, pose.t))
        settled = ~better | (cost - trial_cost < 1e-8 * np.maximum(cost, 1e-9))
        cost = np.where(better, trial_cost, cost)
        damping = np.where(better, np.maximum(damping / 8, 1e-9), np.minimum(damping * 8, 1e9))
        if (settled & better | (damping > 1e8)).all():
            break
    return system.result(pose, cost)


class _Poses:
    """Residuals and normal equations of independent poses over one flat table of points."""

    def __init__(
        self,
        lens: Lens,
        data: PointRays,
        num_poses: int,
        loss: Loss,
        loss_sigmas: float,
        camera_motion: np.ndarray | None,
        delay_s: np.ndarray | None,
    ) -> None:
        self.lens, self.data, self.num_poses = lens, data, num_poses
        self.loss, self.loss_sigmas = loss, loss_sigmas
        self.starts = np.searchsorted(data.pose_idx, np.arange(num_poses))
        self.counts = np.bincount(data.pose_idx, minlength=num_poses)
        if camera_motion is None or delay_s is None:
            self.row_move = None
        else:
            self.row_move = camera_motion[data.pose_idx] * delay_s[:, None]

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Sums of rows (n, ...) by pose (m, ...)."""
        if len(values) == 0:
            return np.zeros((self.num_poses, *values.shape[1:]))
        total = np.add.reduceat(values, np.minimum(self.starts, len(values) - 1), axis=0)
        total[self.counts == 0] = 0
        return total

    def in_camera(self, pose: SE3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Points in the camera at their row's time (n, 3), that camera's rotation, and the row's own turn (n, 3, 3)."""
        row_pose = pose[self.data.pose_idx]
        turn = np.broadcast_to(np.eye(3), row_pose.R.shape)
        if self.row_move is not None:
            moved = row_pose.retract(self.row_move)
            turn, row_pose = np.swapaxes(row_pose.R, -1, -2) @ moved.R, moved
        points = np.einsum("nji,nj->ni", row_pose.R, self.data.points_m - row_pose.t)
        return points, row_pose.R, turn

    def cost(self, pose: SE3) -> np.ndarray:
        residual = (self.lens.project(self.in_camera(pose)[0]) - self.data.xy_px) / self.data.sigma_px[:, None]
        squared = np.where(np.isfinite(residual[:, 0]), (residual**2).sum(axis=-1), 1e4)
        return self.sums(robust_cost(squared, self.loss, self.loss_sigmas))

    def normal(self, pose: SE3) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """J^T W J, J^T W r by pose; residuals in pixels and weights by point."""
        points, R, turn = self.in_camera(pose)
        px, by_point, _ = self.lens.project_with_jacobian(points)
        residual = px - self.data.xy_px
        whitened = residual / self.data.sigma_px[:, None]
        seen = np.isfinite(whitened[:, 0])
        squared = np.where(seen, (whitened**2).sum(axis=-1), 0.0)
        weight = np.where(seen, robust_weight(squared, self.loss, self.loss_sigmas), 0.0)
        # the row's pose is R exp(w) turn: its own small rotation is turn^T w
        by_rotation = by_point @ hat(points) @ np.swapaxes(turn, -1, -2)
        J = np.concatenate([by_rotation, -by_point @ np.swapaxes(R, -1, -2)], axis=-1)
        J = np.where(seen[:, None, None], J, 0.0) / self.data.sigma_px[:, None, None]
        Jt = np.swapaxes(J, -1, -2) * weight[:, None, None]
        g = (Jt @ np.where(seen[:, None], whitened, 0.0)[..., None])[..., 0]
        return self.sums(Jt @ J), self.sums(g), residual, weight

    def result(self, pose: SE3, cost: np.ndarray) -> Resection:
        H, _, residual, weight = self.normal(pose)
        determined = self.determined(H)
        covariance = np.full_like(H, np.inf)
        covariance[determined] = np.linalg.inv(H[determined])
        squared = np.where(np.isfinite(residual[:, 0]), (residual**2).sum(axis=-1), 0.0) * weight
        rms = np.sqrt(self.sums(squared) / np.maximum(2 * self.sums(weight), 1e-12))
        return Resection(pose, covariance, np.where(self.counts > 0, rms, np.nan), cost, residual, weight)

    @staticmethod
    def determined(H: np.ndarray) -> Bool[np.ndarray, "m"]:
        """Whether normal equations can be inverted: their scaled condition number leaves digits to spare."""
        scale = np.sqrt(np.maximum(np.einsum("mii->mi", H), 1e-300))
        scaled = H / (scale[:, :, None] * scale[:, None, :])
        return np.asarray(np.linalg.eigvalsh(scaled)[:, 0] > 1e-10)
