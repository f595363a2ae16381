"""Other tools' calibration files, in and out. Everything becomes a `Rig` in OpenCV's camera convention and in metres.

| format        | file            | in  | out | what it holds                                                        |
|---------------|-----------------|-----|-----|----------------------------------------------------------------------|
| project       | `.json`         | yes | yes | `Rig.to_json`                                                        |
| Pose2Sim      | `.toml`         | yes | yes | a table a camera, Rodrigues and translation world -> camera, metres  |
| anipose       | `.toml`         | yes | yes | the same keys (its unit is the board's: metres here)                 |
| caliscope     | `.toml`         | yes | no  | the same keys, rotation as a matrix or Rodrigues                     |
| Qualisys QTM  | `.qca.txt .xml` | yes | no  | XML, mm, lengths of the image in 1/64 px, camera -> world rows       |
| OpenCV        | `.yml .yaml`    | yes | yes | `<id>_K`, `_dist`, `_R`, `_t`, `_size`, `_model` a camera            |
| COLMAP        | folder of text  | no  | yes | `cameras.txt images.txt points3D.txt`, pixel centres at +0.5         |

World axes are those of the file; `turned_up` brings them to z up.
"""

from __future__ import annotations

import re
import tomllib
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy.spatial.transform import Rotation

from core.cameras import Camera, Lens, LensModel, Rig
from core.errors import InputError
from core.files import read_json, require_file, write_json, write_text
from core.transforms import SE3, nearest_rotation, so3_exp

Up = Literal["x", "y", "z", "-x", "-y", "-z"]

_QCA_PX = 1.0 / 64.0  # Qualisys states image lengths in 1/64 px
_MM = 1e-3
_XML_LIMIT_BYTES = 10_000_000
# COLMAP's names and the parameters that each takes after fx fy cx cy
_COLMAP_MODELS: Mapping[str, tuple[str, tuple[int, ...]]] = {
    "pinhole": ("PINHOLE", ()),
    "radtan": ("FULL_OPENCV", (0, 1, 2, 3, 4)),
    "rational": ("FULL_OPENCV", (0, 1, 2, 3, 4, 5, 6, 7)),
    "fisheye": ("OPENCV_FISHEYE", (0, 1, 2, 3)),
}


def read_calibration(path: Path) -> Rig:
    """Reads any supported file by its suffix.

    Raises:
        InputError: if the file is missing, damaged, or of a kind that is not known.
    """
    require_file(path)
    name = path.name.lower()
    try:
        if name.endswith(".json"):
            return _read_json_rig(path)
        if name.endswith(".toml"):
            return read_toml(path)
        if name.endswith((".qca.txt", ".xml", ".qca")):
            return read_qualisys(path)
        if name.endswith((".yml", ".yaml")):
            return read_opencv_yaml(path)
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise InputError(
            str(path), f"a field is missing or of the wrong kind ({error!r})", "export it again"
        ) from error
    raise InputError(str(path), "not a calibration format that is known", "use .json, .toml, .qca.txt, .xml or .yml")


def _read_json_rig(path: Path) -> Rig:
    """The project's own file; its errors name the file."""
    data = read_json(path)
    if not isinstance(data, dict):
        raise InputError(str(path), f"not a rig of this project but a {type(data).__name__}", "give another file")
    try:
        return Rig.from_json(data)
    except InputError as error:
        raise InputError(str(path), f"{error.item}: {error.problem}", error.action) from error


def turned_up(rig: Rig, up: Up) -> Rig:
    """The rig in a world whose z axis is the old world's `up`; the turn is the shortest one that does it.

    From "y" that is (x, y, z) -> (x, -z, y), the usual change from y-up to z-up.
    """
    axis = np.zeros(3)
    axis["xyz".index(up[-1])] = -1.0 if up.startswith("-") else 1.0
    turn = np.cross(axis, [0.0, 0.0, 1.0])
    if np.linalg.norm(turn) < 0.5:  # already along z: nothing to do, or upside down
        R = np.eye(3) if axis[2] > 0 else np.diag([1.0, -1.0, -1.0])
    else:
        R = so3_exp(turn * np.pi / 2).round()
    return rig.moved(SE3(R, np.zeros(3)))


