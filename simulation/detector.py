"""A simulated 2D pose detector: the body's true landmarks, spoilt as a real detector would spoil them.

Gaussian noise that grows when a joint is hidden, joints not found, gross outliers, whole frames with left and right
exchanged, frames without a person; and a score that tells, imperfectly, how good a joint is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.signal import lfilter

from core.arrays import Bool, Float
from core.skeletons import Skeleton


@dataclass(frozen=True)
class DetectorConfig:
    """Errors of the simulated detector.

    Attributes:
        noise_px: standard deviation of a visible joint, at a picture width of 800 px.
        hidden_factor: how much larger it is for a hidden joint.
        outlier_fraction: share of joints found in a wholly wrong place.
        swap_fraction: share of frames in which left and right are exchanged.
        missing_fraction: share of visible joints that are not found.
        hidden_missing_fraction: share of hidden joints that are not found.
        lost_fraction: share of frames in which nobody is found.
    """

    noise_px: float = 2.0
    hidden_factor: float = 4.0
    outlier_fraction: float = 0.02
    swap_fraction: float = 0.01
    missing_fraction: float = 0.01
    hidden_missing_fraction: float = 0.2
    lost_fraction: float = 0.003


def detect(
    rng: np.random.Generator,
    true_px: Float[np.ndarray, "frames joints 2"],
    hidden: Bool[np.ndarray, "frames joints"],
    skeleton: Skeleton,
    size_px: tuple[int, int],
    config: DetectorConfig,
) -> tuple[Float[np.ndarray, "frames joints 2"], Float[np.ndarray, "frames joints"]]:
    """Detections of one person in one view.

    Args:
        rng: every error.
        true_px: projected landmarks; NaN out of the lens's sight.
        hidden: whether something stands before the joint.
        skeleton: its left and right.
        size_px: picture; joints outside are not found.
        config: rates of the errors.

    Returns:
        Pixels (NaN where not found) and scores (0 there).
    """
    frames, joints = hidden.shape
    sigma = config.noise_px * size_px[0] / 800 * np.where(hidden, config.hidden_factor, 1.0)
    # half of the error stays over several frames, as a network's does
    noise = np.sqrt(0.5) * (rng.standard_normal((frames, joints, 2)) + slow_noise(rng, frames, joints))
    px = true_px + sigma[..., None] * noise
    with np.errstate(invalid="ignore"):
        outside = ~np.all((px >= 0) & (px <= np.array(size_px) - 1), axis=-1)
    outlier = rng.random((frames, joints)) < config.outlier_fraction
    px = np.where(outlier[..., None], _elsewhere(rng, px, size_px), px)
    score = np.clip(np.where(hidden, 0.42, 0.86) + 0.09 * rng.standard_normal((frames, joints)), 0.06, 1.0)
    score = np.where(outlier, np.minimum(score, rng.uniform(0.15, 0.75, (frames, joints))), score)
    swapped = rng.random(frames) < config.swap_fraction
    px[swapped] = px[swapped][:, skeleton.swap_idx]
    score[swapped] = score[swapped][:, skeleton.swap_idx] * 0.9
    missing = rng.random((frames, joints)) < np.where(hidden, config.hidden_missing_fraction, config.missing_fraction)
    missing |= outside | (rng.random((frames, 1)) < config.lost_fraction)
    return np.where(missing[..., None], np.nan, px), np.where(missing, 0.0, score)


def slow_noise(rng: np.random.Generator, frames: int, joints: int) -> Float[np.ndarray, "frames joints 2"]:
    """Unit-variance noise that is correlated over about a third of a second."""
    keep = 0.9
    steps = rng.standard_normal((frames, joints, 2))
    before = rng.standard_normal((1, joints, 2))
    return np.asarray(lfilter([np.sqrt(1 - keep**2)], [1, -keep], steps, axis=0, zi=keep * before)[0])


def _elsewhere(rng: np.random.Generator, px: np.ndarray, size_px: tuple[int, int]) -> np.ndarray:
    """Wrong places 25 to 150 px away (at a width of 800 px), inside the picture."""
    angle = rng.uniform(0, 2 * np.pi, px.shape[:-1])
    reach = rng.uniform(25, 150, px.shape[:-1]) * size_px[0] / 800
    moved = px + reach[..., None] * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    return np.clip(moved, 0, np.array(size_px) - 1.0)
