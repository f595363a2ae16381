from __future__ import annotations

import numpy as np
import pytest
from synthetic_scenes import FISHEYE, RADTAN, charuco

from calibration.lens_bundle import LensBundleConfig, linearise
from calibration.lens_quality import board_sag, board_stretch, projection_sigma_px, richer_model
from calibration.lens_solver import LensSolution, calibrate_lens, greedy_choice
from calibration.lens_start import best_poses, search_lens
from calibration.planar_pose import Pictures, planar_poses
from calibration.scene import Observations
from core.cameras import Lens
from core.errors import GateError
from core.transforms import SE3

WIDE = Lens("fisheye", (1000, 1000), (301.0, 301.0), (499.0, 503.0), (0.01, -0.003, 0.0, 0.0))  # 190 degrees
LENSES = {
    "pinhole": Lens("pinhole", (800, 600), (700.0, 702.0), (391.0, 305.0)),
    "radtan": RADTAN,
    "rational": Lens(
        "rational", (800, 600), (500.0, 501.0), (405.0, 296.0), (0.2, -0.05, 0.0005, -0.0004, 0.0, 0.3, 0.0, 0.0)
    ),
    "fisheye": FISHEYE,
}
BOARD = charuco("b", "lens", square_m=0.05).points_m - np.array([0.15, 0.125, 0.0])
NOISE_PX = 0.1


def pictures(
    lens: Lens,
    rng: np.random.Generator,
    num: int,
    *,
    tilt: float = 0.5,
    reach: float = 0.8,
    shape: np.ndarray = BOARD,
) -> Observations:
    """A board, in truth of `shape`, held in front of a camera all over the image; tilted by `tilt` radians."""
    parts = []
    for view in range(num):
        px = np.array(lens.size_px) * (0.5 + reach * (rng.random(2) - 0.5))
        ray = lens.unproject(px[None])[0]
        toward = SE3.from_rotvec(np.cross([0, 0, 1.0], ray), np.zeros(3))
        spin = SE3.from_rotvec(np.array([0.0, 0.0, rng.uniform(-3, 3)]), np.zeros(3))
        bend = SE3.from_rotvec(tilt * np.array([*rng.standard_normal(2), 0.0]), np.zeros(3))
        place = toward if tilt > 0 else SE3.identity()
        pose = SE3((place @ bend @ spin).R, ray * rng.uniform(0.3, 0.7) * lens.focal_px[0] / 437)
        xy = lens.project(pose.apply(shape)) + NOISE_PX * rng.standard_normal((len(BOARD), 2))
        rows = np.flatnonzero(lens.contains(np.nan_to_num(xy, nan=-1e6)))
        n = len(rows)
        parts.append(Observations(np.full(n, view), np.zeros(n, int), BOARD[rows], xy[rows], np.full(n, NOISE_PX)))
    return Observations.concatenate(parts)


@pytest.mark.parametrize("model", list(LENSES))
def test_every_model_comes_back_from_nothing(model: str, rng: np.random.Generator) -> None:
    truth = LENSES[model]
    solution = calibrate_lens(pictures(truth, rng, 20), 20, truth.model, truth.size_px)
    assert solution.rms_px == pytest.approx(NOISE_PX, rel=0.15)
    error = np.abs(solution.lens.params - truth.params)[:4]
    assert (error < np.maximum(5 * solution.params_sigma[:4], 0.05)).all()
    # what matters is where rays go: over the part of the image that corners reached
    grid = np.stack(np.meshgrid(np.linspace(0.2, 0.8, 7), np.linspace(0.2, 0.8, 7)), axis=-1) * truth.size_px
    angle = np.linalg.norm(solution.lens.unproject(grid) - truth.unproject(grid), axis=-1)
    assert np.degrees(angle.max()) < 0.15