def read_toml(path: Path) -> Rig:
    """Pose2Sim, anipose and caliscope: a table a camera with `matrix`, `distortions`, `rotation`, `translation`."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(str(path), f"not TOML ({error})", "export it again") from error
    tables = data.get("cameras", data)
    cameras = [_camera_of_table(str(key), table) for key, table in tables.items() if _is_camera(table)]
    if not cameras:
        raise InputError(
            str(path), "no table in it holds a camera with matrix, rotation and translation", "check the file"
        )
    return Rig(tuple(cameras))


def _is_camera(table: Any) -> bool:
    return isinstance(table, dict) and {"matrix", "rotation", "translation"} <= table.keys()


def _camera_of_table(key: str, table: Mapping[str, Any]) -> Camera:
    rotation = np.array(table["rotation"], float)
    R = nearest_rotation(rotation) if rotation.shape == (3, 3) else so3_exp(rotation.reshape(3))
    name = str(table.get("name", table.get("cam_id", key)))
    lens = _lens(
        np.array(table["matrix"], float), table.get("distortions", ()), table["size"], bool(table.get("fisheye"))
    )
    return Camera(name, lens, SE3(R, np.array(table["translation"], float).reshape(3)))


def _lens(K: np.ndarray, distortions: Any, size: Any, fisheye: bool) -> Lens:
    """A lens whose model the file states: fisheye by its flag, else radtan, or rational where it has eight numbers."""
    flat = [float(v) for v in np.ravel(distortions)]
    model: LensModel = "fisheye" if fisheye else "rational" if len(flat) == 8 else "radtan"
    count = {"fisheye": 4, "rational": 8, "radtan": 5}[model]
    if len(flat) > count:
        raise ValueError(f"{len(flat)} distortion numbers for a {model} lens")
    flat += [0.0] * (count - len(flat))
    return Lens(model, (int(size[0]), int(size[1])), *_focal_and_centre(K), tuple(flat))


def _focal_and_centre(K: np.ndarray) -> tuple[tuple[float, float], tuple[float, float]]:
    return (float(K[0, 0]), float(K[1, 1])), (float(K[0, 2]), float(K[1, 2]))


def read_qualisys(path: Path) -> Rig:
    """Qualisys QTM's XML.

    `transform` holds the camera's position (mm) and, in its rows, the axes of Qualisys' camera frame (x right, y up,
    z backward) in the world: OpenCV's camera is that frame with y and z reversed. `radialDistortion1..3` and
    `tangentalDistortion1..2` are OpenCV's k1 k2 k3 p1 p2 on normalised coordinates.

    Raises:
        InputError: if it is not such XML, or declares a document type, which could make a small file huge.
    """
    raw = path.read_bytes()
    # a zero byte: text of two bytes a letter, in which neither word would be found
    if len(raw) > _XML_LIMIT_BYTES or any(word in raw.upper() for word in (b"<!DOCTYPE", b"<!ENTITY", b"\0")):
        raise InputError(str(path), "it is too large or declares a document type", "export it from QTM again")
    try:
        root = ElementTree.fromstring(raw)
    except ElementTree.ParseError as error:
        raise InputError(str(path), f"not XML ({error})", "export it from QTM again") from error
    cameras = [_qualisys_camera(node) for node in root.iter("camera")]
    if not cameras:
        raise InputError(str(path), "it holds no camera", "export it from QTM again")
    return Rig(tuple(cameras))


def _qualisys_camera(node: ElementTree.Element) -> Camera:
    def numbers(tag: str) -> dict[str, str]:
        found = node.find(tag)
        if found is None:
            raise KeyError(tag)
        return dict(found.attrib)

    pose, lens, view = numbers("transform"), numbers("intrinsic"), numbers("fov_video_max")
    qtm_from_world = np.array([[float(pose[f"r{i}{j}"]) for j in (1, 2, 3)] for i in (1, 2, 3)])
    centre = _MM * np.array([float(pose[axis]) for axis in "xyz"])
    world_from_cam = SE3(nearest_rotation(qtm_from_world).T @ np.diag([1.0, -1.0, -1.0]), centre)
    size = (int(view["right"]) - int(view["left"]) + 1, int(view["bottom"]) - int(view["top"]) + 1)
    k = [float(lens[f"radialDistortion{i}"]) for i in (1, 2, 3)]
    p = [float(lens[f"tangentalDistortion{i}"]) for i in (1, 2)]
    centre_px = (
        float(lens["centerPointU"]) * _QCA_PX - float(view["left"]),
        float(lens["centerPointV"]) * _QCA_PX - float(view["top"]),
    )
    focal_px = (float(lens["focalLengthU"]) * _QCA_PX, float(lens["focalLengthV"]) * _QCA_PX)
    model = Lens("radtan", size, focal_px, centre_px, (k[0], k[1], p[0], p[1], k[2]))
    return Camera(str(node.attrib["serial"]), model, world_from_cam.inverse())


def read_opencv_yaml(path: Path) -> Rig:
    """OpenCV's YAML with `<id>_K`, `_dist`, `_R`, `_t`, `_size`, `_model` a camera."""
    import cv2

    try:
        store = cv2.FileStorage(str(path), cv2.FILE_STORAGE_READ)
    except (cv2.error, SystemError) as error:
        raise InputError(str(path), "not a file of OpenCV's", "export it again") from error
    keys = store.root().keys()  # a FileNode, not a dict
    names = [key[:-2] for key in keys if key.endswith("_K")]
    cameras = []
    for name in names:
        fields = {key: store.getNode(f"{name}_{key}").mat() for key in ("K", "dist", "R", "t", "size")}
        fields["dist"] = np.zeros(0) if fields["dist"] is None else fields["dist"]  # a pinhole has none
        if any(value is None for value in fields.values()):
            raise InputError(str(path), f"camera {name} lacks a matrix", "write K, dist, R, t and size of every camera")
        model = store.getNode(f"{name}_model").string()
        flat = tuple(float(v) for v in fields["dist"].ravel())
        K, (w, h) = fields["K"], (int(v) for v in fields["size"].ravel())
        lens = Lens(model, (w, h), *_focal_and_centre(K), flat)  # type: ignore[arg-type]
        try:
            cameras.append(Camera.checked(name, lens, fields["R"], fields["t"].ravel()))
        except ValueError as error:
            raise InputError(str(path), str(error), "export it again") from error
    store.release()
    if not cameras:
        raise InputError(str(path), "it holds no camera (no `<id>_K`)", "check the file")
    return Rig(tuple(cameras))


