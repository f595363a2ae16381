from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from synthetic_scenes import foot_way as quick_way

from calibration.align import pose_errors
from calibration.foot_bridge import BridgeConfig, bridge
from calibration.foot_clock import FootClockConfig, JointRays, refine_clock
from calibration.smoothing import SmoothedWay, smooth_way
from core.clock import Clock
from core.transforms import SE3

T_S = np.arange(0, 12, 1 / 30)
# ankle, heel, big and small toe in the foot camera's frame, which looks up
LEVERS = np.array([[0.0, -0.05, -0.07], [0.01, -0.09, -0.13], [0.03, 0.10, -0.10], [-0.04, 0.08, -0.10]])
SIGMA_RAD = 4.0 / 600


def foot_way(t_s: np.ndarray) -> SE3:
    """Rests of 0.6 s, steps of 0.6 s."""
    return quick_way(t_s / 2)


def rays_of(
    rng: np.random.Generator,
    t_s: np.ndarray,
    cameras: int = 8,
    way: Callable[[np.ndarray], SE3] = foot_way,
    noise_rad: float = SIGMA_RAD,
) -> JointRays:
    """What unlocked room cameras on a ring see of the joints, with one gross error in thirty."""
    parts = []
    for k in range(cameras):
        angle = 2 * np.pi * k / cameras
        centre = np.array([2.5 * np.cos(angle), 2.5 * np.sin(angle), 2.2])
        seen_s = t_s[3:-3] + rng.uniform(0, 1 / 30)
        pose = way(seen_s)
        for joint, lever in enumerate(LEVERS):
            noise = noise_rad * rng.standard_normal((len(seen_s), 3))
            noise[rng.random(len(seen_s)) < 1 / 30] *= 20
            ray = pose.apply(lever) - centre
            ray = ray / np.linalg.norm(ray, axis=-1, keepdims=True) + noise
            ray /= np.linalg.norm(ray, axis=-1, keepdims=True)
            n = len(seen_s)
            parts.append(JointRays(seen_s, np.full(n, joint), np.tile(centre, (n, 1)), ray, np.full(n, SIGMA_RAD)))
    return JointRays.concatenate(parts)


def way_of(rng: np.random.Generator, t_s: np.ndarray, stated_s: np.ndarray, covered: np.ndarray) -> SmoothedWay:
    """The smoothed way of a camera that is at `foot_way(t_s)` and believes that it is `stated_s`."""
    sigma = np.repeat([0.0005, 0.001], 3)
    measured = foot_way(t_s).retract(sigma * rng.standard_normal((len(t_s), 6)))
    return smooth_way(stated_s, measured, np.tile(np.diag(sigma**2), (len(t_s), 1, 1)), ~covered)


@pytest.mark.parametrize("late_s", [0.015, -0.060])
def test_a_clock_that_is_wrong_comes_back(late_s: float, rng: np.random.Generator) -> None:
    prior = Clock(0.2 + late_s, 1.0, 0.03, 60e-6)
    local = (T_S - 0.2) / (1 + 40e-6)
    way = way_of(rng, T_S, prior.to_session(local), np.zeros(len(T_S), bool))
    found = refine_clock(way, rays_of(rng, T_S), prior, FootClockConfig())
    assert found.refined and found.disagreement < 4
    error = found.clock.to_session(local) - T_S
    assert np.abs(error).max() < 0.003
    assert np.abs(error).max() < 4 * found.clock.offset_sigma_s + 12 * found.clock.rate_sigma
    assert found.shift_s == pytest.approx(-late_s, abs=0.003)
    np.testing.assert_allclose(found.lever_m, LEVERS[:2], atol=0.01)


def test_a_prior_that_is_sure_and_wrong_is_contradicted(rng: np.random.Generator) -> None:
    prior = Clock(0.015, 1.0, 0.001, 1e-6)
    way = way_of(rng, T_S, T_S + 0.015, np.zeros(len(T_S), bool))
    found = refine_clock(way, rays_of(rng, T_S), prior, FootClockConfig())
    assert found.disagreement > 4


