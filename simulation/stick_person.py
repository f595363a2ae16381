"""A stick figure that walks about: joints in proportion to a stature, feet that stand while they bear weight."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from core.arrays import Float
from core.skeletons import BODY_25

# heights and half-widths over stature: Drillis and Contini 1966, in Winter 2009, figure 4.1
_ANKLE, _KNEE, _HIP, _SHOULDER = 0.039, 0.285, 0.530, 0.818
_HIP_WIDE, _SHOULDER_WIDE = 0.095, 0.129
_UPPER_ARM, _FOREARM = 0.186, 0.146
_STEP_S = 0.6

Way = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Place on the floor (n, 3) and direction of the walk (n, 3), a unit vector, at some times (n,)."""


def walking_person(
    t_s: Float[np.ndarray, "n"], stature_m: float = 1.7, reach_m: float = 0.9
) -> Float[np.ndarray, "n joints 3"]:
    """Joints of BODY_25 in the world while a person of some stature walks a figure of eight at about 1 m/s.

    Args:
        t_s: times.
        stature_m: how tall the person is.
        reach_m: half the size of the way on the floor.
    """
    return person_on_way(t_s, lambda t: _figure_of_eight(t, reach_m), stature_m)


def person_on_way(t_s: Float[np.ndarray, "n"], way: Way, stature_m: float = 1.7) -> Float[np.ndarray, "n joints 3"]:
    """Joints of BODY_25 in the world while a person goes some way, stepping in place where it stands still.

    Args:
        t_s: times.
        way: where the person is and looks at any time.
        stature_m: how tall the person is.
    """
    h = stature_m
    joints = np.full((len(t_s), len(BODY_25), 3), np.nan)
    body, ahead = way(t_s)
    across = np.stack([-ahead[:, 1], ahead[:, 0], np.zeros(len(t_s))], axis=-1)
    up = np.array([0.0, 0.0, 1.0])
    for side, sign, phase in (("left", 1.0, 0.0), ("right", -1.0, 0.5)):
        ankle, lift = _foot(t_s, way, sign * _HIP_WIDE * h, phase)
        sole = ankle + lift[:, None] * up
        hip = body + sign * _HIP_WIDE * h * across + 0.515 * h * up  # knees bend a little
        shoulder = body + sign * _SHOULDER_WIDE * h * across + 0.8 * h * up
        ankle = sole + _ANKLE * h * up
        elbow = shoulder - _UPPER_ARM * h * up
        values = {
            "hip": hip,
            "knee": _bent(hip, ankle, (_HIP - _KNEE) * h, (_KNEE - _ANKLE) * h, ahead),
            "ankle": ankle,
            "heel": sole - 0.05 * ahead + 0.03 * up,
            "big_toe": sole + 0.17 * ahead + 0.02 * up,
            "small_toe": sole + 0.14 * ahead + sign * 0.05 * across + 0.02 * up,
            "shoulder": shoulder,
            "elbow": elbow,
            "wrist": elbow + _FOREARM * h * ahead,
            "eye": body + sign * 0.02 * h * across + 0.92 * h * up,
            "ear": body + sign * 0.045 * h * across + 0.91 * h * up,
        }
        for name, place in values.items():
            joints[:, BODY_25.idx(f"{side}_{name}")] = place
    joints[:, BODY_25.idx("nose")] = body + 0.06 * h * ahead + 0.9 * h * up
    for middle, part in (("mid_hip", "hip"), ("mid_shoulder", "shoulder")):
        pair = [BODY_25.idx(f"left_{part}"), BODY_25.idx(f"right_{part}")]
        joints[:, BODY_25.idx(middle)] = joints[:, pair].mean(axis=1)
    return joints


def _figure_of_eight(t_s: np.ndarray, reach_m: float) -> tuple[np.ndarray, np.ndarray]:
    a = t_s * 0.8 / reach_m
    place = np.stack([reach_m * np.sin(a), 0.8 * reach_m * np.sin(2 * a) / 1.6, np.zeros_like(a)], axis=-1)
    ahead = np.stack([np.cos(a), 0.8 * np.cos(2 * a) / 0.8, np.zeros_like(a)], axis=-1)
    return place, ahead / np.linalg.norm(ahead, axis=-1, keepdims=True)


def _foot(t_s: np.ndarray, way: Way, beside_m: float, phase: float) -> tuple[np.ndarray, np.ndarray]:
    """Where a foot is on the floor, and how high: it stands for half of each double step."""
    cycle = 2 * _STEP_S
    number = np.floor(t_s / cycle + phase)
    share = t_s / cycle + phase - number
    swing = np.clip((share - 0.5) / 0.5, 0.0, 1.0)
    places = []
    for step in (number, number + 1):
        at, ahead = way((step - phase + 0.25) * cycle)
        across = np.stack([-ahead[:, 1], ahead[:, 0], np.zeros(len(t_s))], axis=-1)
        places.append(at + beside_m * across)
    smooth = (swing**2 * (3 - 2 * swing))[:, None]
    return (1 - smooth) * places[0] + smooth * places[1], 0.12 * np.sin(np.pi * swing) ** 2


def _bent(hip: np.ndarray, ankle: np.ndarray, thigh: float, shank: float, ahead: np.ndarray) -> np.ndarray:
    """The knee between hip and ankle, forward of the line between them."""
    line = ankle - hip
    long = np.linalg.norm(line, axis=-1, keepdims=True)
    along = (thigh**2 - shank**2 + long**2) / (2 * long)
    off = np.sqrt(np.maximum(thigh**2 - along**2, 0.0))
    unit = line / long
    forward = ahead - (ahead * unit).sum(axis=-1, keepdims=True) * unit
    return hip + along * unit + off * forward / np.linalg.norm(forward, axis=-1, keepdims=True)
