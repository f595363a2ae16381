"""What time codes say of a clock: bounds from which code was on display, and far less from how codes mix.

A code stays for one period P, so an instant l with code c obeys `c <= t(l) < c + P`. If camera and display run locked,
every frame meets the same few phases of the display, and the bounds never close. But a frame is exposed for a time e,
and where two codes share an exposure, their shares in linear light tell when between them the display changed: the mean
code is `E(t) = 1/e * integral of the display's staircase over [t - e/2, t + e/2]`. The clock is the mean of the
posterior over (session time, exposure, rate) on a grid, its uncertainty the posterior's: small if anything was mixed or
the phases wandered, and as wide as the bounds if not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from scipy.optimize import linprog

from capture.time_code import CodeFrames, code_modules
from core.arrays import Float

_BANDS = 3  # parts of a code, from above, that a rolling shutter exposes at times of their own
_NEIGHBOURS = 2  # codes before and after the expected one that may have a share
_MAX_RESIDUAL = 0.25  # of the modules' levels, black 0 and white 1, about the mixture
_SHARE_SIGMA = 0.02
_SPREAD_OF_MEAN = 3.0  # by which a variance of numbers is less certain than their mean: codes two apart count fourfold
_WRONG = 1e-4  # likelihood of a band that says nothing, against one that fits
_FLOOR_S = 1e-4  # of the uncertainty: what response and corner errors leave, common to all frames
_JITTER_S = 1e-4  # of a frame's time, and of the display's changes: just there, either of two codes may be seen
_ROUNDING_S = 1.2e-3  # two codes that are whole milliseconds, and a little
_UNITS_MS = (1.0, 0.1, 0.001)  # in which a display may count
_MOST_STEPS = 3  # periods to the smallest step between codes seen
_MODULE_SIGMA = 0.03  # of a module's level, black 0 and white 1
_MOST_BANDS = 240
_SHORT_S = 1e-3  # exposures below it are alike
_LONG_S = 5.0  # from this length on, codes say something of the rate
_GAMMAS = (1.0, 1.4, 1.8, 2.2, 2.6)


@dataclass(frozen=True)
class CodeClock:
    """What time codes say of a clock.

    Attributes:
        local_s: local time in the middle of the codes.
        session_s: session time there.
        session_sigma_s: its standard deviation.
        rate: session seconds for one local second.
        rate_sigma: its standard deviation; infinite where the codes span too little time to say anything of it.
        violation_s: by how much the frames that contradict the others most do so; next to zero for true codes.
        num_mixed: parts of frames in which more than one code was seen.
    """

    local_s: float
    session_s: float
    session_sigma_s: float
    rate: float
    rate_sigma: float
    violation_s: float
    num_mixed: int = 0


@dataclass(frozen=True, eq=False)
class _Grid:
    """The display's codes: `first_s + k * period_s`, written in units of `unit_ms`."""

    first_s: float
    period_s: float
    unit_ms: float

    def text(self, k: int) -> str:
        units = round(1000 * (self.first_s + k * self.period_s) / self.unit_ms)
        if self.unit_ms < 0.1:  # with all decimals, so that codes are of one size
            return f"MOTIFS-T={units * self.unit_ms:.3f}"
        return f"MOTIFS-T={units * self.unit_ms:.6f}".rstrip("0").rstrip(".")


def display_period_s(codes: Sequence[Float[np.ndarray, "_"]]) -> float:
    """Period of the display: the longest of which all steps between codes are multiples; NaN for fewer than two codes.

    A camera that runs locked to the display may never see some of its codes, so the smallest step need not be one.
    """
    seen = np.unique(np.concatenate(list(codes))) if len(codes) else np.zeros(0)
    if len(seen) < 2:
        return float("nan")
    steps = np.diff(seen)
    for part in range(1, _MOST_STEPS + 1):
        period = float(steps.min()) / part
        if (np.abs(steps - period * np.round(steps / period)) < _ROUNDING_S).all():
            break
    return period


