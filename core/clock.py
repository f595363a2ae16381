"""The clock: the one place where frame indices become times and where views meet.

Every recorder has its own clock. A frame's *local* time is what its container states (its presentation time, or its
index over the frame rate); the session clock is common to all. `Clock` is the map between them: an offset and a rate.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from core.arrays import Bool, Float
from core.errors import InputError

_RATE = re.compile(r"[+-]?\d{1,12}(\.\d{0,20}|/\d{1,12})?", re.ASCII)
_MAX_RATE_HZ = 1_000_000


@dataclass(frozen=True)
class Clock:
    """`t_session = offset_s + rate * t_local`.

    Attributes:
        offset_s: session time at local time zero, seconds.
        rate: session seconds for one local second; 1 + 1e-6 is a drift of 1 ppm.
        offset_sigma_s: standard deviation of the session time at local time `measured_at_s`.
        rate_sigma: standard deviation of the rate, independent of that.
        measured_at_s: local time at which the clock is known best: where it was measured.
    """

    offset_s: float = 0.0
    rate: float = 1.0
    offset_sigma_s: float = 0.0
    rate_sigma: float = 0.0
    measured_at_s: float = 0.0

    def __post_init__(self) -> None:
        if not 0.5 < self.rate < 2.0:
            raise InputError("clock", f"a rate of {self.rate} is no clock's", "check the frame rates of the recording")

    @property
    def drift_ppm(self) -> float:
        """Rate error in parts per million."""
        return (self.rate - 1.0) * 1e6

    def to_session(self, t_local_s: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
        """Session times of local times, seconds."""
        return self.offset_s + self.rate * np.asarray(t_local_s, float)

    def to_local(self, t_s: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
        """Local times of session times, seconds."""
        return (np.asarray(t_s, float) - self.offset_s) / self.rate

    def sigma_s(self, t_local_s: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
        """Standard deviation of the session times of local times, seconds."""
        return np.hypot(self.offset_sigma_s, self.rate_sigma * (np.asarray(t_local_s, float) - self.measured_at_s))

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Clock:
        """Reads the fields of a clock, ignoring what a stage wrote beside them."""
        names = ("offset_s", "rate", "offset_sigma_s", "rate_sigma", "measured_at_s")
        return Clock(**{name: float(data[name]) for name in names if data.get(name) is not None})


def frame_times(num_frames: int, frame_rate: Fraction, first_s: float = 0.0) -> Float[np.ndarray, "n"]:
    """Times of equally spaced frames, seconds, exact for rational rates such as 30000/1001."""
    index = np.arange(num_frames, dtype=np.float64)
    return first_s + index * frame_rate.denominator / frame_rate.numerator


def parse_rate(text: str | int | float) -> Fraction:
    """A frame rate as a rational; "30000/1001", "30" and 59.94 are all understood.

    Raises:
        InputError: if it is not a positive number, or beyond every camera's.
    """
    action = 'write it as "30" or "30000/1001"'
    try:
        if isinstance(text, str) and not _RATE.fullmatch(text.strip()):  # the power of 1e999999999 is computed in full
            raise ValueError
        rate = Fraction(text) if isinstance(text, (str, int)) else Fraction(text).limit_denominator(1001)
    except (ValueError, ZeroDivisionError, OverflowError) as error:
        raise InputError(str(text)[:40], "not a frame rate", action) from error
    if rate <= 0:
        raise InputError(str(text), "a frame rate must be positive", action)
    if rate > _MAX_RATE_HZ:
        raise InputError("frame rate", f"it is above {_MAX_RATE_HZ} Hz", action)
    return rate


@dataclass(frozen=True, eq=False)
class Timeline:
    """The common instants at which a session is annotated: a regular grid on the session clock.

    Attributes:
        first_s: time of the first instant, session clock, seconds.
        rate: instants a second.
        num_frames: number of instants.
    """

    first_s: float
    rate: Fraction
    num_frames: int

    @property
    def t_s(self) -> Float[np.ndarray, "n"]:
        """The instants, seconds."""
        return frame_times(self.num_frames, self.rate, self.first_s)

    @staticmethod
    def spanning(first_s: float, last_s: float, rate: Fraction) -> Timeline:
        """The grid of multiples of 1/rate within [first_s, last_s].

        The grid is anchored at session time zero, so that two runs over different spans share their instants.
        """
        slack = 1e-9
        first = int(np.ceil(first_s * float(rate) - slack))
        last = int(np.floor(last_s * float(rate) + slack))
        if last < first:
            raise InputError(
                "timeline",
                f"no instant at {rate} Hz between {first_s:.3f} s and {last_s:.3f} s",
                "check the clocks and the span",
            )
        return Timeline(float(Fraction(first) / rate), rate, last - first + 1)


def resample(
    values: Float[np.ndarray, "n *rest"],
    t_s: Float[np.ndarray, "n"],
    query_s: Float[np.ndarray, "m"],
    *,
    max_gap_s: float,
) -> Float[np.ndarray, "m *rest"]:
    """Linear interpolation in time that never bridges what was not measured.

    A query between two samples is NaN where either of them is NaN, or where they lie further apart than `max_gap_s`;
    so is a query before the first or after the last sample. A query on a sample takes that sample alone.
    """
    if len(t_s) == 0:
        return np.full((len(query_s), *values.shape[1:]), np.nan)
    tolerance = 1e-9
    right = np.clip(np.searchsorted(t_s, query_s, side="left"), 0, len(t_s) - 1)
    left = np.where(t_s[right] - query_s <= tolerance, right, np.maximum(right - 1, 0))
    exact_left = np.abs(t_s[left] - query_s) <= tolerance
    right = np.where(exact_left, left, right)
    span = t_s[right] - t_s[left]
    weight = np.where(span > 0, (query_s - t_s[left]) / np.where(span > 0, span, 1.0), 0.0)
    shape = (-1, *[1] * (values.ndim - 1))
    result = values[left] + weight.reshape(shape) * (values[right] - values[left])
    covered: Bool[np.ndarray, "m"] = (
        (query_s >= t_s[0] - tolerance) & (query_s <= t_s[-1] + tolerance) & (span <= max_gap_s + tolerance)
    )
    return np.where(covered.reshape(shape), result, np.nan)
