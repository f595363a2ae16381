from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from synthetic_scenes import RADTAN, charuco, look_at, way_through_the_room

from calibration.lens_prior import weak_lens_prior
from calibration.moving_bundle import learn_freedom, solve_moving
from calibration.moving_scene import ROOM, STEADY, MovingScene, TimedPoints, dense_columns, linearised, residuals
from calibration.trajectory import STATE, Smoothness, Trajectory
from core.errors import GateError
from core.transforms import SE3

NOISE_PX = 0.2
CENTRES = ((2.4, 1.9, 2.2), (-2.4, 1.9, 1.4), (-2.4, -1.9, 2.2))


def make(
    rng: np.random.Generator, *, noise_px: float = NOISE_PX, row_time_s: float = 3e-5, jitter_sigma_s: float = 0.0
) -> tuple[MovingScene, TimedPoints]:
    """Three cameras, a cube of points on the way through the room in two parts, and a board on the floor; the truth.

    Frames of the last two cameras jitter, if that is asked for.
    """
    knots = np.arange(-0.05, 1.1, 0.05)
    way = way_through_the_room(knots)
    motion = Trajectory.through(knots, way, 0.5)
    eps = 1e-4
    late, early = way_through_the_room(knots + eps), way_through_the_room(knots - eps)
    velocity = early.local(late) / (2 * eps)
    motion = dataclasses.replace(motion, velocity=velocity)
    scene = MovingScene(
        lenses=(RADTAN,) * 3,
        world_from_cam=SE3.stack([look_at(np.array(c), np.array([0.0, 0.0, 1.0])) for c in CENTRES]),
        clocks=np.array([[0.0, 0.0, row_time_s], [0.01, 1e-3, row_time_s], [-0.02, 0.0, row_time_s]]),
        body_from_part=SE3.from_rotvec(np.array([[0.0, 0, 0], [0, 0.4, 0], [0, 0, 0]]), 0.2 * np.eye(3)),
        part_body=np.array([0, 0, ROOM]),
        motions=(motion,),
        middle_s=0.5,
        camera_free=np.repeat([[False], [True], [True]], 6, axis=1),
        lens_free=np.zeros((3, 9), bool),
        clock_free=np.array([[False, False, False], [True, True, False], [True, False, False]]),
        part_free=np.repeat([[False], [True], [True]], 6, axis=1),
        clock_prior=np.tile([0.0, 0.0, row_time_s], (3, 1)),
        clock_sigma=np.tile([0.05, 0.01, 1e-5], (3, 1)),
        jitter_s=np.zeros(0),
        jitter_sigma_s=np.zeros(0),
    )
    cube = 0.15 * rng.standard_normal((12, 3))
    board = charuco("b", "static").points_m
    rows: list[tuple[int, int, np.ndarray, float]] = []
    for camera in range(3):
        for t in rng.uniform(0, 0.03) + np.arange(0, 0.95, 1 / 15):
            rows += [(camera, part, cube, t) for part in (0, 1)]
        rows.append((camera, 2, board, 0.0))
    camera, part = (np.concatenate([np.full(len(r[2]), r[i]) for r in rows]) for i in (0, 1))
    t_s = np.concatenate([np.full(len(r[2]), r[3]) for r in rows])
    frame = np.full(len(t_s), STEADY)
    if jitter_sigma_s:
        jitters = (camera > 0) & (part != 2)
        frame[jitters] = np.unique(camera[jitters] + 10 * t_s[jitters], return_inverse=True)[1]
        late_s = jitter_sigma_s * rng.standard_normal(int(frame.max()) + 1)
        scene = dataclasses.replace(scene, jitter_s=late_s, jitter_sigma_s=np.full(len(late_s), jitter_sigma_s))
    model_m, sigma_px = np.concatenate([r[2] for r in rows]), np.full(len(t_s), NOISE_PX)
    points = TimedPoints(camera, part, model_m, np.zeros((len(t_s), 2)), sigma_px, t_s, frame)
    px = points.xy_px
    for _ in range(6):  # the row that exposes a point depends on where it is seen
        points = dataclasses.replace(points, xy_px=px)
        px = px + residuals(scene, points)
    return scene, dataclasses.replace(points, xy_px=px + noise_px * rng.standard_normal(px.shape))


def disturbed(scene: MovingScene, rng: np.random.Generator, size: float = 0.01) -> MovingScene:
    """The scene with everything free moved a little; clocks as they were expected."""
    dense = size * rng.standard_normal(sum(scene.dense_sizes)) * scene.dense_free
    moved = scene.moved(dense, size * rng.standard_normal((scene.first_knots[-1], STATE)))
    assert moved is not None
    return dataclasses.replace(moved, clocks=scene.clock_prior.copy(), jitter_s=np.zeros(len(scene.jitter_s)))


