"""Figures of a fit by frame."""

from __future__ import annotations

import numpy as np
import pytest

from fitting.quality import penetrations_m, skates_m_s


def test_the_lowest_point_says_how_deep_a_frame_is() -> None:
    height = np.array([[0.02, 0.0], [-0.01, 0.3], [-0.03, -0.04]])
    points = np.zeros((3, 2, 3))
    points[..., 2] = height
    np.testing.assert_allclose(penetrations_m(points), [0.0, 0.01, 0.04])


def test_only_what_rests_skates_and_only_along_the_floor() -> None:
    """Three points: one slides at 0.3 and 0.4 m/s, one rises on the spot, one flies."""
    t = np.arange(5) * 0.1
    points = np.zeros((5, 3, 3))
    points[:, 0, 0], points[:, 0, 1] = 0.3 * t, 0.4 * t
    points[:, 1, 2] = 2 * t
    points[:, 2, 0] = 5 * t
    contacts = np.tile([0.5, 1.0, 0.0], (5, 1))
    np.testing.assert_allclose(skates_m_s(points, contacts, 0.1), np.tile([0.25, 0.0, 0.0], (5, 1)), atol=1e-12)
    assert skates_m_s(points[:1], contacts[:1], 0.1) == pytest.approx(0)
