from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
import pytest

from calibration.evidence import Evidence, gather_evidence
from calibration.gates import Finding, GateLimits, find_contradictions, print_scales, seen_from_behind, worst_of
from capture.targets import Target
from core.cameras import Rig
from core.transforms import SE3
from simulation.target_scenes import (
    Stage,
    TargetScene,
    carried_rig,
    film,
    film_all,
    joined,
    mirrored,
    room_stage,
    way_through_the_room,
)


class Known:
    """A carried target's true way."""

    def __init__(self, way: Callable[[np.ndarray], SE3]) -> None:
        self.way = way

    def at(self, t_s: np.ndarray) -> SE3:
        return self.way(t_s)


def against(scene: TargetScene, rig: Rig | None = None, late_s: Mapping[str, float] | None = None) -> Evidence:
    """The scene's points against the true rig or another, and the true ways and places."""
    times = {view: seen.t_s + (late_s or {}).get(view, 0.0) for view, seen in scene.sightings.items()}
    points = {view: seen.points for view, seen in scene.sightings.items()}
    ways = {"rig": Known(way_through_the_room)}
    return gather_evidence(rig or scene.rig, points, times, scene.targets, scene.world_from_target, ways)


def moved_panels(rig: Target, places: list[SE3]) -> Target:
    return dataclasses.replace(rig, target_from_panel=tuple(places))


def first(evidence: Evidence) -> Finding:
    return find_contradictions(evidence)[0]


@pytest.fixture(scope="module")
def stage() -> Stage:
    return room_stage(seconds=4.0)


@pytest.fixture(scope="module")
def scene(stage: Stage) -> TargetScene:
    return film_all(stage, np.random.default_rng(21))


def test_a_right_rig_is_contradicted_by_nothing(stage: Stage, scene: TargetScene) -> None:
    assert find_contradictions(against(scene), GateLimits(0.0, 0.0, 0.0, 0.0)) == []
    assert set(seen_from_behind(against(scene)).values()) == {0.0}
    for name, scale in print_scales(against(scene)).items():
        assert abs(scale.ratio - 1) < 4.5 * scale.sigma, name


def test_a_camera_that_was_pushed_is_named_with_the_time(stage: Stage, scene: TargetScene) -> None:
    rng = np.random.default_rng(3)
    camera, seen = stage.rig["cam1"], scene.sightings["cam1"]
    push = np.array([0.0, np.radians(1.0), 0.0, 0.02, 0.0, 0.01])
    pushed = dataclasses.replace(camera, cam_from_world=camera.world_from_cam.retract(push).inverse())
    after = dataclasses.replace(film(stage, pushed, rng), t_s=seen.t_s)
    moved = dataclasses.replace(scene, sightings={**scene.sightings, "cam1": joined(seen, after, 2.3)})
    found = first(against(moved))
    assert (found.name, found.item) == ("camera_moved_px", "cam1")
    # 1 degree at 437 px is 7.6 px; the time is known to a block, a sixteenth of four seconds
    assert 5 < found.value < 12
    told = float(found.text.split("about ")[1].split(" s")[0])
    assert abs(told - 2.3) < 0.3


def test_a_static_board_that_came_down_is_named(stage: Stage, scene: TargetScene) -> None:
    lower = stage.places["ceiling1"].retract(np.array([0.0, 0.02, 0.0, 0.0, 0.0, -0.03]))
    later = film_all(dataclasses.replace(stage, places={**stage.places, "ceiling1": lower}), np.random.default_rng(21))
    joint = {view: joined(seen, later.sightings[view], 1.5) for view, seen in scene.sightings.items()}
    found = first(against(dataclasses.replace(scene, sightings=joint)))
    assert (found.name, found.item) == ("target_moved_px", "ceiling1")