def test_the_surer_of_two_clocks_counts_more(rng: np.random.Generator) -> None:
    way = way_of(rng, T_S, T_S, np.zeros(len(T_S), bool))
    rays = rays_of(rng, T_S)
    loose = refine_clock(way, rays, Clock(0.0, 1.0, 0.02, 60e-6), FootClockConfig())
    tight = refine_clock(way, rays, Clock(0.0, 1.0, 1e-6, 1e-9), FootClockConfig())
    assert abs(tight.clock.offset_s) < 1e-5 < loose.clock.offset_sigma_s < 0.003


def test_a_foot_that_stands_and_a_room_that_sees_nothing_leave_the_clock_alone(rng: np.random.Generator) -> None:
    prior = Clock(0.3, 1.0, 0.002, 1e-5)
    still = foot_way(np.full(len(T_S), 0.1))
    way = smooth_way(T_S, still, np.tile(1e-6 * np.eye(6), (len(T_S), 1, 1)), np.ones(len(T_S), bool))
    rays = rays_of(rng, T_S, way=lambda t_s: foot_way(np.full(len(t_s), 0.1)))
    for seen in (rays, JointRays.none()):
        found = refine_clock(way, seen, prior, FootClockConfig())
        assert not found.refined and found.clock == prior and np.isnan(found.disagreement)


def test_covered_frames_are_bridged_by_the_joints_and_know_how_well(rng: np.random.Generator) -> None:
    covered = np.zeros(len(T_S), bool)
    for start in (50, 120, 200, 290):
        covered[start : start + 15] = True
    way = way_of(rng, T_S, T_S, covered)
    found = bridge(way, rays_of(rng, T_S), BridgeConfig())
    assert found.known[covered].all()
    truth = foot_way(T_S)
    errors = pose_errors(found.world_from_cam, truth)
    # 6.7 mrad at 3 m over 8 cameras is 7 mm a joint; the toes, 0.07 m apart, turn that into 0.1 rad about the foot's
    # length, and the camera 0.1 m above the joints goes along by 10 mm
    assert np.median(errors.centre_m[covered]) < 0.02 and np.median(errors.rotation_rad[covered]) < 0.15
    sigma = np.sqrt(np.einsum("nii->ni", found.covariance))
    inside = np.abs(found.world_from_cam.local(truth))[found.known] < 1.96 * sigma[found.known]
    assert inside.mean() > 0.88
    free = pose_errors(way.world_from_cam, truth).centre_m[covered]
    assert np.quantile(errors.centre_m[covered], 0.9) < 0.5 * np.quantile(free, 0.9)


def test_too_few_joints_bridge_nothing(rng: np.random.Generator) -> None:
    way = way_of(rng, T_S, T_S, np.arange(len(T_S)) % 50 > 40)
    rays = rays_of(rng, T_S)
    assert not bridge(way, rays[rays.joint < 2], BridgeConfig()).known.any()
    assert not bridge(way, rays, BridgeConfig(joints=False)).known.any()
    unseen = dataclasses.replace(way, used=np.zeros(len(T_S), bool))
    assert not bridge(unseen, rays, BridgeConfig()).known.any()
    long = way_of(rng, T_S, T_S, (T_S > 5) & (T_S < 7.5))
    assert not bridge(long, rays, BridgeConfig()).known[(T_S > 5.1) & (T_S < 7.4)].any()
    assert bridge(long, rays, BridgeConfig(max_gap_s=3.0)).known[(T_S > 5.1) & (T_S < 7.4)].all()


def test_bad_detections_are_believed_less(rng: np.random.Generator) -> None:
    way = way_of(rng, T_S, T_S, np.zeros(len(T_S), bool))
    good, bad = (bridge(way, rays_of(rng, T_S, noise_rad=n * SIGMA_RAD), BridgeConfig()) for n in (1.0, 3.0))
    sigma = [np.median(np.sqrt(b.covariance[:, 3, 3])) for b in (good, bad)]
    assert sigma[1] > 2 * sigma[0]
