"""Prediction and interpolation: windows, guesses that are exact where they must be, nothing learned from the tested."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from moving_people import people

from core.errors import InputError
from core.skeletons import SMPL_24
from dataset.importers.articulated import forward_kinematics
from dataset.rotations import matrix_from_rotvec
from model.protocols.baselines import (
    anchor,
    constant_velocity,
    inputs,
    nearest_end,
    neighbour_guess,
    rest_line,
    ridge_guess,
    slerped,
)
from model.protocols.features import Statistics
from model.protocols.forecast import ForecastConfig, judge, pose_rows, simple_rows, token_rows
from model.protocols.regression import RegressionConfig, regression_guess
from model.protocols.token_heads import HeadConfig
from model.protocols.windows import PoseWindows, Task, errors_mm, pose_windows, stretches


def lines(task: Task, number: int = 30, seed: int = 0) -> PoseWindows:
    """Joints on straight lines, of three groups."""
    rng = np.random.default_rng(seed)
    slope, start = rng.normal(size=(2, number, 1, 22, 3))
    joints = start + slope * np.arange(task.frames)[:, None, None]
    index = np.arange(number)
    return PoseWindows(task, joints.astype(np.float32), index, np.zeros(number, int), index % 3)


def test_windows_of_clips() -> None:
    motions = people(clips=2, frames=121)
    windows = pose_windows(motions, Task(5, 10, 3))
    # 121 frames are 21 at 5 fps, with room for 4 windows of 18
    assert len(windows) == 6 * 4 and windows.joints.shape[1:] == (18, 22, 3)
    assert windows.task.borders_s == (1.0, 3.0) and windows.asked.shape[1] == 10 and windows.known.shape[1] == 8
    assert windows.group.tolist() == sorted(windows.group.tolist())
    for row, stretch in zip(windows.joints, stretches(motions, windows), strict=True):
        assert np.allclose(stretch.local_joints()[::6][:18], row, atol=1e-6)
    with pytest.raises(InputError, match=r"no clip has 5 s"):
        pose_windows(motions, Task(10, 15))
    frame_valid = np.arange(121) != 60
    broken = dataclasses.replace(motions.motions[0], frame_valid=frame_valid)
    part = dataclasses.replace(motions, motions=(broken,), label=np.zeros(1, int), group=np.zeros(1, int))
    assert pose_windows(part, Task(2, 3)).first.tolist() == [0, 1, 2, 3, 4, 5, *range(11, 17)]


def test_guesses_on_straight_lines() -> None:
    ahead, gap = lines(Task(4, 6)), lines(Task(4, 5, 3))
    assert errors_mm(constant_velocity(ahead), ahead).max() < 1e-2
    assert errors_mm(rest_line(gap), gap).max() < 1e-2
    assert np.allclose(rest_line(ahead), ahead.joints[:, 3:4])
    assert np.allclose(anchor(ahead), ahead.joints[:, 3:4])
    assert np.allclose(anchor(gap)[:, 3:10], gap.joints[:, 3:10], atol=1e-5)
    assert np.allclose(anchor(gap)[:, [0, 11]], gap.joints[:, [3, 9]])
    assert np.allclose(nearest_end(gap)[:, [0, 2, 3]], gap.joints[:, [3, 3, 9]])
    # lines are linear in their past: ridge is left with its penalty
    told = judge(ridge_guess(lines(Task(4, 6), 600), inputs(lines(Task(4, 6), 600)), 0), _group(lines(Task(4, 6), 600)))
    still = judge(rest_line(_group(lines(Task(4, 6), 600))), _group(lines(Task(4, 6), 600)))
    assert told["mm"] < 0.2 * still["mm"]
    assert set(still["at"]) == {"0.4 s", "1 s"} and still["windows"] == 200


def _group(windows: PoseWindows) -> PoseWindows:
    return windows.rows(windows.group == 0)


def test_slerp_keeps_bones_and_tells_steady_turns() -> None:
    # the pelvis goes straight at a steady speed, every joint turns steadily about one axis
    motions = people(clips=1, frames=61)
    shown = motions.motions[0]
    share = np.linspace(0.0, 1.0, 61)[:, None, None]
    poses = np.random.default_rng(0).normal(scale=0.2, size=(1, 24, 3)) * share
    offsets = np.random.default_rng(1).normal(scale=0.2, size=(24, 3))
    joints = forward_kinematics(np.array(SMPL_24.parents), np.tile(offsets, (61, 1, 1)), matrix_from_rotvec(poses))[0]
    joints = joints - joints[:, :1] + np.array([1.0, 0.5, 0.1]) * share + np.array([0.0, 0.0, 1.0])
    steady = dataclasses.replace(shown, poses=poses, joints_m=joints)
    one = dataclasses.replace(motions, motions=(steady,), label=np.zeros(1, int), group=np.zeros(1, int))
    windows = pose_windows(one, Task(2, 5, 2))
    assert errors_mm(slerped(windows, one), windows).max() < 1e-2
    assert errors_mm(rest_line(windows), windows).max() > 0.5
    # whatever the ends are, bones keep their lengths
    wild = dataclasses.replace(steady, poses=np.random.default_rng(2).normal(size=(61, 24, 3)))
    other = dataclasses.replace(one, motions=(wild,))
    told = slerped(windows, other)
    hip_to_knee = np.linalg.norm(told[:, :, 4] - told[:, :, 1], axis=-1)
    assert hip_to_knee == pytest.approx(np.full_like(hip_to_knee, hip_to_knee[0, 0]), rel=1e-4)


def test_neighbours_are_found_in_training_groups() -> None:
    one = lines(Task(4, 6), 3)
    twice = PoseWindows(one.task, np.tile(one.joints[:1], (3, 1, 1, 1)), one.clip, one.first, one.group)
    assert np.allclose(neighbour_guess(twice, 0, 1), one.asked[:1], atol=1e-5)


def test_moving_windows() -> None:
    windows = lines(Task(4, 6), 3)
    joints = np.repeat(windows.joints[:, :1], 10, axis=1)
    joints[0, :, 0, 0] += np.arange(10) * 22 * 0.05 / 5 * 1.01  # one joint of 22, just fast enough
    joints[1, :, 0, 0] += np.arange(10) * 22 * 0.05 / 5 * 0.99
    assert dataclasses.replace(windows, joints=joints).moving.tolist() == [True, False, False]


@pytest.mark.parametrize("task", [Task(5, 5), Task(5, 5, 5)])
def test_tokens_and_guesses_of_the_same_windows(task: Task) -> None:
    motions = people(clips=2, frames=121)
    windows = pose_windows(motions, task)
    quick = RegressionConfig(width=8, epochs=1, batch_size=8)
    config = ForecastConfig(train_windows=12, heads=HeadConfig(steps=2, batch_size=4, layers=1), regression=quick)
    rows = token_rows(Statistics("ms"), motions, windows, 1, config, torch.device("cpu"))
    simple = simple_rows(motions, windows, 1) | pose_rows(windows, 1, config, torch.device("cpu"))
    without = token_rows(
        Statistics("ms"), motions, windows, 1, dataclasses.replace(config, heads=None), torch.device("cpu")
    )
    assert set(rows) - set(without) == {"paper's heads", "paper's heads, displacements"}
    assert {row["windows"] for row in (*rows.values(), *simple.values())} == {int((windows.group == 1).sum())}
    assert rows["ridge on tokens and poses"]["mm"] < rows["paper's heads"]["mm"]
    again = token_rows(Statistics("ms"), motions, windows, 1, config, torch.device("cpu"))
    assert {name: row["mm"] for name, row in again.items()} == {name: row["mm"] for name, row in rows.items()}


@pytest.mark.parametrize("task", [Task(5, 5), Task(5, 5, 5)])
def test_the_test_group_teaches_nothing(task: Task) -> None:
    windows = lines(task, 60)
    joints = windows.joints.copy()
    joints[windows.group == 0, task.asked_frames] += 1.0
    moved = dataclasses.replace(windows, joints=joints)
    assert np.array_equal(ridge_guess(windows, inputs(windows), 0), ridge_guess(moved, inputs(moved), 0))
    assert np.array_equal(neighbour_guess(windows, 0, 3), neighbour_guess(moved, 0, 3))
    quick = RegressionConfig(width=8, epochs=2, batch_size=8)
    told = [regression_guess(w, inputs(w), 0, quick, torch.device("cpu")) for w in (windows, moved)]
    assert np.array_equal(*told)


def test_a_network_starts_from_the_rest_line_and_learns_from_it() -> None:
    windows, device = lines(Task(4, 6), 600), torch.device("cpu")
    judged = windows.rows(windows.group == 0)

    def error(config: RegressionConfig) -> float:
        return float(judge(regression_guess(windows, inputs(windows), 0, config, device), judged)["mm"])

    still = judge(rest_line(judged), judged)["mm"]
    assert error(RegressionConfig(epochs=0)) == pytest.approx(still)
    learned = error(RegressionConfig(epochs=12, dropout=0.0))
    assert learned < 0.95 * still
    assert (
        learned
        == error(RegressionConfig(epochs=12, dropout=0.0))
        != error(RegressionConfig(epochs=12, dropout=0.0, seed=1))
    )