def test_two_tilted_pictures_lean_on_the_priors_and_say_so(rng: np.random.Generator) -> None:
    solution = calibrate_lens(pictures(RADTAN, rng, 2, tilt=0.6, reach=0.3), 2, "radtan", RADTAN.size_px)
    assert any("priors" in note for note in solution.notes)
    assert np.isfinite(solution.params_sigma).all()
    assert abs(solution.lens.focal_px[0] / RADTAN.focal_px[0] - 1) < 5 * solution.focal_sigma


def test_one_picture_is_refused(rng: np.random.Generator) -> None:
    with pytest.raises(GateError, match="only 1 of 1 pictures"):
        calibrate_lens(pictures(RADTAN, rng, 1), 1, "radtan", RADTAN.size_px)


def test_fronto_parallel_boards_leave_the_focal_length_open(rng: np.random.Generator) -> None:
    facing = calibrate_lens(pictures(RADTAN, rng, 10, tilt=0.0), 10, "radtan", RADTAN.size_px)
    tilted = calibrate_lens(pictures(RADTAN, rng, 10), 10, "radtan", RADTAN.size_px)
    assert tilted.focal_sigma < 0.005
    assert facing.focal_sigma > 5 * tilted.focal_sigma
    assert facing.tilt_deg < 10 < tilted.tilt_deg


def test_a_picture_of_another_board_is_dropped(rng: np.random.Generator) -> None:
    seen = pictures(RADTAN, rng, 12)
    wrong = seen.image_idx == 5
    seen.xy_px[wrong] += 8 * rng.standard_normal((int(wrong.sum()), 2))
    solution = calibrate_lens(seen, 12, "radtan", RADTAN.size_px)
    assert not solution.used[5] and solution.used.sum() == 11
    assert solution.rms_px < 2 * NOISE_PX


def turned(lens: Lens, seed: int, num: int, **how: float) -> LensSolution:
    """A lens solved from simulated pictures."""
    seen = pictures(lens, np.random.default_rng(seed), num, **how)
    return calibrate_lens(seen, num, lens.model, lens.size_px)


def test_a_fisheye_of_190_degrees_comes_back_from_nothing(rng: np.random.Generator) -> None:
    # directions up to 95 degrees off the axis: boards behind the image plane count like any others
    seen = pictures(WIDE, rng, 24, reach=0.95)
    assert np.degrees(np.arccos(WIDE.unproject(seen.xy_px)[:, 2]).max()) > 85
    solution = calibrate_lens(seen, 24, "fisheye", WIDE.size_px)
    assert solution.rms_px == pytest.approx(NOISE_PX, rel=0.15)
    assert solution.lens.focal_px[0] == pytest.approx(WIDE.focal_px[0], abs=5 * solution.params_sigma[0])


def test_poses_behind_the_image_plane_are_found_in_closed_form(rng: np.random.Generator) -> None:
    turn = SE3.from_rotvec(np.array([0.0, np.radians(100.0), 0.0]), np.zeros(3)).R
    tilt = SE3.from_rotvec(0.4 * rng.standard_normal((20, 3)), np.zeros((20, 3))).R
    pose = SE3(turn @ tilt, np.broadcast_to(turn @ [0.0, 0.0, 0.5], (20, 3)))
    points = np.broadcast_to(BOARD, (20, *BOARD.shape))
    rays = pose[:, None].apply(points)
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    first, mirrored = planar_poses(points, rays, np.ones(rays.shape[:2], bool))
    np.testing.assert_allclose(first.inverse().R, pose.R, atol=1e-6)
    np.testing.assert_allclose(first.inverse().t, pose.t, atol=1e-6)
    np.testing.assert_allclose(np.linalg.det(mirrored.R), 1.0)
    none = planar_poses(points, rays, np.zeros(rays.shape[:2], bool))[0]
    assert np.isnan(none.t).all()


@pytest.mark.slow
@pytest.mark.parametrize("model", ["radtan", "fisheye"])
def test_stated_uncertainty_is_honest(model: str) -> None:
    truth, inside = LENSES[model], []
    for seed in range(40):
        solution = turned(truth, 500 + seed, 12)
        inside.append(np.abs(solution.lens.params - truth.params) < 1.96 * solution.params_sigma)
    # 40 lenses of 8 or 9 parameters, correlated within a lens: 95 % less three of their standard deviations
    assert 0.9 <= np.mean(inside) <= 0.99


