"""Recipes of the systems beside A4Mer: `published`, their networks at full size on SMPL's joints, and shorter ones.

`ntu_published` and its like are what the papers trained on NTU RGB+D and PKU-MMD: 25 joints, two people, recordings of
one action, cropped and resized as `model.baselines.views` says.

Windows are drawn at random and played faster or slower, where they are published to be cropped and resized to one
length: a network then sees the rate at which it is judged. `cpu_10min` are networks of one to two million parameters
(A4Mer's has 3.4, of which 2.4 are judged), and as many steps as a core does in the minutes that A4Mer takes there.
`gpu_10min` are the networks of full size; their steps are estimates that no GPU has confirmed: a comparison tells how
long each training took.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

from core.errors import InputError
from core.skeletons import SMPL_24
from dataset.features import NUM_FEATURE_JOINTS
from dataset.kinect.joint_map import KINECT_25
from model.baselines.gl_transformer import GlTransformerConfig
from model.baselines.mamp import MampConfig
from model.baselines.motion_codes import MotionCodesConfig
from model.baselines.plain_frames import MaskedFramesConfig, PlainJepaConfig
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
        steps=880,
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
        steps=880,
    )


def mamp_gpu_10min() -> SystemRecipe:
    """`published` on a schedule of some ten minutes."""
    return _shorter(mamp_published(), 6000)


def gl_transformer_gpu_10min() -> SystemRecipe:
    """`published` on a schedule of some ten minutes, at a rate that such a short one needs."""
    return _shorter(gl_transformer_published(), 1200, lr=2e-4)


def motion_codes_gpu_10min() -> SystemRecipe:
    """`published` on a schedule of some ten minutes."""
    return _shorter(motion_codes_published(), 8000)


def masked_frames_gpu_10min() -> SystemRecipe:
    """A network of A4Mer's width, and the windows of its `gpu_10min`."""
    short = masked_frames_cpu_10min()
    return dataclasses.replace(_shorter(short, 12_000), system=MaskedFramesConfig(), window_s=30.0, batch_size=64)


def plain_jepa_gpu_10min() -> SystemRecipe:
    """As `masked_frames_gpu_10min`."""
    short = plain_jepa_cpu_10min()
    return dataclasses.replace(_shorter(short, 9000), system=PlainJepaConfig(), window_s=30.0, batch_size=64)


