"""Cuts at any rate, on joints whose kinks and pauses are known, and on the model's grid."""

from __future__ import annotations

import numpy as np
import pytest
from motions import polyline, reaches

from model.atoms import AtomConfig, atom_of_frames, atom_starts, cut_times

LINE = AtomConfig(rule="line")


@pytest.mark.parametrize("rate_hz", [30.0, 60.0, 25.0])
def test_kinks_are_found_at_any_rate(rate_hz: float) -> None:
    kinks_s = [1.0, 2.4, 3.2, 5.0]
    joints = polyline(kinks_s, rate_hz, 6.0)
    starts = atom_starts(joints, np.ones(joints.shape[:2], dtype=bool), rate_hz, LINE)
    # the first frame past a kink is the first that leaves the line; the cut can be nowhere else but there
    assert np.allclose(starts / rate_hz, [0.0, *kinks_s], atol=1.01 / rate_hz)


@pytest.mark.parametrize("rate_hz", [30.0, 60.0, 25.0])
def test_pauses_are_found_at_any_rate(rate_hz: float) -> None:
    joints = reaches([(1.0, 0.6), (0.8, 0.6), (1.5, 0.0), (1.0, 0.6), (0.7, 0.6)], rate_hz)
    starts = atom_starts(joints, np.ones(joints.shape[:2], dtype=bool), rate_hz, AtomConfig(rule="pauses"))
    # a rest begins and ends where the speed falls below its bound, within the movements beside it
    assert np.allclose(starts / rate_hz, [0.0, 1.0, 1.8, 3.3, 4.3], atol=0.15)
    assert np.allclose(starts[[1, 4]] / rate_hz, [1.0, 4.3], atol=0.05)


def test_kinks_within_the_pause_are_one_atom() -> None:
    joints = polyline([1.0, 1.2, 2.0], 30.0, 3.0)
    starts = atom_starts(joints, np.ones(joints.shape[:2], dtype=bool), 30.0, LINE)
    assert np.allclose(starts / 30, [0, 1.0, 2.0], atol=0.05)


def test_cuts_on_the_grid() -> None:
    joints = polyline([1.0, 1.7, 2.9], 30.0, 3.1)
    valid = np.ones(joints.shape[:2], dtype=bool)
    cuts_s = cut_times(joints, valid, 30.0, 5.0, LINE)
    # the last kink leaves one frame of the grid (3.0 s) behind it, too few for an Atom
    assert np.allclose(cuts_s, [0.0, 1.0, 1.7], atol=0.04)
    assert len(atom_starts(joints, valid, 30.0, LINE)) == 4


def test_frames_of_a_window_know_their_atom() -> None:
    cuts_s = np.array([0.0, 0.5, 1.03])
    # 0.5 s is 2.5 frames: nearest is 3; 1.03 s is 5.15 frames
    assert atom_of_frames(cuts_s, 0.0, 5.0, 7).tolist() == [0, 0, 0, 1, 1, 2, 2]
    assert atom_of_frames(cuts_s, 0.4, 5.0, 5).tolist() == [0, 1, 1, 2, 2]


@pytest.mark.parametrize(("every_s", "min_frames"), [(0.2, 1), (2.0, 2)])
def test_a_clock_cuts_at_equal_times(every_s: float, min_frames: int) -> None:
    joints_m = np.random.default_rng(0).normal(size=(301, 22, 3))
    config = AtomConfig(rule="clock", pause_s=every_s, min_frames=min_frames)
    cuts_s = cut_times(joints_m, np.ones((301, 22), bool), 30.0, 5.0, config)
    assert len(cuts_s) == round(10 / every_s) + (min_frames == 1)
    np.testing.assert_allclose(np.diff(cuts_s), every_s)
