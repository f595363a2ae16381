"""Files in the layouts of other tools, written by hand, with the cameras worked out by hand; and hostile ones.

The camera of most: it stands at (1, 2, 3) m and looks along the world's x, its y down. Its rows are the camera's axes
in the world, x = -y, y = -z, z = x, so `cam_from_world` is R = [[0,-1,0],[0,0,-1],[1,0,0]] and t = -R (1,2,3) =
(2, 3, -1). As a rotation vector that is 2 pi / 3 about (1,-1,1)/sqrt(3), as a quaternion (w first) (1,1,-1,1)/2.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from calibration.align import pose_errors, rig_poses
from calibration.formats import read_calibration, read_file, read_lenses
from core.cameras import Camera
from core.errors import InputError

ROTATION = np.array([[0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]])
ANGLE = 2 * math.pi / 3 / math.sqrt(3)
TURN = f"{ANGLE!r}, {-ANGLE!r}, {ANGLE!r}"


def assert_the_camera(camera: Camera, atol: float = 1e-12) -> None:
    np.testing.assert_allclose(camera.centre, [1, 2, 3], rtol=0, atol=atol)
    np.testing.assert_allclose(camera.cam_from_world.R, ROTATION, rtol=0, atol=atol)
    # a point two metres ahead, one to the right, half above: seen at x = 1/2, y = -1/4
    assert camera.lens.model != "pinhole" or np.allclose(
        camera.project(np.array([3.0, 1.0, 3.5])), [320 + 500 * 0.5, 240 - 510 * 0.25], atol=1e-6
    )


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


MATRIX = "[[500.0, 0.0, 320.0], [0.0, 510.0, 240.0], [0.0, 0.0, 1.0]]"


def test_pose2sim(tmp_path: Path) -> None:
    text = f"""[cam_01]
name = "left"
size = [ 640.0, 480.0]
matrix = {MATRIX}
distortions = [ 0.0, 0.0, 0.0, 0.0]
rotation = [ {TURN}]
translation = [ 2.0, 3.0, -1.0]
fisheye = false

[metadata]
adjusted = false
error = 0.0
"""
    (camera,) = read_calibration(write(tmp_path / "Calib.toml", text))
    assert camera.id == "left" and camera.lens.size_px == (640, 480) and camera.lens.model == "pinhole"
    assert_the_camera(camera)


def test_anipose_in_millimetres_with_a_fisheye(tmp_path: Path) -> None:
    text = f"""[cam_0]
name = "A"
size = [ 640, 480,]
matrix = {MATRIX}
distortions = [ -0.06, 0.0, 0.0, 0.0,]
rotation = [ {TURN}]
translation = [ 2000.0, 3000.0, -1000.0,]
fisheye = true

[metadata]
adjusted = false
error = 0.26
"""
    path = write(tmp_path / "calibration.toml", text)
    (camera,) = read_calibration(path, unit_m=0.001)
    assert camera.lens.model == "fisheye" and camera.lens.distortion == (-0.06, 0.0, 0.0, 0.0)
    assert_the_camera(camera)
    # straight ahead to the right by 45 degrees: r = theta (1 + k1 theta^2)
    theta = math.pi / 4
    px = camera.project(np.array([3.0, 0.0, 3.0]))
    np.testing.assert_allclose(px, [320 + 500 * theta * (1 - 0.06 * theta**2), 240], atol=1e-9)


CALISCOPE_NEW = f"""[cameras.1]
cam_id = 1
size = [640, 480]
rotation_count = 0
error = 0.457
matrix = {MATRIX}
distortions = [0.0, 0.0, 0.0, 0.0, 0.0]
translation = [2.0, 3.0, -1.0]
rotation = [{TURN}]
grid_count = 20
fisheye = false
"""
CALISCOPE_MIDDLE = CALISCOPE_NEW.replace(TURN, "[0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]").replace(
    "grid_count = 20\nfisheye = false\n", 'exposure = "null"\ngrid_count = 20\nignore = false\n'
)
CALISCOPE_OLD = (
    CALISCOPE_MIDDLE.replace("[cameras.1]\ncam_id = 1", "[cam_1]\nport = 1") + "\n[capture_volume]\nstage = 2\n"
)


@pytest.mark.parametrize("text", [CALISCOPE_NEW, CALISCOPE_MIDDLE, CALISCOPE_OLD])
def test_caliscope_of_three_ages(text: str, tmp_path: Path) -> None:
    (camera,) = read_calibration(write(tmp_path / "camera_array.toml", text))
    assert camera.id == "1"
    assert_the_camera(camera)


def test_caliscope_cameras_without_a_place_are_lenses_alone(tmp_path: Path) -> None:
    unplaced = f"""
