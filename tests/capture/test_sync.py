"""Clocks from time codes and sound: against exact truth, and refused where they contradict each other."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from capture.clock_evidence import GivenClock, parse_given, sound_evidence
from capture.clock_problem import solve
from capture.session import Session, View
from capture.sound import SPEED_M_S, Sound, SoundLine, _line, gcc_phat, sound_line
from capture.sync import SyncConfig, load_clocks, load_times, run
from capture.sync_health import rate_health
from capture.video_writer import VideoWriter
from core.clock import Clock, parse_rate
from core.errors import GateError, InputError
from core.files import read_json
from core.stage import Manifest

PERIOD_S = 0.020


def recorded(clock: Clock, signal: np.ndarray, rate_hz: int, late_s: float, rng: np.random.Generator) -> Sound:
    """A recorder's samples of a signal that starts at session time zero."""
    local = np.arange(len(signal)) / rate_hz
    heard = np.interp((clock.to_session(local) - late_s) * rate_hz, np.arange(len(signal)), signal, 0.0, 0.0)
    return Sound((heard + 0.01 * rng.standard_normal(len(heard))).astype(np.float32), rate_hz, 0.0)


def noise_bursts(rng: np.random.Generator, duration_s: float, rate_hz: int) -> np.ndarray:
    samples = rng.standard_normal(int(duration_s * rate_hz))
    smooth = np.convolve(samples, np.hanning(9), "same")  # within what linear interpolation keeps
    return smooth * (0.2 + np.sin(2 * np.pi * 0.7 * np.arange(len(smooth)) / rate_hz) ** 4)


def test_gcc_phat_finds_the_lag(rng: np.random.Generator) -> None:
    signal = rng.standard_normal(4000)
    correlation = gcc_phat(signal[500:3500], signal[580:3500])
    assert int(np.argmax(correlation)) - (2920 - 1) == 80


def test_sound_gives_offset_and_rate(rng: np.random.Generator) -> None:
    rate_hz, late = 24_000, 0.006
    signal = noise_bursts(rng, 9.0, rate_hz)
    reference, other = Clock(0.1, 1 + 40e-6), Clock(-0.3, 1 - 70e-6)
    line = sound_line(recorded(reference, signal, rate_hz, 0.0, rng), recorded(other, signal, rate_hz, late, rng))
    assert line is not None
    assert line.slope == pytest.approx(reference.rate / other.rate, abs=max(3 * line.slope_sigma, 2e-6))
    expected = other.to_local(reference.to_session(np.array([line.reference_s])) + late)[0]
    assert line.at_s == pytest.approx(expected, abs=4.2e-5)  # one sample


def test_recorders_that_heard_different_things_have_no_line(rng: np.random.Generator) -> None:
    one, two = (recorded(Clock(), noise_bursts(rng, 8.0, 16_000), 16_000, 0.0, rng) for _ in range(2))
    assert sound_line(one, two) is None


def test_a_recorder_that_started_minutes_later_is_found(rng: np.random.Generator) -> None:
    rate_hz, late_s = 8000, 200.0
    signal = rng.standard_normal(int(260 * rate_hz)).astype(np.float32)
    noise = rng.standard_normal(len(signal)).astype(np.float32)
    whole = Sound(signal, rate_hz, 0.0)
    late = Sound((signal + 0.5 * noise)[int(late_s * rate_hz) :], rate_hz, 0.0)
    for reference, other, offset_s in ((whole, late, -late_s), (late, whole, late_s)):
        line = sound_line(reference, other)
        assert line is not None
        assert line.at_s - line.reference_s == pytest.approx(offset_s, abs=1e-5)
        assert line.span_s > 50 and abs(line.slope - 1) < 5 * line.slope_sigma


def test_windows_that_agree_by_chance_are_no_line(rng: np.random.Generator) -> None:
    at_s = np.arange(100.0)
    delays_s = rng.uniform(-0.05, 0.05, 100)
    delays_s[:9] = 0.01
    assert _line(np.stack([at_s, at_s + delays_s], axis=1)) is None
    assert _line(np.stack([at_s, at_s * (1 + 2e-3)], axis=1)) is None  # no recorder runs that wrong
    line = _line(np.stack([at_s, at_s * (1 + 2e-4)], axis=1))
    assert line is not None and line.num_windows == 100


def test_a_source_that_walks_slowly_tells_little_of_the_rate() -> None:
    # 4 m along the way between two cameras of perfect clocks, once within a minute: 23 ms, and a straight line
    at_s = np.arange(0, 60, 0.5)
    delay_s = 2 * np.linspace(-2, 2, len(at_s)) / SPEED_M_S
    line = _line(np.stack([at_s, at_s + delay_s], axis=1))
    assert line is not None and line.slope - 1 > 3e-4
    found = solve(sound_evidence("a", {"b": line}, 3.0, None), ["a", "b"], 60e-6, "a")
    gap = np.array([0.0, 1.0, 0.0, -1.0])
    assert abs(gap @ found.x) < 3 * np.sqrt(gap @ found.covariance @ gap)


