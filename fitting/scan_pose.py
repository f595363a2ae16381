"""The A-pose: how people stand for a scan, and how far from it they may."""

from __future__ import annotations

import numpy as np

from core.arrays import Float
from core.skeletons import SMPL_24
from fitting.smpl import rodrigues

_ARMS_DOWN_RAD = np.deg2rad(45.0)
_LEGS_APART_RAD = np.deg2rad(6.0)

A_POSE: Float[np.ndarray, "24 3"] = np.zeros((24, 3))
"""Rotation vectors of arms 45 degrees down and feet a little apart; the root's is zero."""
for _side, _sign in (("left", 1.0), ("right", -1.0)):
    A_POSE[SMPL_24.idx(f"{_side}_shoulder"), 2] = -_sign * _ARMS_DOWN_RAD
    A_POSE[SMPL_24.idx(f"{_side}_hip"), 2] = _sign * _LEGS_APART_RAD
A_POSE.setflags(write=False)

# Degrees by which people asked for an A-pose stray from it; arms most. Joints that a scan hardly shows (the spine's,
# the toes', the hands') stray little, so that noise does not bend them.
_SPREAD_DEG = {
    "hip": 12.0, "knee": 8.0, "ankle": 10.0, "foot": 4.0, "spine": 6.0, "neck": 10.0, "head": 10.0, "collar": 8.0,
    "shoulder": 20.0, "elbow": 15.0, "wrist": 12.0, "hand": 8.0,
}  # fmt: skip


def a_pose_spread() -> Float[np.ndarray, "23 3"]:
    """Standard deviations about the A-pose of all joints but the pelvis, radians."""
    parts = [name.removeprefix("left_").removeprefix("right_").rstrip("123") for name in SMPL_24.joints[1:]]
    return np.deg2rad([[_SPREAD_DEG[part]] * 3 for part in parts])


def upright(pose: Float[np.ndarray, "24 3"], heading_rad: float) -> Float[np.ndarray, "24 3 3"]:
    """Rotations of a pose whose pelvis stands upright in a world with z up; at heading 0 it faces -y."""
    rotations = rodrigues(pose)
    stand = rodrigues(np.array([[0.0, 0.0, heading_rad], [np.pi / 2, 0.0, 0.0]]))
    rotations[0] = stand[0] @ stand[1] @ rotations[0]
    return rotations
