"""The foot cameras in the fit: a camera rides on the shoe, so its measured pose is the ankle's up to a constant mount.

With the ankle's frame (R, p) from the body and the mount X = ankle_from_cam, `world_from_cam = (R, p) X`. This one
relation is AMD's E_R and E_t, weighted by the covariance of the camera's pose; its other terms say how the camera sits
on the foot, which stays, and are found in `fitting.mount_geometry`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from core.arrays import Float
from core.transforms import SE3, geodesic, hat, mean_rotation, right_jacobian_inverse, so3_log
from fitting.landmarks import Landmarks
from fitting.mount_geometry import ANKLES
from fitting.rays import Rays
from fitting.smpl import BodyModel, PosedBody
from fitting.solver import ArrowSystem

# a shoe gives: no frame is believed better than this, however sharp the camera's pose (radians, metres)
_SHOE_SIGMA = np.array([0.02] * 3 + [0.004] * 3)
_MOUNT_SIGMA = np.array([3.0] * 3 + [0.3] * 3)  # nearly free; keeps an unobserved mount finite
FOOT_SCALE = 4.0
"""Geman-McClure scale in standard deviations of a camera's pose."""
MIN_FRAMES = 30


@dataclass(frozen=True, eq=False)
class FootObservation:
    """What one foot camera measured at the instants of the fit.

    Attributes:
        ankle_idx: joint it rides on.
        world_from_cam: its pose, (frames,).
        information: inverse covariance of (rotation, translation) increments, (frames, 6, 6); 0 where not measured.
        own: its wearer's keypoints as rays in its own frame, one view of (frames * points); None where it has none.
    """

    ankle_idx: int
    world_from_cam: SE3
    information: np.ndarray
    own: Rays | None = None

    @staticmethod
    def of(
        role: str,
        world_from_cam: SE3,
        covariance: Float[np.ndarray, "frames 6 6"],
        valid: np.ndarray,
    ) -> FootObservation:
        """From an egomotion; frames that are not valid weigh nothing.

        Args:
            role: `left_foot` or `right_foot`.
            world_from_cam: poses at the instants of the fit.
            covariance: of (rotation, translation) increments.
            valid: whether the pose was measured.
        """
        known = valid & np.isfinite(covariance).all(axis=(1, 2)) & np.isfinite(world_from_cam.t).all(axis=-1)
        information = np.zeros((len(known), 6, 6))
        information[known] = np.linalg.inv(covariance[known] + np.diag(_SHOE_SIGMA**2))
        R = np.where(known[:, None, None], world_from_cam.R, np.eye(3))
        return FootObservation(ANKLES[role], SE3(R, np.where(known[:, None], world_from_cam.t, 0.0)), information)

    def frames(self, index: np.ndarray | slice) -> FootObservation:
        """What it measured in some of the frames."""
        own = self.own
        if own is not None:
            rows = np.arange(own.seen.shape[1]).reshape(len(self.information), -1)
            own = own.points(rows[index].ravel())
        return FootObservation(self.ankle_idx, self.world_from_cam[index], self.information[index], own)

    def only(self, frames: np.ndarray) -> FootObservation:
        """The same without what it measured in other frames than those marked."""
        return dataclasses.replace(self, information=np.where(frames[:, None, None], self.information, 0.0))

    @property
    def known(self) -> np.ndarray:
        """Frames that were measured, (frames,)."""
        return self.information[:, 0, 0] > 0


def initial_mount(posed: PosedBody, foot: FootObservation, trusted: np.ndarray) -> SE3 | None:
    """The mount as the robust mean over frames in which the body is known without the foot camera.

    Args:
        posed: the fitted body.
        foot: what the camera measured.
        trusted: frames whose fit is good, (frames,).

    Returns:
        `ankle_from_cam`, or None if fewer than `MIN_FRAMES` frames have both.
    """
    use = np.flatnonzero(foot.known & trusted)
    if len(use) < MIN_FRAMES:
        return None
    mount = posed.world_from_joint(foot.ankle_idx)[use].inverse() @ foot.world_from_cam[use]
    weight = np.ones(len(use))
    for _ in range(10):
        R = mean_rotation(mount.R, weight)
        angle = geodesic(np.broadcast_to(R, mount.R.shape), mount.R)
        weight = 1 / (1 + (angle / max(float(np.median(angle)), 1e-3)) ** 2) ** 2
    return SE3(R, np.median(mount.t, axis=0))