def time_code_image(ms: int) -> np.ndarray:
    code = cv2.QRCodeEncoder.create().encode(f"MOTIFS-T={ms}")
    rows, columns = (np.flatnonzero(np.any(code == 0, axis=axis)) for axis in (1, 0))
    code = np.pad(code[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], 4, constant_values=255)
    picture = np.full((320, 320), 128, np.uint8)
    large = np.kron(code, np.ones((8, 8), np.uint8))
    picture[10 : 10 + large.shape[0], 10 : 10 + large.shape[1]] = large
    return picture


def coded_session(folder: Path, offsets: dict[str, float], *, last_wrong_ms: int = 0) -> Path:
    """A session whose videos show a time code in each frame, filmed by clocks with these offsets."""
    (folder / "videos").mkdir(parents=True)
    views = []
    for view_id, offset in offsets.items():
        with VideoWriter(folder / "videos" / f"{view_id}.mp4", (320, 320), parse_rate(30)) as writer:
            for frame in range(15):
                ms = int(np.floor((offset + frame / 30) * 1000 / 20 + 1e-9)) * 20
                writer.write(time_code_image(ms + (last_wrong_ms if frame == 14 else 0)))
        views.append(View(view_id, "room", (320, 320), video=f"videos/{view_id}.mp4", num_frames=15))
    Session(folder, "coded", "anna", tuple(views)).save()
    return folder


def test_the_stage_reads_codes_from_real_video(tmp_path: Path) -> None:
    folder = coded_session(tmp_path / "s", {"cam1": 0.305, "cam2": 0.119})
    run(folder)
    clocks = load_clocks(folder)
    assert clocks["cam1"].offset_s - clocks["cam2"].offset_s == pytest.approx(0.186, abs=2 * PERIOD_S / 6 + 1e-3)
    np.testing.assert_allclose(np.diff(load_times(folder, "cam1")), 1 / 30, rtol=1e-3)


def test_displays_that_show_different_times_are_refused(tmp_path: Path) -> None:
    folder = coded_session(tmp_path / "s", {"cam1": 0.0}, last_wrong_ms=80)
    with pytest.raises(GateError, match="cam1: time_code_violation_ms"):
        run(folder)
    assert not (folder / "01_sync").exists()


def test_a_view_without_any_clock_is_named(tmp_path: Path) -> None:
    folder = coded_session(tmp_path / "s", {"cam1": 0.1, "cam2": 0.2})
    with pytest.raises(GateError, match=r"cam1: neither time codes nor sound.*--method none"):
        run(folder, SyncConfig(method="sound"))
    run(folder, SyncConfig(method="none"))
    assert load_clocks(folder) == {"cam1": Clock(0.0, 1.0, 1e-3), "cam2": Clock(0.0, 1.0, 1e-3)}


def test_sound_that_reaches_no_view_with_codes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = coded_session(tmp_path / "s", {"cam1": 0.1})
    for name in ("mic1", "mic2"):
        with VideoWriter(folder / "videos" / f"{name}.mp4", (320, 320), parse_rate(30)) as writer:
            for _ in range(15):
                writer.write(np.full((320, 320), 128, np.uint8))
    session = Session.load(folder)
    mute = tuple(View(n, "room", (320, 320), video=f"videos/{n}.mp4", num_frames=15) for n in ("mic1", "mic2"))
    dataclasses.replace(session, views=(*session.views, *mute)).save()
    line = SoundLine(reference_s=0.2, at_s=0.2, slope=1.0, slope_sigma=1e-6, residual_s=1e-5, num_windows=9, span_s=8.0)
    monkeypatch.setattr("capture.sync._relative_evidence", lambda *_: sound_evidence("mic1", {"mic2": line}, 3.0, None))
    with pytest.raises(GateError, match=r"mic1: nothing ties its group to the others.*cam1; mic1, mic2"):
        run(folder)
    assert not (folder / "01_sync").exists()


def test_clocks_by_hand(tmp_path: Path) -> None:
    folder = coded_session(tmp_path / "s", {"cam1": 0.1, "cam2": 0.2})
    given = ("cam1=0.1,1,20", "cam2=-0.25,1.00002")
    run(folder, SyncConfig(method="given", given=given))
    assert load_clocks(folder) == {"cam1": Clock(0.1, 1.0, 0.02), "cam2": Clock(-0.25, 1.00002, 1e-3)}
    assert parse_given(["cam1=3"], Session.load(folder)) == {"cam1": GivenClock(3.0, None, None)}
    session = Session.load(folder)
    with pytest.raises(InputError, match="VIEW=OFFSET_S"):
        parse_given(["cam1=soon"], session)
    with pytest.raises(InputError, match="no such view"):
        parse_given(["cam7=1"], session)


