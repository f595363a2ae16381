"""The floor and the person on it, in scans turned any way."""

from __future__ import annotations

import numpy as np
import pytest

from core.errors import InputError
from core.transforms import SE3
from fitting.scan_floor import planes
from fitting.scan_person import find_person, thinned
from fitting.stand_in import stand_in_body
from simulation.scans import ScanConfig, SimulatedScan, simulate_scan


def scan(rng: np.random.Generator, **settings: float | bool) -> tuple[np.ndarray, SimulatedScan]:
    made = simulate_scan(stand_in_body(), ScanConfig(**settings), rng)
    return np.concatenate(made.points_m), made


def wall(rng: np.random.Generator, made: SimulatedScan) -> np.ndarray:
    """Four metres by two and a half, a metre behind the person: larger than the floor."""
    points = rng.uniform([-2, 1.0, 0], [2, 1.0, 2.5], (60_000, 3)) + rng.normal(0, 0.003, (60_000, 3))
    return made.scan_from_world.apply(points)


def test_the_floor_gives_up_and_the_person(rng: np.random.Generator) -> None:
    points, made = scan(rng)
    points = np.concatenate([points, wall(rng, made)])
    turn = SE3.from_rotvec(rng.normal(size=3), rng.normal(size=3))
    found = find_person("a.ply", turn.apply(points), None, "floor", rng)
    mesh = made.posed.mesh()
    assert found.floor_seen
    assert found.points_m[:, 2].max() == pytest.approx(mesh[:, 2].max(), abs=0.015)
    assert found.points_m[:, 2].min() > 0.02  # the floor itself is not the person
    assert np.hypot(*np.ptp(found.points_m[:, :2], axis=0)) < 2.2


def test_three_points_that_are_one_make_no_plane(rng: np.random.Generator) -> None:
    """A plane without a direction would have every point on it."""
    floor = rng.uniform([-2, -2, 1], [2, 2, 1], (300, 3))
    points = np.concatenate([floor, np.full((200, 3), 3.0)])
    normal, height = planes(points, rng)[0]
    assert abs(normal[2]) == pytest.approx(1.0)
    assert height * normal[2] == pytest.approx(1.0)


def test_legs_in_dark_trousers_stay_with_their_person(rng: np.random.Generator) -> None:
    points, made = scan(rng)
    height = made.scan_from_world.inverse().apply(points)[:, 2]
    found = find_person("a.ply", points[(height < 0.2) | (height > 0.4)], None, "floor", rng)
    assert found.points_m[:, 2].min() < 0.1
    assert found.points_m[:, 2].max() > 1.3


def test_of_two_people_none_is_preferred(rng: np.random.Generator) -> None:
    points, made = scan(rng)
    beside = made.scan_from_world.R @ [2.0, 0.0, 0.0]
    with pytest.raises(InputError, match=r"2 as tall as a person stand in it.*cut the scan"):
        find_person("a.ply", np.concatenate([points, points + beside]), None, "floor", rng)
    # a lamp is as tall, and thin
    lamp = made.scan_from_world.apply(rng.uniform([1.2, 0.0, 0.0], [1.22, 0.02, 1.8], (3000, 3)))
    assert find_person("a.ply", np.concatenate([points, lamp]), None, "floor", rng).floor_seen


def test_an_axis_is_needed_without_a_floor(rng: np.random.Generator) -> None:
    points, made = scan(rng, floor=False, num_cameras=1)
    upright = made.scan_from_world.inverse().apply(points)
    with pytest.raises(InputError, match=r"no floor .* --scan-up z"):
        find_person("a.ply", upright, None, "floor", rng)
    found = find_person("a.ply", upright, None, "z", rng)
    assert not found.floor_seen
    assert np.ptp(found.points_m[:, 2]) == pytest.approx(np.ptp(made.posed.mesh()[:, 2]), abs=0.04)
    with pytest.raises(InputError, match="nothing in it is as tall as a person along y"):
        find_person("a.ply", upright, None, "y", rng)


def test_an_empty_room_has_nobody(rng: np.random.Generator) -> None:
    floor = rng.uniform([-2, -2, 0], [2, 2, 0], (50_000, 3)) + rng.normal(0, 0.002, (50_000, 3))
    with pytest.raises(InputError, match="no floor with a person"):
        find_person("a.ply", floor, None, "floor", rng)


def test_thinning_keeps_points_of_the_scan(rng: np.random.Generator) -> None:
    points = rng.normal(size=(5000, 3)) * 0.05
    kept = thinned(points, rng)
    cells = np.floor(points[kept] / 0.015)
    assert len(np.unique(cells, axis=0)) == len(kept) < 5000
