"""The body in a clip's own numbers: bones from joints and rotations, for work on clips without their body model."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from core.arrays import Float
from core.skeletons import SMPL_24
from dataset.features import leg_length
from dataset.importers.articulated import forward_kinematics
from dataset.rotations import matrix_from_rotvec
from dataset.schema import NUM_JOINTS, Clip

_PARENTS = np.array(SMPL_24.parents)
# bones that agree to this are of one body; float32 joints of a large room leave a tenth of it
_SAME_BONES_M = 1e-4


@dataclass(frozen=True, eq=False)
class Bones:
    """A body as its clips show it.

    Attributes:
        offsets_m: joints from their parents, in the parents' frames; the pelvis' is zero.
        rest_pelvis_m: the pelvis less SMPL's `trans`.
        betas: its shape.
        leg_m: hip to ankle.
    """

    offsets_m: Float[np.ndarray, "24 3"]
    rest_pelvis_m: Float[np.ndarray, "3"]
    betas: Float[np.ndarray, "shapes"]
    leg_m: float

    @staticmethod
    def of(clip: Clip) -> Bones:
        """The median over the frames of a clip without invalid ones."""
        joints, local = clip.joints_m.astype(np.float64), matrix_from_rotvec(clip.poses.astype(np.float64))
        _, world = forward_kinematics(_PARENTS, np.zeros_like(joints), local)
        steps = joints[:, 1:] - joints[:, _PARENTS[1:]]
        inner = np.median((np.swapaxes(world[:, _PARENTS[1:]], -1, -2) @ steps[..., None])[..., 0], axis=0)
        rest = np.median(joints[:, 0] - clip.trans, axis=0)
        return Bones(np.concatenate([np.zeros((1, 3)), inner]), rest, clip.betas, leg_length(joints))

    def joints(self, poses: Float[np.ndarray, "frames 24 3"]) -> Float[np.ndarray, "frames 24 3"]:
        """Joints with the pelvis at the origin."""
        offsets = np.broadcast_to(self.offsets_m, (len(poses), NUM_JOINTS, 3))
        return forward_kinematics(_PARENTS, offsets, matrix_from_rotvec(poses.astype(np.float64)))[0]

    def wear(self, clip: Clip) -> Clip:
        """The clip with this body; its path is scaled by the legs, so that feet neither slide nor float."""
        own = Bones.of(clip)
        if np.abs(own.offsets_m - self.offsets_m).max() < _SAME_BONES_M:
            return clip
        scale = self.leg_m / own.leg_m
        pelvis = scale * clip.joints_m[:, :1].astype(np.float64)
        return dataclasses.replace(
            clip,
            betas=self.betas,
            trans=pelvis[:, 0] - self.rest_pelvis_m,
            joints_m=pelvis + self.joints(clip.poses),
            joint_covariance=scale**2 * clip.joint_covariance,
        )
