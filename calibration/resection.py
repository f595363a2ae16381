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
from core.transforms import SE3, hat, so3_exp

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
        motion: (m, 6) angular velocity in the camera's frame and velocity in the world; 0 where not solved for.
    """

    world_from_cam: SE3
    covariance: Float[np.ndarray, "m 6 6"]
    rms_px: Float[np.ndarray, "m"]
    chi2: Float[np.ndarray, "m"]
    residual_px: Float[np.ndarray, "n 2"]
    weight: Float[np.ndarray, "n"]
    motion: Float[np.ndarray, "m 6"]


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


@dataclass(frozen=True, eq=False)
class RollingShutter:
    """How moving cameras get from row to row.

    Attributes:
        delay_s: (n,) time at which a point's row is exposed, after the time of its pose; best centred on zero, where
            errors of the velocity do not reach the pose.
        motion: (m, 6) expected angular velocity in the camera's frame (rad/s) and velocity in the world (m/s).
        motion_sigma: (m, 6) standard deviations of that expectation. The rows themselves tell the velocity of a camera
            that sees many points; where it sees few, the expectation holds it.
        acceleration: (m, 6) change of the motion, a second; taken as known.
    """

    delay_s: Float[np.ndarray, "n"]
    motion: Float[np.ndarray, "m 6"]
    motion_sigma: Float[np.ndarray, "m 6"]
    acceleration: Float[np.ndarray, "m 6"]

    def subset(self, poses: Int[np.ndarray, "k"], rows: Int[np.ndarray, "r"]) -> RollingShutter:
        """The same for some poses and their rows."""
        return RollingShutter(
            self.delay_s[rows], self.motion[poses], self.motion_sigma[poses], self.acceleration[poses]
        )


def refine_poses(
    lens: Lens,
    world_from_cam: SE3,
    data: PointRays,
    *,
    loss: Loss = "cauchy",
    loss_sigmas: float = 3.0,
    iterations: int = 25,
    shutter: RollingShutter | None = None,
) -> Resection:
    """Levenberg-Marquardt on every pose at once, each with its own damping.

    Args:
        lens: the camera's lens.
        world_from_cam: (m,) start poses.
        data: points; a pose without any stays where it is and gets an infinite covariance.
        loss: robust loss of a residual.
        loss_sigmas: residual, in standard deviations, at which it begins to bend.
        iterations: steps at most.
        shutter: solve for the velocities too, and place every point's camera at the time of its own row.
    """
    system = _Poses(lens, data, len(world_from_cam), loss, loss_sigmas, shutter)
    motion = np.zeros((len(world_from_cam), 6)) if shutter is None else shutter.motion.copy()
    R, t = world_from_cam.R.copy(), world_from_cam.t.copy()
    cost = system.cost(SE3(R, t), motion)
    damping, active = np.full(len(R), 1e-3), np.flatnonzero(system.counts > 0)
    for _ in range(iterations):
        if len(active) == 0:
            break
        part = system.subset(active)
        pose = SE3(R[active], t[active])
        H, g = part.normal(pose, motion[active])[:2]
        diagonal = np.maximum(np.einsum("mii->mi", H), 1e-12)
        step = -np.linalg.solve(H + (damping[active, None] * diagonal)[..., None] * np.eye(H.shape[-1]), g[..., None])
        trial, trial_motion = pose.retract(step[:, :6, 0]), motion[active]
        if shutter is not None:
            trial_motion = trial_motion + step[:, 6:, 0]
        trial_cost = part.cost(trial, trial_motion)
        better = trial_cost <= cost[active]
        settled = better & (cost[active] - trial_cost < 1e-7 * np.maximum(cost[active], 1e-9))
        taken = active[better]
        R[taken], t[taken], motion[taken], cost[taken] = (
            trial.R[better],
            trial.t[better],
            trial_motion[better],
            trial_cost[better],
        )
        damping[active] *= np.where(better, 1 / 8, 8)
        active = active[~settled & (damping[active] < 1e8)]
    return system.result(SE3(R, t), motion, cost)


class _Poses:
    """Residuals and normal equations of independent poses over one flat table of points."""

    def __init__(
        self,
        lens: Lens,
        data: PointRays,
        num_poses: int,
        loss: Loss,
        loss_sigmas: float,
        shutter: RollingShutter | None,
    ) -> None:
        self.lens, self.data, self.num_poses = lens, data, num_poses
        self.loss, self.loss_sigmas, self.shutter = loss, loss_sigmas, shutter
        self.edges = np.searchsorted(data.pose_idx, np.arange(num_poses + 1))
        self.counts = np.diff(self.edges)

    def subset(self, poses: Int[np.ndarray, "k"]) -> _Poses:
        """The same problem for some of the poses, renumbered."""
        if len(poses) == self.num_poses:
            return self
        place = np.full(self.num_poses, -1)
        place[poses] = np.arange(len(poses))
        d, rows = self.data, np.flatnonzero(place[self.data.pose_idx] >= 0)
        data = PointRays(place[d.pose_idx[rows]], d.points_m[rows], d.xy_px[rows], d.sigma_px[rows])
        shutter = None if self.shutter is None else self.shutter.subset(poses, rows)
        return _Poses(self.lens, data, len(poses), self.loss, self.loss_sigmas, shutter)

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Sums of (n,) by pose (m,)."""
        return np.bincount(self.data.pose_idx, values, minlength=self.num_poses).astype(float)

    def in_camera(self, pose: SE3, motion: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Points in the camera at their row's time (n, 3), that camera's rotation, and the row's own turn (n, 3, 3)."""
        index = self.data.pose_idx
        R, t, turn = pose.R[index], pose.t[index], None
        if self.shutter is not None:
            late = self.shutter.delay_s[:, None]
            move = motion[index] * late + self.shutter.acceleration[index] * (late**2 / 2)
            turn = so3_exp(move[:, :3])
            R, t = R @ turn, t + move[:, 3:]
        points = (np.swapaxes(R, -1, -2) @ (self.data.points_m - t)[..., None])[..., 0]
        return points, R, turn

    def cost(self, pose: SE3, motion: np.ndarray) -> np.ndarray:
        """Robust cost of every pose, with what its velocity is expected to be."""
        residual = (self.lens.project(self.in_camera(pose, motion)[0]) - self.data.xy_px) / self.data.sigma_px[:, None]
        squared = np.where(np.isfinite(residual[:, 0]), (residual**2).sum(axis=-1), 1e4)
        cost = self.sums(robust_cost(squared, self.loss, self.loss_sigmas))
        if self.shutter is not None:
            cost = cost + (((motion - self.shutter.motion) / self.shutter.motion_sigma) ** 2).sum(axis=-1)
        return cost

    def normal(self, pose: SE3, motion: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """J^T W J (m, d, d) and J^T W r (m, d), d = 6, or 12 with velocities; residuals in pixels and weights."""
        points, R, turn = self.in_camera(pose, motion)
        px, by_point, _ = self.lens.project_with_jacobian(points)
        residual = px - self.data.xy_px
        whitened = residual / self.data.sigma_px[:, None]
        seen = np.isfinite(whitened[:, 0])
        squared = np.where(seen, (whitened**2).sum(axis=-1), 0.0)
        weight = np.where(seen, robust_weight(squared, self.loss, self.loss_sigmas), 0.0)
        scale = np.sqrt(weight)[:, None]
        by_rotation, by_place = by_point @ hat(points), -by_point @ np.swapaxes(R, -1, -2)
        if turn is None or self.shutter is None:
            J = np.concatenate([by_rotation, by_place], axis=-1)
        else:
            # the row's rotation is R exp(w) turn: its own small rotation is turn^T w
            parts = [by_rotation @ np.swapaxes(turn, -1, -2), by_place]
            late = self.shutter.delay_s[:, None, None]
            J = np.concatenate([*parts, late * by_rotation, late * by_place], axis=-1)
        J = np.where(seen[:, None, None], J, 0.0) * (scale / self.data.sigma_px[:, None])[..., None]
        H, g = self._products(J, np.where(seen[:, None], whitened, 0.0) * scale)
        if self.shutter is not None:
            information = 1 / self.shutter.motion_sigma**2
            H[:, np.arange(6, 12), np.arange(6, 12)] += information
            g[:, 6:] += information * (motion - self.shutter.motion)
        return H, g, residual, weight

    def _products(self, J: np.ndarray, residual: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """J^T J and J^T r by pose. One matrix product a pose: hundreds of points each, which BLAS does fastest."""
        width = J.shape[-1]
        H, g = np.zeros((self.num_poses, width, width)), np.zeros((self.num_poses, width))
        for k in np.flatnonzero(self.counts):
            A = J[self.edges[k] : self.edges[k + 1]].reshape(-1, width)
            H[k], g[k] = A.T @ A, residual[self.edges[k] : self.edges[k + 1]].reshape(-1) @ A
        return H, g

    def result(self, pose: SE3, motion: np.ndarray, cost: np.ndarray) -> Resection:
        H, _, residual, weight = self.normal(pose, motion)
        determined = _determined(H)
        covariance = np.full((len(H), 6, 6), np.inf)
        covariance[determined] = np.linalg.inv(H[determined])[:, :6, :6]
        squared = np.where(np.isfinite(residual[:, 0]), (residual**2).sum(axis=-1), 0.0) * weight
        rms = np.sqrt(self.sums(squared) / np.maximum(2 * self.sums(weight), 1e-12))
        return Resection(pose, covariance, np.where(self.counts > 0, rms, np.nan), cost, residual, weight, motion)


def _determined(H: Float[np.ndarray, "m d d"]) -> Bool[np.ndarray, "m"]:
    """Whether normal equations can be inverted: their scaled condition number leaves digits to spare."""
    scale = np.sqrt(np.maximum(np.einsum("mii->mi", H), 1e-300))
    return np.asarray(np.linalg.eigvalsh(H / (scale[:, :, None] * scale[:, None, :]))[:, 0] > 1e-10)
