"""COLMAP models: cameras, images, and the rigs and frames of COLMAP 3.12 and newer; text or binary.

Pixel centres lie at +0.5, so principal points move by half a pixel. Quaternions are Hamilton's, w first; poses are
world -> camera. Where rigs and frames are there, they place the images (`sensor_from_rig`, `rig_from_world`), as in
COLMAP itself. Every image is a camera of its own, named as its folder where it is alone there (`cam1/0001.jpg`), else
as itself. A model out of pictures alone has no scale: its lengths are taken for metres.

| lens     | out                                     | in                                                             |
|----------|-----------------------------------------|----------------------------------------------------------------|
| pinhole  | PINHOLE                                 | SIMPLE_PINHOLE, PINHOLE                                        |
| radtan   | OPENCV, FULL_OPENCV where there is a k3 | SIMPLE_RADIAL, RADIAL, OPENCV, FULL_OPENCV without k4 to k6    |
| rational | FULL_OPENCV                             | FULL_OPENCV                                                    |
| fisheye  | OPENCV_FISHEYE                          | OPENCV_FISHEYE, (SIMPLE_)FISHEYE, (SIMPLE_)RADIAL_FISHEYE      |

Other models (FOV, thin prism, division, EUCM, spherical) are refused by name.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import numpy as np
from scipy.spatial.transform import Rotation

from calibration.formats.colmap_files import (
    Model,
    ModelCamera,
    ModelFrame,
    ModelImage,
    ModelRig,
    read_model,
    write_model,
)
from calibration.formats.contents import (
    Calibration,
    Format,
    checked_name,
    in_file,
    perspective_coefficients,
    plain_lens,
    pose_of,
)
from core.cameras import Camera, Lens, Rig
from core.errors import InputError
from core.transforms import SE3

_HALF_PX = 0.5
# parameters by model, in COLMAP's order; f stands for both focal lengths
PARAMETERS: Mapping[str, str] = {
    "SIMPLE_PINHOLE": "f cx cy",
    "PINHOLE": "fx fy cx cy",
    "SIMPLE_RADIAL": "f cx cy k1",
    "RADIAL": "f cx cy k1 k2",
    "OPENCV": "fx fy cx cy k1 k2 p1 p2",
    "FULL_OPENCV": "fx fy cx cy k1 k2 p1 p2 k3 k4 k5 k6",
    "SIMPLE_FISHEYE": "f cx cy",
    "FISHEYE": "fx fy cx cy",
    "SIMPLE_RADIAL_FISHEYE": "f cx cy k1",
    "RADIAL_FISHEYE": "f cx cy k1 k2",
    "OPENCV_FISHEYE": "fx fy cx cy k1 k2 k3 k4",
}
_PERSPECTIVE = ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")
_FISHEYE = ("k1", "k2", "k3", "k4")
_PICTURE = re.compile(r"\.(png|jpe?g|tiff?|bmp|webp|ppm|pgm)$", re.IGNORECASE)


def read_colmap(path: Path) -> Calibration:
    """A model's images as cameras.

    Args:
        path: the model's folder, a folder that holds it as `sparse/0`, or one of its files.

    Raises:
        InputError: if files are missing, damaged or disagree, or a lens is of a kind that this project has not.
    """
    folder = _folder(path)
    model = read_model(folder)
    names = _names([image.name for image in model.images])
    used = {image.camera_id for image in model.images}
    lenses = {c.id: in_file(folder, str(c.id), _lens, c) for c in model.cameras if c.id in used}
    poses = _frame_poses(folder, model)
    placed = {}
    for name, image in zip(names, model.images, strict=True):
        if image.camera_id not in lenses:
            raise InputError(str(folder), f"image {image.name} has no camera {image.camera_id}", "export it again")
        placed[name] = poses.get(image.id) or in_file(folder, name, _pose, image.rotation_wxyz, image.t_m)
    notes = ["lengths are taken for metres: a model made from pictures alone has no scale"]
    if model.num_points:
        notes.append(f"its {model.num_points} points are left out")
    by_name = {name: lenses[image.camera_id] for name, image in zip(names, model.images, strict=True)}
    return Calibration("colmap", by_name, placed, tuple(notes))


def _folder(path: Path) -> Path:
    if path.is_file():
        return path.parent
    return path / "sparse" / "0" if (path / "sparse" / "0").is_dir() else path


def _names(images: list[str]) -> list[str]:
    """One name an image: that of its folder where it is alone there, else its own without the suffix."""
    paths = [PurePosixPath(_PICTURE.sub("", name)) for name in images]
    folders = Counter(path.parent for path in paths)
    return [p.parent.as_posix() if len(p.parts) > 1 and folders[p.parent] == 1 else p.as_posix() for p in paths]


def _pose(rotation_wxyz: tuple[float, ...], t_m: tuple[float, ...]) -> SE3:
    w, x, y, z = rotation_wxyz
    if not np.isfinite(rotation_wxyz).all():
        raise ValueError("a number of the rotation is not finite")
    return pose_of(Rotation.from_quat([x, y, z, w]).as_matrix(), t_m)


def _frame_poses(folder: Path, model: Model) -> dict[int, SE3]:
    """Poses of the images that frames place."""
    sensors = {
        (rig.id, camera): in_file(folder, f"{camera} of rig {rig.id}", _pose, *pose)
        for rig in model.rigs
        for camera, pose in rig.sensors
        if pose is not None
    }
    found = {}
    for frame in model.frames:
        for camera, image_id in frame.images:
            if (frame.rig_id, camera) not in sensors:
                action = "calibrate the rig in COLMAP first"
                raise InputError(str(folder), f"camera {camera} has no place in rig {frame.rig_id}", action)
            rig_from_world = in_file(folder, f"{camera} of frame {frame.id}", _pose, frame.rotation_wxyz, frame.t_m)
            found[image_id] = sensors[frame.rig_id, camera] @ rig_from_world
    return found


def _lens(camera: ModelCamera) -> Lens:
    if camera.model not in PARAMETERS:
        raise InputError("lens", f"its model {camera.model} is not known here", f"use one of {', '.join(PARAMETERS)}")
    value = dict(zip(PARAMETERS[camera.model].split(), camera.params, strict=True))
    fisheye = "FISHEYE" in camera.model
    focal = (value.get("f", value.get("fx", 0.0)), value.get("f", value.get("fy", 0.0)))
    centre = (value["cx"] - _HALF_PX, value["cy"] - _HALF_PX)
    coefficients = [value.get(name, 0.0) for name in (_FISHEYE if fisheye else _PERSPECTIVE)]
    return plain_lens(focal, centre, coefficients, camera.size_px, fisheye=fisheye)


def write_colmap(folder: Path, rig: Rig, *, binary: bool = False) -> tuple[str, ...]:
    """A model without points: one rig with every camera, one frame, one image a camera.

    Raises:
        InputError: if a camera's id cannot be an image's name.
    """
    write_model(folder, _model(rig), binary=binary)
    return ()


def _model(rig: Rig) -> Model:
    cameras, images = [], []
    for number, camera in enumerate(rig, start=1):
        name = checked_name(camera.id, r"[^\s/\0#][^\s/\0]*", "COLMAP", "letters, digits, _ and -")
        if _PICTURE.search(name):
            checked_name(name, r"\0", "COLMAP", "no suffix of a picture")
        cameras.append(_model_camera(number, camera))
        images.append(ModelImage(number, *_numbers(camera.cam_from_world), number, name))
    first = rig.cameras[0]
    sensors = [
        (number, _numbers(SE3.identity() if number == 1 else camera.cam_from_world @ first.world_from_cam))
        for number, camera in enumerate(rig, start=1)
    ]
    frame = ModelFrame(1, 1, *_numbers(first.cam_from_world), tuple((image.id, image.id) for image in images))
    return Model(tuple(cameras), tuple(images), (ModelRig(1, tuple(sensors)),), (frame,))


def _numbers(pose: SE3) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Quaternion, w first, and translation."""
    x, y, z, w = Rotation.from_matrix(pose.R).as_quat(canonical=True).tolist()
    return (w, x, y, z), tuple(pose.t.tolist())


