"""The same movement on other bodies: what a token should not depend on is varied while the network learns.

A mirror image and another tempo change the whole window. Lengths of limbs, posture and reach change the body alone, and
the student sees another one than the teacher does, so nothing about the body helps to predict the teacher's tokens.

Everything is drawn for the whole batch of a step from its number, so processes, parts and resumed runs agree.

Bodies are varied on frame vectors: each bone of the positions, and its velocity, is turned and scaled by one matrix for
the whole window, and joints are put together again from the pelvis on. Rotations and contacts stay as they were, so the
network must not see them (`DataConfig.inputs="motion"`).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch

from core.arrays import Bool, Float
from core.skeletons import SMPL_24
from dataset.features import LAYOUT, NUM_FEATURE_JOINTS, mirror_map
from dataset.rotations import matrix_from_rotvec
from model.segments import MotionBatch


@dataclass(frozen=True)
class BodyConfig:
    """How much is varied; nothing by default. Deviations are of normal distributions.

    Attributes:
        mirror: every second window with left and right exchanged.
        tempo: deviation of the logarithm of the speed.
        limbs: of the logarithm of the length of trunk, arms and legs; twice that of the widths of hips and shoulders.
        posture_rad: of the angles by which trunk, head, arms, forearms and legs are turned about the heading frame's
            axes; legs by 0.4 of it, trunk and head by 0.3 about all axes but the lateral one.
        reach: of the logarithm of how far a movement goes from its mean pose, and how fast.
    """

    mirror: bool = False
    tempo: float = 0.0
    limbs: float = 0.0
    posture_rad: float = 0.0
    reach: float = 0.0

    @property
    def vary(self) -> bool:
        """Whether student and teacher see different bodies."""
        return max(self.limbs, self.posture_rad, self.reach) > 0


def _joints(*names: str) -> list[int]:
    return [SMPL_24.idx(name) for name in names]


_TRUNK, _HEAD = _joints("spine1", "spine2", "spine3", "neck", "head"), _joints("neck", "head")
_HIPS = _joints("left_hip", "right_hip")
_SHOULDERS = _joints("left_collar", "right_collar", "left_shoulder", "right_shoulder")
_SIDES = ("left", "right")
_ARMS = {side: _joints(f"{side}_elbow", f"{side}_wrist") for side in _SIDES}
_FOREARMS = {side: _joints(f"{side}_wrist") for side in _SIDES}
_LEGS = {side: _joints(f"{side}_knee", f"{side}_ankle", f"{side}_foot") for side in _SIDES}
_BOTH_ARMS, _BOTH_LEGS = [*_ARMS["left"], *_ARMS["right"]], [*_LEGS["left"], *_LEGS["right"]]
# joints whose bones are scaled together, and how much as a share of `limbs`
_SCALED = ((_TRUNK, 1.0), (_BOTH_ARMS, 1.0), (_BOTH_LEGS, 1.0), (_HIPS, 2.0), (_SHOULDERS, 2.0))
# joints whose bones are turned together, and how much about each axis as a share of `posture_rad`; in this order
_TURNED = (
    ([*_TRUNK, *_SHOULDERS, *_BOTH_ARMS], (0.3, 1.0, 0.3)),
    (_HEAD, (0.3, 1.0, 0.3)),
    *((_ARMS[side], (1.0, 1.0, 1.0)) for side in _SIDES),
    *((_FOREARMS[side], (1.0, 1.0, 1.0)) for side in _SIDES),
    *((_LEGS[side], (0.4, 0.4, 0.4)) for side in _SIDES),
)
_ANKLES = _joints("left_ankle", "right_ankle")
_PARENTS = np.array(SMPL_24.parents)[:NUM_FEATURE_JOINTS]


def _chains() -> Float[np.ndarray, "joints joints"]:
    """Which bones lead from the floor below the pelvis to each joint."""
    chains = np.zeros((NUM_FEATURE_JOINTS, NUM_FEATURE_JOINTS), dtype=np.float32)
    for joint in range(NUM_FEATURE_JOINTS):
        chains[joint] = chains[_PARENTS[joint]] if joint else 0
        chains[joint, joint] = 1
    return chains


_CHAINS = torch.from_numpy(_chains())


@dataclass(frozen=True, eq=False)
class Bodies:
    """One body for each sequence.

    Attributes:
        bones: matrix of each bone, by the joint at its end.
        reach: factor of the movement about its mean pose.
    """

    bones: Float[torch.Tensor, "B J 3 3"]
    reach: Float[torch.Tensor, "B"]

    def rows(self, index: slice) -> Bodies:
        """Those of some sequences."""
        return Bodies(self.bones[index], self.reach[index])


@dataclass(frozen=True, eq=False)
class Variation:
    """What is varied in the batch of a step: mirror images of both, and the bodies of the student and the teacher."""

    mirror: Bool[np.ndarray, "B"]
    student: Bodies | None
    teacher: Bodies | None

    def rows(self, index: slice) -> Variation:
        """That of some sequences."""
        two = (None if body is None else body.rows(index) for body in (self.student, self.teacher))
        return Variation(self.mirror[index], *two)

    def apply(self, batch: MotionBatch) -> MotionBatch:
        """The batch as it is seen: `x` by the student, `teacher_x` by the teacher."""
        batch = _mirrored(batch, self.mirror) if self.mirror.any() else batch
        if self.student is None or self.teacher is None:
            return batch
        x, other = (on_body(batch.x, batch.atom >= 0, body) for body in (self.student, self.teacher))
        return dataclasses.replace(batch, x=x, teacher_x=other)


def draw_variation(config: BodyConfig, num_sequences: int, seed: int, step: int) -> Variation:
    """The variation of the whole batch of a step."""
    rng = np.random.default_rng([seed, 5, step + 1])  # with a zero at its end it would be another's of [seed, 5]
    mirror = rng.random(num_sequences) < 0.5 * config.mirror
    if not config.vary:
        return Variation(mirror, None, None)
    return Variation(mirror, *(_draw_bodies(config, num_sequences, rng) for _ in range(2)))


def _draw_bodies(config: BodyConfig, num: int, rng: np.random.Generator) -> Bodies:
    bone = np.tile(np.eye(3), (num, NUM_FEATURE_JOINTS, 1, 1))
    for joints, share in _SCALED:
        bone[:, joints] *= np.exp(rng.normal(0.0, share * config.limbs, (num, 1, 1, 1)))
    for joints, shares in _TURNED:
        turn = matrix_from_rotvec(rng.normal(0.0, 1.0, (num, 1, 3)) * config.posture_rad * np.array(shares))
        bone[:, joints] = turn @ bone[:, joints]
    reach = np.exp(rng.normal(0.0, config.reach, num))
    return Bodies(torch.from_numpy(bone.astype(np.float32)), torch.from_numpy(reach.astype(np.float32)))


def on_body(
    x_BTF: Float[torch.Tensor, "B T F"], valid_BT: Bool[torch.Tensor, "B T"], body: Bodies
) -> Float[torch.Tensor, "B T F"]:
    """The same movement on other bodies; the lower ankle keeps its mean height.

    Args:
        x_BTF: frame vectors (`dataset.features.LAYOUT`), metres and metres a second, not normalised.
        valid_BT: frames that exist; what stands in the others counts for nothing.
        body: one for each sequence.

    Returns:
        Frame vectors with other positions, velocities, turns and paths; contacts and rotations are as they were.
    """
    x_BTF = x_BTF.clone()
    weight_BT = valid_BT.float() / valid_BT.sum(dim=1, keepdim=True).clamp(min=1)
    old = x_BTF[..., LAYOUT.positions].unflatten(-1, (NUM_FEATURE_JOINTS, 3))
    position, velocity = (_with_bones(x_BTF[..., part], body) for part in (LAYOUT.positions, LAYOUT.velocities))
    reach = body.reach[:, None, None, None]
    mean = (position * weight_BT[..., None, None]).sum(dim=1, keepdim=True)
    position = mean + reach * (position - mean)
    sunk_B = ((_lowest(old) - _lowest(position)) * weight_BT).sum(dim=1)
    position[..., 2] += sunk_B[:, None, None]
    x_BTF[..., LAYOUT.positions] = position.flatten(2)
    x_BTF[..., LAYOUT.velocities] = (reach * velocity).flatten(2)
    for part in (LAYOUT.yaw_rate, LAYOUT.root_velocity):
        x_BTF[..., part] = reach[..., 0] * x_BTF[..., part]
    return x_BTF


def _lowest(position_BTJ3: torch.Tensor) -> torch.Tensor:
    return position_BTJ3[:, :, _ANKLES, 2].amin(dim=-1)


def _with_bones(joints_BTX: torch.Tensor, body: Bodies) -> torch.Tensor:
    """Joints, or their velocities, put together from turned and scaled bones."""
    joints = joints_BTX.unflatten(-1, (NUM_FEATURE_JOINTS, 3))
    bones = torch.cat([joints[:, :, :1], joints[:, :, 1:] - joints[:, :, _PARENTS[1:]]], dim=2)
    bones = torch.einsum("bjxy,btjy->btjx", body.bones, bones)
    return torch.einsum("jk,btkx->btjx", _CHAINS, bones)


def _mirrored(batch: MotionBatch, mirror: np.ndarray) -> MotionBatch:
    """The batch with some windows' left and right exchanged."""
    channel, sign = mirror_map()
    chosen = torch.from_numpy(mirror)
    swap = SMPL_24.swap_idx[:NUM_FEATURE_JOINTS]
    other = batch.x[..., channel] * torch.from_numpy(sign.astype(np.float32))
    known = [
        None if part is None else torch.where(chosen[:, None, None], part[..., swap], part)
        for part in (batch.joint_valid, batch.joint_sigma_m)
    ]
    x = torch.where(chosen[:, None, None], other, batch.x)
    return dataclasses.replace(batch, x=x, joint_valid=known[0], joint_sigma_m=known[1])
