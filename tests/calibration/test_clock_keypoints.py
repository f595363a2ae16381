"""Clocks refined on a moving person: exact keypoints, honest bounds, derivatives, real cameras shifted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from calibration.clock_keypoints import ClockRefinement, Track, _Problem, refine_clocks
from calibration.formats import read_calibration
from calibration.rig_import import SeenPerson, with_clocks
from calibration.rig_solution import RigSolution
from capture.detectors import read_keypoints
from core.cameras import Camera, Lens, Rig
from core.clock import Clock
from core.errors import GateError
from core.skeletons import skeleton_named
from core.transforms import SE3


def ring(num: int) -> Rig:
    """Cameras around a room, looking at its middle."""
    lens = Lens("radtan", (800, 600), (500.0, 500.0), (400.0, 300.0), (-0.1, 0.02, 0.0, 0.0, 0.0))
    cameras = []
    for k, a in enumerate(np.arange(num) * 2 * np.pi / num):
        centre = np.array([3 * np.cos(a), 3 * np.sin(a), 1.5 + 0.4 * (k % 2)])
        z = np.array([0, 0, 1.0]) - centre
        z /= np.linalg.norm(z)
        x = np.cross(z, [0, 0, 1.0])
        x /= np.linalg.norm(x)
        R = np.stack([x, np.cross(z, x), z])
        cameras.append(Camera(f"cam{k}", lens, SE3(R, -R @ centre)))
    return Rig(tuple(cameras))


def person(t_s: np.ndarray) -> np.ndarray:
    """Ten joints of a person who sways and swings: (n, 10, 3)."""
    phase = np.arange(10)[:, None] * np.array([0.7, 1.1, 0.4])
    speed = np.array([3.1, 2.3, 2.7]) * (1 + 0.1 * np.arange(10)[:, None])
    swing = 0.25 * np.sin(speed * t_s[:, None, None] + phase)
    return swing + np.stack([0 * np.arange(10), 0 * np.arange(10), np.linspace(0.1, 1.7, 10)], axis=1)


def seen(rng: np.random.Generator, rig: Rig, clocks: list[Clock], *, noise_px: float, bias_px: float) -> list[Track]:
    """What each camera saw in six seconds; each detects every joint a little elsewhere."""
    tracks = []
    for camera, clock in zip(rig, clocks, strict=True):
        local_s = np.arange(180) / 30
        xy = camera.project(person(clock.to_session(local_s)))
        xy = xy + noise_px * rng.standard_normal(xy.shape) + bias_px * rng.standard_normal(xy.shape[1:])
        tracks.append(Track(local_s, xy, np.ones(xy.shape[:2])))
    return tracks


def drawn(seed: int) -> tuple[Rig, list[Clock], list[Track]]:
    rng = np.random.default_rng(seed)
    rig = ring(4)
    clocks = [Clock(), *(Clock(rng.uniform(-0.05, 0.05), 1 + rng.normal(0, 60e-6)) for _ in range(3))]
    return rig, clocks, seen(rng, rig, clocks, noise_px=2.0, bias_px=6.0)


def test_exact_keypoints_give_exact_clocks() -> None:
    rig, clocks = ring(3), [Clock(), Clock(0.013, 1 + 4e-4), Clock(-0.041, 1 - 2e-4)]
    tracks = seen(np.random.default_rng(0), rig, clocks, noise_px=0.0, bias_px=0.0)
    found = refine_clocks(rig, tracks, [Clock()] * 3, ClockRefinement(rate_sigma_ppm=1000.0, sigma_px=0.1))
    for clock, truth in zip(found.clocks, clocks, strict=True):
        # a quadratic through nine frames leaves 0.1 % of the way of a swing
        at_s = np.array([1.0, 5.0])
        np.testing.assert_allclose(clock.to_session(at_s), truth.to_session(at_s), atol=2e-4)
    assert (found.after_px < 0.3).all() and (found.before_px > 2 * found.after_px).all()


def test_errors_lie_within_what_is_stated() -> None:
    ratios = []
    for seed in range(12):
        rig, clocks, tracks = drawn(seed)
        found = refine_clocks(rig, tracks, [Clock()] * 4)
        for clock, truth in zip(found.clocks[1:], clocks[1:], strict=True):
            at_s = np.array([clock.measured_at_s])
            error = float((clock.to_session(at_s) - truth.to_session(at_s))[0])
            assert abs(error) < 3e-3  # a tenth of a frame
            ratios.append(error / clock.offset_sigma_s)
    assert np.mean(np.abs(ratios) <= 1.96) > 0.85  # 36 errors: below that with 1 % chance
    assert np.std(ratios) > 0.3


def test_derivatives_are_those_of_the_residuals() -> None:
    rig, config = ring(4), ClockRefinement()
    tracks = seen(np.random.default_rng(3), rig, [Clock()] * 4, noise_px=0.0, bias_px=0.0)
    instants = np.arange(1.0, 4.0, 0.1)

    def problem(shift: float) -> _Problem:
        moved = [track.at(instants - (shift if v == 2 else 0.0), config.min_score) for v, track in enumerate(tracks)]
        places, velocities = (np.stack(part) for part in zip(*moved, strict=True))
        return _Problem.of(rig, places, velocities, instants, 2.5, None, config)

    here, ahead, behind = problem(0.0), problem(1e-4), problem(-1e-4)
    where, J, _, _ = here._joint(4, config)
    numeric = (ahead._joint(4, config)[2] - behind._joint(4, config)[2]) / 2e-4
    assert where[4] == 4  # the offset of the third view
    scale = np.abs(numeric).max()
    np.testing.assert_allclose(J[:, :, 4], numeric, atol=0.02 * scale)


def test_a_person_seen_by_one_camera_at_a_time_tells_nothing() -> None:
    rig, _, tracks = drawn(1)
    alone = [
        Track(t.local_s, np.where((np.arange(180) // 45 == v)[:, None, None], t.xy_px, np.nan), t.score)
        for v, t in enumerate(tracks)
    ]
    with pytest.raises(GateError, match="hardly any joint is seen by two cameras"):
        refine_clocks(rig, alone, [Clock()] * 4)


def test_views_that_share_no_time_are_refused() -> None:
    rig, _, tracks = drawn(1)
    with pytest.raises(GateError, match="the views share 0 instants"):
        refine_clocks(rig, tracks, [Clock(), Clock(), Clock(), Clock(20.0)])


def test_real_cameras_shifted_by_known_amounts_come_back(shared: Path) -> None:
    folder = shared / "data" / "pose2sim_single"
    rig = read_calibration(folder / "calibration" / "Calib.qca.txt")
    found = [
        read_keypoints(folder / "pose2d_body25b_associated" / f"cam0{k}_json", "openpose", skeleton_named("BODY_25B"))
        for k in range(1, 5)
    ]
    xy, score = ([getattr(k, name)[:, 0].astype(float) for k in found] for name in ("xy_px", "score"))
    t_s = np.arange(100) / 60

    def solved(shift_s: np.ndarray) -> np.ndarray:
        tracks = [Track(t_s - s, x, c) for s, x, c in zip(shift_s, xy, score, strict=True)]
        clocks = refine_clocks(rig, tracks, [Clock()] * 4).clocks
        return np.array([float(c.to_session(np.array([0.8 - s]))[0]) for c, s in zip(clocks, shift_s, strict=True)])

    plain, shifted = solved(np.zeros(4)), solved(np.array([0.0, 0.0071, -0.0213, 0.0128]))
    assert np.abs(plain - 0.8).max() < 6e-3  # hardware-synchronised: a third of a frame
    np.testing.assert_allclose(shifted, plain, atol=1e-3)


def test_the_rig_stage_weighs_the_person_against_synchronisation() -> None:
    rig, clocks, tracks = drawn(2)
    t_s = np.arange(0.5, 5.5, 1 / 30)
    xy = np.stack([track.at(t_s, 0.3)[0] for track in tracks])
    person = SeenPerson(xy, np.ones(xy.shape[:3]), t_s, skeleton_named("COCO_17"), "cam0", tuple(tracks))
    solution = RigSolution(rig, {}, {}, np.zeros((0, 0)))
    loose, tight = ({v: Clock(0.0, 1.0, sigma, 60e-6) for v in rig.ids} for sigma in (0.1, 1e-6))
    found = with_clocks(solution, person, loose)
    for view, truth in zip(rig.ids[1:], clocks[1:], strict=True):
        corrected = found.clocks[view].corrected(Clock())
        at_s = np.array([found.clocks[view].middle_s])
        assert float(corrected.to_session(at_s)[0]) == pytest.approx(float(truth.to_session(at_s)[0]), abs=3e-3)
        assert found.facts["clock_correction_ms"][view] == pytest.approx(1e3 * found.clocks[view].offset_s)
    assert not found.clocks["cam0"].observable
    held = with_clocks(solution, person, tight)
    assert max(abs(c.offset_s) for c in held.clocks.values()) < 1e-5
