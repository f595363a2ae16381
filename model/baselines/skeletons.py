"""What the systems beside A4Mer learn from and yield: joints of one or two people in, a token a step of time out.

Shape suffixes: B sequence, P person, T frame, J joint, S step of time, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch

from core.arrays import Bool, Float


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


class System(Protocol):
    """A network that learns without labels; what it draws at random comes from the generator."""

    def loss(self, batch: SkeletonBatch, generator: torch.Generator) -> SystemLoss:
        """The pretext task on a batch."""
        ...

    def encode(self, batch: SkeletonBatch) -> StepTokens:
        """The representation that is judged; nothing is drawn, no gradient is kept."""
        ...
