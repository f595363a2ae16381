"""COLMAP models against COLMAP itself, both ways, text and binary; and models of older and damaged kinds."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from random_rigs import FISHEYE, PINHOLE, RADTAN, RATIONAL, mixed_rig

from calibration.formats import read_calibration, read_file, write_calibration
from core.errors import InputError
from core.transforms import SE3

POINT = np.array([0.1, 0.2, 0.3])
WITH_K3 = dataclasses.replace(RADTAN, distortion=(0.1, 0.2, 0.001, 0.002, 0.03))
RIG = mixed_rig(PINHOLE, RADTAN, WITH_K3, RATIONAL, FISHEYE)
SUFFIX = {"colmap": ".txt", "colmap-binary": ".bin"}

# reads a model (argv 1), prints each image's name, pose and the pixel of a point, and writes it (argv 2, argv 3)
READ_AND_WRITE = """
import sys, zlib, pycolmap
model = pycolmap.Reconstruction(sys.argv[1])
for image in sorted(model.images.values(), key=lambda image: image.image_id):
    pose = image.cam_from_world()
    px = model.cameras[image.camera_id].img_from_cam(pose * [0.1, 0.2, 0.3])
    print(image.name, *px, *pose.matrix().ravel())
(model.write_text if sys.argv[3] == ".txt" else model.write_binary)(sys.argv[2])
"""
# makes a model in COLMAP: every lens model that is known here, in a rig of two and four cameras alone
MAKE = """
import sys, zlib, numpy as np, pycolmap
rng = np.random.default_rng(3)
model = pycolmap.Reconstruction()
names = sys.argv[3].split(",")
def pose():
    turn = pycolmap.Rotation3d(rng.normal(0, 0.1, 3))
    return pycolmap.Rigid3d(turn, np.array([0, 0, 3]) + rng.normal(0, 0.3, 3))
for k, name in enumerate(names, start=1):
    plain = pycolmap.Camera.create_from_model_name(k, name, 500.0, 640, 480)
    focal = [500.0, 510.0] if "fx" in plain.params_info else [500.0]
    rest = rng.uniform(0.01, 0.05, len(plain.params) - len(focal) - 2)
    model.add_camera(pycolmap.Camera(model=name, width=640, height=480, params=[*focal, 320, 240, *rest], camera_id=k))
joined = pycolmap.Rig(rig_id=1)
joined.add_ref_sensor(pycolmap.sensor_t(pycolmap.SensorType.CAMERA, 1))
joined.add_sensor(pycolmap.sensor_t(pycolmap.SensorType.CAMERA, 2), pose())
model.add_rig(joined)
for k in range(3, len(names) + 1):
    alone = pycolmap.Rig(rig_id=k)
    alone.add_ref_sensor(pycolmap.sensor_t(pycolmap.SensorType.CAMERA, k))
    model.add_rig(alone)
for k in [1, *range(3, len(names) + 1)]:
    frame = pycolmap.Frame(frame_id=k, rig_id=k, rig_from_world=pose())
    images = [1, 2] if k == 1 else [k]
    for i in images:
        frame.add_data_id(pycolmap.data_t(pycolmap.sensor_t(pycolmap.SensorType.CAMERA, i), i))
    model.add_frame(frame)
    for i in images:
        model.add_image(pycolmap.Image(image_id=i, camera_id=i, frame_id=k, name=f"cam{i}/0001.jpg"))
    model.register_frame(k)
for k in range(7):
    model.add_point3D(np.ones(3) * k, pycolmap.Track(), np.zeros(3, np.uint8))
for i in sorted(model.images):
    image = model.images[i]
    found = image.cam_from_world()
    px = model.cameras[image.camera_id].img_from_cam(found * [0.1, 0.2, 0.3])
    print(image.name, *px, *found.matrix().ravel())
(model.write_text if sys.argv[2] == ".txt" else model.write_binary)(sys.argv[1])
"""


def colmap(program: str, *args: str) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Names, pixels and poses that COLMAP prints, in a process of its own (its zlib would take over ours)."""
    answer = subprocess.run([sys.executable, "-c", program, *args], capture_output=True, text=True, check=True)
    rows = [line.split() for line in answer.stdout.splitlines()]
    numbers = np.array([[float(word) for word in row[1:]] for row in rows])
    return [row[0] for row in rows], numbers[:, :2], numbers[:, 2:].reshape(-1, 3, 4)


