from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from synthetic_scenes import Room, make_room, mirrored, way_through_the_room

from calibration.align import rig_errors
from calibration.rig_targets import ClockCorrection, TargetRig, choose_instants, solve_target_rig
from core.clock import Clock
from core.errors import GateError
from core.transforms import SE3


@pytest.fixture(scope="module")
def room() -> Room:
    return make_room(np.random.default_rng(7))


@pytest.fixture(scope="module")
def solved(room: Room) -> TargetRig:
    return solve_target_rig(room.sightings, room.targets)


def with_clocks(room: Room, sigma_s: float) -> Room:
    """The room with clocks that may be off."""
    sightings = {v: dataclasses.replace(s, clock_sigma_s=sigma_s) for v, s in room.sightings.items()}
    return dataclasses.replace(room, sightings=sightings)


def within(room: Room, solved: TargetRig, sigmas: float = 4.5) -> None:
    """Every camera lies within its stated uncertainty."""
    for camera in room.rig:
        off = camera.world_from_cam.local(solved.rig[camera.id].world_from_cam)
        sigma = np.sqrt(np.diag(solved.covariance[camera.id]))
        assert (np.abs(off) < sigmas * sigma).all(), camera.id


def test_cameras_with_unlocked_clocks_are_found_within_their_uncertainty(room: Room, solved: TargetRig) -> None:
    within(room, solved)
    errors = rig_errors(solved.rig, room.rig)
    # 20 corners on half a metre of floor at 0.2 px fix the world to some 1 mrad, at 3 m that is some mm
    assert errors.centre_m.max() < 0.010
    assert np.degrees(errors.rotation_rad.max()) < 0.2
    assert solved.outliers < 0.01
    assert max(solved.reprojection_px.values()) < 0.3, "0.2 px of noise in two coordinates has a median of 0.24"


def test_targets_of_the_room_are_located_with_their_joint_covariance(room: Room, solved: TargetRig) -> None:
    assert set(solved.world_from_target) == {"floor", "ceiling0", "ceiling1"}
    assert solved.unplaced == ("table",)
    joint = solved.target_covariance
    assert np.linalg.eigvalsh(joint).min() > -1e-12
    np.testing.assert_array_equal(joint[:6], 0)
    for k, (name, pose) in enumerate(solved.world_from_target.items()):
        off = room.world_from_target[name].local(pose)
        sigma = np.sqrt(np.diag(joint)[6 * k : 6 * k + 6])
        assert (np.abs(off) <= 4.5 * sigma + 1e-12).all(), name
        assert solved.target_sigma_m[name] == pytest.approx(sigma[3:].max())
    # a tilt of the world moves both ceiling boards alike: their heights' errors must hang together
    i, j = 6 + 5, 12 + 5
    assert abs(joint[i, j]) > 0.3 * np.sqrt(joint[i, i] * joint[j, j]) or joint[i, i] < 1e-8


def test_clocks_come_out_of_the_motion_and_the_rig_is_none_the_worse() -> None:
    late = np.array([0.030, -0.020, 0.004, -0.014])
    room = with_clocks(make_room(np.random.default_rng(8), late_s=late, seconds=2.5), 0.02)
    solved = solve_target_rig(room.sightings, room.targets)
    within(room, solved)
    found = np.array([solved.clocks[v].offset_s for v in room.rig.ids])
    assert all(clock.observable for clock in solved.clocks.values())
    # 0.2 px at 100 px/s and more is under 2 ms a point; some ten thousand points leave it below 0.1 ms
    np.testing.assert_allclose(found - found.mean(), -(late - late.mean()), atol=2e-4)
    assert abs(found.mean() + late.mean()) < 4 * np.sqrt(solved.clocks["cam0"].covariance[0, 0])


def test_without_motion_clocks_stay_at_what_was_known() -> None:
    room = make_room(np.random.default_rng(11), seconds=1.0, way=lambda t_s: way_through_the_room(0 * t_s + 1.0))
    solved = solve_target_rig(with_clocks(room, 0.01).sightings, room.targets)
    for clock in solved.clocks.values():
        assert not clock.observable
        assert abs(clock.offset_s) < 0.02
        # noise of the poses passes for a little motion
        assert 0.006 < np.sqrt(clock.covariance[0, 0]) < 0.0101


@pytest.mark.slow
def test_a_rolling_shutter_is_part_of_the_model() -> None:
    # 33 ms a picture: at a metre a second its first and last row are centimetres apart
    room = make_room(np.random.default_rng(9), seconds=2.0, row_time_s=33e-3 / 600)
    solved = solve_target_rig(room.sightings, room.targets)
    within(room, solved)
    assert max(solved.reprojection_px.values()) < 0.3
    blind = {v: dataclasses.replace(s, row_time_s=0.0) for v, s in room.sightings.items()}
    ignored = solve_target_rig(blind, room.targets)
    assert max(ignored.reprojection_px.values()) > 1.2 * max(solved.reprojection_px.values())


