"""Pose statistics: moments, mirror images and the choice of shrinkage against known distributions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from motion_files import as_source, posed_body, write_bvh

from dataset.importers.skeleton_maps import DAZ
from dataset.pose_statistics import choose, make_statistics, measured_components, moments_of
from fitting.prior import pose_prior


def test_moments_give_back_a_gaussian(rng: np.random.Generator) -> None:
    A = rng.normal(size=(6, 6))
    subjects = [moments_of(1.0 + rng.normal(size=(n, 6)) @ A.T) for n in (20_000, 40_000)]
    mean, covariance = (subjects[0] + subjects[1]).gaussian(0.0, 0.0)
    np.testing.assert_allclose(mean, 1.0, atol=0.05)
    np.testing.assert_allclose(covariance, A @ A.T, atol=0.05 * np.trace(A @ A.T))


def test_correlations_of_few_frames_are_shrunk(rng: np.random.Generator) -> None:
    few = [moments_of(0.3 * rng.normal(size=(6, 40))) for _ in range(5)]
    many = [moments_of(0.3 * rng.normal(size=(20_000, 3)) @ rng.normal(size=(3, 3))) for _ in range(1)] * 3
    assert choose(few)[0] == 0.3 and choose(many) == (0.0, 2.0)


def test_statistics_of_takes_mirror_and_leave_out_what_is_not_there(tmp_path: Path, rng: np.random.Generator) -> None:
    for name in ("02_01", "02_02", "05_01"):
        path = tmp_path / name[:2] / f"{name}.bvh"
        path.parent.mkdir(exist_ok=True)
        write_bvh(path, as_source(posed_body(60, rng), DAZ), first_at_rest=True)
    found = make_statistics([tmp_path])
    assert "3 takes (156 frames at 30 Hz, 2 subjects)" in found.source
    measured = measured_components()
    np.testing.assert_array_equal(found.measured, measured)
    np.testing.assert_allclose(np.diag(found.covariance)[~measured], pose_prior().sigma[1:].ravel()[~measured] ** 2)
    left, right = (found.joints.index(f"{side}_hip") for side in ("left", "right"))
    mean = found.mean.reshape(23, 3)
    np.testing.assert_allclose(mean[left] * [1, -1, -1], mean[right], atol=1e-12)
    np.testing.assert_allclose(found.acceleration[2 + left], found.acceleration[2 + right])
