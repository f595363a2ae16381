"""Motions spoilt on purpose, and recognition that suffers from it."""

from __future__ import annotations

import numpy as np
import pytest
from moving_people import motion, people

from core.skeletons import SMPL_24
from model.protocols.features import Statistics
from model.protocols.robustness import SPOILT, filled, gapped, noisy, robustness_rows, without_arm


def test_noise_is_as_large_as_it_is_said_to_be(rng: np.random.Generator) -> None:
    one = motion(0.5, 0.3, 300)
    difference = noisy(one, 0.03, rng).joints_m - one.joints_m
    assert abs(difference.std() - 0.03) < 0.001 and abs(difference.mean()) < 0.001


def test_gaps_are_straight_and_cover_a_third(rng: np.random.Generator) -> None:
    one = motion(1.0, 0.3, 450, joint=20)
    spoilt = gapped(one, 0.5, rng)
    moved = np.abs(spoilt.joints_m - one.joints_m).max(axis=2) > 1e-6
    assert not moved[:, 0].any() and 0.25 < moved[:, 20].mean() < 0.36
    assert spoilt.joints_m is not one.joints_m and np.array_equal(spoilt.poses, one.poses)
    path = np.arange(12.0)[:, None] ** np.array([1, 2, 0])
    known = np.array([0, 1, 1, 0, 0, 1, 1, 1, 1, 1, 1, 0], dtype=bool)
    by_hand = filled(path, known)
    assert np.allclose(by_hand[3], path[2] + (path[5] - path[2]) / 3) and np.allclose(by_hand[0], path[1])
    assert np.allclose(by_hand[11], path[10]) and np.allclose(by_hand[known], path[known])


def test_an_arm_that_is_never_seen_hangs_on_its_shoulder() -> None:
    wrist, shoulder = SMPL_24.idx("left_wrist"), SMPL_24.idx("left_shoulder")
    one = motion(0.5, 0.3, 60, joint=wrist)
    one.joints_m[:, shoulder, 0] += np.linspace(0, 1, 60)
    spoilt = without_arm(one, "left")
    assert np.allclose(np.ptp(spoilt.joints_m[:, wrist] - spoilt.joints_m[:, shoulder], axis=0), 0, atol=1e-6)
    others = [j for j in range(24) if j not in (wrist, SMPL_24.idx("left_elbow"), SMPL_24.idx("left_hand"))]
    assert np.array_equal(spoilt.joints_m[:, others], one.joints_m[:, others])


def test_clean_clips_are_told_and_noise_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SPOILT, "noise of 3 m", lambda one, rng: noisy(one, 3.0, rng))  # type: ignore[arg-type]
    rows = robustness_rows(Statistics("full"), people(), 1)
    assert len(rows) == 2 * len(SPOILT)
    assert rows["clean | ridge, alpha = 100"]["accuracy"] == 1.0 == rows["noise of 10 mm | k-NN, k = 20"]["accuracy"]
    assert rows["noise of 3 m | ridge, alpha = 100"]["accuracy"] < 1.0
    assert rows == robustness_rows(Statistics("full"), people(), 1)
