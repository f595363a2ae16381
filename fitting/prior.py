"""What is known of a human pose before any picture: ranges of motion, and how far joints stray from rest.

SMPL's rest pose is the T-pose, axes x to the person's left, y up, z forward; every joint turns about axes parallel to
them. A positive turn about x flexes the knee; about z it lifts the left arm. Ranges are those of healthy adults
(Boone and Azen, J. Bone Joint Surg. 61-A, 1979; American Academy of Orthopaedic Surgeons, Joint Motion, 1965), divided
over SMPL's three spine joints and its collar and shoulder, with 10 to 20 degrees of room because a rotation vector's
components are not the clinic's angles. The right side mirrors the left.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from core.skeletons import SMPL_24

# joint: (low x, high x), (low y, high y), (low z, high z) in degrees, then sigma about rest in degrees for x, y, z
_LEFT: dict[str, tuple[tuple[float, float], tuple[float, float], tuple[float, float], tuple[float, float, float]]] = {
    "left_hip": ((-135, 40), (-60, 60), (-45, 60), (50, 25, 20)),
    "left_knee": ((-3, 160), (-20, 20), (-12, 12), (60, 8, 6)),
    "left_ankle": ((-40, 60), (-35, 35), (-35, 35), (20, 12, 12)),
    "left_foot": ((-60, 40), (-8, 8), (-8, 8), (12, 4, 4)),
    "left_collar": ((-20, 20), (-35, 25), (-20, 45), (8, 12, 12)),
    "left_shoulder": ((-100, 100), (-140, 60), (-110, 100), (40, 50, 60)),
    "left_elbow": ((-90, 90), (-160, 4), (-25, 25), (25, 70, 12)),
    "left_wrist": ((-50, 50), (-45, 45), (-90, 80), (12, 15, 20)),
    "left_hand": ((-10, 10), (-15, 15), (-40, 20), (5, 5, 10)),
}
_MIDDLE: dict[str, tuple[tuple[float, float], tuple[float, float], tuple[float, float], tuple[float, float, float]]] = {
    "spine1": ((-25, 60), (-25, 25), (-25, 25), (16, 9, 9)),
    "spine2": ((-20, 45), (-25, 25), (-20, 20), (10, 8, 8)),
    "spine3": ((-15, 35), (-20, 20), (-18, 18), (8, 7, 7)),
    "neck": ((-45, 45), (-50, 50), (-35, 35), (15, 18, 12)),
    "head": ((-40, 40), (-50, 50), (-35, 35), (15, 18, 12)),
}
_FREE = 10.0  # radians: no limit for the root
_ROOT_SIGMA = 1e3  # radians: no preferred heading


@dataclass(frozen=True, eq=False)
class PosePrior:
    """Ranges and spreads of the 24 joints' rotation vectors, radians, each (24, 3).

    Attributes:
        low: smallest anatomical value.
        high: largest anatomical value.
        sigma: spread about rest.
    """

    low: np.ndarray
    high: np.ndarray
    sigma: np.ndarray


@cache
def pose_prior() -> PosePrior:
    """The table above for all joints of SMPL."""
    low, high = np.full((24, 3), -_FREE), np.full((24, 3), _FREE)
    sigma = np.full((24, 3), _ROOT_SIGMA)
    for joint, (x, y, z, spread) in {**_MIDDLE, **_LEFT}.items():
        ranges = np.deg2rad(np.array([x, y, z]))
        idx = SMPL_24.idx(joint)
        low[idx], high[idx], sigma[idx] = ranges[:, 0], ranges[:, 1], np.deg2rad(spread)
        if joint in _LEFT:
            other = SMPL_24.swap_idx[idx]
            # the mirror image x -> -x keeps turns about x and reverses those about y and z
            low[other] = [low[idx, 0], -high[idx, 1], -high[idx, 2]]
            high[other] = [high[idx, 0], -low[idx, 1], -low[idx, 2]]
            sigma[other] = sigma[idx]
    return PosePrior(low, high, sigma)


# spread of accelerations of everyday motion at 30 instants a second: metres and radians per second squared
_ACCELERATION = {
    "translation": 4.0, "pelvis": 20.0, "hip": 40.0, "knee": 60.0, "ankle": 60.0, "foot": 25.0, "spine": 12.0,
    "neck": 30.0, "head": 30.0, "collar": 20.0, "shoulder": 60.0, "elbow": 70.0, "wrist": 40.0, "hand": 20.0,
}  # fmt: skip
_REFERENCE_S = 1 / 30


def acceleration_sigma(step_s: float) -> np.ndarray:
    """Spread of second differences of translation (metres) and the 24 joints (radians), (25,), at a frame step.

    A motion driven by white acceleration noise has second differences that grow with step^1.5, so the prior says the
    same of a motion at any frame rate.
    """
    values = [_ACCELERATION["translation"]]
    for joint in SMPL_24.joints:
        part = joint.removeprefix("left_").removeprefix("right_").rstrip("123")
        values.append(_ACCELERATION[part])
    return np.array(values) * _REFERENCE_S**2 * (step_s / _REFERENCE_S) ** 1.5
