"""From frame vectors back to SMPL: exact but for float32, whatever the motion."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset.features import REFERENCE_LEG_M, frame_features, leg_length
from dataset.inverse import Start, joints_from_features, smpl_from_features
from dataset.loader import WindowReader, WindowRef
from dataset.rotations import matrix_from_rotvec, rotvec_from_matrix
from dataset.shards import AmdDataset

EPS = 2.0**-24  # rounding of float32


def assert_same_body(
    features: np.ndarray, rate_hz: float, scale: float, poses: np.ndarray, trans: np.ndarray, joints_m: np.ndarray
) -> None:
    """Poses and trans come back; tolerances are the rounding of the velocities, added up over the frames."""
    found, found_trans = smpl_from_features(features, rate_hz, Start.of(joints_m, trans), scale)
    turns = EPS * rate_hz * np.abs(features[:, 4]).max() / rate_hz * len(features)
    # columns of the 6D rotations are rounded as well, and Gram-Schmidt adds their errors
    np.testing.assert_allclose(
        matrix_from_rotvec(found[:, :22]), matrix_from_rotvec(poses[:, :22]), atol=2 * turns + 8 * EPS
    )
    path = np.abs(features[:, 5:7]).max() / rate_hz / scale * len(features)
    reach = np.abs(joints_m[:, 0]).max()
    np.testing.assert_allclose(found_trans, trans, atol=(turns + 4 * EPS) * path + 4 * EPS * reach)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 80), st.sampled_from([5.0, 25.0, 30000 / 1001, 120.0]))
def test_any_motion_comes_back(seed: int, frames: int, rate_hz: float) -> None:
    """Joints at random places, rotations of any angle: nothing of a body's smoothness is needed."""
    rng = np.random.default_rng(seed)
    poses = rng.normal(size=(frames, 24, 3))
    poses *= rng.uniform(0, np.pi, (frames, 24, 1)) / np.linalg.norm(poses, axis=-1, keepdims=True)
    joints = rng.uniform(-2, 2, (frames, 24, 3))
    rest, scale = rng.uniform(-0.3, 0.3, 3), float(rng.uniform(0.7, 1.3))
    features = frame_features(poses, joints, np.zeros((frames, 4)), rate_hz, scale)
    assert_same_body(features, rate_hz, scale, poses, joints[:, 0] - rest, joints)


def test_hands_come_back_at_rest_and_angles_stay_below_pi(walker) -> None:
    walk = walker(100, 30.0)
    features = frame_features(walk["poses"], walk["joints_m"], np.zeros((100, 4)), 30.0)
    poses, _ = smpl_from_features(features, 30.0, Start.of(walk["joints_m"], walk["pelvis"]))
    assert not poses[:, 22:].any() and np.linalg.norm(poses, axis=-1).max() <= np.pi
    canonical = rotvec_from_matrix(matrix_from_rotvec(walk["poses"][:, 1:22]))
    np.testing.assert_allclose(poses[:, 1:22], canonical, atol=2e-6)


def test_a_whole_clip_of_a_dataset_comes_back(dataset: AmdDataset) -> None:
    """Through the loader, at the clip's own rate and at the model's."""
    info = dataset.clips[3]
    clip = dataset.read(info.id)
    scale = REFERENCE_LEG_M / leg_length(clip.joints_m)
    for rate_hz, step in ((30.0, 1), (5.0, 6)):
        window = WindowReader(dataset, info.duration_s, rate_hz).read(WindowRef(info.id, 3, 0.0))
        features = window["features"][window["valid"]]
        kept = slice(None, None, step)
        assert_same_body(features, rate_hz, scale, clip.poses[kept], clip.trans[kept], clip.joints_m[kept])


@pytest.mark.parametrize("yaw0", [0.0, 2.0])
def test_another_start_moves_the_whole_motion(walker, yaw0: float) -> None:
    walk = walker(60, 30.0)
    features = frame_features(walk["poses"], walk["joints_m"], np.zeros((60, 4)), 30.0)
    here, there = (
        joints_from_features(features, 30.0, yaw, xy) for yaw, xy in ((0.0, (0.0, 0.0)), (yaw0, (3.0, -1.0)))
    )
    turn = np.array([[np.cos(yaw0), -np.sin(yaw0), 0], [np.sin(yaw0), np.cos(yaw0), 0], [0, 0, 1]])
    np.testing.assert_allclose(there, here @ turn.T + [3.0, -1.0, 0.0], atol=1e-9)
