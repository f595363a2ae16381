"""`motifs film`: videos of a small fitted session, looked at pixel by pixel, and the figure of a fit."""

from __future__ import annotations

import dataclasses
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from fitted import playback_of, sequence_of
from test_fit import STEP_S, room_rig, walk

from calibration.egomotion import Egomotion
from capture.session import Session, View
from capture.video import VideoWriter, probe, read_frames
from core.clock import Timeline
from core.errors import InputError
from core.files import read_json, write_json, write_npz
from core.skeletons import HALPE_26
from core.transforms import SE3
from fitting.charts import fit_figure
from fitting.film import Shot, instants_to_draw, write_stills
from fitting.films import FilmConfig, run
from fitting.landmarks import Landmarks
from fitting.observations import Observations
from fitting.raster import see
from fitting.sequence import Reason, SmplSequence
from fitting.smpl import PosedBody
from fitting.stand_in import stand_in_body

NUM_FRAMES, FIRST_S, GRAY = 12, 7.0, 200
LATE_S = 0.4 * STEP_S  # the second camera films between the instants of the fit
WRONG = 8
SIZE_PX = (800, 600)


@pytest.fixture(scope="module")
def truth() -> PosedBody:
    return walk(stand_in_body(), NUM_FRAMES)


@pytest.fixture(scope="module")
def sequence(truth: PosedBody) -> SmplSequence:
    exact = sequence_of(truth, FIRST_S + STEP_S * np.arange(NUM_FRAMES))
    reasons, covariance, valid = exact.reasons.copy(), exact.joint_covariance.copy(), exact.joint_valid.copy()
    reasons[WRONG], covariance[WRONG:, 21], valid[WRONG:, 21] = int(Reason.MISFIT), 0.2**2 * np.eye(3), False
    return dataclasses.replace(
        exact, reasons=reasons, joint_covariance=covariance, joint_valid=valid, frame_valid=reasons == 0
    )


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory, truth: PosedBody, sequence: SmplSequence) -> Path:
    """Two room cameras and a foot camera that film nothing but gray; the second one two frames longer than the fit."""
    folder, rig = tmp_path_factory.mktemp("view") / "s", room_rig().subset(["cam0", "cam1"])
    lengths = {"cam0": NUM_FRAMES, "cam1": NUM_FRAMES + 2, "left_foot": NUM_FRAMES}
    views = [View(name, "room", SIZE_PX, f"videos/{name}.mp4", num_frames=lengths[name]) for name in rig.ids]
    views.append(View("left_foot", "left_foot", SIZE_PX, "videos/left_foot.mp4", num_frames=NUM_FRAMES))
    clock = {"rate": 1.0, "offset_sigma_s": 0.0, "rate_sigma": 0.0, "measured_at_s": 0.0}
    offsets = {"cam0": FIRST_S, "cam1": FIRST_S - STEP_S + LATE_S, "left_foot": FIRST_S}
    write_json(folder / "01_sync/clocks.json", {"clocks": {v: {**clock, "offset_s": t} for v, t in offsets.items()}})
    for view, num in lengths.items():
        write_npz(folder / f"01_sync/{view}.times.npz", {"t_local_s": STEP_S * np.arange(num)})
        with VideoWriter(folder / f"videos/{view}.mp4", SIZE_PX, Fraction(30)) as writer:
            for _ in range(num):
                writer.write(np.full(SIZE_PX[::-1], GRAY, np.uint8))
    Session(folder, "s", "anna", tuple(views)).save()
    write_json(folder / "04_rig/rig.json", rig.to_json())
    write_json(folder / "03_lenses/lenses.json", {"lenses": {"left_foot": rig["cam0"].lens.to_json()}})
    pose = SE3(np.tile(rig["cam0"].world_from_cam.R, (NUM_FRAMES, 1, 1)), np.tile(rig["cam0"].centre, (NUM_FRAMES, 1)))
    valid, filled = np.arange(NUM_FRAMES) != 3, np.arange(NUM_FRAMES) == 5
    covariance = np.tile(np.eye(6), (NUM_FRAMES, 1, 1))
    times = FIRST_S + STEP_S * np.arange(NUM_FRAMES)
    way = Egomotion(times, pose, covariance, valid, filled, np.zeros(NUM_FRAMES, dtype=int))
    (folder / "05_egomotion").mkdir()
    way.save(folder / "05_egomotion/left_foot.npz")
    seen_by(truth).save(folder / "06_points3d/observations.npz")
    sequence.save(folder / "07_smpl/smpl.npz")
    return folder


