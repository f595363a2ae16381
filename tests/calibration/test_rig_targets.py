from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from synthetic_scenes import Room, make_room, mirrored

from calibration.align import rig_errors
from calibration.rig import RigConfig, rig_health
from calibration.rig_targets import TargetRig, choose_instants, solve_target_rig
from core.errors import GateError
from core.transforms import SE3


@pytest.fixture(scope="module")
def room() -> Room:
    return make_room(np.random.default_rng(7))


@pytest.fixture(scope="module")
def solved(room: Room) -> TargetRig:
    return solve_target_rig(room.sightings, room.targets, max_instants=40)


def facts(solved: TargetRig) -> dict[str, object]:
    """The part of the stage's figures that the gates read."""
    centres = solved.rig.centres
    return {
        "reprojection_px": solved.reprojection_px,
        "height_m": dict(zip(solved.rig.ids, centres[:, 2], strict=True)),
        "position_sigma_mm": {k: 1000 * np.sqrt(np.diag(c))[3:].max() for k, c in solved.covariance.items()},
        "baseline_m": float(np.linalg.norm(centres[:, None] - centres[None], axis=-1).max()),
        "behind": solved.behind,
    }


def test_cameras_with_unlocked_clocks_are_found_within_their_uncertainty(room: Room, solved: TargetRig) -> None:
    for camera in room.rig:
        off = camera.world_from_cam.local(solved.rig[camera.id].world_from_cam)
        sigma = np.sqrt(np.diag(solved.covariance[camera.id]))
        assert (np.abs(off) < 4.5 * sigma).all(), camera.id
    errors = rig_errors(solved.rig, room.rig)
    # 20 corners on half a metre of floor at 0.2 px fix the world to some 1 mrad, at 3 m that is some mm
    assert errors.centre_m.max() < 0.010
    assert np.degrees(errors.rotation_rad.max()) < 0.2
    assert all(h.ok for h in rig_health(RigConfig(method="targets"), facts(solved)))


def test_the_marker_map_holds_targets_that_only_photographs_see(room: Room, solved: TargetRig) -> None:
    assert set(solved.world_from_target) == {"floor", "ceiling0", "ceiling1", "table"}
    assert solved.num_photos >= 6
    for name, pose in solved.world_from_target.items():
        off = np.linalg.norm(pose.t - room.world_from_target[name].t)
        assert off < 0.03 and off < 5 * solved.target_sigma_m[name] + 1e-9, name


def test_a_camera_that_sees_nothing_in_common_is_named(room: Room) -> None:
    alone = room.sightings["cam2"]
    apart = alone.points.where(alone.points.target == alone.points.target_ids.index("ceiling1"))
    sightings = {**room.sightings, "cam2": dataclasses.replace(alone, points=apart)}
    with pytest.raises(GateError, match="cam2") as caught:
        solve_target_rig(sightings, room.targets, max_instants=15)
    assert "cam0, cam1, cam3 | cam2" in str(caught.value)


def test_a_mirrored_floor_board_is_refused_and_named(room: Room) -> None:
    sightings = {
        view_id: dataclasses.replace(s, points=mirrored(s.points, room.targets, "floor"))
        for view_id, s in room.sightings.items()
    }
    solved = solve_target_rig(sightings, room.targets, max_instants=15)
    refused = [h for h in rig_health(RigConfig(method="targets"), facts(solved)) if not h.ok]
    assert refused[0].name == "seen_from_behind" and refused[0].item == "floor"
    assert any(h.name == "height_m" for h in refused), "the cameras must come out underground"


def test_a_world_entered_upside_down_puts_cameras_underground(room: Room) -> None:
    over = SE3.from_rotvec(np.array([np.pi, 0.0, 0.0]), np.zeros(3))
    floor = room.targets["floor"]
    assert floor.world_from_target is not None
    targets = {**room.targets, "floor": dataclasses.replace(floor, world_from_target=over @ floor.world_from_target)}
    solved = solve_target_rig(room.sightings, targets, max_instants=15)
    refused = [h for h in rig_health(RigConfig(method="targets"), facts(solved)) if not h.ok]
    assert [h.name for h in refused] == ["height_m"] and refused[0].value < 0


def test_the_gate_of_the_scale_refuses_cameras_closer_than_their_housings(room: Room, solved: TargetRig) -> None:
    tiny = facts(solved) | {"baseline_m": 0.04}
    assert [h.name for h in rig_health(RigConfig(method="targets"), tiny) if not h.ok] == ["baseline_m"]


def test_instants_are_spread_and_the_best_of_their_stretch() -> None:
    counts = np.zeros((2, 100), int)
    counts[0], counts[1, 10:90] = 10, 10
    counts[1, [15, 45, 85]] = 20
    chosen = choose_instants(counts, 4)
    assert len(chosen) == 4 and set(chosen) >= {15, 45, 85}
    assert ((chosen >= 10) & (chosen < 90)).all()
    assert choose_instants(np.zeros((2, 5), int), 4).size == 0
