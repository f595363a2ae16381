"""Datasets of the stick person, and a finished tiny run."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from stick_person import gestures, stick_clip, write_dataset

from model.recipes import OptimConfig, Recipe, debug_cpu
from model.stages import A4MerConfig
from model.train import train


@pytest.fixture(scope="session")
def one_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of a single clip of about 12 s, all of it for training: what the demo makes."""
    clip = stick_clip("demo-000", "anna", ["raise", "squat", "wave", "raise", "squat", "stand", "wave", "raise"], 0)
    return write_dataset(tmp_path_factory.mktemp("one_clip") / "amd", [(clip, "train")])


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four people, two clips each: two for training, one for validation, one for testing."""
    clips = []
    for person, split in enumerate(("train", "train", "val", "test")):
        for take in range(2):
            seed = 10 * person + take
            clips.append((stick_clip(f"p{person}-{take:03d}", f"p{person}", gestures(9, seed), seed), split))
    return write_dataset(tmp_path_factory.mktemp("people") / "amd", clips)


TINY = dataclasses.replace(
    debug_cpu(),
    name="tiny",
    model=A4MerConfig(width=16, heads=2, encoder_layers=1, latent_layers=1, predictor_layers=1, ffn_ratio=2),
    optim=OptimConfig(warmup_steps=4),
    batch_size=4,
    stage1_steps=8,
    joint_steps=6,
    checkpoint_every=3,
    eval_every=5,
    eval_windows=4,
)


@pytest.fixture(scope="session")
def tiny() -> Recipe:
    """A recipe of 14 steps."""
    return TINY


@pytest.fixture(scope="session")
def tiny_run(people: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the tiny recipe on the four people."""
    return train(people, TINY, tmp_path_factory.mktemp("runs") / "tiny").run
