"""Shared fixtures; switches on the shape checks of every annotated function."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from jaxtyping import install_import_hook

PACKAGES = ("core", "capture", "calibration", "fitting", "dataset", "model", "simulation", "motifs")
install_import_hook(PACKAGES, "beartype.beartype")

# tests never assert times; where changes are admitted, the same examples are drawn every time
hypothesis.settings.register_profile("project", deadline=None, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("project")


@pytest.fixture
def rng() -> np.random.Generator:
    """A generator that every run seeds alike."""
    return np.random.default_rng(20261)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference material, `../shared` or `MOTIFS_SHARED`; tests that need it are skipped without it."""
    folder = Path(os.environ.get("MOTIFS_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no reference material at {folder}; set MOTIFS_SHARED to its folder")
    return folder
