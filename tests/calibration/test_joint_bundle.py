from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from marker_scenes import make_scene, room_targets
from synthetic_scenes import RADTAN, charuco, look_at

from calibration.bundle import BundleConfig, solve_bundle
from calibration.joint_bundle import JointPrior, _JointSystem, solve_joint
from calibration.lens_prior import weak_lens_prior
from calibration.photographs import observe, solve_network
from calibration.scene import Observations, PosePrior, Scene, reproject
from core.errors import GateError
from core.transforms import SE3

NOISE_PX = 0.3
PLAIN = BundleConfig("none", tolerance=1e-13)


def small_scene(rng: np.random.Generator) -> tuple[Scene, Observations]:
    """Four photographs of three boards, two of which each sees."""
    points = charuco("b", "static").points_m
    boards = SE3.from_rotvec(
        0.3 * rng.standard_normal((3, 3)), np.array([[-1.0, 0, 0], [0, 0.3, 0.2], [1.1, 0.1, -0.1]])
    )
    centres = [np.array([x, 0.2, -2.0 - 0.2 * x]) for x in (-0.6, -0.3, 0.4, 0.8)]
    images = SE3.stack([look_at(c, np.array([0.3 * c[0], 0.2, 0.0])) for c in centres])
    image, target = np.array([0, 0, 1, 1, 2, 2, 3, 3]), np.array([0, 1, 0, 1, 1, 2, 1, 2])
    rows = np.repeat(np.arange(8), len(points))
    seen = Observations(
        image[rows], target[rows], np.tile(points, (8, 1)), np.zeros((len(rows), 2)), np.full(len(rows), NOISE_PX)
    )
    scene = Scene.fixed_lenses((RADTAN,), np.zeros(4, int), images, boards)
    px = reproject(scene, seen)[0] + NOISE_PX * rng.standard_normal((len(rows), 2))
    return scene, dataclasses.replace(seen, xy_px=px)


def test_a_prior_that_holds_one_target_is_the_bundle_that_holds_it(rng: np.random.Generator) -> None:
    scene, seen = small_scene(rng)
    held = dataclasses.replace(scene, target_free=np.arange(3)[:, None].repeat(6, axis=1) != 0)
    expected = solve_bundle(held, seen, PLAIN)
    prior = JointPrior(np.array([0]), scene.world_from_target[[0]], 1e14 * np.eye(6))
    found = solve_joint(scene, seen, prior, PLAIN)
    off = expected.scene.world_from_target.local(found.scene.world_from_target)
    np.testing.assert_allclose(off, 0, atol=1e-6)
    blocks = np.stack([found.covariance[6 * k : 6 * k + 6, 6 * k : 6 * k + 6] for k in range(3)])
    # the other bundle scales its covariance by the noise that the residuals show
    np.testing.assert_allclose(blocks[1:], expected.target_covariance[1:] / expected.variance_factor, rtol=1e-3)


def test_the_gradient_is_the_slope_of_the_cost(rng: np.random.Generator) -> None:
    scene, seen = small_scene(rng)
    A = rng.standard_normal((12, 12))
    mean = scene.world_from_target[[0, 2]].retract(0.1 * rng.standard_normal((2, 6)))
    prior = JointPrior(np.array([0, 2]), mean, 1e3 * A @ A.T)
    lens_free = np.ones(scene.lens_free.shape, bool)
    information = np.tile(1e4 * np.eye(6), (4, 1, 1))
    pose_prior = PosePrior(scene.world_from_cam.retract(0.1 * rng.standard_normal((4, 6))), information)
    scene = dataclasses.replace(
        scene, lens_free=lens_free, lens_prior=weak_lens_prior((RADTAN,)), pose_prior=pose_prior
    )
    order = np.lexsort((seen.target_idx, seen.image_idx))
    system = _JointSystem(seen[order], prior, PLAIN)
    normal = system.linearise(scene)
    analytic = np.concatenate([normal.g_image.ravel(), normal.g])
    step, numeric = 1e-6, np.zeros(len(analytic))
    unit = np.concatenate([np.ones(24 + 18), np.abs(RADTAN.params) + 1e-3])
    for k in range(len(analytic)):
        move = np.zeros(len(analytic))
        move[k] = step * unit[k]
        parts = (move[:24].reshape(4, 6), move[24:42].reshape(3, 6), move[42:].reshape(1, -1))
        ahead, back = system.move(scene, parts), system.move(scene, tuple(-part for part in parts))
        assert ahead is not None and back is not None
        numeric[k] = (system.cost(ahead) - system.cost(back)) / (4 * step * unit[k])  # the cost has no factor 1/2
    np.testing.assert_allclose(analytic * unit, numeric * unit, rtol=1e-4, atol=1e-4 * np.abs(analytic * unit).max())


def test_errors_in_common_stay_in_the_map(rng: np.random.Generator) -> None:
    scene = make_scene(rng)
    network = observe(scene.targets, scene.located, [scene.stills])
    solution = solve_network(network.pictures, network.start)
    together = np.sqrt(np.diag(solution.target_covariance())).reshape(-1, 6)
    blocks = np.zeros_like(scene.located.covariance)
    for k in range(0, len(blocks), 6):
        blocks[k : k + 6, k : k + 6] = scene.located.covariance[k : k + 6, k : k + 6]
    network = observe(scene.targets, dataclasses.replace(scene.located, covariance=blocks), [scene.stills])
    apart = np.sqrt(np.diag(solve_network(network.pictures, network.start).target_covariance())).reshape(-1, 6)
    hidden = [network.target_ids.index(name) for name in ("table0", "table1", "table2")]
    # taken as independent, six targets average away a tilt that they share
    assert (apart[hidden, 3:].max(axis=-1) < 0.9 * together[hidden, 3:].max(axis=-1)).all()


def test_a_nearly_singular_covariance_makes_a_finite_prior() -> None:
    _, truth = room_targets(np.random.default_rng(0))
    mean = SE3.stack([truth["ceiling0"], truth["ceiling1"]])
    same = np.tile(np.diag([1e-6] * 3 + [4e-6] * 3), (2, 2))  # both move together, exactly
    prior = JointPrior.of(np.array([0, 1]), mean, same)
    assert np.isfinite(prior.information).all()
    shift = np.tile([0.0, 0, 0, 2e-3, 0, 0], 2)
    assert shift @ prior.information @ shift == pytest.approx(1.0, rel=1e-6)


def test_targets_that_nothing_holds_are_refused(rng: np.random.Generator) -> None:
    scene, seen = small_scene(rng)
    with pytest.raises(GateError, match="do not determine"):
        solve_joint(scene, seen, None, PLAIN)
