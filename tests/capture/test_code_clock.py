"""Time codes: bounds, codes that mix in an exposure, locked displays; and that the stated uncertainty is true."""

from __future__ import annotations

import numpy as np
import pytest

from capture.code_clock import (
    _grid_of,
    _level,
    _mean_index,
    bounds_clock,
    clock_from_codes,
    display_period_s,
    mean_code,
)
from capture.time_code import CodeFrames, code_modules, read_time_codes
from core.clock import Clock
from simulation.time_code import Display, film_display

PERIOD_S = 0.020
SPREAD = 300e-6


def codes_seen(clock: Clock, local_s: np.ndarray) -> np.ndarray:
    """What a display with a period of 20 ms shows at these local times."""
    return np.floor(clock.to_session(local_s) / PERIOD_S + 1e-9) * PERIOD_S


def filmed(seed: int, display: Display, *, fps: float = 30.0, row_time_s: float = 0.0) -> tuple[CodeFrames, Clock]:
    """Codes read from pictures of a display, and the clock that took them."""
    rng = np.random.default_rng(seed)
    clock, local_s = Clock(3 + rng.uniform(-0.5, 0.5), 1 + rng.uniform(-80e-6, 80e-6)), np.arange(24) / fps
    pictures = film_display(rng, display, clock.to_session(local_s), row_time_s=row_time_s)
    return read_time_codes(enumerate(pictures), local_s, row_time_s=row_time_s).consistent(), clock


@pytest.mark.parametrize("seed", range(5))
def test_bounds_close_to_a_third_of_the_period(seed: int) -> None:
    # a 30 Hz camera meets a 50 Hz display in three phases: the bounds leave a third of 20 ms open
    rng = np.random.default_rng(seed)
    clock, local_s = Clock(rng.uniform(-0.5, 0.5), 1 + rng.uniform(-80e-6, 80e-6)), np.arange(45) / 30
    found = bounds_clock(local_s, codes_seen(clock, local_s), PERIOD_S, SPREAD)
    error = found.session_s - float(clock.to_session(np.array([found.local_s]))[0])
    assert found.violation_s < 1e-6
    assert found.session_sigma_s < PERIOD_S / 3 / np.sqrt(12) + 3e-4
    assert abs(error) <= PERIOD_S / 6 + 3e-4
    assert np.isinf(found.rate_sigma)


def test_bounds_at_both_ends_of_a_recording_give_the_rate() -> None:
    clock, local_s = Clock(0.2, 1 + 300e-6), np.concatenate([np.arange(60), 18000 + np.arange(60)]) / 30
    found = bounds_clock(local_s, codes_seen(clock, local_s), PERIOD_S, 500e-6)
    assert found.rate - 1 == pytest.approx(300e-6, abs=3 * found.rate_sigma)
    assert found.rate_sigma < 10e-6


def test_contradicting_codes_are_reported() -> None:
    local_s = np.arange(30) / 30
    codes = codes_seen(Clock(), local_s) + np.where(np.arange(30) == 7, 0.1, 0.0)
    assert bounds_clock(local_s, codes, PERIOD_S, SPREAD).violation_s > 0.03


def test_a_misread_code_is_left_out() -> None:
    local_s = np.arange(30) / 30
    codes = codes_seen(Clock(), local_s) + np.where(np.arange(30) == 7, 10.0, 0.0)
    frames = CodeFrames(local_s, np.zeros((30, 2)), codes, np.zeros((30, 21, 21), np.uint8))
    assert len(frames.consistent()) == 29


@pytest.mark.parametrize(
    ("rate_hz", "fps", "period_s"),
    # at 30 pictures a second a camera locked to 60 Hz sees every second code; at 25 it sees steps of two and of three
    [(50.0, 30.0, 1 / 50), (60.0, 25.0, 1 / 60), (60.0, 30.0, 1 / 30)],
)
def test_the_period_is_what_all_steps_are_multiples_of(rate_hz: float, fps: float, period_s: float) -> None:
    seen = [np.floor((offset + np.arange(30) / fps) * rate_hz) / rate_hz for offset in (0.001, 1.0013)]
    assert display_period_s([codes.round(4) for codes in seen]) == pytest.approx(period_s, rel=5e-3)
    assert np.isnan(display_period_s([np.array([0.02])]))


