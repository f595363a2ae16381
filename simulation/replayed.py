"""Captured motion in place of simulated: a clip of a dataset, shown to the cameras of a session that nobody filmed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from core.arrays import Float
from dataset.rotations import slerp
from dataset.schema import Clip
from fitting.smpl import BodyModel, PosedBody, ShapedBody


@dataclass(frozen=True, eq=False)
class ReplayedPerson:
    """A body that moves as somebody did.

    Attributes:
        shaped: the body at rest.
        poses: rotation vectors of the frames.
        trans: SMPL's translation, metres.
        rate_hz: frames a second.
    """

    shaped: ShapedBody
    poses: Float[np.ndarray, "frames 24 3"]
    trans: Float[np.ndarray, "frames 3"]
    rate_hz: float

    @property
    def betas(self) -> Float[np.ndarray, "betas"]:
        """Its shape."""
        return self.shaped.betas

    def posed_at(self, t_s: Float[np.ndarray, "n"]) -> PosedBody:
        """The body at times from the clip's first frame on, still before it and after its last."""
        place = np.clip(np.asarray(t_s, float) * self.rate_hz, 0, len(self.poses) - 1)
        left = np.minimum(place.astype(int), len(self.poses) - 2)
        weight = (place - left)[:, None]
        poses = slerp(self.poses[left], self.poses[left + 1], weight)
        return self.shaped.with_pose(poses, (1 - weight) * self.trans[left] + weight * self.trans[left + 1])


def replayed(clip: Clip, body: BodyModel, betas: Float[np.ndarray, "betas"]) -> ReplayedPerson:
    """A clip's motion by a body of a shape of its own, about the room's middle, its lowest joint where it was.

    Args:
        clip: with a body in every frame.
        body: the model.
        betas: shape; that of an imported clip is a skeleton's rather than a person's.
    """
    shaped = body.with_shape(betas)
    poses, trans = clip.poses.astype(np.float64), clip.trans.astype(np.float64)
    posed = shaped.with_pose(poses, trans)
    middle = (posed.joints[:, 0, :2].min(axis=0) + posed.joints[:, 0, :2].max(axis=0)) / 2
    rise = np.percentile(clip.joints_m[..., 2].min(axis=1), 2.0) - np.percentile(posed.joints[..., 2].min(axis=1), 2.0)
    return ReplayedPerson(shaped, poses, trans - [*middle, -rise], float(clip.rate))