@pytest.mark.slow
def test_panels_of_a_marker_rig_find_their_places() -> None:
    room = make_room(np.random.default_rng(10))
    rig = room.targets["rig"]
    unknown = dataclasses.replace(rig, target_from_panel=(None,) * len(rig.panels))
    solved = solve_target_rig(room.sightings, {**room.targets, "rig": unknown})
    within(room, solved)
    first = rig.placed_panels[0].inverse()
    for k, pose in enumerate(solved.panels["rig"]):
        off = (first @ rig.placed_panels[k]).local(solved.panels["rig"][0].inverse() @ pose)
        assert np.abs(off[3:]).max() < 5 * solved.panel_sigma_m["rig"][k] + 1e-9
        assert np.abs(off[3:]).max() < 0.002
    assert max(solved.panel_px["rig"]) < 0.3


@pytest.mark.slow
def test_a_panel_that_hangs_loose_shows_in_its_residuals(room: Room) -> None:
    rng = np.random.default_rng(3)
    loose = {}
    for view, s in room.sightings.items():
        rows = (s.points.target == s.points.target_ids.index("rig")) & (s.points.point_idx >= 60)
        sway = rng.normal(0, 3.0, (s.points.frame_idx.max() + 1, 2))[s.points.frame_idx]
        xy = np.where(rows[:, None], s.points.xy_px + sway, s.points.xy_px).astype(np.float32)
        loose[view] = dataclasses.replace(s, points=dataclasses.replace(s.points, xy_px=xy))
    px = solve_target_rig(loose, room.targets).panel_px["rig"]
    assert px[3] > 3 * max(px[:3])  # the way gives in to a part of it


def test_a_camera_that_sees_nothing_in_common_is_named(room: Room) -> None:
    alone = room.sightings["cam2"]
    apart = alone.points.where(alone.points.target == alone.points.target_ids.index("ceiling1"))
    sightings = {**room.sightings, "cam2": dataclasses.replace(alone, points=apart)}
    with pytest.raises(GateError, match="cam2") as caught:
        solve_target_rig(sightings, room.targets)
    assert "cam0, cam1, cam3 | cam2" in str(caught.value)


def test_a_mirrored_floor_board_is_seen_from_behind(room: Room) -> None:
    sightings = {
        view_id: dataclasses.replace(s, points=mirrored(s.points, room.targets, "floor"))
        for view_id, s in room.sightings.items()
    }
    solved = solve_target_rig(sightings, room.targets, max_instants=16)
    assert solved.behind["floor"] > 0.9
    assert solved.rig.centres[:, 2].max() < 0, "the cameras must come out underground"


def test_a_world_entered_upside_down_puts_cameras_underground(room: Room) -> None:
    over = SE3.from_rotvec(np.array([np.pi, 0.0, 0.0]), np.zeros(3))
    floor = room.targets["floor"]
    assert floor.world_from_target is not None
    targets = {**room.targets, "floor": dataclasses.replace(floor, world_from_target=over @ floor.world_from_target)}
    solved = solve_target_rig(room.sightings, targets, max_instants=16)
    assert solved.rig.centres[:, 2].max() < 0


def test_instants_are_spread_and_the_best_of_their_stretch() -> None:
    counts = np.zeros((2, 100), int)
    counts[0], counts[1, 10:90] = 10, 10
    counts[1, [15, 45, 85]] = 20
    chosen = choose_instants(counts, 4)
    assert len(chosen) == 4 and set(chosen) >= {15, 45, 85}
    assert ((chosen >= 10) & (chosen < 90)).all()
    assert choose_instants(np.zeros((2, 5), int), 4).size == 0


def test_a_corrected_clock_is_known_best_in_the_middle_of_what_was_seen() -> None:
    clock, given_s = Clock(2.0, 1 + 3e-4), np.array([40.0, 50.0, 60.0])
    correction = ClockCorrection(0.01, 2e-4, 50.0, 0.0, np.diag([1e-3, 5e-5]) ** 2, True)
    found = correction.corrected(clock)
    np.testing.assert_allclose(found.to_session(clock.to_local(given_s)), correction.times(given_s, 0 * given_s))
    sigma = found.sigma_s(clock.to_local(given_s))
    np.testing.assert_allclose(sigma, np.hypot(1e-3, 5e-5 * np.array([10.0, 0.0, 10.0])), rtol=1e-3)
