from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from synthetic_scenes import FISHEYE, RADTAN, charuco, look_at

from calibration.bundle import BundleConfig, solve_bundle
from calibration.lens_prior import weak_lens_prior
from calibration.scene import Observations, Scene, reproject, scene_step
from core.errors import GateError
from core.transforms import SE3

NOISE_PX = 0.3


def boards(rng: np.random.Generator, num: int) -> SE3:
    """Boards about the origin, printed side towards +y, where the cameras are."""
    facing = SE3.from_rotvec(np.array([np.pi / 2, 0, 0]), np.zeros(3))
    tilt = SE3.from_rotvec(0.4 * rng.standard_normal((num, 3)), 0.3 * rng.standard_normal((num, 3)))
    return tilt @ facing


def make_scene(
    rng: np.random.Generator, *, num_boards: int = 12, noise_px: float = NOISE_PX
) -> tuple[Scene, Observations]:
    """Three cameras of two kinds, some boards, the first camera held; every point seen by every camera."""
    lenses = (RADTAN, FISHEYE)
    centres = [np.array([-1.0, 2.0, 0.3]), np.array([0.2, 2.3, -0.4]), np.array([1.1, 1.8, 0.2])]
    images = SE3.stack([look_at(c, np.zeros(3)) for c in centres])
    targets = boards(rng, num_boards)
    points = charuco("b", "carried").points_m - np.array([0.35, 0.3, 0.0])
    image, target, point = (
        a.ravel() for a in np.meshgrid(range(3), range(num_boards), range(len(points)), indexing="ij")
    )
    scene = Scene.fixed_lenses(lenses, np.array([0, 1, 0]), images, targets, held_images=np.array([0]))
    seen = Observations(image, target, points[point], np.zeros((len(image), 2)), np.full(len(image), NOISE_PX))
    px = reproject(scene, seen)[0] + noise_px * rng.standard_normal((len(image), 2))
    return scene, dataclasses.replace(seen, xy_px=px)


def disturbed(scene: Scene, rng: np.random.Generator, size: float = 0.03) -> Scene:
    """The scene with its free poses moved by a few centimetres and degrees."""
    image = size * rng.standard_normal((len(scene.world_from_cam), 6)) * scene.image_free
    target = size * rng.standard_normal((len(scene.world_from_target), 6)) * scene.target_free
    moved = scene_step(scene, image, target, np.zeros(scene.lens_free.shape))
    assert moved is not None
    return moved


def test_jacobians_agree_with_numeric_ones(rng: np.random.Generator) -> None:
    scene, seen = make_scene(rng, num_boards=2)
    seen = seen[np.arange(0, len(seen), 7)]
    _, by_image, by_target, by_lens = reproject(scene, seen, jacobians=True)
    step = 1e-6
    sizes = ((3, 6), (2, 6), scene.lens_free.shape)
    for kind, analytic in enumerate((by_image, by_target, by_lens)):
        for column in range(analytic.shape[-1]):
            moves = [np.zeros(size) for size in sizes]
            moves[kind][:, column] = step
            ahead, back = scene_step(scene, *moves), scene_step(scene, *(-m for m in moves))
            assert ahead is not None and back is not None
            numeric = (reproject(ahead, seen)[0] - reproject(back, seen)[0]) / (2 * step)
            scale = max(1.0, np.abs(numeric).max())
            np.testing.assert_allclose(analytic[..., column], numeric, atol=2e-5 * scale)


def test_the_truth_comes_back_within_its_stated_uncertainty(rng: np.random.Generator) -> None:
    truth, seen = make_scene(rng)
    result = solve_bundle(disturbed(truth, rng), seen)
    assert result.converged
    off = truth.world_from_cam.local(result.scene.world_from_cam)
    np.testing.assert_allclose(off[0], 0, atol=1e-12)
    sigma = np.sqrt(np.einsum("nii->ni", result.image_covariance))
    # twelve numbers within four of their own standard deviations: fails once in a thousand seeds
    assert (np.abs(off[1:]) < 4 * sigma[1:]).all()
    assert sigma[1:].max() < 0.005
    board_off = truth.world_from_target.local(result.scene.world_from_target)
    board_sigma = np.sqrt(np.einsum("nii->ni", result.target_covariance))
    assert (np.abs(board_off) < 5 * board_sigma).all()
    assert result.variance_factor == pytest.approx(1.0, abs=0.15)


