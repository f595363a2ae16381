"""The frame vector: hand-worked motions, its inverse, and resampling."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import numpy as np
import pytest

from core.errors import InputError
from core.skeletons import SMPL_24
from core.transforms import so3_exp, so3_log
from dataset import rotations
from dataset.checks import require_whole
from dataset.features import (
    LAYOUT,
    REFERENCE_LEG_M,
    SD_FLOORS,
    FeatureStats,
    frame_features,
    heading,
    leg_length,
    local_joints,
    mirror_map,
)
from dataset.inverse import joints_from_features, poses_from_features
from dataset.reclock import clip_at_rate
from dataset.resample import Motion, num_instants, resample, resample_times
from dataset.shards import AmdDataset, motion_from_clip

FLOAT32_M = 1e-5  # a few metres in float32, added up over some hundred frames


def motion_from(walk: dict[str, np.ndarray], rate_hz: float) -> Motion:
    frames = len(walk["poses"])
    return Motion(
        rate_hz,
        1.0,
        walk["poses"],
        walk["joints_m"],
        np.zeros((frames, 4)),
        np.ones((frames, 24), bool),
        np.full((frames, 24), 0.01),
        np.ones(frames, bool),
    )


def test_layout_is_the_papers() -> None:
    assert LAYOUT.size == 4 + 1 + 2 + 12 * 22 == 271
    covered = np.concatenate([np.arange(LAYOUT.size)[part] for part in LAYOUT.parts.values()])
    np.testing.assert_array_equal(covered, np.arange(LAYOUT.size))
    assert set(SD_FLOORS) == set(LAYOUT.parts)


def test_rotations_agree_with_scipys(rng: np.random.Generator) -> None:
    rotvec = rng.normal(size=(200, 3))
    rotvec *= (rng.uniform(0, np.pi - 1e-6, 200) / np.linalg.norm(rotvec, axis=1))[:, None]
    rotvec[:3] = [[0, 0, 0], [1e-9, 0, 0], [np.pi - 1e-7, 0, 0]]
    matrices = rotations.matrix_from_rotvec(rotvec)
    np.testing.assert_allclose(matrices, so3_exp(rotvec), atol=1e-12)
    np.testing.assert_allclose(rotations.rotvec_from_matrix(matrices), so3_log(matrices), atol=1e-7)
    np.testing.assert_allclose(rotations.matrix_from_sixd(rotations.sixd_from_matrix(matrices)), matrices, atol=1e-12)


def test_slerp_turns_evenly_the_short_way(rng: np.random.Generator) -> None:
    first = np.array([[0.0, 0.0, 3.0], [0.2, 0.1, 0.0]])
    second = np.array([[0.0, 0.0, -3.0], [0.2, 0.1, 1e-9]])  # across pi: 0.283 rad apart, not 6
    middle = rotations.slerp(first, second, np.array([0.5, 0.5]))
    relative = so3_log(np.swapaxes(so3_exp(first), 1, 2) @ so3_exp(middle))
    assert np.linalg.norm(relative[0]) == pytest.approx((2 * np.pi - 6.0) / 2, abs=1e-9)
    np.testing.assert_allclose(middle[1], first[1], atol=1e-8)


def test_walking_straight_ahead_gives_forward_velocity_alone(walker) -> None:
    still = walker(1, 30.0)
    poses = np.repeat(still["poses"], 31, axis=0)
    yaw = heading(still["joints_m"])[0]
    ahead = np.array([np.cos(yaw), np.sin(yaw), 0.0])
    joints = still["joints_m"] + 1.5 * np.arange(31)[:, None, None] / 30.0 * ahead
    features = frame_features(poses, joints, np.zeros((31, 4)), 30.0)
    np.testing.assert_allclose(features[:, LAYOUT.yaw_rate], 0.0, atol=1e-6)
    np.testing.assert_allclose(features[:, LAYOUT.root_velocity], [[1.5, 0.0]] * 31, atol=1e-5)
    velocities = features[:, LAYOUT.velocities].reshape(31, 22, 3)
    np.testing.assert_allclose(velocities, np.broadcast_to([1.5, 0.0, 0.0], velocities.shape), atol=1e-5)


def test_left_is_left_and_up_is_up(walker) -> None:
    rest = walker(1, 30.0)
    rest["poses"][:, 1:] = 0.0
    local = local_joints(rest["joints_m"])[0]
    assert abs(local[0, :2]).max() == 0.0 and local[0, 2] == pytest.approx(rest["pelvis"][0, 2])
    assert local[1, 1] > 0 > local[2, 1]  # hips
    assert local[10, 0] > local[7, 0]  # toes before the ankle
    assert local[15, 2] > local[0, 2] > local[7, 2]


@pytest.mark.parametrize("turn", [0.0, 1.0, np.pi, -2.5])
def test_turning_and_moving_the_room_changes_nothing(walker, turn: float) -> None:
    walk = walker(60, 30.0)
    room = rotations.yaw_matrix(np.array(turn))
    poses = walk["poses"].copy()
    poses[:, 0] = rotations.rotvec_from_matrix(room @ rotations.matrix_from_rotvec(poses[:, 0]))
    joints = walk["joints_m"] @ room.T + np.array([3.0, -2.0, 0.0])
    contacts = np.zeros((60, 4))
    np.testing.assert_allclose(
        frame_features(poses, joints, contacts, 30.0),
        frame_features(walk["poses"], walk["joints_m"], contacts, 30.0),
        atol=1e-4,
    )


def test_mirrored_vectors_are_those_of_the_mirrored_person(walker, rng: np.random.Generator) -> None:
    walk = walker(60, 30.0)
    swap, world, rest = SMPL_24.swap_idx, np.diag([1.0, -1.0, 1.0]), np.diag([-1.0, 1.0, 1.0])
    rotation = rotations.matrix_from_rotvec(walk["poses"])
    mirrored = rest @ rotation[:, swap] @ rest
    mirrored[:, 0] = world @ rotation[:, 0] @ rest
    contacts = rng.random((60, 4))
    joints = walk["joints_m"][:, swap] @ world
    expected = frame_features(rotations.rotvec_from_matrix(mirrored), joints, contacts[:, [2, 3, 0, 1]], 30.0)
    channel, sign = mirror_map()
    found = frame_features(walk["poses"], walk["joints_m"], contacts, 30.0)[:, channel] * sign
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.array_equal(channel[channel], np.arange(len(channel)))


@pytest.mark.parametrize("rate_hz", [5.0, 30.0, 120.0])
def test_features_give_back_joints_and_rotations(walker, rate_hz: float) -> None:
    walk = walker(200, rate_hz)
    features = frame_features(walk["poses"], walk["joints_m"], np.zeros((200, 4)), rate_hz)
    yaw0 = heading(walk["joints_m"])[0]
    xy0 = (float(walk["pelvis"][0, 0]), float(walk["pelvis"][0, 1]))
    joints = joints_from_features(features, rate_hz, yaw0, xy0)
    np.testing.assert_allclose(joints, walk["joints_m"][:, :22], atol=20 * FLOAT32_M)
    poses = poses_from_features(features, rate_hz, yaw0)
    given = rotations.matrix_from_rotvec(walk["poses"][:, :22])
    np.testing.assert_allclose(rotations.matrix_from_rotvec(poses[:, :22]), given, atol=20 * FLOAT32_M)
    assert not poses[:, 22:].any()


def test_tall_and_short_move_alike(walker) -> None:
    tall, short = walker(30, 30.0, scale=1.1), walker(30, 30.0, scale=0.8)
    scales = [REFERENCE_LEG_M / leg_length(body["joints_m"]) for body in (tall, short)]
    assert scales[1] / scales[0] == pytest.approx(1.1 / 0.8)
    offsets = [
        (local := local_joints(body["joints_m"], scale)) - local[:, :1]
        for body, scale in zip((tall, short), scales, strict=True)
    ]
    np.testing.assert_allclose(offsets[0], offsets[1], atol=1e-9)


def test_lying_body_keeps_the_heading_around_it(walker) -> None:
    walk = walker(9, 30.0)
    walk["joints_m"][:] = walk["joints_m"][0]
    walk["joints_m"][4, :, :2] = 0.0  # every joint above one point: no left-right line
    yaw = heading(walk["joints_m"])
    np.testing.assert_allclose(yaw, yaw[0], atol=1e-12)
    assert np.isfinite(frame_features(walk["poses"], walk["joints_m"], np.zeros((9, 4)), 30.0)).all()


@pytest.mark.parametrize(("source_hz", "target_hz"), [(30.0, 5.0), (25.0, 30.0), (30000 / 1001, 5.0), (120.0, 30.0)])
def test_resampled_motion_is_the_same_motion(walker, source_hz: float, target_hz: float) -> None:
    frames = round(8 * source_hz)
    found = resample(motion_from(walker(frames, source_hz), source_hz), target_hz)
    assert len(found) == int((frames - 1) / source_hz * target_hz + 1e-6) + 1
    expected = walker(len(found), target_hz)
    # The largest second derivative of the walk, 0.3 rad x (2 pi 0.9 Hz)^2 x about 1 m of arm over 3 joints, plus the
    # turn on the circle, is below 40 m/s^2; a chord misses its arc by at most a h^2 / 8.
    sagitta = 40.0 / source_hz**2 / 8
    np.testing.assert_allclose(found.joints_m, expected["joints_m"], atol=sagitta)
    np.testing.assert_allclose(
        rotations.matrix_from_rotvec(found.poses), rotations.matrix_from_rotvec(expected["poses"]), atol=sagitta
    )


def test_on_grid_resampling_copies_frames(walker) -> None:
    walk = walker(61, 30.0)
    found = resample(motion_from(walk, 30.0), 5.0)
    np.testing.assert_array_equal(found.joints_m, walk["joints_m"][::6])
    assert num_instants(61, Fraction(30), 5.0) == len(found) == 11


def test_resampling_bridges_no_invalid_frame(walker) -> None:
    motion = motion_from(walker(60, 25.0), 25.0)
    motion.frame_valid[20] = False
    motion.joint_valid[30, 7] = False
    found = resample(motion, 30.0)
    t = np.arange(len(found)) / 30.0 * 25.0
    np.testing.assert_array_equal(found.frame_valid, (t <= 19) | (t >= 21))
    np.testing.assert_array_equal(found.joint_valid[:, 7], (t <= 29) | (t >= 31))


def test_frames_at_times_of_their_own_give_the_same_motion(walker, rng: np.random.Generator) -> None:
    """A webcam's jitter: taken where the motion really was, resampled as if the times had been even."""
    t_s = np.arange(240) / 30.0 + rng.uniform(-0.008, 0.008, 240)
    t_s[0] = 0.0
    fine = walker(24000, 3000.0)
    taken = {name: np.asarray(fine[name])[np.rint(t_s * 3000).astype(int).clip(0)] for name in ("poses", "joints_m")}
    found = resample_times(motion_from(taken, 30.0), np.rint(t_s * 3000).clip(0) / 3000, 25.0)
    expected = walker(len(found), 25.0)
    # see test_resampled_motion_is_the_same_motion: here frames are at most 49 ms apart
    sagitta = 40.0 * (1 / 30 + 0.016) ** 2 / 8
    np.testing.assert_allclose(found.joints_m, expected["joints_m"], atol=sagitta)
    assert found.frame_valid.all()


