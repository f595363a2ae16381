"""The clocks' least-squares problem: hand-solved cases, honest covariance, contradictions found and named."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture.clock_problem import (
    SESSION,
    Evidence,
    Tie,
    agreements,
    by_method,
    evidence,
    groups_of,
    misfits,
    readings,
    solve,
)

PRIOR = 60e-6


def test_one_tie_to_the_session_sets_the_offset_where_it_was_measured() -> None:
    found = solve([evidence("qr", [Tie("a", 2.0, SESSION, 5.0, 1e-3)])], ["a"], PRIOR).clock("a")
    assert found.offset_s + found.rate * 2.0 == pytest.approx(5.0, abs=1e-9)
    assert (found.offset_sigma_s, found.measured_at_s) == (pytest.approx(1e-3, rel=1e-3), pytest.approx(2.0, abs=1e-3))
    assert (found.rate, found.rate_sigma) == (pytest.approx(1.0, abs=1e-12), pytest.approx(PRIOR, rel=1e-3))


def test_two_ties_weigh_by_their_variances() -> None:
    ties = [Tie("a", 0.0, SESSION, 1.000, 1e-3), Tie("a", 0.0, SESSION, 1.010, 3e-3)]
    found = solve([evidence("qr", ties)], ["a"], PRIOR).clock("a")
    assert found.offset_s == pytest.approx((9 * 1.000 + 1.010) / 10)
    assert found.offset_sigma_s == pytest.approx(1e-3 * np.sqrt(0.9))


def test_codes_at_both_ends_give_the_rate() -> None:
    ends = [Tie("a", 0.0, SESSION, 1.0, 1e-3), Tie("a", 600.0, SESSION, 601.03, 1e-3)]
    found = solve([evidence("qr", ends)], ["a"], 500e-6).clock("a")
    assert found.drift_ppm == pytest.approx(50.0, abs=0.1)
    assert found.rate_sigma == pytest.approx(np.sqrt(2) * 1e-3 / 600, rel=1e-3)


def test_a_relative_tie_carries_an_offset_over_with_its_uncertainty() -> None:
    absolute = evidence("given", [Tie("b", 3.0, SESSION, 8.0, 1e-3)])
    heard = evidence("sound", [Tie("b", 3.0, "a", 2.0, 2e-3, slope=1.0, slope_sigma=1e-9)])
    found = solve([absolute, heard], ["a", "b"], PRIOR).clock("a")
    assert found.offset_s + 2.0 * found.rate == pytest.approx(8.0)
    assert found.offset_sigma_s == pytest.approx(np.hypot(1e-3, 2e-3), rel=1e-3)


def test_an_error_that_ties_share_does_not_average_out() -> None:
    ties = [Tie(view, 0.0, SESSION, 0.0, 1e-4) for view in ("a", "b")]
    found = solve([evidence("sound", ties, common_sigma_s=5e-3)], ["a", "b"], PRIOR)
    _, covariance = found.contrast({"a": 0.0, "b": 0.0}, "a")
    assert np.sqrt(covariance[1, 1]) == pytest.approx(np.sqrt(2) * 1e-4, rel=1e-2)
    assert found.clock("a").offset_sigma_s == pytest.approx(5e-3, rel=1e-2)


def test_groups_that_share_nothing_are_told_apart() -> None:
    ties = [evidence("sound", [Tie("b", 0.0, "a", 0.0, 1e-3)]), evidence("qr", [Tie("c", 0.0, SESSION, 0.0, 1e-3)])]
    assert groups_of(["a", "b", "c", "d"], ties) == [(("a", "b"), False), (("c",), True), (("d",), False)]


def two_methods(offset_s: float) -> list[Evidence]:
    """Codes and sound of three views; the sound of the last is off."""
    codes = [evidence("qr", [Tie(view, 1.0, SESSION, 1.0, 1e-3)]) for view in "abc"]
    sound = [evidence("sound", [Tie(v, 1.0, "a", 1.0 + offset_s * (v == "c"), 1e-3) for v in "bc"])]
    return [*codes, *sound]


def test_methods_that_contradict_each_other_are_named_with_the_view() -> None:
    at = dict.fromkeys("abc", 1.0)
    (agreed,) = agreements(by_method(two_methods(1e-3), PRIOR), at)
    assert agreed.excess < 1
    (apart,) = agreements(by_method(two_methods(20e-3), PRIOR), at)
    assert (apart.methods, apart.view, apart.base) == (("qr", "sound"), "c", "a")
    assert apart.excess > 1
    assert abs(apart.difference_s) == pytest.approx(20e-3, rel=1e-3)


def test_the_residual_of_each_method_is_against_the_common_solution() -> None:
    items = two_methods(2e-3)
    solution = solve(items, list("abc"), PRIOR)
    at = dict.fromkeys("abc", 1.0)
    times, _ = solution.contrast(at, SESSION)
    table = readings(by_method(items, PRIOR), dict(zip("abc", times.tolist(), strict=True)), at)
    assert set(table["c"]) == {"qr", "sound"}
    assert abs(table["c"]["sound"].residual_s) > abs(table["b"]["sound"].residual_s)
    assert table["c"]["qr"].sigma_s == pytest.approx(1e-3, rel=1e-3)


@given(shift_s=st.floats(-1e4, 1e4), seed=st.integers(0, 50))
def test_another_zero_of_the_session_clock_moves_offsets_alone(shift_s: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    local, session = rng.uniform(0, 900, 4), rng.uniform(0, 900, 4)

    def solved(zero_s: float) -> np.ndarray:
        ties = [Tie("a", at, SESSION, at + 0.001 * s + zero_s, 1e-3) for at, s in zip(local, session, strict=True)]
        return solve([evidence("qr", ties)], ["a"], 1e-2).x

    np.testing.assert_allclose(solved(shift_s) - solved(0.0), [shift_s, 0.0], atol=1e-8 * (1 + abs(shift_s)))


def simulated_problem(rng: np.random.Generator, num_views: int) -> tuple[np.ndarray, list[Evidence], list[str]]:
    """Clocks drawn from the priors, measured by codes (some views at both ends) and sound with their stated sigmas."""
    views = [f"cam{i}" for i in range(num_views)]
    truth = np.stack([rng.uniform(-0.5, 0.5, num_views), rng.normal(0, PRIOR, num_views)], axis=1)

    def session(i: int, at_s: float) -> float:
        return float(truth[i, 0] + (1 + truth[i, 1]) * at_s)

    items = []
    for i, view in enumerate(views):
        for at_s in (0.7, 300.0)[: 1 + i % 2]:
            sigma = rng.uniform(5e-4, 5e-3)
            items.append(evidence("qr", [Tie(view, at_s, SESSION, session(i, at_s) + rng.normal(0, sigma), sigma)]))
    delay = rng.normal(0, 6e-3, num_views)
    ties = []
    for i in range(1, num_views):
        reference_s = 150.0
        at_s = (session(0, reference_s) + delay[i] - truth[i, 0]) / (1 + truth[i, 1]) + rng.normal(0, 1e-4)
        slope = (1 + truth[0, 1]) / (1 + truth[i, 1]) + rng.normal(0, 1e-6)
        ties.append(Tie(views[i], at_s, views[0], reference_s + delay[0], np.hypot(1e-4, 6e-3), slope, 1e-6))
    items.append(evidence("sound", ties, common_sigma_s=6e-3))
    return truth, items, views


def test_true_errors_lie_within_the_stated_bounds_as_often_as_stated() -> None:
    rng = np.random.default_rng(5)
    inside, agreed = [], []
    for _ in range(300):
        truth, items, views = simulated_problem(rng, 4)
        solution = solve(items, views, PRIOR)
        error = solution.x - truth.ravel()
        inside.append(np.abs(error) <= 1.96 * np.sqrt(np.diag(solution.covariance)))
        agreed += [a.excess <= 1 for a in agreements(by_method(items, PRIOR), dict.fromkeys(views, 150.0))]
    # 2400 figures of which 95 % are expected within; those of one problem are correlated
    assert 0.92 < np.mean(inside) < 0.98
    assert np.mean(agreed) > 0.98


def test_a_method_that_contradicts_itself_is_named_with_the_view() -> None:
    def codes(view: str, late_s: float) -> Evidence:
        seen = ((0.0, 0.0), (10.0, late_s), (20.0, 0.0))
        return evidence("qr", [Tie(view, at_s, SESSION, at_s + late, 1e-3) for at_s, late in seen])

    (agreed,) = misfits([codes("a", 0.0), codes("b", 1e-3)], 300e-6)
    assert agreed.deviations < 1 < agreed.limit
    (apart,) = misfits([codes("a", 0.0), codes("b", 0.1)], 300e-6)
    # the middle one of three lies off by the step: the line takes a third of it, and sqrt(2/3) of its square are left
    assert apart.deviations == pytest.approx(np.sqrt(2 / 3) * 100 / np.sqrt(4), rel=1e-3)
    assert (apart.method, apart.view) == ("qr", "b") and apart.deviations > apart.limit
    assert not misfits([evidence("qr", [Tie("a", 1.0, SESSION, 5.0, 1e-3)])], 300e-6)  # nothing to spare