def bounds_clock(
    local_s: Float[np.ndarray, "n"], code_s: Float[np.ndarray, "n"], period_s: float, rate_spread: float
) -> CodeClock:
    """The clock from which code was on display alone: the middle of what all frames together allow.

    Args:
        local_s: when the codes were seen, at least one.
        code_s: session times at which they appeared.
        period_s: how long a code stays.
        rate_spread: largest rate error of a recorder.
    """
    middle = float((local_s.min() + local_s.max()) / 2)
    elapsed = local_s - middle
    # unknowns: session time at the middle, rate error, common slack of all bounds
    bounds = [(None, None), (-rate_spread, rate_spread), (0.0, None)]
    low, high = code_s - elapsed, code_s + period_s - elapsed
    ones = np.ones_like(elapsed)
    A = np.concatenate([np.stack([ones, elapsed, -ones], 1), np.stack([-ones, -elapsed, -ones], 1)])
    b = np.concatenate([high, -low])
    slack = float(linprog([0, 0, 1], A_ub=A, b_ub=b, bounds=bounds).x[2])
    bounds[2] = (slack + 1e-9, slack + 1e-9)
    session = [float(linprog([sign, 0, 0], A_ub=A, b_ub=b, bounds=bounds).x[0]) for sign in (1, -1)]
    rate = [float(linprog([0, sign, 0], A_ub=A, b_ub=b, bounds=bounds).x[1]) for sign in (1, -1)]
    sigma = max(session[1] - session[0], 1e-4) / np.sqrt(12) + slack
    rate_sigma = (rate[1] - rate[0]) / np.sqrt(12)
    long = rate_sigma < rate_spread / 2
    return CodeClock(
        middle, sum(session) / 2, sigma, 1 + sum(rate) / 2 if long else 1.0, rate_sigma if long else np.inf, slack
    )


def clock_from_codes(frames: CodeFrames, period_s: float, rate_spread: float, frame_s: float) -> CodeClock:
    """The clock that a stretch of codes allows.

    Args:
        frames: of one stretch; at least one of them read.
        period_s: how long a code stays on display, as far as known; a whole part of it is tried as well.
        rate_spread: largest rate error of a recorder.
        frame_s: time from frame to frame, which no exposure exceeds.
    """
    read = frames.where(frames.read)
    coarse = bounds_clock(read.middle_s, read.code_s, period_s, rate_spread)
    # a camera that sees one code a frame cannot know of those between; codes in microseconds stay for longer than that
    slow = _grid_of(read.code_s, period_s).unit_ms < 0.1
    parts = (1, 2) if period_s > 0.98 * frame_s and not slow else (1,)
    grids = [_grid_of(read.code_s, period_s / part) for part in parts]
    found = [_mean_codes(frames, grid, coarse) for grid in grids]
    if len(found[0].local_s) < max(3, 0.3 * len(frames)):
        return coarse  # written by another encoder, or too blurred for its modules: what was read must do
    clocks = [
        _posterior_clock(means, grid, read, coarse, rate_spread, frame_s)
        for means, grid in zip(found, grids, strict=True)
    ]
    if len(clocks) == 1 or found[0].quality < 0.8 * found[1].quality:
        return clocks[0]
    return clocks[1] if found[1].quality < 0.8 * found[0].quality else _either(clocks[0], clocks[1])


def _either(one: CodeClock, two: CodeClock) -> CodeClock:
    """The mean of two clocks that are equally likely, one of them wrong."""
    spread = abs(one.session_s - two.session_s) / 2
    sigma = np.hypot(np.sqrt((one.session_sigma_s**2 + two.session_sigma_s**2) / 2), spread)
    return replace(one, session_s=(one.session_s + two.session_s) / 2, session_sigma_s=float(sigma))


def _grid_of(code_s: np.ndarray, period_s: float) -> _Grid:
    """The codes' exact period and phase, by least squares over those seen."""
    seen = np.unique(code_s)
    k = np.round((seen - seen[0]) / period_s)
    if len(seen) > 2:
        period_s, first = (float(x) for x in np.polyfit(k, seen, 1))
    else:
        first = float(seen[0])
    return _Grid(first, period_s, next((unit for unit in _UNITS_MS if _are_whole(1000 * seen / unit)), _UNITS_MS[-1]))


def _are_whole(numbers: np.ndarray) -> bool:
    return bool((np.abs(numbers - np.round(numbers)) < 1e-4).all())


@dataclass(frozen=True, eq=False)
class _Means:
    """Parts of frames: local times, mean codes, variance of the codes' numbers in them, deviation of the mean number.

    `quality` tells how badly codes explain the frames.
    """

    local_s: np.ndarray
    mean_s: np.ndarray
    spread: np.ndarray
    sigma: np.ndarray
    quality: float


