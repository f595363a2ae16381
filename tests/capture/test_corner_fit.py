"""Fitted corners: right to hundredths of a pixel, with an uncertainty that grows with noise and blur."""

from __future__ import annotations

import numpy as np
import pytest
from rendered import facing, render

from capture.corner_fit import CornerFit, fit_corners
from capture.targets import Target
from core.cameras import Lens

LENS = Lens("pinhole", (400, 300), (420.0, 420.0), (199.5, 149.5))
BOARD = Target("board", "checkerboard", "lens", (6, 5), 0.05)
TAG = Target("tag", "marker", "static", marker_m=0.2, dictionary="DICT_4X4_50", first_marker=3)


def fitted(rng: np.random.Generator, distance_m: float, **camera: float) -> tuple[CornerFit, np.ndarray]:
    """Corners of a board fitted from guesses half a pixel off, and the truth."""
    pose = facing(BOARD, [0.2, -0.3, 0.1], [0.0, 0.0, distance_m])
    image = render(BOARD, LENS, pose, rng, **camera)
    truth = LENS.project(pose.apply(BOARD.points_m))
    steps = BOARD.square_m * np.eye(3)[:2]
    axes = np.stack([LENS.project(pose.apply(BOARD.points_m + step)) - truth for step in steps], axis=1)
    guess = truth + rng.uniform(-0.5, 0.5, truth.shape)
    room = np.full(len(truth), 3.0)
    return fit_corners(image, guess, axes, shape="saddle", extent=0.45, band=0.45, max_move_px=room), truth


@pytest.mark.parametrize(
    ("camera", "distance_m", "limit_px"),
    [
        ({"blur_px": 0.6, "noise": 2.0}, 0.7, 0.03),
        ({"blur_px": 1.2, "noise": 4.0}, 0.7, 0.04),
        ({"blur_px": 2.5, "noise": 4.0}, 0.7, 0.07),
        ({"blur_px": 0.8, "noise": 4.0, "smear_px": 5.0}, 0.7, 0.06),
        ({"blur_px": 0.6, "noise": 2.0}, 1.6, 0.05),
    ],
)
def test_corners_are_found_to_their_stated_uncertainty(
    camera: dict[str, float], distance_m: float, limit_px: float, rng: np.random.Generator
) -> None:
    fit, truth = fitted(rng, distance_m, **camera)
    assert fit.good.all()
    error = fit.xy_px - truth
    assert np.sqrt((error**2).mean()) < limit_px
    assert (np.abs(error) < 1.96 * fit.sigma_px[:, None]).mean() >= 0.9


def test_blur_is_measured_and_weighs_less(rng: np.random.Generator) -> None:
    sharp, _ = fitted(rng, 0.7, blur_px=0.6, noise=10.0)
    soft, _ = fitted(rng, 0.7, blur_px=2.5, noise=10.0)
    smeared, _ = fitted(rng, 0.7, blur_px=0.6, noise=10.0, smear_px=8.0)
    # a pixel adds 0.29 px and a smear of 8 px about 2.3 px of standard deviation to the blur
    assert np.median(sharp.blur_px) == pytest.approx(0.65, abs=0.15)
    assert np.median(soft.blur_px) == pytest.approx(2.5, abs=0.2)
    assert np.median(smeared.blur_px) == pytest.approx(2.4, abs=0.5)
    assert np.median(soft.sigma_px) > 1.3 * np.median(sharp.sigma_px)


def test_corners_of_a_marker_are_as_good(rng: np.random.Generator) -> None:
    pose = facing(TAG, [0.3, -0.2, 0.5], [0.1, 0.05, 0.9])
    truth = LENS.project(pose.apply(TAG.points_m))
    for blur_px in (0.6, 1.5):
        image = render(TAG, LENS, pose, rng, blur_px=blur_px)
        along = (np.roll(truth, -1, axis=0) - truth) / 6
        axes = np.stack([along, -np.roll(along, 1, axis=0)], axis=1)
        guess = truth + rng.uniform(-0.5, 0.5, truth.shape)
        fit = fit_corners(image, guess, axes, shape="corner", extent=2.5, band=0.85, max_move_px=np.full(4, 3.0))
        # cornerSubPix is drawn 0.2 to 0.3 px inwards here: blur rounds the corner of a marker
        assert np.abs(fit.xy_px - truth).max() < 0.1


def test_where_nothing_is_no_corner_is_found(rng: np.random.Generator) -> None:
    noise = rng.normal(120, 4, (100, 100)).clip(0, 255).astype(np.uint8)
    edge = np.where(np.arange(100) < 50, 40, 200)[None].repeat(100, axis=0).astype(np.uint8)
    guess, axes, room = np.full((1, 2), 50.0), 20.0 * np.eye(2)[None], np.full(1, 3.0)
    for image in (noise, edge, np.full((100, 100), 90, np.uint8)):
        fit = fit_corners(image, guess, axes, shape="saddle", extent=0.45, band=0.45, max_move_px=room)
        assert not fit.good.any() and np.isnan(fit.xy_px).all()
    outside = fit_corners(noise, guess + 500, axes, shape="saddle", extent=0.45, band=0.45, max_move_px=room)
    assert not outside.good.any()
