"""The features of a simulated person, whose heading and body are known."""

from __future__ import annotations

import numpy as np
import pytest

from dataset.features import (
    LAYOUT,
    NUM_FEATURE_JOINTS,
    REFERENCE_LEG_M,
    frame_features,
    heading,
    leg_length,
)
from dataset.inverse import joints_from_features, poses_from_features, root_path
from fitting.stand_in import stand_in_body
from simulation.person import make_person

RATE_HZ = 30.0


@pytest.fixture(scope="module")
def person():
    return make_person(np.random.default_rng(5), (2.0, 14.0), stand_at=(-1.4, -1.0, 0.6))


def test_heading_is_the_way_the_person_faces(person) -> None:
    joints = person.joints_at(np.array([0.0, 1.0]))
    # the A-pose is symmetric, so hips and shoulders lie exactly across
    np.testing.assert_allclose(heading(joints), 0.6, atol=0.02)


def test_positions_and_rotations_tell_the_same_story(person) -> None:
    t_s = np.arange(0.0, 14.0, 1 / RATE_HZ)
    poses, _ = person.pose_at(t_s)
    joints = person.joints_at(t_s)
    features = frame_features(poses, joints, person.contacts_at(t_s), RATE_HZ)
    yaw0 = heading(joints)[0]
    xy0 = (float(joints[0, 0, 0]), float(joints[0, 0, 1]))
    # float32 velocities of some m/s added up over 420 frames
    tolerance = 1e-3
    world = joints_from_features(features, RATE_HZ, yaw0, xy0)
    np.testing.assert_allclose(world, joints[:, :NUM_FEATURE_JOINTS], atol=tolerance)
    shaped = stand_in_body().with_shape(person.betas)
    again = poses_from_features(features, RATE_HZ, yaw0)
    fk = shaped.with_pose(again, shaped.transl_from_root(world[:, 0])).joints
    np.testing.assert_allclose(fk[:, :NUM_FEATURE_JOINTS], joints[:, :NUM_FEATURE_JOINTS], atol=5 * tolerance)


def test_people_walk_forwards(person) -> None:
    t_s = np.arange(2.0, 14.0, 1 / RATE_HZ)
    poses, _ = person.pose_at(t_s)
    joints = person.joints_at(t_s)
    scale = REFERENCE_LEG_M / leg_length(joints)
    features = frame_features(poses, joints, person.contacts_at(t_s), RATE_HZ, scale)
    forward, left = features[:, LAYOUT.root_velocity].T
    moving = np.hypot(forward, left) > 0.4
    assert moving.any()
    assert np.mean(forward[moving] > np.abs(left[moving])) > 0.8
    yaw, _ = root_path(features, RATE_HZ, heading(joints)[0])
    np.testing.assert_allclose(yaw, heading(joints), atol=1e-4)
    assert scale * leg_length(joints) == pytest.approx(REFERENCE_LEG_M)
