"""What the systems beside A4Mer learn from and yield: joints of one or two people in, a token a step of time out.

Shape suffixes: B sequence, P person, T frame, J joint, S step of time, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import torch

from core.arrays import Bool, Float
from dataset.features import LAYOUT, NUM_FEATURE_JOINTS, heading
from dataset.inverse import joints_from_features
from dataset.resample import Motion
from dataset.rotations import yaw_matrix

# `start`: x leads forward and y left in the first frame, whose pelvis lies above the origin; `heading`: the same of
# every frame by itself, so that nothing is known of the path
Coordinates = Literal["start", "heading"]


@dataclass(frozen=True, eq=False)
class SkeletonBatch:
    """Joints of people over time, padded to one length.

    Attributes:
        joints_m: positions, z up; whatever stands where nobody is, is ignored.
        exists: frames in which a person is there and every joint is known; padding is at the end.
    """

    joints_m: Float[torch.Tensor, "B P T J 3"]
    exists: Bool[torch.Tensor, "B P T"]

    def to(self, device: torch.device) -> SkeletonBatch:
        """The same batch on another device."""
        return SkeletonBatch(self.joints_m.to(device), self.exists.to(device))


@dataclass(frozen=True, eq=False)
class StepTokens:
    """A representation of each step of time; people are averaged or told together, as the system has it.

    Attributes:
        z: one token a step; meaningless where none exists.
        exists: whether anybody is there in that step.
        frames: number of frames that a step spans; steps follow each other without a gap from frame 0.
    """

    z: Float[torch.Tensor, "B S D"]
    exists: Bool[torch.Tensor, "B S"]
    frames: int


@dataclass(frozen=True, eq=False)
class SystemLoss:
    """What one pass of a pretext task yields.

    Attributes:
        total: the number to descend.
        parts: its terms by name, before they are weighted.
    """

    total: Float[torch.Tensor, ""]
    parts: Mapping[str, torch.Tensor]


@runtime_checkable
class System(Protocol):
    """A network that learns without labels; what it draws at random comes from the generator."""

    def loss(self, batch: SkeletonBatch, generator: torch.Generator) -> SystemLoss:
        """The pretext task on a batch, which is varied first in training mode as the published training varies it."""
        ...

    def encode(self, batch: SkeletonBatch) -> StepTokens:
        """The representation that is judged; nothing is drawn."""
        ...


def skeletons_of(windows: Mapping[str, np.ndarray], rate_hz: float, coordinates: Coordinates) -> SkeletonBatch:
    """Windows of one person (see `dataset.loader.WindowReader.read`) as joints of the normalised body.

    A window ends at its first frame that is not valid: what comes after it is somewhere else.
    """
    features = windows["features"]
    if coordinates == "start":
        joints_m = joints_from_features(features, rate_hz).astype(np.float32)
    else:
        joints_m = features[..., LAYOUT.positions].reshape(*features.shape[:-1], NUM_FEATURE_JOINTS, 3)
    exists = np.logical_and.accumulate(windows["valid"], axis=1)
    return SkeletonBatch(torch.from_numpy(joints_m)[:, None], torch.from_numpy(exists)[:, None])


def skeleton_of(motion: Motion, coordinates: Coordinates) -> Float[np.ndarray, "T 22 3"]:
    """Joints of a motion's normalised body, as `skeletons_of` has them."""
    if coordinates == "heading":
        return motion.local_joints().astype(np.float32)
    joints_m = motion.scale * motion.joints_m[:, :NUM_FEATURE_JOINTS].astype(np.float64)
    origin = np.array([joints_m[0, 0, 0], joints_m[0, 0, 1], 0.0])
    return np.asarray(((joints_m - origin) @ yaw_matrix(heading(motion.joints_m)[:1])).astype(np.float32))
