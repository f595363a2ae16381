"""Which parts of the soles rest on the floor: low and slow."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from core.arrays import Float


@dataclass(frozen=True)
class ContactConfig:
    """When a sole point rests.

    Attributes:
        height_m: height at which contact is as likely as not, above the point's own height in stance.
        height_spread_m: how sharply it becomes unlikely above.
        speed_m_s: speed at which contact is as likely as not.
        speed_spread_m_s: how sharply it becomes unlikely above.
    """

    height_m: float = 0.05
    height_spread_m: float = 0.01
    speed_m_s: float = 0.3
    speed_spread_m_s: float = 0.06


def foot_contacts(
    soles_m: Float[np.ndarray, "frames points 3"], step_s: float, config: ContactConfig | None = None
) -> Float[np.ndarray, "frames points"]:
    """Probability, 0 to 1, that each sole point rests on the floor z = 0.

    Args:
        soles_m: points of the soles in the world, z up.
        step_s: time between frames.
        config: settings.
    """
    config = config or ContactConfig()
    height = (config.height_m - soles_m[..., 2]) / config.height_spread_m
    speed = (config.speed_m_s - sole_speeds(soles_m, step_s)) / config.speed_spread_m_s
    return _logistic(height) * _logistic(speed)


def sole_speeds(soles_m: Float[np.ndarray, "frames points 3"], step_s: float) -> Float[np.ndarray, "frames points"]:
    """Speed of points in metres a second by central differences; 0 for a single frame."""
    if len(soles_m) < 2:
        return np.zeros(soles_m.shape[:-1])
    return np.linalg.norm(np.gradient(soles_m, step_s, axis=0), axis=-1)


def _logistic(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * x))
