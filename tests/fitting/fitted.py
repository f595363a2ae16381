"""Sequences as a fit leaves them, made of exact poses."""

from __future__ import annotations

import numpy as np

from core.transforms import so3_log
from fitting.playback import Playback
from fitting.sequence import SmplSequence
from fitting.smpl import PosedBody


def sequence_of(posed: PosedBody, t_s: np.ndarray, sigma_m: float = 0.01) -> SmplSequence:
    """A sequence of a posed body, all valid."""
    num, body = len(t_s), posed.shaped.body
    rate = f"{1 / np.diff(t_s).mean():.0f}/1" if num > 1 else "30/1"
    return SmplSequence(
        t_s=t_s, rate=rate, poses=so3_log(posed.rotations).reshape(num, 72),
        trans=posed.joints[:, 0] - posed.shaped.rest_joints[0], betas=posed.shaped.betas, gender="neutral",
        body_model=body.name, body_sha256=body.sha256, joints_m=posed.joints,
        joint_covariance=np.tile(sigma_m**2 * np.eye(3), (num, 24, 1, 1)), joint_valid=np.ones((num, 24), dtype=bool),
        frame_valid=np.ones(num, dtype=bool), reasons=np.zeros(num, dtype=np.int64), contacts=np.zeros((num, 4)),
    )  # fmt: skip


def playback_of(posed: PosedBody, t_s: np.ndarray) -> Playback:
    """The same as a motion."""
    return Playback.of(sequence_of(posed, t_s), posed.shaped.body)