def write_rig(path: Path, rig: Rig) -> None:
    """The project's own JSON."""
    write_json(path, rig.to_json())


def write_toml(path: Path, rig: Rig) -> None:
    """Pose2Sim's and anipose's TOML.

    Raises:
        InputError: for a rational lens, which that format cannot say.
    """
    blocks = []
    for camera in rig:
        lens = camera.lens
        if lens.model == "rational":
            raise InputError(camera.id, "a rational lens does not fit into this format", "calibrate it as radtan")
        rows = ", ".join(f"[ {', '.join(map(repr, row))}]" for row in lens.K.tolist())
        lines = [
            f"[{_toml_key(camera.id)}]",
            f'name = "{_toml_key(camera.id)}"',
            f"size = [ {lens.size_px[0]:.1f}, {lens.size_px[1]:.1f}]",
            f"matrix = [ {rows}]",
            f"distortions = {list(lens.distortion) or [0.0] * 4!r}",
            f"rotation = {camera.cam_from_world.rotvec.tolist()!r}",
            f"translation = {camera.cam_from_world.t.tolist()!r}",
            f"fisheye = {'true' if lens.model == 'fisheye' else 'false'}",
        ]
        blocks.append("\n".join(lines))
    write_text(path, "\n\n".join(blocks) + "\n\n[metadata]\nadjusted = false\nerror = 0.0\n")


def _toml_key(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise InputError(name, "not a name for a TOML table", "name cameras with letters, digits, _ and -")
    return name


def write_opencv_yaml(path: Path, rig: Rig) -> None:
    """OpenCV's YAML, as `read_opencv_yaml` reads it."""
    import cv2

    store = cv2.FileStorage(".yml", cv2.FILE_STORAGE_WRITE | cv2.FILE_STORAGE_MEMORY)
    for camera in rig:
        lens, pose = camera.lens, camera.cam_from_world
        store.write(f"{camera.id}_model", lens.model)
        values = {"K": lens.K, "dist": np.array([lens.distortion]), "R": pose.R, "t": pose.t[:, None]}
        for key, value in {**values, "size": np.array([lens.size_px], float)}.items():
            store.write(f"{camera.id}_{key}", value)
    write_text(path, store.releaseAndGetString())


def write_colmap(folder: Path, rig: Rig) -> None:
    """COLMAP's text model without points: pixel centres lie at +0.5 there, so principal points move by half a pixel."""
    cameras, images = ["# CAMERA_ID MODEL WIDTH HEIGHT PARAMS[]"], ["# IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME"]
    for number, camera in enumerate(rig, start=1):
        lens, pose = camera.lens, camera.cam_from_world
        model, order = _COLMAP_MODELS[lens.model]
        distortion = [lens.distortion[k] for k in order] + [0.0] * (8 - len(order) if model == "FULL_OPENCV" else 0)
        params = [*lens.focal_px, lens.centre_px[0] + 0.5, lens.centre_px[1] + 0.5, *distortion]
        cameras.append(
            f"{number} {model} {lens.size_px[0]} {lens.size_px[1]} {' '.join(map(repr, map(float, params)))}"
        )
        x, y, z, w = Rotation.from_matrix(pose.R).as_quat(canonical=True)
        values = " ".join(repr(float(v)) for v in (w, x, y, z, *pose.t))
        images += [f"{number} {values} {number} {camera.id}", ""]
    write_text(folder / "cameras.txt", "\n".join(cameras) + "\n")
    write_text(folder / "images.txt", "\n".join(images) + "\n")
    write_text(folder / "points3D.txt", "# POINT3D_ID X Y Z R G B ERROR TRACK[]\n")