def _shorter(recipe: SystemRecipe, steps: int, *, lr: float | None = None) -> SystemRecipe:
    """A recipe for `gpu_10min`: so many steps, of which one in twenty warms up."""
    optim = dataclasses.replace(recipe.optim, lr=lr or recipe.optim.lr, lr_end=1e-6, warmup_steps=steps // 20)
    return dataclasses.replace(recipe, name="gpu_10min", optim=optim, steps=steps, checkpoint_every=500)


def masked_frames_cpu_10min() -> SystemRecipe:
    """A4Mer's `cpu_10min`: its rate, windows, width and batch, and as many layers as its first stage and its second."""
    return SystemRecipe(
        "cpu_10min",
        MaskedFramesConfig(width=128, layers=8),
        window_s=12.0,
        rate_hz=5.0,
        tempo=0.2,
        optim=OptimConfig(lr=1e-3, lr_end=1e-6, weight_decay=0.1, warmup_steps=100),
        batch_size=16,
        steps=1500,
    )


def plain_jepa_cpu_10min() -> SystemRecipe:
    """As `masked_frames_cpu_10min`, with A4Mer's predictor."""
    system = PlainJepaConfig(width=128, layers=8, predictor_layers=2)
    return dataclasses.replace(masked_frames_cpu_10min(), system=system, steps=1050)


def mamp_ntu_published() -> SystemRecipe:
    """MAMP on NTU RGB+D 60: 400 epochs of 313 steps by subject, of which 20 warm up."""
    return SystemRecipe(
        "ntu_published",
        MampConfig(),
        window_s=10.0,
        optim=OptimConfig(lr=1e-3, lr_end=5e-4, weight_decay=0.05, warmup_steps=6260),
        betas=(0.9, 0.95),
        batch_size=128,
        steps=125_200,
        checkpoint_every=1000,
    )


def mamp_ntu120_published() -> SystemRecipe:
    """MAMP on NTU RGB+D 120: a decoder of five layers, another temperature, 400 epochs of 492 steps by subject."""
    recipe = dataclasses.replace(mamp_ntu_published(), name="ntu120_published", steps=196_800)
    system = MampConfig(decoder_layers=5, temperature=0.75)
    return dataclasses.replace(recipe, system=system, optim=dataclasses.replace(recipe.optim, warmup_steps=9840))


def mamp_pku_published() -> SystemRecipe:
    """MAMP on PKU-MMD: a decoder of five layers; 400 epochs, of 147 steps for phase 1 by subject."""
    recipe = dataclasses.replace(mamp_ntu_published(), name="pku_published", steps=58_800)
    system = MampConfig(decoder_layers=5)
    return dataclasses.replace(recipe, system=system, optim=dataclasses.replace(recipe.optim, warmup_steps=2940))


def gl_transformer_ntu_published() -> SystemRecipe:
    """GL-Transformer on NTU RGB+D: 120 epochs of 313 steps; its rate falls by 1 % an epoch, here by a cosine."""
    return dataclasses.replace(
        gl_transformer_published(), name="ntu_published", system=GlTransformerConfig(), steps=37_560
    )


def motion_codes_ntu_published() -> SystemRecipe:
    """`published` of Kinect's joints: 30 frames a second, in the heading frame of every body."""
    return dataclasses.replace(
        motion_codes_published(),
        name="ntu_published",
        system=MotionCodesConfig(num_joints=len(KINECT_25), frames=100),
        window_s=10.0,
        tempo=0.0,
    )


# of pretraining on NTU RGB+D and PKU-MMD, and those of them that warm up; the third is of steps alone
_EPOCHS: Mapping[str, tuple[int, int]] = {"mamp": (400, 20), "gl_transformer": (120, 0)}


def with_published_epochs(recipe: SystemRecipe, num_clips: int) -> SystemRecipe:
    """A recipe with as many epochs of a benchmark's training clips as its paper has."""
    if recipe.kind not in _EPOCHS:
        return recipe
    epochs, warmup = _EPOCHS[recipe.kind]
    steps = max(num_clips // recipe.batch_size, 1)
    optim = dataclasses.replace(recipe.optim, warmup_steps=warmup * steps)
    return dataclasses.replace(recipe, steps=epochs * steps, optim=optim)


def recipe_for_source(kind: str, source: str, classes: int) -> SystemRecipe:
    """What a paper trains on a dataset of Kinect's people.

    Args:
        kind: the system.
        source: `ntu`, `pku1` or `pku2`.
        classes: of the benchmark.
    """
    special = "ntu120_published" if classes == 120 else "pku_published" if source != "ntu" else "ntu_published"
    return system_recipe(kind, special if (kind, special) in _MADE else "ntu_published")


_MADE: Mapping[tuple[str, str], Callable[[], SystemRecipe]] = {
    ("mamp", "published"): mamp_published,
    ("mamp", "cpu_10min"): mamp_cpu_10min,
    ("gl_transformer", "published"): gl_transformer_published,
    ("gl_transformer", "cpu_10min"): gl_transformer_cpu_10min,
    ("motion_codes", "published"): motion_codes_published,
    ("motion_codes", "cpu_10min"): motion_codes_cpu_10min,
    ("mamp", "gpu_10min"): mamp_gpu_10min,
    ("gl_transformer", "gpu_10min"): gl_transformer_gpu_10min,
    ("motion_codes", "gpu_10min"): motion_codes_gpu_10min,
    ("masked_frames", "gpu_10min"): masked_frames_gpu_10min,
    ("plain_jepa", "gpu_10min"): plain_jepa_gpu_10min,
    ("masked_frames", "cpu_10min"): masked_frames_cpu_10min,
    ("plain_jepa", "cpu_10min"): plain_jepa_cpu_10min,
    ("mamp", "ntu_published"): mamp_ntu_published,
    ("mamp", "ntu120_published"): mamp_ntu120_published,
    ("mamp", "pku_published"): mamp_pku_published,
    ("gl_transformer", "ntu_published"): gl_transformer_ntu_published,
    ("motion_codes", "ntu_published"): motion_codes_ntu_published,
}


# systems that a paper is of
PUBLISHED = tuple(kind for kind, name in _MADE if name == "ntu_published")


def system_recipe(kind: str, name: str) -> SystemRecipe:
    """The recipe of a system and a name.

    Raises:
        InputError: if there is none.
    """
    if (kind, name) not in _MADE:
        known = ", ".join(f"{k} {n}" for k, n in _MADE)
        raise InputError(f"recipe {name} of {kind}", "there is none of this name", f"use one of {known}")
    return _MADE[kind, name]()