@pytest.mark.slow
def test_projection_uncertainty_is_what_repeated_calibrations_scatter_by() -> None:
    far = 100.0 * RADTAN.unproject(np.array([[200.0, 150.0], [600.0, 450.0], [400.0, 300.0], [60.0, 300.0]]))
    solutions = [turned(RADTAN, seed, 10) for seed in range(24)]
    lenses = [solution.lens for solution in solutions]
    truth = RADTAN.unproject(RADTAN.project(far))
    scatter = []
    for lens in lenses:
        # what a rotation undoes is no error
        rays = lens.unproject(RADTAN.project(far))
        U, _, Vt = np.linalg.svd(truth.T @ rays)
        scatter.append(lens.project(truth @ U @ np.diag([1, 1, np.linalg.det(U @ Vt)]) @ Vt) - RADTAN.project(far))
    stated = np.median([np.nanmedian(projection_sigma_px(s.lens, s.covariance)) for s in solutions])
    assert np.sqrt(np.mean(np.square(scatter))) == pytest.approx(stated, rel=0.7)


def test_the_pictures_that_say_most_are_chosen(rng: np.random.Generator) -> None:
    few, dull = pictures(RADTAN, rng, 12), pictures(RADTAN, rng, 60, tilt=0.02, reach=0.1)
    dull.image_idx[:] += 12
    both = Observations.concatenate([few, dull])
    chosen = calibrate_lens(both, 72, "radtan", RADTAN.size_px, max_views=14)
    assert chosen.used.sum() <= 14
    assert "others say more of the lens" in chosen.dropped
    spread = calibrate_lens(both[np.isin(both.image_idx, np.arange(0, 72, 5))], 72, "radtan", RADTAN.size_px)
    assert chosen.focal_sigma < 0.7 * spread.focal_sigma


def test_greedy_choice_takes_what_is_not_known_yet() -> None:
    information = np.array([np.diag([5.0, 0.0]), np.diag([4.0, 0.0]), np.diag([0.0, 1.0])])
    assert sorted(greedy_choice(information, 1e-3 * np.eye(2), 2).tolist()) == [0, 2]


def test_pictures_at_another_zoom_are_named(rng: np.random.Generator) -> None:
    seen = pictures(RADTAN, rng, 12)
    zoomed = Lens("radtan", RADTAN.size_px, (523.0, 524.4), RADTAN.centre_px, RADTAN.distortion)
    other = pictures(zoomed, rng, 3)
    other.image_idx[:] += 12
    solution = calibrate_lens(Observations.concatenate([seen, other]), 15, "radtan", RADTAN.size_px)
    # a board seen straight on fits any zoom from another distance; the others do not
    gone = [reason for reason in solution.dropped[12:] if reason]
    assert solution.used[:12].all() and len(gone) >= 2
    assert all("another zoom or focus: it fits with 1.2" in reason for reason in gone)


def test_single_wrong_corners_are_rejected_and_the_picture_stays(rng: np.random.Generator) -> None:
    seen = pictures(RADTAN, rng, 12)
    wrong = np.arange(0, len(seen), 23)
    seen.xy_px[wrong] += 6.0
    solution = calibrate_lens(seen, 12, "radtan", RADTAN.size_px)
    assert solution.used.all()
    assert (solution.weight[wrong] < 0.1).all()
    assert (np.delete(solution.weight, wrong) < 0.1).mean() < 0.01


