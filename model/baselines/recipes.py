"""Recipes of the systems beside A4Mer: `published`, their networks at full size on SMPL's joints, and `cpu_10min`.

Windows are drawn at random and played faster or slower, where they are published to be cropped and resized to one
length: a network then sees the rate at which it is judged. `cpu_10min` are networks of about A4Mer's number of
parameters, and as many steps as a core does in the minutes that A4Mer takes there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from core.errors import InputError
from core.skeletons import SMPL_24
from dataset.features import NUM_FEATURE_JOINTS
from model.baselines.gl_transformer import GlTransformerConfig
from model.baselines.mamp import MampConfig
from model.baselines.motion_codes import MotionCodesConfig
from model.baselines.pretraining import SystemRecipe
from model.recipes import OptimConfig

# NTU's middle of the spine, and its spine between the shoulders, are these joints of SMPL
_MIDDLE, _BETWEEN_SHOULDERS = SMPL_24.idx("spine2"), SMPL_24.idx("spine3")
_SHOULDERS = (SMPL_24.idx("left_shoulder"), SMPL_24.idx("right_shoulder"))


def mamp_published() -> SystemRecipe:
    """MAMP's network and optimiser; 400 epochs of NTU RGB+D 60 are 125,000 steps of 128."""
    return SystemRecipe(
        "published",
        MampConfig(joints=NUM_FEATURE_JOINTS, origin_joint=_MIDDLE),
        tempo=0.2,
        optim=OptimConfig(lr=1e-3, lr_end=5e-4, weight_decay=0.05, warmup_steps=6000),
        betas=(0.9, 0.95),
        batch_size=128,
        steps=125_000,
        checkpoint_every=1000,
    )


def mamp_cpu_10min() -> SystemRecipe:
    """`published` with half the width and four layers."""
    return SystemRecipe(
        "cpu_10min",
        MampConfig(
            joints=NUM_FEATURE_JOINTS, origin_joint=_MIDDLE, width=128, heads=4, encoder_layers=4, decoder_layers=2
        ),
        tempo=0.2,
        optim=OptimConfig(lr=1e-3, lr_end=1e-4, weight_decay=0.05, warmup_steps=50),
        betas=(0.9, 0.95),
        batch_size=16,
        steps=340,
    )


def gl_transformer_published() -> SystemRecipe:
    """GL-Transformer's network for one person; its rate falls by 1 % an epoch, here by a cosine over 120 epochs."""
    return SystemRecipe(
        "published",
        GlTransformerConfig(persons=1, joints=NUM_FEATURE_JOINTS, centre=_BETWEEN_SHOULDERS, shoulders=_SHOULDERS),
        window_s=10.0,
        optim=OptimConfig(lr=5e-5, lr_end=1.5e-5, weight_decay=0.1, warmup_steps=0),
        batch_size=128,
        steps=37_500,
        checkpoint_every=500,
    )


def gl_transformer_cpu_10min() -> SystemRecipe:
    """`published` with a sixth of the width, two heads, two layers and windows of 4 s, which is all it takes."""
    return SystemRecipe(
        "cpu_10min",
        GlTransformerConfig(
            frames=120, persons=1, joints=NUM_FEATURE_JOINTS, centre=_BETWEEN_SHOULDERS, shoulders=_SHOULDERS,
            joint_width=8, heads=2, blocks=2,
        ),
        window_s=4.0,
        optim=OptimConfig(lr=1e-3, lr_end=1e-5, weight_decay=0.1, warmup_steps=50),
        batch_size=16,
        steps=440,
    )  # fmt: skip


def motion_codes_published() -> SystemRecipe:
    """Six layers each way and M = 100; the rest is not known (see the network's docstring)."""
    return SystemRecipe(
        "published",
        MotionCodesConfig(frames=100),
        window_s=20.0,
        tempo=0.2,
        optim=OptimConfig(lr=3e-4, lr_end=1e-6, weight_decay=0.01, warmup_steps=1000),
        steps=100_000,
        checkpoint_every=1000,
    )


def motion_codes_cpu_10min() -> SystemRecipe:
    """`published` with half the width, three layers each way and M = 10."""
    return SystemRecipe(
        "cpu_10min",
        MotionCodesConfig(width=128, encoder_layers=3, decoder_layers=3),
        window_s=4.0,
        tempo=0.2,
        optim=OptimConfig(lr=1e-3, lr_end=1e-5, weight_decay=0.01, warmup_steps=50),
        batch_size=16,
        steps=830,
    )


_MADE: Mapping[tuple[str, str], Callable[[], SystemRecipe]] = {
    ("mamp", "published"): mamp_published,
    ("mamp", "cpu_10min"): mamp_cpu_10min,
    ("gl_transformer", "published"): gl_transformer_published,
    ("gl_transformer", "cpu_10min"): gl_transformer_cpu_10min,
    ("motion_codes", "published"): motion_codes_published,
    ("motion_codes", "cpu_10min"): motion_codes_cpu_10min,
}


def system_recipe(kind: str, name: str) -> SystemRecipe:
    """The recipe of a system and a name.

    Raises:
        InputError: if there is none.
    """
    if (kind, name) not in _MADE:
        known = ", ".join(f"{k} {n}" for k, n in _MADE)
        raise InputError(f"recipe {name} of {kind}", "there is none of this name", f"use one of {known}")
    return _MADE[kind, name]()
