from __future__ import annotations

import numpy as np
import pytest

from calibration.trajectory import STATE, Smoothness, Trajectory, estimate_smoothness
from core.transforms import SE3, geodesic, so3_log


@pytest.fixture
def wild(rng: np.random.Generator) -> Trajectory:
    """Knots at uneven times with large turns between them, and a gap."""
    t_s = np.cumsum(rng.uniform(0.05, 0.3, 6))
    t_s[4:] += 2.0
    pose = SE3.from_rotvec(0.9 * rng.standard_normal((6, 3)), rng.standard_normal((6, 3)))
    start = Trajectory.through(t_s, pose, 1.0)
    return start.retract(np.concatenate([np.zeros((6, 6)), 2 * rng.standard_normal((6, 6))], axis=1))


def turn_between(a: SE3, b: SE3) -> np.ndarray:
    return np.concatenate([so3_log(np.swapaxes(a.R, -1, -2) @ b.R), b.t - a.t], axis=-1)


def test_derivatives_by_the_knots_agree_with_numeric_ones(wild: Trajectory, rng: np.random.Generator) -> None:
    query = np.sort(rng.uniform(wild.t_s[0] - 0.1, wild.t_s[-1] + 0.1, 30))
    sample, step = wild.sample(query), 1e-6
    analytic = np.zeros((30, 6, (len(wild) + 1) * STATE))
    for n, k in enumerate(sample.knot):
        analytic[n, :, STATE * k : STATE * (k + 2)] = sample.by_knots[n]
    assert not analytic[:, :, len(wild) * STATE :].any(), "after the last knot nothing follows"
    for column in range(len(wild) * STATE):
        move = np.zeros((len(wild), STATE))
        move.flat[column] = step
        ahead, back = wild.retract(move).at(query), wild.retract(-move).at(query)
        numeric = (turn_between(sample.world_from_body, ahead) - turn_between(sample.world_from_body, back)) / (
            2 * step
        )
        np.testing.assert_allclose(analytic[:, :, column], numeric, atol=1e-6 * max(1.0, np.abs(numeric).max()))


def test_velocities_are_the_derivative_by_time(wild: Trajectory, rng: np.random.Generator) -> None:
    query, step = rng.uniform(wild.t_s[0], wild.t_s[-1], 30), 1e-5
    numeric = turn_between(wild.at(query - step), wild.at(query + step)) / (2 * step)
    np.testing.assert_allclose(wild.sample(query).velocity, numeric, atol=1e-4)


def test_derivatives_of_the_prior_agree_with_numeric_ones(wild: Trajectory) -> None:
    prior, step = Smoothness(2.0, 0.5), 1e-6
    _, by_first, by_second = prior.residual(wild)
    assert not by_first[~wild.linked].any(), "gaps have no prior"
    for column in range(len(wild) * STATE):
        move = np.zeros((len(wild), STATE))
        move.flat[column] = step
        numeric = (prior.residual(wild.retract(move))[0] - prior.residual(wild.retract(-move))[0]) / (2 * step)
        knot, state = divmod(column, STATE)
        analytic = np.zeros_like(numeric)
        analytic[knot] += by_first[knot, :, state]
        if knot:
            analytic[knot - 1] += by_second[knot - 1, :, state]
        np.testing.assert_allclose(analytic, numeric, atol=1e-5 * max(1.0, np.abs(numeric).max()))


def test_it_passes_through_its_knots_and_is_exact_for_cubics() -> None:
    t_s, query = np.array([0.0, 0.4, 1.0]), np.linspace(0, 1, 11)

    def place(t: np.ndarray) -> np.ndarray:
        return np.stack([t**3, 1 - t**2, 2 * t], axis=-1)

    speed = np.stack([3 * t_s**2, -2 * t_s, 2 + 0 * t_s], axis=-1)
    R = np.broadcast_to(np.eye(3), (3, 3, 3)).copy()
    velocity = np.concatenate([np.zeros((3, 3)), speed], axis=-1)
    path = Trajectory(t_s, SE3(R, place(t_s)), velocity, np.array([True, True, False]))
    np.testing.assert_allclose(path.at(query).t, place(query), atol=1e-12)


def test_further_knots_change_nothing(wild: Trajectory, rng: np.random.Generator) -> None:
    dense = wild.densified(0.03)
    assert len(dense) > 2 * len(wild)
    assert np.diff(dense.t_s)[dense.linked[:-1]].max() < 0.046
    query = rng.uniform(wild.t_s[0], wild.t_s[-1], 50)
    a, b = wild.at(query), dense.at(query)
    np.testing.assert_allclose(a.t, b.t, atol=1e-9)
    # a cubic in one tangent space is nearly, not quite, one in another's
    assert geodesic(a.R, b.R).max() < 0.01


def test_the_prior_whitens_motions_of_its_own_kind(rng: np.random.Generator) -> None:
    h, n = 0.1, 4000
    root = np.linalg.cholesky(0.7 * np.array([[h**3 / 3, h**2 / 2], [h**2 / 2, h]]))
    state = np.zeros((n, 2, 3))
    for k in range(1, n):
        state[k, 0] = state[k - 1, 0] + h * state[k - 1, 1]
        state[k, 1] = state[k - 1, 1]
        state[k] += root @ rng.standard_normal((2, 3))
    R = np.broadcast_to(np.eye(3), (n, 3, 3)).copy()
    velocity = np.concatenate([np.zeros((n, 3)), state[:, 1]], axis=-1)
    path = Trajectory(h * np.arange(n), SE3(R, state[:, 0]), velocity, np.arange(n) < n - 1)
    residual = Smoothness(1.0, 0.7).residual(path)[0][:-1].reshape(-1, 2, 2, 3)[:, :, 1]
    # the variance of 24000 normal numbers is one within 1 % (one standard deviation)
    assert residual.var() == pytest.approx(1.0, abs=0.05)
    assert abs(np.mean(residual[:, 0] * residual[:, 1])) < 0.05
    assert estimate_smoothness(path).translation == pytest.approx(0.7, rel=0.15)


def test_a_single_knot_goes_on_at_its_velocity() -> None:
    path = Trajectory(np.array([1.0]), SE3.identity(1), np.array([[0, 0, 1.0, 2.0, 0, 0]]), np.array([False]))
    later = path.at(np.array([1.5]))
    np.testing.assert_allclose(later.t, [[1.0, 0, 0]])
    np.testing.assert_allclose(later.rotvec, [[0, 0, 0.5]])
