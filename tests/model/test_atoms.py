"""Eq. A on joints whose kinks are known."""

from __future__ import annotations

import numpy as np
import pytest

from core.errors import InputError
from model.atoms import (
    AtomConfig,
    atom_of_frames,
    atom_starts,
    candidate_frames,
    cut_times,
    extrapolation_error,
    extrapolation_weights,
    normalised_error,
)


def polyline(kinks_s: list[float], rate_hz: float, seconds: float, num_joints: int = 5) -> np.ndarray:
    """Joints that move on straight lines and change their velocity at the given times; joint 0 stands still."""
    rng = np.random.default_rng(3)
    t_s = np.arange(round(seconds * rate_hz)) / rate_hz
    knots = np.array([0.0, *kinks_s, seconds])
    values = rng.normal(size=(len(knots), num_joints, 3))
    values[:, 0] = 0.0
    flat = [np.interp(t_s, knots, values[:, j, c]) for j in range(num_joints) for c in range(3)]
    return np.stack(flat, axis=-1).reshape(len(t_s), num_joints, 3)


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


@pytest.mark.parametrize("rate_hz", [30.0, 60.0, 25.0])
def test_kinks_are_found_at_any_rate(rate_hz: float) -> None:
    kinks_s = [1.0, 2.4, 3.2, 5.0]
    joints = polyline(kinks_s, rate_hz, 6.0)
    starts = atom_starts(joints, np.ones(joints.shape[:2], dtype=bool), rate_hz, AtomConfig())
    # the first frame past a kink is the first that leaves the line; the cut can be nowhere else but there
    assert np.allclose(starts / rate_hz, [0.0, *kinks_s], atol=1.01 / rate_hz)


def test_kinks_within_the_pause_are_one_atom() -> None:
    joints = polyline([1.0, 1.2, 2.0], 30.0, 3.0)
    starts = atom_starts(joints, np.ones(joints.shape[:2], dtype=bool), 30.0, AtomConfig())
    assert np.allclose(starts / 30, [0, 1.0, 2.0], atol=0.05)


def test_constant_channels_do_not_count() -> None:
    rng = np.random.default_rng(1)
    moving = np.abs(rng.normal(size=(50, 1, 3)))
    with_constant = np.concatenate([moving, np.full((50, 3, 3), 2e-9)], axis=1)
    assert np.allclose(normalised_error(moving), normalised_error(with_constant))


def test_rule_by_hand() -> None:
    # slopes: 0, 1, -1, .006, .006 ; bends: 1, -2, 1.006, 0 ; tau2 = 4.006 / 4 = 1.0015
    e = np.array([0.0, 0.0, 1.0, 0.0, 0.006, 0.012])
    # frame 2 rises and bends up, frame 4 has bend above tau2, frame 5 rises by more than tau1 but does not bend up
    assert candidate_frames(e, 0.005).tolist() == [False, False, True, False, True, False]
    assert not candidate_frames(np.full(4, np.nan), 0.005).any()


def test_cuts_on_the_grid() -> None:
    joints = polyline([1.0, 1.7, 2.9], 30.0, 3.1)
    valid = np.ones(joints.shape[:2], dtype=bool)
    cuts_s = cut_times(joints, valid, 30.0, 5.0, AtomConfig())
    # the last kink leaves one frame of the grid (3.0 s) behind it, too few for an Atom
    assert np.allclose(cuts_s, [0.0, 1.0, 1.7], atol=0.04)
    assert len(atom_starts(joints, valid, 30.0, AtomConfig())) == 4


def test_frames_of_a_window_know_their_atom() -> None:
    cuts_s = np.array([0.0, 0.5, 1.03])
    # 0.5 s is 2.5 frames: nearest is 3; 1.03 s is 5.15 frames
    assert atom_of_frames(cuts_s, 0.0, 5.0, 7).tolist() == [0, 0, 0, 1, 1, 2, 2]
    assert atom_of_frames(cuts_s, 0.4, 5.0, 5).tolist() == [0, 1, 1, 2, 2]
