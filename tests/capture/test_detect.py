"""Detection stage: joints and boards of every view under their frames' own numbers and in the lens's pixels."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from capture.detect import DetectConfig, frames_to_search, room_targets, run
from capture.detectors import openpose
from capture.keypoints import clean, load_keypoints
from capture.markers import load_markers
from capture.prints import target_image
from capture.session import Session, View
from capture.sync import SyncConfig
from capture.sync import run as sync
from capture.targets import Target, save_targets
from capture.video import VideoWriter
from core.errors import GateError, InputError, MotifsError
from core.skeletons import COCO_17

SIZE_PX = (320, 240)
FPS = 10
NUM_FRAMES = 60
PX_PER_M = 400.0
DICTIONARY = "DICT_4X4_50"
BOARD = Target("board", "charuco", "carried", (4, 3), 0.1, 0.075, DICTIONARY, 0)
TAG = Target("tag", "marker", "static", marker_m=0.2, dictionary=DICTIONARY, first_marker=30)
LENS = Target("lens", "charuco", "lens", (4, 3), 0.1, 0.075, DICTIONARY, 10)


def frame(index: int, target: Target = BOARD) -> np.ndarray:
    """A target that moves a pixel a frame."""
    image = np.full(SIZE_PX[::-1], 190, np.uint8)
    picture = target_image(target, PX_PER_M)
    image[40 : 40 + picture.shape[0], 20 + index : 20 + index + picture.shape[1]] = picture
    return image


def video(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, SIZE_PX, Fraction(FPS), crf=10) as writer:
        for index in range(NUM_FRAMES):
            writer.write(frame(index))


def joints(folder: Path, num_frames: int, every: int = 1) -> None:
    score = np.full((num_frames, 1, 17), 0.9)
    score[np.arange(num_frames) % every != 0] = 0
    xy = np.full((num_frames, 1, 17, 2), 7.0) + np.arange(num_frames)[:, None, None, None]
    openpose.write(folder, clean(xy, score, COCO_17), "v")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("session")
    for name in ("cam", "left_foot"):
        video(folder / f"videos/{name}.mp4")
    joints(folder / "keypoints/cam", NUM_FRAMES - 10)
    (folder / "images").mkdir()
    for index in range(2):
        cv2.imwrite(str(folder / f"images/{index}.png"), frame(10 * index, TAG))
    save_targets(folder / "targets.json", [BOARD, TAG, LENS])
    views = (
        View("cam", "room", SIZE_PX, video="videos/cam.mp4", num_frames=NUM_FRAMES, frame_rate=str(FPS),
             keypoints="keypoints/cam", keypoints_format="openpose", keypoints_skeleton="COCO_17"),
        View("left_foot", "left_foot", SIZE_PX, video="videos/left_foot.mp4", num_frames=NUM_FRAMES),
        View("photos", "handheld", SIZE_PX, images="images"),
    )  # fmt: skip
    spans = {"calibration": (1.0, 2.0), "motion": (3.0, 4.0)}
    Session(folder, "s", "p", views, targets="targets.json", spans_s=spans).save()
    sync(folder, SyncConfig(method="none"))
    return folder


@pytest.fixture
def session_dir(template: Path, tmp_path: Path) -> Path:
    """A copy of the session that a test may change."""
    import shutil

    return Path(shutil.copytree(template, tmp_path / "session"))


def test_boards_are_searched_where_they_are_needed(template: Path) -> None:
    session = Session.load(template)
    t_s = np.arange(NUM_FRAMES) / FPS
    config = DetectConfig(carried_every=2, still_every=20, foot_every=3)
    room = frames_to_search(session, session["cam"], t_s, config)
    # 0.75 s to 2.25 s, every second frame; beside it every twentieth
    assert room.tolist() == [0, 8, 10, 12, 14, 16, 18, 20, 22, 40]
    foot = frames_to_search(session, session["left_foot"], t_s, config)
    assert foot.tolist() == [30, 33, 36, 39, 42]
    everywhere = replace(session, spans_s={})
    assert len(frames_to_search(everywhere, session["left_foot"], t_s, DetectConfig())) == NUM_FRAMES


def test_the_lens_board_is_not_looked_for_in_the_room(template: Path) -> None:
    assert list(room_targets(Session.load(template))) == ["board", "tag"]


def test_everything_is_found_under_its_frames_number(session_dir: Path) -> None:
    config = DetectConfig(carried_every=5, still_every=30, foot_every=4)
    manifest = run(session_dir, config)
    out = session_dir / "02_keypoints"
    found = load_markers(out / "cam.markers.npz")
    assert found.target_ids == ("board", "tag")
    assert sorted(set(found.frame_idx.tolist())) == [0, 10, 15, 20, 30]
    expected = BOARD.points_m[found.point_idx, :2] * PX_PER_M - 0.5 + [20, 40]
    expected[:, 0] += found.frame_idx
    # H.264 at a high quality; a board of the same frame number would otherwise be a whole pixel off
    assert np.abs(found.xy_px - expected).max() < 0.3
    stills = load_markers(out / "photos.markers.npz")
    assert sorted(set(stills.frame_idx.tolist())) == [0, 1]
    assert len(stills.of_target("tag")) == 8
    assert manifest.metrics["views"]["left_foot"]["targets"] == ["board"]
    assert not (out / "photos.npz").exists()


def test_joints_are_as_long_as_the_video(session_dir: Path) -> None:
    run(session_dir, DetectConfig(foot_every=50))
    keypoints = load_keypoints(session_dir / "02_keypoints/cam.npz")
    assert keypoints.num_frames == NUM_FRAMES
    assert keypoints.valid[:50].all()
    assert not keypoints.valid[50:].any()
    assert keypoints.xy_px[3, 0, 0].tolist() == [10.0, 10.0]


def test_points_are_in_the_pixels_of_the_lens(session_dir: Path) -> None:
    session = Session.load(session_dir)
    mapped = replace(session["photos"], picture_from_px=(0.5, 10.0, 4.0))
    replace(session, views=(*session.views[:2], mapped)).save()
    sync(session_dir, SyncConfig(method="none"), redo=True)
    run(session_dir, DetectConfig(foot_every=50))
    tag = load_markers(session_dir / "02_keypoints/photos.markers.npz").of_target("tag")
    first = tag.xy_px[tag.frame_idx == 0]
    # corners of the print at (20, 40) px - 0.5, seen in the picture as 0.5 px + (10, 4)
    np.testing.assert_allclose(first[0], (np.array([19.5, 39.5]) - [10, 4]) / 0.5, atol=1.0)


def test_more_joints_than_frames_are_refused(session_dir: Path) -> None:
    joints(session_dir / "keypoints/cam", NUM_FRAMES + 1)
    with pytest.raises(MotifsError, match=r"cam: its keypoints have 61 frames, its video 60"):
        run(session_dir)
    assert not (session_dir / "02_keypoints").exists()


def test_a_view_without_people_is_refused(session_dir: Path) -> None:
    joints(session_dir / "keypoints/cam", NUM_FRAMES, every=30)
    with pytest.raises(GateError, match=r"cam: frames_with_joints 0\.03333 < 0\.05"):
        run(session_dir, DetectConfig(foot_every=50))


def test_a_session_with_nothing_to_detect_says_so(session_dir: Path) -> None:
    session = Session.load(session_dir)
    bare = replace(session["cam"], keypoints=None, keypoints_format=None, keypoints_skeleton=None)
    replace(session, views=(bare,), targets=None).save()
    with pytest.raises(InputError, match="nothing to detect"):
        run(session_dir)


def test_an_undeclared_skeleton_is_named(session_dir: Path) -> None:
    session = Session.load(session_dir)
    replace(session, views=(replace(session["cam"], keypoints_skeleton=None), *session.views[1:])).save()
    with pytest.raises(MotifsError, match="cam: the layout or the skeleton of its keypoints is not stated"):
        run(session_dir, DetectConfig(foot_every=50))


def test_the_result_does_not_depend_on_the_run(session_dir: Path) -> None:
    config = DetectConfig(foot_every=30, still_every=30, carried_every=10)
    first = dict(run(session_dir, config).data["outputs"])
    again = run(session_dir, config, redo=True).data["outputs"]
    assert first == again
    assert {"cam.npz", "cam.markers.npz", "left_foot.markers.npz", "photos.markers.npz"} <= first.keys()


@pytest.mark.parametrize("name", ["carried_every", "still_every", "foot_every"])
def test_every_no_frame_is_refused(name: str, template: Path) -> None:
    for wrong in (0, -2):
        with pytest.raises(InputError, match=f"--{name.replace('_', '-')}: it is {wrong}"):
            run(template, DetectConfig(**{name: wrong}))