def foot_residual(
    posed: PosedBody, mount: SE3, foot: FootObservation
) -> tuple[Float[np.ndarray, "frames 6"], Float[np.ndarray, "frames 6 D"], Float[np.ndarray, "frames 6 6"]]:
    """Predicted minus measured camera pose, with derivatives by the frame's unknowns and by the mount.

    Returns:
        Rotation vector (radians) and translation (metres); Jacobians by (translation, rotation increments) and by the
        mount's (rotation, translation) increment.
    """
    ankle = posed.world_from_joint(foot.ankle_idx)
    camera = ankle @ mount
    turn = so3_log(np.swapaxes(foot.world_from_cam.R, -1, -2) @ camera.R)
    residual = np.concatenate([turn, camera.t - foot.world_from_cam.t], axis=-1)
    Jr = right_jacobian_inverse(turn)
    by_frame = np.zeros((len(turn), 6, 1 + posed.rotations.shape[1], 3))
    by_frame[:, 3:, 0] = np.eye(3)
    joint = foot.ankle_idx
    while joint >= 0:
        world = posed.world_rotations[:, joint]
        by_frame[:, :3, joint + 1] = Jr @ np.swapaxes(camera.R, -1, -2) @ world
        by_frame[:, 3:, joint + 1] = -hat(camera.t - posed.joints[:, joint]) @ world
        joint = int(posed.shaped.body.parents[joint])
    by_mount = np.zeros((len(turn), 6, 6))
    by_mount[:, :3, :3], by_mount[:, 3:, 3:] = Jr, ankle.R
    return residual, by_frame.reshape(len(turn), 6, -1), by_mount


def foot_term(
    system: ArrowSystem,
    body: BodyModel,
    posed: PosedBody,
    mount: SE3,
    foot: FootObservation,
    column: int | None,
    scale: float,
) -> float:
    """Adds one foot camera to the normal equations, robustly, and returns its cost.

    Args:
        system: changed in place.
        body: the model.
        posed: the body at the state.
        mount: `ankle_from_cam` at the state.
        foot: what the camera measured.
        column: first of the mount's six globals; the betas are the first globals. None where none is solved for.
        scale: of the robust loss, in standard deviations.
    """
    residual, by_frame, by_mount = foot_residual(posed, mount, foot)
    error2 = np.einsum("ti,tij,tj->t", residual, foot.information, residual)
    share = scale**2 / (scale**2 + error2)
    W = foot.information * (share**2)[:, None, None]
    parts, D = [by_frame], by_frame.shape[-1]
    if column is not None:
        by_betas = np.zeros((len(residual), 6, posed.shaped.betas.shape[-1]))
        by_betas[:, 3:] = Landmarks.of_vertices(body, (), [foot.ankle_idx]).by_betas(posed)[:, 0]
        parts += [by_betas, by_mount]
    J = np.concatenate(parts, axis=-1)
    JtW = np.swapaxes(J, -1, -2) @ W
    H, g = system.beside(JtW @ J), system.beside(np.einsum("tpi,ti->tp", JtW, residual))
    system.diagonal[:] += H[:, :D, :D]
    system.gradient[:] += g[:, :D]
    if column is not None:
        axis = column + np.arange(6)
        globals_idx = np.concatenate([np.arange(by_betas.shape[-1]), axis])
        system.border[:, :, globals_idx] += H[:, :D, D:]
        system.corner[np.ix_(globals_idx, globals_idx)] += H[:, D:, D:].sum(axis=0)
        system.gradient_global[globals_idx] += g[:, D:].sum(axis=0)
        system.corner[axis, axis] += system.beside(1 / _MOUNT_SIGMA**2)
    return 0.5 * float((error2 * share).sum())
