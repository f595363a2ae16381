"""Other tools' calibration files, in and out. Everything becomes lenses and places in OpenCV's convention, in metres.

| format          | files                              | in, out | lenses                     | places          |
|-----------------|------------------------------------|---------|----------------------------|-----------------|
| `project`       | `rig.json`, `lenses.json`          | both    | all                        | world           |
| `colmap`        | folder of text or binary files     | both    | all                        | world, no scale |
| `colmap-binary` | the same, written as binary        | both    | all                        | world, no scale |
| `opencv`        | `.yml` of cv2.FileStorage          | both    | all                        | world           |
| `pose2sim`      | `Calib.toml`                       | both    | perspective to k3          | world           |
| `anipose`       | `calibration.toml`                 | both    | perspective to k3, fisheye | world           |
| `caliscope`     | `camera_array.toml`, old and new   | both    | perspective to k3, fisheye | world           |
| `easymocap`     | `intri.yml`, `extri.yml`           | both    | perspective to k3          | world           |
| `kalibr`        | `camchain.yaml`                    | both    | perspective to p2, fisheye | first camera    |
| `qualisys`      | `.qca.txt .qca .xml`               | in      | perspective to k3          | world, mm       |

A format is recognised by its name and its first bytes. What a format cannot hold is refused when it is written, or
returned as a note; what a reader leaves out is in `Calibration.notes`. World axes are those of the file; `turned_up`
brings them to z up. Files from outside are size-limited, and no reader expands, imports or executes anything in them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from calibration.formats import colmap, kalibr, project, qualisys, storage, tables
from calibration.formats.contents import Calibration, Format
from calibration.formats.project import write_rig
from core.cameras import Lens, Rig
from core.errors import InputError
from core.transforms import SE3, so3_exp

__all__ = [
    "FORMATS",
    "Calibration",
    "Format",
    "Up",
    "Writable",
    "read_calibration",
    "read_file",
    "read_lenses",
    "turned_up",
    "write_calibration",
    "write_rig",
]

Up = Literal["x", "y", "z", "-x", "-y", "-z"]
Writable = Literal[
    "project", "pose2sim", "anipose", "caliscope", "easymocap", "kalibr", "opencv", "colmap", "colmap-binary"
]

# the first that recognises a path reads it, so the more particular come first
FORMATS: dict[str, Format] = {
    found.name: found
    for found in (
        project.FORMAT,
        colmap.TEXT,
        colmap.BINARY,
        storage.EASYMOCAP,
        storage.OPENCV,
        kalibr.FORMAT,
        tables.POSE2SIM,
        tables.ANIPOSE,
        tables.CALISCOPE,
        qualisys.FORMAT,
    )
}


def read_file(path: Path) -> Calibration:
    """Reads any format.

    Raises:
        InputError: if there is nothing at `path`, or it is damaged, or of a kind that is not known.
    """
    if not path.exists():
        raise InputError(str(path), "there is no such file or folder", "check the path")
    for found in FORMATS.values():
        if found.recognises(path):
            return found.read(path)
    known = "a .json, .toml, .yml, .yaml, .qca.txt or .xml file, or a COLMAP or EasyMocap folder"
    raise InputError(str(path), "not a calibration format that is known", f"give {known}")


def read_calibration(path: Path, *, unit_m: float = 1.0) -> Rig:
    """The cameras of any format, with their places.

    Args:
        unit_m: the file's unit of length in metres, for files that do not keep to their format's (anipose's hold the
            board's unit).

    Raises:
        InputError: also if it does not place every camera.
    """
    return read_file(path).in_unit(unit_m).rig()


def read_lenses(path: Path) -> dict[str, Lens]:
    """The lenses of any format, in the file's order, whether the cameras are placed or not.

    Raises:
        InputError: as `read_file`.
    """
    return dict(read_file(path).lenses)


def write_calibration(folder: Path, rig: Rig, name: Writable) -> tuple[str, ...]:
    """Writes a rig into a folder in the files of a format.

    Returns:
        what the format does not say of the rig.

    Raises:
        InputError: if the format cannot hold a lens or a name of the rig.
    """
    write = FORMATS[name].write
    assert write is not None  # of all that `Writable` names
    return write(folder, rig)


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
