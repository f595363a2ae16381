"""A first pose for every frame from triangulated points: trunk by Procrustes, limbs by turning bones onto their points.

The trunk's four corners, named left and right, decide which way the body faces, so the fit never starts turned
backwards. Frames whose trunk is not seen take their root from the neighbours in time.
"""

from __future__ import annotations

import numpy as np

from core.arrays import Bool, Float
from core.errors import InputError
from core.skeletons import SMPL_24
from core.transforms import SE3, interpolate, nearest_rotation
from fitting.landmarks import Landmarks
from fitting.smpl import ShapedBody, rodrigues

_TRUNK = ("left_hip", "right_hip", "left_shoulder", "right_shoulder", "mid_hip", "mid_shoulder", "neck")
# joint that turns, point it turns about, point that it turns; from the trunk outwards
_SWINGS = tuple(
    (f"{side}_{joint}", f"{side}_{joint}", f"{side}_{end}")
    for side in ("left", "right")
    for joint, end in (("hip", "knee"), ("knee", "ankle"), ("shoulder", "elbow"), ("elbow", "wrist"))
)


def initial_pose(
    shaped: ShapedBody, landmarks: Landmarks, xyz_m: Float[np.ndarray, "frames points 3"]
) -> tuple[Float[np.ndarray, "frames joints 3 3"], Float[np.ndarray, "frames 3"]]:
    """Joint rotations (parent_from_joint, the root's in the world) and SMPL translations.

    Raises:
        InputError: if the trunk is seen in no frame.
    """
    num_joints = shaped.body.kind.num_joints
    rest = landmarks.positions(shaped.with_pose(np.zeros((num_joints, 3))))
    world_from_body = _trunk(rest, landmarks.names, xyz_m)
    R = np.broadcast_to(np.eye(3), (len(xyz_m), num_joints, 3, 3)).copy()
    R[:, 0] = world_from_body.R
    pelvis = shaped.rest_joints[0]
    # SMPL turns about the rest pelvis, not about the origin of the rest body
    transl = world_from_body.apply(pelvis) - pelvis
    for joint, start, end in _SWINGS:
        if start in landmarks.names and end in landmarks.names:
            _swing(shaped, landmarks, R, transl, SMPL_24.idx(joint), start, end, xyz_m)
    return R, transl


def _trunk(rest: np.ndarray, names: tuple[str, ...], xyz_m: np.ndarray) -> SE3:
    """world_from_body of every frame by Procrustes on the trunk's points."""
    idx = np.array([names.index(name) for name in _TRUNK if name in names])
    source, target = rest[idx], xyz_m[:, idx]
    weight = np.isfinite(target).all(axis=-1)[..., None].astype(float)
    total = np.maximum(weight.sum(axis=1), 1.0)
    target = np.nan_to_num(target)
    mean_source = (weight * source).sum(axis=1) / total
    mean_target = (weight * target).sum(axis=1) / total
    spread = weight * (source - mean_source[:, None])
    M = np.einsum("tki,tkj->tij", weight * (target - mean_target[:, None]), spread)
    singular = np.linalg.svd(M, compute_uv=False)
    # two independent directions fix a rotation; a trunk seen edge-on or as one line does not
    known = singular[:, 1] > 0.02 * np.maximum(singular[:, 0], 1e-3)
    if not known.any():
        raise InputError("fit", "shoulders and hips are seen together in no frame", "check keypoints and cameras")
    R = nearest_rotation(M[known])
    t = mean_target[known] - np.einsum("tij,tj->ti", R, mean_source[known])
    frames = np.flatnonzero(known).astype(float)
    return interpolate(SE3(R, t), frames, np.arange(len(xyz_m), dtype=float))


def _swing(
    shaped: ShapedBody,
    landmarks: Landmarks,
    R: np.ndarray,
    transl: np.ndarray,
    joint: int,
    start: str,
    end: str,
    xyz_m: np.ndarray,
) -> None:
    """Turns one joint by the smallest rotation that points its bone at the bone seen; in place."""
    a, b = landmarks.names.index(start), landmarks.names.index(end)
    posed = shaped.with_rotations(R, transl)
    position = landmarks.positions(posed)
    seen = xyz_m[:, b] - xyz_m[:, a]
    known: Bool[np.ndarray, "frames"] = np.isfinite(seen).all(axis=-1)
    world = posed.world_rotations[:, joint]
    old, new = (np.einsum("tji,tj->ti", world, v) for v in (position[:, b] - position[:, a], np.nan_to_num(seen)))
    R[known, joint] = R[known, joint] @ rodrigues(smallest_turn(old[known], new[known]))


def smallest_turn(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Rotation vectors (n, 3) that turn one direction onto the other about their common normal.

    Opposite directions have none: they are turned about the axis of x, y, z that is farthest from them.
    """
    axis = np.cross(old, new)
    sine = np.linalg.norm(axis, axis=-1)
    cosine = (old * new).sum(axis=-1)
    opposite = (cosine < 0) & (sine < 1e-9 * np.abs(cosine))
    axis[opposite] = np.cross(old[opposite], np.eye(3)[np.abs(old[opposite]).argmin(axis=-1)])
    length = np.linalg.norm(axis, axis=-1)
    return axis * (np.arctan2(sine, cosine) / np.maximum(length, 1e-12))[:, None]
