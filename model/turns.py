"""Where a movement turns: peaks of the body's acceleration.

What Eq. A of the paper looks for, a movement that leaves its own straight line, seen from both sides: the smoothed
second derivative of the joints in the heading-aligned frame of the pelvis, root mean square over the joints. An Atom
begins where it is largest among its neighbours, and large. Beginnings, ends, reversals and steps are such places; a
rest or a steady movement has none, however long.

The threshold is an acceleration, so a cut depends on the movement around it alone: it is the same in every clip that
holds that stretch, and known after a bounded delay (`turn_future`, see `model.stream`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from core.arrays import Bool, Float
from model.kinematics import acceleration_weights, kernel_radius, kernel_sigma, largest, root_mean_square


@dataclass(frozen=True)
class TurnConfig:
    """Settings of the rule; chosen on CMU and Bandai Namco's set 1, see docs/a4mer.md.

    Attributes:
        smoothing_s: standard deviation of the Gaussian that joints are smoothed with.
        turn_m_s2: least acceleration.
        near_s: no acceleration so near in time is larger.
    """

    smoothing_s: float = 1 / 15
    turn_m_s2: float = 4.0
    near_s: float = 0.2


def body_acceleration(
    joints_m: Float[np.ndarray, "frames joints 3"],
    valid: Bool[np.ndarray, "frames joints"],
    rate_hz: float,
    config: TurnConfig,
) -> Float[np.ndarray, "frames"]:
    """Root mean square acceleration of the joints, m/s^2; NaN where no joint is known."""
    weights = acceleration_weights(kernel_sigma(config.smoothing_s, rate_hz))
    return root_mean_square(joints_m, valid, rate_hz**2 * weights)


def turn_candidates(
    acceleration: Float[np.ndarray, "frames"], rate_hz: float, config: TurnConfig
) -> Bool[np.ndarray, "frames"]:
    """Frames at which an Atom may begin; none where the acceleration is not known."""
    known = np.where(np.isfinite(acceleration), acceleration, -np.inf)
    near = _near(rate_hz, config)
    return (known >= largest(known, near, near)) & (known >= config.turn_m_s2)


def turn_future(rate_hz: float, config: TurnConfig) -> int:
    """Frames after one that may decide whether an Atom begins there, and as many before it."""
    return kernel_radius(kernel_sigma(config.smoothing_s, rate_hz)) + _near(rate_hz, config)


def _near(rate_hz: float, config: TurnConfig) -> int:
    return max(1, round(config.near_s * rate_hz))
