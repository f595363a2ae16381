"""Validity and uncertainty of joints on their way from a shard into the network's batch."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from stick_person import stick_clip, write_dataset

from core.errors import InputError
from dataset.cutting import part
from dataset.features import REFERENCE_LEG_M
from dataset.loader import WindowReader as Reader
from dataset.loader import WindowRef, WindowSampler, collate
from dataset.schema import REASON_UNSPECIFIED
from dataset.shards import AmdDataset
from model.atoms import AtomConfig
from model.windows import DataConfig, find_atoms, make_batch

HIDDEN, LEFT_WRIST = slice(60, 90), 20


def partly_seen(folder: Path) -> AmdDataset:
    """A clip with a wrist that is not measured for a second, a deviation that grows with time, and missing frames."""
    clip = stick_clip("a-000", "anna", ["raise", "squat", "wave", "raise", "squat", "wave"], 3)
    valid, reasons = clip.valid.copy(), clip.reasons.copy()
    valid[HIDDEN, LEFT_WRIST] = False
    reasons[30:33], valid[30:33] = REASON_UNSPECIFIED, False
    sigma = 0.01 * (1 + np.arange(len(clip)) / 30)
    covariance = np.zeros((len(clip), 24, 6))
    covariance[..., [0, 3, 5]] = sigma[:, None, None] ** 2
    changed = dataclasses.replace(clip, valid=valid, reasons=reasons, joint_covariance=covariance.astype(np.float32))
    return AmdDataset(write_dataset(folder / "amd", [(changed, "train")]))


def test_the_network_is_told_what_was_measured_and_how_well(tmp_path: Path) -> None:
    dataset, data = partly_seen(tmp_path), DataConfig(window_s=4.0)
    clip = dataset.clips[0]
    atoms = find_atoms(dataset, dataset.clips, data, AtomConfig())
    windows = collate([Reader(dataset, 4.0, 5.0).read(WindowRef(clip.id, 0, start_s)) for start_s in (0.0, 1.0)])
    batch, _ = make_batch(windows, dataset.clips, atoms, 5.0)
    assert batch.joint_valid is not None and batch.joint_sigma_m is not None
    for row, first in enumerate((0, 30)):
        frames = first + 6 * np.arange(20)
        missing = (batch.atom[row] < 0).numpy()
        # instant 30 is missing, and the velocity of the one before looks at it
        assert set(frames[missing]) == {frame for frame in (24, 30) if frame >= first}
        hidden = (frames >= HIDDEN.start) & (frames < HIDDEN.stop)
        np.testing.assert_array_equal(batch.joint_valid[row, :, LEFT_WRIST].numpy(), ~hidden & ~missing)
        assert batch.joint_valid[row, ~torch.from_numpy(missing), 0].all()
        sigma = REFERENCE_LEG_M / clip.leg_m * 0.01 * (1 + frames / 30)
        np.testing.assert_allclose(batch.joint_sigma_m[row], np.repeat(sigma[:, None], 22, axis=1), rtol=1e-5)
    moved = batch.to(torch.device("cpu"))
    assert moved.joint_valid is not None and torch.equal(moved.joint_valid, batch.joint_valid)


def test_random_windows_carry_it_too(tmp_path: Path) -> None:
    dataset = partly_seen(tmp_path)
    windows = WindowSampler(dataset, "train", 4.0, 5.0, 0, batch_size=3).batch(0)
    assert windows["joint_valid"].shape == windows["joint_sigma_m"].shape == (3, 20, 22)


def test_a_clip_that_is_too_short_for_a_velocity_is_named(tmp_path: Path) -> None:
    clip = part(stick_clip("a-000", "anna", ["raise"], 0), 0, 8, "tiny")
    dataset = AmdDataset(write_dataset(tmp_path / "amd", [(clip, "train")]))
    with pytest.raises(InputError, match=r"clip tiny: 0\.27 s is less than two frames at 5\.0 Hz"):
        find_atoms(dataset, dataset.clips, DataConfig(), AtomConfig())
