"""TOML with a table a camera: Pose2Sim, anipose and caliscope.

All three hold `size`, `matrix`, `distortions` (OpenCV's order), `rotation` (Rodrigues; caliscope's older files a
matrix) and `translation`, world -> camera. What differs:

| tool      | tables          | name          | lengths            | lenses                                        |
|-----------|-----------------|---------------|--------------------|-----------------------------------------------|
| Pose2Sim  | `[<name>]`      | `name`        | metres, z up       | perspective; `fisheye` is there and not read  |
| anipose   | `[cam_<n>]`     | `name`        | the board's unit   | perspective, or fisheye where `fisheye`       |
| caliscope | `[cameras.<n>]` | `cam_id`      | metres             | perspective, or fisheye where `fisheye`       |
| its older | `[cam_<n>]`     | `port`        | metres             | perspective                                   |

Caliscope's files hold cameras without a place (`null`, or no key): they count as lenses alone. Cameras marked `ignore`
are left out, with a note.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from calibration.formats.contents import (
    Calibration,
    Format,
    checked_name,
    in_file,
    lens_of,
    numbers,
    perspective_coefficients,
    pose_of,
)
from core.cameras import Camera, Lens, Rig
from core.errors import InputError
from core.files import read_toml, write_text
from core.transforms import SE3


def read_tables(path: Path) -> Calibration:
    """Any of the three.

    Raises:
        InputError: if it is no TOML, or no table in it holds a camera.
    """
    data = read_toml(path)
    caliscope = isinstance(data.get("cameras"), dict)
    found = data["cameras"] if caliscope else data
    tables = {str(key): table for key, table in found.items() if isinstance(table, dict) and "matrix" in table}
    if not tables:
        raise InputError(str(path), "no table in it holds a camera (with matrix and size)", "check the file")
    lenses: dict[str, Lens] = {}
    poses: dict[str, SE3] = {}
    notes = []
    for key, table in tables.items():
        name = str(table.get("name", table.get("cam_id", table.get("port", key))))
        if name in lenses:
            raise InputError(f"{path}, camera {name}", "two tables have this name", "give every camera its own")
        if table.get("ignore") is True:
            notes.append(f"camera {name} is left out: the file marks it as ignored")
            continue
        lenses[name] = in_file(path, name, _lens, table)
        if _stated(table.get("rotation")) and _stated(table.get("translation")):
            poses[name] = in_file(path, name, pose_of, table["rotation"], table["translation"])
    return Calibration("caliscope" if caliscope else "pose2sim", lenses, poses, tuple(notes))


def _stated(value: Any) -> bool:
    return value is not None and value != "null"


def _lens(table: Mapping[str, Any]) -> Lens:
    distortions = table.get("distortions", ())
    fisheye = table.get("fisheye", False)
    if not isinstance(fisheye, bool):
        raise ValueError(f"fisheye = {fisheye!r}")
    return lens_of(table["matrix"], distortions, table["size"], fisheye=fisheye)


def _table(head: str, camera: Camera, distortion: list[float], extra: Iterable[str]) -> str:
    """One camera's table; `extra` are the lines that tell one tool's from another's."""
    lens, pose = camera.lens, camera.cam_from_world
    rows = ", ".join(f"[{', '.join(numbers(row))}]" for row in lens.K)
    lines = [
        f"[{head}]",
        *extra,
        f"matrix = [{rows}]",
        f"distortions = [{', '.join(numbers(distortion))}]",
        f"rotation = [{', '.join(numbers(pose.rotvec))}]",
        f"translation = [{', '.join(numbers(pose.t))}]",
        f"fisheye = {'true' if lens.model == 'fisheye' else 'false'}",
    ]
    return "\n".join(lines) + "\n"


def _distortion(camera: Camera, tool: str) -> list[float]:
    """Coefficients for a tool that reads `fisheye`."""
    fisheye = camera.lens.model == "fisheye"
    return list(camera.lens.distortion) if fisheye else perspective_coefficients(camera, tool)


def _key(camera: Camera, tool: str) -> str:
    return checked_name(camera.id, r"[A-Za-z0-9_-]+", tool, "letters, digits, _ and -")


_METADATA = "[metadata]\nadjusted = false\nerror = 0.0\n"


def _write_pose2sim(folder: Path, rig: Rig) -> tuple[str, ...]:
    blocks = []
    for camera in rig:
        name = _key(camera, "Pose2Sim")
        extra = (f'name = "{name}"', f"size = [{', '.join(numbers(camera.lens.size_px))}]")
        blocks.append(_table(name, camera, perspective_coefficients(camera, "Pose2Sim"), extra))
    write_text(folder / "Calib.toml", "\n".join([*blocks, _METADATA]))
    return ()


def _write_anipose(folder: Path, rig: Rig) -> tuple[str, ...]:
    blocks = []
    for position, camera in enumerate(rig):
        width, height = camera.lens.size_px
        extra = (f'name = "{_key(camera, "anipose")}"', f"size = [{width}, {height}]")
        # tables are read in the order of their names
        blocks.append(
            _table(f"cam_{position:0{len(str(len(rig) - 1))}d}", camera, _distortion(camera, "anipose"), extra)
        )
    write_text(folder / "calibration.toml", "\n".join([*blocks, _METADATA]))
    return ("lengths are metres; anipose keeps those of its board, often millimetres",)


def _write_caliscope(folder: Path, rig: Rig) -> tuple[str, ...]:
    ids = caliscope_ids(rig)
    blocks = []
    for camera, cam_id in zip(rig, ids, strict=True):
        width, height = camera.lens.size_px
        extra = (f"cam_id = {cam_id}", f"size = [{width}, {height}]", "rotation_count = 0")
        blocks.append(_table(f"cameras.{cam_id}", camera, _distortion(camera, "caliscope"), extra))
    write_text(folder / "camera_array.toml", "\n".join(blocks))
    renamed = [f"{camera.id} is {cam_id}" for camera, cam_id in zip(rig, ids, strict=True) if camera.id != str(cam_id)]
    return (f"caliscope numbers its cameras: {', '.join(renamed)}",) if renamed else ()


def caliscope_ids(rig: Rig) -> tuple[int, ...]:
    """The numbers that cameras end in, where all have one of their own; else their positions."""
    ends = [re.search(r"(\d{1,9})$", camera_id) for camera_id in rig.ids]
    found = [int(end.group(1)) for end in ends if end is not None]
    return tuple(found) if len(set(found)) == len(rig) else tuple(range(len(rig)))


def _is_toml(path: Path) -> bool:
    return path.suffix.lower() == ".toml"


POSE2SIM = Format("pose2sim", "`Calib.toml`, metres", _is_toml, read_tables, _write_pose2sim)
ANIPOSE = Format("anipose", "`calibration.toml`, metres", _is_toml, read_tables, _write_anipose)
CALISCOPE = Format("caliscope", "`camera_array.toml`, metres", _is_toml, read_tables, _write_caliscope)
