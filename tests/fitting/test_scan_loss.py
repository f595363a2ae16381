"""The loss of a scan's points: derivatives by differences, and what it promises of both sides."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fitting.scan_loss import even_loss, point_loss

SIGMA, CLOTH = 0.004, 0.05


@given(st.floats(-0.3, 0.5), st.floats(0.001, 0.999), st.floats(0.002, 0.02), st.floats(0.01, 0.2))
def test_the_slope_is_the_derivative(at: float, dressed: float, sigma: float, cloth: float) -> None:
    step = 1e-7
    ahead, here, behind = (
        point_loss(np.array([at + k * step]), sigma, cloth, np.array([dressed])) for k in (1.0, 0.0, -1.0)
    )
    wanted = (ahead.cost - behind.cost)[0] / (2 * step)
    assert here.slope[0] == pytest.approx(wanted, rel=1e-4, abs=1e-2)
    assert here.curvature[0] >= 0
    assert 0 <= here.cloth[0] <= 1 and 0 <= here.stray[0] <= 1


def test_cloth_pulls_gently_and_the_inside_fully() -> None:
    cloth = point_loss(np.array([0.02, 0.04, 0.08]), SIGMA, CLOTH, np.full(3, 0.99))
    assert (cloth.slope <= 1 / CLOTH + 1e-9).all() and (cloth.slope > 0).all()
    inside = point_loss(np.array([-0.003, -0.006]), SIGMA, CLOTH, np.full(2, 0.99))
    # a normal's pull and more: cloth says that the skin lies farther in
    assert (inside.slope < np.array([-0.003, -0.006]) / SIGMA**2).all()


def test_bare_skin_is_not_pulled_to_a_side() -> None:
    distance = np.linspace(-2 * SIGMA, 2 * SIGMA, 9)
    loss = point_loss(distance, SIGMA, CLOTH, np.full(9, 0.002))
    np.testing.assert_allclose(loss.slope, -loss.slope[::-1], atol=6.0)  # of 500 per metre at two sigmas
    np.testing.assert_allclose(loss.slope, distance / SIGMA**2, rtol=0.06, atol=1.0)


def test_far_points_pull_nothing() -> None:
    far = point_loss(np.array([-0.1, 1.0]), SIGMA, CLOTH, np.full(2, 0.01))
    np.testing.assert_allclose(far.slope, 0.0, atol=0.5)
    assert (far.stray > 0.9).all()


def test_the_even_loss_is_geman_and_mcclures() -> None:
    loss = even_loss(np.array([-0.02, 0.02]), 0.01, 0.02)
    np.testing.assert_allclose(loss.cost, 0.5 * 4 / 2)
    np.testing.assert_allclose(loss.slope, [-50.0, 50.0])