def test_nothing_is_synchronised_before_the_stage_has_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="run `motifs sync` first"):
        load_clocks(tmp_path)


def test_the_stage_says_which_method_puts_each_clock_where(tmp_path: Path) -> None:
    folder = coded_session(tmp_path / "s", {"cam1": 0.305, "cam2": 0.119})
    run(folder)
    document = read_json(folder / "01_sync" / "clocks.json")
    assert document["clocks"]["cam1"]["methods"] == ["qr"]
    entry = document["evidence"]["cam1"]["qr"]
    assert set(entry) == {"offset_ms", "sigma_ms", "residual_ms"}
    assert entry["residual_ms"] == pytest.approx(0.0, abs=0.1)
    assert entry["sigma_ms"] == pytest.approx(1e3 * document["clocks"]["cam1"]["offset_sigma_s"], rel=0.1)


def test_given_clocks_that_the_codes_contradict_are_refused_by_name(tmp_path: Path) -> None:
    folder = coded_session(tmp_path / "s", {"cam1": 0.305, "cam2": 0.119})
    with pytest.raises(GateError, match=r"cam2: qr_given_ms (49|50|51)"):
        run(folder, SyncConfig(given=("cam2=0.168",)))
    assert not (folder / "01_sync").exists()
    run(folder, SyncConfig(given=("cam2=0.119",)))


def test_sound_that_contradicts_the_codes_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = coded_session(tmp_path / "s", {"cam1": 0.305, "cam2": 0.119})
    late = SoundLine(
        reference_s=0.2,
        at_s=0.2 + 0.186 + 0.09,
        slope=1.0,
        slope_sigma=1e-6,
        residual_s=1e-5,
        num_windows=9,
        span_s=8.0,
    )
    monkeypatch.setattr("capture.sync._relative_evidence", lambda *_: sound_evidence("cam1", {"cam2": late}, 3.0, None))
    with pytest.raises(GateError, match=r"cam2: qr_sound_against_cam1_ms (89|90)"):
        run(folder)


def sounding_session(folder: Path, offsets: dict[str, float], rng: np.random.Generator) -> Path:
    """Blank videos with the sound of one room; `silent` views have a track of nothing."""
    (folder / "videos").mkdir(parents=True)
    signal = noise_bursts(rng, 8.0, 48_000)
    views = []
    for view_id, offset in offsets.items():
        sound = recorded(Clock(offset), signal / np.abs(signal).max(), 48_000, 0.0, rng).samples
        sound = np.zeros_like(sound) if view_id.startswith("silent") else sound
        with VideoWriter(folder / "videos" / f"{view_id}.mp4", (64, 64), parse_rate(5), audio=sound) as writer:
            for _ in range(40):
                writer.write(np.full((64, 64), 128, np.uint8))
        views.append(View(view_id, "room", (64, 64), video=f"videos/{view_id}.mp4", num_frames=40, frame_rate="5"))
    Session(folder, "sounding", "anna", tuple(views)).save()
    return folder


def test_clocks_said_to_be_locked_are_checked_by_sound(tmp_path: Path, rng: np.random.Generator) -> None:
    run(
        folder := sounding_session(tmp_path / "a", {"cam1": 0.0, "cam2": 0.0, "silent3": 0.0}, rng),
        SyncConfig(method="none"),
    )
    assert Manifest.read(folder / "01_sync").data["metrics"]["unchecked"] == ["silent3"]
    folder = sounding_session(tmp_path / "b", {"cam1": 0.0, "cam2": 0.2}, rng)
    with pytest.raises(GateError, match=r"cam2: locked_sound_against_cam1_ms 200"):
        run(folder, SyncConfig(method="none"))
    run(folder, SyncConfig(method="none", check=False))
    assert Manifest.read(folder / "01_sync").data["metrics"]["unchecked"] == ["cam1", "cam2"]


