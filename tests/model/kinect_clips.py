"""Tiny files of NTU RGB+D's kind, and tiny networks for them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from dataset.kinect.benchmarks import BENCHMARKS
from dataset.kinect.cache import open_clips
from dataset.kinect.clips import ClipFile, Parts
from model.baselines.gl_transformer import GlTransformerConfig
from model.baselines.mamp import MampConfig
from model.baselines.motion_codes import MotionCodesConfig
from model.baselines.plain_frames import MaskedFramesConfig, PlainJepaConfig
from model.baselines.pretraining import SystemRecipe
from model.baselines.sources import ClipSource, SystemClips
from model.recipes import OptimConfig
from simulation.kinect import write_ntu_files

BENCHMARK = BENCHMARKS["ntu60-xsub"]
TINY = {
    "mamp": MampConfig(frames=16, width=16, heads=2, encoder_layers=2, decoder_layers=1, ffn_ratio=2),
    "gl_transformer": GlTransformerConfig(frames=30, joint_width=4, heads=2, blocks=1),
    "motion_codes": MotionCodesConfig(
        num_joints=25, width=16, heads=2, encoder_layers=1, decoder_layers=1, frames=4, num_codes=8, revive_after=2
    ),
    "masked_frames": MaskedFramesConfig(num_joints=25, sides=(12, 16, 4, 8), width=16, heads=2, layers=1),
    "plain_jepa": PlainJepaConfig(num_joints=25, sides=(12, 16, 4, 8), width=16, heads=2, layers=1, predictor_layers=1),
}


def made_clips(
    folder: Path, actions: tuple[int, ...], replications: int = 1, cameras: tuple[int, ...] = (1, 2)
) -> ClipFile:
    """Clips of four subjects; of the last action two people take part."""
    write_ntu_files(
        folder / "skeletons", 0, actions=actions, pairs=actions[-1:], cameras=cameras, setups=(1,), frames=(30, 45),
        replications=replications,
    )  # fmt: skip
    return open_clips(folder / "skeletons", "ntu", folder / "clips.h5")


def recipe_of(kind: str) -> SystemRecipe:
    """Five steps of four clips."""
    return SystemRecipe(
        "tiny", TINY[kind], window_s=1.0, optim=OptimConfig(warmup_steps=2), batch_size=4, steps=5, checkpoint_every=2
    )


def source_of(clips: ClipFile, recipe: SystemRecipe, parts: Parts | None = None) -> ClipSource:
    """The training part."""
    idx = (parts or clips.parts(BENCHMARK)).train
    return ClipSource(
        SystemClips(clips, idx, recipe.system), BENCHMARK.name, seed=recipe.seed, batch_size=recipe.batch_size
    )


def other_order(clips: ClipFile) -> Parts:
    """The parts with one clip fewer to train on."""
    parts = clips.parts(BENCHMARK)
    return dataclasses.replace(parts, train=np.asarray(parts.train[1:]))
