"""Alignment of a result to a reference, and its errors against the truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from core.arrays import Float
from core.cameras import Rig
from core.transforms import SE3, align_points, geodesic, mean_rotation


@dataclass(frozen=True, eq=False)
class PoseErrors:
    """Errors of poses against the truth.

    Attributes:
        centre_m: (n,) distance of the centres, metres.
        rotation_rad: (n,) angle between the orientations, radians.
    """

    centre_m: Float[np.ndarray, "n"]
    rotation_rad: Float[np.ndarray, "n"]

    @property
    def median_mm(self) -> float:
        """Median distance of the centres, millimetres."""
        return float(np.nanmedian(self.centre_m) * 1000)

    @property
    def rmse_mm(self) -> float:
        """Root mean square distance of the centres, millimetres."""
        return float(np.sqrt(np.nanmean(self.centre_m**2)) * 1000)

    @property
    def median_deg(self) -> float:
        """Median angle, degrees."""
        return float(np.degrees(np.nanmedian(self.rotation_rad)))


def pose_errors(world_from_cam: SE3, truth: SE3) -> PoseErrors:
    """Errors of poses (n,) that share the truth's world; NaN poses give NaN errors."""
    known = np.isfinite(world_from_cam.t[:, 0]) & np.isfinite(truth.t[:, 0])
    centre, angle = np.full(len(truth), np.nan), np.full(len(truth), np.nan)
    centre[known] = np.linalg.norm(world_from_cam.t[known] - truth.t[known], axis=-1)
    angle[known] = geodesic(world_from_cam.R[known], truth.R[known])
    return PoseErrors(centre, angle)


def rig_poses(rig: Rig) -> SE3:
    """`world_from_cam` of all cameras (views,)."""
    return SE3.stack([camera.world_from_cam for camera in rig])


def align_poses(source: SE3, target: SE3, *, with_scale: bool = False) -> tuple[SE3, float]:
    """`target_from_source` world, from poses of the same cameras in both.

    Three cameras or more that do not stand in a line are aligned by their centres (Umeyama 1991); fewer, or those in a
    line, by the mean rotation and the centres' mean.

    Returns:
        the transform and the scale (1 unless `with_scale`); `target ~ scale * R source + t`.
    """
    spread = np.linalg.svd(source.t - source.t.mean(axis=0), compute_uv=False)
    if len(source) >= 3 and spread[1] > 1e-3 * spread[0]:
        return align_points(source.t, target.t, with_scale=with_scale)
    R = mean_rotation(target.R @ np.swapaxes(source.R, -1, -2))
    S, T = source.t - source.t.mean(axis=0), target.t - target.t.mean(axis=0)
    moved = S @ R.T
    scale = float((moved * T).sum() / (moved**2).sum()) if with_scale and len(source) > 1 else 1.0
    return SE3(R, target.t.mean(axis=0) - scale * R @ source.t.mean(axis=0)), scale


def rig_errors(rig: Rig, truth: Rig, *, align: bool = False) -> PoseErrors:
    """Errors of a rig's cameras against the same cameras of the truth, in the truth's order.

    Args:
        rig: the result.
        truth: the reference; cameras are matched by id.
        align: align the worlds rigidly first, without scale.
    """
    ours, theirs = rig_poses(rig.subset(truth.ids)), rig_poses(truth)
    if align:
        ours = align_poses(ours, theirs)[0] @ ours
    return pose_errors(ours, theirs)
