"""Joints of Kinect v2 as NTU RGB+D and PKU-MMD order them, from SMPL's and the other way round.

Twenty joints are in both skeletons (`KINECT_OF_SMPL`) and are passed on as they are, so that what both have survives
there and back exactly. The others are made from their neighbours by the weights below, and a mask says so:

- Kinect's neck lies halfway from SMPL's neck, which is Kinect's spine between the shoulders, to the head; hand tips and
  thumbs stand at the hand.
- SMPL's spine1 lies halfway from the pelvis to spine2, spine3 halfway on to the neck, collars halfway from the neck to
  the shoulder.
- Where hands are not among SMPL's joints (the 22 of `dataset.features`), a palm lies beyond the wrist, on the line of
  the forearm, by a third of its length.

Maps know nothing of worlds and scales: joints stay in the frame that they are in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from core.arrays import Bool, Float
from core.errors import InputError
from core.skeletons import SMPL_24, Skeleton

# names of Shahroudy et al. 2016; where a joint is SMPL's, SMPL's name
KINECT_25 = Skeleton(
    "KINECT_25",
    (
        "pelvis", "spine2", "kinect_neck", "head", "left_shoulder", "left_elbow", "left_wrist", "left_hand",
        "right_shoulder", "right_elbow", "right_wrist", "right_hand", "left_hip", "left_knee", "left_ankle",
        "left_foot", "right_hip", "right_knee", "right_ankle", "right_foot", "neck", "left_tip", "left_thumb",
        "right_tip", "right_thumb",
    ),
    (
        ("pelvis", "spine2"), ("spine2", "neck"), ("neck", "kinect_neck"), ("kinect_neck", "head"),
        *(
            (f"{side}_{a}" if a not in ("neck", "pelvis") else a, f"{side}_{b}")
            for side in ("left", "right")
            for a, b in (
                ("neck", "shoulder"), ("shoulder", "elbow"), ("elbow", "wrist"), ("wrist", "hand"), ("hand", "tip"),
                ("hand", "thumb"), ("pelvis", "hip"), ("hip", "knee"), ("knee", "ankle"), ("ankle", "foot"),
            )
        ),
    ),
)  # fmt: skip
# SMPL joint: Kinect joint, from 0
KINECT_OF_SMPL: Mapping[str, int] = {
    name: i for i, name in enumerate(KINECT_25.joints) if name in SMPL_24.joints
}  # fmt: skip

# a joint that is made: the joints that it is made of, with their weights
Made = Mapping[str, Sequence[tuple[str, float]]]
_PALMS: Made = {
    f"{side}_hand": ((f"{side}_wrist", 4 / 3), (f"{side}_elbow", -1 / 3)) for side in ("left", "right")
}  # fmt: skip
_KINECT_MADE: Made = {
    "kinect_neck": (("neck", 0.5), ("head", 0.5)),
    **{f"{side}_{part}": ((f"{side}_hand", 1.0),) for side in ("left", "right") for part in ("tip", "thumb")},
}
_SMPL_MADE: Made = {
    "spine1": (("pelvis", 0.5), ("spine2", 0.5)),
    "spine3": (("spine2", 0.5), ("neck", 0.5)),
    **{f"{side}_collar": (("neck", 0.5), (f"{side}_shoulder", 0.5)) for side in ("left", "right")},
}


def ntu_from_smpl(
    joints_m: Float[np.ndarray, "*batch joints 3"],
) -> tuple[Float[np.ndarray, "*batch 25 3"], Bool[np.ndarray, "25"]]:
    """Kinect's joints from SMPL's, and which of them SMPL has too.

    Args:
        joints_m: the first 22 joints of SMPL or all 24; NaN stays NaN, in what is made of it as well.

    Raises:
        InputError: if there are fewer than 22 or more than 24 joints.
    """
    num = joints_m.shape[-2]
    if not 22 <= num <= len(SMPL_24):
        raise InputError("skeleton", f"{num} joints", "give the first 22 joints of SMPL, or all 24")
    known = {name: joints_m[..., i, :] for i, name in enumerate(SMPL_24.joints[:num])}
    return _mapped(known, KINECT_25.joints, ({} if num == len(SMPL_24) else _PALMS, _KINECT_MADE))


def smpl_from_ntu(
    joints_m: Float[np.ndarray, "*batch 25 3"], num_joints: int = 22
) -> tuple[Float[np.ndarray, "*batch joints 3"], Bool[np.ndarray, "joints"]]:
    """The first joints of SMPL from Kinect's, and which of them Kinect has too.

    Args:
        joints_m: joints of Kinect v2; NaN stays NaN, in what is made of it as well.
        num_joints: 22 without hands, 24 with them.
    """
    known = {name: joints_m[..., i, :] for i, name in enumerate(KINECT_25.joints)}
    return _mapped(known, SMPL_24.joints[:num_joints], (_SMPL_MADE,))


def _mapped(
    known: Mapping[str, np.ndarray], names: Sequence[str], steps: Sequence[Made]
) -> tuple[np.ndarray, np.ndarray]:
    """Joints of these names; what is not known is made, in so many steps."""
    have = dict(known)
    for made in steps:
        have |= {name: _weighted(have, of) for name, of in made.items()}
    joints = np.stack([have[name] for name in names], axis=-2)
    return joints, np.array([name in known for name in names])


def _weighted(have: Mapping[str, np.ndarray], of: Sequence[tuple[str, float]]) -> np.ndarray:
    first, weight = of[0]
    total = have[first] * weight
    for name, weight in of[1:]:
        total = total + have[name] * weight
    return np.asarray(total, dtype=have[first].dtype)
