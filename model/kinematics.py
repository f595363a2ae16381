"""Speed and acceleration of a whole body, smoothed by a Gaussian, from frames around the present one alone."""

from __future__ import annotations

import math

import numpy as np

from core.arrays import Bool, Float

_LEAST_SMOOTHING = 0.5  # frames; less is no derivative
_KERNEL_SIGMAS = 3


def kernel_sigma(smoothing_s: float, rate_hz: float) -> float:
    """Standard deviation of the Gaussian in frames."""
    return max(smoothing_s * rate_hz, _LEAST_SMOOTHING)


def kernel_radius(sigma: float) -> int:
    """Frames to each side that a smoothed joint needs."""
    return math.ceil(_KERNEL_SIGMAS * sigma)


def speed_weights(sigma: float) -> Float[np.ndarray, "taps"]:
    """First derivative: the sum with a line of slope 1 a frame is 1."""
    offset = np.arange(-kernel_radius(sigma), kernel_radius(sigma) + 1)
    weights = offset * np.exp(-0.5 * (offset / sigma) ** 2)
    return weights / (weights @ offset)


def acceleration_weights(sigma: float) -> Float[np.ndarray, "taps"]:
    """Second derivative: the sum with a line is 0, with half the square of the frame 1."""
    offset = np.arange(-kernel_radius(sigma), kernel_radius(sigma) + 1)
    weights = ((offset / sigma) ** 2 - 1) * np.exp(-0.5 * (offset / sigma) ** 2)
    weights -= weights.mean()
    return 2 * weights / (weights @ offset**2)


def root_mean_square(
    joints_m: Float[np.ndarray, "frames joints 3"],
    valid: Bool[np.ndarray, "frames joints"],
    weights: Float[np.ndarray, "taps"],
) -> Float[np.ndarray, "frames"]:
    """Length of the weighted sum about each frame, root mean square over the joints; NaN where no joint is known.

    A joint counts where all frames under the kernel are measured. At both ends the movement goes on point-reflected,
    so that its speed is kept.
    """
    radius = len(weights) // 2
    if len(joints_m) <= radius:
        return np.full(len(joints_m), np.nan)
    known = np.where(valid[..., None], joints_m.astype(np.float64), np.nan)
    head = 2 * known[:1] - known[radius:0:-1]
    tail = 2 * known[-1:] - known[-2 : -radius - 2 : -1]
    padded = np.concatenate([head, known, tail])
    total = np.zeros_like(known)
    # tap by tap: the sum of a frame is then the same whatever lies around its window
    for tap, weight in enumerate(weights):
        total += weight * padded[tap : tap + len(known)]
    squared = np.square(total).sum(axis=-1)
    seen = np.isfinite(squared)
    count = seen.sum(axis=1)
    mean = np.where(seen, squared, 0.0).sum(axis=1) / np.maximum(count, 1)
    return np.where(count > 0, np.sqrt(mean), np.nan)


def largest(values: np.ndarray, before: int, after: int) -> np.ndarray:
    """Largest value from `before` frames before each frame to `after` frames after it, within the array."""
    lowest = False if values.dtype == bool else -np.inf
    if len(values) == 0:
        return values
    padded = np.pad(values, (before, after), constant_values=lowest)
    return np.lib.stride_tricks.sliding_window_view(padded, before + after + 1).max(axis=1)
