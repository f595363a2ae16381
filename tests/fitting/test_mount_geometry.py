"""How a foot camera sits on a foot: E_u, E_d and E_a by themselves, and the mount that they ask for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from core.errors import InputError
from core.transforms import SE3, geodesic
from fitting.mount_geometry import (
    ANKLES,
    FootShape,
    MountGeometryConfig,
    MountTerm,
    above_term,
    axis_term,
    dorsum_term,
    foot_shape,
    mount_term,
    ridden_feet,
)
from fitting.stand_in import stand_in_body

# looks up, its lower edge to the toes: x to the wearer's right, y ahead, z up; the ankle's x is left, y up, z ahead
UPRIGHT = SE3(np.array([[-1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]]), np.array([0.0, 0.05, 0.06]))
FORWARD = np.array([0.0, 0.0, -1.0])  # from the toes to the heel, in the ankle's frame


@pytest.fixture
def points(rng: np.random.Generator) -> np.ndarray:
    return rng.normal(0, 0.05, size=(20, 3))


@pytest.mark.parametrize("which", ["above", "dorsum", "axis"])
def test_terms_differentiate(rng: np.random.Generator, points: np.ndarray, which: str) -> None:
    terms: dict[str, Callable[[SE3], MountTerm]] = {
        "above": lambda mount: above_term(mount, points, 0.01),
        "dorsum": lambda mount: dorsum_term(mount, points, 0.02),
        "axis": lambda mount: axis_term(mount, FORWARD, np.array([0.0, -1.0, 0.0]), 0.2),
    }
    mount = SE3.from_rotvec(rng.normal(0, 0.5, 3), rng.normal(0, 0.02, 3))
    term = terms[which](mount)
    numeric = [
        (terms[which](mount.retract(s)).cost - terms[which](mount.retract(-s)).cost) / 2e-6 for s in 1e-6 * np.eye(6)
    ]
    np.testing.assert_allclose(term.gradient, numeric, rtol=1e-5, atol=1e-4)
    assert np.linalg.eigvalsh(term.hessian).min() > -1e-9


def test_heights_worked_by_hand() -> None:
    """Two points, 2 cm above the plane and 4 cm below it."""
    points = UPRIGHT.t + np.array([[0.01, 0.02, 0.0], [0.0, -0.04, 0.03]])
    assert above_term(UPRIGHT, points, 0.01).cost == pytest.approx(0.5 * (0.02 / 0.01) ** 2 / 2)
    assert dorsum_term(UPRIGHT, points, 0.01).cost == pytest.approx(0.5 * (0.02**2 + 0.04**2) / 0.01**2 / 2)


def test_axis_worked_by_hand() -> None:
    minus_y = np.array([0.0, -1.0, 0.0])
    assert axis_term(UPRIGHT, FORWARD, minus_y, 0.1).cost == pytest.approx(0.0, abs=1e-20)
    turned = UPRIGHT.retract(np.array([0.0, 0.0, 0.3, 0.0, 0.0, 0.0]))
    assert axis_term(turned, FORWARD, minus_y, 0.1).cost == pytest.approx((1 - np.cos(0.3)) / 0.01)


def test_together_they_bring_a_mount_to_its_place() -> None:
    foot = foot_shape(stand_in_body(), ANKLES["left_foot"])
    assert foot is not None
    config = MountGeometryConfig(heel_axis="-y")
    mount = UPRIGHT.retract(np.array([0.3, -0.2, 0.5, 0.0, 0.04, 0.02]))
    for _ in range(50):
        term = mount_term(mount, foot, config)
        mount = mount.retract(-np.linalg.solve(term.hessian + 1e-3 * np.eye(6), term.gradient))
    # the plane lies on the dorsum, which slopes down to the toes, and the axis runs to the heel as near as that allows
    height = (foot.points_m - mount.t) @ mount.R[:, 2]
    assert np.abs(height[foot.dorsum]).mean() < config.dorsum_sigma_m and np.maximum(height, 0).mean() < 0.002
    assert np.rad2deg(np.arccos((mount.R @ config.axis) @ foot.heel_from_toes)) < 40
    assert geodesic(mount.R, UPRIGHT.R) < np.deg2rad(60)
    assert term.cost < mount_term(UPRIGHT, foot, config).cost


def test_nothing_is_assumed_of_an_unknown_axis() -> None:
    shapes = {7: FootShape(np.zeros((1, 3)), np.ones(1, bool), FORWARD)}
    assert ridden_feet(shapes, {"foot": 7}, MountGeometryConfig()) == {}
    assert ridden_feet(shapes, {"foot": 7}, MountGeometryConfig(heel_axis="+x"))["foot"] is shapes[7]
    with pytest.raises(InputError, match="no foot"):
        ridden_feet(shapes, {"foot": 8}, MountGeometryConfig(heel_axis="+x"))


def test_feet_of_the_body_are_feet() -> None:
    left, right = (foot_shape(stand_in_body(), ANKLES[role]) for role in ("left_foot", "right_foot"))
    assert left is not None and right is not None
    for foot in (left, right):
        assert foot.heel_from_toes @ FORWARD > 0.9
        assert foot.points_m[foot.dorsum, 1].mean() > foot.points_m[:, 1].mean() + 0.01
    np.testing.assert_allclose(left.heel_from_toes * [-1, 1, 1], right.heel_from_toes, atol=0.05)
