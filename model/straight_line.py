"""Where a movement stops following its own straight line: Eq. A of "Action Motifs" (arXiv 2604.28173, appendix A.2).

A line is fitted to the previous w frames of every joint and extrapolated to the present one; where the error of that
extrapolation jumps, an Atom may begin. Vectorised over frames and joints.

What the paper leaves open and what is chosen here:

| open              | choice             | reason                                                                     |
|-------------------|--------------------|----------------------------------------------------------------------------|
| window w          | 1/6 s (5 at 30 fps)| cuts move less under 2 mm of noise on the joints than with 10 frames       |
| same video        | one clip           | a clip is the stretch that was filmed and fitted without a hole             |
| constant channels | left out           | the local pelvis is zero by construction: its sigma is zero                |

With errors in units of their own spread the rule has no scale: white noise is cut as often as movement, and nearly
every half second. `unit="metre"` reads the thresholds as lengths instead, which leaves still people whole.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from core.arrays import Bool, Float
from core.errors import InputError

ErrorUnit = Literal["spread", "metre"]

# Below a micrometre an error is rounding of float32 joints, not movement.
_CONSTANT_M = 1e-6


def extrapolation_weights(window: int) -> Float[np.ndarray, "window"]:
    """Weights of the `window` previous frames (oldest first) in the least-squares line's value at the present frame.

    Raises:
        InputError: if fewer than two frames are to define a line.
    """
    if window < 2:
        raise InputError("atoms", f"a line through {window} frames is not defined", "use a longer window_s or rate")
    offset = np.arange(-window, 0, dtype=np.float64)
    centre = offset.mean()
    return 1 / window - centre * (offset - centre) / np.sum((offset - centre) ** 2)


def extrapolation_error(
    joints_m: Float[np.ndarray, "frames joints 3"], valid: Bool[np.ndarray, "frames joints"], window: int
) -> Float[np.ndarray, "frames joints 3"]:
    """E: distance of each coordinate from the extrapolated line; NaN where a frame that it needs is missing."""
    error = np.full(joints_m.shape, np.nan)
    if len(joints_m) <= window:
        return error
    known = np.where(valid[..., None], joints_m.astype(np.float64), np.nan)
    past = np.lib.stride_tricks.sliding_window_view(known[:-1], window, axis=0)
    error[window:] = np.abs(known[window:] - past @ extrapolation_weights(window))
    return error


def normalised_error(error: Float[np.ndarray, "frames joints 3"]) -> Float[np.ndarray, "frames"]:
    """e_t: errors in units of their own spread over the clip, averaged over joints and coordinates; NaN if none."""
    seen = np.isfinite(error)
    count = seen.sum(axis=0)
    filled = np.where(seen, error, 0.0)
    mean = filled.sum(axis=0) / np.maximum(count, 1)
    sigma = np.sqrt(np.where(seen, (error - mean) ** 2, 0.0).sum(axis=0) / np.maximum(count, 1))
    moving = seen & (sigma > _CONSTANT_M)
    z = np.where(moving, (filled - mean) / np.where(sigma > _CONSTANT_M, sigma, 1.0), 0.0)
    number = moving.sum(axis=(1, 2))
    return np.where(number > 0, z.sum(axis=(1, 2)) / np.maximum(number, 1), np.nan)


def mean_error_m(error: Float[np.ndarray, "frames joints 3"]) -> Float[np.ndarray, "frames"]:
    """e_t as a length: the mean over the joints and coordinates that were measured; NaN if none."""
    seen = np.isfinite(error)
    number = seen.sum(axis=(1, 2))
    return np.where(number > 0, np.where(seen, error, 0.0).sum(axis=(1, 2)) / np.maximum(number, 1), np.nan)


def candidate_frames(e: Float[np.ndarray, "frames"], slope_threshold: float) -> Bool[np.ndarray, "frames"]:
    """Eq. A: (de > tau1 and d2e > 0) or d2e > tau2, with tau2 = mean |d2e|; false where a difference is missing."""
    slope = np.diff(e, prepend=np.nan)
    bend = np.diff(slope, prepend=np.nan)
    known = np.isfinite(bend)
    if not known.any():
        return np.zeros(len(e), dtype=bool)
    bend_threshold = np.abs(bend[known]).mean()
    with np.errstate(invalid="ignore"):
        return ((slope > slope_threshold) & (bend > 0)) | (bend > bend_threshold)


def line_candidates(
    joints_m: Float[np.ndarray, "frames joints 3"],
    valid: Bool[np.ndarray, "frames joints"],
    window: int,
    slope_threshold: float,
    unit: ErrorUnit = "spread",
) -> Bool[np.ndarray, "frames"]:
    """Frames at which an Atom may begin by Eq. A.

    Args:
        joints_m: joints in the heading-aligned frame of the pelvis, metres.
        valid: joints that were measured.
        window: w, frames.
        slope_threshold: tau1, in `unit`.
        unit: what errors are counted in: their own spread over the clip (the paper's words), or metres.
    """
    error = extrapolation_error(joints_m, valid, window)
    return candidate_frames(normalised_error(error) if unit == "spread" else mean_error_m(error), slope_threshold)
