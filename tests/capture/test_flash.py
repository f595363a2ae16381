"""A switched lamp: its instant within a frame, by exposure and by row; and cameras that did not see it."""

from __future__ import annotations

import numpy as np
import pytest

from capture.clock_problem import solve
from capture.flash import Step, brightness, find_steps, flash_evidence


def lit(t_s: np.ndarray, steps_s: list[float], exposure_s: float, readout_s: float = 0.0) -> np.ndarray:
    """Linear light of eight parts of each frame while a lamp is switched on, off, on ..."""
    rows = t_s[:, None] + readout_s * (np.arange(8) + 0.5) / 8
    on = sum((-1) ** k * np.clip((rows + exposure_s / 2 - s) / exposure_s, 0, 1) for k, s in enumerate(steps_s))
    return np.asarray(0.2 + 0.3 * on)


T = np.arange(90) / 30


@pytest.mark.parametrize("at_s", [1.0, 1.0045, 1.009, 1.0166, 1.03])
def test_a_step_is_found_within_its_frame_as_well_as_it_says(at_s: float) -> None:
    (step,) = find_steps(T, lit(T, [at_s], 0.012), 0.0)
    assert step.brighter
    assert step.sigma_s < 1 / 30 / np.sqrt(12) + 1e-9
    assert abs(step.local_s - at_s) < 1.8 * step.sigma_s


def test_rows_of_a_rolling_shutter_place_a_step_far_below_the_frame() -> None:
    for at_s in (1.004, 1.011, 1.02):
        (step,) = find_steps(T, lit(T, [at_s], 0.010, readout_s=0.028), 0.028)
        assert abs(step.local_s - at_s) < 1e-3
        assert step.sigma_s < 2e-3


def test_light_that_drifts_and_flickers_is_no_step() -> None:
    rng = np.random.default_rng(0)
    light = (
        lit(T, [], 0.01)
        if False
        else 0.3 * np.exp(0.3 * np.sin(T))[:, None] * (1 + 0.01 * rng.standard_normal((90, 8)))
    )
    assert find_steps(T, light, 0.0) == []


def test_the_picture_is_measured_in_linear_light() -> None:
    image = np.full((64, 64), 128, np.uint8)
    frames, light = brightness([(3, image)])
    assert frames == [3]
    np.testing.assert_allclose(light, (128 / 255) ** 2.2)


def test_steps_seen_by_two_cameras_tie_their_clocks() -> None:
    steps = {"a": [Step(1.0, 3e-3, True), Step(2.0, 3e-3, False)], "b": [Step(1.5, 3e-3, True), Step(2.5, 3e-3, False)]}
    items = flash_evidence(steps, {"a": 1 / 30, "b": 1 / 30})
    found = solve(items, ["a", "b"], 60e-6, "a")
    assert found.clock("b").offset_s == pytest.approx(-0.5, abs=1e-6)
    # two instants, each seen with 3 ms by both
    assert found.clock("b").offset_sigma_s == pytest.approx(3e-3, rel=0.01)


def test_a_flash_that_one_camera_saw_ties_nothing() -> None:
    assert flash_evidence({"a": [Step(1.0, 3e-3, True)], "b": []}, {"a": 1 / 30, "b": 1 / 30}) == []
    assert flash_evidence({"a": [Step(1.0, 3e-3, True)], "b": [Step(1.0, 3e-3, False)]}, {"a": 0.03, "b": 0.03}) == []


def test_one_step_that_fits_either_of_two_is_left_out() -> None:
    steps = {"a": [Step(1.0, 3e-3, True), Step(4.0, 3e-3, True)], "b": [Step(2.0, 3e-3, True)]}
    assert flash_evidence(steps, {"a": 1 / 30, "b": 1 / 30}) == []
