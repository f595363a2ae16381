"""What a calibration file says, and the checks that every reader and writer shares."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np

from core.arrays import Float
from core.cameras import NUM_DISTORTIONS, Camera, Lens, LensModel, Rig
from core.errors import InputError
from core.files import require_file
from core.transforms import SE3, nearest_rotation, so3_exp

# printed with six digits a rotation is off by 1e-6; mirrored, scaled or unfinished ones by far more
_OPENCV = ("pinhole", "radtan", "rational")  # models with coefficients in the order of cv2.projectPoints
_ROTATION_TOLERANCE = 1e-3

Given = ParamSpec("Given")
Made = TypeVar("Made")


@dataclass(frozen=True)
class Calibration:
    """A calibration file, in metres and OpenCV's camera convention.

    Attributes:
        format: name of the file's format.
        lenses: of every camera, in the file's order.
        cam_from_world: of those cameras that the file places.
        notes: what was left out of the file, or assumed.
    """

    format: str
    lenses: Mapping[str, Lens]
    cam_from_world: Mapping[str, SE3] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def rig(self) -> Rig:
        """The cameras with lens and place.

        Raises:
            InputError: if the file places no camera, or not all of them.
        """
        unplaced = [name for name in self.lenses if name not in self.cam_from_world]
        if unplaced or not self.lenses:
            raise InputError(
                self.format,
                f"it holds no place of {', '.join(unplaced) or 'any camera'}",
                "use it for lenses alone (--lenses-from), or calibrate and export those cameras",
            )
        return Rig(tuple(Camera(name, lens, self.cam_from_world[name]) for name, lens in self.lenses.items()))

    def in_unit(self, unit_m: float) -> Calibration:
        """The same file read with its lengths in units of `unit_m` metres (0.001 for millimetres)."""
        scaled = {name: SE3(pose.R, pose.t * unit_m) for name, pose in self.cam_from_world.items()}
        return dataclasses.replace(self, cam_from_world=scaled)


@dataclass(frozen=True)
class Format:
    """One tool's calibration files.

    Attributes:
        name: as `motifs export --format` spells it.
        holds: what the files hold, for people.
        recognises: whether a path is such a file or folder; looks at names and beginnings only.
        read: reads it.
        write: writes a rig into a folder and returns what the format could not carry; None for formats only read.
    """

    name: str
    holds: str
    recognises: Callable[[Path], bool]
    read: Callable[[Path], Calibration]
    write: Callable[[Path, Rig], tuple[str, ...]] | None = None


def read_limited(path: Path, limit_bytes: int = 10_000_000) -> bytes:
    """Content of a file from outside.

    Raises:
        InputError: if it is missing, or larger than any file of its kind.
    """
    size = require_file(path).stat().st_size
    if size > limit_bytes:
        raise InputError(str(path), f"it has {size} bytes, more than any calibration file", "give another file")
    return path.read_bytes()


def read_text(path: Path, limit_bytes: int = 10_000_000) -> str:
    """The same, as UTF-8 text.

    Raises:
        InputError: also if it is no such text.
    """
    try:
        return read_limited(path, limit_bytes).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(str(path), f"not UTF-8 text ({error})", "export it again") from error


def beginning(path: Path, count: int = 4096) -> str:
    """The first letters of a file, to recognise it by; empty where there is no file."""
    if not path.is_file():
        return ""
    with path.open("rb") as stream:
        return stream.read(count).decode("utf-8", errors="replace").lstrip("\ufeff")


def lens_of(K: Any, distortion: Any, size: Sequence[Any], *, fisheye: bool = False) -> Lens:
    """A lens from a camera matrix, OpenCV's coefficients and an image size.

    A perspective lens gets the simplest model that says the same: pinhole where all coefficients are zero, radtan where
    k4 to k6 are, else rational. A fisheye is one only where the file says so.

    Raises:
        ValueError: if a number is missing, or says what no lens of this project can (skew, thin prisms, a tilt).
    """
    matrix = np.array(K, float)
    if matrix.shape != (3, 3):
        raise ValueError("the camera matrix is not 3 x 3")
    if not np.isfinite(matrix).all():
        raise ValueError(f"a number of the camera matrix is not finite: {matrix.tolist()}")
    if matrix[0, 1] != 0 or matrix[1, 0] != 0 or matrix[2].tolist() != [0.0, 0.0, 1.0]:
        raise ValueError(f"the camera matrix has skew or is no camera matrix: {matrix.tolist()}")
    return plain_lens(
        (matrix[0, 0], matrix[1, 1]), (matrix[0, 2], matrix[1, 2]), np.ravel(distortion), size, fisheye=fisheye
    )


def plain_lens(
    focal_px: Sequence[Any], centre_px: Sequence[Any], distortion: Any, size: Sequence[Any], *, fisheye: bool = False
) -> Lens:
    """`lens_of` from focal lengths and a principal point."""
    flat = [float(v) for v in np.ravel(distortion)]
    while flat and flat[-1] == 0:
        flat.pop()
    model: LensModel = "fisheye" if fisheye else "pinhole" if not flat else "radtan" if len(flat) <= 5 else "rational"
    missing = NUM_DISTORTIONS[model] - len(flat)
    if missing < 0:
        raise ValueError(f"{len(flat)} distortion coefficients say more than a {model} lens can")
    width, height = (float(v) for v in size)
    if not (width.is_integer() and height.is_integer()):
        raise ValueError(f"an image of {width} x {height} px")
    (fx, fy), (cx, cy) = focal_px, centre_px
    coefficients = (*flat, *[0.0] * missing)
    return Lens(model, (int(width), int(height)), (float(fx), float(fy)), (float(cx), float(cy)), coefficients)


def pose_of(rotation: Any, translation: Any) -> SE3:
    """`cam_from_world` from a rotation matrix or a rotation vector, and a translation.

    Raises:
        ValueError: if the rotation is mirrored or none, or a number is missing.
    """
    turn, t = np.array(rotation, float), np.array(translation, float).reshape(3)
    if not (np.isfinite(turn).all() and np.isfinite(t).all()):
        raise ValueError("a number of the pose is not finite")
    if turn.shape != (3, 3):
        return SE3(so3_exp(turn.reshape(3)), t)
    R = nearest_rotation(turn)
    if np.abs(R - turn).max() > _ROTATION_TOLERANCE:
        raise ValueError(f"no rotation, or a mirrored one: {turn.tolist()}")
    return SE3(R, t)


def perspective_coefficients(camera: Camera, tool: str, most: int = 5) -> list[float]:
    """OpenCV's coefficients of a perspective lens, at least 5, for a format that holds up to `most` of them.

    Raises:
        InputError: for a lens that the format cannot say.
    """
    lens = camera.lens
    flat = [*lens.distortion, *[0.0] * (5 - len(lens.distortion))]
    if lens.model not in _OPENCV or any(flat[most:]):
        refuse_lens(camera, tool)
    return flat[:most] if len(flat) > most else flat


def refuse_lens(camera: Camera, tool: str) -> None:
    """Refuses to write a lens that a format cannot say.

    Raises:
        InputError: always.
    """
    raise InputError(
        camera.id,
        f"{tool} cannot hold its {camera.lens.model} lens with coefficients {camera.lens.distortion}",
        "export it in another format, or calibrate it with a simpler lens model",
    )


def checked_name(camera_id: str, pattern: str, tool: str, allowed: str) -> str:
    """A camera's id where it may stand in a file of this format.

    Raises:
        InputError: if not.
    """
    if not re.fullmatch(pattern, camera_id):
        raise InputError(camera_id, f"not a name that {tool} can hold", f"name cameras with {allowed}")
    return camera_id


def in_file(path: Path, camera_id: str, build: Callable[Given, Made], *args: Given.args, **more: Given.kwargs) -> Made:
    """What `build` makes of one camera of a file; its errors name the file and the camera.

    Raises:
        InputError: if a field is missing or of the wrong kind.
    """
    try:
        return build(*args, **more)
    except InputError as error:
        raise InputError(f"{path}, camera {camera_id}", f"{error.item}: {error.problem}", error.action) from error
    except (KeyError, ValueError, TypeError, IndexError, OverflowError) as error:
        problem = f"a field is missing or of the wrong kind ({error!r})"
        raise InputError(f"{path}, camera {camera_id}", problem, "export it again") from error


def number(value: float) -> str:
    """The shortest text that gives the same number back, with a point in it, as YAML 1.1 wants of every float.

    Raises:
        InputError: for what is not a number.
    """
    if not math.isfinite(value):
        raise InputError("rig", "one of its numbers is not finite", "calibrate it again")
    text = repr(float(value))
    return text if "." in text else text.replace("e", ".0e")


def numbers(values: Float[np.ndarray, "*shape"] | Sequence[float | int]) -> list[str]:
    """`number` of every value, row by row."""
    return [number(value) for value in np.ravel(np.asarray(values, float)).tolist()]