def test_the_view_that_sound_compares_the_others_with_has_no_uncertainty_by_sound(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    run(folder := sounding_session(tmp_path, {"cam1": 0.0, "cam2": 0.1}, rng))
    evidence = read_json(folder / "01_sync" / "clocks.json")["evidence"]
    sigma_ms = [by_method["sound"]["sigma_ms"] for by_method in evidence.values()]
    assert sigma_ms.count(None) == 1 and max(sigma or 0 for sigma in sigma_ms) > 1


def test_a_silent_track_gives_no_clock(tmp_path: Path, rng: np.random.Generator) -> None:
    folder = sounding_session(tmp_path / "s", {"cam1": 0.0, "cam2": 0.1, "silent3": 0.0}, rng)
    with pytest.raises(GateError, match=r"silent3: neither time codes nor sound"):
        run(folder)


def test_frame_times_of_a_variable_rate_are_those_of_the_container(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    pts = [0, 10, 25, 27, 60]
    with VideoWriter(tmp_path / "videos/a.mp4", (64, 64), parse_rate(30), time_base=Fraction(1, 300)) as writer:
        for at in pts:
            writer.write(np.full((64, 64), 128, np.uint8), pts=at)
    Session(tmp_path, "s", "anna", (View("a", "room", (64, 64), video="videos/a.mp4", num_frames=5),)).save()
    run(tmp_path, SyncConfig(method="given", given=("a=2,1.001",)))
    np.testing.assert_allclose(load_times(tmp_path, "a"), 2 + 1.001 * np.array(pts) / 300, atol=1e-4)


def test_codes_are_read_in_views_that_are_pictures(tmp_path: Path) -> None:
    for view_id, offset in (("cam1", 0.305), ("cam2", 0.119)):
        (tmp_path / "images" / view_id).mkdir(parents=True)
        for frame in range(15):
            ms = int(np.floor((offset + frame / 30) * 1000 / 20 + 1e-9)) * 20
            cv2.imwrite(str(tmp_path / "images" / view_id / f"{frame:03d}.png"), time_code_image(ms))
    views = tuple(View(v, "room", (320, 320), images=f"images/{v}", num_frames=15) for v in ("cam1", "cam2"))
    Session(tmp_path, "s", "anna", views).save()
    run(tmp_path)
    clocks = load_clocks(tmp_path)
    assert clocks["cam1"].offset_s - clocks["cam2"].offset_s == pytest.approx(0.186, abs=2 * PERIOD_S / 6 + 1e-3)


def test_a_rate_that_no_recorder_has_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = coded_session(tmp_path / "s", {"cam1": 0.305, "cam2": 0.119})
    fast = SoundLine(0.2, 0.2 + 0.186, 1.002, slope_sigma=1e-6, residual_s=1e-5, num_windows=9, span_s=1e4)
    monkeypatch.setattr("capture.sync._relative_evidence", lambda *_: sound_evidence("cam1", {"cam2": fast}, 3.0, None))
    with pytest.raises(GateError, match=r"cam[12]:? clock_rate_spreads"):
        run(folder)
    # the limit is 5 spreads of 60 ppm; a clock whose rate was given may run as it likes
    clocks = {"cam1": Clock(0.0, 1 + 3.1e-4, 1e-3, 1e-6), "cam2": Clock(0.0, 1 + 2.9e-4, 1e-3, 1e-6)}
    assert [health.ok for health in rate_health(clocks, {}, 60e-6)] == [False, True]
    assert [health.item for health in rate_health(clocks, {"cam1": GivenClock(0.0, 1.00031)}, 60e-6)] == ["cam2"]
    # nothing was learnt of this one: it stays at 1
    assert rate_health({"cam1": Clock(0.0, 1 + 1e-12, 1e-3, 60e-6)}, {}, 60e-6)[0].ok


def test_the_sound_of_a_view_whose_frame_times_a_computer_wrote_is_not_used(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    folder = sounding_session(tmp_path, {"cam1": 0.0, "cam2": 0.2}, rng)
    session = Session.load(folder)
    views = []
    for i, view in enumerate(session.views):
        (folder / f"{view.id}.txt").write_text("\n".join(f"{50 + i + frame / 5}" for frame in range(40)))
        views.append(dataclasses.replace(view, frame_times=f"{view.id}.txt"))
    dataclasses.replace(session, views=tuple(views)).save()
    with pytest.raises(GateError, match="cam1: neither time codes nor sound"):
        run(folder)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rate_prior_ppm": 0.0}, "--rate-prior-ppm: it is 0.0"),
        ({"locked_sigma_ms": 0.0}, "--locked-sigma-ms: it is 0.0"),
        ({"locked_sigma_ms": float("nan")}, "--locked-sigma-ms: it is nan"),
        ({"path_difference_m": -1.0}, "--path-difference-m: it is -1.0"),
        ({"qr_span_s": -1.0}, "--qr-span-s: it is -1.0"),
        ({"sound_at_m": (1.0, 2.0, float("nan"))}, "--sound-at-m: it is"),
        ({"sound_at_m": (1.0, 2.0, 1.0)}, "--sound-at-m: .* where the cameras stand.*--rig"),
    ],
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        run(tmp_path, SyncConfig(**wrong))