def test_frames_far_apart_bound_a_gap(walker) -> None:
    t_s = np.delete(np.arange(60) / 30.0, np.arange(20, 32))
    walk = {name: np.delete(array, np.arange(20, 32), axis=0) for name, array in walker(60, 30.0).items()}
    found = resample_times(motion_from(walk, 30.0), t_s, 60.0)
    instants = np.arange(len(found)) / 60.0
    np.testing.assert_array_equal(found.frame_valid, (instants <= 19 / 30) | (instants >= 32 / 30 - 1e-9))
    assert resample_times(motion_from(walk, 30.0), t_s, 60.0, max_gap_s=1.0).frame_valid.all()
    with pytest.raises(InputError, match="do not rise"):
        resample_times(motion_from(walk, 30.0), t_s[::-1], 60.0)


@pytest.mark.parametrize("rate", [Fraction(5), Fraction(25), Fraction(30), Fraction(60)])
def test_a_whole_clip_at_another_rate(dataset: AmdDataset, rate: Fraction) -> None:
    """Every field follows, and features are those of the motion resampled."""
    clip = dataset.read(dataset.clips[0].id)
    clip.valid[50, 3], clip.reasons[90] = False, 2
    labels = dataclasses.replace(clip.labels, action_names=("late",))
    late = (np.arange(300) >= 150).astype(np.uint8)[:, None]
    found = require_whole(clip_at_rate(dataclasses.replace(clip, labels=labels, actions=late), rate))
    expected = resample(motion_from_clip(clip, 1.0), float(rate))
    assert len(found) == len(expected) and found.rate == rate
    np.testing.assert_allclose(found.joints_m, expected.joints_m, atol=1e-6)
    np.testing.assert_allclose(
        rotations.matrix_from_rotvec(found.poses), rotations.matrix_from_rotvec(expected.poses), atol=1e-6
    )
    np.testing.assert_array_equal(found.valid, expected.joint_valid)
    np.testing.assert_array_equal(found.frame_valid, expected.frame_valid)
    assert found.actions is not None and found.actions.sum() == pytest.approx(len(found) / 2, abs=1)
    np.testing.assert_allclose(
        found.joint_covariance, np.broadcast_to(clip.joint_covariance[0, 0], (len(found), 24, 6))
    )


def test_standard_deviations_have_a_floor() -> None:
    still = np.full((10, LAYOUT.size), 0.3)
    stats = FeatureStats.from_sums(5.0, 10, still.sum(axis=0), (still**2).sum(axis=0))
    for name, part in LAYOUT.parts.items():
        np.testing.assert_array_equal(stats.sd[part], SD_FLOORS[name])
    there_and_back = stats.denormalise(stats.normalise(still))
    np.testing.assert_allclose(there_and_back, still, atol=1e-6)
