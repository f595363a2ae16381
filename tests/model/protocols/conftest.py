"""A tiny trained network, and the clips that it is judged on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dataset.shards import AmdDataset
from model.loading import TrainedRun, load_run
from model.protocols.motions import LabelledMotions, load_motions


@pytest.fixture(scope="module")
def run(tiny_run: Path) -> TrainedRun:
    """The tiny run, loaded."""
    return load_run(tiny_run, torch.device("cpu"))


@pytest.fixture(scope="module")
def motions(people: Path) -> LabelledMotions:
    """Clips of three people."""
    return load_motions(AmdDataset(people), ["p0", "p2", "p3"])
