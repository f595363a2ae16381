"""Windows of poses at the model's rate, for prediction and interpolation: what is known, what is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from core.arrays import Bool, Float, Int
from core.errors import InputError
from dataset.features import NUM_FEATURE_JOINTS
from dataset.resample import Motion, num_instants, resample
from model.protocols.motions import LabelledMotions

# A window in which joints move less on average is a person at rest, of whom any guess is right.
MOVING_M_S = 0.05


@dataclass(frozen=True)
class Task:
    """Frames before, in and after what is asked for; nothing after it is prediction.

    Attributes:
        past: known frames.
        asked: frames to be told.
        after: known frames behind them.
        rate_hz: frames a second.
    """

    past: int
    asked: int
    after: int = 0
    rate_hz: float = 5.0

    @property
    def frames(self) -> int:
        """All frames of a window."""
        return self.past + self.asked + self.after

    @property
    def borders_s(self) -> tuple[float, ...]:
        """Where what is asked for begins, and where it ends if something follows."""
        first = (self.past / self.rate_hz,)
        return (*first, (self.past + self.asked) / self.rate_hz) if self.after else first

    @property
    def asked_frames(self) -> slice:
        """Where the asked frames lie in a window."""
        return slice(self.past, self.past + self.asked)


@dataclass(frozen=True, eq=False)
class PoseWindows:
    """Windows of root-local joints, one after each frame of every clip that has room for them.

    Attributes:
        task: what is known and asked.
        joints: (n, frames, 22, 3) metres.
        clip: (n,) position of the clip.
        first: (n,) the window's first frame at the task's rate.
        group: (n,) of the clip.
    """

    task: Task
    joints: Float[np.ndarray, "windows frames 22 3"]
    clip: Int[np.ndarray, "windows"]
    first: Int[np.ndarray, "windows"]
    group: Int[np.ndarray, "windows"]

    def __len__(self) -> int:
        return len(self.joints)

    def rows(self, index: np.ndarray) -> PoseWindows:
        """Some of the windows, by positions or mask."""
        return PoseWindows(self.task, self.joints[index], self.clip[index], self.first[index], self.group[index])

    @property
    def asked(self) -> Float[np.ndarray, "windows asked 22 3"]:
        """The truth."""
        return self.joints[:, self.task.asked_frames]

    @property
    def known(self) -> Float[np.ndarray, "windows known 22 3"]:
        """The poses before and after it."""
        return np.delete(self.joints, self.task.asked_frames, axis=1)

    @property
    def moving(self) -> Bool[np.ndarray, "windows"]:
        """Windows whose joints move at `MOVING_M_S` at least, on average over the window."""
        steps = np.linalg.norm(np.diff(self.joints, axis=1), axis=-1)
        return np.asarray(steps.mean(axis=(1, 2)) * self.task.rate_hz >= MOVING_M_S)


def check_lengths(motions: LabelledMotions, task: Task, least: int = 10) -> None:
    """Refuses groups whose clips have no room for windows enough: one to be judged on, some to learn from.

    Raises:
        InputError: naming the group.
    """
    frames = np.array([num_instants(len(m), Fraction(m.rate_hz), task.rate_hz) for m in motions.motions])
    room = np.maximum(frames - task.frames + 1, 0)
    of_group = np.bincount(motions.group, room, len(motions.groups))
    for group, number in zip(motions.groups, of_group, strict=True):
        if number < least:
            problem = f"its clips have room for {number:.0f} windows of {task.frames / task.rate_hz:g} s"
            raise InputError(group, problem, "join it to another group, as in a+b, or leave this protocol out")


def pose_windows(motions: LabelledMotions, task: Task) -> PoseWindows:
    """Every window of every clip, at a stride of one frame; windows with an invalid frame are left out.

    Raises:
        InputError: if no clip is long enough.
    """
    joints, clip, first = [], [], []
    for number, motion in enumerate(motions.motions):
        grid = resample(motion, task.rate_hz)
        if len(grid) < task.frames:
            continue
        starts = np.arange(len(grid) - task.frames + 1)
        index = starts[:, None] + np.arange(task.frames)
        whole = grid.frame_valid[index].all(axis=1)
        joints.append(grid.local_joints()[index[whole]])
        clip.append(np.full(whole.sum(), number))
        first.append(starts[whole])
    if not joints:
        problem = f"no clip has {task.frames / task.rate_hz:g} s"
        raise InputError("windows", problem, "ask for a shorter time, or give longer clips")
    of_clip = np.concatenate(clip)
    return PoseWindows(
        task, np.concatenate(joints).astype(np.float32), of_clip, np.concatenate(first), motions.group[of_clip]
    )


def stretches(motions: LabelledMotions, windows: PoseWindows) -> list[Motion]:
    """The clips' own frames of each window: what an encoder is given."""
    found = []
    for clip, first in zip(windows.clip.tolist(), windows.first.tolist(), strict=True):
        motion = motions.motions[clip]
        step = motion.rate_hz / windows.task.rate_hz
        start = round(first * step)
        found.append(motion.part(start, min(round(start + windows.task.frames * step), len(motion))))
    return found


def errors_mm(
    guess: Float[np.ndarray, "windows asked 22 3"], windows: PoseWindows
) -> Float[np.ndarray, "windows asked"]:
    """Mean distance of the joints in every asked frame, millimetres."""
    assert guess.shape[2] == NUM_FEATURE_JOINTS
    return np.asarray(1000 * np.linalg.norm(guess - windows.asked, axis=-1).mean(axis=-1))