[cameras.2]
cam_id = 2
size = [640, 480]
translation = "null"
rotation = "null"
matrix = {MATRIX}
distortions = [0.0, 0.0, 0.0, 0.0, 0.0]
"""
    ignored = unplaced.replace("cameras.2", "cameras.5").replace("cam_id = 2", "cam_id = 5\nignore = true")
    path = write(tmp_path / "camera_array.toml", CALISCOPE_NEW + unplaced + ignored)
    found = read_file(path)
    assert list(found.lenses) == ["1", "2"] and list(found.cam_from_world) == ["1"]
    assert found.notes == ("camera 5 is left out: the file marks it as ignored",)
    assert set(read_lenses(path)) == {"1", "2"}
    with pytest.raises(InputError, match="no place of 2"):
        read_calibration(path)


def test_the_caliscope_file_of_the_reference_material(shared: Path) -> None:
    rig = read_calibration(shared / "data" / "caliscope_charuco_4cam" / "camera_array.toml")
    assert rig.ids == ("0", "1", "2", "3")
    assert rig["0"].lens.focal_px[0] == pytest.approx(903.550124)
    # worked out by hand from the file's last camera: -R^T t
    np.testing.assert_allclose(rig["3"].centre, [0.79328, 1.13099, -0.06083], atol=1e-4)


STORAGE_MATRIX = "{}: !!opencv-matrix\n  rows: {}\n  cols: {}\n  dt: d\n  data: [{}]\n"


def easymocap(folder: Path, *, intri: str = "", six_digits: bool = True) -> Path:
    turn = ", ".join(f"{v:.6f}" if six_digits else repr(v) for v in (ANGLE, -ANGLE, ANGLE))
    head = '%YAML:1.0\r\n---\r\nnames:\r\n  - "01"\r\n'
    lens = STORAGE_MATRIX.format("K_01", 3, 3, "500.000000, 0, 320, 0, 510, 240, 0, 0, 1")
    lens += STORAGE_MATRIX.format("dist_01", 1, 5, "0, 0, 0, 0, 0") + (intri or "H_01: 480\nW_01: 640\n")
    place = STORAGE_MATRIX.format("R_01", 3, 1, turn)
    place += STORAGE_MATRIX.format("Rot_01", 3, 3, "0, -1, 0, 0, 0, -1, 1, 0, 0")
    place += STORAGE_MATRIX.format("T_01", 3, 1, "2, 3, -1")
    write(folder / "extri.yml", (head + place).replace("\r\n", "\n").replace("\n", "\r\n"))
    return write(folder / "intri.yml", (head + lens).replace("\r\n", "\n").replace("\n", "\r\n"))


def test_easymocap(tmp_path: Path) -> None:
    path = easymocap(tmp_path)
    for given in (path, tmp_path, tmp_path / "extri.yml"):
        (camera,) = read_calibration(given)
        assert camera.id == "01" and camera.lens.model == "pinhole"
        assert_the_camera(camera, atol=5e-6)  # six digits of a rotation vector, over 3.7 m


def test_easymocap_without_picture_sizes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"camera 01.*how large.*Next: add `H_01"):
        read_calibration(easymocap(tmp_path, intri="X_01: 1\n"))


def test_easymocap_with_two_different_rotations_is_refused(tmp_path: Path) -> None:
    easymocap(tmp_path)
    path = tmp_path / "extri.yml"
    path.write_text(path.read_text().replace("0, -1, 0, 0, 0, -1, 1, 0, 0", "1, 0, 0, 0, 1, 0, 0, 0, 1"))
    with pytest.raises(InputError, match=r"camera 01.*two different rotations"):
        read_calibration(tmp_path)


def test_the_file_of_the_calibration_sample_of_opencv(tmp_path: Path) -> None:
    text = "%YAML:1.0\n---\nimage_width: 640\nimage_height: 480\nfisheye_model: 0\n"
    text += STORAGE_MATRIX.format("camera_matrix", 3, 3, "500., 0., 320., 0., 510., 240., 0., 0., 1.")
    text += STORAGE_MATRIX.format("distortion_coefficients", 5, 1, "0.1, -0.2, 0.003, 0.004, 0.05")
    found = read_lenses(write(tmp_path / "webcam.yml", text))
    assert list(found) == ["webcam"] and found["webcam"].distortion == (0.1, -0.2, 0.003, 0.004, 0.05)
    assert found["webcam"].model == "radtan" and found["webcam"].focal_px == (500.0, 510.0)


KALIBR = """cam0:
  cam_overlaps: [1]
  camera_model: pinhole
  distortion_coeffs: [0.1, -0.2, 0.003,
    0.004]
  distortion_model: radtan
  intrinsics: [500.0, 510.0, 320.0, 240.0]
  resolution: [640, 480]
  rostopic: /left/image_raw
