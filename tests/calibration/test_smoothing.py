from __future__ import annotations

import numpy as np
import pytest
from synthetic_scenes import foot_way

from calibration.smoothing import SmoothedWay, SmoothingConfig, shifted, smooth_way
from calibration.tridiagonal import solve_chain
from core.transforms import SE3

T_S = np.arange(0, 8, 1 / 30)
SIGMA = np.repeat([0.001, 0.0015], 3)  # rad and m of a measurement


@pytest.mark.parametrize("n", [1, 2, 3, 8, 17])
def test_a_chain_is_solved_with_the_blocks_of_its_inverse(n: int, rng: np.random.Generator) -> None:
    d = 3
    A = np.kron(np.eye(n), np.eye(d))
    for k in range(n - 1):
        J = rng.standard_normal((4, 2 * d))
        A[d * k : d * k + 2 * d, d * k : d * k + 2 * d] += J.T @ J
    b = rng.standard_normal(n * d)
    blocks = A.reshape(n, d, n, d).swapaxes(1, 2)
    below = np.array([blocks[k + 1, k] for k in range(n - 1)]).reshape(-1, d, d)
    x, S, S_below = solve_chain(np.array([blocks[k, k] for k in range(n)]), below, b.reshape(n, d))
    inverse = np.linalg.inv(A).reshape(n, d, n, d).swapaxes(1, 2)
    np.testing.assert_allclose(x.ravel(), np.linalg.solve(A, b), atol=1e-10)
    np.testing.assert_allclose(S, [inverse[k, k] for k in range(n)], atol=1e-10)
    if n > 1:
        np.testing.assert_allclose(S_below, [inverse[k + 1, k] for k in range(n - 1)], atol=1e-10)


def test_it_is_the_rauch_tung_striebel_smoother(rng: np.random.Generator) -> None:
    """Against the textbook's two loops, on one coordinate of a camera that does not turn."""
    n, sigma, config = 40, 0.01, SmoothingConfig(adaptive=False, outlier_sigmas=100.0)
    t_s = np.cumsum(rng.uniform(0.02, 0.05, n))
    z = np.cumsum(rng.standard_normal(n)) * 0.02
    used = rng.random(n) > 0.2
    used[[0, -1]] = True
    pose = SE3(SE3.identity(n).R, np.stack([z, 0 * z, 0 * z], axis=-1))
    way = smooth_way(t_s, pose, np.tile(sigma**2 * np.eye(6), (n, 1, 1)), used, config)
    density = config.acceleration_mps2**2 * np.median(np.diff(t_s))
    x, P = np.zeros((n, 2)), np.zeros((n, 2, 2))
    ahead: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    m, C = np.array([z[0], 0.0]), np.diag([100.0, 100.0])
    for k in range(n):
        if k:
            dt = t_s[k] - t_s[k - 1]
            F = np.array([[1, dt], [0, 1]])
            m, C = F @ m, F @ C @ F.T + density * np.array([[dt**3 / 3, dt**2 / 2], [dt**2 / 2, dt]])
            ahead.append((F, m, C))
        if used[k]:
            gain = C[:, 0] / (C[0, 0] + sigma**2)
            m, C = m + gain * (z[k] - m[0]), C - np.outer(gain, C[0])
        x[k], P[k] = m, C
    for k in range(n - 2, -1, -1):
        F, m, C = ahead[k]
        gain = P[k] @ F.T @ np.linalg.inv(C)
        x[k], P[k] = x[k] + gain @ (x[k + 1] - m), P[k] + gain @ (P[k + 1] - C) @ gain.T
    np.testing.assert_allclose(way.world_from_cam.t[:, 0], x[:, 0], atol=1e-5)
    np.testing.assert_allclose(way.motion[:, 3], x[:, 1], atol=1e-3)
    np.testing.assert_allclose(way.covariance[:, 3, 3], P[:, 0, 0], rtol=1e-3)


def resting_way(t_s: np.ndarray) -> SE3:
    """A foot that rests for 1.2 s and steps for 0.6 s."""
    part = t_s % 1.8
    return foot_way(0.6 * np.floor(t_s / 1.8) + np.where(part < 1.2, part / 4, part / 2 - 0.3))


def stepping(rng: np.random.Generator, share: float = 0.2) -> tuple[SmoothedWay, SE3]:
    """A foot that steps, measured with noise, and covered in stretches of six frames on average."""
    truth, n = resting_way(T_S), len(T_S)
    covered = np.zeros(n, bool)
    while covered.mean() < share:
        start = int(rng.integers(2, n - 2))
        covered[start : start + int(rng.geometric(1 / 6))] = True
    covered[[0, 1, -2, -1]] = False
    scale = rng.uniform(0.5, 1.5, (n, 1)) * SIGMA
    measured = truth.retract(scale * rng.standard_normal((n, 6)))
    return smooth_way(T_S, measured, scale[:, :, None] ** 2 * np.eye(6), ~covered), truth


def test_errors_stay_inside_their_bounds_in_measured_and_in_filled_frames() -> None:
    inside: dict[bool, list[np.ndarray]] = {True: [], False: []}
    for seed in range(12):
        way, truth = stepping(np.random.default_rng(seed))
        sigma = np.sqrt(np.einsum("nii->ni", way.covariance))
        good = np.abs(way.world_from_cam.local(truth)) < 1.96 * sigma
        for measured in (True, False):
            inside[measured].append(good[way.valid & (way.used == measured)])
    for measured in (True, False):
        share = np.concatenate(inside[measured]).mean()
        assert 0.90 < share < 0.99, (measured, share)


def test_a_resting_foot_rests_in_its_gap_and_a_step_in_a_gap_is_admitted(rng: np.random.Generator) -> None:
    truth, n = resting_way(T_S), len(T_S)
    covered = np.zeros(n, bool)
    covered[65:78], covered[99:104] = True, True  # 2.2 s to 2.6 s is stance, 3.3 s to 3.4 s the middle of a swing
    measured = truth.retract(SIGMA * rng.standard_normal((n, 6)))
    noise = np.tile(np.diag(SIGMA**2), (n, 1, 1))
    way = smooth_way(T_S, measured, noise, ~covered)
    off = np.linalg.norm(way.world_from_cam.t - truth.t, axis=-1)
    sigma = np.sqrt(np.einsum("nii->ni", way.covariance)[:, 3:].max(axis=-1))
    assert off[65:78].max() < 0.004 and sigma[71] < 0.004
    assert sigma[101] > 3 * sigma[71] and (off[99:104] < 4 * sigma[99:104]).all()
    plain = smooth_way(T_S, measured, noise, ~covered, SmoothingConfig(adaptive=False))
    still = np.linalg.norm(plain.world_from_cam.t - truth.t, axis=-1)
    assert np.sqrt(plain.covariance[71, 3, 3]) > 5 * sigma[71] and np.median(off) < np.median(still)


def test_a_way_is_carried_a_part_of_a_frame_by_its_motion(rng: np.random.Generator) -> None:
    way, _ = stepping(rng, 0.0)
    later = shifted(way, np.full(len(T_S), 0.01))
    off = later.world_from_cam.local(resting_way(T_S + 0.01))
    assert np.median(np.linalg.norm(off[:, 3:], axis=-1)) < 0.002
    back = shifted(later, np.full(len(T_S), -0.01)).world_from_cam.local(way.world_from_cam)
    assert np.median(np.abs(back)) < 1e-4
    assert (later.motion_sigma > 0).all()
