"""Kinect's people as `dataset.features` has people: of one size, facing along x, above the floor; and the way back.

With it a network that has learned from SMPL's joints can be judged on NTU RGB+D and PKU-MMD, and one that has learned
from these on SMPL's. Kinect does not say where the floor is: it is taken to be where the lower foot is in the median
frame.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from core.arrays import Float, Int
from core.skeletons import SMPL_24
from dataset.features import REFERENCE_LEG_M, heading, leg_length
from dataset.kinect.actors import seen_whole
from dataset.kinect.joint_map import smpl_from_ntu
from dataset.rotations import yaw_matrix

_FEET = [SMPL_24.idx(name) for name in ("left_ankle", "right_ankle", "left_foot", "right_foot")]
# a leg shorter than this (metres) is a fault of the tracking, and nothing is scaled by it
_MIN_LEG_M = 0.3


def in_body_frame(
    joints_m: Float[np.ndarray, "people frames 25 3"], coordinates: Literal["start", "heading"], num_joints: int
) -> Float[np.ndarray, "people frames joints 3"]:
    """Joints of a clip's people in the frames that the features of SMPL's people are in (`dataset.features`).

    Args:
        joints_m: metres, z up, NaN where a person is not there.
        coordinates: `start`: x leads forward and y left in the first frame of the first person there, whose pelvis lies
            above the origin in it, and the others keep their place relative to it; `heading`: the same of every frame
            and every person by itself.
        num_joints: 25 for Kinect's, 22 for SMPL's.
    """
    seen = smpl_from_ntu(joints_m)[0].astype(np.float64)
    out = joints_m.astype(np.float64) if num_joints == joints_m.shape[2] else seen[:, :, :num_joints]
    if coordinates == "start":
        # the first person may come later than the frames that are looked at
        one = next((person for person in seen if seen_whole(person).any()), seen[0])
        return _placed(out, one, np.flatnonzero(seen_whole(one))[:1]).astype(np.float32)
    every = np.arange(joints_m.shape[1])
    people = [_placed(out[p : p + 1], seen[p], every) for p in range(len(out))]
    return np.concatenate(people).astype(np.float32)


def before_a_camera(joints_m: Float[np.ndarray, "*batch joints 3"]) -> Float[np.ndarray, "*batch joints 3"]:
    """People who face along x (`start`), turned to face along y: as people before a Kinect do, z up."""
    return np.stack([-joints_m[..., 1], joints_m[..., 0], joints_m[..., 2]], axis=-1)


def _placed(
    joints: Float[np.ndarray, "people frames joints 3"],
    body: Float[np.ndarray, "frames 22 3"],
    frames: Int[np.ndarray, "one_or_frames"],
) -> Float[np.ndarray, "people frames joints 3"]:
    """Joints turned and moved by a body's heading and pelvis, of one frame or of each, and scaled by its leg."""
    there = np.flatnonzero(seen_whole(body))
    if not len(there):
        return joints
    leg_m = leg_length(body)
    scale = REFERENCE_LEG_M / leg_m if leg_m > _MIN_LEG_M else 1.0
    floor = np.nanmedian(body[there][:, _FEET, 2].min(axis=1))
    origin = np.concatenate([body[frames, 0, :2], np.full((len(frames), 1), floor)], axis=1)
    return scale * (joints - origin[:, None]) @ yaw_matrix(heading(body)[frames])