def _mean_codes(frames: CodeFrames, grid: _Grid, coarse: CodeClock) -> _Means:
    """The mean code of every part of a frame whose modules are a mixture of codes."""
    expected = coarse.session_s + coarse.rate * (frames.middle_s - coarse.local_s)
    k = np.where(
        frames.read,
        np.round((np.nan_to_num(frames.code_s) - grid.first_s) / grid.period_s),
        np.floor((expected - grid.first_s) / grid.period_s),
    ).astype(int)
    num_bands = _BANDS if np.ptp(frames.edge_s) > 0 else 1
    side = frames.modules.shape[1]
    cuts = np.linspace(0, side, num_bands + 1).round().astype(int)
    light = (frames.modules / 255.0).reshape(len(frames), side * side)
    usable, templates = _templates(k, grid, side)
    levels = [_level(light[usable] ** gamma, templates) for gamma in _GAMMAS]
    # the mean, as most frames may show one code alone, which fits with any response of the camera
    quality = [float(np.minimum(_mean_index(level, templates)[3], _MAX_RESIDUAL).sum()) for level in levels]
    level = levels[int(np.argmin(quality))]
    rows = []
    for upper, lower in pairwise(cuts):
        part = slice(upper * side, lower * side)
        index, spread, sigma, residual = _mean_index(level[:, part], templates[:, :, part])
        at = (upper + lower) / 2 / side
        edge = frames.edge_s[usable]
        local = frames.local_s[usable] + edge[:, 0] + at * (edge[:, 1] - edge[:, 0])
        good = residual < _MAX_RESIDUAL
        mean = grid.first_s + grid.period_s * (k[usable] + index)
        rows.append(np.stack([local, mean, spread, sigma], axis=1)[good])
    local_s, mean_s, spread, sigma = np.concatenate(rows).T
    return _Means(local_s, mean_s, spread, sigma, min(quality))


def _level(light: np.ndarray, templates: np.ndarray) -> np.ndarray:
    """Light of the modules where those black in all the codes are 0 and those white in all are 1; else NaN."""
    total = templates.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        black = (light * (total == 0)).sum(axis=1) / (total == 0).sum(axis=1)
        white = (light * (total == templates.shape[1])).sum(axis=1) / (total == templates.shape[1]).sum(axis=1)
        contrast = np.where(white > black, white - black, np.nan)  # a picture without any would give infinities
        return np.asarray((light - black[:, None]) / contrast[:, None])


