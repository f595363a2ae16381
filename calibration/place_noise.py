"""How uncertain places of targets in the room make camera poses uncertain.

All points of a target are off together, and a target is off in the same way in every frame. So its error does not
average out over points or frames, and is carried through the estimate as one six-vector a target:
C = (K A) S (K A)^T, with K the estimate's gain, A what the picture does when the targets move, and S the joint
covariance of all targets: what the rig has wrong moves them together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calibration.cluster_noise import beyond, cells, jackknife
from calibration.resection import PointRays, Resection, RollingShutter
from core.arrays import Float, Int
from core.cameras import Lens
from core.transforms import SE3, hat, so3_exp

_CELLS = 4  # across the picture: points of the scene map err together within one


@dataclass(frozen=True, eq=False)
class Places:
    """Targets that points belong to.

    Attributes:
        target: (n,) target of each point; -1 for a point of the scene, whose error is its own.
        world_from_target: (targets,) where they are believed to be.
        covariance: (6 targets, 6 targets) of these poses together, each in (rotation, translation) order.
        own_sigma_m: (n,) standard deviation of each point's own place, beside its target's.
    """

    target: Int[np.ndarray, "n"]
    world_from_target: SE3
    covariance: Float[np.ndarray, "t6 t6"]
    own_sigma_m: Float[np.ndarray, "n"]

    def sigma_m(self, points_m: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n"]:
        """Standard deviation of each point's place through its target's, the largest over directions."""
        A = self.by_target(points_m)
        each, count = np.arange(len(self.world_from_target)), len(self.world_from_target)
        own = self.covariance.reshape(count, 6, count, 6)[each, :, each]
        spread = A @ own[self.target] @ np.swapaxes(A, -1, -2)
        return np.asarray(np.sqrt(np.maximum(np.linalg.eigvalsh(spread)[:, -1], 0.0)))

    def by_target(self, points_m: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3 6"]:
        """Derivatives of points in the world by the increments of their targets' poses; zero for points of none."""
        R, t = self.world_from_target.R[self.target], self.world_from_target.t[self.target]
        inside = (np.swapaxes(R, -1, -2) @ (points_m - t)[..., None])[..., 0]
        J = np.concatenate([-R @ hat(inside), np.broadcast_to(np.eye(3), R.shape)], axis=-1)
        return np.where((self.target >= 0)[:, None, None], J, 0.0)

    @staticmethod
    def none(num_points: int) -> Places:
        """Points whose places are exact, or uncertain each by itself."""
        return Places(np.full(num_points, -1), SE3.identity(1), np.zeros((6, 6)), np.zeros(num_points))


