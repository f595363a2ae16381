"""Paired differences and how often chance gives them."""

from __future__ import annotations

import numpy as np
import pytest

from model.protocols.paired import compare, permutation_test, written


def test_all_signs_of_few_clips() -> None:
    # of 2^3 choices of signs, two are as extreme as all of one sign
    found = permutation_test(np.array([1.0, 2.0, 3.0]), np.ones(3), 20_000)
    assert found.difference == pytest.approx(2.0) and found.clips == 3
    assert found.p == pytest.approx(0.25, abs=0.02)  # six standard errors of 20,000 draws
    assert permutation_test(np.zeros(5), np.ones(5)).p == 1.0


def test_chance_is_called_chance_as_often_as_it_says(rng: np.random.Generator) -> None:
    p = np.array([permutation_test(rng.normal(size=30), np.ones(30), 400, seed).p for seed in range(300)])
    # binomial: 0.05 of 300 is 15, with a deviation of 3.8
    assert 2 <= (p <= 0.05).sum() <= 28 and abs((p <= 0.5).mean() - 0.5) < 0.15


def test_groups_weigh_alike_and_seeds_are_averaged() -> None:
    first = {"a": {0: {"right": "11"}, 1: {"right": "10"}}, "b": {0: {"right": "1111"}, 1: {"right": "1111"}}}
    second = {"a": {0: {"right": "00"}}, "b": {0: {"right": "0111"}}}
    found = compare(first, second)
    assert found is not None and found.clips == 6
    assert found.difference == pytest.approx((0.75 + 0.25) / 2)
    mirrored = compare(second, first)
    assert mirrored is not None and mirrored.difference == -found.difference and mirrored.p == found.p
    # errors are of windows: those of a clip weigh as many times as there are of them
    long, short = {"by_clip": {"3": [2.0, 30], "7": [4.0, 10]}}, {"by_clip": {"7": [1.0, 10], "3": [1.0, 30]}}
    errors = compare({"a": {0: long}}, {"a": {0: short}})
    assert errors is not None and errors.difference == pytest.approx((30 * 1.0 + 10 * 3.0) / 40)


def test_other_clips_are_refused_and_other_rows_left_out() -> None:
    with pytest.raises(ValueError, match="a: 2 clips and 3 others"):
        compare({"a": {0: {"right": "11"}}}, {"a": {0: {"right": "111"}}})
    assert compare({"a": {0: {"accuracy": 0.5}}}, {"a": {0: {"right": "1"}}}) is None
    assert compare({"a": {0: {"right": "1"}}}, {"b": {0: {"right": "1"}}}) is None
    assert written(np.array([True, False, True])) == "101"
