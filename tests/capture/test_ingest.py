"""Ingest: recordings of every layout become self-contained sessions, and a bad file leaves nothing behind."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from capture.detect import run as detect
from capture.detectors import openpose
from capture.ingest import IngestConfig, ingest, parse_pairs
from capture.keypoints import clean
from capture.pictures import read_pictures
from capture.session import Session
from capture.sync import SyncConfig, load_times
from capture.sync import run as sync
from capture.targets import SCHEMA
from capture.video import VideoWriter
from core.errors import InputError
from core.skeletons import COCO_17

COCO = IngestConfig(keypoints_skeleton="COCO_17")


def video(path: Path, num_frames: int = 5, size_px: tuple[int, int] = (64, 48), rate: int = 30) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, size_px, Fraction(rate)) as writer:
        for index in range(num_frames):
            writer.write(np.full(size_px[::-1], 10 * index, np.uint8))


def joints(folder: Path, num_frames: int = 5) -> None:
    found = clean(np.full((num_frames, 1, 17, 2), 20.0), np.full((num_frames, 1, 17), 0.9), COCO_17)
    openpose.write(folder, found, "frame")


def stills(folder: Path, size_px: tuple[int, int] = (64, 48), count: int = 2) -> None:
    folder.mkdir(parents=True)
    for index in range(count):
        cv2.imwrite(str(folder / f"{index}.png"), np.zeros(size_px[::-1], np.uint8))


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    folder = tmp_path / "recording"
    video(folder / "videos/cam1.mp4")
    video(folder / "videos/cam2.MOV", rate=25)
    video(folder / "videos/left_foot.mp4", rate=20)
    joints(folder / "keypoints/cam1")
    joints(folder / "keypoints/cam2", 4)
    stills(folder / "calibration/lens/cam1")
    stills(folder / "photos", (32, 24), 3)
    marker = {"id": "m", "kind": "marker", "mounting": "static", "marker_id": 1, "size_m": 0.1}
    targets = {"schema": SCHEMA, "targets": [marker | {"dictionary": "DICT_4X4_50"}]}
    (folder / "targets.json").write_text(json.dumps(targets))
    return folder


def test_a_flat_recording_becomes_a_session(recording: Path, tmp_path: Path) -> None:
    config = replace(COCO, subject="anna", row_time_s=("left_foot=2e-5",), spans_s=("motion=1,4.5",))
    session = ingest(recording, tmp_path / "session", config)
    assert (session.id, session.subject, session.rate) == ("session", "anna", "25")
    assert [(v.id, v.role, v.num_frames, v.lens_model) for v in session.views] == [
        ("cam1", "room", 5, "radtan"),
        ("cam2", "room", 5, "radtan"),
        ("left_foot", "left_foot", 5, "fisheye"),
        ("photos", "handheld", 3, "radtan"),
    ]
    assert session.spans_s == {"motion": (1.0, 4.5)}
    assert session["left_foot"].row_time_s == 2e-5
    assert (session["cam1"].keypoints_format, session["cam1"].keypoints_skeleton) == ("openpose", "COCO_17")
    assert session["photos"].size_px == (32, 24)


def test_a_session_stands_on_its_own(recording: Path, tmp_path: Path) -> None:
    import shutil

    ingest(recording, tmp_path / "session", COCO)
    shutil.rmtree(recording)
    session = Session.load(tmp_path / "session")
    for view in session.views:
        for path in (view.video, view.images, view.lens_images, view.keypoints):
            assert path is None or session.path(path).exists()
    assert session.targets is not None
    assert session.path(session.targets).is_file()
    assert len(list(session.path("images/photos").iterdir())) == 3


def test_masks_come_along_and_are_of_frames(recording: Path, tmp_path: Path) -> None:
    (recording / "masks/cam1").mkdir(parents=True)
    still = next(iter((recording / "photos").iterdir()))
    for frame in (0, 4):
        (recording / f"masks/cam1/{frame:06d}{still.suffix}").write_bytes(still.read_bytes())
    session = ingest(recording, tmp_path / "session", COCO)
    assert [v.masks for v in session.views] == ["masks/cam1", None, None, None]
    assert len(list(session.path("masks/cam1").iterdir())) == 2
    (recording / f"masks/cam1/000005{still.suffix}").write_bytes(still.read_bytes())
    with pytest.raises(InputError, match="of frame 5, the view has 5"):
        ingest(recording, tmp_path / "other", COCO)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("copy", [False, True])
def test_files_are_linked_or_copied(recording: Path, tmp_path: Path, copy: bool) -> None:
    ingest(recording, tmp_path / "session", replace(COCO, copy=copy))
    original, brought = recording / "videos/cam1.mp4", tmp_path / "session/videos/cam1.mp4"
    assert brought.samefile(original) is not copy
    assert brought.read_bytes() == original.read_bytes()


def test_bare_videos_and_bare_joints_are_enough(tmp_path: Path) -> None:
    video(tmp_path / "r/a.mp4")
    assert [view.id for view in ingest(tmp_path / "r", tmp_path / "s").views] == ["a"]
    joints(tmp_path / "k/keypoints/b", 7)
    config = replace(COCO, frame_rate="50", size_px=("b=640,480",))
    view = ingest(tmp_path / "k", tmp_path / "t", config)["b"]
    assert (view.video, view.num_frames, view.frame_rate, view.size_px) == (None, 7, "50", (640, 480))


def test_a_camera_may_write_pictures_instead_of_a_video(tmp_path: Path) -> None:
    stills(tmp_path / "r/images/a", count=4)
    joints(tmp_path / "r/keypoints/a", 4)
    session = ingest(tmp_path / "r", tmp_path / "s", replace(COCO, frame_rate="15"))
    view = session["a"]
    assert (view.role, view.num_frames, view.frame_rate, view.size_px) == ("room", 4, "15", (64, 48))
    sync(tmp_path / "s", SyncConfig(method="none"))
    detect(tmp_path / "s")
    np.testing.assert_allclose(load_times(tmp_path / "s", "a"), np.arange(4) / 15)
    frames = list(read_pictures(session, view, [2, 0], color="bgr"))
    assert [(idx, image.shape) for idx, image in frames] == [(0, (48, 64, 3)), (2, (48, 64, 3))]
    video(tmp_path / "r/videos/a.mp4")
    with pytest.raises(InputError, match="are both its pictures"):
        ingest(tmp_path / "r", tmp_path / "t", COCO)


def test_pixels_that_differ_from_the_lens_pictures_must_be_mapped(recording: Path, tmp_path: Path) -> None:
    stills(recording / "calibration/lens/cam2", (68, 48))
    with pytest.raises(InputError, match=r"cam2: its lens pictures are 68x48 px.*--picture-from-px cam2="):
        ingest(recording, tmp_path / "s", COCO)
    session = ingest(recording, tmp_path / "s", replace(COCO, picture_from_px=("cam2=0.9,0,2.5",)))
    assert session["cam2"].size_px == (68, 48)
    assert session["cam2"].picture_from_px == (0.9, 0.0, 2.5)


@pytest.mark.slow
def test_the_pose2sim_layout_is_recognised(shared: Path, tmp_path: Path) -> None:
    config = IngestConfig(
        keypoints_skeleton="BODY_25B", picture_from_px=("cam01=0.9926,0,7.3", "cam02=0.9926,0,7.3"), subject="p"
    )
    session = ingest(shared / "data/pose2sim_single", tmp_path / "s", config)
    assert [view.id for view in session.views] == ["cam01", "cam02", "cam03", "cam04"]
    assert {(v.size_px, v.num_frames, v.frame_rate) for v in session.views} == {((1088, 1920), 100, "60")}
    assert session["cam01"].picture_from_px == (0.9926, 0.0, 7.3)
    assert len(list(session.path("lens_images/cam03").iterdir())) == 7
    data = json.loads((session.path("keypoints/cam01") / "cam01.0000.json").read_text())
    assert len(data["people"]) == 1  # the person of interest, not everybody


def damage_joints(folder: Path) -> None:
    (folder / "keypoints/cam2/frame_000000000002_keypoints.json").write_text(
        json.dumps({"people": [{"pose_keypoints_2d": [1.0] * 75}]})
    )


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "videos/cam2.MOV").write_bytes(b""), r"cam2\.MOV: the file is empty"),
        (lambda f: (f / "videos/cam2.MOV").write_bytes(b"x" * 99), r"cam2\.MOV: it cannot be read"),
        (lambda f: video(f / "videos/cam1.avi"), r"cam1\.mp4: cam1\.avi is of view cam1 too"),
        (lambda f: video(f / "videos/cam 3.mp4"), "cannot be a view's id"),
        (lambda f: joints(f / "keypoints/cam2", 6), r"cam2: it has 6 frames, its pictures 5"),
        (lambda f: damage_joints(f), "has 25 joints a person, COCO_17 has 17.*BODY_25 or BODY_25B"),
        (lambda f: joints(f / "keypoints/other"), "other: nothing tells its picture size"),
        (lambda f: (f / "photos/x.png").write_bytes(b"no"), r"x\.png: it cannot be decoded"),
        (lambda f: (f / "targets.json").write_text("{}"), "not a list of targets"),
    ],
)
def test_a_bad_file_is_named_and_leaves_nothing(recording: Path, tmp_path: Path, damage: object, message: str) -> None:
    damage(recording)  # type: ignore[operator]
    with pytest.raises(InputError, match=message):
        ingest(recording, tmp_path / "session", COCO)
    assert [path.name for path in tmp_path.iterdir()] == ["recording"]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (IngestConfig(), "nothing tells what its joints are"),
        (replace(COCO, keypoints_skeleton="STICK"), "no such skeleton"),
        (replace(COCO, keypoints="poses"), "no such folder of 2D joints"),
        (replace(COCO, keypoints_format="mmpose"), "no MMPose prediction file|cannot be read|no such file"),
        (replace(COCO, picture_from_px=("cam9=1,0,0",)), "cam9: --picture-from-px names a view that is not there"),
        (replace(COCO, picture_from_px=("cam1=0,0,0",)), "scale 0.0"),
        (replace(COCO, row_time_s=("cam1=1e-5",)), "cam1: --row-time-s gives it 1e-05 s a row"),
        (replace(COCO, row_time_s=("left_foot=-1e-5",)), "left_foot: --row-time-s gives it -1e-05 s a row"),
        (replace(COCO, size_px=("cam1=640,480",)), "cam1: --size-px says 640x480 px, its pictures are 64x48"),
        (replace(COCO, spans_s=("motion=1",)), "takes NAME=NUMBER,NUMBER"),
        (replace(COCO, spans_s=("Motion=1,2",)), "Motion: --spans-s names a stretch that nothing reads"),
        (replace(COCO, spans_s=("motion=1,2", "motion=3,4")), "motion: --spans-s is given twice"),
        (replace(COCO, spans_s=("calibration=4,4",)), "calibration: --spans-s lets it run from 4 to 4 s"),
        (replace(COCO, rate="fast"), "not a frame rate"),
    ],
)
def test_wrong_settings_are_refused(recording: Path, tmp_path: Path, config: IngestConfig, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ingest(recording, tmp_path / "session", config)
    assert not (tmp_path / "session").exists()


def test_an_existing_folder_is_never_replaced(recording: Path, tmp_path: Path) -> None:
    (tmp_path / "session").mkdir()
    (tmp_path / "session/mine.txt").touch()
    with pytest.raises(InputError, match="exists already"):
        ingest(recording, tmp_path / "session", COCO)
    assert (tmp_path / "session/mine.txt").exists()


def test_nothing_to_ingest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        ingest(tmp_path / "none", tmp_path / "s")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no videos, pictures or 2D joints"):
        ingest(tmp_path / "empty", tmp_path / "s")


@pytest.mark.parametrize("text", ["a", "a=", "=1,2", "a=1", "a=1,2,3", "a=x,y", "a=nan,1"])
def test_malformed_pairs_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="takes NAME=NUMBER,NUMBER"):
        parse_pairs([text], 2, "--option")