cam1:
  T_cn_cnm1:
  - [0.0, -1.0, 0.0, 2.0]
  - [0.0, 0.0, -1.0, 3.0]
  - [1.0, 0.0, 0.0, -1.0]
  - [0.0, 0.0, 0.0, 1.0]
  cam_overlaps: [0]
  camera_model: pinhole
  distortion_coeffs: [0.01, 0.02, 0.03, 1.0e-05]
  distortion_model: equidistant
  intrinsics: [500.0, 510.0, 320.0, 240.0]
  resolution: [640, 480]
  rostopic: /right/image_raw
  timeshift_cam_imu: -8.681e-05
"""
KALIBR_THIRD = """cam2:
  T_cn_cnm1:
  - [1.0, 0.0, 0.0, 0.0]
  - [0.0, 1.0, 0.0, 0.0]
  - [0.0, 0.0, 1.0, -0.5]
  - [0.0, 0.0, 0.0, 1.0]
  camera_model: pinhole
  distortion_coeffs: []
  distortion_model: none
  intrinsics: [500.0, 510.0, 320.0, 240.0]
  resolution: [640, 480]
  rostopic: /third/image_raw
"""


def test_kalibr(tmp_path: Path) -> None:
    found = read_file(write(tmp_path / "camchain.yaml", KALIBR + KALIBR_THIRD))
    left, right, third = found.rig()
    assert found.rig().ids == ("left", "right", "third")
    assert left.lens.distortion == (0.1, -0.2, 0.003, 0.004, 0.0) and np.array_equal(left.centre, np.zeros(3))
    assert right.lens.model == "fisheye" and right.lens.distortion == (0.01, 0.02, 0.03, 1e-05)
    assert_the_camera(right)
    # the third stands half a metre ahead of the second, which looks along x
    np.testing.assert_allclose(third.centre, [1.5, 2, 3], atol=1e-12)
    assert any("time shift of -8.681e-05" in note for note in found.notes)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("camera_model: pinhole", "camera_model: omni", "omni-radtan is not known"),
        ("distortion_model: radtan", "distortion_model: fov", "pinhole-fov is not known"),
        ("cam0:", "left:", "no place of right"),
        ("intrinsics: [500.0,", "intrinsics: [1.0, 500.0,", "wrong kind"),
        ("    0.004]", "    0.004, 0.1]", "5 distortion_coeffs"),
        ("resolution: [640, 480]", "resolution: [640]", "wrong kind"),
        ("- [0.0, 0.0, 0.0, 1.0]", "- [0.0, 0.0, 0.0, 2.0]", "no rigid transform"),
        ("- [1.0, 0.0, 0.0, -1.0]", "- [-1.0, 0.0, 0.0, -1.0]", "mirrored"),
        ("cam_overlaps: [1]", "cam_overlaps: &a [1]\n  again: *a", "aliases"),
        ("rostopic: /left", "when: !!python/object/apply:os.system ['true']\n  rostopic: /left", "not YAML"),
    ],
)
def test_kalibr_files_that_cannot_be_used(old: str, new: str, problem: str, tmp_path: Path) -> None:
    text = KALIBR.replace(old, new, 1)
    if "no place" in problem:  # a chain that lost its first camera
        text = KALIBR.replace("  T_cn_cnm1:\n", "  T_other:\n")
    with pytest.raises(InputError, match=problem):
        read_calibration(write(tmp_path / "camchain.yaml", text))


QUALISYS = """<?xml version="1.0" encoding="ASCII"?>
<calibration source="x" type="regular"><cameras>{}</cameras></calibration>
"""
# in the rows of `transform` the axes x right, y up, z backward; here (0,-1,0), (0,0,1), (-1,0,0)
QUALISYS_CAMERA = """
<camera active="1" calibrated="true" serial="{serial}" model="{model}" viewrotation="0" video_resolution="{lines}">
  <fov_marker left="0" top="0" right="1919" bottom="1087"/>
  <fov_marker_max left="0" top="0" right="1919" bottom="1087"/>
  <fov_video left="{left}" top="{top}" right="{right}" bottom="{bottom}"/>
  <fov_video_max left="0" top="0" right="1919" bottom="1087"/>
  <transform x="1000.0" y="2000.0" z="3000.0"
   r11="0" r12="-1" r13="0" r21="0" r22="0" r23="1" r31="-1" r32="0" r33="0"/>
  <intrinsic focallength="9" sensorMinU="0" sensorMaxU="122879" sensorMinV="0" sensorMaxV="69631"
   focalLengthU="64000" focalLengthV="65280" centerPointU="61440" centerPointV="34560" skew="0"
   radialDistortion1="-0.05" radialDistortion2="0.14" radialDistortion3="0.01"
   tangentalDistortion1="0.001" tangentalDistortion2="-0.002"/>
