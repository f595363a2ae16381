"""What the cameras hear: claps and bursts of noise from one place, late by distance, on each recorder's own clock."""

from __future__ import annotations

import numpy as np

from core.arrays import Float
from core.clock import Clock

SPEED_M_S = 343.0
RATE_HZ = 48_000
_BAND_HZ = (250.0, 7000.0)
_LEAD_S = 1.0  # of sound before session time zero, for recorders that start early
_BURST_EVERY_S = 0.9


def source_signal(rng: np.random.Generator, duration_s: float) -> Float[np.ndarray, "samples"]:
    """Sound at one metre from its source, from session time -1 s to one second past the end; RATE_HZ."""
    return source_signals(rng, duration_s, 1)[0]


def source_signals(rng: np.random.Generator, duration_s: float, num_places: int) -> Float[np.ndarray, "places samples"]:
    """The same, where claps and bursts come from several places in turn."""
    count = int((duration_s + 2 * _LEAD_S) * RATE_HZ)
    t = np.arange(count) / RATE_HZ
    envelope = np.full((num_places, count), 0.004)
    starts = np.arange(0.3, duration_s + _LEAD_S, _BURST_EVERY_S)
    for i, start in enumerate(starts + rng.uniform(0, 0.5, len(starts))):
        since = t - _LEAD_S - start
        length = 0.012 if i % 2 == 0 else rng.uniform(0.08, 0.25)  # a clap, a burst
        decay = np.where(since >= 0, np.exp(-np.maximum(since, 0) / length), 0.0)
        envelope[i % num_places] += decay * rng.uniform(0.5, 1.0)
    return np.stack([_band_limited(rng.standard_normal(count) * loudness) for loudness in envelope])


def heard(
    rng: np.random.Generator,
    signal: Float[np.ndarray, "samples"],
    clock: Clock,
    distance_m: float,
    duration_s: float,
) -> Float[np.ndarray, "heard"]:
    """A recorder's samples, -1 to 1, from its local time zero.

    Args:
        rng: noise of the microphone.
        signal: of `source_signal`.
        clock: of the recorder.
        distance_m: from the source.
        duration_s: length, local time.
    """
    local = np.arange(int(duration_s * RATE_HZ)) / RATE_HZ
    emitted = clock.to_session(local) - distance_m / SPEED_M_S
    sound = np.interp((emitted + _LEAD_S) * RATE_HZ, np.arange(len(signal)), signal) / max(distance_m, 0.5)
    return np.clip(0.5 * sound + 0.0015 * rng.standard_normal(len(local)), -1.0, 1.0)


def _band_limited(signal: np.ndarray) -> np.ndarray:
    """Without what linear interpolation between samples would spoil."""
    spectrum = np.fft.rfft(signal)
    frequency = np.fft.rfftfreq(len(signal), 1 / RATE_HZ)
    spectrum[(frequency < _BAND_HZ[0]) | (frequency > _BAND_HZ[1])] = 0.0
    limited = np.fft.irfft(spectrum, len(signal))
    return limited / np.abs(limited).max()
