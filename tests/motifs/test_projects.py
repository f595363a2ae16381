"""Projects of other tools become sessions whose cameras and joints are what the tool's files say."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from capture.detectors import read_keypoints
from capture.session import Session
from core.cameras import Rig
from core.errors import InputError
from core.files import read_json
from core.skeletons import HALPE_26, skeleton_named
from dataset.shards import AmdDataset
from fitting.sequence import load_smpl
from motifs.projects import ImportConfig, bring
from simulation.projects import Filmed, film_person, write_project

TOOLS = ("pose2sim", "easymocap", "caliscope", "freemocap")
ROOT = Path(__file__).resolve().parents[2]
FRAMES = 15


@pytest.fixture(scope="module")
def filmed() -> Filmed:
    """Half a second of somebody."""
    whole = film_person(0)
    return Filmed(whole.rig, whole.xy_px[:, :FRAMES], whole.joints_m[:FRAMES])


@pytest.mark.parametrize("tool", TOOLS)
def test_cameras_and_joints_are_what_the_project_says(tool: str, filmed: Filmed, tmp_path: Path) -> None:
    write_project(tmp_path / "p", tool, filmed)
    session, _ = bring(tmp_path / "p", tmp_path / "s", ImportConfig())
    assert [view.id for view in session.views] == list(filmed.rig.ids)
    assert session.synchronised == (tool in ("easymocap", "freemocap"))
    assert session.calibration is not None
    rig = Rig.from_json(read_json(session.path(session.calibration)))
    for found, true in zip(rig, filmed.rig, strict=True):
        np.testing.assert_allclose(found.centre, true.centre, atol=1e-5)
        np.testing.assert_allclose(found.cam_from_world.R, true.cam_from_world.R, atol=1e-7)
        np.testing.assert_allclose(found.lens.params, true.lens.params, rtol=1e-6, atol=1e-9)
    for k, view in enumerate(session.views):
        skeleton = skeleton_named(str(view.keypoints_skeleton))
        found_px = read_keypoints(session.path(str(view.keypoints)), str(view.keypoints_format), skeleton).xy_px[:, 0]
        for name in ("nose", "left_wrist", "right_ankle", "left_heel", "mid_hip"):
            true_px = filmed.xy_px[k, :, HALPE_26.idx(name)]
            if name == "mid_hip" and tool in ("caliscope", "freemocap"):  # MediaPipe tells none
                true_px = filmed.xy_px[k][:, [HALPE_26.idx("left_hip"), HALPE_26.idx("right_hip")]].mean(axis=1)
            np.testing.assert_allclose(found_px[:, skeleton.idx(name)], true_px, atol=2e-3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p", "s"]  # nothing is left of the way there


def test_a_world_that_is_not_z_up_is_turned(filmed: Filmed, tmp_path: Path) -> None:
    write_project(tmp_path / "p", "easymocap", filmed)
    session, _ = bring(tmp_path / "p", tmp_path / "s", ImportConfig(calibration_up="-y", calibration_unit="cm"))
    rig = Rig.from_json(read_json(session.path(str(session.calibration))))
    np.testing.assert_allclose(rig.centres[:, 2], -0.01 * filmed.rig.centres[:, 1], atol=1e-6)


def test_cameras_are_told_by_their_numbers_and_not_by_their_order(filmed: Filmed, tmp_path: Path) -> None:
    write_project(tmp_path / "p", "caliscope", filmed)
    array = tmp_path / "p/camera_array.toml"
    tables = ["[cameras." + table for table in array.read_text().split("[cameras.")[1:]]
    array.write_text("\n".join(reversed(tables)))
    (tmp_path / "p/recordings/walk/cam_2.mp4").unlink()
    points = tmp_path / "p/recordings/walk/POSE/xy_POSE.csv"
    points.write_text("".join(line for line in points.read_text().splitlines(True) if line.split(",")[1] != "2"))
    session, notes = bring(tmp_path / "p", tmp_path / "s", ImportConfig())
    assert [view.id for view in session.views] == ["cam_0", "cam_1", "cam_3"]
    rig = Rig.from_json(read_json(session.path(str(session.calibration)))).subset(["cam_0", "cam_1", "cam_3"])
    np.testing.assert_allclose(rig.centres, filmed.rig.subset(rig.ids).centres, atol=1e-5)
    assert "cameras are told by their numbers: 0 is cam_0, 1 is cam_1, 3 is cam_3" in notes
    array.write_text(array.read_text().replace("cameras.3", "cameras.7").replace("cam_id = 3", "cam_id = 7"))
    _, notes = bring(tmp_path / "p", tmp_path / "t", ImportConfig())
    assert any("not used before they are told apart" in note and "7, 2, 1, 0" in note for note in notes)


def test_what_is_ambiguous_or_damaged_is_named(filmed: Filmed, tmp_path: Path) -> None:
    def refused(tool: str, change: Callable[[Path], object], says: str, **options: object) -> None:
        folder = tmp_path / f"{tool}-{len(list(tmp_path.iterdir()))}"
        write_project(folder, tool, filmed)
        change(folder)
        with pytest.raises(InputError, match=says):
            bring(folder, tmp_path / "never", ImportConfig(**options))  # type: ignore[arg-type]
        assert not (tmp_path / "never").exists()

    array = "output_data/raw_data/mediapipe_2dData_numCams_numFrames_numTrackedPoints_pixelXY.npy"
    table = "recordings/walk/POSE/xy_POSE.csv"
    refused("caliscope", lambda f: (f / "recordings/run").mkdir(), "2 recordings: run, walk.*--recording")
    refused("caliscope", lambda f: None, "no such recording: the project has walk", recording="jump")
    refused("caliscope", lambda f: (f / table).write_text("cam_id,frame_index\n0,x\n"), r"line 2.*xy_TRACKER")
    head = "cam_id,frame_index,point_id,img_loc_x,img_loc_y\n"
    refused("caliscope", lambda f: (f / table).write_text(f"{head}0,999999,0,1,1\n"), "it tells of 1 frames")
    refused("freemocap", lambda f: np.save(f / array, np.zeros((3, 9, 33, 3))), "of 3 cameras, and there are 4 videos")
    refused("freemocap", lambda f: np.save(f / array, np.zeros((4, 9, 20, 3))), "not of .cameras, frames, points")
    refused("freemocap", lambda f: np.save(f / array, np.zeros((4, 9, 137, 3))), "33 points, or 543 and more")
    again = array.replace("raw_data/", "")
    refused("freemocap", lambda f: shutil.copy(f / array, f / again), "several arrays of joints.*keep the one")
    pickled = np.array([{}], dtype=object)
    refused("freemocap", lambda f: np.save(f / array, pickled, allow_pickle=True), "not a readable .npy of numbers")
    refused("freemocap", lambda f: (f / "b_camera_calibration.toml").write_text(""), "several calibrations")
    first = "annots/cam_0/000003.json"
    refused("easymocap", lambda f: (f / first).write_text('{"annots": [{"keypoints": 3}]}'), "joints of shapes")
    refused("easymocap", lambda f: (f / first).write_text("{}"), "no annotation of EasyMocap")
    refused("pose2sim", lambda f: (f / "Config.toml").write_text("["), "not TOML")
    refused("pose2sim", lambda f: (f / "Config.toml").unlink(), "give --keypoints-skeleton")


def test_joints_whose_third_number_is_no_score_count_as_seen(filmed: Filmed, tmp_path: Path) -> None:
    write_project(tmp_path / "p", "freemocap", filmed)
    path = next((tmp_path / "p/output_data").rglob("*.npy"))
    data = np.load(path)
    data[..., 2] = -57.0  # a depth
    np.save(path, data)
    session, _ = bring(tmp_path / "p", tmp_path / "s", ImportConfig())
    view = session.views[0]
    found = read_keypoints(session.path(str(view.keypoints)), "openpose", HALPE_26)
    assert found.score[:, 0, HALPE_26.idx("nose")].min() == 1.0
    assert found.score[:, 0, HALPE_26.idx("head_top")].max() == 0.0  # which MediaPipe does not tell


def synchronised(project: Path, offsets: tuple[int, ...]) -> None:
    """Does as Pose2Sim's synchronisation and association: files of `pose/` under numbers less the camera's offset."""
    for view, offset in zip(sorted((project / "pose").iterdir()), offsets, strict=True):
        for path in view.iterdir():
            name, number = path.stem.removesuffix("_keypoints").rsplit("_", 1)
            if int(number) - offset > 0:
                for folder in (project / "pose-sync" / view.name, project / "pose-associated" / view.name):
                    folder.mkdir(parents=True, exist_ok=True)
                    shutil.copy(path, folder / f"{name}_{int(number) - offset:012d}_keypoints.json")


def nose_px(session: Session) -> np.ndarray:
    """The nose of everybody first seen, (views, frames, 2)."""
    found = []
    for view in session.views:
        skeleton = skeleton_named(str(view.keypoints_skeleton))
        joints = read_keypoints(session.path(str(view.keypoints)), str(view.keypoints_format), skeleton)
        found.append(joints.xy_px[:, 0, skeleton.idx("nose")])
    return np.stack(found)


def test_joints_that_pose2sim_has_renumbered_do_not_shift_the_person(filmed: Filmed, tmp_path: Path) -> None:
    write_project(tmp_path / "p", "pose2sim", filmed)
    synchronised(tmp_path / "p", (0, 5, 3, 0))
    session, notes = bring(tmp_path / "p", tmp_path / "s", ImportConfig())
    np.testing.assert_allclose(nose_px(session), filmed.xy_px[:, :, HALPE_26.idx("nose")], atol=2e-3)
    assert any("pose-sync/" in note for note in notes)
    for named in ("pose-associated", "pose-sync"):
        with pytest.raises(InputError, match=r"as Pose2Sim synchronised them .*bring pose/"):
            bring(tmp_path / "p", tmp_path / "never", ImportConfig(keypoints=named))
    shutil.rmtree(tmp_path / "p/pose-sync")  # association of frames from 1 on
    session, _ = bring(tmp_path / "p", tmp_path / "t", ImportConfig())
    np.testing.assert_allclose(nose_px(session), filmed.xy_px[:, :, HALPE_26.idx("nose")], atol=2e-3)
    synchronised(tmp_path / "p", (0, 0, 0, 0))
    shutil.rmtree(tmp_path / "p/pose")
    with pytest.raises(InputError, match="as Pose2Sim synchronised them"):
        bring(tmp_path / "p", tmp_path / "never", ImportConfig())


def test_only_mediapipes_body_is_read_of_caliscopes_trackers(filmed: Filmed, tmp_path: Path) -> None:
    write_project(tmp_path / "p", "caliscope", filmed)
    recording = tmp_path / "p/recordings/walk"
    pose = recording / "POSE/xy_POSE.csv"
    hand = pose.read_text().splitlines()[0] + "\n0,0,0,0.0,0,5.0,5.0\n"
    for tracker in ("CHARUCO", "HAND", "ONNX_rtmpose_m_halpe26"):
        (recording / tracker).mkdir()
        (recording / tracker / f"xy_{tracker}.csv").write_text(hand)
    session, notes = bring(tmp_path / "p", tmp_path / "s", ImportConfig())
    np.testing.assert_allclose(nose_px(session), filmed.xy_px[:, :, HALPE_26.idx("nose")], atol=2e-3)
    assert "its joints are those of recordings/walk/POSE/xy_POSE.csv" in notes
    (recording / "HOLISTIC").mkdir()
    pose.rename(recording / "HOLISTIC/xy_HOLISTIC.csv")
    pose.write_text(hand)
    session, _ = bring(tmp_path / "p", tmp_path / "t", ImportConfig())
    np.testing.assert_allclose(nose_px(session), filmed.xy_px[:, :, HALPE_26.idx("nose")], atol=2e-3)
    pose.unlink()
    (recording / "HOLISTIC/xy_HOLISTIC.csv").unlink()
    session, notes = bring(tmp_path / "p", tmp_path / "u", ImportConfig())
    assert all(view.keypoints is None for view in session.views)
    assert any("HAND/xy_HAND.csv is left out" in note for note in notes) and any("motifs detect" in n for n in notes)


@pytest.mark.parametrize("other", [("charuco", 24), ("charuco", 40), ("openpose", 137)])
def test_only_mediapipes_array_is_read_of_freemocaps_trackers(
    other: tuple[str, int], filmed: Filmed, tmp_path: Path
) -> None:
    write_project(tmp_path / "p", "freemocap", filmed)
    own = next((tmp_path / "p/output_data").rglob("*.npy"))
    np.save(own.with_name(f"{other[0]}_2dData_pixelXY.npy"), np.full((4, FRAMES, other[1], 3), 0.5))
    session, notes = bring(tmp_path / "p", tmp_path / "s", ImportConfig())
    np.testing.assert_allclose(nose_px(session), filmed.xy_px[:, :, HALPE_26.idx("nose")], atol=2e-3)
    assert any(f"{other[0]}_2dData_pixelXY.npy is left out" in note for note in notes)
    own.unlink()
    session, notes = bring(tmp_path / "p", tmp_path / "t", ImportConfig())
    assert all(view.keypoints is None for view in session.views) and any("motifs detect" in note for note in notes)


@pytest.mark.parametrize("kept", ["Calibration/Calib.toml", "my_calib/cameras.toml", "../calibration/Calib_qca.toml"])
def test_cameras_are_found_where_pose2sim_finds_them(kept: str, filmed: Filmed, tmp_path: Path) -> None:
    project = tmp_path / "session/trial"
    write_project(project, "pose2sim", filmed)
    text = (project / "calibration/Calib.toml").read_text()
    shutil.rmtree(project / "calibration")
    (project / kept).parent.mkdir()
    (project / kept).write_text(text)
    session, notes = bring(project, tmp_path / "s", ImportConfig())
    rig = Rig.from_json(read_json(session.path(str(session.calibration))))
    np.testing.assert_allclose(rig.centres, filmed.rig.centres, atol=1e-5)
    assert any(note.startswith("its cameras are those of") and Path(kept).name in note for note in notes)
    shutil.move(project / "Config.toml", tmp_path / "session")  # which a trial may leave to its session
    session, _ = bring(project, tmp_path / "t", ImportConfig())
    assert session.calibration is not None and session.views[0].keypoints_skeleton == "HALPE_26"
    (project / kept).rename(tmp_path / "elsewhere.toml")
    session, notes = bring(project, tmp_path / "u", ImportConfig())
    assert session.calibration is None and any("it has no cameras" in note for note in notes)


def test_a_view_in_which_nobody_is_has_the_layout_of_the_others(filmed: Filmed, tmp_path: Path) -> None:
    write_project(tmp_path / "p", "easymocap", filmed)
    for path in (tmp_path / "p/annots/cam_1").iterdir():
        path.write_text('{"annots": []}')
    session, _ = bring(tmp_path / "p", tmp_path / "s", ImportConfig())
    found = nose_px(session)
    assert found.shape[1] == FRAMES and np.isnan(found[1]).all() and np.isfinite(found[[0, 2, 3]]).all()
    for path in (tmp_path / "p/annots").rglob("*.json"):
        path.write_text('{"annots": []}')
    with pytest.raises(InputError, match="nobody is in any of its views"):
        bring(tmp_path / "p", tmp_path / "never", ImportConfig())


@pytest.mark.parametrize("stills", [True, False])
def test_annotations_counted_from_one_are_of_their_pictures(stills: bool, filmed: Filmed, tmp_path: Path) -> None:
    write_project(tmp_path / "p", "easymocap", filmed)
    for camera in filmed.rig:
        annots = tmp_path / "p/annots" / camera.id
        if stills:
            (tmp_path / "p/videos" / f"{camera.id}.mp4").unlink()
            (tmp_path / "p/images" / camera.id).mkdir(parents=True)
        for frame in reversed(range(FRAMES)):
            (annots / f"{frame:06d}.json").rename(annots / f"{frame + 1:06d}.json")
            if stills:
                picture = tmp_path / "p/images" / camera.id / f"{frame + 1:06d}.png"
                cv2.imwrite(str(picture), np.zeros(camera.lens.size_px[::-1], np.uint8))
        (annots / f"{FRAMES:06d}.json").unlink()
    (tmp_path / "p/annots/cam_2/000001.json").unlink()  # a frame that was not annotated shifts nothing
    session, _ = bring(tmp_path / "p", tmp_path / "s", ImportConfig())
    true_px = filmed.xy_px[:, : FRAMES - 1, HALPE_26.idx("nose")].copy()
    true_px[2, 0] = np.nan
    np.testing.assert_allclose(nose_px(session), true_px, atol=2e-3)
    if not stills:  # pictures of the videos, from 0 on, say that 1 is the second frame
        (tmp_path / "p/images/cam_0").mkdir(parents=True)
        (tmp_path / "p/images/cam_0/000000.jpg").touch()
        session, _ = bring(tmp_path / "p", tmp_path / "t", ImportConfig())
        np.testing.assert_allclose(nose_px(session)[:, 1:], true_px, atol=2e-3)
    annots = tmp_path / "p/annots/cam_0"
    (annots / "000003.json").rename(annots / "000093.json")
    with pytest.raises(InputError, match="no picture of this name" if stills else "it has 94 frames, its pictures 15"):
        bring(tmp_path / "p", tmp_path / "never", ImportConfig())


@pytest.mark.slow
def test_the_walkthrough(tmp_path: Path) -> None:
    call = [str(ROOT / "examples/foreign_projects.sh"), str(tmp_path)]
    answer = subprocess.run(call, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    truth = film_person(0).joints_m
    for tool in TOOLS:
        assert Session.load(tmp_path / f"{tool}-session").subject == tool
        fitted = load_smpl(tmp_path / f"{tool}-session/07_smpl/smpl.npz")
        frames = np.round(fitted.t_s * 30).astype(int)
        kept = (frames >= 0) & (frames < len(truth))
        body = slice(0, 22)  # hands hang on no joint
        error_m = np.linalg.norm(fitted.joints_m[kept, body] - truth[frames[kept], body], axis=-1)
        assert np.median(error_m) < 0.03, tool
    assert len(AmdDataset(tmp_path / "amd")) >= 4
    for folder, ending in (("glb", ".glb"), ("trc", ".trc"), ("amass", ".npz")):
        assert len(list((tmp_path / folder).rglob(f"*{ending}"))) >= 4
