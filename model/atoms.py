"""Action Atoms: where a movement stops following its own straight line.

Eq. A of "Action Motifs" (arXiv 2604.28173, appendix A.2), vectorised over frames and joints. A line is fitted to the
previous w frames of every joint and extrapolated to the present one; where the error of that extrapolation jumps, an
Atom begins. The rule runs on root-local joints at the recording's own rate; its cuts are then carried to the model's
grid of 5 frames a second.

What the paper leaves open and what is chosen here:

| open              | choice            | reason                                                                      |
|-------------------|-------------------|-----------------------------------------------------------------------------|
| window w          | 1/6 s (5 at 30 fps)| cuts move less under 2 mm of noise on the joints than with 10 frames        |
| same video        | one clip          | a clip is the stretch that was filmed and fitted without a hole              |
| constant channels | left out          | the local pelvis is zero by construction: its sigma is zero                 |
| start of a clip   | counts as a cut   | the 0.5 s pause then holds for the first Atom too                           |
| mapping to 5 fps  | nearest frame     | 0.5 s is 2.5 frames, so rounding keeps every Atom at two frames or more     |
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from core.arrays import Bool, Float, Int
from core.errors import InputError

# Below a micrometre an error is rounding of float32 joints, not movement.
_CONSTANT_M = 1e-6


@dataclass(frozen=True)
class AtomConfig:
    """Settings of the Atom rule.

    Attributes:
        window_s: length of the straight-line fit, seconds.
        slope_threshold: tau1, rise of the normalised error from one frame to the next.
        pause_s: no other cut within this time of the last one, seconds.
        min_frames: shortest Atom on the model's grid, frames.
    """

    window_s: float = 1 / 6
    slope_threshold: float = 0.005
    pause_s: float = 0.5
    min_frames: int = 2


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


def _thin(candidates: np.ndarray, pause: int) -> np.ndarray:
    """Accepts candidates in order, each at least `pause` frames after the last cut; frame 0 is the first cut."""
    accepted = [0]
    position = 0
    # one turn for each accepted cut, not for each frame
    while (position := int(np.searchsorted(candidates, accepted[-1] + pause))) < len(candidates):
        accepted.append(int(candidates[position]))
    return np.array(accepted, dtype=np.int64)


def atom_starts(
    joints_m: Float[np.ndarray, "frames joints 3"],
    valid: Bool[np.ndarray, "frames joints"],
    rate_hz: float,
    config: AtomConfig,
) -> Int[np.ndarray, "atoms"]:
    """First frames of the Atoms of one clip, at the clip's own rate; the first is 0.

    Args:
        joints_m: joints in the heading-aligned frame of the pelvis, metres.
        valid: joints that were measured.
        rate_hz: frames a second.
        config: settings; its times scale to the rate.
    """
    window = max(2, round(config.window_s * rate_hz))
    e = normalised_error(extrapolation_error(joints_m, valid, window))
    candidates = np.flatnonzero(candidate_frames(e, config.slope_threshold))
    return _thin(candidates, max(1, round(config.pause_s * rate_hz)))


def cut_times(
    joints_m: Float[np.ndarray, "frames joints 3"],
    valid: Bool[np.ndarray, "frames joints"],
    rate_hz: float,
    grid_hz: float,
    config: AtomConfig,
) -> Float[np.ndarray, "atoms"]:
    """Times at which the Atoms of a clip begin, seconds from its first frame; the first is 0.

    Cuts that would leave an Atom of fewer than `min_frames` on the model's grid are dropped, at the clip's end too.
    """
    starts_s = atom_starts(joints_m, valid, rate_hz, config) / rate_hz
    on_grid = grid_frame(starts_s, grid_hz)
    kept = _thin(np.unique(on_grid), config.min_frames)
    num_grid = int((len(joints_m) - 1) / rate_hz * grid_hz + 1e-6) + 1
    kept = kept[(kept == 0) | (kept <= num_grid - config.min_frames)]
    return starts_s[np.searchsorted(on_grid, kept)]


def grid_frame(time_s: Float[np.ndarray, "n"], grid_hz: float) -> Int[np.ndarray, "n"]:
    """Nearest frame of the model's grid; halves go up, whatever rounding did to them."""
    return np.floor(time_s * grid_hz + 0.5 + 1e-6).astype(np.int64)


def atom_of_frames(
    cuts_s: Float[np.ndarray, "atoms"], start_s: float, grid_hz: float, num_frames: int
) -> Int[np.ndarray, "frames"]:
    """Atom of the clip that each frame of a window belongs to; frame i lies at `start_s + i / grid_hz`."""
    return np.searchsorted(grid_frame(cuts_s - start_s, grid_hz), np.arange(num_frames), side="right") - 1
