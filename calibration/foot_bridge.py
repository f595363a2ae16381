"""A foot camera's pose from the foot it rides on, for frames in which it saw nothing of the room.

While the camera sees, the joints of the foot that room cameras detect show where they sit in its frame; while it is
covered, the same joints tell where it is. How well they do is measured on the frames that have both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calibration.foot_clock import JointRays, places_of_joints
from calibration.robust import robust_weight
from calibration.smoothing import SmoothedWay, bridged
from core.arrays import Bool, Float
from core.transforms import SE3, hat

_ROUNDS = 8
_LOSS_SIGMAS = 2.0
_MAD_TO_SIGMA = 1.4826
_MIN_RAYS = 10
_MIN_JOINTS = 3  # fewer fix no orientation
_BLOCK = 6  # frames over which detections are off together, and most gaps last
_MIN_CHECKED = 30
_DAMPING = np.repeat([1 / 0.5, 1 / 0.3], 3) ** 2  # of the step: rad and m


@dataclass(frozen=True)
class BridgeConfig:
    """Settings of the frames without a measurement of their own.

    Attributes:
        joints: place the camera by the joints of its foot that room cameras saw, where there are keypoints of feet.
        max_gap_s: longest gap between two measured frames that is bridged so; those of longer ones stay without a pose.
        max_position_sigma_m: standard deviation of such a position above which it is not used.
        max_rotation_sigma_rad: the same for the orientation.
    """

    joints: bool = True
    max_gap_s: float = 2.0
    max_position_sigma_m: float = 0.05
    max_rotation_sigma_rad: float = 0.3


@dataclass(frozen=True, eq=False)
class Bridge:
    """Poses by the foot's joints.

    Attributes:
        world_from_cam: (frames,) poses.
        covariance: (frames, 6, 6) as large as the frames with both show.
        known: (frames,) which may be used.
        inflation: by how much the stated covariance had to grow; NaN without any pose.
    """

    world_from_cam: SE3
    covariance: Float[np.ndarray, "frames 6 6"]
    known: Bool[np.ndarray, "frames"]
    inflation: float


def bridge(way: SmoothedWay, rays: JointRays, config: BridgeConfig) -> Bridge:
    """Poses of all frames by the foot's joints.

    Args:
        way: the smoothed way; its measured frames say where the joints sit, its others are where the search starts.
        rays: what room cameras saw of the foot, on the way's clock.
        config: settings.
    """
    frames = len(way.t_s)
    none = Bridge(way.world_from_cam, way.covariance, np.zeros(frames, bool), float("nan"))
    if not config.joints or way.used.sum() < _MIN_CHECKED or len(np.unique(rays.joint)) < _MIN_JOINTS:
        return none
    lever, spread = places_of_joints(way, rays)
    nearest = np.clip(np.searchsorted((way.t_s[1:] + way.t_s[:-1]) / 2, rays.t_s), 0, frames - 1)
    late = rays.t_s - way.t_s[nearest]
    near = np.abs(late) < 0.75 * float(np.median(np.diff(way.t_s)))
    if not near.any():  # the room cameras filmed at another time
        return none
    rays, nearest, late = rays[near], nearest[near], late[near]
    sigma = rays.sigma_rad * spread[rays.joint]
    carried = way.motion[nearest] * late[:, None]
    pose, H = _solve(way.world_from_cam, rays, nearest, carried, lever[rays.joint], sigma)
    joints = np.zeros((frames, int(rays.joint.max()) + 1))
    np.add.at(joints, (nearest, rays.joint), 1)
    solvable = (joints.sum(axis=1) >= _MIN_RAYS) & ((joints > 0).sum(axis=1) >= _MIN_JOINTS)
    covariance = np.where(solvable[:, None, None], np.linalg.inv(H + np.diag(_DAMPING)), np.eye(6))
    checked = way.used & solvable
    if checked.sum() < _MIN_CHECKED:
        return none
    inflation = _inflation(way.world_from_cam[checked].local(pose[checked]), covariance[checked])
    covariance = covariance * inflation
    sigmas = np.sqrt(np.einsum("nii->ni", covariance))
    known = solvable & (sigmas[:, 3:].max(axis=-1) < config.max_position_sigma_m)
    known &= sigmas[:, :3].max(axis=-1) < config.max_rotation_sigma_rad
    known &= bridged(way.t_s, way.used, config.max_gap_s)
    return Bridge(pose, covariance, known, inflation)


def _solve(
    start: SE3, rays: JointRays, frame: np.ndarray, carried: np.ndarray, lever: np.ndarray, sigma: np.ndarray
) -> tuple[SE3, np.ndarray]:
    """Gauss-Newton on every frame at once; poses, and their normal matrices (frames, 6, 6)."""
    pose, scale = start, 1 / sigma[:, None]
    frames = len(start)
    for round_ in range(_ROUNDS + 1):
        at = pose[frame].retract(carried)
        offset = at.apply(lever) - rays.centre_m
        distance = np.linalg.norm(offset, axis=-1)[:, None]
        toward = offset / distance
        residual = (toward - rays.ray) * scale
        by_point = (np.eye(3) - toward[:, :, None] * toward[:, None, :]) * (scale / distance)[..., None]
        J = np.concatenate([-by_point @ at.R @ hat(lever), by_point], axis=-1)
        weight = robust_weight((residual**2).sum(axis=-1), "cauchy", _LOSS_SIGMAS)
        H, g = np.zeros((frames, 6, 6)), np.zeros((frames, 6))
        np.add.at(H, frame, weight[:, None, None] * (np.swapaxes(J, -1, -2) @ J))
        np.add.at(g, frame, weight[:, None] * np.einsum("nki,nk->ni", J, residual))
        if round_ < _ROUNDS:
            pose = pose.retract(-np.linalg.solve(H + np.diag(_DAMPING), g[..., None])[..., 0])
    return pose, H


def _inflation(off: Float[np.ndarray, "n 6"], covariance: Float[np.ndarray, "n 6 6"]) -> float:
    """Squared ratio of the errors that stay over a block of frames to what independent ones would leave; 1 or more."""
    whitened = np.linalg.solve(np.linalg.cholesky(covariance), off[..., None])[..., 0]
    blocks = len(whitened) // _BLOCK
    means = whitened[: blocks * _BLOCK].reshape(blocks, _BLOCK, 6).mean(axis=1) * np.sqrt(_BLOCK)
    return max(1.0, float((_MAD_TO_SIGMA * np.median(np.abs(means))) ** 2))
