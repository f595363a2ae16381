"""The systems beside A4Mer by name: their settings, their networks, and how long a stretch each one sees."""

from __future__ import annotations

import dataclasses
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
from model.baselines.plain_frames import MaskedFrames, MaskedFramesConfig, PlainJepa, PlainJepaConfig
from model.baselines.skeletons import Coordinates, SkeletonBatch
from model.recipes import config_from_json

SystemConfig = MampConfig | GlTransformerConfig | MotionCodesConfig | MaskedFramesConfig | PlainJepaConfig
# their positions are rotary, so the channels of a head turn in pairs; they take sequences of any length
_ROTARY = (MotionCodesConfig, MaskedFramesConfig, PlainJepaConfig)


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
    "masked_frames": Kind(MaskedFramesConfig, MaskedFrames, "start"),
    "plain_jepa": Kind(PlainJepaConfig, PlainJepa, "start"),
}


def system_name(config: SystemConfig) -> str:
    """The name under which a system of these settings is known."""
    return next(name for name, kind in SYSTEMS.items() if isinstance(config, kind.config))


def build_system(config: SystemConfig) -> nn.Module:
    """A network with random weights.

    Raises:
        InputError: if heads do not divide a width, or leave no pair of channels where positions are rotary.
    """
    name = system_name(config)
    width = config.joint_width if isinstance(config, GlTransformerConfig) else config.width
    odd = isinstance(config, _ROTARY) and (width // config.heads) % 2
    if width % config.heads or odd:
        problem = f"{config.heads} heads do not divide {width} channels{' into even parts' if odd else ''}"
        raise InputError(name, problem, f"set {name}.system.heads to a divisor")
    return SYSTEMS[name].network(config)


def config_from_plain(data: Any, source: str) -> SystemConfig:
    """Settings from plain types; their names say which system they are of.

    Raises:
        InputError: if they are of none.
    """
    for kind in SYSTEMS.values():
        if isinstance(data, Mapping) and {f.name for f in dataclasses.fields(kind.config)} == data.keys():
            config: SystemConfig = config_from_json(kind.config, data, source)
            return config
    raise InputError(source, "its settings are of no system", "use the version of the code that made it")


def longest_frames(config: SystemConfig) -> int | None:
    """Frames of the longest sequence that a system takes; None for any."""
    return None if isinstance(config, _ROTARY) else config.frames


def num_joints(config: SystemConfig) -> int:
    """Joints of a person: 22 of SMPL, or 25 of Kinect v2."""
    return config.num_joints if isinstance(config, _ROTARY) else config.joints


def num_people(config: SystemConfig) -> int | None:
    """People of a batch, present or not; None for any."""
    return config.persons if isinstance(config, GlTransformerConfig) else None
