"""The files of a COLMAP model, text and binary, as plain records (COLMAP's documentation, "Output Format").

Binary files are little-endian. Only what places cameras is read: points in images are skipped, 3D points are counted.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calibration.formats.contents import number, read_limited, read_text
from core.errors import InputError
from core.files import write_bytes, write_text

_LIMIT_BYTES = 2_000_000_000  # images hold their keypoints
_MODELS = {
    0: "SIMPLE_PINHOLE", 1: "PINHOLE", 2: "SIMPLE_RADIAL", 3: "RADIAL", 4: "OPENCV", 5: "OPENCV_FISHEYE",
    6: "FULL_OPENCV", 7: "FOV", 8: "SIMPLE_RADIAL_FISHEYE", 9: "RADIAL_FISHEYE", 10: "THIN_PRISM_FISHEYE",
    11: "RAD_TAN_THIN_PRISM_FISHEYE", 12: "SIMPLE_DIVISION", 13: "DIVISION", 14: "SIMPLE_FISHEYE", 15: "FISHEYE",
    16: "EUCM", 17: "EQUIRECTANGULAR",
}  # fmt: skip
_NUM_PARAMS = (3, 4, 4, 5, 8, 8, 12, 5, 4, 5, 12, 16, 4, 5, 3, 4, 6, 2)
_CAMERA_SENSOR = 0  # COLMAP's SensorType

Pose = tuple[tuple[float, ...], tuple[float, ...]]


@dataclass(frozen=True)
class ModelCamera:
    """A lens: COLMAP's id, model and parameters, principal point at COLMAP's +0.5."""

    id: int
    model: str
    size_px: tuple[int, int]
    params: tuple[float, ...]


@dataclass(frozen=True)
class ModelImage:
    """A picture: quaternion (w first) and translation world -> camera, its lens, its name."""

    id: int
    rotation_wxyz: tuple[float, ...]
    t_m: tuple[float, ...]
    camera_id: int
    name: str


@dataclass(frozen=True)
class ModelRig:
    """Cameras that are rigidly joined: (camera, `sensor_from_rig` or None); the first is the rig's origin."""

    id: int
    sensors: tuple[tuple[int, Pose | None], ...]


@dataclass(frozen=True)
class ModelFrame:
    """A rig at an instant: `rig_from_world`, and (camera, image) of its pictures."""

    id: int
    rig_id: int
    rotation_wxyz: tuple[float, ...]
    t_m: tuple[float, ...]
    images: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Model:
    """What a model's files say of its cameras; `rigs` and `frames` are empty before COLMAP 3.12."""

    cameras: tuple[ModelCamera, ...]
    images: tuple[ModelImage, ...]
    rigs: tuple[ModelRig, ...] = ()
    frames: tuple[ModelFrame, ...] = ()
    num_points: int = 0


_IDENTITY: Pose = ((1.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0))


def read_model(folder: Path) -> Model:
    """Reads the binary files where there are both kinds, as COLMAP does.

    Raises:
        InputError: if files are missing or damaged.
    """
    binary = (folder / "cameras.bin").is_file() and (folder / "images.bin").is_file()
    parts: dict[str, Callable[[Path], Any]] = _BINARY if binary else _TEXT
    suffix = ".bin" if binary else ".txt"
    found = {}
    for name, read in parts.items():
        path = folder / f"{name}{suffix}"
        if not path.is_file() and name in ("rigs", "frames", "points3D"):
            continue
        try:
            found[name] = read(path)
        except (struct.error, ValueError, IndexError, OverflowError) as error:
            raise InputError(str(path), f"it is cut off or not COLMAP's ({error})", "export it again") from error
    points = found.get("points3D", 0)
    return Model(found["cameras"], found["images"], found.get("rigs", ()), found.get("frames", ()), points)


def _rows(path: Path) -> Iterator[list[str]]:
    for line in read_text(path, _LIMIT_BYTES).splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            yield line.split()


def _floats(words: list[str]) -> tuple[float, ...]:
    return tuple(float(word) for word in words)


def _pose_words(words: list[str]) -> Pose:
    if len(words) != 7:
        raise ValueError("a pose has seven numbers")
    return _floats(words[:4]), _floats(words[4:])


def _text_cameras(path: Path) -> tuple[ModelCamera, ...]:
    return tuple(ModelCamera(int(w[0]), w[1], (int(w[2]), int(w[3])), _floats(w[4:])) for w in _rows(path))