@pytest.mark.parametrize("exposure", [0.0001, 0.013, 0.05])
def test_the_mean_code_and_its_spread_are_those_of_the_staircase(exposure: float) -> None:
    t_s = np.linspace(0.1, 0.2, 7)
    fine = t_s[:, None] + exposure * ((np.arange(20000) + 0.5) / 20000 - 0.5)
    number = np.floor((fine - 0.003) / PERIOD_S)
    mean, spread = mean_code(t_s, np.full(1, exposure), 0.003, PERIOD_S)
    np.testing.assert_allclose(mean, 0.003 + PERIOD_S * number.mean(axis=1), atol=4e-6)
    np.testing.assert_allclose(spread, number.var(axis=1), atol=4e-4)


@pytest.mark.parametrize("exposure_s", [0.008, 0.016])
def test_codes_that_mix_tell_far_more_than_the_bounds(exposure_s: float) -> None:
    errors, sigmas = [], []
    for seed in range(3):
        frames, clock = filmed(seed, Display(50.0, 0.004, exposure_s))
        found = clock_from_codes(frames, PERIOD_S, SPREAD, 1 / 30)
        errors.append(found.session_s - float(clock.to_session(np.array([found.local_s]))[0]))
        sigmas.append(found.session_sigma_s)
        assert found.num_mixed > 0 and found.violation_s == 0
    assert (np.abs(errors) < 3 * np.array(sigmas)).all()
    assert np.max(np.abs(errors)) < 1.5e-3  # the bounds alone leave 3.3 ms to either side


@pytest.mark.parametrize("exposure_s", [0.0, 0.0005])
def test_a_phase_that_drifts_over_a_change_of_the_display_tells_the_clock(exposure_s: float) -> None:
    # every third frame meets the change, the first half of them 45 us or less before it, the others after it
    clock, local_s = Clock(3 - 0.75 * 60e-6, 1 + 60e-6), np.arange(45) / 30
    pictures = film_display(np.random.default_rng(0), Display(50.0, 0.0, exposure_s), clock.to_session(local_s))
    found = clock_from_codes(read_time_codes(enumerate(pictures), local_s).consistent(), PERIOD_S, SPREAD, 1 / 30)
    error = found.session_s - float(clock.to_session(np.array([found.local_s]))[0])
    assert found.violation_s < 1e-3
    assert found.session_sigma_s < 0.3e-3 and abs(error) < 3 * found.session_sigma_s


def test_pictures_after_the_codes_are_not_taken_for_codes() -> None:
    rng, times_s = np.random.default_rng(0), np.arange(50) / 30
    pictures = list(film_display(rng, Display(50.0, 0.004), times_s[:15]))
    room = np.full_like(pictures[0], 128)
    frames = read_time_codes(enumerate([*pictures, *[room] * 35]), times_s)
    assert frames.local_s.max() < times_s[14] + 0.25


def test_a_display_that_never_mixes_keeps_the_uncertainty_of_its_bounds() -> None:
    # 60 Hz before 30 pictures a second: one phase of the display, and an exposure of a millisecond that misses changes
    frames, clock = filmed(1, Display(60.0, 0.004, 0.001))
    found = clock_from_codes(frames, 1 / 60, SPREAD, 1 / 30)
    error = found.session_s - float(clock.to_session(np.array([found.local_s]))[0])
    assert found.num_mixed == 0
    assert found.session_sigma_s > 3.5e-3
    assert abs(error) < 2 * found.session_sigma_s


