"""Accelerations of known movements, and the frames at which a turn cuts."""

from __future__ import annotations

import numpy as np
import pytest
from motions import polyline

from model.atoms import AtomConfig, atom_starts
from model.turns import TurnConfig, body_acceleration, turn_candidates, turn_future

CONFIG = TurnConfig()


def everything(joints: np.ndarray) -> np.ndarray:
    return np.ones(joints.shape[:2], dtype=bool)


@pytest.mark.parametrize("rate_hz", [20.0, 30.0, 120.0])
def test_acceleration_of_a_fall_and_of_a_line(rate_hz: float) -> None:
    t_s = np.arange(80) / rate_hz
    joints = np.zeros((80, 2, 3))
    joints[:, 0, 2] = -0.5 * 9.81 * t_s**2
    joints[:, 1, 0] = 3.0 * t_s
    found = body_acceleration(joints, everything(joints), rate_hz, CONFIG)
    inner = slice(turn_future(rate_hz, CONFIG), -turn_future(rate_hz, CONFIG))
    assert np.allclose(found[inner], 9.81 / np.sqrt(2))
    steady = body_acceleration(joints[:, 1:], everything(joints[:, 1:]), rate_hz, CONFIG)
    assert np.allclose(steady, 0.0, atol=1e-9)


@pytest.mark.parametrize("rate_hz", [30.0, 60.0, 25.0])
def test_kinks_are_found_at_any_rate(rate_hz: float) -> None:
    kinks_s = [1.0, 2.4, 3.2, 5.0]
    joints = polyline(kinks_s, rate_hz, 6.0)
    starts = atom_starts(joints, everything(joints), rate_hz, AtomConfig(rule="turns"))
    assert np.allclose(starts / rate_hz, [0.0, *kinks_s], atol=1.01 / rate_hz)


def test_small_turns_and_lesser_neighbours_do_not_count() -> None:
    acceleration = np.full(60, 1.0)
    acceleration[[10, 14, 30, 50]] = 5.0, 6.0, 3.9, 4.0
    assert np.flatnonzero(turn_candidates(acceleration, 30.0, CONFIG)).tolist() == [14, 50]
    assert not turn_candidates(np.full(9, np.nan), 30.0, CONFIG).any()


def test_still_people_are_left_whole() -> None:
    rng = np.random.default_rng(0)
    joints = 0.001 * rng.normal(size=(900, 22, 3))
    assert atom_starts(joints, everything(joints), 30.0, AtomConfig()).tolist() == [0]