def _model_camera(number: int, camera: Camera) -> ModelCamera:
    lens = camera.lens
    fisheye = lens.model == "fisheye"
    flat = list(lens.distortion) if fisheye else perspective_coefficients(camera, "COLMAP", most=8)
    flat += [0.0] * (8 - len(flat))
    plain = "PINHOLE" if not lens.distortion else "FULL_OPENCV" if any(flat[4:]) else "OPENCV"
    name = "OPENCV_FISHEYE" if fisheye else plain
    value = dict(zip(_FISHEYE if fisheye else _PERSPECTIVE, flat, strict=False))
    value |= {"fx": lens.focal_px[0], "fy": lens.focal_px[1]}
    value |= {"cx": lens.centre_px[0] + _HALF_PX, "cy": lens.centre_px[1] + _HALF_PX}
    return ModelCamera(number, name, lens.size_px, tuple(value[key] for key in PARAMETERS[name].split()))


def _is_colmap(path: Path) -> bool:
    folder = _folder(path)
    names = {"cameras.txt", "images.txt", "cameras.bin", "images.bin"}
    if path.is_file() and path.name not in names | {"rigs.txt", "rigs.bin", "frames.txt", "frames.bin"}:
        return False
    return any((folder / f"cameras{s}").is_file() and (folder / f"images{s}").is_file() for s in (".txt", ".bin"))


TEXT = Format("colmap", "a model's folder, text or binary", _is_colmap, read_colmap, write_colmap)
BINARY = Format(
    "colmap-binary",
    "the same, written as binary files",
    _is_colmap,
    read_colmap,
    lambda folder, rig: write_colmap(folder, rig, binary=True),
)
