"""The rig's mathematics end to end: worlds, and the failure scenes that the quick tests of the gates do not solve."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from calibration.align import rig_errors
from calibration.rig_health import RigLimits
from calibration.rig_import import floor_under, measured_on
from calibration.rig_solution import on_floor, solve_from_targets
from capture.targets import Target
from core.errors import InputError, MotifsError
from core.transforms import SE3
from simulation.failure_scenes import FAILURES, see_walk
from simulation.target_scenes import film_all, room_stage


def test_floor_markers_and_a_walk_tell_the_same_floor() -> None:
    rng = np.random.default_rng(8)
    stage = room_stage(seconds=2.0)
    made = film_all(stage, rng)
    solved = solve_from_targets(made.sightings, made.targets, world="floor_markers", floor_markers=("floor",))
    truth = {camera.id: camera.centre[2] for camera in made.rig}
    for camera in solved.rig:
        sigma = np.sqrt(solved.covariance[camera.id][5, 5])
        # a board of half a metre tells the vertical to some mrad
        assert abs(camera.centre[2] - truth[camera.id]) < 4 * sigma + 0.002, camera.id
    assert rig_errors(solved.rig, made.rig, align=True).centre_m.max() < 0.01
    assert abs(solved.world_from_target["floor"].t[2]) < 0.005

    person = see_walk(made.rig, rng)
    walked = on_floor(solved, floor_under(solved.rig, person))
    for camera in walked.rig:
        assert abs(camera.centre[2] - truth[camera.id]) < 0.05, camera.id
    assert measured_on(walked, person).facts["stature_m"] == pytest.approx(1.7, rel=0.1)
    assert all(h.ok for h in measured_on(walked, person).health(RigLimits(known_stature_m=1.7), "targets"))
    with pytest.raises(InputError, match="floor-markers"):
        solve_from_targets(made.sightings, made.targets, world="floor_markers")


def test_a_board_with_two_poses_is_left_out_with_the_reason() -> None:
    stage = room_stage(seconds=2.0)
    marker = Target("tag", "marker", "static", marker_m=0.1, dictionary="DICT_5X5_1000", first_marker=900)
    stage = dataclasses.replace(
        stage,
        targets={**stage.targets, "tag": marker},
        places={**stage.places, "tag": SE3(np.eye(3), np.array([-0.2, 0.6, 2.6]))},
    )
    made = film_all(stage, np.random.default_rng(8))
    alone = dict(made.sightings)
    for view in ("cam0", "cam1", "cam2"):
        points = alone[view].points
        hidden = points.where(points.target != points.target_ids.index("tag"))
        alone[view] = dataclasses.replace(alone[view], points=hidden)
    solved = solve_from_targets(alone, made.targets)
    assert list(solved.world_from_target) == ["floor", "ceiling0", "ceiling1"]
    assert len(solved.target_covariance) == 6 * 3
    assert "two poses" in solved.facts["unplaced"]["tag"]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in FAILURES if not name.startswith("imported")])
def test_no_failure_is_silent(name: str) -> None:
    scene = FAILURES[name](np.random.default_rng(5))
    try:
        world = "target" if scene.gravity else "first_camera"
        solution = solve_from_targets(scene.scene.sightings, scene.scene.targets, world=world)  # type: ignore[arg-type]
        solution = solution if scene.person is None else measured_on(solution, scene.person)
    except MotifsError as refusal:
        assert any(blamed in str(refusal) for blamed in scene.blame)
        return
    refused = [h for h in solution.health(RigLimits(), "targets") if not h.ok]
    if refused:
        assert any(blamed in f"{refused[0].item} {refused[0]}" for blamed in scene.blame), refused
        return
    assert scene.solvable
    if scene.gravity:
        sigma = max(float(np.sqrt(np.linalg.eigvalsh(c[3:, 3:])[-1])) for c in solution.covariance.values())
        assert rig_errors(solution.rig, scene.scene.rig).centre_m.max() < 5 * sigma + 0.001