def pose_covariances(
    lens: Lens,
    solved: Resection,
    points: PointRays,
    noise_px: Float[np.ndarray, "n"],
    places: Places,
    shutter: RollingShutter | None,
    steady_px: tuple[float, float] = (0.0, 0.0),
    lens_covariance: Float[np.ndarray, "p p"] | None = None,
) -> tuple[Float[np.ndarray, "m 6 6"], Float[np.ndarray, "m 6 6"]]:
    """Covariances of refined poses by their two causes.

    Args:
        lens: the camera's lens.
        solved: the poses and the weights they were found with.
        points: what they were found from, with the standard deviations that weighed them.
        noise_px: the points' standard deviations in the picture alone.
        places: the targets.
        shutter: what `refine_poses` was given.
        steady_px: errors of the detector that stay from frame to frame while the camera does: one that all points of a
            target share, and each point's own.
        lens_covariance: of the lens's parameters, which are off in the same way in every frame.

    Returns:
        what the noise of the picture does, which is new in every frame, and what places and systematic errors do,
        which is not; zero where the points determine no pose. Together they are no less than what points of the scene
        map show when they are left out cell by cell of the picture (`calibration.cluster_noise`).
    """
    m, index = len(solved.world_from_cam), points.pose_idx
    by_pose, by_world, by_lens = pixel_derivatives(lens, solved, points, shutter)
    scale = np.where(np.isfinite(by_pose).all(axis=(1, 2)), np.sqrt(solved.weight) / points.sigma_px, 0.0)
    by_pose, by_world, by_lens = (np.nan_to_num(J) * scale[:, None, None] for J in (by_pose, by_world, by_lens))
    residual = np.nan_to_num(solved.residual_px) * scale[:, None]
    edges = np.searchsorted(index, np.arange(m + 1))
    by_target = by_world @ places.by_target(points.points_m)
    share = (np.sqrt(solved.weight) * noise_px / points.sigma_px)[:, None, None]
    noisy = by_pose * share
    cluster = np.where(places.target < 0, cells(points.xy_px, lens.size_px, _CELLS), _CELLS**2 + places.target)
    picture, place, shown = np.zeros((m, 6, 6)), np.zeros((m, 6, 6)), np.zeros((m, 6, 6))
    for k in np.flatnonzero(np.isfinite(solved.covariance[:, 0, 0])):
        rows = slice(edges[k], edges[k + 1])
        J, width = by_pose[rows].reshape(-1, by_pose.shape[-1]), by_pose.shape[-1]
        prior = np.zeros((width, width))
        if shutter is not None:  # the expected motion is a measurement like others
            prior[6:, 6:] = np.diag(1 / shutter.motion_sigma[k] ** 2)
        gain = np.linalg.inv(J.T @ J + prior)[:6]
        N = noisy[rows].reshape(-1, width)
        picture[k] = gain @ (N.T @ N + prior) @ gain.T
        if lens_covariance is not None:
            bent = gain @ np.einsum("nki,nkj->ij", by_pose[rows], by_lens[rows])
            place[k] += bent @ lens_covariance @ bent.T
        moved = np.zeros((6, len(places.world_from_target), 6))
        for target in np.unique(places.target[rows]):
            of_it = places.target[rows] == target
            if target < 0:
                own = np.einsum("nki,nkj->nij", by_pose[rows][of_it], by_world[rows][of_it])
                each = gain @ (own * places.own_sigma_m[rows][of_it, None, None])
                place[k] += np.einsum("nij,nkj->ik", each, each)
                shown[k] = jackknife(by_pose[rows], residual[rows], cluster[rows], prior)[:6, :6]
                continue
            moved[:, target] = gain @ np.einsum("nki,nkj->ij", by_pose[rows][of_it], by_target[rows][of_it])
            shared = gain @ np.einsum("nki,n->ik", by_pose[rows][of_it], scale[rows][of_it])
            place[k] += steady_px[0] ** 2 * shared @ shared.T
        together = moved.reshape(6, -1)
        place[k] += together @ places.covariance @ together.T
        steady = (by_pose[rows] * scale[rows][:, None, None]).reshape(-1, width)
        place[k] += steady_px[1] ** 2 * gain @ (steady.T @ steady) @ gain.T
    by_scene = np.flatnonzero(shown.any(axis=(1, 2)))
    place[by_scene] += beyond((picture + place)[by_scene], shown[by_scene])
    return picture, place


def pixel_derivatives(
    lens: Lens, solved: Resection, points: PointRays, shutter: RollingShutter | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Derivatives of the pixels by pose (and motion) (n, 2, 6 or 12), the points' places (n, 2, 3), and the lens."""
    index = points.pose_idx
    R, t = solved.world_from_cam.R[index], solved.world_from_cam.t[index]
    turn = np.broadcast_to(np.eye(3), R.shape)
    if shutter is not None:
        late = shutter.delay_s[:, None]
        move = solved.motion[index] * late + shutter.acceleration[index] * (late**2 / 2)
        turn = so3_exp(move[:, :3])
        R, t = R @ turn, t + move[:, 3:]
    inside = (np.swapaxes(R, -1, -2) @ (points.points_m - t)[..., None])[..., 0]
    _, by_point, by_lens = lens.project_with_jacobian(inside)
    by_world = by_point @ np.swapaxes(R, -1, -2)
    by_turn = by_point @ hat(inside) @ np.swapaxes(turn, -1, -2)
    parts = [by_turn, -by_world]
    if shutter is not None:
        later = shutter.delay_s[:, None, None]
        parts += [later * by_turn, -later * by_world]
    return np.concatenate(parts, axis=-1), by_world, by_lens