def seen_by(truth: PosedBody) -> Observations:
    """Exact keypoints of both room cameras."""
    rig = room_rig().subset(["cam0", "cam1"])
    xy_px = rig.project(Landmarks.of(stand_in_body(), HALPE_26).positions(truth))
    timeline = Timeline(FIRST_S, Fraction(30), NUM_FRAMES)
    return Observations(timeline, rig.ids, xy_px, np.ones(xy_px.shape[:-1]), HALPE_26)


@pytest.fixture(scope="module")
def shown(fitted: Path) -> Path:
    """What `motifs film` makes of it, without keypoints."""
    run(fitted, FilmConfig(keypoints=False))
    return fitted / "08_film"


def film(path: Path) -> list[np.ndarray]:
    return [image for _, image in read_frames(path, color="bgr")]


def painted(image: np.ndarray) -> np.ndarray:
    """Where a picture is no longer gray, between the strips of text."""
    changed = np.abs(image.astype(int) - GRAY).max(axis=-1) > 25
    changed[:40], changed[-30:], changed[:, :10], changed[:, -10:] = False, False, False, False
    return changed


def test_every_frame_has_the_body_where_the_camera_saw_it(shown: Path, truth: PosedBody) -> None:
    camera, faces = room_rig()["cam0"], stand_in_body().faces
    frames = film(shown / "cam0.mp4")
    assert len(frames) == NUM_FRAMES
    for frame in (0, 5, 11):
        mask = see(camera, truth.mesh()[frame], faces, SIZE_PX)[0].mask(SIZE_PX)
        found = painted(frames[frame])
        if frame < WRONG:  # later a ring is drawn too
            # H.264 smears a pixel or two along the outline of a body 40 px wide
            assert (found & mask).sum() / (found | mask).sum() > 0.8
        assert (found & mask).sum() > 0.9 * mask.sum()


def test_a_body_is_drawn_at_the_time_of_the_picture(shown: Path, truth: PosedBody, fitted: Path) -> None:
    """Frame k of cam1 is taken 0.4 of a step after instant k - 1; its first and last two lie outside the fit."""
    info = probe(shown / "cam1.mp4")
    assert info.num_frames == NUM_FRAMES - 1
    np.testing.assert_allclose(info.pts_s, LATE_S + STEP_S * np.arange(NUM_FRAMES - 1), atol=6e-4)
    assert read_json(shown / "manifest.json")["outputs"].keys() == {"cam0.mp4", "cam1.mp4", "left_foot.mp4", "body.glb"}


def test_what_is_not_valid_is_marked(shown: Path) -> None:
    frames = film(shown / "cam0.mp4")
    for i, frame in enumerate(frames):
        b, g, r = (int(v) for v in np.median(frame[100:500, :4].reshape(-1, 3), axis=0))
        assert (r > b + 80 and r > g + 80) == (i == WRONG), "a red frame around what is not valid"
    # hatched: about half of the body is left as it was
    assert painted(frames[WRONG]).sum() < 0.75 * painted(frames[WRONG + 1]).sum()
    orange = [(f[..., 2].astype(int) - f[..., 0] > 110) & (f[..., 1].astype(int) - f[..., 0] > 30) for f in frames]
    assert orange[0].sum() < 20 and orange[WRONG + 1].sum() > 100, "a ring around the wrist that is not sure"


def test_a_foot_camera_is_drawn_on_where_it_was_followed(shown: Path) -> None:
    frames = film(shown / "left_foot.mp4")
    bodies = [painted(frame)[60:].sum() for frame in frames]
    assert bodies[3] < 100 < 1000 < min(bodies[:3])


def test_it_is_made_once_and_refused_otherwise(shown: Path, fitted: Path) -> None:
    before = (shown / "cam0.mp4").stat().st_mtime_ns
    run(fitted, FilmConfig(keypoints=False))
    assert (shown / "cam0.mp4").stat().st_mtime_ns == before
    for config, says in (
        (FilmConfig(views=("cam7",)), "cam7: the session has no such view"),
        (FilmConfig(every=0), "use whole numbers from 1 on"),
    ):
        with pytest.raises(InputError, match=says):
            run(fitted, config)


