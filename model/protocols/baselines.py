"""Guesses without a learned representation, for prediction and interpolation alike.

A *rest line* is what a guess is measured from: the last known pose where nothing follows, straight lines between the
poses around the gap where something does. Ridge regression and nearest neighbours tell the displacement from it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from core.arrays import Float
from core.skeletons import SMPL_24
from dataset.features import local_joints
from dataset.importers.articulated import forward_kinematics
from dataset.resample import resample
from dataset.rotations import matrix_from_rotvec, slerp
from model.protocols.motions import LabelledMotions
from model.protocols.probes import standardised
from model.protocols.ridge import RidgePath
from model.protocols.windows import PoseWindows

RIDGE_ALPHAS = (30.0, 100.0, 300.0, 1000.0, 3000.0, 10000.0, 30000.0)
_PARENTS = np.array(SMPL_24.parents)
_ROWS = 512  # distances held in memory at once


def rest_line(w: PoseWindows) -> Float[np.ndarray, "windows asked 22 3"]:
    """The last pose held (zero velocity), or straight lines between the ends of the gap."""
    task = w.task
    before = w.joints[:, task.past - 1, None]
    if task.after == 0:
        return np.repeat(before, task.asked, axis=1)
    share = (np.arange(1, task.asked + 1) / (task.asked + 1))[:, None, None]
    return before + share * (w.joints[:, task.past + task.asked, None] - before)


def anchor(w: PoseWindows) -> Float[np.ndarray, "windows frames 22 3"]:
    """The rest line, carried on over the known frames by the poses beside what is asked for."""
    task = w.task
    parts = [np.repeat(w.joints[:, task.past - 1, None], task.past, axis=1), rest_line(w)]
    if task.after:
        parts.append(np.repeat(w.joints[:, task.past + task.asked, None], task.after, axis=1))
    return np.concatenate(parts, axis=1)


def constant_velocity(w: PoseWindows) -> Float[np.ndarray, "windows asked 22 3"]:
    """The last difference kept up."""
    last, before = w.joints[:, w.task.past - 1, None], w.joints[:, w.task.past - 2, None]
    return last + np.arange(1, w.task.asked + 1)[:, None, None] * (last - before)


def nearest_end(w: PoseWindows) -> Float[np.ndarray, "windows asked 22 3"]:
    """The pose of the nearer end of the gap, held."""
    task = w.task
    late = np.arange(1, task.asked + 1) > (task.asked + 1) / 2
    ends = w.joints[:, [task.past - 1, task.past + task.asked]]
    return ends[:, late.astype(int)]


def slerped(w: PoseWindows, motions: LabelledMotions) -> Float[np.ndarray, "windows asked 22 3"]:
    """Joints of the person, whose rotations go the shortest way between the ends of the gap, and whose pelvis straight.

    Bones are those of the pose before the gap, so they keep their lengths, as straight lines of joints do not.

    Args:
        motions: which the windows are of.
    """
    task, found = w.task, np.empty(w.asked.shape, dtype=np.float32)
    share = (np.arange(1, task.asked + 1) / (task.asked + 1))[:, None]
    for clip in np.unique(w.clip):
        motion = resample(motions.motions[clip], task.rate_hz)
        rows = np.flatnonzero(w.clip == clip)
        a, b = (w.first[rows] + k for k in (task.past - 1, task.past + task.asked))
        poses = motion.poses.astype(np.float64)
        start, end = (np.repeat(poses[k, None], task.asked, axis=1) for k in (a, b))
        turned = matrix_from_rotvec(slerp(start, end, share))
        joints_m = motion.joints_m.astype(np.float64)
        steps = joints_m[a, 1:] - joints_m[a][:, _PARENTS[1:]]
        nothing = np.zeros((len(rows), len(_PARENTS), 3))
        _, world = forward_kinematics(_PARENTS, nothing, matrix_from_rotvec(poses[a]))
        offsets = nothing.copy()
        offsets[:, 1:] = (np.swapaxes(world[:, _PARENTS[1:]], -1, -2) @ steps[..., None])[..., 0]
        every = np.repeat(offsets, task.asked, axis=0)
        posed, _ = forward_kinematics(_PARENTS, every, turned.reshape(-1, len(_PARENTS), 3, 3))
        pelvis = joints_m[a, None, 0] + share * (joints_m[b, None, 0] - joints_m[a, None, 0])
        whole = posed + pelvis.reshape(-1, 1, 3)
        found[rows] = local_joints(whole, motion.scale).reshape(len(rows), task.asked, -1, 3)
    return found


def inputs(w: PoseWindows) -> Float[np.ndarray, "windows features"]:
    """The poses beside what is asked for, and how the other known poses differ from the nearer of them, in a row."""
    past = w.task.past
    before = w.known[:, :past].astype(np.float64)
    parts = [before[:, -1:], before[:, :-1] - before[:, -1:]]
    if w.task.after:
        behind = w.known[:, past:].astype(np.float64)
        parts += [behind[:, :1] - before[:, -1:], behind[:, 1:] - behind[:, :1]]
    return np.concatenate(parts, axis=1).reshape(len(w), -1)


def ridge_guess(
    w: PoseWindows, x: Float[np.ndarray, "windows features"], test: int
) -> Float[np.ndarray, "test asked 22 3"]:
    """Guesses for the windows of a group by ridge on inputs `x`; alpha by leaving out the training groups in turn."""
    away = (w.asked - rest_line(w)).reshape(len(w), -1).astype(np.float64)
    outer = w.group != test
    errors = np.zeros(len(RIDGE_ALPHAS))
    for left_out in np.unique(w.group[outer]):
        fit, judge = outer & (w.group != left_out), outer & (w.group == left_out)
        seen, unseen = standardised(x[fit], x[judge])
        path = RidgePath(seen, away[fit])
        for k, alpha in enumerate(RIDGE_ALPHAS):
            difference = (path.predict(unseen, alpha) - away[judge]).reshape(judge.sum(), -1, 3)
            errors[k] += np.linalg.norm(difference, axis=-1).mean()
    judge = ~outer
    seen, unseen = standardised(x[outer], x[judge])
    told = RidgePath(seen, away[outer]).predict(unseen, RIDGE_ALPHAS[int(errors.argmin())])
    return (rest_line(w.rows(judge)) + told.reshape(-1, *w.asked.shape[1:])).astype(np.float32)


def neighbour_guess(w: PoseWindows, test: int, neighbours: int) -> Float[np.ndarray, "test asked 22 3"]:
    """Mean displacement of the training windows whose known poses are nearest."""
    fit, judge = w.group != test, w.group == test
    away = (w.asked - rest_line(w))[fit]
    x, y = (part.reshape(len(part), -1) for part in (w.known[fit], w.known[judge]))
    told = [away[index].mean(axis=1) for index in _nearest(x, y, neighbours)]
    return rest_line(w.rows(judge)) + np.concatenate(told)


def _nearest(x: np.ndarray, y: np.ndarray, neighbours: int) -> Iterator[np.ndarray]:
    norms = (x**2).sum(axis=1)
    for i in range(0, len(y), _ROWS):
        distance = norms - 2 * y[i : i + _ROWS] @ x.T
        yield np.argpartition(distance, neighbours - 1, axis=1)[:, :neighbours]