def test_every_second_code_alone_leaves_it_open_which_display_it_was() -> None:
    frames, clock = filmed(2, Display(60.0, 0.004, 0.0))
    found = clock_from_codes(frames, 1 / 30, SPREAD, 1 / 30)  # 30 codes a second, as far as this camera can tell
    error = found.session_s - float(clock.to_session(np.array([found.local_s]))[0])
    assert found.session_sigma_s > 5e-3
    assert abs(error) < 2 * found.session_sigma_s


def test_rows_of_a_rolling_shutter_are_told_apart() -> None:
    frames, clock = filmed(4, Display(50.0, 0.004, 0.004), row_time_s=40e-6)
    found = clock_from_codes(frames, PERIOD_S, SPREAD, 1 / 30)
    error = found.session_s - float(clock.to_session(np.array([found.local_s]))[0])
    assert abs(error) < 1e-3
    # 21 of the display's 27 modules are the code
    assert np.ptp(frames.edge_s, axis=1).mean() == pytest.approx(120 * 21 / 27 * 40e-6, rel=0.1)


def test_rows_are_those_of_the_lens_not_of_a_rescaled_picture() -> None:
    rng = np.random.default_rng(3)
    pictures = list(film_display(rng, Display(exposure_s=0.0), np.arange(3) / 30))
    plain = read_time_codes(enumerate(pictures), np.arange(3) / 30, row_time_s=1e-4)
    half = read_time_codes(enumerate(pictures), np.arange(3) / 30, row_time_s=1e-4, picture_from_px=(0.5, 0.0, 10.0))
    np.testing.assert_allclose(half.edge_s, (plain.edge_s - 10 * 1e-4) / 0.5, atol=1e-9)


def test_a_video_without_codes_has_none() -> None:
    frames = read_time_codes([(0, np.full((64, 64), 128, np.uint8))], np.zeros(1))
    assert len(frames) == 0 and not frames.read.any()


def test_modules_are_those_of_the_encoder() -> None:
    code = code_modules("MOTIFS-T=1480")
    assert code.shape == (21, 21)
    assert not code[0, :7].any() and code[1, 1:6].all() and not code[3, 3]  # a finder: black ring, white ring, black


def test_pictures_without_contrast_tell_nothing_and_warn_of_nothing() -> None:
    # two modules that are black in all codes, two that are white, one that tells the codes apart
    templates = np.array([[[0, 0, 1, 1, 0], [0, 0, 1, 1, 1], [0, 0, 1, 1, 0]]], float)
    level = _level(np.array([[0.0, 1.0, 0.0, 1.0, 0.5]]), templates)
    _, _, _, residual = _mean_index(level, templates)
    assert np.isinf(residual).all()


@pytest.mark.parametrize("period_us", [50_043, 41_665, 60_000])
@pytest.mark.parametrize("exposure_s", [0.002, 0.016])
def test_a_display_that_counts_in_microseconds_is_read_to_its_codes(period_us: int, exposure_s: float) -> None:
    """Codes of the page that `motifs prepare` makes: so many periods of its own after 100 s and a microsecond."""
    display = Display(1e6 / period_us, 100.000001, exposure_s, microseconds=True)
    rng = np.random.default_rng(period_us)
    clock, local_s = Clock(101.3, 1 + 20e-6), np.arange(45) / 30
    pictures = film_display(rng, display, clock.to_session(local_s))
    frames = read_time_codes(enumerate(pictures), local_s).consistent()
    period_s = display_period_s([frames.code_s[frames.read]])
    assert period_s == pytest.approx(period_us / 1e6, rel=1e-4)
    found = clock_from_codes(frames, period_s, SPREAD, 1 / 30)
    error = found.session_s - float(clock.to_session(np.array([found.local_s]))[0])
    assert frames.read.mean() > 0.5 and found.violation_s < 1e-3
    assert abs(error) < 3 * found.session_sigma_s and abs(error) < 0.01
    grid = _grid_of(frames.code_s[frames.read], period_s)
    first = round((grid.first_s - 100.000001) * 1e6 / period_us)
    for k in (0, 7, 1234):
        assert grid.text(k - first) == f"MOTIFS-T={100_000.001 + k * period_us / 1000:.3f}"
