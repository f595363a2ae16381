"""Captured motion before simulated cameras: the clip's poses at its frames, by another body, in the room's middle."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from core.files import read_npz
from core.skeletons import HALPE_26
from fitting.stand_in import stand_in_body
from simulation.clips import simulated_clip
from simulation.replayed import replayed
from simulation.unfilmed import UnfilmedConfig, hidden_joints, make_unfilmed

CLIP = simulated_clip("a", 3, "s", 4.0, Fraction(60))


def test_frames_are_the_clips_and_between_them_lies_the_middle() -> None:
    person = replayed(CLIP, stand_in_body(), np.full(10, 0.5))
    t_s = np.array([10, 11, 10.5]) / 60
    first, second, between = person.posed_at(t_s).rotations
    theirs = Rotation.from_rotvec(CLIP.poses[[10, 11]].reshape(-1, 3)).as_matrix().reshape(2, 24, 3, 3)
    np.testing.assert_allclose([first, second], theirs, atol=1e-6)
    halfway = Rotation.from_matrix(np.swapaxes(first, -1, -2) @ between).as_rotvec()
    np.testing.assert_allclose(
        halfway, Rotation.from_matrix(np.swapaxes(between, -1, -2) @ second).as_rotvec(), atol=1e-6
    )


def test_it_stands_on_the_floor_in_the_middle_and_keeps_still_outside_its_time() -> None:
    person = replayed(CLIP, stand_in_body(), np.full(10, -1.0))
    joints = person.posed_at(np.arange(len(CLIP)) / 60).joints
    lowest = np.percentile(joints[..., 2].min(axis=1), 2.0)
    np.testing.assert_allclose(lowest, np.percentile(CLIP.joints_m[..., 2].min(axis=1), 2.0), atol=1e-5)
    np.testing.assert_allclose(joints[:, 0, :2].min(axis=0), -joints[:, 0, :2].max(axis=0), atol=1e-9)
    outside = person.posed_at(np.array([-1.0, 100.0])).joints
    np.testing.assert_allclose(outside, joints[[0, -1]], atol=1e-9)


def test_a_session_shows_it_and_hides_what_it_is_told_to(tmp_path: Path) -> None:
    person = replayed(CLIP, stand_in_body(), np.zeros(10))
    config = UnfilmedConfig(
        duration_s=4.0, num_views=2, hidden_s=1.0, hidden_every_s=2.0, hidden_joints=("left_wrist", "knee")
    )
    make_unfilmed(tmp_path, config, mover=person)
    truth = read_npz(tmp_path / "truth" / "smpl.npz")
    np.testing.assert_allclose(truth["joints_m"], person.posed_at(truth["t_s"]).joints)
    keypoints = read_npz(tmp_path / "02_keypoints" / "cam00.npz")
    gone = hidden_joints(HALPE_26, config.hidden_joints)
    assert [name for name, is_gone in zip(HALPE_26.joints, gone, strict=True) if is_gone] == [
        "left_wrist", "left_knee", "right_knee",
    ]  # fmt: skip
    scores = keypoints["score"].reshape(len(truth["t_s"]), -1)
    assert (scores[truth["hidden"]][:, gone] == 0).all() and (scores[~truth["hidden"]][:, gone] > 0).any()
