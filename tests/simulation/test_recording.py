"""A simulated session: complete, described, true to itself, and the same for the same seed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest

from capture.session import Session
from capture.targets import charuco_board, check_targets, load_targets
from capture.video import read_frames
from core.cameras import Rig
from core.clock import Clock
from core.errors import InputError
from core.files import read_json, read_npz, sha256_of_path
from core.transforms import geodesic
from simulation import sound
from simulation.recording import simulate
from simulation.time_code import Display, seen_display
from simulation.views import _foot_frames, _LastCodes
from simulation.world import CALIBRATION_S, MOTION_START_S, SimulateConfig, build_world, world_from_marker_rig

SMALL = SimulateConfig(
    seed=5, num_room_cameras=3, duration_s=9.1, frame_rate="6", room_size_px=(240, 180), foot_size_px=(160, 160),
    photo_size_px=(240, 180), num_photos=2, num_lens_stills=2,
)  # fmt: skip


def test_boards_are_told_apart_and_lie_in_the_room() -> None:
    world = build_world(SMALL)
    check_targets(list(world.room.targets.values()), "simulated")
    assert sum(target.mounting == "world" for target in world.room.targets.values()) == 1
    for name, pose in world.room.world_from_target.items():
        points = pose.apply(world.room.targets[name].points_m)
        assert (
            (np.abs(points[:, :2]) < [2.5, 2.0]).all() and (points[:, 2] > -1e-9).all() and (points[:, 2] < 2.6).all()
        )
    floor = world.room.targets["floor"]
    assert floor.world_from_target is not None
    np.testing.assert_allclose(floor.world_from_target.apply(floor.points_m)[:, 2], 0, atol=1e-12)


def test_every_room_camera_is_inside_and_sees_the_marker_rig() -> None:
    for num in (3, 8, 24):
        rig = build_world(dataclasses.replace(SMALL, num_room_cameras=num)).rig
        assert len(rig) == num and (np.abs(rig.centres) < [2.5, 2.0, 2.6]).all()
        path = world_from_marker_rig(np.linspace(*CALIBRATION_S, 40)).t
        assert (np.abs(path[:, :2]) < [2.1, 1.6]).all() and (path[:, 2] > 0.6).all()
        seen = np.stack([camera.lens.contains(camera.project(path), margin_px=6.0) for camera in rig])
        assert (seen.sum(axis=0) >= 2).mean() > 0.9 and (seen.mean(axis=1) > 0.4).all()


def test_foot_cameras_look_up_from_just_above_the_shoe() -> None:
    world = build_world(SMALL)
    for view in world.feet:
        pose = world.world_from_foot_cam(view, np.array([1.0]))[0]
        assert 0.06 < pose.t[2] < 0.2 and pose.R[2, 2] > 0.85
        vertices = world.person.mesh_at(np.array([1.0]))[0]
        assert 0.01 < np.linalg.norm(vertices - pose.t, axis=1).min() < 0.1


def test_codes_say_when_they_appeared_and_can_be_read() -> None:
    display = Display(exposure_s=0.0)
    for t_s in (0.0, 0.0199999, 0.02, 0.73):
        shown = 20 * int(np.floor(t_s / 0.02 + 1e-6))
        assert cv2.QRCodeDetector().detectAndDecode(seen_display(display, t_s))[0] == f"MOTIFS-T={shown}"


def test_codes_mix_in_an_exposure_and_along_a_rolling_shutter() -> None:
    display = Display(rate_hz=50.0, exposure_s=0.008)
    first, share = display.mixture(np.array([0.042, 0.050]))
    assert first == 1
    np.testing.assert_allclose(share, [[0.25, 0.0], [0.75, 1.0]], atol=1e-6)  # 38 to 46 ms: 2 of 8 before 40 ms
    rolling = seen_display(dataclasses.replace(display, exposure_s=0.0), 0.04, span_s=0.01)
    half = len(rolling) // 2
    np.testing.assert_array_equal(rolling[:half], seen_display(display, 0.03)[:half])
    np.testing.assert_array_equal(rolling[half:], seen_display(display, 0.05)[half:])


def test_sound_arrives_late_by_distance_on_the_recorders_own_clock() -> None:
    signal = sound.source_signal(np.random.default_rng(1), 6.0)
    clocks = Clock(0.1, 1 + 50e-6), Clock(-0.2, 1 - 30e-6)
    near, far = (
        sound.heard(np.random.default_rng(i), signal, clock, distance, 5.0)
        for i, (clock, distance) in enumerate(zip(clocks, (1.0, 4.43), strict=True))
    )
    span = slice(sound.RATE_HZ, 2 * sound.RATE_HZ)
    lags = np.fft.irfft(np.fft.rfft(far[span], 2**18) * np.conj(np.fft.rfft(near[span], 2**18)))
    lag = int(lags.argmax()) if lags.argmax() < 2**17 else int(lags.argmax()) - 2**18
    # the same sound has local time (t + d/c - offset) / rate in each; the far one is late by 10 ms and 0.3 s of clock
    middle = 1.5 * clocks[0].rate + clocks[0].offset_s
    expected = clocks[1].to_local(np.array([middle + 3.43 / sound.SPEED_M_S]))[0] - 1.5
    assert lag / sound.RATE_HZ == pytest.approx(expected, abs=5e-5)


def test_configs_that_no_room_can_hold_are_refused() -> None:
    with pytest.raises(InputError, match="num_room_cameras"):
        SimulateConfig(num_room_cameras=25)
    with pytest.raises(InputError, match="leaves no motion"):
        SimulateConfig(duration_s=8.9)


@pytest.mark.slow
def test_a_session_is_whole_true_and_repeatable(tmp_path: Path) -> None:
    one, two = tmp_path / "a" / "s", tmp_path / "b" / "s"
    first = simulate(one, SMALL)
    simulate(two, SMALL, workers=2)
    assert sha256_of_path(one) == sha256_of_path(two)
    assert simulate(one, SMALL).fingerprint == first.fingerprint
    session = Session.load(one)
    truth = {name: Clock.from_json(clock) for name, clock in read_json(one / "truth" / "clocks.json")["clocks"].items()}
    for view in session.of_role("room", "left_foot", "right_foot"):
        assert view.video is not None
        assert sum(1 for _ in read_frames(session.path(view.video))) == view.num_frames
        last = truth[view.id].to_session(np.array([(view.num_frames - 1) / 6]))[0]
        assert SMALL.duration_s - 1 / 6 - 1e-3 < last <= SMALL.duration_s
    for view in session.of_role("room"):
        assert view.keypoints is not None
        assert len(list(session.path(view.keypoints).iterdir())) == view.num_frames
    assert len(list(session.path("images/photos").iterdir())) == SMALL.num_photos
    person = read_npz(one / "truth" / "smpl.npz")
    assert person["t_s"][0] >= MOTION_START_S and person["poses"].shape == (len(person["t_s"]), 72)
    rig = Rig.from_json(read_json(one / "truth" / "rig.json"))
    _floor_board_lies_where_the_truth_says(session, rig)


def _floor_board_lies_where_the_truth_says(session: Session, rig: Rig) -> None:
    """In the compressed video, from the truth files alone."""
    floor = load_targets(session.path("targets.json"))["floor"]
    assert floor.world_from_target is not None
    errors = []
    for camera in rig:
        _, frame = next(iter(read_frames(session.path(f"videos/{camera.id}.mp4"), [20])))
        large = cv2.resize(frame, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC)
        corners, ids, _, _ = cv2.aruco.CharucoDetector(charuco_board(floor)).detectBoard(large)
        if ids is not None:
            true_px = camera.project(floor.world_from_target.apply(floor.points_m[ids.ravel()]))
            errors.append((corners.reshape(-1, 2) + 0.5) / 3 - 0.5 - true_px)
    assert errors
    assert np.median(np.linalg.norm(np.concatenate(errors), axis=1)) < 0.3


def test_foot_cameras_are_covered_as_often_as_asked_and_only_while_they_move() -> None:
    world = build_world(dataclasses.replace(SMALL, duration_s=27.0, foot_blind_share=0.2))
    for view in world.feet:
        covered, moving = world.covered(view), world.times(view) > MOTION_START_S
        assert covered.sum() == round(0.2 * moving.sum()) and not covered[~moving].any()
    left, right = (world.covered(view) for view in world.feet)
    assert (left[:160] != right[:160]).any() and not build_world(SMALL).covered("left_foot").any()


def test_codes_are_shown_at_the_end_only_if_asked_for_and_only_then() -> None:
    config = dataclasses.replace(SMALL, room_size_px=(480, 360), foot_blind_share=0.5)
    for asked in (False, True):
        world = build_world(dataclasses.replace(config, codes_at_end=asked))
        view = world.rig.ids[0]
        t_s, gray = world.times(view), np.full((360, 480, 3), 90, np.uint8)
        last = _LastCodes(world, view, t_s)
        changed = [bool((last.on(gray, i) != gray).any()) for i in range(len(t_s))]
        assert changed == (asked & (t_s >= SMALL.duration_s - 1.5)).tolist()
        foot_end = world.times("left_foot") >= SMALL.duration_s - 1.5
        assert not (world.covered("left_foot") & foot_end & asked).any()


def test_a_covered_frame_is_dark_and_a_moving_one_is_smeared_along_its_way() -> None:
    config = dataclasses.replace(SMALL, duration_s=13.0, foot_blind_share=0.3, foot_exposure_s=0.03)
    sharp = build_world(dataclasses.replace(config, foot_exposure_s=0.0))
    with_blur = [*_foot_frames(build_world(config), "left_foot", sharp.times("left_foot"))]
    without = [*_foot_frames(sharp, "left_foot", sharp.times("left_foot"))]
    covered = sharp.covered("left_foot")
    assert [np.ptp(picture) == 0 for picture in with_blur] == covered.tolist()
    pose = sharp.world_from_foot_cam("left_foot", sharp.times("left_foot"))
    turn = np.append(geodesic(pose.R[:-1], pose.R[1:]), 0.0)
    moving = int(np.argmax(np.where(covered, 0.0, turn)))
    edges = [np.abs(np.diff(pictures[moving].astype(float), axis=0)).mean() for pictures in (with_blur, without)]
    assert edges[0] < 0.8 * edges[1]
    still = int(np.argmax(sharp.times("left_foot") > MOTION_START_S - 1.0))
    np.testing.assert_array_equal(with_blur[still], without[still])
