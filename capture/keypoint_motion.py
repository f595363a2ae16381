"""Motion of keypoints: cameras that need no calibration see the same person start, stop and turn at one instant.

The speeds of the joints in two pictures are correlated over all shifts, joint by joint, and the sum's peak, refined
below the frame by a parabola, is the shift. Cameras see a motion from different sides, so their speeds differ in shape
and the peak is off by milliseconds: its uncertainty is taken from how much the peaks of parts of the data scatter.
With a calibrated rig `calibration.clock_keypoints` does better.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft

from capture.clock_problem import Evidence, Tie, evidence
from core.arrays import Float

_STEP_S = 1 / 240  # of the grid on which speeds are compared
_SMOOTH_FRAMES = 2.5  # standard deviation of the smoothing of positions
_REACH_FRAMES = 8  # of it
_MOST_S = 60.0  # of each recording, from its start
_MOST_PARTNERS = 3  # views with which each is compared
_MIN_OVERLAP = 0.5  # of the shorter recording
_MIN_PEAK = 0.45  # correlation
_MIN_LEAD = 0.05  # over any other peak
_APART_S = 0.15  # peaks nearer to each other are one
_VERTEX = 4  # samples to either side of a peak that give its vertex
_PARTS = 8  # stretches of time that are left out in turn
_FLOOR_S = 2e-3
_MIN_SCORE = 0.3


@dataclass(frozen=True, eq=False)
class Motion:
    """Speeds of a person's joints in one view.

    Attributes:
        local_s: times on a grid of `_STEP_S`, local clock.
        speed: (n, joints) in heights of the person a second; NaN where unknown.
    """

    local_s: Float[np.ndarray, "n"]
    speed: Float[np.ndarray, "n joints"]


@dataclass(frozen=True)
class Shift:
    """`other_local = reference_local + shift_s`, its standard deviation, and the correlation there."""

    shift_s: float
    sigma_s: float
    peak: float


def motion_of(
    t_s: Float[np.ndarray, "frames"],
    xy_px: Float[np.ndarray, "frames joints 2"],
    score: Float[np.ndarray, "frames joints"],
) -> Motion:
    """Speeds of one person's joints, smoothed over a few frames."""
    keep = t_s <= t_s[0] + _MOST_S
    t_s, xy_px, score = t_s[keep], xy_px[keep], score[keep]
    grid = np.arange(t_s[0], t_s[-1], _STEP_S)
    good = np.isfinite(xy_px[..., 0]) & (score >= _MIN_SCORE)
    width = _SMOOTH_FRAMES * float(np.median(np.diff(t_s)))
    reach = np.arange(-_REACH_FRAMES, _REACH_FRAMES)
    near = np.searchsorted(t_s, grid)[:, None] + reach
    inside = (near >= 0) & (near < len(t_s))
    near = np.clip(near, 0, len(t_s) - 1)
    elapsed = t_s[near] - grid[:, None]
    kernel = np.exp(-0.5 * (elapsed / width) ** 2) * inside
    # local linear regression: its slope is the velocity, wherever enough frames are known
    known, value = good[near].astype(float), np.where(good[..., None], np.nan_to_num(xy_px), 0.0)[near]
    s0, s1, s2 = (np.einsum("gw,gwj->gj", kernel * elapsed**k, known) for k in range(3))
    m0, m1 = (np.einsum("gw,gwjc->gjc", kernel * elapsed**k, value) for k in range(2))
    determinant = s0 * s2 - s1**2
    enough = (s0 > 1.5) & (determinant > 0.05 * width**2 * s0**2)
    velocity = (s0[..., None] * m1 - s1[..., None] * m0) / np.where(enough, determinant, 1.0)[..., None]
    tall = np.where(good, xy_px[..., 1], -np.inf).max(axis=1) - np.where(good, xy_px[..., 1], np.inf).min(axis=1)
    tall = tall[good.any(axis=1)]
    height = max(float(np.median(tall)), 1.0) if len(tall) else 1.0
    return Motion(grid, np.where(enough, np.linalg.norm(velocity, axis=-1) / height, np.nan))