def _templates(k: np.ndarray, grid: _Grid, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Frames whose neighbouring codes are all of the same size, and those codes' white modules."""
    usable, rows = np.zeros(len(k), bool), []
    for i, middle in enumerate(k):
        codes = [code_modules(grid.text(int(middle + d))) for d in range(-_NEIGHBOURS, _NEIGHBOURS + 1)]
        usable[i] = all(len(code) == side for code in codes)
        if usable[i]:
            rows.append([code.ravel() for code in codes])
    return usable, np.array(rows, dtype=float).reshape(-1, 2 * _NEIGHBOURS + 1, side * side)


def _mean_index(level: np.ndarray, templates: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Mean of the numbers of the codes that share each frame, from the middle one's; their variance; the mean's
    standard deviation; the modules' residual.
    """
    num = templates.shape[1]
    total, middle = templates.sum(axis=1), num // 2
    others = np.delete(np.arange(num), middle)
    basis = templates[:, others] - templates[:, [middle]]
    differ = ((total > 0) & (total < num)).astype(float)
    goal = np.nan_to_num(level - templates[:, middle]) * differ
    inverse = np.linalg.inv(np.einsum("fap,fbp->fab", basis, basis) + 1e-3 * np.eye(len(others)))
    share = np.einsum("fab,fbp,fp->fa", inverse, basis, goal)
    full = np.insert(share, middle, 1 - share.sum(axis=1), axis=1)
    full = np.clip(np.where(full < 2 * _SHARE_SIGMA, 0.0, full), 0, None)
    full /= np.maximum(full.sum(axis=1, keepdims=True), 1e-9)
    left = (level - np.einsum("fc,fcp->fp", full, templates)) * differ
    residual = np.sqrt((left**2).sum(axis=1) / np.maximum(differ.sum(axis=1), 1))
    residual = np.where(np.isfinite(residual), residual, np.inf)
    offset = others - middle
    noise = np.maximum(residual, _MODULE_SIGMA) * np.sqrt(np.einsum("a,fab,b->f", offset, inverse, offset))
    number = np.arange(num) - middle
    mean = full @ number
    return mean, full @ number**2 - mean**2, np.hypot(_SHARE_SIGMA, noise), residual


def mean_code(
    t_s: Float[np.ndarray, "*n"], exposure_s: Float[np.ndarray, "*m"], first_s: float, period_s: float
) -> tuple[Float[np.ndarray, "*k"], Float[np.ndarray, "*k"]]:
    """Mean of a display's codes over exposures centred on `t_s`, and the variance of their numbers.

    The integral of the staircase n = floor(u) is n u - n (n + 1) / 2, that of its square n^2 (u - n) + the sum of the
    squares below n.
    """
    low, high = ((t_s + sign * exposure_s / 2 - first_s) / period_s for sign in (-1, 1))
    base = np.floor(low)
    low, high = low - base, high - base  # small numbers: nothing cancels

    def integrals(u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        n = np.floor(u)
        return n * u - n * (n + 1) / 2, n**2 * (u - n) + (n - 1) * n * (2 * n - 1) / 6

    (one_low, two_low), (one_high, two_high) = integrals(low), integrals(high)
    mean = (one_high - one_low) / (high - low)
    return first_s + period_s * (base + mean), (two_high - two_low) / (high - low) - mean**2


def _posterior_clock(
    means: _Means, grid: _Grid, read: CodeFrames, coarse: CodeClock, rate_spread: float, frame_s: float
) -> CodeClock:
    """Posterior mean and deviation of the session time at the middle, on a grid refined twice about its mass."""
    period, count = grid.period_s, len(means.local_s)
    pick = np.unique(np.linspace(0, count - 1, min(count, _MOST_BANDS)).round().astype(int))
    elapsed, mean, sigma = means.local_s[pick] - coarse.local_s, means.mean_s[pick], means.sigma[pick]
    half = period + coarse.violation_s
    ranges = [(coarse.session_s - half, coarse.session_s + half), (1e-4, frame_s), (0.0, 0.0)]
    if np.ptp(elapsed) > _LONG_S:
        ranges[2] = (-rate_spread, rate_spread)
    for blur, counts in ((5.0, (161, 25, 9)), (2.0, (81, 25, 9)), (1.0, (81, 33, 11))):
        axes = [np.linspace(*r, n if r[1] > r[0] else 1) for r, n in zip(ranges, counts, strict=True)]
        # exposures are as likely within any power of two: without this a short one would count as a coincidence
        log = np.tile(-np.log(axes[1] + _SHORT_S)[None, :, None], (len(axes[0]), 1, len(axes[2])))
        session, exposure = axes[0][:, None, None], axes[1][None, :, None]
        for j, rate in enumerate(axes[2]):
            t = session + ((1 + rate) * elapsed)[None, None, :]
            off = np.full(np.broadcast_shapes(t.shape, exposure.shape), np.inf)
            for late in (-1, 0, 1):
                expected, spread = mean_code(t + late * _JITTER_S, exposure, grid.first_s, period)
                gap = ((mean - expected) / period) ** 2 + ((means.spread[pick] - spread) / _SPREAD_OF_MEAN) ** 2
                off = np.minimum(off, gap / (blur * sigma) ** 2 + late**2)
            log[:, :, j] += np.log(np.exp(-0.5 * off) + _WRONG).sum(axis=-1)
        weight = np.exp(log - log.max())
        ranges = [
            _mass(axis, weight.sum(axis=tuple({0, 1, 2} - {d})), limits)
            for d, (axis, limits) in enumerate(zip(axes, ranges, strict=True))
        ]
    weight /= weight.sum()
    moments = []
    for d, axis in enumerate(axes):
        share = weight.sum(axis=tuple({0, 1, 2} - {d}))
        centre = float(share @ axis)
        moments.append((centre, float(np.sqrt(max(share @ (axis - centre) ** 2, 0.0)))))
    at = np.unravel_index(int(log.argmax()), log.shape)
    t = axes[0][at[0]] + (1 + axes[2][at[2]]) * (read.middle_s - coarse.local_s)
    # a code that had a share in the exposure may be the one that was read
    outside = np.maximum(read.code_s - t, t - read.code_s - period) - axes[1][at[1]] / 2
    index = (mean - grid.first_s) / period
    mixed = int((np.abs(index - np.round(index)) > 4 * _SHARE_SIGMA).sum())
    long = len(axes[2]) > 1
    return CodeClock(
        local_s=coarse.local_s,
        session_s=moments[0][0],
        session_sigma_s=float(np.hypot(moments[0][1], _FLOOR_S)),
        rate=1 + moments[2][0],
        rate_sigma=max(moments[2][1], _FLOOR_S / float(np.ptp(elapsed))) if long else np.inf,
        violation_s=float(max(outside.max(), 0.0)),
        num_mixed=mixed,
    )


def _mass(axis: np.ndarray, weight: np.ndarray, limits: tuple[float, float]) -> tuple[float, float]:
    """The stretch of an axis that holds the mass, one step wider."""
    if len(axis) == 1:
        return limits
    held = np.flatnonzero(weight > 1e-5 * weight.max())
    step = axis[1] - axis[0]
    return max(float(axis[held[0]] - step), limits[0]), min(float(axis[held[-1]] + step), limits[1])