def test_without_noise_the_solution_is_exact(rng: np.random.Generator) -> None:
    truth, seen = make_scene(rng, noise_px=0.0)
    result = solve_bundle(disturbed(truth, rng), seen, BundleConfig(loss="none"))
    assert np.abs(truth.world_from_cam.local(result.scene.world_from_cam)).max() < 1e-8


def test_outliers_lose_their_weight(rng: np.random.Generator) -> None:
    truth, seen = make_scene(rng)
    wild = rng.random(len(seen)) < 0.05
    px = seen.xy_px + np.where(wild[:, None], rng.uniform(20, 60, seen.xy_px.shape), 0.0)
    result = solve_bundle(disturbed(truth, rng, 0.01), dataclasses.replace(seen, xy_px=px))
    assert result.weight[wild].max() < 0.01
    assert np.abs(truth.world_from_cam.local(result.scene.world_from_cam)).max() < 0.01


def test_lenses_are_solved_with_the_rig(rng: np.random.Generator) -> None:
    truth, seen = make_scene(rng, num_boards=25)
    lens_free = np.ones(truth.lens_free.shape, bool)
    lens_free[1, 8:] = False  # the fisheye has eight parameters
    wrong = tuple(
        lens.with_params(lens.params * np.r_[1.02, 1.02, 0.99, 1.01, np.zeros(len(lens.params) - 4)])
        for lens in truth.lenses
    )
    start = dataclasses.replace(
        disturbed(truth, rng, 0.01), lenses=wrong, lens_free=lens_free, lens_prior=weak_lens_prior(truth.lenses)
    )
    result = solve_bundle(start, seen)
    for k, lens in enumerate(truth.lenses):
        solved = result.scene.lenses[k]
        sigma = result.lens_sigma[k, : len(lens.params)]
        assert np.abs(solved.params - lens.params)[:4].max() < 5 * sigma[:4].max()
        assert solved.focal_px[0] == pytest.approx(lens.focal_px[0], rel=0.005)


def test_free_points_are_targets_that_do_not_turn(rng: np.random.Generator) -> None:
    truth, _ = make_scene(rng)
    points = 0.3 * rng.standard_normal((60, 3))
    targets = SE3(np.broadcast_to(np.eye(3), (60, 3, 3)).copy(), points)
    free = np.ones((60, 6), bool)
    free[:, :3] = False
    image, target = (a.ravel() for a in np.meshgrid(range(3), range(60), indexing="ij"))
    scene = dataclasses.replace(truth, world_from_target=targets, target_free=free)
    scene = dataclasses.replace(scene, image_free=np.zeros((3, 6), bool))
    seen = Observations(image, target, np.zeros((180, 3)), np.zeros((180, 2)), np.ones(180))
    seen = dataclasses.replace(seen, xy_px=reproject(scene, seen)[0])
    result = solve_bundle(disturbed(scene, rng, 0.05), seen)
    np.testing.assert_allclose(result.scene.world_from_target.t, points, atol=1e-7)
    assert np.abs(result.target_covariance[:, :3]).max() == 0


def test_what_nothing_determines_is_refused(rng: np.random.Generator) -> None:
    truth, seen = make_scene(rng, num_boards=3)
    lonely = seen[seen.image_idx != 2]  # the third camera is free but sees nothing
    with pytest.raises(GateError, match="do not determine"):
        solve_bundle(truth, lonely)


def test_a_target_behind_all_its_cameras_is_named(rng: np.random.Generator) -> None:
    truth, seen = make_scene(rng, num_boards=3)
    poses = truth.world_from_target
    far = poses.t.copy()
    far[1] += np.array([0.0, 30.0, 0.0])  # cameras stand at y = 2 and look towards -y
    lost = dataclasses.replace(truth, world_from_target=SE3(poses.R, far))
    with pytest.raises(GateError, match="target 1 of 3: all its points fall behind"):
        solve_bundle(lost, seen)
