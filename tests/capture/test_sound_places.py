"""Sound at known places: its ways drop out where cameras are many or the source is told, else they stay."""

from __future__ import annotations

import numpy as np
import pytest

from capture.clock_problem import solve
from capture.sound import SPEED_M_S, SoundLine
from capture.sound_places import Room, located_sound
from core.clock import Clock

PRIOR = 60e-6


def scene(seed: int, num_cameras: int, num_places: int) -> tuple[dict[str, np.ndarray], np.ndarray, dict[str, Clock]]:
    """Cameras around a room, places of sounds, clocks."""
    rng = np.random.default_rng(seed)
    angle = np.arange(num_cameras) * 2 * np.pi / num_cameras + rng.uniform(0, 1)
    cameras = {f"c{i}": np.array([2.4 * np.cos(a), 1.9 * np.sin(a), (2.2, 1.1)[i % 2]]) for i, a in enumerate(angle)}
    places = rng.uniform([-1.5, -1.2, 0.3], [1.5, 1.2, 1.7], (num_places, 3))
    clocks = {view: Clock(rng.uniform(-30, 30), 1 + rng.normal(0, PRIOR)) for view in cameras}
    return cameras, places, clocks


def heard_lines(
    seed: int, cameras: dict[str, np.ndarray], places: np.ndarray, clocks: dict[str, Clock]
) -> dict[str, SoundLine]:
    """Delays of 40 sounds within 20 s, measured to a hundredth of a millisecond."""
    rng = np.random.default_rng([seed, 1])
    emitted, place = 40 + np.arange(40) * 0.5, places[np.arange(40) * len(places) // 40]
    arrival = {v: emitted + np.linalg.norm(place - x, axis=1) / SPEED_M_S for v, x in cameras.items()}
    local = {v: clocks[v].to_local(t + 1e-5 * rng.standard_normal(40)) for v, t in arrival.items()}
    lines = {}
    for view in list(cameras)[1:]:
        slope, level = np.polyfit(local["c0"] - local["c0"].mean(), local[view], 1)
        table = np.stack([local["c0"], local[view]], axis=1)
        lines[view] = SoundLine(float(local["c0"].mean()), float(level), float(slope), 1e-5, 1e-3, 40, 19.5, table)
    return lines


def errors_ms(seed: int, num_cameras: int, num_places: int, *, told: bool) -> tuple[np.ndarray, np.ndarray]:
    """Errors of the clocks against the first camera's, and what is stated."""
    cameras, places, clocks = scene(seed, num_cameras, num_places)
    room = Room(cameras, tuple(places[0].tolist()) if told else None)
    item = located_sound("c0", heard_lines(seed, cameras, places, clocks), room)
    found = solve([item], list(cameras), PRIOR, "c0")
    at_s = {view: float(clock.to_local(np.array([50.0]))[0]) for view, clock in clocks.items()}
    times, covariance = found.contrast(at_s, "c0")
    # the first clock is held, with its rate: it counts its own seconds
    return 1e3 * times[1:], 1e3 * np.sqrt(np.diag(covariance))[1:]


@pytest.mark.parametrize("seed", range(3))
def test_a_source_whose_place_is_told_leaves_no_ways(seed: int) -> None:
    error, sigma = errors_ms(seed, 4, 1, told=True)
    assert np.abs(error).max() < 1.0  # 0.1 m about the place told are 0.3 ms; the rates' prior adds as much
    assert (np.abs(error) < 3 * sigma).all()


@pytest.mark.parametrize("seed", range(3))
def test_many_cameras_and_places_tell_ways_and_clocks(seed: int) -> None:
    error, sigma = errors_ms(seed, 8, 5, told=False)
    assert np.abs(error).max() < 1.0
    assert (np.abs(error) < 3 * sigma).all()


def test_four_cameras_and_one_place_do_not_and_say_so() -> None:
    error, sigma = errors_ms(0, 4, 1, told=False)
    assert (sigma > 3.0).all()
    assert (np.abs(error) < 3 * sigma).all()


def walk_errors(seed: int) -> np.ndarray:
    """Errors of six clocks by the steps of somebody who walks about for half a minute, in their stated deviations."""
    rng = np.random.default_rng(seed)
    angle = np.arange(6) * np.pi / 3
    places = np.stack([3.5 * np.cos(angle), 3 * np.sin(angle), rng.uniform(1.5, 2.6, 6)], axis=1)
    cameras = {f"c{i}": place for i, place in enumerate(places)}
    clocks = {view: Clock(rng.uniform(-2, 2), 1 + rng.normal(0, 30e-6)) for view in cameras}
    clocks["c0"] = Clock()  # it is held, with its rate
    emitted, at, goal, way = 0.3 + np.arange(0, 30, 0.5), np.zeros(2), np.zeros(2), []
    for _ in emitted:
        if np.linalg.norm(goal - at) < 0.5:
            goal = rng.uniform([-2.5, -2.0], [2.5, 2.0])
        at = at + (goal - at) * min(0.4 / np.linalg.norm(goal - at), 1.0)
        way.append([*at, 1.2])
    local = {}
    for view, place in cameras.items():
        arrival = emitted + np.linalg.norm(np.array(way) - place, axis=1) / SPEED_M_S
        local[view] = clocks[view].to_local(arrival + 4e-5 * rng.standard_normal(len(emitted)))
    lines = {}
    for view in list(cameras)[1:]:
        middle = float(local["c0"].mean())
        slope, level = np.polyfit(local["c0"] - middle, local[view], 1)
        table = np.stack([local["c0"], local[view]], axis=1)
        lines[view] = SoundLine(middle, float(level), float(slope), 1e-5, 1e-3, 60, 29.5, table)
    found = solve([located_sound("c0", lines, Room(cameras))], list(cameras), PRIOR, "c0")
    deviations = []
    for session_s in (0.0, 30.0):
        at_s = {view: float(clock.to_local(np.array([session_s]))[0]) for view, clock in clocks.items()}
        times, covariance = found.contrast(at_s, "c0")
        deviations.append(np.abs(times[1:]) / np.sqrt(np.diag(covariance))[1:])
    return np.array(deviations)


@pytest.mark.parametrize("seed", [14, 24])
def test_who_walks_about_is_not_taken_to_the_wrong_side_of_the_room(seed: int) -> None:
    assert walk_errors(seed).max() < 4