def test_a_stretched_print_and_a_bent_board_show(rng: np.random.Generator) -> None:
    seen = pictures(RADTAN, rng, 20)
    plain = calibrate_lens(seen, 20, "radtan", RADTAN.size_px)
    stretch, sigma = board_stretch(plain.bundle, plain.prior, plain.pictures)
    assert abs(stretch) < 4 * sigma < 0.004
    stretched = calibrate_lens(pictures(RADTAN, rng, 20, shape=BOARD * [1.01, 1, 1]), 20, "radtan", RADTAN.size_px)
    stretch, sigma = board_stretch(stretched.bundle, stretched.prior, stretched.pictures)
    assert stretch == pytest.approx(0.01, abs=0.003) and stretch > 5 * sigma
    flat, sigma = board_sag(plain.bundle, plain.prior, plain.pictures)
    assert abs(flat) < 4 * sigma < 0.0005
    half = np.abs(BOARD[:, 0]).max()
    bow = BOARD + np.outer(0.002 * (1 - (BOARD[:, 0] / half) ** 2), [0.0, 0.0, 1.0])
    bent = calibrate_lens(pictures(RADTAN, rng, 20, shape=bow), 20, "radtan", RADTAN.size_px)
    found, sigma = board_sag(bent.bundle, bent.prior, bent.pictures)
    assert found == pytest.approx(0.002, rel=0.4) and found > 5 * sigma


def test_a_model_too_poor_is_said_so(rng: np.random.Generator) -> None:
    strong = Lens("radtan", (800, 600), (436.0, 437.0), (401.5, 297.0), (-0.25, 0.06, 0.0, 0.0, 0.0))
    seen = pictures(strong, rng, 15)
    poor = calibrate_lens(seen, 15, "pinhole", strong.size_px)
    found = richer_model(poor.bundle, poor.prior)
    assert found is not None and found[0] == "radtan" and found[1] < 0.8
    right = calibrate_lens(seen, 15, "radtan", strong.size_px)
    again = richer_model(right.bundle, right.prior)
    assert again is not None and again[1] > 0.98
    bent = calibrate_lens(pictures(FISHEYE, rng, 10), 10, "fisheye", FISHEYE.size_px)
    assert richer_model(bent.bundle, bent.prior) is None


def test_a_search_starts_near_wide_and_long_lenses(rng: np.random.Generator) -> None:
    tele = Lens("radtan", (1280, 720), (4500.0, 4501.0), (633.0, 350.0), (0.0,) * 5)
    bent = Lens("rational", (1280, 960), (620.0, 621.0), (633.0, 470.0), (8.0, 3.0, 0.0, 0.0, 0.1, 8.4, 5.5, 0.6))
    for truth in (tele, bent, WIDE):
        o = pictures(truth, rng, 10)
        table = Pictures.of(o.image_idx, o.points_m, o.xy_px, o.sigma_px, 10)
        start = search_lens(table, truth.model, truth.size_px)
        assert start is not None and start.focal_px[0] == pytest.approx(truth.focal_px[0], rel=0.35)


@pytest.mark.parametrize("model", list(LENSES))
def test_derivatives_are_those_of_the_residuals(model: str, rng: np.random.Generator) -> None:
    lens = LENSES[model]
    o = pictures(lens, rng, 3, reach=0.4)
    table = Pictures.of(o.image_idx, o.points_m, o.xy_px, o.sigma_px, 3)
    pose = best_poses(lens, table)
    free, plain = np.ones(len(lens.params), bool), LensBundleConfig(loss="none")
    normal = linearise(lens, pose, table, free, plain)
    step = 1e-6
    for k in range(6):
        moved = linearise(lens, pose.retract(step * np.tile(np.eye(6)[k], (3, 1))), table, free, plain)
        slope = (moved.residual - normal.residual) / step
        np.testing.assert_allclose(normal.by_pose[..., k], slope, rtol=2e-3, atol=2e-4 * np.abs(slope).max())
    for k in range(len(lens.params)):
        size = step * max(abs(lens.params[k]), 1.0)
        other = lens.with_params(lens.params + size * (np.arange(len(lens.params)) == k))
        moved = linearise(other, pose, table, free, plain)
        slope = (moved.residual - normal.residual) / size
        np.testing.assert_allclose(normal.by_lens[..., k], slope, rtol=2e-3, atol=2e-4 * np.abs(slope).max())