def find_shift(reference: Motion, other: Motion) -> Shift | None:
    """The shift between two recordings; None if no shift stands out.

    The standard deviation is that of the jackknife over stretches of time, with a floor.
    """
    a, b = (_standard(motion.speed) for motion in (reference, other))
    zero = other.local_s[0] - reference.local_s[0]
    least = _MIN_OVERLAP * min(len(a), len(b))
    score = _correlation(_sums(a, b), least)
    peak = int(np.argmax(score))
    away = np.abs(np.arange(len(score)) - peak) > _APART_S / _STEP_S
    second = float(score[away].max(initial=-1.0))
    if score[peak] < _MIN_PEAK or score[peak] - second < _MIN_LEAD or not 0 < peak < len(score) - 1:
        return None
    whole = _refined(score, peak)
    parts = []
    sums = _sums_of_parts(a, b, peak - len(a) + 1)
    for near in (_correlation(sums.sum(axis=0) - part, least) for part in sums):
        parts.append(_refined(near, _VERTEX + int(np.argmax(near[_VERTEX:-_VERTEX]))))
    scatter = np.sqrt((_PARTS - 1) * np.mean((np.array(parts) - np.mean(parts)) ** 2)) * _STEP_S
    lag = len(a) - 1 - whole  # samples by which the other's pattern lies earlier
    return Shift(zero - lag * _STEP_S, float(np.hypot(scatter, _FLOOR_S)), float(score[peak]))


def _standard(speed: np.ndarray) -> np.ndarray:
    """Square roots of speeds, so that single fast moves do not decide alone, about their means."""
    root = np.sqrt(speed)
    known = np.isfinite(root)
    return np.asarray(root - np.where(known, root, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1))


def _sums(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(6, shifts, joints) what correlation needs, over what both know; entry len(a) - 1 is shift zero."""
    size = next_fast_len(len(a) + len(b) - 1, real=True)
    one, two = (
        rfft(np.stack([np.isfinite(v), x, x * x]), size, axis=1) for v in (a[::-1], b) for x in (np.nan_to_num(v),)
    )
    spectra = one[[0, 1, 0, 2, 0, 1]] * two[[0, 0, 1, 0, 2, 1]]
    return np.asarray(irfft(spectra, size, axis=1)[:, : len(a) + len(b) - 1])


def _sums_of_parts(a: np.ndarray, b: np.ndarray, shift: int) -> np.ndarray:
    """(parts, 6, shifts, joints) sums of stretches of `a`, at the shifts next to one."""
    reach = int(_APART_S / _STEP_S) + _VERTEX
    margin = len(a) + reach
    wide = np.pad(b, ((margin, margin), (0, 0)), constant_values=np.nan)
    parts = []
    for cut in np.array_split(np.arange(len(a)), _PARTS):
        first = margin + cut[0] + shift - reach
        near = _sums(a[cut], wide[first : first + len(cut) + 2 * reach])
        parts.append(near[:, len(cut) - 1 : len(cut) + 2 * reach])
    return np.stack(parts)


def _correlation(sums: np.ndarray, least: float) -> np.ndarray:
    """Mean over joints of the correlation coefficient at every shift, of those who overlap by enough samples."""
    n, sx, sy, sxx, syy, sxy = sums
    n = np.maximum(n.round(), 1.0)
    spread = np.sqrt(np.maximum((sxx - sx**2 / n) * (syy - sy**2 / n), 0.0))
    enough = (n >= 0.6 * least) & (spread > 1e-6 * n)
    total = np.where(enough, (sxy - sx * sy / n) / np.where(spread > 0, spread, 1.0), 0.0).sum(axis=1)
    count = enough.sum(axis=1)
    return np.where(count >= max(0.5 * count.max(initial=0), 1.0), total / np.maximum(count, 1), -1.0)


def _refined(score: np.ndarray, peak: int) -> float:
    """Vertex of the parabola through the peak and its neighbours some frames away, in samples."""
    reach = min(_VERTEX, peak, len(score) - 1 - peak)
    if reach < 1:
        return float(peak)
    left, top, right = score[peak - reach], score[peak], score[peak + reach]
    bend = left - 2 * top + right
    return peak + reach * 0.5 * (left - right) / bend if bend < 0 else float(peak)


def motion_evidence(motions: Mapping[str, Motion]) -> list[Evidence]:
    """Clocks of views against each other, each with the next few; pairs that fit in no or several ways are left out."""
    views, ties = list(motions), []
    for i, view in enumerate(views):
        for other in views[i + 1 : i + 1 + _MOST_PARTNERS]:
            if (shift := find_shift(motions[view], motions[other])) is not None:
                middle = float(motions[view].local_s.mean())
                ties.append(Tie(other, middle + shift.shift_s, view, middle, shift.sigma_s))
    return [evidence("motion", ties)] if ties else []
