"""Calibration files go out and come back: every lens model that a format holds, and refusals of what it does not."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import get_args

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_rigs import FISHEYE, PINHOLE, RADTAN, RATIONAL, cameras, mixed_rig, rig_of

from calibration.formats import (
    FORMATS,
    Writable,
    read_calibration,
    read_file,
    read_lenses,
    turned_up,
    write_calibration,
    write_rig,
)
from calibration.formats.storage import Storage
from core.cameras import Camera, Lens, LensModel, Rig
from core.errors import InputError
from core.files import write_json
from core.transforms import SE3

ALL: tuple[LensModel, ...] = ("pinhole", "radtan", "rational", "fisheye")
# lens models by format, and the file it is read from
CARRIED: dict[str, tuple[tuple[LensModel, ...], str]] = {
    "project": (ALL, "rig.json"),
    "opencv": (ALL, "cameras.yml"),
    "colmap": (ALL, "."),
    "colmap-binary": (ALL, "."),
    "pose2sim": (("pinhole", "radtan"), "Calib.toml"),
    "anipose": (("pinhole", "radtan", "fisheye"), "calibration.toml"),
    "caliscope": (("pinhole", "radtan", "fisheye"), "camera_array.toml"),
    "easymocap": (("pinhole", "radtan"), "intri.yml"),
    "kalibr": (("pinhole", "fisheye"), "camchain.yaml"),
}


def assert_same(found: Rig, truth: Rig, *, half_px: bool = False) -> None:
    """The same cameras. A pose comes back to 1e-12 of its size; COLMAP's half pixel costs one rounding."""
    assert len(found) == len(truth)
    for ours, theirs in zip(truth, found, strict=True):
        assert theirs.lens.model == ours.lens.model and theirs.lens.size_px == ours.lens.size_px
        tolerance = np.where(np.arange(len(ours.lens.params)) // 2 == 1, 1e-11, 0.0) if half_px else 0.0
        assert (np.abs(theirs.lens.params - ours.lens.params) <= tolerance).all()
        np.testing.assert_allclose(theirs.cam_from_world.R, ours.cam_from_world.R, rtol=0, atol=1e-13)
        np.testing.assert_allclose(theirs.cam_from_world.t, ours.cam_from_world.t, rtol=1e-13, atol=1e-11)


def test_every_format_is_in_the_table_of_this_test() -> None:
    assert set(CARRIED) | {"qualisys"} == set(FORMATS)


@pytest.mark.parametrize("name", CARRIED)
@settings(max_examples=15)
@given(data=st.data())
def test_a_rig_comes_back_as_it_was(name: str, data: st.DataObject) -> None:
    models, file = CARRIED[name]
    rig = rig_of(data.draw(cameras(models)))
    with tempfile.TemporaryDirectory() as folder:
        write_calibration(Path(folder), rig, name)
        found = read_file(Path(folder, file))
        assert found.format == ("pose2sim" if name == "anipose" else name.removesuffix("-binary"))
        back = found.rig()
    if name == "kalibr":  # it has no world but the first camera
        assert np.array_equal(back.cameras[0].cam_from_world.matrix, np.eye(4))
        rig = rig.moved(rig.cameras[0].cam_from_world)
    if name != "caliscope":
        assert back.ids == rig.ids
    assert_same(back, rig, half_px=name.startswith("colmap"))


@pytest.mark.parametrize("name", CARRIED)
def test_what_a_format_cannot_hold_is_refused_with_the_camera(name: str, tmp_path: Path) -> None:
    radtan = dataclasses.replace(RADTAN, distortion=(*RADTAN.distortion[:4], 0.01))
    for lens in (radtan, FISHEYE, RATIONAL, PINHOLE):
        rig = mixed_rig(PINHOLE, lens)
        if lens.model in CARRIED[name][0]:
            write_calibration(tmp_path / lens.model, rig, name)
            continue
        with pytest.raises(InputError, match=r"cam_1: .* cannot hold its"):
            write_calibration(tmp_path / lens.model, rig, name)
        assert not list(tmp_path.glob(f"{lens.model}/*"))


def test_kalibr_holds_a_radtan_lens_without_k3(tmp_path: Path) -> None:
    lens = Lens("radtan", (640, 480), (500.0, 501.0), (320.5, 239.0), (0.1, -0.2, 0.003, 1e-05, 0.0))
    write_calibration(tmp_path, mixed_rig(lens, PINHOLE), "kalibr")
    assert read_lenses(tmp_path / "camchain.yaml") == {"cam_0": lens, "cam_1": PINHOLE}


def test_a_rational_lens_of_only_five_coefficients_is_the_same_radtan_lens(tmp_path: Path) -> None:
    lens = Lens("rational", (640, 480), (500.0, 501.0), (320.5, 239.0), (0.1, 0.2, 0.001, 0.002, 0.3, 0.0, 0.0, 0.0))
    write_calibration(tmp_path, mixed_rig(lens), "pose2sim")
    found = read_calibration(tmp_path / "Calib.toml")["cam_0"].lens
    assert found.model == "radtan"
    rays = np.random.default_rng(0).normal([0, 0, 3], 0.5, (50, 3))
    np.testing.assert_allclose(found.project(rays), lens.project(rays), rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", [name for name in CARRIED if name not in ("project", "caliscope")])
@pytest.mark.parametrize("camera_id", ["my camera", "a/b", 'a"]\nfisheye = true', ""])
def test_names_that_would_break_a_file_are_refused(name: str, camera_id: str, tmp_path: Path) -> None:
    rig = Rig((Camera(camera_id, PINHOLE, SE3.identity()),))
    with pytest.raises(InputError, match="not a name that"):
        write_calibration(tmp_path, rig, name)


def test_caliscope_numbers_its_cameras_and_says_so(tmp_path: Path) -> None:
    numbered = mixed_rig(RADTAN, FISHEYE)
    (note,) = write_calibration(tmp_path, numbered, "caliscope")
    assert "cam_0 is 0, cam_1 is 1" in note
    same_end = Rig((Camera("a7", PINHOLE, SE3.identity()), Camera("b7", PINHOLE, SE3.identity())))
    assert "a7 is 0, b7 is 1" in write_calibration(tmp_path, same_end, "caliscope")[0]
    plain = Rig((Camera("3", PINHOLE, SE3.identity()),))
    assert write_calibration(tmp_path, plain, "caliscope") == ()
    assert read_calibration(tmp_path / "camera_array.toml").ids == ("3",)


def test_anipose_keeps_the_order_of_more_than_ten_cameras(tmp_path: Path) -> None:
    rig = mixed_rig(*[PINHOLE] * 12)
    write_calibration(tmp_path, rig, "anipose")
    heads = [line for line in (tmp_path / "calibration.toml").read_text().splitlines() if line.startswith("[cam")]
    assert heads == sorted(heads) and read_calibration(tmp_path / "calibration.toml").ids == rig.ids


def test_every_format_with_a_writer_can_be_asked_for() -> None:
    assert set(get_args(Writable)) == {name for name, found in FORMATS.items() if found.write is not None}


def test_lenses_of_another_session_are_read(tmp_path: Path) -> None:
    lenses = {"left_foot": FISHEYE, "room00": RADTAN}
    write_json(tmp_path / "lenses.json", {"lenses": {name: lens.to_json() for name, lens in lenses.items()}})
    assert read_lenses(tmp_path / "lenses.json") == lenses
    with pytest.raises(InputError, match="no place of left_foot, room00"):
        read_calibration(tmp_path / "lenses.json")


def test_a_file_in_millimetres_is_read_as_such(tmp_path: Path) -> None:
    rig = mixed_rig(RADTAN, FISHEYE)
    large = Rig(tuple(Camera(c.id, c.lens, SE3(c.cam_from_world.R, 1000 * c.cam_from_world.t)) for c in rig))
    write_calibration(tmp_path, large, "anipose")
    assert_same(read_calibration(tmp_path / "calibration.toml", unit_m=0.001), rig)


def test_y_up_becomes_z_up() -> None:
    rig = mixed_rig(RADTAN, RADTAN)
    turned = turned_up(rig, "y")
    np.testing.assert_allclose(turned.centres[:, 2], rig.centres[:, 1], atol=1e-12)
    for up in ("x", "-x", "-y", "-z", "z"):
        sign, axis = (-1 if up.startswith("-") else 1), "xyz".index(up[-1])
        np.testing.assert_allclose(turned_up(rig, up).centres[:, 2], sign * rig.centres[:, axis], atol=1e-12)


@pytest.mark.parametrize(("name", "file"), [("project", "rig.json"), ("opencv", "cameras.yml")])
def test_a_mirrored_camera_is_refused(name: str, file: str, tmp_path: Path) -> None:
    mirrored = Camera("cam1", PINHOLE, SE3(np.diag([1.0, 1.0, -1.0]), np.zeros(3)))
    write_calibration(tmp_path, Rig((mirrored,)), name)
    with pytest.raises(InputError, match=r"cam1.*(rigid transform|mirrored)"):
        read_calibration(tmp_path / file)


def test_writing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    rig = mixed_rig(PINHOLE, Lens("radtan", (640, 480), (500.0, 501.0), (320.5, 239.0), (0.1, 0.2, 0.01, 0.02, 0.0)))
    for name in CARRIED:
        contents = []
        for turn in ("a", "b"):
            write_calibration(tmp_path / turn / name, rig, name)
            contents.append({p.name: p.read_bytes() for p in sorted((tmp_path / turn / name).iterdir())})
        assert contents[0] == contents[1] and contents[0]


def test_a_rig_of_the_project_is_read_from_any_name(tmp_path: Path) -> None:
    write_rig(tmp_path / "mine.json", mixed_rig(RADTAN, RATIONAL))
    assert_same(read_calibration(tmp_path / "mine.json"), mixed_rig(RADTAN, RATIONAL))


@pytest.mark.parametrize(
    ("name", "file", "old", "new"),
    [
        ("opencv", "cameras.yml", "_R:", "_Q:"),
        ("opencv", "cameras.yml", "dt: d", "dt: q"),
        ("opencv", "cameras.yml", "rows: 3\n   cols: 3", "rows: -3\n   cols: -3"),
        ("opencv", "cameras.yml", "rows: 3\n   cols: 1", "rows: 9\n   cols: 1"),
        ("easymocap", "intri.yml", '- "', '- 1e999\n   - "'),
        ("easymocap", "intri.yml", '- "', '- []\n   - "'),
        ("easymocap", "extri.yml", "T_", "U_"),
        ("project", "rig.json", '"size_px": [', '"size_px": [1e999, '),
    ],
)
def test_damaged_files_are_refused_in_one_line(name: str, file: str, old: str, new: str, tmp_path: Path) -> None:
    write_calibration(tmp_path, mixed_rig(RADTAN), name)
    text = (tmp_path / file).read_text()
    assert old in text
    (tmp_path / file).write_text(text.replace(old, new))
    with pytest.raises(InputError) as caught:
        read_file(tmp_path / file)
    assert "\n" not in str(caught.value)


def test_a_file_at_which_opencv_itself_never_ends_is_refused(tmp_path: Path) -> None:
    content = """%YAML:1 3
   cols: 3
  mat-matrix
   rows: 3
   cols: 3
   dt: d
   data: [ 1.0, 0.0 ]
cam1_t: !!o 0.0 ]
cam1_size: !!opencv-matrix
   rows: 1
   cols: 2%YAML
   dt:"d
   data: [ 640.0, 480.0 ]
cam1_dist: !!opencv-m]
"""
    (tmp_path / "cameras.yml").write_text(content)
    with pytest.raises(InputError, match="not a file of OpenCV's"):
        read_calibration(tmp_path / "cameras.yml")


def test_numbers_as_opencv_writes_them(tmp_path: Path) -> None:
    """The file's own writer has every digit; OpenCV's leaves out what it can, and has words for what is no number."""
    store = cv2.FileStorage(str(tmp_path / "cameras.yml"), cv2.FILE_STORAGE_WRITE)
    K = np.array([[5e2, 0, 320.5], [0, 501, 2.5e-7], [0, 0, 1]])
    turn = SE3.from_rotvec(np.array([0.1, -0.2, 0.3]), np.zeros(3))
    for key, value in (("K", K), ("R", turn.R), ("t", np.array([[1e-12], [-2.0], [3e4]]))):
        store.write(f"cam1_{key}", value)
    store.write("cam2_K", np.full((3, 3), np.nan))
    store.release()
    found = Storage(tmp_path / "cameras.yml")
    assert np.array_equal(found.required("cam1_K"), K) and np.array_equal(found.required("cam1_R"), turn.R)
    assert found.required("cam1_t").ravel().tolist() == [1e-12, -2.0, 3e4]
    assert np.isnan(found.required("cam2_K")).all() and found.matrix("cam3_K") is None
