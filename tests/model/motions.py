"""Movements whose beginnings and ends are known."""

from __future__ import annotations

import numpy as np


def polyline(kinks_s: list[float], rate_hz: float, seconds: float, num_joints: int = 5) -> np.ndarray:
    """Joints that move on straight lines and change their velocity at the given times; joint 0 stands still."""
    rng = np.random.default_rng(3)
    t_s = np.arange(round(seconds * rate_hz)) / rate_hz
    knots = np.array([0.0, *kinks_s, seconds])
    values = rng.normal(size=(len(knots), num_joints, 3))
    values[:, 0] = 0.0
    flat = [np.interp(t_s, knots, values[:, j, c]) for j in range(num_joints) for c in range(3)]
    return np.stack(flat, axis=-1).reshape(len(t_s), num_joints, 3)


def reaches(pieces: list[tuple[float, float]], rate_hz: float, num_joints: int = 5) -> np.ndarray:
    """Joints that go from place to place and stop: (seconds, metres) of each movement, 0 metres a rest.

    The speed of a movement is a half sine; joint 0 stands still.
    """
    rng = np.random.default_rng(5)
    directions = rng.normal(size=(len(pieces), num_joints, 3))
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    directions[:, 0] = 0.0
    ends_s = np.cumsum([seconds for seconds, _ in pieces])
    t_s = np.arange(int(ends_s[-1] * rate_hz) + 1) / rate_hz
    joints = np.zeros((len(t_s), num_joints, 3))
    for (seconds, metres), end_s, direction in zip(pieces, ends_s, directions, strict=True):
        share = np.clip((t_s - end_s + seconds) / seconds, 0.0, 1.0)
        joints += metres * (0.5 - 0.5 * np.cos(np.pi * share))[:, None, None] * direction
    return joints
