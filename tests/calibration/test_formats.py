from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from synthetic_scenes import FISHEYE, RADTAN, room_cameras

from calibration.align import align_poses, pose_errors, rig_poses
from calibration.formats import read_calibration, turned_up, write_colmap, write_opencv_yaml, write_rig, write_toml
from core.cameras import Camera, Lens, Rig
from core.errors import InputError
from core.transforms import SE3

RATIONAL = Lens("rational", (640, 480), (500.0, 501.0), (320.5, 239.0), (0.1, 0.2, 0.001, 0.002, 0.3, 0.1, 0.05, 0.01))

PINHOLE = Lens("pinhole", (640, 480), (500.0, 501.0), (320.5, 239.0))


def mixed_rig(*lenses: Lens) -> Rig:
    poses = rig_poses(room_cameras(len(lenses)))
    return Rig(tuple(Camera(f"cam_{k}", lens, poses[k].inverse()) for k, lens in enumerate(lenses)))


@pytest.mark.parametrize(
    ("name", "write", "lenses"),
    [
        ("rig.json", write_rig, (RADTAN, FISHEYE, RATIONAL, PINHOLE)),
        ("rig.toml", write_toml, (RADTAN, FISHEYE)),
        ("rig.yml", write_opencv_yaml, (RADTAN, FISHEYE, RATIONAL, PINHOLE)),
    ],
)
def test_round_trip(name: str, write: Callable[[Path, Rig], None], lenses: tuple[Lens, ...], tmp_path: Path) -> None:
    rig = mixed_rig(*lenses)
    write(tmp_path / name, rig)
    back = read_calibration(tmp_path / name)
    assert back.ids == rig.ids
    for ours, theirs in zip(rig, back, strict=True):
        assert theirs.lens.model == ours.lens.model and theirs.lens.size_px == ours.lens.size_px
        np.testing.assert_allclose(theirs.lens.params, ours.lens.params, rtol=1e-12)
        np.testing.assert_allclose(theirs.cam_from_world.matrix, ours.cam_from_world.matrix, atol=1e-12)


def test_qualisys_and_pose2sim_say_the_same_of_one_rig(shared: Path) -> None:
    folder = shared / "data" / "pose2sim_single" / "calibration"
    qualisys, toml = read_calibration(folder / "Calib.qca.txt"), read_calibration(folder / "Calib_qualisys.toml")
    errors = pose_errors(rig_poses(qualisys), rig_poses(toml))
    assert errors.centre_m.max() < 1e-6 and errors.rotation_rad.max() < 1e-6
    for a, b in zip(qualisys, toml, strict=True):
        np.testing.assert_allclose(a.lens.params[:4], b.lens.params[:4], atol=1e-4)
        # Pose2Sim divided the distortion by 64 too, which QTM's own file does not
        np.testing.assert_allclose(a.lens.params[4:6] / 64, b.lens.params[4:6], atol=1e-6)
    assert (qualisys.centres[:, 2] > 1.5).all()


def test_caliscope(shared: Path) -> None:
    rig = read_calibration(shared / "data" / "caliscope_charuco_4cam" / "camera_array.toml")
    assert rig.ids == ("0", "1", "2", "3")
    assert rig["0"].lens.focal_px[0] == pytest.approx(903.550124)


def test_y_up_becomes_z_up() -> None:
    rig = mixed_rig(RADTAN, RADTAN)
    turned = turned_up(rig, "y")
    np.testing.assert_allclose(turned.centres[:, 2], rig.centres[:, 1], atol=1e-12)
    for up in ("x", "-x", "-y", "-z", "z"):
        sign, axis = (-1 if up.startswith("-") else 1), "xyz".index(up[-1])
        np.testing.assert_allclose(turned_up(rig, up).centres[:, 2], sign * rig.centres[:, axis], atol=1e-12)


def test_colmap_moves_principal_points_by_half_a_pixel(tmp_path: Path) -> None:
    rig = mixed_rig(RADTAN, FISHEYE)
    write_colmap(tmp_path, rig)
    fields = (tmp_path / "cameras.txt").read_text().splitlines()[1].split()
    assert fields[1] == "FULL_OPENCV" and float(fields[6]) == RADTAN.centre_px[0] + 0.5
    w, x, y, z, *t = map(float, (tmp_path / "images.txt").read_text().splitlines()[1].split()[1:8])
    turn = 2 * np.arccos(w) * np.array([x, y, z]) / np.linalg.norm([x, y, z])
    pose = SE3.from_rotvec(turn, np.array(t))
    np.testing.assert_allclose(pose.matrix, rig.cameras[0].cam_from_world.matrix, atol=1e-9)


def test_a_document_type_cannot_hide_in_an_encoding(tmp_path: Path) -> None:
    text = '<!DOCTYPE a [<!ENTITY b "b">]><calibration>&b;</calibration>'
    (tmp_path / "a.xml").write_bytes(text.encode("utf-16"))
    with pytest.raises(InputError, match="document type"):
        read_calibration(tmp_path / "a.xml")


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("a.toml", "not = [toml", "not TOML"),
        ("a.toml", "[metadata]\nerror = 0\n", "no table"),
        ("a.toml", "[c]\nmatrix = [[1]]\nrotation = [0,0,0]\ntranslation = [0,0,0]\nsize=[1,1]\n", "wrong kind"),
        ("a.xml", "<calibration></calibration>", "no camera"),
        ("a.xml", "<a", "not XML"),
        ("a.xml", '<!DOCTYPE a [<!ENTITY b "b">]><a>&b;</a>', "document type"),
        ("a.yml", "hello", "not a file of OpenCV's"),
        ("a.txt", "hello", "not a calibration format"),
        ("a.json", '{"cameras": [{}]}', "not a rig"),
    ],
)
def test_bad_files_are_refused(name: str, text: str, problem: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=problem):
        read_calibration(tmp_path / name)


def test_alignment_of_cameras_in_a_line_uses_their_orientations() -> None:
    source = rig_poses(room_cameras(2))
    move = SE3.from_rotvec(np.array([0.3, -0.2, 1.0]), np.array([1.0, 2.0, 3.0]))
    found, scale = align_poses(source, move @ source, with_scale=True)
    np.testing.assert_allclose(found.matrix, move.matrix, atol=1e-9)
    assert scale == pytest.approx(1.0)


def test_a_mirrored_camera_in_an_opencv_file_is_refused(tmp_path: Path) -> None:
    lens = Lens("pinhole", (640, 480), (500.0, 500.0), (320.0, 240.0))
    mirrored = Camera("cam1", lens, SE3(np.diag([1.0, 1.0, -1.0]), np.zeros(3)))
    write_opencv_yaml(tmp_path / "c.yml", Rig((mirrored,)))
    with pytest.raises(InputError, match="cam_from_world of cam1 is no rigid transform"):
        read_calibration(tmp_path / "c.yml")
