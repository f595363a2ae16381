from __future__ import annotations

import numpy as np
import pytest
from synthetic_scenes import FISHEYE, RADTAN, charuco

from calibration.lens_solver import calibrate_lens
from calibration.scene import Observations
from core.cameras import Lens
from core.errors import GateError
from core.transforms import SE3

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


def pictures(lens: Lens, rng: np.random.Generator, num: int, *, tilt: float = 0.5, reach: float = 0.8) -> Observations:
    """A board held in front of a camera, over the whole image; tilted by `tilt` radians."""
    parts = []
    for view in range(num):
        px = np.array(lens.size_px) * (0.5 + reach * (rng.random(2) - 0.5))
        ray = lens.unproject(px[None])[0]
        toward = SE3.from_rotvec(np.cross([0, 0, 1.0], ray), np.zeros(3))
        spin = SE3.from_rotvec(np.array([0.0, 0.0, rng.uniform(-3, 3)]), np.zeros(3))
        bend = SE3.from_rotvec(tilt * np.array([*rng.standard_normal(2), 0.0]), np.zeros(3))
        place = toward if tilt > 0 else SE3.identity()
        pose = SE3((place @ bend @ spin).R, ray * rng.uniform(0.3, 0.7) * lens.focal_px[0] / 437)
        xy = lens.project(pose.apply(BOARD)) + NOISE_PX * rng.standard_normal((len(BOARD), 2))
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
