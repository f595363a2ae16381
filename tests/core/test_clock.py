from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.clock import Clock, Timeline, frame_times, parse_rate, resample
from core.errors import InputError


@given(st.floats(-1e4, 1e4), st.floats(0.999, 1.001), st.floats(0, 1e5))
def test_clock_round_trip(offset_s: float, rate: float, t_s: float) -> None:
    clock = Clock(offset_s, rate)
    assert clock.to_local(clock.to_session(np.array([t_s])))[0] == pytest.approx(t_s, abs=1e-6)


def test_an_hour_of_ntsc_frames_has_no_rounding() -> None:
    times = frame_times(107_893, parse_rate("30000/1001"))
    assert times[-1] == pytest.approx(107_892 * 1001 / 30000, abs=1e-9)


@pytest.mark.parametrize(
    ("text", "rate"), [("30000/1001", Fraction(30000, 1001)), (30, Fraction(30)), (59.94, Fraction(2997, 50))]
)
def test_rates_are_rationals(text: str | int | float, rate: Fraction) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize(
    "text", ["fast", "0", "-5", "1/0", "1e999999999", "9" * 5000, "1_0", 1e300, float("inf"), 10**4000]
)
def test_what_is_no_rate_is_refused(text: str | int | float) -> None:
    with pytest.raises(InputError):
        parse_rate(text)


def test_timelines_of_different_spans_share_their_instants() -> None:
    a, b = Timeline.spanning(0.51, 3.0, Fraction(30)), Timeline.spanning(1.02, 9.9, Fraction(30))
    assert len(set(np.round(a.t_s * 30, 6)) & set(np.round(b.t_s * 30, 6))) == 60
    assert a.t_s[0] >= 0.51
    assert a.t_s[-1] <= 3.0 + 1e-9


def test_an_empty_span_is_refused() -> None:
    with pytest.raises(InputError, match="no instant at 30 Hz"):
        Timeline.spanning(1.001, 1.002, Fraction(30))


def test_resample_is_linear_and_never_bridges_a_gap() -> None:
    t = np.array([0.0, 0.1, 0.2, 0.5, 0.6])
    values = np.array([0.0, 1.0, np.nan, 5.0, 6.0])[:, None]
    query = np.array([-0.1, 0.0, 0.05, 0.1, 0.15, 0.35, 0.55, 0.6, 0.7])
    found = resample(values, t, query, max_gap_s=0.15)[:, 0]
    np.testing.assert_allclose(found, [np.nan, 0.0, 0.5, 1.0, np.nan, np.nan, 5.5, 6.0, np.nan])


def test_resample_of_nothing_is_missing() -> None:
    assert np.isnan(resample(np.zeros((0, 2)), np.zeros(0), np.array([1.0]), max_gap_s=1.0)).all()