</camera>"""
FULL = {"left": 0, "top": 0, "right": 1919, "bottom": 1087, "lines": "1080p", "model": "Miqus Video", "serial": "1"}


def qualisys(path: Path, *cameras: dict[str, object]) -> Path:
    return write(path / "c.qca.txt", QUALISYS.format("".join(QUALISYS_CAMERA.format(**FULL | c) for c in cameras)))


def test_qualisys(tmp_path: Path) -> None:
    found = read_file(qualisys(tmp_path, {}))
    (camera,) = found.rig()
    assert camera.id == "1" and camera.lens.size_px == (1920, 1088) and not found.notes
    assert camera.lens.focal_px == (1000.0, 1020.0) and camera.lens.centre_px == (960.0, 540.0)
    assert camera.lens.distortion == (-0.05, 0.14, 0.001, -0.002, 0.01)
    assert_the_camera(camera)


def test_qualisys_with_a_part_of_the_sensor(tmp_path: Path) -> None:
    part = {"left": 240, "top": 4, "right": 1679, "bottom": 1083}
    (camera,) = read_calibration(qualisys(tmp_path, part))
    assert camera.lens.size_px == (1440, 1080) and camera.lens.centre_px == (720.0, 536.0)


def test_qualisys_with_binned_pixels(tmp_path: Path) -> None:
    found = read_file(qualisys(tmp_path, {"lines": "540p"}))
    lens = found.lenses["1"]
    assert lens.size_px == (960, 544) and lens.focal_px == (500.0, 510.0)
    # pixel centres at integers: (960 + 0.5) / 2 - 0.5
    assert lens.centre_px == (479.75, 269.75)
    assert found.notes == ("camera 1: its pictures are scaled by 0.5 to 540p",)
    assert lens.distortion == (-0.05, 0.14, 0.001, -0.002, 0.01)


def test_qualisys_cameras_for_markers_are_left_out_and_named(tmp_path: Path) -> None:
    rest = ({"serial": "2", "model": "Miqus M3"}, {"serial": "3", "model": "Miqus Hybrid"})
    found = read_file(qualisys(tmp_path, {}, *rest))
    assert list(found.lenses) == ["1", "3"]
    assert found.notes == ("camera 2 is left out: Miqus M3 films markers only",)


def test_qualisys_cameras_that_are_off_are_left_out(tmp_path: Path) -> None:
    path = qualisys(tmp_path, {}, {"serial": "2"})
    path.write_text(path.read_text().replace('active="1" calibrated="true" serial="2"', 'active="0" serial="2"'))
    assert list(read_file(path).lenses) == ["1"]
    path.write_text(path.read_text().replace('active="1" calibrated="true"', 'active="1" calibrated="false"'))
    with pytest.raises(InputError, match=r"none of its cameras films.*camera 1 is left out"):
        read_file(path)


def test_qualisys_says_of_a_turned_view(tmp_path: Path) -> None:
    path = qualisys(tmp_path, {})
    path.write_text(path.read_text().replace('viewrotation="0"', 'viewrotation="180"'))
    assert "turned by 180 deg" in read_file(path).notes[0]


@pytest.mark.parametrize("turn", ["$", "nan", "1e999", "12.5"])
def test_qualisys_views_that_are_turned_by_no_number_are_refused(turn: str, tmp_path: Path) -> None:
    path = qualisys(tmp_path, {})
    path.write_text(path.read_text().replace('viewrotation="0"', f'viewrotation="{turn}"'))
    with pytest.raises(InputError, match=r"c\.qca\.txt"):
        read_calibration(path)


def test_qualisys_and_pose2sim_say_the_same_of_one_rig(shared: Path) -> None:
    folder = shared / "data" / "pose2sim_single" / "calibration"
    qca, toml = read_calibration(folder / "Calib.qca.txt"), read_calibration(folder / "Calib_qualisys.toml")
    errors = pose_errors(rig_poses(qca), rig_poses(toml))
    assert errors.centre_m.max() < 1e-6 and errors.rotation_rad.max() < 1e-6
    for a, b in zip(qca, toml, strict=True):
        np.testing.assert_allclose(a.lens.params[:4], b.lens.params[:4], atol=1e-4)
        # Pose2Sim divided the distortion by 64 too, which QTM's own file does not
        np.testing.assert_allclose(a.lens.params[4:6] / 64, b.lens.params[4:6], atol=1e-6)
    assert (qca.centres[:, 2] > 1.5).all()


def test_a_document_type_cannot_hide_in_an_encoding(tmp_path: Path) -> None:
    text = '<!DOCTYPE a [<!ENTITY b "b">]><calibration>&b;</calibration>'
    (tmp_path / "a.xml").write_bytes(text.encode("utf-16"))
    with pytest.raises(InputError, match="document type"):
        read_calibration(tmp_path / "a.xml")


TABLE = "[c]\nmatrix = [[500.0,0,1],[0,500.0,1],[0,0,1]]\nrotation=[0,0,0]\ntranslation=[0,0,0]\nsize=[1,1]\n"
HUGE = "%YAML:1.0\n---\n" + STORAGE_MATRIX.format("cam_K", 100000, 100000, "1.0")


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("a.toml", "not = [toml", "not TOML"),
        ("a.toml", "a = " + "[" * 5000, "not TOML"),
        ("a.toml", "[metadata]\nerror = 0\n", "no table"),
        ("a.toml", TABLE.replace("[[500.0,0,1],[0,500.0,1],[0,0,1]]", "[[1]]"), "camera c.*wrong kind"),
        ("a.toml", TABLE.replace("500.0,0,1", "500.0,2,1"), "camera c.*skew"),
        ("a.toml", TABLE.replace("500.0,0,1", "nan,0,1"), "camera c.*matrix"),
        ("a.toml", TABLE.replace("size=[1,1]", "size=[1.5,1]"), "camera c.*1.5"),
        ("a.toml", TABLE.replace("size=[1,1]", ""), "camera c.*'size'"),
        ("a.toml", TABLE.replace("rotation=[0,0,0]", "rotation=[0,0,inf]"), "camera c.*not finite"),
        ("a.toml", TABLE.replace("rotation=[0,0,0]", "rotation=[[1,0,0],[0,1,0],[0,0,-1]]"), "camera c.*mirrored"),
        ("a.toml", TABLE + "distortions=[0,0,0,0,0,0,0,0,0.1]", "camera c.*more than a rational lens"),
        ("a.toml", TABLE + "distortions=[0.1,0,0,0,0.1]\nfisheye=true", "camera c.*more than a fisheye lens"),
        ("a.toml", TABLE + 'fisheye="yes"', "camera c.*fisheye"),
        ("a.toml", TABLE + 'name="d"\n' + TABLE.replace("[c]", "[e]") + 'name="d"\n', "camera d: two tables"),
        ("a.xml", "<calibration></calibration>", "no camera"),
        ("a.xml", "<a", "not XML"),
        ("a.xml", '<!DOCTYPE a [<!ENTITY b "b">]><a>&b;</a>', "document type"),
        ("a.xml", '<a><camera serial="7"/></a>', "camera 7.*'intrinsic'"),
        ("a.yml", "hello", "no camera"),
        ("a.yml", "%YAML:1.0\n---\nhello: [", "not a file of OpenCV's"),
        ("a.yml", "%YAML:1.0\n---\nhello: 1\n", "no camera"),
        ("a.yml", HUGE, "camera cam.*of this size"),
        ("a.yml", "a: " + "[" * 5000, "not YAML of Kalibr"),
        ("intri.yml", "%YAML:1.0\n---\nhello: 1\n", "names no camera"),
        ("a.txt", "hello", "not a calibration format"),
        ("a.json", '{"cameras": [{}]}', "not a rig"),
        ("a.json", '{"lenses": {"a": {}}}', "camera a.*'model'"),
        ("a.json", "[1]", "a list"),
    ],
)
def test_bad_files_are_refused(name: str, text: str, problem: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=problem):
        read_calibration(write(tmp_path / name, text))


@pytest.mark.parametrize("name", ["a.toml", "a.yml", "a.yaml", "a.xml", "a.qca.txt"])
def test_what_is_no_text_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"\xff\xfe\x00\x01binary")
    with pytest.raises(InputError):
        read_calibration(tmp_path / name)


def test_files_of_an_impossible_size_are_not_read(tmp_path: Path) -> None:
    for name in ("a.toml", "a.yml", "a.xml"):
        with (tmp_path / name).open("wb") as stream:
            stream.truncate(50_000_000)
        with pytest.raises(InputError, match="50000000 bytes"):
            read_calibration(tmp_path / name)


def test_a_missing_file_and_an_empty_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_calibration(tmp_path / "a.toml")
    with pytest.raises(InputError, match="not a calibration format"):
        read_calibration(tmp_path)