def assert_agrees(rig: Rig, px: np.ndarray, poses: np.ndarray) -> None:
    # COLMAP's pixel centres lie at halves; it projects to the last digits of a double
    np.testing.assert_allclose(px - 0.5, rig.project(POINT), rtol=0, atol=1e-9)
    np.testing.assert_allclose(poses, [c.cam_from_world.matrix[:3] for c in rig], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", SUFFIX)
def test_colmap_reads_our_model_and_we_read_what_it_writes(name: str, tmp_path: Path) -> None:
    write_calibration(tmp_path / "ours", RIG, name)
    (tmp_path / "theirs").mkdir()
    other = ".bin" if SUFFIX[name] == ".txt" else ".txt"  # so all four readers and writers meet
    names, px, poses = colmap(READ_AND_WRITE, str(tmp_path / "ours"), str(tmp_path / "theirs"), other)
    assert tuple(names) == RIG.ids
    assert_agrees(RIG, px, poses)
    assert {path.name for path in (tmp_path / "theirs").iterdir()} >= {f"{f}{other}" for f in ("rigs", "frames")}
    back = read_calibration(tmp_path / "theirs")
    assert back.ids == RIG.ids
    for ours, theirs in zip(RIG, back, strict=True):
        assert theirs.lens.model == ours.lens.model
        np.testing.assert_allclose(theirs.lens.params, ours.lens.params, rtol=0, atol=1e-12)
    assert_agrees(back, px, poses)


@pytest.mark.parametrize("suffix", [".txt", ".bin"])
def test_every_lens_model_and_a_rig_that_colmap_writes(suffix: str, tmp_path: Path) -> None:
    models = (
        "OPENCV,FULL_OPENCV,SIMPLE_PINHOLE,PINHOLE,SIMPLE_RADIAL,RADIAL,OPENCV_FISHEYE,SIMPLE_RADIAL_FISHEYE,"
        "RADIAL_FISHEYE,SIMPLE_FISHEYE,FISHEYE"
    )
    _, px, poses = colmap(MAKE, str(tmp_path), suffix, models)
    found = read_file(tmp_path)
    assert list(found.lenses) == [f"cam{k}" for k in range(1, 12)]
    assert_agrees(found.rig(), px, poses)
    assert "its 7 points are left out" in found.notes
    # the rig and the frames place the images, not their own lines
    if suffix == ".txt":
        path = tmp_path / "images.txt"
        first, *rest = [line for line in path.read_text().splitlines() if not line.startswith("#")]
        words = first.split()
        path.write_text("\n".join([" ".join([words[0], "1 0 0 0 9 9 9", *words[8:]]), *rest]) + "\n")
        assert_agrees(read_calibration(tmp_path), px, poses)


def test_a_model_without_rigs_is_read_as_older_colmaps_wrote_it(tmp_path: Path) -> None:
    for name, suffix in SUFFIX.items():
        folder = tmp_path / name / "sparse" / "0"
        write_calibration(folder, RIG, name)
        for file in ("rigs", "frames", "points3D"):
            (folder / f"{file}{suffix}").unlink()
        for given in (tmp_path / name, folder, folder / f"cameras{suffix}", folder / f"images{suffix}"):
            back = read_calibration(given)
            np.testing.assert_allclose(back.project(POINT), RIG.project(POINT), rtol=0, atol=1e-9)


def test_one_lens_may_serve_several_images_with_points(tmp_path: Path) -> None:
    (tmp_path / "cameras.txt").write_text("# list\n1 SIMPLE_RADIAL 640 480 500.0 320.5 240.5 -0.1\n")
    lines = ["# list", "7 1 0 0 0 0 0 2 1 left.png", "1.5 2.5 -1 3.5 4.5 9", "9 1 0 0 0 0 0 3 1 a b.JPG", ""]
    (tmp_path / "images.txt").write_text("\n".join(lines) + "\n")
    rig = read_calibration(tmp_path)
    assert rig.ids == ("left", "a b") and rig["left"].lens == rig["a b"].lens
    assert rig["left"].lens.distortion == (-0.1, 0.0, 0.0, 0.0, 0.0) and rig["left"].lens.centre_px == (320.0, 240.0)
    np.testing.assert_allclose(rig["a b"].centre, [0, 0, -3])


def test_a_lens_model_that_is_not_known_is_refused_by_name(tmp_path: Path) -> None:
    write_calibration(tmp_path, RIG, "colmap")
    path = tmp_path / "cameras.txt"
    path.write_text(path.read_text().replace("2 OPENCV", "2 THIN_PRISM_FISHEYE"))
    with pytest.raises(InputError, match=r"camera 2.*THIN_PRISM_FISHEYE"):
        read_calibration(tmp_path)


@pytest.mark.parametrize("file", ["cameras", "images", "rigs", "frames"])
@pytest.mark.parametrize("name", SUFFIX)
def test_files_that_are_cut_off_are_refused(file: str, name: str, tmp_path: Path) -> None:
    write_calibration(tmp_path, RIG, name)
    path = tmp_path / f"{file}{SUFFIX[name]}"
    content = path.read_bytes()
    end = len(content) - 9 if SUFFIX[name] == ".bin" else content.rindex(b" ", 0, content.rindex(b" ")) - 30
    path.write_bytes(content[:end])
    with pytest.raises(InputError):
        read_calibration(tmp_path)


def test_a_binary_file_that_claims_more_than_it_has_is_refused(tmp_path: Path) -> None:
    write_calibration(tmp_path, RIG, "colmap-binary")
    for file in ("cameras", "images", "rigs", "frames"):
        path = tmp_path / f"{file}.bin"
        content = path.read_bytes()
        path.write_bytes(b"\xff" * 8 + content[8:])
        with pytest.raises(InputError, match=f"{file}.bin: it is cut off"):
            read_calibration(tmp_path)
        path.write_bytes(content)


def test_a_camera_without_a_place_in_its_rig_is_refused(tmp_path: Path) -> None:
    write_calibration(tmp_path, RIG, "colmap")
    path = tmp_path / "rigs.txt"
    path.write_text(path.read_text().splitlines()[0] + "\n1 5 CAMERA 1 CAMERA 2 0 CAMERA 3 0 CAMERA 4 0 CAMERA 5 0\n")
    with pytest.raises(InputError, match="camera 2 has no place in rig 1"):
        read_calibration(tmp_path)


def test_the_reference_sensor_is_the_origin_of_the_rig(tmp_path: Path) -> None:
    write_calibration(tmp_path, RIG, "colmap")
    numbers = (tmp_path / "frames.txt").read_text().splitlines()[1].split()[2:9]
    w, x, y, z, *t = map(float, numbers)
    turn = 2 * np.arccos(w) * np.array([x, y, z]) / np.linalg.norm([x, y, z])
    np.testing.assert_allclose(
        SE3.from_rotvec(turn, np.array(t)).matrix, RIG.cameras[0].cam_from_world.matrix, rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("rotation", ["0 0 0 0", "nan 0 0 0"])
@pytest.mark.parametrize("place", ["1 2 3", "nan 2 3"])
def test_an_image_without_a_proper_place_is_refused(rotation: str, place: str, tmp_path: Path) -> None:
    (tmp_path / "cameras.txt").write_text("1 PINHOLE 640 480 500 500 320 240\n")
    (tmp_path / "images.txt").write_text(f"1 {rotation} {place} 1 a.png\n\n")
    with pytest.raises(InputError, match=r"camera a: a field is missing or of the wrong kind"):
        read_file(tmp_path)
    (tmp_path / "images.txt").write_text("1 1 0 0 0 nan 2 3 1 a.png\n\n")
    with pytest.raises(InputError, match="not finite"):
        read_file(tmp_path)


def test_frames_and_sensors_without_a_proper_place_are_refused(tmp_path: Path) -> None:
    write_calibration(tmp_path, RIG, "colmap")
    for name, problem in (("frames", "of frame 1"), ("rigs", "of rig 1")):
        text = (tmp_path / f"{name}.txt").read_text()
        *head, last = text.rstrip("\n").split("\n")
        fields = last.split()
        # a frame has its quaternion after two ids, a sensor of a rig after its kind, id and flag
        first = 2 if name == "frames" else next(i for i, f in enumerate(fields) if f == "CAMERA" and i > 2) + 3
        fields[first : first + 4] = ["0"] * 4
        (tmp_path / f"{name}.txt").write_text("\n".join([*head, " ".join(fields)]) + "\n")
        with pytest.raises(InputError, match=problem):
            read_file(tmp_path)
        (tmp_path / f"{name}.txt").write_text(text)
