"""Which joints of other skeletons are SMPL's, and how their local axes lie in SMPL's T-pose.

A joint of SMPL has a *point*, the source joint that stands where it stands, and a *turn*, the source joint whose
rotation moves what hangs on it; one without a turn keeps still relative to its parent, one without a point was not
measured. `axes` says for a source joint where SMPL's x (left), y (up) and z (forward) of the T-pose lie in the joint's
own frame: `("z", "x", "y")` where the joint's x axis points along the spine. Skeletons whose zero rotations are a
person who stands and faces z, y up, need none.

Skeletons disagree on where hips, spine and neck joints lie in a body, but hardly on the directions of limbs. So limbs
are aligned by the directions of their bones, and trunk, head and feet by their axes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from core.arrays import Float
from core.errors import InputError
from core.transforms import so3_exp

Axes = tuple[str, str, str]


@dataclass(frozen=True)
class SkeletonMap:
    """A source skeleton in terms of SMPL's.

    Attributes:
        name: of the skeleton.
        points: SMPL joint -> source joint at its place.
        turns: SMPL joint -> source joint whose rotation it follows.
        axes: SMPL joint -> its T-pose axes in the frame of the joint it follows; parallel where left out.
        lean_deg: SMPL joint -> by how much the joint that it follows is turned, beyond `axes`, when SMPL's stands as in
            the T-pose: forward and down about the axis to the left, then about the axis forward.
        bones: joint -> direction in its parent's frame, where a conversion to this skeleton kept the rotations of a
            capture whose bones pointed otherwise.
        unit_m: of the files; None where it is found by the length of the legs.
    """

    name: str
    points: Mapping[str, str]
    turns: Mapping[str, str]
    axes: Mapping[str, Axes] = field(default_factory=dict)
    lean_deg: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    bones: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)
    unit_m: float | None = None

    def joint_from_smpl(self, joint: str) -> Float[np.ndarray, "3 3"]:
        """Rotation from the T-pose axes of an SMPL joint to the frame of the source joint that it follows."""
        signs = [
            (axis.removeprefix("-"), -1.0 if axis.startswith("-") else 1.0) for axis in self.axes.get(joint, "xyz")
        ]
        rotation = np.stack([sign * np.eye(3)["xyz".index(axis)] for axis, sign in signs], axis=1)
        forward, spread = np.deg2rad(self.lean_deg.get(joint, (0.0, 0.0)))
        # where the source's joint leans, SMPL's leans back in its frame
        return rotation @ so3_exp(np.array([-forward, 0.0, 0.0])) @ so3_exp(np.array([0.0, 0.0, -spread]))


def _sides(middle: Mapping[str, str], limbs: Mapping[str, str], left: str, right: str) -> dict[str, str]:
    """A mapping of the middle and of both sides; `{}` in a source name stands for `left` or `right`."""
    named = {f"left_{joint}": name.format(left) for joint, name in limbs.items()}
    return {**middle, **named, **{f"right_{joint}": name.format(right) for joint, name in limbs.items()}}


_DAZ = {
    "hip": "{}Thigh", "knee": "{}Shin", "ankle": "{}Foot", "collar": "{}Collar", "shoulder": "{}Shldr",
    "elbow": "{}ForeArm", "wrist": "{}Hand",
}  # fmt: skip
_DAZ_MIDDLE = {"pelvis": "hip", "spine1": "abdomen", "spine3": "chest", "neck": "neck", "head": "head"}
# CMU's takes in this skeleton have the rotations of CMU's own ASF/AMC files but for constant turns. Those, and the
# directions of the limbs that go with them, are means over the ten takes that are there in both; half a degree is left.
_DAZ_ARM, _DAZ_THIGH = (0.989, -0.146, 0.0), (0.0, -0.996, -0.092)
DAZ = SkeletonMap(
    "daz",
    points=_sides(_DAZ_MIDDLE, {**_DAZ, "foot": "{}Foot_end", "hand": "{}Mid1"}, "l", "r"),
    turns=_sides(_DAZ_MIDDLE, _DAZ, "l", "r"),
    lean_deg={"neck": (15.8, 0.0), "head": (-16.2, 0.0), "left_ankle": (3.4, 0.0), "right_ankle": (3.4, 0.0)},
    bones={
        **dict.fromkeys(("lForeArm", "lHand", "lMid1"), _DAZ_ARM),
        **dict.fromkeys(("rForeArm", "rHand", "rMid1"), (-_DAZ_ARM[0], *_DAZ_ARM[1:])),
        **dict.fromkeys(("lShin", "rShin"), _DAZ_THIGH),
    },
    unit_m=0.01,
)

_BANDAI = {
    "hip": "UpperLeg_{}", "knee": "LowerLeg_{}", "ankle": "Foot_{}", "foot": "Toes_{}", "collar": "Shoulder_{}",
    "shoulder": "UpperArm_{}", "elbow": "LowerArm_{}", "wrist": "Hand_{}",
}  # fmt: skip
_BANDAI_MIDDLE = {"pelvis": "Hips", "spine1": "Spine", "spine3": "Chest", "neck": "Neck", "head": "Head"}
BANDAI = SkeletonMap(
    "bandai",
    points=_sides(_BANDAI_MIDDLE, _BANDAI, "L", "R"),
    turns=_sides(_BANDAI_MIDDLE, _BANDAI, "L", "R"),
    axes={
        "pelvis": ("-y", "x", "z"), **dict.fromkeys(("spine1", "spine3", "neck", "head"), ("z", "x", "y")),
        **dict.fromkeys(("left_hip", "left_knee"), ("y", "-x", "z")),
        **dict.fromkeys(("right_hip", "right_knee"), ("y", "x", "-z")),
        **dict.fromkeys(("left_ankle", "left_foot"), ("y", "z", "x")),
        **dict.fromkeys(("right_ankle", "right_foot"), ("y", "-z", "-x")),
        "left_collar": ("x", "y", "z"), "right_collar": ("x", "-y", "-z"),
        **dict.fromkeys(("left_shoulder", "left_elbow", "left_wrist"), ("x", "y", "z")),
        **dict.fromkeys(("right_shoulder", "right_elbow", "right_wrist"), ("x", "-y", "-z")),
    },
    # of feet that stand, in all its clips
    lean_deg={
        **dict.fromkeys(("left_ankle", "right_ankle"), (39.6, 0.0)),
        **dict.fromkeys(("left_foot", "right_foot"), (22.0, 0.0)),
    },
    unit_m=0.01,
)  # fmt: skip

_ACCLAIM = {
    "hip": "{}femur", "knee": "{}tibia", "ankle": "{}foot", "foot": "{}toes", "collar": "{}clavicle",
    "shoulder": "{}humerus", "elbow": "{}radius", "wrist": "{}hand",
}  # fmt: skip
# lowerback turns about the root itself, in the midst of what SMPL calls the pelvis; upperback and thorax are its spine
_ACCLAIM_POINTS = {"pelvis": "root", "spine1": "upperback", "spine2": "thorax", "neck": "upperneck", "head": "head"}
_ACCLAIM_TURNS = {"pelvis": "root", "spine1": "upperback", "spine3": "thorax", "neck": "lowerneck", "head": "head"}
ACCLAIM = SkeletonMap(
    "acclaim",
    points=_sides(_ACCLAIM_POINTS, {**_ACCLAIM, "hand": "{}fingers"}, "l", "r"),
    turns=_sides(_ACCLAIM_TURNS, _ACCLAIM, "l", "r"),
    # its rest pose straddles, feet and all; the ankle's lean is that of feet that stand
    lean_deg={
        "left_ankle": (3.6, -20.0),
        "left_foot": (0.0, -20.0),
        "right_ankle": (3.6, 20.0),
        "right_foot": (0.0, 20.0),
    },
)

_BUILDER = {
    "hip": "{}UpLeg", "knee": "{}Leg", "ankle": "{}Foot", "foot": "{}ToeBase", "collar": "{}Shoulder",
    "shoulder": "{}Arm", "elbow": "{}ForeArm", "wrist": "{}Hand",
}  # fmt: skip
_BUILDER_MIDDLE = {
    "pelvis": "Hips", "spine1": "Spine", "spine2": "Spine1", "spine3": "Spine2", "neck": "Neck", "head": "Head",
}  # fmt: skip
MOTION_BUILDER = SkeletonMap(
    "motion-builder",
    points=_sides(_BUILDER_MIDDLE, _BUILDER, "Left", "Right"),
    turns=_sides(_BUILDER_MIDDLE, _BUILDER, "Left", "Right"),
)

MAPS = (DAZ, BANDAI, ACCLAIM, MOTION_BUILDER)


def map_of(names: Sequence[str], item: str) -> SkeletonMap:
    """The map whose joints all are among a file's; a common prefix such as `mixamorig:` was taken off.

    Raises:
        InputError: if there is none.
    """
    there = set(names)
    for found in MAPS:
        if there.issuperset([*found.points.values(), *found.turns.values()]):
            return found
    known = ", ".join(found.name for found in MAPS)
    problem = f"its joints ({', '.join(list(names)[:5])}, ...) are of no known skeleton ({known})"
    raise InputError(item, problem, "add a SkeletonMap to dataset/importers/skeleton_maps.py")
