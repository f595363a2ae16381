"""Skeletons: what a detector's or a body model's joints are called, and maps between them by name.

Joint names are one vocabulary for all skeletons. Two skeletons are only ever matched by name; detectors and body models
define some joints differently (SMPL's hip is not a detector's hip), which is the fit's business, not a map's.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from core.arrays import Int
from core.errors import InputError


@dataclass(frozen=True)
class Skeleton:
    """An ordered list of joints.

    Attributes:
        name: as users know it.
        joints: joint names in order.
        bones: pairs of joint names joined by a line in pictures.
        parents: index of each joint's parent (-1 for the root), for skeletons that are kinematic trees.
    """

    name: str
    joints: tuple[str, ...]
    bones: tuple[tuple[str, str], ...]
    parents: tuple[int, ...] | None = None

    def __len__(self) -> int:
        return len(self.joints)

    def idx(self, joint: str) -> int:
        """Position of a joint.

        Raises:
            InputError: if the skeleton has no such joint.
        """
        try:
            return self.joints.index(joint)
        except ValueError as error:
            raise InputError(joint, f"skeleton {self.name} has no such joint", f"use one of {self.joints}") from error

    @cached_property
    def bones_idx(self) -> Int[np.ndarray, "bones 2"]:
        """Bones as pairs of positions."""
        return np.array([[self.idx(a), self.idx(b)] for a, b in self.bones])

    @cached_property
    def swap_idx(self) -> Int[np.ndarray, "joints"]:
        """The permutation that exchanges left and right."""
        return np.array(
            [
                self.joints.index(_mirror_name(j)) if _mirror_name(j) in self.joints else i
                for i, j in enumerate(self.joints)
            ]
        )


def _mirror_name(joint: str) -> str:
    if joint.startswith("left_"):
        return "right_" + joint.removeprefix("left_")
    if joint.startswith("right_"):
        return "left_" + joint.removeprefix("right_")
    return joint


def map_joints(source: Skeleton, target: Skeleton) -> tuple[Int[np.ndarray, "k"], Int[np.ndarray, "k"]]:
    """Positions of the joints that both skeletons have: `target_array[dst] = source_array[src]`."""
    common = [joint for joint in target.joints if joint in source.joints]
    src = np.array([source.joints.index(j) for j in common], dtype=np.int64)
    dst = np.array([target.joints.index(j) for j in common], dtype=np.int64)
    return src, dst


def _sides(*pairs: tuple[str, str]) -> tuple[tuple[str, str], ...]:
    """Bones of the left side and their mirror images."""
    return tuple(pairs) + tuple((_mirror_name(a), _mirror_name(b)) for a, b in pairs)


SMPL_24 = Skeleton(
    "SMPL_24",
    (
        "pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2", "left_ankle", "right_ankle",
        "spine3", "left_foot", "right_foot", "neck", "left_collar", "right_collar", "head", "left_shoulder",
        "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hand", "right_hand",
    ),
    (
        ("pelvis", "spine1"), ("spine1", "spine2"), ("spine2", "spine3"), ("spine3", "neck"), ("neck", "head"),
        *_sides(
            ("pelvis", "left_hip"), ("left_hip", "left_knee"), ("left_knee", "left_ankle"), ("left_ankle", "left_foot"),
            ("spine3", "left_collar"), ("left_collar", "left_shoulder"), ("left_shoulder", "left_elbow"),
            ("left_elbow", "left_wrist"), ("left_wrist", "left_hand"),
        ),
    ),
    parents=(-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21),
)  # fmt: skip

_ARMS_AND_LEGS = _sides(
    ("left_shoulder", "left_elbow"), ("left_elbow", "left_wrist"),
    ("left_hip", "left_knee"), ("left_knee", "left_ankle"),
)  # fmt: skip
_TRUNK = (
    ("left_shoulder", "right_shoulder"), ("left_hip", "right_hip"),
    ("left_shoulder", "left_hip"), ("right_shoulder", "right_hip"),
)  # fmt: skip
_FACE = _sides(("nose", "left_eye"), ("left_eye", "left_ear"))
_FEET = _sides(("left_ankle", "left_heel"), ("left_ankle", "left_big_toe"), ("left_big_toe", "left_small_toe"))

COCO_17 = Skeleton(
    "COCO_17",
    (
        "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
        "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
        "right_ankle",
    ),
    _ARMS_AND_LEGS + _TRUNK + _FACE,
)  # fmt: skip

# OpenPose's neck is the midpoint of the shoulders and its mid_hip the midpoint of the hips.
BODY_25 = Skeleton(
    "BODY_25",
    (
        "nose", "mid_shoulder", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow",
        "left_wrist", "mid_hip", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle",
        "right_eye", "left_eye", "right_ear", "left_ear", "left_big_toe", "left_small_toe", "left_heel",
        "right_big_toe", "right_small_toe", "right_heel",
    ),
    (("nose", "mid_shoulder"), ("mid_shoulder", "mid_hip"), *_ARMS_AND_LEGS, *_TRUNK, *_FACE, *_FEET),
)  # fmt: skip

BODY_25B = Skeleton(
    "BODY_25B",
    (
        *COCO_17.joints, "upper_neck", "head_top", "left_big_toe", "left_small_toe", "left_heel", "right_big_toe",
        "right_small_toe", "right_heel",
    ),
    (("upper_neck", "head_top"), ("nose", "upper_neck"), *_ARMS_AND_LEGS, *_TRUNK, *_FACE, *_FEET),
)  # fmt: skip

# HALPE's neck is the midpoint of the shoulders and its hip the midpoint of the hips; its head is the top of the head.
HALPE_26 = Skeleton(
    "HALPE_26",
    (
        *COCO_17.joints, "head_top", "mid_shoulder", "mid_hip", "left_big_toe", "right_big_toe", "left_small_toe",
        "right_small_toe", "left_heel", "right_heel",
    ),
    (("head_top", "mid_shoulder"), ("mid_shoulder", "mid_hip"), *_ARMS_AND_LEGS, *_TRUNK, *_FACE, *_FEET),
)  # fmt: skip

# MediaPipe's joints of the body. Its eyelids, lips and fingers have no counterpart, so recordings are not declared as
# such: `map_joints` gives what HALPE has too.
MEDIAPIPE_33 = Skeleton(
    "MEDIAPIPE_33",
    (
        "nose", "left_inner_eye", "left_eye", "left_outer_eye", "right_inner_eye", "right_eye", "right_outer_eye",
        "left_ear", "right_ear", "left_mouth", "right_mouth", "left_shoulder", "right_shoulder", "left_elbow",
        "right_elbow", "left_wrist", "right_wrist", "left_pinky", "right_pinky", "left_index", "right_index",
        "left_thumb", "right_thumb", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle",
        "left_heel", "right_heel", "left_big_toe", "right_big_toe",
    ),
    _ARMS_AND_LEGS + _TRUNK,
)  # fmt: skip

SKELETONS = {s.name: s for s in (SMPL_24, COCO_17, BODY_25, BODY_25B, HALPE_26)}


def skeleton_named(name: str) -> Skeleton:
    """A skeleton by its name, hyphens and case ignored.

    Raises:
        InputError: if there is none.
    """
    key = name.upper().replace("-", "_")
    if key not in SKELETONS:
        raise InputError(name, "no such skeleton", f"use one of {', '.join(SKELETONS)}")
    return SKELETONS[key]
