"""Every term's derivatives against central differences, and its value where the answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from core.cameras import Camera, Lens, Rig
from core.transforms import SE3, so3_exp
from fitting.prior import acceleration_sigma, pose_prior
from fitting.rays import rays_of
from fitting.residuals import (
    PointTerm,
    acceleration_term,
    floor_term,
    limit_term,
    point_term,
    reprojection_term,
    rest_term,
    velocity_term,
)

STEP = 1e-6


def ring_rig(num_views: int = 3) -> Rig:
    """Cameras 4 m from the origin, 2 m up, looking at a point 1 m above it."""
    cameras = []
    for i, angle in enumerate(np.linspace(0, 2 * np.pi, num_views, endpoint=False)):
        centre = np.array([4 * np.cos(angle), 4 * np.sin(angle), 2.0])
        z = np.array([0, 0, 1.0]) - centre
        z /= np.linalg.norm(z)
        x = np.cross(z, [0, 0, 1.0])
        x /= np.linalg.norm(x)
        R = np.stack([x, np.cross(z, x), z])
        lens = Lens("radtan", (800, 600), (600.0, 610.0), (400.0, 300.0), (-0.1, 0.02, 0.001, -0.001, 0.0))
        cameras.append(Camera(f"cam{i}", lens, SE3(R, -R @ centre)))
    return Rig(tuple(cameras))


def check_point_term(term_of, points: np.ndarray) -> None:  # type: ignore[no-untyped-def]
    """The gradient is the derivative of the cost."""
    term: PointTerm = term_of(points)
    for index in np.ndindex(points.shape):
        shift = np.zeros_like(points)
        shift[index] = STEP
        slope = (term_of(points + shift).cost - term_of(points - shift).cost) / (2 * STEP)
        assert term.gradient[index] == pytest.approx(slope, rel=1e-4, abs=1e-3)


def test_reprojection_gradient_and_zero_at_the_truth(rng: np.random.Generator) -> None:
    rig = ring_rig()
    truth = rng.uniform([-0.5, -0.5, 0.2], [0.5, 0.5, 1.8], size=(2, 3, 3))
    xy = rig.project(truth)
    rays = rays_of(rig, xy.reshape(3, -1, 2), np.full((3, 6), 0.8), 0.1)
    assert reprojection_term(rays, truth, 2.0, 10.0).cost == pytest.approx(0, abs=1e-9)
    check_point_term(lambda p: reprojection_term(rays, p, 2.0, 10.0), truth + rng.normal(0, 0.01, truth.shape))


def test_reprojection_hessian_is_gauss_newtons(rng: np.random.Generator) -> None:
    """With an infinite scale the cost is quadratic in pixels: its curvature at the truth is J^T J / sigma^2."""
    rig = ring_rig()
    truth = np.array([[[0.1, 0.2, 1.0]]])
    rays = rays_of(rig, rig.project(truth).reshape(3, 1, 2), np.ones((3, 1)), 0.1)
    term = reprojection_term(rays, truth, 2.0, 1e4)
    d = rng.normal(size=3)
    h = 1e-4
    curvature = sum(reprojection_term(rays, truth + s * h * d, 2.0, 1e4).cost for s in (1, -1)) / h**2
    assert d @ term.hessian[0, 0] @ d == pytest.approx(curvature, rel=1e-3)


def test_an_outlier_pulls_less_than_a_good_keypoint() -> None:
    rig = ring_rig(2)
    truth = np.array([[[0.0, 0.0, 1.0]]])
    pull = []
    for error_px in (3.0, 120.0):
        xy = rig.project(truth).reshape(2, 1, 2)
        xy[0] += [error_px, 0]
        term = reprojection_term(rays_of(rig, xy, np.ones((2, 1)), 0.1), truth, 2.0, 10.0)
        pull.append(np.linalg.norm(term.gradient))
    assert pull[1] < 0.05 * pull[0]


def test_point_and_floor_terms(rng: np.random.Generator) -> None:
    points = rng.normal(0, 0.3, size=(2, 4, 3))
    target = points + rng.normal(0, 0.05, size=points.shape)
    target[0, 1] = np.nan
    check_point_term(lambda p: point_term(p, target, 0.01, 0.1), points)
    assert np.all(point_term(points, target, 0.01, 0.1).gradient[0, 1] == 0)
    check_point_term(lambda p: floor_term(p, 0.01), points)
    assert floor_term(np.abs(points), 0.01).cost == 0


@pytest.mark.parametrize("term", ["rest", "limit"])
def test_joint_terms_differentiate(rng: np.random.Generator, term: str) -> None:
    R = so3_exp(rng.normal(0, 0.7, size=(2, 24, 3)))
    prior = pose_prior()

    def cost_of(R: np.ndarray):  # type: ignore[no-untyped-def]
        if term == "rest":
            return rest_term(R, np.zeros((24, 3)), prior.sigma)
        return limit_term(R, prior.low, prior.high, 0.1)

    gradient = cost_of(R).gradient
    for j in (1, 4, 12, 18):
        for axis in range(3):
            d = np.zeros((2, 24, 3))
            d[1, j, axis] = STEP
            slope = (cost_of(R @ so3_exp(d)).cost - cost_of(R @ so3_exp(-d)).cost) / (2 * STEP)
            assert gradient[1, j, axis] == pytest.approx(slope, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("term_of", [velocity_term, acceleration_term])
def test_time_terms_differentiate(rng: np.random.Generator, term_of) -> None:  # type: ignore[no-untyped-def]
    R = so3_exp(rng.normal(0, 0.4, size=(4, 2, 3)))
    transl = rng.normal(size=(4, 3))
    sigma = np.array([0.1, 0.2, 0.3])
    term = term_of(R, transl, sigma)
    reach = term.jacobian.shape[1]
    for frame in range(4):
        for slot in range(3):
            for axis in range(3):
                dt, dr = np.zeros((4, 3)), np.zeros((4, 2, 3))
                (dt if slot == 0 else dr[:, slot - 1])[frame, axis] = STEP
                plus = term_of(R @ so3_exp(dr), transl + dt, sigma).residual
                minus = term_of(R @ so3_exp(-dr), transl - dt, sigma).residual
                numeric = (plus - minus)[:, slot] / (2 * STEP)
                for i in range(len(numeric)):
                    k = frame - i
                    expected = term.jacobian[i, k, slot, :, axis] if 0 <= k < reach else np.zeros(3)
                    np.testing.assert_allclose(numeric[i], expected, atol=1e-5)


def test_steady_motion_has_no_acceleration() -> None:
    turn = so3_exp(np.array([0.0, 0.1, 0.05]))
    R = np.stack([np.linalg.matrix_power(turn, t) for t in range(5)])[:, None]
    transl = np.arange(5)[:, None] * np.array([0.1, 0.0, 0.0])
    assert acceleration_term(R, transl, np.ones(2)).cost == pytest.approx(0, abs=1e-20)


def test_prior_is_symmetric_and_allows_everyday_poses() -> None:
    prior = pose_prior()
    assert np.all(prior.low < prior.high)
    assert np.all((prior.low <= 0) & (prior.high >= 0)), "the rest pose lies inside every range"
    assert prior.high[4, 0] > np.deg2rad(140), "knees bend"
    assert prior.low[18, 1] < np.deg2rad(-140) < 0 < prior.high[19, 1], "elbows bend towards the front"
    assert prior.low[4, 0] > np.deg2rad(-10), "knees do not bend backwards"


def test_acceleration_prior_does_not_depend_on_the_rate() -> None:
    """White acceleration noise of one strength: the second difference at a double step has 2^1.5 times the spread."""
    np.testing.assert_allclose(acceleration_sigma(2 / 30), 2**1.5 * acceleration_sigma(1 / 30))


def test_ring_rig_looks_at_the_middle() -> None:
    xy = ring_rig().project(np.array([[0.0, 0.0, 1.0]]))
    np.testing.assert_allclose(xy, np.broadcast_to([400.0, 300.0], xy.shape), atol=1e-9)
