"""From frame vectors back to the world: the root's path, joints, and SMPL's `poses` and `trans`.

The vectors hold the root's velocities, so where a motion begins must be given (`Start`); errors of float32 add up along
the way, by about 1e-7 of the path's length a frame. Hands are not in the vectors and come back at rest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from core.arrays import Float
from core.skeletons import SMPL_24
from dataset.features import LAYOUT, NUM_FEATURE_JOINTS, heading
from dataset.rotations import matrix_from_sixd, rotvec_from_matrix, yaw_matrix


@dataclass(frozen=True, eq=False)
class Start:
    """Where a motion begins, and the one number of its body that leads from the pelvis to SMPL's `trans`.

    Attributes:
        yaw: heading of the first frame, radians.
        xy_m: ground position of the pelvis in the first frame, metres in the world.
        rest_pelvis_m: pelvis of the shaped body at rest; `trans` is the pelvis less this.
    """

    yaw: float
    xy_m: tuple[float, float]
    rest_pelvis_m: Float[np.ndarray, "3"]

    @staticmethod
    def of(joints_m: Float[np.ndarray, "frames 24 3"], trans: Float[np.ndarray, "frames 3"]) -> Start:
        """Of a motion with known joints and `trans`, whose first frame is whole."""
        rest = np.nanmedian(joints_m[:, 0].astype(np.float64) - trans.astype(np.float64), axis=0)
        return Start(float(heading(joints_m)[0]), (float(joints_m[0, 0, 0]), float(joints_m[0, 0, 1])), rest)


def smpl_from_features(
    features: Float[np.ndarray, "frames 271"], rate_hz: float, start: Start, scale: float = 1.0
) -> tuple[Float[np.ndarray, "frames 24 3"], Float[np.ndarray, "frames 3"]]:
    """SMPL's poses (axis-angle, hands at rest) and `trans` (metres).

    Args:
        features: not normalised, no frame missing.
        rate_hz: their rate.
        start: where the motion begins.
        scale: body normalisation that the features were made with; it is taken off again.
    """
    _, xy = root_path(features, rate_hz, start.yaw)
    height = features[:, LAYOUT.positions][:, 2:3].astype(np.float64)
    pelvis = np.concatenate([xy, height], axis=1) / scale
    pelvis[:, :2] += start.xy_m
    return poses_from_features(features, rate_hz, start.yaw), pelvis - start.rest_pelvis_m


def root_path(
    features: Float[np.ndarray, "*batch frames 271"],
    rate_hz: float,
    yaw0: float = 0.0,
    xy0: tuple[float, float] = (0.0, 0.0),
) -> tuple[Float[np.ndarray, "*batch frames"], Float[np.ndarray, "*batch frames 2"]]:
    """Yaw (rad) and ground position (m) of every frame, by adding up the root's velocities from a given start."""
    step = features[..., :-1, :].astype(np.float64) / rate_hz
    here = np.zeros((*features.shape[:-2], 1))
    yaw = yaw0 + np.concatenate([here, np.cumsum(step[..., LAYOUT.yaw_rate.start], axis=-1)], axis=-1)
    flat = np.concatenate([step[..., LAYOUT.root_velocity], np.zeros_like(step[..., :1])], axis=-1)
    world = (yaw_matrix(yaw[..., :-1]) @ flat[..., None])[..., :2, 0]
    way = np.concatenate([np.stack([here, here], axis=-1), np.cumsum(world, axis=-2)], axis=-2)
    return yaw, np.asarray(xy0) + way


def joints_from_features(
    features: Float[np.ndarray, "*batch frames 271"],
    rate_hz: float,
    yaw0: float = 0.0,
    xy0: tuple[float, float] = (0.0, 0.0),
) -> Float[np.ndarray, "*batch frames 22 3"]:
    """World joints (of the normalised body), from the positions and the summed root path."""
    yaw, xy = root_path(features, rate_hz, yaw0, xy0)
    local = features[..., LAYOUT.positions].astype(np.float64).reshape(*features.shape[:-1], NUM_FEATURE_JOINTS, 3)
    world = local @ np.swapaxes(yaw_matrix(yaw), -1, -2)
    world[..., :2] += xy[..., None, :]
    return world


def poses_from_features(
    features: Float[np.ndarray, "frames 271"], rate_hz: float, yaw0: float = 0.0
) -> Float[np.ndarray, "frames 24 3"]:
    """SMPL's axis-angle poses; the hands, which the vector lacks, stay at rest."""
    yaw, _ = root_path(features, rate_hz, yaw0)
    matrices = matrix_from_sixd(features[:, LAYOUT.rotations].astype(np.float64).reshape(-1, NUM_FEATURE_JOINTS, 6))
    matrices[:, 0] = yaw_matrix(yaw) @ matrices[:, 0]
    poses = np.zeros((len(features), len(SMPL_24), 3))
    poses[:, :NUM_FEATURE_JOINTS] = rotvec_from_matrix(matrices)
    return poses
