"""The three bodies of the SMPL family: their joints, their meshes, and where faces, hands and feet lie on them.

All share SMPL's trunk, arms and legs, joints 0 to 21. SMPL ends each arm in one hand joint. SMPL-H (Romero et al.,
"Embodied Hands", SIGGRAPH Asia 2017) has 15 finger joints a hand instead, on SMPL's mesh. SMPL-X (Pavlakos et al.,
CVPR 2019) puts a jaw and two eyeballs before the fingers and has a mesh, a shape space and expressions of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from core.arrays import Float, Int
from core.errors import InputError
from core.skeletons import SMPL_24, Skeleton

NUM_BODY_JOINTS = 22
"""Joints that all kinds share: pelvis to wrists."""

_FINGERS = ("index", "middle", "pinky", "ring", "thumb")

# Vertices as in the table of the smplx package (its fingers are fingertips here); the tops of the heads are the highest
# vertices of the mean bodies: SMPL's own, and SMPL-X's as SMPL-Anthropometry has it.
_SMPL_VERTICES: Mapping[str, int] = {
    "nose": 332, "right_eye": 6260, "left_eye": 2800, "right_ear": 4071, "left_ear": 583, "head_top": 411,
    "left_big_toe": 3216, "left_small_toe": 3226, "left_heel": 3387,
    "right_big_toe": 6617, "right_small_toe": 6624, "right_heel": 6787,
    "left_thumb_tip": 2746, "left_index_tip": 2319, "left_middle_tip": 2445, "left_ring_tip": 2556,
    "left_pinky_tip": 2673, "right_thumb_tip": 6191, "right_index_tip": 5782, "right_middle_tip": 5905,
    "right_ring_tip": 6016, "right_pinky_tip": 6133,
}  # fmt: skip
_SMPLX_VERTICES: Mapping[str, int] = {
    "nose": 9120, "right_eye": 9929, "left_eye": 9448, "right_ear": 616, "left_ear": 6, "head_top": 8976,
    "left_big_toe": 5770, "left_small_toe": 5780, "left_heel": 8846,
    "right_big_toe": 8463, "right_small_toe": 8474, "right_heel": 8635,
    "left_thumb_tip": 5361, "left_index_tip": 4933, "left_middle_tip": 5058, "left_ring_tip": 5169,
    "left_pinky_tip": 5286, "right_thumb_tip": 8079, "right_index_tip": 7669, "right_middle_tip": 7794,
    "right_ring_tip": 7905, "right_pinky_tip": 8022,
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class BodyKind:
    """What all models of one kind have in common.

    Attributes:
        name: as its publishers write it.
        skeleton: the joints and their tree.
        num_vertices: of the mesh.
        vertex_ids: vertices of named points of the face, the hands and the feet.
        num_hand_joints: finger joints of both hands together, the last of the joints.
    """

    name: str
    skeleton: Skeleton
    num_vertices: int
    vertex_ids: Mapping[str, int]
    num_hand_joints: int

    @property
    def model_type(self) -> str:
        """As smplx and AMASS's `surface_model_type` write it: smpl, smplh, smplx."""
        return self.name.lower().replace("-", "")

    @property
    def num_joints(self) -> int:
        """Joints, the pelvis included."""
        return len(self.skeleton)

    @property
    def num_pose_features(self) -> int:
        """Entries of R - I of all joints but the pelvis."""
        return 9 * (len(self.skeleton) - 1)

    @cached_property
    def parents(self) -> Int[np.ndarray, "joints"]:
        """Parent of each joint, -1 for the pelvis; a parent always comes before its children."""
        parents = np.array(self.skeleton.parents)
        parents.setflags(write=False)
        return parents

    @property
    def solved(self) -> BodyKind:
        """The kind whose joints a body's keypoints tell of: one without fingers, jaw and eyeballs."""
        return TRUNK_AND_LIMBS if self.num_hand_joints else self

    @cached_property
    def joint_of_smpl(self) -> Int[np.ndarray, "24"]:
        """The joint that stands for each of SMPL's 24; its hands' are the middle fingers' first where there are any."""
        names = [name.replace("_hand", "_middle1") if self.num_hand_joints else name for name in SMPL_24.joints]
        return np.array([self.skeleton.idx(name) for name in names])

    @cached_property
    def smpl_of_joint(self) -> Int[np.ndarray, "joints"]:
        """Which of SMPL's 24 joints each joint belongs to: fingers to a hand, jaw and eyeballs to the head."""
        if not self.num_hand_joints:
            return np.arange(self.num_joints)
        hands = [SMPL_24.idx(f"{side}_hand") for side in ("left", "right")]
        num_face = self.num_joints - NUM_BODY_JOINTS - self.num_hand_joints
        face, fingers = [SMPL_24.idx("head")] * num_face, np.repeat(hands, self.num_hand_joints // 2)
        return np.concatenate([np.arange(NUM_BODY_JOINTS), np.array(face, int), fingers])

    def add_children(self, values: Float[np.ndarray, "... joints last"]) -> None:
        """Adds to each joint's values those of all joints below it, in place; joints are the last axis but one."""
        for joint in range(self.num_joints - 1, 0, -1):
            values[..., self.parents[joint], :] += values[..., joint, :]


def _with_hands(name: str, face: tuple[str, ...] = (), fingers: tuple[str, ...] = _FINGERS) -> Skeleton:
    """SMPL's joints up to the wrists, joints of the face on the head, then three joints a finger."""
    assert SMPL_24.parents is not None
    joints, parents = list(SMPL_24.joints[:NUM_BODY_JOINTS]), list(SMPL_24.parents[:NUM_BODY_JOINTS])
    parents += [joints.index("head")] * len(face)
    joints += face
    for side in ("left", "right"):
        for finger in fingers:
            parents += [joints.index(f"{side}_wrist"), len(joints), len(joints) + 1]
            joints += [f"{side}_{finger}{k}" for k in (1, 2, 3)]
    bones = tuple((joints[parent], joint) for joint, parent in zip(joints[1:], parents[1:], strict=True))
    return Skeleton(name, tuple(joints), bones, tuple(parents))


SMPL = BodyKind("SMPL", SMPL_24, 6890, _SMPL_VERTICES, 0)
SMPL_H = BodyKind("SMPL-H", _with_hands("SMPLH_52"), 6890, _SMPL_VERTICES, 30)
# eyeballs, because everywhere else an eye is a point of the skin
SMPL_X = BodyKind(
    "SMPL-X", _with_hands("SMPLX_55", ("jaw", "left_eyeball", "right_eyeball")), 10475, _SMPLX_VERTICES, 30
)
KINDS = (SMPL, SMPL_H, SMPL_X)
TRUNK_AND_LIMBS = BodyKind("joints 0 to 21", _with_hands("BODY_22", fingers=()), NUM_BODY_JOINTS, {}, 0)
"""What a fit solves of bodies with fingers; its only vertices are its joints."""


def kind_of_poses(width: int, item: str) -> BodyKind:
    """The kind whose axis-angles are so many numbers a frame.

    Raises:
        InputError: if there is none.
    """
    widths = {3 * kind.num_joints: kind for kind in KINDS}
    if width not in widths:
        problem = f"poses of {width} columns are of no known body"
        raise InputError(item, problem, f"poses have {' or '.join(map(str, widths))} columns")
    return widths[width]