def _text_images(path: Path) -> tuple[ModelImage, ...]:
    images = []
    lines = iter(read_text(path, _LIMIT_BYTES).splitlines())
    for line in lines:
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        words = line.split(maxsplit=9)
        images.append(ModelImage(int(words[0]), *_pose_words(words[1:8]), int(words[8]), words[9].strip()))
        next(lines, None)  # its points, which may be an empty line
    return tuple(images)


def _text_rigs(path: Path) -> tuple[ModelRig, ...]:
    rigs = []
    for words in _rows(path):
        sensors: list[tuple[int, Pose | None]] = []
        rest = words[4:]
        if int(words[1]) and words[2] == "CAMERA":
            sensors.append((int(words[3]), _IDENTITY))
        while rest:
            placed = int(rest[2]) != 0
            if rest[0] == "CAMERA":
                sensors.append((int(rest[1]), _pose_words(rest[3:10]) if placed else None))
            rest = rest[10 if placed else 3 :]
        rigs.append(ModelRig(int(words[0]), tuple(sensors)))
    return tuple(rigs)


def _text_frames(path: Path) -> tuple[ModelFrame, ...]:
    frames = []
    for words in _rows(path):
        count = int(words[9])
        data = [words[10 + 3 * k : 13 + 3 * k] for k in range(count)]
        images = tuple((int(sensor), int(image)) for kind, sensor, image in data if kind == "CAMERA")
        frames.append(ModelFrame(int(words[0]), int(words[1]), *_pose_words(words[2:9]), images))
    return tuple(frames)


class _Bytes:
    """A binary file, taken from its beginning to its end.

    Raises:
        struct.error: where it ends too early.
    """

    def __init__(self, path: Path) -> None:
        self._content, self._at = read_limited(path, _LIMIT_BYTES), 0

    def take(self, layout: str) -> tuple[Any, ...]:
        found = struct.unpack_from(f"<{layout}", self._content, self._at)
        self._at += struct.calcsize(f"<{layout}")
        return found

    def skip(self, count: int) -> None:
        self._at += count

    def name(self) -> str:
        end = self._content.index(b"\0", self._at)
        text = self._content[self._at : end].decode()
        self._at = end + 1
        return text

    def pose(self) -> Pose:
        values = self.take("7d")
        return values[:4], values[4:]


def _binary_cameras(path: Path) -> tuple[ModelCamera, ...]:
    source = _Bytes(path)
    cameras = []
    for _ in range(source.take("Q")[0]):
        number_, model, width, height = source.take("IiQQ")
        if model not in _MODELS:
            raise ValueError(f"lens model {model} is not known")
        cameras.append(ModelCamera(number_, _MODELS[model], (width, height), source.take(f"{_NUM_PARAMS[model]}d")))
    return tuple(cameras)


def _binary_images(path: Path) -> tuple[ModelImage, ...]:
    source = _Bytes(path)
    images = []
    for _ in range(source.take("Q")[0]):
        (image_id,), pose, (camera_id,) = source.take("I"), source.pose(), source.take("I")
        images.append(ModelImage(image_id, *pose, camera_id, source.name()))
        source.skip(24 * source.take("Q")[0])  # x, y and the point of each keypoint
    return tuple(images)


def _binary_rigs(path: Path) -> tuple[ModelRig, ...]:
    source = _Bytes(path)
    rigs = []
    for _ in range(source.take("Q")[0]):
        rig_id, count = source.take("II")
        sensors: list[tuple[int, Pose | None]] = []
        for position in range(count):
            kind, sensor = source.take("iI")
            placed = position == 0 or source.take("B")[0] != 0
            pose = _IDENTITY if position == 0 else source.pose() if placed else None
            if kind == _CAMERA_SENSOR:
                sensors.append((sensor, pose))
        rigs.append(ModelRig(rig_id, tuple(sensors)))
    return tuple(rigs)


def _binary_frames(path: Path) -> tuple[ModelFrame, ...]:
    source = _Bytes(path)
    frames = []
    for _ in range(source.take("Q")[0]):
        frame_id, rig_id = source.take("II")
        pose = source.pose()
        data = [source.take("iIQ") for _ in range(source.take("I")[0])]
        images = tuple((sensor, image) for kind, sensor, image in data if kind == _CAMERA_SENSOR)
        frames.append(ModelFrame(frame_id, rig_id, *pose, images))
    return tuple(frames)


