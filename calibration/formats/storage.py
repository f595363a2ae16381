"""OpenCV's `FileStorage` YAML, as two tools use it.

**OpenCV**: `<id>_model`, `<id>_K`, `<id>_dist`, `<id>_R`, `<id>_t`, `<id>_size` a camera, world -> camera, metres; all
lens models. The file of OpenCV's own calibration sample (`camera_matrix`, `distortion_coefficients`, `image_width`,
`image_height`, `fisheye_model`) is read too: one lens, without a place, named as the file.

**EasyMocap**: `intri.yml` and `extri.yml` beside it: `names`, and for each name `K_`, `dist_` (`D_` in older ones),
`H_`, `W_`; `R_` (Rodrigues), `Rot_` (the same as a matrix), `T_`, world -> camera, metres. Perspective lenses alone.
The image size is optional there; without it the file is refused, because a lens is good for one size only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from calibration.formats.contents import (
    Calibration,
    Format,
    beginning,
    checked_name,
    in_file,
    lens_of,
    numbers,
    perspective_coefficients,
    pose_of,
    read_text,
)
from core.cameras import Lens, Rig
from core.errors import InputError
from core.files import require_file, write_text
from core.transforms import SE3, so3_exp

_MAX_BYTES = 500_000  # of a file: hundreds of cameras, in a few seconds
_LARGEST = 64  # numbers in a matrix of a calibration file
_KINDS = tuple("ucwsifdh")  # of numbers, one a place
_WHOLE = re.compile(r"\d{1,9}")
_NUMBER = re.compile(r"[+-]?(\d{1,400}\.?\d{0,400}(e[+-]?\d{1,5})?|\.\d{1,400}(e[+-]?\d{1,5})?|nan|inf)")
_ROT_TOLERANCE = 1e-4  # between EasyMocap's R_ and Rot_, both printed with six digits


class Storage:
    """A `FileStorage` file, read whole; OpenCV's own parser never comes back from some damaged ones.

    Raises:
        InputError: if it is none.
    """

    def __init__(self, path: Path) -> None:
        text = read_text(path, _MAX_BYTES)
        if text.startswith("%YAML"):  # OpenCV writes `%YAML:1.0`, which YAML has otherwise
            text = text.partition("\n")[2]
        try:
            # scalars stay text and tags mean nothing: what is a number is for whoever asks for one
            self._entries = yaml.load(text, yaml.BaseLoader)
        except (yaml.YAMLError, RecursionError, ValueError) as error:
            raise InputError(str(path), "not a file of OpenCV's", "export it again") from error
        if not isinstance(self._entries, dict):
            raise InputError(str(path), "not a file of OpenCV's", "export it again")
        self.keys: tuple[str, ...] = tuple(key for key in self._entries if isinstance(key, str))

    def matrix(self, key: str) -> np.ndarray | None:
        """A matrix, or None if there is none.

        Raises:
            ValueError: if its numbers are not as many as it says, or are none.
        """
        node = self._entries.get(key)
        if not isinstance(node, dict):
            return None
        rows, columns, kind, data = (node.get(part) for part in ("rows", "cols", "dt", "data"))
        shape = tuple(int(n) for n in (rows, columns) if isinstance(n, str) and _WHOLE.fullmatch(n))
        # a file may claim any size: it is believed only where the numbers are there
        if len(shape) != 2 or not isinstance(data, list) or len(data) != shape[0] * shape[1] or len(data) > _LARGEST:
            raise ValueError(f"{key} is no matrix of this size")
        if not isinstance(kind, str) or kind not in _KINDS:
            raise ValueError(f"{key} is no matrix of numbers")
        return np.array([_number(key, value) for value in data]).reshape(shape)

    def required(self, key: str) -> np.ndarray:
        """A matrix that has to be there.

        Raises:
            KeyError: if it is not.
        """
        found = self.matrix(key)
        if found is None:
            raise KeyError(key)
        return found

    def text(self, key: str) -> str:
        """A string; empty if there is none."""
        found = self._entries.get(key)
        return found if isinstance(found, str) else ""

    def number(self, key: str) -> float:
        """A number.

        Raises:
            KeyError: if there is none.
            ValueError: if it is none.
        """
        return _number(key, self._entries[key])

    def names(self, key: str) -> list[str]:
        """A list of names; names that are numbers may stand without quotes.

        Raises:
            ValueError: if one is neither.
        """
        items = self._entries.get(key)
        found = items if isinstance(items, list) else []
        if wrong := [i for i, item in enumerate(found) if not isinstance(item, str)]:
            raise ValueError(f"entry {wrong[0] + 1} of {key} is no name")
        return list(found)


def _number(key: str, value: Any) -> float:
    """A number as OpenCV writes it: `1.`, `1.5e-05`, `.Nan`, `-.Inf`."""
    plain = value.lower().replace(".nan", "nan").replace(".inf", "inf") if isinstance(value, str) else ""
    if not _NUMBER.fullmatch(plain):
        raise ValueError(f"{key} is no number, or holds what is none")
    return float(plain)


def _text(entries: Iterable[tuple[str, Any]]) -> str:
    """The YAML of strings, integers, lists of names, and matrices, with every digit."""
    lines = ["%YAML:1.0", "---"]
    for key, value in entries:
        if isinstance(value, np.ndarray):
            lines += [
                f"{key}: !!opencv-matrix",
                f"   rows: {value.shape[0]}",
                f"   cols: {value.shape[1]}",
                "   dt: d",
                f"   data: [ {', '.join(numbers(value))} ]",
            ]
        elif isinstance(value, tuple):
            lines += [f"{key}:", *(f'   - "{name}"' for name in value)]
        else:
            lines.append(f"{key}: {value}")
    return "\n".join(lines) + "\n"


def _read_opencv(path: Path) -> Calibration:
    store = Storage(path)
    if "camera_matrix" in store.keys:
        return Calibration("opencv", {path.stem: in_file(path, path.stem, _sample_lens, store)})
    lenses: dict[str, Lens] = {}
    poses: dict[str, SE3] = {}
    for name in (key[:-2] for key in store.keys if key.endswith("_K")):
        lenses[name] = in_file(path, name, _opencv_lens, store, name)
        if f"{name}_R" in store.keys or f"{name}_t" in store.keys:
            poses[name] = in_file(path, name, _opencv_pose, store, name)
    if not lenses:
        raise InputError(str(path), "it holds no camera (no `<id>_K`)", "check the file")
    return Calibration("opencv", lenses, poses)


def _opencv_lens(store: Storage, name: str) -> Lens:
    distortion, model = store.matrix(f"{name}_dist"), store.text(f"{name}_model")
    flat = [] if distortion is None else distortion.ravel().tolist()  # a pinhole has none
    lens = lens_of(
        store.required(f"{name}_K"), flat, store.required(f"{name}_size").ravel().tolist(), fisheye=model == "fisheye"
    )
    if not model:
        return lens
    # the model is stated: its coefficients are as many as it takes, zero or not
    return Lens(model, lens.size_px, lens.focal_px, lens.centre_px, tuple(flat))  # type: ignore[arg-type]


def _opencv_pose(store: Storage, name: str) -> SE3:
    return pose_of(store.required(f"{name}_R"), store.required(f"{name}_t"))


def _sample_lens(store: Storage) -> Lens:
    size = (store.number("image_width"), store.number("image_height"))
    fisheye = "fisheye_model" in store.keys and store.number("fisheye_model") != 0
    return lens_of(store.required("camera_matrix"), store.required("distortion_coefficients"), size, fisheye=fisheye)


def _write_opencv(folder: Path, rig: Rig) -> tuple[str, ...]:
    entries: list[tuple[str, Any]] = []
    for camera in rig:
        name = checked_name(
            camera.id, r"[A-Za-z_][A-Za-z0-9_-]*", "OpenCV's YAML", "a letter, then letters, digits, _ and -"
        )
        lens, pose = camera.lens, camera.cam_from_world
        entries.append((f"{name}_model", lens.model))
        values = {"K": lens.K, "R": pose.R, "t": pose.t[:, None], "size": np.array([lens.size_px], float)}
        if lens.distortion:
            values["dist"] = np.array([lens.distortion])
        entries += [(f"{name}_{key}", value) for key, value in values.items()]
    write_text(folder / "cameras.yml", _text(entries))
    return ()


def _read_easymocap(path: Path) -> Calibration:
    folder = path if path.is_dir() else path.parent
    intri_path, extri_path = require_file(folder / "intri.yml"), folder / "extri.yml"
    intri = Storage(intri_path)
    names = [name for name in in_file(intri_path, "names", intri.names, "names") if name != "none"]
    if not names:
        raise InputError(str(intri_path), "it names no camera", "check its list `names`")
    lenses = {name: in_file(intri_path, name, _easymocap_lens, intri, name) for name in names}
    if not extri_path.is_file():
        return Calibration("easymocap", lenses, notes=("there is no extri.yml beside it: lenses alone",))
    extri = Storage(extri_path)
    placed = [name for name in names if f"R_{name}" in extri.keys or f"Rot_{name}" in extri.keys]
    poses = {name: in_file(extri_path, name, _easymocap_pose, extri, name) for name in placed}
    return Calibration("easymocap", lenses, poses)


def _easymocap_lens(store: Storage, name: str) -> Lens:
    if not {f"H_{name}", f"W_{name}"} <= set(store.keys):
        raise InputError(
            "size", "the file does not say how large the pictures are", f"add `H_{name}: HEIGHT` and `W_{name}: WIDTH`"
        )
    distortion = store.matrix(f"dist_{name}")
    distortion = store.matrix(f"D_{name}") if distortion is None else distortion
    flat = () if distortion is None else distortion
    return lens_of(store.required(f"K_{name}"), flat, (store.number(f"W_{name}"), store.number(f"H_{name}")))


def _easymocap_pose(store: Storage, name: str) -> SE3:
    turn, matrix = store.matrix(f"R_{name}"), store.matrix(f"Rot_{name}")
    pose = pose_of(matrix if turn is None else turn, store.required(f"T_{name}"))
    if turn is not None and matrix is not None and np.abs(so3_exp(turn.reshape(3)) - matrix).max() > _ROT_TOLERANCE:
        raise ValueError(f"R_{name} and Rot_{name} are two different rotations")
    return pose


def _write_easymocap(folder: Path, rig: Rig) -> tuple[str, ...]:
    names = tuple(checked_name(c.id, r"[A-Za-z0-9_-]+", "EasyMocap", "letters, digits, _ and -") for c in rig)
    intri: list[tuple[str, Any]] = [("names", names)]
    extri: list[tuple[str, Any]] = [("names", names)]
    for name, camera in zip(names, rig, strict=True):
        width, height = camera.lens.size_px
        distortion = np.array([perspective_coefficients(camera, "EasyMocap")])
        intri += [
            (f"K_{name}", camera.lens.K),
            (f"dist_{name}", distortion),
            (f"H_{name}", height),
            (f"W_{name}", width),
        ]
        pose = camera.cam_from_world
        extri += [(f"R_{name}", pose.rotvec[:, None]), (f"Rot_{name}", pose.R), (f"T_{name}", pose.t[:, None])]
    write_text(folder / "intri.yml", _text(intri))
    write_text(folder / "extri.yml", _text(extri))
    return ()


def _is_storage(path: Path) -> bool:
    return path.suffix.lower() in (".yml", ".yaml") and beginning(path, 5) == "%YAML"


def _is_easymocap(path: Path) -> bool:
    if path.is_dir():
        return (path / "intri.yml").is_file()
    return _is_storage(path) and path.name in ("intri.yml", "extri.yml")


OPENCV = Format(
    "opencv", "`cameras.yml` of cv2.FileStorage, every lens model", _is_storage, _read_opencv, _write_opencv
)
EASYMOCAP = Format("easymocap", "`intri.yml` and `extri.yml`", _is_easymocap, _read_easymocap, _write_easymocap)
