"""Labelled motions made of numbers: people who swing one joint in a way of their own."""

from __future__ import annotations

import numpy as np

from dataset.resample import Motion
from model.protocols.motions import LabelledMotions

RATE_HZ = 30.0
_REST = np.array([0.0, 0.0, 1.0]) + np.random.default_rng(7).normal(scale=0.3, size=(24, 3))


def motion(speed_hz: float, size_m: float, frames: int, joint: int = 20, phase: float = 0.0) -> Motion:
    """A person who stands and swings one joint up and down."""
    rest = _REST.copy()
    rest[[1, 16]], rest[[2, 17]] = [0.0, 0.2, 1.0], [0.0, -0.2, 1.0]  # hips and shoulders: the heading is +x
    joints = np.repeat(rest[None], frames, axis=0)
    t_s = np.arange(frames) / RATE_HZ
    joints[:, joint, 2] += size_m * np.sin(2 * np.pi * speed_hz * t_s + phase)
    ones = np.ones((frames, 24), dtype=bool)
    zeros = np.zeros((frames, 24, 3), np.float32)
    return Motion(
        RATE_HZ, 1.0, zeros, joints.astype(np.float32), np.zeros((frames, 4), np.float32), ones,
        np.full((frames, 24), np.nan), np.ones(frames, dtype=bool),
    )  # fmt: skip


def people(clips: int = 8, frames: int = 180, seed: int = 0) -> LabelledMotions:
    """Three groups who do two actions, each group at a speed of its own."""
    rng = np.random.default_rng(seed)
    motions, label, group = [], [], []
    for person in range(3):
        for number in range(clips):
            action = number % 2
            speed_hz = (0.5 + 0.05 * person) * rng.uniform(0.95, 1.05)
            motions.append(motion(speed_hz, 0.3, frames, joint=(20, 21)[action], phase=rng.uniform(0, 6)))
            label.append(action)
            group.append(person)
    ids = tuple(f"clip-{n}" for n in range(len(motions)))
    return LabelledMotions(ids, tuple(motions), np.array(label), np.array(group), ("left", "right"), ("a", "b", "c"))
