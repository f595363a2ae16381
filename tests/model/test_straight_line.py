"""Eq. A against its definition, frame by frame, and on numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from motions import polyline

from core.errors import InputError
from model.straight_line import (
    candidate_frames,
    extrapolation_error,
    extrapolation_weights,
    line_candidates,
    mean_error_m,
    normalised_error,
)


def candidates_by_definition(joints: np.ndarray, window: int, tau1: float) -> np.ndarray:
    """Eq. A word for word: a line fitted and extrapolated for every frame, joint and coordinate."""
    frames, num_joints, _ = joints.shape
    error = np.full(joints.shape, np.nan)
    for t in range(window, frames):
        for j in range(num_joints):
            for c in range(3):
                line = np.polyfit(np.arange(t - window, t), joints[t - window : t, j, c], 1)
                error[t, j, c] = abs(joints[t, j, c] - np.polyval(line, t))
    z = (error - np.nanmean(error, axis=0)) / np.nanstd(error, axis=0)
    e = z.mean(axis=(1, 2))
    bends = {t: (e[t] - e[t - 1]) - (e[t - 1] - e[t - 2]) for t in range(window + 2, frames)}
    tau2 = np.mean([abs(b) for b in bends.values()])
    found = [t for t, b in bends.items() if (e[t] - e[t - 1] > tau1 and b > 0) or b > tau2]
    return np.isin(np.arange(frames), found)


@pytest.mark.parametrize("window", [2, 5, 8])
def test_rule_is_its_definition(window: int) -> None:
    rng = np.random.default_rng(window)
    joints = np.cumsum(rng.normal(size=(60, 3, 3)), axis=0)
    found = line_candidates(joints, np.ones((60, 3), dtype=bool), window, 0.005)
    assert found.sum() > 5 and np.array_equal(found, candidates_by_definition(joints, window, 0.005))


def test_weights_are_those_of_a_fitted_line() -> None:
    rng = np.random.default_rng(0)
    y = rng.normal(size=7)
    slope, offset = np.polyfit(np.arange(7), y, 1)
    assert np.isclose(extrapolation_weights(7) @ y, slope * 7 + offset)
    with pytest.raises(InputError, match="not defined"):
        extrapolation_weights(1)


def test_error_is_zero_on_a_line_and_missing_where_frames_are() -> None:
    joints = polyline([], 30.0, 2.0)
    valid = np.ones(joints.shape[:2], dtype=bool)
    valid[30, 2] = False
    error = extrapolation_error(joints, valid, 5)
    assert np.isnan(error[:5]).all()
    assert np.nanmax(error) < 1e-12
    assert np.isnan(error[30:36, 2]).all() and np.isfinite(error[36, 2]).all() and np.isfinite(error[30, 1]).all()


def test_constant_channels_do_not_count() -> None:
    rng = np.random.default_rng(1)
    moving = np.abs(rng.normal(size=(50, 1, 3)))
    with_constant = np.concatenate([moving, np.full((50, 3, 3), 2e-9)], axis=1)
    assert np.allclose(normalised_error(moving), normalised_error(with_constant))


def test_lengths_count_as_lengths() -> None:
    error = np.full((3, 2, 3), 0.002)
    error[1, 0] = np.nan
    error[2] = np.nan
    assert mean_error_m(error) == pytest.approx([0.002, 0.002, np.nan], nan_ok=True)


def test_still_people_are_cut_by_their_noise_unless_errors_are_metres() -> None:
    rng = np.random.default_rng(2)
    joints = 1e-4 * rng.normal(size=(300, 4, 3))
    joints[150:] += polyline([2.0, 3.0], 30.0, 5.0, 4)
    valid = np.ones((300, 4), dtype=bool)
    spread, metre = (line_candidates(joints, valid, 5, 0.005, unit) for unit in ("spread", "metre"))
    assert spread[:145].sum() > 10 and metre[:145].sum() == 0 and metre[150:].any()


def test_rule_by_hand() -> None:
    # slopes: 0, 1, -1, .006, .006 ; bends: 1, -2, 1.006, 0 ; tau2 = 4.006 / 4 = 1.0015
    e = np.array([0.0, 0.0, 1.0, 0.0, 0.006, 0.012])
    # frame 2 rises and bends up, frame 4 has bend above tau2, frame 5 rises by more than tau1 but does not bend up
    assert candidate_frames(e, 0.005).tolist() == [False, False, True, False, True, False]
    assert not candidate_frames(np.full(4, np.nan), 0.005).any()
