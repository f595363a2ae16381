"""What is left of recognition where the people to be recognised were measured badly: noise, and missing joints.

Probes are fitted on clean clips of the other groups and judge the middle three seconds of the test group's clips,
which are spoilt beforehand. Settings are the stated ones: nothing is chosen. Rotations are left as they were, so a
network that reads them is spared.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from core.arrays import Float
from core.skeletons import SMPL_24
from dataset.resample import Motion
from model.protocols.encoders import Encoder
from model.protocols.motions import LabelledMotions, middle
from model.protocols.paired import written
from model.protocols.pooling import standard_view, vectors
from model.protocols.probes import Probe, told_rightly

PART = middle(3.0)
PROBES = {"k-NN, k = 20": Probe("knn", neighbours=20), "ridge, alpha = 100": Probe("ridge", alpha=100.0)}
Row = Mapping[str, Any]


def noisy(motion: Motion, sigma_m: float, rng: np.random.Generator) -> Motion:
    """White noise on every coordinate of every joint in every frame."""
    noise = sigma_m * rng.standard_normal(motion.joints_m.shape)
    return dataclasses.replace(motion, joints_m=(motion.joints_m + noise).astype(motion.joints_m.dtype))


def gapped(motion: Motion, gap_s: float, rng: np.random.Generator) -> Motion:
    """Every joint but the pelvis is missing a third of the time, and filled by straight lines from end to end.

    Gaps of one joint are `gap_s` long and as far apart as to leave two thirds, from a random beginning on.
    """
    joints_m = motion.joints_m.copy()
    length = max(2, round(gap_s * motion.rate_hz))
    frames = np.arange(len(motion))
    for joint in range(1, joints_m.shape[1]):
        known = (frames + rng.integers(3 * length)) % (3 * length) >= length
        if known.any():
            joints_m[:, joint] = filled(joints_m[:, joint], known)
    return dataclasses.replace(motion, joints_m=joints_m)


def filled(path_m: Float[np.ndarray, "frames 3"], known: np.ndarray) -> Float[np.ndarray, "frames 3"]:
    """Straight lines over what is not known; the nearest known place before the first and after the last."""
    frames = np.arange(len(path_m))
    axes = [np.interp(frames, frames[known], path_m[known, axis]) for axis in range(3)]
    return np.stack(axes, axis=1).astype(path_m.dtype)


def without_arm(motion: Motion, side: str) -> Motion:
    """An arm that nobody sees: its joints stay where they were beside the chest in the first frame."""
    joints_m = motion.joints_m.copy()
    arm = [SMPL_24.idx(f"{side}_{name}") for name in ("elbow", "wrist", "hand")]
    shoulder = SMPL_24.idx(f"{side}_shoulder")
    joints_m[:, arm] = joints_m[:, [shoulder]] + (joints_m[:1, arm] - joints_m[:1, [shoulder]])
    return dataclasses.replace(motion, joints_m=joints_m)


SPOILT: Mapping[str, Callable[[Motion, np.random.Generator], Motion]] = {
    "clean": lambda motion, rng: motion,
    "noise of 10 mm": lambda motion, rng: noisy(motion, 0.01, rng),
    "noise of 30 mm": lambda motion, rng: noisy(motion, 0.03, rng),
    "gaps of 0.5 s in a third of the joints": lambda motion, rng: gapped(motion, 0.5, rng),
    "left arm never seen": lambda motion, rng: without_arm(motion, "left"),
}


def robustness_rows(encoder: Encoder, motions: LabelledMotions, test: int, seed: int = 0) -> dict[str, Row]:
    """Accuracies on the spoilt clips of a group.

    Args:
        encoder: which has learned nothing from the test group.
        motions: labelled clips of all groups.
        test: position of the group that is judged.
        seed: of noise and gaps.
    """
    halves = motions.group != test, motions.group == test
    parts = [PART(motion) for motion in motions.motions]
    clean = _vectors(encoder, parts)
    rows: dict[str, Row] = {}
    for name, spoil in SPOILT.items():
        rng = np.random.default_rng([seed, test])
        judged = [spoil(parts[i], rng) for i in np.flatnonzero(halves[1])]
        x = clean.copy()
        x[halves[1]] = _vectors(encoder, judged)
        rights = told_rightly(list(PROBES.values()), x, motions.label, *halves)
        for title, right in zip(PROBES, rights, strict=True):
            rows[f"{name} | {title}"] = {"accuracy": float(right.mean()), "right": written(right)}
    return rows


def _vectors(encoder: Encoder, motions: list[Motion]) -> np.ndarray:
    found = encoder.encode(motions)
    return vectors(found, standard_view(list(found)))
