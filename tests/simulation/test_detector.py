"""The simulated detector's errors are of the sizes and rates that its config states."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from core.skeletons import HALPE_26
from simulation.detector import DetectorConfig, detect

FRAMES, SIZE = 4000, (800, 600)
CLEAN = DetectorConfig(
    outlier_fraction=0.0, swap_fraction=0.0, missing_fraction=0.0, hidden_missing_fraction=0.0, lost_fraction=0.0
)


def _scene(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    px = np.broadcast_to(rng.uniform(200, 400, (len(HALPE_26), 2)), (FRAMES, len(HALPE_26), 2)).copy()
    hidden = np.zeros(px.shape[:2], bool)
    hidden[:, ::2] = True
    return px, hidden


def test_noise_has_its_size_and_grows_behind_things(rng: np.random.Generator) -> None:
    px, hidden = _scene(rng)
    found, score = detect(rng, px, hidden, HALPE_26, SIZE, CLEAN)
    error = found - px
    # half of the noise is correlated over 10 frames: 4000 x 13 joints leave over 20000 independent samples
    assert error[~hidden].std() == pytest.approx(2.0, rel=0.05)
    assert error[hidden].std() == pytest.approx(8.0, rel=0.05)
    assert score[~hidden].mean() > score[hidden].mean() + 0.3
    steps = np.diff(error[:, 1], axis=0)
    assert steps.std() < 0.85 * np.sqrt(2) * error[:, 1].std()  # not white


def test_noise_scales_with_the_picture(rng: np.random.Generator) -> None:
    px, hidden = _scene(rng)
    found, _ = detect(rng, 2 * px, hidden, HALPE_26, (1600, 1200), CLEAN)
    assert (found - 2 * px)[~hidden].std() == pytest.approx(4.0, rel=0.05)


def test_missing_is_nan_with_score_zero_at_the_stated_rates(rng: np.random.Generator) -> None:
    px, hidden = _scene(rng)
    config = dataclasses.replace(CLEAN, missing_fraction=0.05, hidden_missing_fraction=0.3, lost_fraction=0.02)
    found, score = detect(rng, px, hidden, HALPE_26, SIZE, config)
    missing = np.isnan(found).any(axis=-1)
    np.testing.assert_array_equal(missing, score == 0)
    lost = missing.all(axis=1)
    assert lost.mean() == pytest.approx(0.02, abs=4 * np.sqrt(0.02 / FRAMES))
    assert missing[~lost][~hidden[~lost]].mean() == pytest.approx(0.05, abs=0.005)
    assert missing[~lost][hidden[~lost]].mean() == pytest.approx(0.3, abs=0.01)


def test_outliers_and_swaps_come_at_their_rates(rng: np.random.Generator) -> None:
    px, hidden = _scene(rng)
    hidden[:] = False
    outliers, _ = detect(rng, px, hidden, HALPE_26, SIZE, dataclasses.replace(CLEAN, outlier_fraction=0.02))
    far = np.linalg.norm(outliers - px, axis=-1) > 15
    assert far.mean() == pytest.approx(0.02, abs=0.003)
    swaps, _ = detect(rng, px, hidden, HALPE_26, SIZE, dataclasses.replace(CLEAN, swap_fraction=0.05))
    mirrored = np.linalg.norm(swaps - px[:, HALPE_26.swap_idx], axis=-1).mean(axis=1)
    assert (mirrored < 10).mean() == pytest.approx(0.05, abs=0.015)


def test_joints_out_of_the_picture_are_not_found(rng: np.random.Generator) -> None:
    px, hidden = _scene(rng)
    px[:, 3] = (900.0, 300.0)
    px[:, 4] = np.nan
    found, score = detect(rng, px, hidden, HALPE_26, SIZE, CLEAN)
    assert np.isnan(found[:, 3:5]).all() and (score[:, 3:5] == 0).all()
    assert np.isfinite(found[:, 5:]).all()
