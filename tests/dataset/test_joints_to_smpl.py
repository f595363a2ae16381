"""A body from joints: exact where the joints are a body's own, right in direction where some are missing."""

from __future__ import annotations

import numpy as np
import pytest

from core.errors import InputError
from core.transforms import geodesic
from dataset.joints_to_smpl import fit_joints, height_above_floor, shape_of_bones
from fitting.initialise import smallest_turn
from fitting.smpl import BodyModel, rodrigues
from fitting.stand_in import stand_in_body


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return stand_in_body()


@pytest.fixture
def motion(body: BodyModel) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Betas, poses and joints of wild poses of somebody."""
    rng = np.random.default_rng(0)
    betas, poses = rng.normal(size=body.num_betas), rng.normal(scale=0.4, size=(60, 24, 3))
    poses[:, 0] = rng.normal(size=(60, 3))
    return betas, poses, body.with_shape(betas).with_pose(poses, rng.normal(size=(60, 3))).joints


def test_a_bodys_own_joints_come_back(body: BodyModel, motion: tuple[np.ndarray, ...]) -> None:
    _, poses, joints = motion
    fit = fit_joints(body, joints, bone_sigma_m=1e-4)
    assert np.nanmax(fit.error_m) < 1e-3  # what the prior on the shape leaves
    turned = geodesic(rodrigues(fit.poses[:, 0]), rodrigues(poses[:, 0]))
    assert np.rad2deg(turned).max() < 0.5
    np.testing.assert_allclose(
        fit.shaped.with_pose(fit.poses, fit.trans).joints, fit.joints_m, atol=1e-9, err_msg="joints are the poses' own"
    )


def test_bones_point_where_they_were_seen_when_joints_are_missing(
    body: BodyModel, motion: tuple[np.ndarray, ...]
) -> None:
    _, _, joints = motion
    seen = joints.copy()
    seen[:, [3, 9, 13, 14]] = np.nan  # no lower spine, upper spine or collars, as a depth camera has none
    fit = fit_joints(body, seen, 0.02)
    for start, end in ((1, 4), (4, 7), (16, 18), (18, 20)):
        bones = [j[:, end] - j[:, start] for j in (fit.joints_m, joints)]
        cosine = (bones[0] * bones[1]).sum(-1) / np.linalg.norm(bones[0], axis=-1) / np.linalg.norm(bones[1], axis=-1)
        np.testing.assert_allclose(cosine, 1.0, atol=1e-9)
    assert np.isfinite(fit.joints_m).all()


def test_frames_without_a_pelvis_stay_missing(body: BodyModel, motion: tuple[np.ndarray, ...]) -> None:
    _, _, joints = motion
    seen = joints.copy()
    seen[10:20] = np.nan
    seen[30, [4, 5]] = np.nan
    fit = fit_joints(body, seen, 1e-4)
    missing = np.isnan(fit.poses).any(axis=(1, 2))
    assert missing[10:20].all() and missing.sum() == 10
    assert np.isnan(fit.trans[10:20]).all()


def test_joints_that_fix_no_body_are_refused(body: BodyModel) -> None:
    with pytest.raises(InputError, match="in no frame"):
        fit_joints(body, np.full((5, 24, 3), np.nan), 0.01)


def test_longer_bones_give_a_larger_body(body: BodyModel) -> None:
    joints = body.with_shape(np.zeros(body.num_betas)).with_pose(np.zeros((1, 24, 3))).joints
    betas = shape_of_bones(body, 1.05 * joints, 0.002)
    rest = body.with_shape(betas).rest_joints
    legs = [np.linalg.norm(j[7] - j[4]) + np.linalg.norm(j[4] - j[1]) for j in (rest, joints[0])]
    assert 1.03 < legs[0] / legs[1] < 1.06


def test_the_soles_come_to_the_floor(body: BodyModel) -> None:
    shaped = body.with_shape(np.zeros(body.num_betas))
    upright = np.zeros((50, 24, 3))
    upright[:, 0, 0] = np.pi / 2
    lifted = np.array([0.0, 0.0, 3.0])
    lowest_m = shaped.with_pose(upright[0], lifted).mesh()[:, 2].min()
    assert height_above_floor(shaped, shaped.with_pose(upright, np.tile(lifted, (50, 1))).joints) == pytest.approx(
        lowest_m, abs=1e-6
    )


def test_the_smallest_turn_of_opposite_directions_is_half_a_turn() -> None:
    old = np.array([[1.0, 0, 0], [0, 2.0, 0], [0.3, -0.2, 0.5]])
    new = np.array([[-2.0, 0, 0], [0, -1.0, 0], [-0.3, 0.2, -0.5]])
    turned = np.einsum("nij,nj->ni", rodrigues(smallest_turn(old, new)), old)
    cosine = (turned * new).sum(-1) / np.linalg.norm(turned, axis=-1) / np.linalg.norm(new, axis=-1)
    np.testing.assert_allclose(cosine, 1.0, atol=1e-9)
