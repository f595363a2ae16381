"""Shifts from the motion of keypoints: found below the frame, stated honestly, refused where several fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from capture.clock_problem import solve
from capture.detectors import read_keypoints
from capture.keypoint_motion import find_shift, motion_evidence, motion_of
from core.skeletons import skeleton_named


def seen(
    rng: np.random.Generator, t_s: np.ndarray, side: float, noise_px: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Eight joints that start and stop at random, seen from one side (a rotation about the vertical)."""
    way = np.random.default_rng(7)
    knots, places = np.linspace(-2, 12, 57), way.normal(0, 0.25, (57, 8, 3))
    xyz = np.stack([[np.interp(t_s, knots, places[:, j, k]) for k in range(3)] for j in range(8)]).transpose(2, 0, 1)
    xyz[..., 2] += np.linspace(0, 1.7, 8)
    across = np.cos(side) * xyz[..., 0] + np.sin(side) * xyz[..., 1]
    xy = 300 * np.stack([across, 2 - xyz[..., 2]], axis=-1) + noise_px * rng.standard_normal((len(t_s), 8, 2))
    return xy, np.ones(xy.shape[:2])


T = np.arange(240) / 30


@pytest.mark.parametrize("shift_s", [0.0, 0.0107, -0.2345])
def test_a_shift_is_found_below_the_frame(shift_s: float, rng: np.random.Generator) -> None:
    one = motion_of(T, *seen(rng, T, 0.0))
    found = find_shift(one, motion_of(T, *seen(rng, T - shift_s, 0.8)))
    assert found is not None
    assert abs(found.shift_s - shift_s) < min(3 * found.sigma_s, 1 / 60)
    assert found.sigma_s < 1 / 30


def test_people_who_move_alike_all_the_time_fit_in_many_ways(rng: np.random.Generator) -> None:
    xy = 300 * np.stack(
        [np.sin(2 * np.pi * T)[:, None] * np.ones(8), np.linspace(0, 1, 8) * np.ones((240, 1))], axis=-1
    )
    one, other = (motion_of(T, xy + rng.standard_normal(xy.shape), np.ones(xy.shape[:2])) for _ in range(2))
    assert find_shift(one, other) is None


def test_a_person_who_stands_still_tells_nothing(rng: np.random.Generator) -> None:
    still = np.broadcast_to(300 * rng.uniform(0, 1, (8, 2)), (240, 8, 2))
    motions = {v: motion_of(T, still + rng.standard_normal(still.shape), np.ones((240, 8))) for v in "ab"}
    assert motion_evidence(motions) == []


def test_real_synchronised_cameras_agree_within_what_is_stated(shared: Path) -> None:
    folder = shared / "data" / "pose2sim_single" / "pose2d_body25b_associated"
    motions = {}
    for view in ("cam01", "cam02", "cam03", "cam04"):
        found = read_keypoints(folder / f"{view}_json", "openpose", skeleton_named("BODY_25B"))
        t_s = np.arange(found.num_frames) / 60
        motions[view] = motion_of(t_s, found.xy_px[:, 0].astype(float), found.score[:, 0].astype(float))
    solution = solve(motion_evidence(motions), list(motions), 60e-6, "cam01")
    times, covariance = solution.contrast(dict.fromkeys(motions, 0.8), "cam01")
    assert (np.abs(times)[1:] < 2.5 * np.sqrt(np.diag(covariance))[1:]).all()
    assert np.abs(times).max() < 0.04
