"""A tiny network of motion codes and random skeletons for it."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from model.baselines.motion_codes import MotionCodes, MotionCodesConfig
from model.baselines.skeletons import SkeletonBatch

TINY = MotionCodesConfig(
    num_joints=2, frames=4, encoder_layers=2, decoder_layers=2, num_codes=12, width=16, heads=2, ffn_ratio=2
)


def network(seed: int = 0, **changes: Any) -> MotionCodes:
    """A tiny network in evaluation, all of whose codes count as used."""
    torch.manual_seed(seed)
    model = MotionCodes(dataclasses.replace(TINY, **changes)).eval()
    model.unused.zero_()
    return model


def skeletons(seed: int, *shape: int, gaps: float = 0.0, num_joints: int = 2) -> SkeletonBatch:
    """Random joints (B, P, T) of people who are missing in a share of the frames."""
    generator = torch.Generator().manual_seed(seed)
    joints_m = torch.randn(*shape, num_joints, 3, generator=generator)
    return SkeletonBatch(joints_m, torch.rand(shape, generator=generator) >= gaps)


def part(batch: SkeletonBatch, start: int, stop: int) -> SkeletonBatch:
    """Some frames of a batch."""
    return SkeletonBatch(batch.joints_m[:, :, start:stop], batch.exists[:, :, start:stop])