def test_fewer_and_smaller_pictures_of_a_refused_fit(fitted: Path, tmp_path: Path) -> None:
    folder = tmp_path / "s"
    shutil.copytree(fitted, folder, ignore=shutil.ignore_patterns("08_film"))
    shutil.move(folder / "07_smpl", folder / "07_smpl.refused")
    run(folder, FilmConfig(views=("cam0",), every=5, max_height_px=301, glb=False))
    info = probe(folder / "08_film/cam0.mp4")
    assert (info.num_frames, info.size_px) == (3, (400, 300))
    np.testing.assert_allclose(np.diff(info.pts_s), 5 * STEP_S, atol=2e-5)
    assert [p.name for p in (folder / "08_film").glob("*.glb")] == []
    shutil.rmtree(folder / "07_smpl.refused")
    with pytest.raises(InputError, match="nothing is fitted yet"):
        run(folder)


def test_stills_are_of_the_best_the_worst_and_between(fitted: Path, truth: PosedBody, tmp_path: Path) -> None:
    playback = playback_of(truth, FIRST_S + STEP_S * np.arange(NUM_FRAMES))
    error_px = np.full((2, NUM_FRAMES, 26), 3.0)
    error_px[:, 2], error_px[:, 9] = 1.0, 8.0
    session = Session.load(fitted)
    written = write_stills(
        session, room_rig().subset(["cam0", "cam1"]), playback, seen_by(truth), error_px, tmp_path, 3
    )
    names = [path.name for path in written]
    assert {"cam0_000002_best.jpg", "cam0_000009_worst.jpg", "cam1_000002_best.jpg"} <= set(names) and len(names) == 6


def test_the_nearest_frame_is_found_at_the_ends_too(truth: PosedBody) -> None:
    t_s = np.arange(4) / 10
    session, playback = Session(Path(), "s", "anna", ()), playback_of(truth, np.arange(NUM_FRAMES) / 30)
    shot = Shot(session, View("cam", "room", SIZE_PX), playback, t_s, lambda frame: None, t_s > 9)
    assert shot.frames_at(np.array([-1.0, 0.04, 0.06, 0.26, 5.0])).tolist() == [0, 0, 1, 3, 3]


@pytest.mark.parametrize("num_frames", [1, 12, 5000])
def test_the_picture_of_a_fit_shows_short_and_long_ones(sequence: SmplSequence, num_frames: int) -> None:
    """A single frame that is not valid stays visible however many there are."""
    at = np.arange(num_frames) % NUM_FRAMES
    names = ("poses", "trans", "joints_m", "joint_covariance", "joint_valid", "contacts")
    arrays = {name: getattr(sequence, name)[at] for name in names}
    reasons = np.zeros(num_frames, dtype=np.int64)
    reasons[-1] = int(Reason.UNCERTAIN)
    longer = dataclasses.replace(
        sequence, **arrays, t_s=np.arange(num_frames) / 30, reasons=reasons, frame_valid=reasons == 0
    )
    error_px = np.full((2, num_frames, 5), 4.0)
    error_px[1] = np.nan
    figure = fit_figure(longer, error_px, ("cam$0", "cam1"), 0.08)
    errors, sigma, bands = figure.axes[:3]
    shown = errors.images[0].get_array()
    assert (shown[0] == 4).all() and np.ma.getmaskarray(np.ma.masked_invalid(shown))[1].all()
    assert [label.get_text() for label in bands.get_yticklabels()][:2] == ["not valid", "uncertain"]
    assert bands.images[0].get_array()[0, -1] == 1 and len(sigma.lines) == 4
    figure.draw_without_rendering()


@pytest.mark.parametrize(
    ("num_frames", "expected"),
    [
        (1, {40: "_worst"}),
        (2, {40: "_worst", 10: "_best"}),
        (3, {40: "_worst", 10: "_best", 50: ""}),
        (4, {40: "_worst", 10: "_best", 33: "", 66: ""}),
    ],
)
def test_pictures_are_of_the_worst_frame_before_all(num_frames: int, expected: dict[int, str]) -> None:
    error_px = np.full((2, 100, 5), 3.0)
    error_px[:, 40], error_px[:, 10], error_px[1, 70] = 9.0, 1.0, np.nan
    assert instants_to_draw(error_px, num_frames) == expected
