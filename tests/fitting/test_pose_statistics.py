"""The pose statistics that come with the package: whole, human, mirrored, and acknowledged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from core.errors import InputError
from core.files import write_npz
from core.skeletons import SMPL_24
from fitting.pose_statistics import CMU_FILE, cmu_pose_statistics, load_pose_statistics
from fitting.prior import pose_prior


def test_it_is_small_and_acknowledges_its_source() -> None:
    assert CMU_FILE.stat().st_size < 100_000
    source = cmu_pose_statistics().source
    assert "mocap.cs.cmu.edu" in source and "NSF EIA-0196217" in source
    assert "NSF\nEIA-0196217" in (CMU_FILE.parent / "README.md").read_text()


def test_the_covariance_is_usable_and_mirrors() -> None:
    found = cmu_pose_statistics()
    assert np.linalg.eigvalsh(found.covariance)[0] > np.deg2rad(1.0) ** 2
    swap = SMPL_24.swap_idx[1:] - 1
    mirror = np.arange(69).reshape(23, 3)[swap].ravel()
    signs = np.tile([1.0, -1.0, -1.0], 23)
    np.testing.assert_allclose(found.mean[mirror] * signs, found.mean, atol=1e-5)
    mirrored = found.covariance[np.ix_(mirror, mirror)] * np.outer(signs, signs)
    np.testing.assert_allclose(mirrored, found.covariance, atol=2e-6)
    other = found.covariance[np.ix_(found.measured, ~found.measured)]
    assert not other.any() and not found.mean[~found.measured].any()


def test_it_says_what_people_do() -> None:
    found = cmu_pose_statistics()
    mean = dict(zip(found.joints, np.rad2deg(found.mean.reshape(23, 3)), strict=True))
    assert 15 < mean["left_knee"][0] < 60  # knees and hips flex, arms hang
    assert -45 < mean["left_hip"][0] < -5
    assert -90 < mean["left_shoulder"][2] < -40
    knees = 3 * found.joints.index("left_knee")
    assert found.covariance[knees, knees] > 4 * found.covariance[knees + 1, knees + 1]  # a hinge
    assert 1 < found.acceleration[0] < 6 and np.isnan(found.acceleration[2 + found.joints.index("left_hand")])


def test_the_fit_takes_over_what_it_says_of_limbs() -> None:
    found, table = cmu_pose_statistics(), pose_prior().sigma[1:]
    density = found.density()
    sigma, mean = density.sigma.reshape(23, 3), density.mean.reshape(23, 3)
    limbs = np.array([joint.split("_")[-1] in ("hip", "knee", "shoulder", "elbow") for joint in found.joints])
    np.testing.assert_allclose(sigma[~limbs], table[~limbs])
    own = np.sqrt(np.diag(found.covariance)).reshape(23, 3)
    assert not mean[~limbs].any() and (sigma >= own * limbs[:, None] - 1e-9).all()
    assert (sigma <= np.maximum(own, table) / 0.75 + 1e-9).all()
    np.testing.assert_array_equal(mean[limbs], found.mean.reshape(23, 3)[limbs])
    hip, knee = (3 * found.joints.index(f"left_{name}") for name in ("hip", "knee"))

    def correlation(covariance: np.ndarray) -> float:
        return float(covariance[hip, knee] / np.sqrt(covariance[hip, hip] * covariance[knee, knee]))

    assert correlation(density.covariance) == pytest.approx(0.5 * correlation(found.covariance))
    assert correlation(density.covariance) < -0.1  # who bends the hip bends the knee
    assert np.linalg.eigvalsh(density.covariance)[0] > 0


@pytest.mark.parametrize("change", ["mean", "correlation", "schema"])
def test_damaged_files_are_refused(tmp_path: Path, change: str) -> None:
    arrays = cmu_pose_statistics().to_arrays()
    arrays[change] = {
        "mean": np.zeros(3), "correlation": np.ones(2346), "schema": np.array("other")
    }[change]  # fmt: skip
    write_npz(tmp_path / "a.npz", arrays)
    with pytest.raises(InputError):
        load_pose_statistics(tmp_path / "a.npz")


def test_the_way_round(tmp_path: Path) -> None:
    found = cmu_pose_statistics()
    write_npz(tmp_path / "a.npz", found.to_arrays())
    again = load_pose_statistics(tmp_path / "a.npz")
    np.testing.assert_allclose(again.covariance, found.covariance, atol=1e-7)
    assert again.joints == found.joints and again.source == found.source