_TEXT: dict[str, Callable[[Path], Any]] = {
    "cameras": _text_cameras,
    "images": _text_images,
    "rigs": _text_rigs,
    "frames": _text_frames,
    "points3D": lambda path: sum(1 for _ in _rows(path)),
}
_BINARY: dict[str, Callable[[Path], Any]] = {
    "cameras": _binary_cameras,
    "images": _binary_images,
    "rigs": _binary_rigs,
    "frames": _binary_frames,
    "points3D": lambda path: int(_Bytes(path).take("Q")[0]),
}


def write_model(folder: Path, model: Model, *, binary: bool) -> None:
    """Writes all five files."""
    if binary:
        for name, content in _binary_files(model).items():
            write_bytes(folder / f"{name}.bin", content)
        return
    for name, lines in _text_files(model).items():
        write_text(folder / f"{name}.txt", "\n".join(lines) + "\n")


def _words(*values: Any) -> str:
    """Numbers and names with spaces between."""
    return " ".join(number(v) if isinstance(v, float) else str(v) for v in values)


def _text_files(model: Model) -> dict[str, list[str]]:
    rigs = []
    for rig in model.rigs:
        others = [
            f"CAMERA {camera} " + (_words(1, *pose[0], *pose[1]) if pose else "0") for camera, pose in rig.sensors[1:]
        ]
        rigs.append(" ".join([f"{rig.id} {len(rig.sensors)} CAMERA {rig.sensors[0][0]}", *others]))
    frames = []
    for f in model.frames:
        data = [f"CAMERA {camera} {image}" for camera, image in f.images]
        frames.append(" ".join([_words(f.id, f.rig_id, *f.rotation_wxyz, *f.t_m, len(data)), *data]))
    images = []
    for i in model.images:
        images += [_words(i.id, *i.rotation_wxyz, *i.t_m, i.camera_id, i.name), ""]
    cameras = [_words(c.id, c.model, *c.size_px, *c.params) for c in model.cameras]
    return {
        "cameras": ["# CAMERA_ID MODEL WIDTH HEIGHT PARAMS[]", *cameras],
        "rigs": ["# RIG_ID NUM_SENSORS REF_SENSOR_TYPE REF_SENSOR_ID SENSORS[]", *rigs],
        "frames": ["# FRAME_ID RIG_ID QW QX QY QZ TX TY TZ NUM_DATA_IDS DATA_IDS[]", *frames],
        "images": ["# IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME", *images],
        "points3D": ["# POINT3D_ID X Y Z R G B ERROR TRACK[]"],
    }


def _binary_files(model: Model) -> dict[str, bytes]:
    ids = {name: model_id for model_id, name in _MODELS.items()}
    cameras = [struct.pack("<IiQQ", c.id, ids[c.model], *c.size_px) + _packed(c.params) for c in model.cameras]
    images = [
        struct.pack("<I", i.id) + _packed((*i.rotation_wxyz, *i.t_m)) + struct.pack("<I", i.camera_id)
        + i.name.encode() + b"\0" + struct.pack("<Q", 0)
        for i in model.images
    ]  # fmt: skip
    rigs = []
    for rig in model.rigs:
        parts = [struct.pack("<IIiI", rig.id, len(rig.sensors), _CAMERA_SENSOR, rig.sensors[0][0])]
        for camera, pose in rig.sensors[1:]:
            parts.append(struct.pack("<iIB", _CAMERA_SENSOR, camera, pose is not None))
            parts.append(_packed((*pose[0], *pose[1])) if pose is not None else b"")
        rigs.append(b"".join(parts))
    frames = []
    for f in model.frames:
        data = b"".join(struct.pack("<iIQ", _CAMERA_SENSOR, camera, image) for camera, image in f.images)
        head = struct.pack("<II", f.id, f.rig_id) + _packed((*f.rotation_wxyz, *f.t_m))
        frames.append(head + struct.pack("<I", len(f.images)) + data)
    parts_of = {"cameras": cameras, "images": images, "rigs": rigs, "frames": frames, "points3D": []}
    return {name: struct.pack("<Q", len(parts)) + b"".join(parts) for name, parts in parts_of.items()}


def _packed(values: tuple[float, ...]) -> bytes:
    return struct.pack(f"<{len(values)}d", *values)
