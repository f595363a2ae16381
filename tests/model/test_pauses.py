"""Speeds of known movements, and the frames at which a pause cuts."""

from __future__ import annotations

import numpy as np
import pytest
from motions import reaches

from model.pauses import PauseConfig, PauseReach, body_speed, pause_candidates

CONFIG = PauseConfig()
REACH = PauseReach.of(CONFIG, 30.0)


def everything(joints: np.ndarray) -> np.ndarray:
    return np.ones(joints.shape[:2], dtype=bool)


def found(speed: list[float] | np.ndarray) -> list[int]:
    return np.flatnonzero(pause_candidates(np.asarray(speed, dtype=float), CONFIG, REACH)).tolist()


@pytest.mark.parametrize("rate_hz", [20.0, 30.0, 120.0])
def test_speed_of_a_straight_movement_is_exact_to_its_ends(rate_hz: float) -> None:
    velocity = np.array([[3.0, 4.0, 0.0], [0.0, 0.0, 0.0]])
    joints = velocity * (np.arange(60) / rate_hz)[:, None, None]
    speed = body_speed(joints, everything(joints), rate_hz, PauseReach.of(CONFIG, rate_hz))
    assert np.allclose(speed, 5.0 / np.sqrt(2))


def test_speed_of_a_swing() -> None:
    t_s = np.arange(300) / 30
    joints = np.zeros((300, 1, 3))
    joints[:, 0, 0] = np.sin(2 * np.pi * t_s)
    speed = body_speed(joints, everything(joints), 30.0, REACH)
    # the Gaussian damps a swing of 1 Hz by exp(-(2 pi sigma)^2 / 2)
    expected = 2 * np.pi * np.abs(np.cos(2 * np.pi * t_s)) * np.exp(-0.5 * (2 * np.pi / 15) ** 2)
    assert np.abs(speed - expected)[10:-10].max() < 0.02 * 2 * np.pi


def test_missing_joints_do_not_count_and_missing_frames_are_unknown() -> None:
    rng = np.random.default_rng(0)
    joints = np.cumsum(rng.normal(size=(80, 3, 3)), axis=0)
    valid = everything(joints)
    valid[:, 1] = False
    valid[40] = False
    spoilt = np.where(valid[..., None], joints, 1e6)
    speed = body_speed(spoilt, valid, 30.0, REACH)
    alone = body_speed(joints[:, [0, 2]], everything(joints[:, [0, 2]]), 30.0, REACH)
    unknown = np.isnan(speed)
    assert np.flatnonzero(unknown).tolist() == list(range(40 - REACH.radius, 40 + REACH.radius + 1))
    assert np.array_equal(speed[~unknown], alone[~unknown])
    assert np.isnan(body_speed(joints[:6], everything(joints[:6]), 30.0, REACH)).all()


def test_minima_must_lie_deep_enough_on_both_sides() -> None:
    valley = np.concatenate([np.linspace(1, 0.6, 11), np.linspace(0.64, 1, 10)])
    assert found(valley) == [10]
    assert found(0.7 * valley) == []  # 0.28 m/s deep
    assert found(np.concatenate([valley[:11], np.linspace(0.61, 0.8, 10)])) == []  # shallow on one side
    assert found(np.concatenate([np.full(30, 0.6), np.linspace(0.6, 1, 11)])) == []


def test_rests_are_whole_whatever_happens_in_them() -> None:
    rng = np.random.default_rng(1)
    moving = 0.5 + 0.02 * np.arange(20)
    rest = 0.19 * rng.random(90)
    assert found(np.concatenate([moving[::-1], rest, moving])) == [20, 110]
    # shorter than half a second it is a minimum like others
    dip = 0.05 + 0.002 * np.square(np.arange(14) - 6)
    assert found(np.concatenate([moving[::-1], dip, moving])) == [26]


def test_nothing_begins_where_nothing_is_known() -> None:
    speed = np.concatenate([np.linspace(1, 0.4, 15), np.full(20, np.nan), np.full(40, 0.05), np.linspace(0.3, 1, 15)])
    assert found(speed) == [75]
    assert found(np.full(50, np.nan)) == [] and found([]) == []


def test_a_cut_depends_on_its_surroundings_alone() -> None:
    joints = reaches([(0.8, 0.5), (0.7, 0.5), (1.2, 0.0), (0.6, 0.4), (0.9, 0.6), (0.7, 0.3)], 30.0)
    valid = everything(joints)
    whole = pause_candidates(body_speed(joints, valid, 30.0, REACH), CONFIG, REACH)
    first, last = 20, 120
    part = pause_candidates(body_speed(joints[first:last], valid[first:last], 30.0, REACH), CONFIG, REACH)
    inner = slice(REACH.future, last - first - REACH.future)
    assert whole[first:last][inner].any()
    assert np.array_equal(part[inner], whole[first:last][inner])