def test_derivatives_agree_with_numeric_ones(rng: np.random.Generator) -> None:
    scene, points = make(rng, jitter_sigma_s=0.01)
    scene = dataclasses.replace(scene, lens_free=np.ones((3, 9), bool))
    points, step = points[np.arange(0, len(points), 17)], 1e-6
    found = linearised(scene, points)
    columns = dense_columns(scene, points.camera_idx, points.part_idx, points.frame_idx)
    d, k = sum(scene.dense_sizes), scene.first_knots[-1]
    for column in range(d + STATE * k):
        move = np.zeros(d + STATE * k)
        move[column] = step
        ahead, back = (scene.moved(m[:d], m[d:].reshape(k, STATE)) for m in (move, -move))
        assert ahead is not None and back is not None
        numeric = (residuals(ahead, points) - residuals(back, points)) / (2 * step)
        if column < d:
            analytic = (found.by_dense * (columns == column)[:, None]).sum(axis=-1)
        else:
            knot, state = divmod(column - d, STATE)
            first, second = found.knot == knot, found.knot == knot - 1
            analytic = (
                found.by_knots[..., state] * first[:, None] + found.by_knots[..., STATE + state] * second[:, None]
            )
            analytic = np.where(scene.part_body[points.part_idx][:, None] == ROOM, 0.0, analytic)
        np.testing.assert_allclose(analytic, numeric, atol=3e-5 * max(1.0, np.abs(numeric).max()))


def test_the_truth_comes_back_within_its_stated_uncertainty(rng: np.random.Generator) -> None:
    truth, points = make(rng)
    result = solve_moving(disturbed(truth, rng), points, (Smoothness(50.0, 5.0),))
    assert result.converged
    assert result.variance_factor == pytest.approx(1.0, abs=0.2)
    pairs = [
        (truth.world_from_cam.local(result.scene.world_from_cam), result.camera_covariance),
        (truth.body_from_part.local(result.scene.body_from_part), result.part_covariance),
        (result.scene.clocks - truth.clocks, result.clock_covariance),
    ]
    for off, covariance in pairs:
        sigma = np.sqrt(np.einsum("kii->ki", covariance))
        # some thirty numbers within four standard deviations
        assert (np.abs(off) < 4 * sigma + 1e-12).all()
    assert np.sqrt(result.clock_covariance[2, 0, 0]) < 0.1 * 0.05, "the motion must tell the clock"


def test_without_noise_the_solution_is_exact(rng: np.random.Generator) -> None:
    truth, points = make(rng, noise_px=0.0)
    result = solve_moving(disturbed(truth, rng), points, (Smoothness(1e4, 1e4),))
    assert np.abs(truth.world_from_cam.local(result.scene.world_from_cam)).max() < 2e-4
    assert np.abs(result.scene.clocks - truth.clocks)[:, 0].max() < 2e-4


def test_the_common_time_of_all_clocks_stays_as_uncertain_as_it_was(rng: np.random.Generator) -> None:
    truth, points = make(rng)
    loose = truth.clock_free | [True, False, False]
    scene = dataclasses.replace(disturbed(truth, rng), clock_free=loose)
    result = solve_moving(scene, points, (Smoothness(50.0, 5.0),))
    assert result.scene.clocks[:, 0].mean() == pytest.approx(0.0, abs=1e-5)
    np.testing.assert_allclose(np.sqrt(result.clock_covariance[:, 0, 0]), 0.05 / np.sqrt(3), rtol=0.02)
    off = result.scene.clocks[:, 0] - truth.clocks[:, 0]
    for k in (1, 2):
        difference = result.clock_covariance[k, 0, 0]  # nearly all of it is common
        assert abs(off[k] - off[0]) < 0.2 * np.sqrt(difference)


def test_lenses_are_solved_with_the_rest(rng: np.random.Generator) -> None:
    truth, points = make(rng)
    wrong = tuple(lens.with_params(lens.params * np.r_[1.01, 1.01, np.ones(7)]) for lens in truth.lenses)
    start = dataclasses.replace(
        truth, lenses=wrong, lens_free=np.ones((3, 9), bool), lens_prior=weak_lens_prior(truth.lenses)
    )
    result = solve_moving(start, points, (Smoothness(50.0, 5.0),))
    for k, lens in enumerate(result.scene.lenses):
        off = lens.params - RADTAN.params
        assert (np.abs(off) < 4.5 * result.lens_sigma[k]).all()


