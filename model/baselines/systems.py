"""The systems beside A4Mer by name: their settings, their networks, and how long a stretch each one sees."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from core.errors import InputError
from model.baselines.gl_transformer import GlTransformer, GlTransformerConfig
from model.baselines.mamp import Mamp, MampConfig
from model.baselines.mamp_views import random_rotation
from model.baselines.motion_codes import MotionCodes, MotionCodesConfig
from model.baselines.skeletons import Coordinates, SkeletonBatch

SystemConfig = MampConfig | GlTransformerConfig | MotionCodesConfig


@dataclass(frozen=True)
class Kind:
    """A system.

    Attributes:
        config: dataclass of its settings.
        network: class of its network, made of them.
        coordinates: what joints are told in.
        vary: how training varies a batch where the network's loss does not do it itself.
    """

    config: type[Any]
    network: type[nn.Module]
    coordinates: Coordinates
    vary: Callable[[SkeletonBatch, torch.Generator], SkeletonBatch] | None = None


SYSTEMS: Mapping[str, Kind] = {
    "mamp": Kind(MampConfig, Mamp, "start", random_rotation),
    "gl_transformer": Kind(GlTransformerConfig, GlTransformer, "start"),
    "motion_codes": Kind(MotionCodesConfig, MotionCodes, "heading"),
}


def system_name(config: SystemConfig) -> str:
    """The name under which a system of these settings is known."""
    return next(name for name, kind in SYSTEMS.items() if isinstance(config, kind.config))


def build_system(config: SystemConfig) -> nn.Module:
    """A network with random weights."""
    return SYSTEMS[system_name(config)].network(config)


def longest_frames(config: SystemConfig) -> int | None:
    """Frames of the longest sequence that a system takes; None for any."""
    return None if isinstance(config, MotionCodesConfig) else config.frames


def kind_named(name: str) -> Kind:
    """The system of a name.

    Raises:
        InputError: if there is none.
    """
    if name not in SYSTEMS:
        raise InputError(f"system {name}", "there is none of this name", f"use one of {', '.join(SYSTEMS)}")
    return SYSTEMS[name]
