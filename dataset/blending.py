"""One clip into the next of the same person: moved to where the last ended, then mixed over a few frames.

The second clip is turned about the vertical and shifted on the floor, no more, until its heading and its standing feet
are where the first has them. Rotations go along SO(3) with a weight whose first and second derivatives vanish at both
ends (the minimum-jerk quintic), so velocity and acceleration do not jump. The pelvis follows from the feet, not the
other way round: a foot that stands in both clips stands in between, and bones keep their lengths.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from core.arrays import Float
from core.skeletons import SMPL_24
from dataset.bones import Bones
from dataset.cutting import part
from dataset.features import heading
from dataset.rotations import matrix_from_rotvec, rotvec_from_matrix, slerp, yaw_matrix
from dataset.schema import CONTACTS, Clip

# the joint that moves with each contact, in the order of CONTACTS
_FEET = [SMPL_24.idx(name.replace("heel", "ankle").replace("toe", "foot")) for name in CONTACTS]
# what a foot that stands in neither clip counts beside one that stands in both
_LEAST_WEIGHT = 1e-3
# a foot whose places in the two clips are further apart on average moves between them, metres
_SAME_PLACE_M = 0.05
_PER_FRAME = ("poses", "trans", "joints_m", "joint_covariance", "valid", "reasons", "contacts", "actions")


def moved(clip: Clip, yaw: float, shift_m: Float[np.ndarray, "3"]) -> Clip:
    """The clip turned about world z by `yaw` radians, then shifted."""
    turn = yaw_matrix(np.asarray(yaw))
    joints, poses = clip.joints_m.astype(np.float64) @ turn.T + shift_m, clip.poses.astype(np.float64)
    poses[:, 0] = rotvec_from_matrix(turn @ matrix_from_rotvec(poses[:, 0]))
    rows, columns = np.triu_indices(3)
    covariance = np.empty((*clip.joint_covariance.shape[:-1], 3, 3))
    covariance[..., rows, columns] = covariance[..., columns, rows] = clip.joint_covariance
    return dataclasses.replace(
        clip,
        poses=poses,
        trans=joints[:, 0] - (clip.joints_m[:, 0].astype(np.float64) - clip.trans),
        joints_m=joints,
        joint_covariance=(turn @ covariance @ turn.T)[..., rows, columns],
    )


def weights_of_second(num_frames: int) -> Float[np.ndarray, "frames"]:
    """Weight of the second clip in each of the mixed frames; 0 in the frame before them, 1 in the one after."""
    u = np.arange(1, num_frames + 1) / (num_frames + 1)
    return u**3 * (10 - 15 * u + 6 * u**2)


def standing(first: Clip, second: Clip) -> Float[np.ndarray, "4"]:
    """How long each foot's heel and toe stand in both of two clips of equal length, 0 to 1."""
    both = np.nan_to_num(first.contacts) * np.nan_to_num(second.contacts)
    return both.astype(np.float64).mean(axis=0)


def aligned(first: Clip, second: Clip, num_frames: int) -> Clip:
    """The whole second clip where it goes on from the first: in the middle of the mixed frames both have one heading
    and one place of their standing feet.
    """
    tail, head, middle = _last(first, num_frames), _first(second, num_frames), num_frames // 2
    yaw = float(heading(tail.joints_m)[middle] - heading(head.joints_m)[middle])
    feet = _foot_weights(tail, head)
    places = [feet @ clip.joints_m[middle, _FEET].astype(np.float64) for clip in (tail, moved(head, yaw, np.zeros(3)))]
    shift = places[0] - places[1]
    return moved(second, yaw, np.array([shift[0], shift[1], 0.0]))


def mixed(first: Clip, second: Clip, num_frames: int, bones: Bones) -> Clip:
    """The frames between two clips of one body: the last `num_frames` of the first with as many of the second."""
    a, b, w = _last(first, num_frames), _first(second, num_frames), weights_of_second(num_frames)
    poses = slerp(a.poses.astype(np.float64), b.poses.astype(np.float64), w[:, None])
    relative, feet = bones.joints(poses), _foot_weights(a, b)
    wanted = feet @ _mix(a.joints_m[:, _FEET], b.joints_m[:, _FEET], w)
    joints = relative + (wanted - feet @ relative[:, _FEET])[:, None]
    rest = _mix(a.joints_m[:, 0].astype(np.float64) - a.trans, b.joints_m[:, 0].astype(np.float64) - b.trans, w)
    second_half = np.arange(num_frames) >= num_frames // 2
    return dataclasses.replace(
        a,
        poses=poses,
        trans=joints[:, 0] - rest,
        joints_m=joints,
        joint_covariance=_mix(a.joint_covariance, b.joint_covariance, w),
        valid=a.valid & b.valid,
        reasons=a.reasons | b.reasons,
        contacts=_contacts(a, b, w),
        actions=None
        if a.actions is None or b.actions is None
        else np.where(second_half[:, None], b.actions, a.actions),
    )


def _contacts(first: Clip, second: Clip, w: Float[np.ndarray, "frames"]) -> Float[np.ndarray, "frames 4"]:
    """A foot that only one of the two puts down, or each in another place, moves in between."""
    apart_m = np.linalg.norm(first.joints_m[:, _FEET] - second.joints_m[:, _FEET], axis=-1).mean(axis=0)
    both = np.nan_to_num(first.contacts) ** (1 - w[:, None]) * np.nan_to_num(second.contacts) ** w[:, None]
    return np.where(apart_m < _SAME_PLACE_M, both, 0.0)


def _foot_weights(first: Clip, second: Clip) -> Float[np.ndarray, "4"]:
    """Weights of the four contacts, which add up to 1; constant over the mix, for a step in them would be a jump."""
    weights = standing(first, second) ** 2 + _LEAST_WEIGHT
    return weights / weights.sum()


def _mix(
    first: Float[np.ndarray, "frames *rest"], second: Float[np.ndarray, "frames *rest"], w: Float[np.ndarray, "frames"]
) -> Float[np.ndarray, "frames *rest"]:
    w = w.reshape(-1, *(1,) * (first.ndim - 1))
    return (1 - w) * first.astype(np.float64) + w * second.astype(np.float64)


def _last(clip: Clip, num_frames: int) -> Clip:
    return part(clip, len(clip) - num_frames, len(clip), clip.id)


def _first(clip: Clip, num_frames: int) -> Clip:
    return part(clip, 0, num_frames, clip.id)


def joined(clips: Sequence[Clip]) -> Clip:
    """Clips one after the other, float32 as on disk; what is not an array is the first's."""
    present = [name for name in _PER_FRAME if getattr(clips[0], name) is not None]
    arrays = {name: np.concatenate([getattr(clip, name) for clip in clips]) for name in present}
    whole: dict[str, Any] = {
        name: array.astype(np.float32) if array.dtype.kind == "f" else array for name, array in arrays.items()
    }
    return dataclasses.replace(clips[0], **whole)