def test_smoothness_is_learned_from_the_motion(rng: np.random.Generator) -> None:
    truth, points = make(rng)
    learned = []
    for start in (Smoothness(500.0, 50.0), Smoothness(5.0, 0.5)):
        prior, scene = start, truth
        for _ in range(6):
            scene = solve_moving(scene, points, (prior,)).scene
            (prior,), _ = learn_freedom(scene, points, (prior,))
        learned.append(prior)
    # a hundred times apart at first
    ratio = np.log(learned[0].strength(len(truth.motions[0])) / learned[1].strength(len(truth.motions[0])))
    assert np.abs(np.median(ratio, axis=0)).max() < np.log(3)
    # the way has accelerations of about 1 m/s2, which at knots of 0.05 s is 1 * 0.05 m2/s3
    assert 0.005 < np.median(learned[1].translation) < 0.5


def test_smoothness_follows_a_hand_that_hurries(rng: np.random.Generator) -> None:
    truth, points = make(rng)
    (motion,) = truth.motions
    hasty = motion.t_s > 0.6
    jerk = np.where(hasty[:, None], 0.02 * rng.standard_normal((len(motion), 3)), 0.0)
    shaken = dataclasses.replace(motion, world_from_body=SE3(motion.world_from_body.R, motion.world_from_body.t + jerk))
    scene = dataclasses.replace(truth, motions=(shaken,))
    points = dataclasses.replace(points, xy_px=points.xy_px + residuals(scene, points) - residuals(truth, points))
    prior = Smoothness(50.0, 5.0)
    for _ in range(4):
        scene = solve_moving(scene, points, (prior,)).scene
        (prior,), _ = learn_freedom(scene, points, (prior,))
    translation = prior.strength(len(motion))[:, 1]
    # the calm stretch keeps its share of the whole, one in eleven, so that they differ by ten times at most
    assert np.median(translation[hasty]) > 5 * np.median(translation[motion.t_s < 0.35])


def test_frames_that_jitter_are_put_where_they_were_exposed(rng: np.random.Generator) -> None:
    truth, points = make(rng, jitter_sigma_s=0.01)
    result = solve_moving(disturbed(truth, rng), points, (Smoothness(50.0, 5.0),))
    off_s = result.scene.jitter_s - truth.jitter_s
    sigma_s = np.sqrt(np.diag(result.covariance)[-len(off_s) :])
    assert np.median(np.abs(off_s)) < 0.3 * 0.01, "the pictures must tell when frames were exposed"
    assert np.sqrt(((off_s / sigma_s) ** 2).mean()) == pytest.approx(1.0, abs=0.5)
    off = truth.world_from_cam.local(result.scene.world_from_cam)
    sigma = np.sqrt(np.einsum("kii->ki", result.camera_covariance))
    assert (np.abs(off) < 4 * sigma + 1e-12).all()


def test_jitter_that_is_not_modelled_bends_the_cameras(rng: np.random.Generator) -> None:
    truth, points = make(rng, jitter_sigma_s=0.01)
    exact = dataclasses.replace(points, frame_idx=np.full(len(points), STEADY))
    start = dataclasses.replace(disturbed(truth, rng), jitter_s=np.zeros(0), jitter_sigma_s=np.zeros(0))
    blind = solve_moving(start, exact, (Smoothness(50.0, 5.0),)).scene
    aware = solve_moving(disturbed(truth, rng), points, (Smoothness(50.0, 5.0),)).scene
    errors = [np.linalg.norm(s.world_from_cam.t - truth.world_from_cam.t, axis=-1).max() for s in (blind, aware)]
    assert errors[0] > 3 * errors[1]


@pytest.mark.parametrize("start_s", [0.002, 0.05])
def test_the_size_of_the_jitter_is_learned(rng: np.random.Generator, start_s: float) -> None:
    truth, points = make(rng, jitter_sigma_s=0.01)
    scene = dataclasses.replace(truth, jitter_sigma_s=np.full(len(truth.jitter_s), start_s))
    for _ in range(8):
        scene = solve_moving(scene, points, (Smoothness(50.0, 5.0),)).scene
        _, jitter_sigma_s = learn_freedom(scene, points, (Smoothness(50.0, 5.0),))
        scene = dataclasses.replace(scene, jitter_sigma_s=jitter_sigma_s)
    # fifteen frames a camera tell a standard deviation to a fifth
    np.testing.assert_allclose(scene.jitter_sigma_s, 0.01, rtol=0.6)


def test_what_nothing_determines_is_refused(rng: np.random.Generator) -> None:
    truth, points = make(rng)
    lonely = points[points.camera_idx != 2]
    with pytest.raises(GateError, match="do not determine"):
        solve_moving(truth, lonely, (Smoothness(50.0, 5.0),))
