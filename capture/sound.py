"""Sound: two recorders that heard the same claps tell how their clocks run against each other.

Delays are found window by window with the generalised cross-correlation with phase transform (GCC-PHAT, Knapp and
Carter 1976); the line through them gives offset and rate. A sound reaches a camera later by 2.9 ms a metre: while
nobody knows where the cameras stand, the offset carries that uncertainty, and the rate that of a moving source. Where
they are known, `capture.sound_places` takes the way of the sound into account.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft
from scipy.signal import resample_poly

from core.arrays import Float

SPEED_M_S = 343.0
_COARSE_HZ = 8000
_BLOCK_S = 60.0  # of the reference, looked for in all of the other: clocks that drift blur longer ones
_WINDOW_S, _HOP_S = 1.0, 0.5
_SEARCH_S = 0.05  # about the coarse offset, covers 250 ppm over three minutes; wider with the length
_MAX_RATE_ERROR = 500e-6
_PEAK_MARGIN = 2.0  # standard deviations by which a rough offset stands above the highest of that many random lags
_CLEAR_MARGIN = 0.5  # the same for one window: one in a hundred is wrong, and the line leaves it out
_MIN_WINDOWS, _MIN_SHARE = 5, 0.3  # of the clear windows, that agree on a line
_OUTLIER_S = 2e-4
_MOVING_S = 15e-3  # by which sounds from all over a room scatter about the line at most; chance scatters twice as far


@dataclass(frozen=True, eq=False)
class Sound:
    """A sound track: samples (mono), samples a second, local time of the first."""

    samples: Float[np.ndarray, "n"]
    rate_hz: int
    first_s: float


@dataclass(frozen=True)
class SoundLine:
    """`other_local = at_s + slope * (reference_local - reference_s)` for one sound heard by both.

    Attributes:
        reference_s: middle of the windows on the reference's local clock, seconds.
        at_s: the other's local time there.
        slope: local seconds of the other for one of the reference.
        slope_sigma: its standard deviation.
        residual_s: root mean square of the windows about the line.
        num_windows: windows that agreed on it.
        span_s: from the first to the last of these.
        heard_s: (windows, 2) local times, reference and other, of every window with a clear delay, these or not.
    """

    reference_s: float
    at_s: float
    slope: float
    slope_sigma: float
    residual_s: float
    num_windows: int
    span_s: float
    heard_s: Float[np.ndarray, "windows 2"] = field(default_factory=lambda: np.zeros((0, 2)), compare=False)


def gcc_phat(a: Float[np.ndarray, "n"], b: Float[np.ndarray, "m"]) -> Float[np.ndarray, "lags"]:
    """Whitened cross-correlation; entry k + len(b) - 1 is large if `a` lags `b` by k samples."""
    size = next_fast_len(len(a) + len(b) - 1, real=True)
    spectrum = rfft(a, size) * np.conj(rfft(b, size))
    size_of = np.abs(spectrum)
    spectrum /= np.maximum(size_of, 1e-12 * float(size_of.max()) or 1.0)  # silence stays silent
    correlation = irfft(spectrum, size)
    return np.concatenate([correlation[-(len(b) - 1) :], correlation[: len(a)]])


def sound_line(reference: Sound, other: Sound) -> SoundLine | None:
    """Offset and rate between two recorders; None if they heard nothing in common."""
    tried: list[float] = []
    for at_s, lag_s in _coarse_lags(reference, other):
        if any(abs(lag_s - other_lag_s) < _SEARCH_S / 2 for other_lag_s in tried):
            continue
        tried.append(lag_s)
        if (line := _line(_window_delays(reference, other, at_s, lag_s))) is not None:
            return line
    return None


def _coarse_lags(reference: Sound, other: Sound) -> Iterator[tuple[float, float]]:
    """Rough offsets by one block of the reference after another, as long as somebody asks.

    Yields:
        middle of the block, seconds from the reference's first sample; other's local time minus the reference's.
    """
    whole, blocks = _decimated(other), _decimated(reference)
    size = int(_BLOCK_S * _COARSE_HZ)
    for start in range(0, len(blocks), size):
        block = blocks[start : start + size]
        correlation = gcc_phat(whole, block)
        peak = int(np.argmax(correlation))
        if correlation[peak] > (_highest(len(correlation)) + _PEAK_MARGIN) * correlation.std():
            lag = peak - (len(block) - 1) - start
            yield (start + len(block) / 2) / _COARSE_HZ, lag / _COARSE_HZ + other.first_s - reference.first_s


def _highest(num_lags: int) -> float:
    """About the highest of so many values of a normal law, in its standard deviations."""
    return float(np.sqrt(2 * np.log(max(num_lags, 2))))


def _decimated(sound: Sound) -> np.ndarray:
    common = np.gcd(_COARSE_HZ, sound.rate_hz)
    # single precision: the whole of a long recording is transformed at once
    return np.asarray(
        resample_poly(sound.samples.astype(np.float32), _COARSE_HZ // common, sound.rate_hz // common), np.float32
    )


def _window_delays(reference: Sound, other: Sound, at_s: float, lag_s: float) -> np.ndarray:
    """(reference local, other local) of each window whose peak stands out, about a lag known at `at_s`."""
    rate = reference.rate_hz
    samples = other.samples
    if other.rate_hz != rate:
        common = np.gcd(rate, other.rate_hz)
        samples = resample_poly(samples, rate // common, other.rate_hz // common)
    duration = len(reference.samples) / rate
    size = int(_WINDOW_S * rate)
    rows = []
    for start_s in np.arange(0.0, max(duration - _WINDOW_S, 0.0) + 1e-9, _HOP_S):
        search = int((_SEARCH_S + _MAX_RATE_ERROR * abs(start_s - at_s)) * rate)
        first = int(start_s * rate)
        begin = round((reference.first_s + start_s + lag_s - other.first_s) * rate) - search
        if begin < 0 or begin + size + 2 * search > len(samples):
            continue
        correlation = gcc_phat(samples[begin : begin + size + 2 * search], reference.samples[first : first + size])
        inside = correlation[size - 1 : size + 2 * search]
        peak = int(np.argmax(inside))
        least = (_highest(len(inside)) + _CLEAR_MARGIN) * correlation.std()
        if inside[peak] < least or not 0 < peak < len(inside) - 1:
            continue
        delay = (begin + peak + _vertex(inside[peak - 1 : peak + 2])) / rate + other.first_s
        loudness = reference.samples[first : first + size].astype(np.float64) ** 2
        # a clap tells the delay of its own instant, not of the window's middle
        instant = float(loudness @ np.arange(size) / max(loudness.sum(), 1e-30)) / rate
        rows.append((reference.first_s + first / rate + instant, delay + instant))
    return np.array(rows).reshape(-1, 2)


def _vertex(three: np.ndarray) -> float:
    """Sub-sample place of the peak: vertex of the parabola through three samples."""
    left, top, right = three
    bend = left - 2 * top + right
    return float(0.5 * (left - right) / bend) if bend < 0 else 0.0


def _line(table: np.ndarray) -> SoundLine | None:
    """Robust line through the windows: from the median of all pairwise slopes (Theil-Sen), then least squares."""
    u, v = table[:, 0], table[:, 1] - table[:, 0]
    if len(u) < 3:
        return None
    i, j = np.triu_indices(len(u), 1)
    slope = float(np.median((v[j] - v[i]) / (u[j] - u[i])))
    level = float(np.median(v - slope * u))
    off = np.abs(v - level - slope * u)
    # one fixed source leaves a tenth of a millisecond; a source that walks about leaves its ways' differences
    keep = off < _OUTLIER_S
    spread = 1.48 * float(np.median(off))
    if keep.mean() < 0.5 and spread < _MOVING_S and len(u) >= _MIN_WINDOWS:
        keep = off < 3 * spread
    enough = max(_MIN_SHARE * len(u), min(_MIN_WINDOWS, len(u)))
    if keep.sum() < enough or (span := float(np.ptp(u[keep]))) < 2 * _WINDOW_S:
        return None
    u, v = u[keep], v[keep]
    middle = float(u.mean())
    slope, level = (float(x) for x in np.polyfit(u - middle, v, 1))
    # no recorder runs that wrong, and no source walks that far: the windows agree by chance
    if abs(slope) > _MAX_RATE_ERROR + _MOVING_S / span:
        return None
    residual = float(np.sqrt(np.mean((v - level - slope * (u - middle)) ** 2)))
    # windows overlap by half: every second one is independent
    lever = float(np.sqrt(((u - middle) ** 2).sum() / 2))
    sigma = max(residual, 0.25 / 48_000) / lever
    return SoundLine(middle, middle + level, 1.0 + slope, sigma, residual, int(keep.sum()), span, table)