def test_a_lens_of_another_zoom_is_named_with_its_error(scene: TargetScene) -> None:
    cameras = list(scene.rig)
    fx, fy = cameras[2].lens.focal_px
    lens = dataclasses.replace(cameras[2].lens, focal_px=(0.97 * fx, 0.97 * fy))
    cameras[2] = dataclasses.replace(cameras[2], lens=lens)
    found = first(against(scene, Rig(tuple(cameras))))
    assert (found.name, found.item) == ("focal_percent", "cam2")
    assert found.value == pytest.approx(3.0, abs=0.5) and "longer" in found.text


def test_a_clock_that_is_off_is_named_with_its_error(scene: TargetScene) -> None:
    found = first(against(scene, late_s={"cam3": 0.03}))
    assert (found.name, found.item) == ("clock_ms", "cam3")
    assert found.value == pytest.approx(30, abs=3) and "fast" in found.text


def test_prints_of_two_sizes_contradict_each_other(scene: TargetScene) -> None:
    targets = {**scene.targets, "rig": carried_rig(0.06 * 1.05)}
    found = first(against(dataclasses.replace(scene, targets=targets)))
    assert found.name == "scale_percent" and "rig" in found.item
    assert found.value == pytest.approx(5, abs=1)


@pytest.mark.parametrize("since_s", [0.0, 1.5])
def test_a_panel_that_sits_elsewhere_is_named_with_how_far(stage: Stage, scene: TargetScene, since_s: float) -> None:
    whole = scene.targets["rig"]
    panels = list(whole.placed_panels)
    panels[2] = panels[2] @ SE3.from_rotvec(np.array([0.0, np.radians(4.0), 0.0]), np.zeros(3))
    bent = dataclasses.replace(stage, targets={**stage.targets, "rig": moved_panels(whole, panels)})
    later = film_all(bent, np.random.default_rng(21))
    joint = {view: joined(seen, later.sightings[view], since_s) for view, seen in scene.sightings.items()}
    found = first(against(dataclasses.replace(scene, sightings=joint)))
    assert (found.name, found.item) == ("panel_moved_px", "panel 2 of rig")
    # it is linearised: of 4 degrees about an edge 0.36 m wide, 0.07 of them are lost
    assert float(found.text.split(" and ")[1].split(" deg")[0]) == pytest.approx(4.0, abs=0.4)
    assert f"{since_s:.0f}" in found.text if since_s == 0 else abs(float(found.text.split("about ")[1][:3]) - 1.5) < 0.3


def test_what_a_camera_does_bends_no_rig(stage: Stage, scene: TargetScene) -> None:
    pushed = scene.rig["cam1"].world_from_cam.retract(np.array([0.0, np.radians(1.0), 0.0, 0.02, 0.0, 0.01]))
    cameras = [dataclasses.replace(c, cam_from_world=pushed.inverse()) if c.id == "cam1" else c for c in scene.rig]
    assert "panel_moved_px" not in {f.name for f in find_contradictions(against(scene, Rig(tuple(cameras))))}


def test_a_mirrored_print_is_seen_through_its_back(scene: TargetScene) -> None:
    flipped = {
        view: dataclasses.replace(seen, points=mirrored(seen.points, scene.targets, "ceiling0"))
        for view, seen in scene.sightings.items()
    }
    over = SE3.from_rotvec(np.array([0.0, np.pi, 0.0]), np.array([scene.targets["ceiling0"].size_m[0], 0.0, 0.0]))
    places = {**scene.world_from_target, "ceiling0": scene.world_from_target["ceiling0"] @ over}
    behind = seen_from_behind(against(dataclasses.replace(scene, sightings=flipped, world_from_target=places)))
    assert behind == {"floor": 0.0, "ceiling0": 1.0, "ceiling1": 0.0, "rig": 0.0}


def test_the_worst_of_a_table_is_the_missing_value() -> None:
    assert worst_of("a", {"x": 1.0, "y": None}, 5.0, "max", "do").item == "y"
    assert worst_of("a", {"x": 1.0, "y": 0.5}, 0.0, "min", "do").item == "y"
