"""Kalibr's `camchain.yaml`: cameras one after the other, each placed by the one before.

`T_cn_cnm1` takes points from the camera before into this one, metres. There is no world but the first camera. Lenses:
`pinhole` with `radtan` (k1 k2 p1 p2, without k3), `equidistant` (OpenCV's fisheye) or `none`; `omni`, `ds`, `eucm` and
`fov` are refused by name. Time shifts against an IMU are not part of a rig and are said to be left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from calibration.formats.contents import (
    Calibration,
    Format,
    beginning,
    checked_name,
    in_file,
    numbers,
    perspective_coefficients,
    plain_lens,
    pose_of,
    read_text,
)
from core.cameras import Camera, Lens, Rig
from core.errors import InputError
from core.files import write_text
from core.transforms import SE3

_LIMIT_BYTES = 100_000  # a camera takes about one kilobyte
_DEPTH = 8  # brackets within brackets; a matrix takes two, and thousands would keep the YAML reader busy for hours


def _read(path: Path) -> Calibration:
    chain = _chain(path)
    names = _names(chain)
    lenses: dict[str, Lens] = {}
    poses: dict[str, SE3] = {}
    notes = ["the world is the first camera: z does not point up"]
    before: SE3 | None = SE3.identity()
    for name, (key, camera) in zip(names, chain.items(), strict=True):
        lenses[name] = in_file(path, key, _lens, camera)
        if lenses.keys() != {name}:  # every camera but the first
            step = camera.get("T_cn_cnm1")
            moved = None if step is None else in_file(path, key, _rigid, step)
            before = moved @ before if moved is not None and before is not None else None
        if before is not None:
            poses[name] = before
        if camera.get("timeshift_cam_imu"):
            notes.append(f"{key}: its time shift of {camera['timeshift_cam_imu']} s against an IMU is left out")
    return Calibration("kalibr", lenses, poses, tuple(notes))


def _chain(path: Path) -> dict[str, Mapping[str, Any]]:
    """The tables cam0, cam1, ... in the order of their numbers."""
    import yaml

    text = read_text(path, _LIMIT_BYTES)
    if max(accumulate((letter in "[{") - (letter in "]}") for letter in text), default=0) > _DEPTH:
        raise InputError(str(path), "not YAML of Kalibr's: brackets within brackets", "export it again")
    try:
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
            raise InputError(str(path), "it refers to itself by YAML aliases, which Kalibr does not", "export it again")
        data = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        reason = " ".join(str(error).split())  # PyYAML explains over several lines
        raise InputError(str(path), f"not YAML ({reason})", "export it again") from error
    tables = data if isinstance(data, dict) else {}
    keys = [key for key in tables if re.fullmatch(r"cam\d{1,4}", str(key)) and isinstance(tables[key], dict)]
    if not keys:
        raise InputError(str(path), "it holds no camera (no cam0)", "use .json, .toml, .xml, or Kalibr's camchain.yaml")
    return {str(key): tables[key] for key in sorted(keys, key=lambda key: int(str(key)[3:]))}


def _names(chain: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The topics' names where all are `/<name>/image_raw`, else cam0, cam1, ..."""
    found = [re.fullmatch(r"/?([\w.-]+)/image_raw", str(camera.get("rostopic", ""))) for camera in chain.values()]
    names = [match.group(1) for match in found if match is not None]
    return names if len(set(names)) == len(chain) else list(chain)


def _lens(camera: Mapping[str, Any]) -> Lens:
    model, distortion = camera["camera_model"], camera.get("distortion_model", "none")
    if model != "pinhole" or distortion not in ("radtan", "equidistant", "none"):
        raise InputError(
            "lens", f"a lens {model}-{distortion} is not known here", "calibrate it as pinhole-radtan or pinhole-equi"
        )
    fx, fy, cx, cy = camera["intrinsics"]
    coefficients = [] if distortion == "none" else camera["distortion_coeffs"]
    if len(coefficients) != (0 if distortion == "none" else 4):
        raise ValueError(f"{len(coefficients)} distortion_coeffs for {distortion}")
    return plain_lens((fx, fy), (cx, cy), coefficients, camera["resolution"], fisheye=distortion == "equidistant")


def _rigid(matrix: Any) -> SE3:
    T = np.array(matrix, float)
    if T.shape != (4, 4) or T[3].tolist() != [0.0, 0.0, 0.0, 1.0]:
        raise ValueError("T_cn_cnm1 is no rigid transform")
    return pose_of(T[:3, :3], T[:3, 3])


def _write(folder: Path, rig: Rig) -> tuple[str, ...]:
    blocks = [_block(rig, position) for position in range(len(rig))]
    write_text(folder / "camchain.yaml", "".join(blocks))
    return (f"Kalibr has no world: the cameras are placed relative to {rig.ids[0]}",)


def _block(rig: Rig, position: int) -> str:
    """One camera's table."""
    camera = rig.cameras[position]
    name = checked_name(camera.id, r"[A-Za-z0-9_.-]+", "Kalibr", "letters, digits, _, - and .")
    model, coefficients = _distortion(camera)
    lines = [f"cam{position}:"]
    if position:
        step = camera.cam_from_world @ rig.cameras[position - 1].world_from_cam
        lines += ["  T_cn_cnm1:", *(f"  - [{', '.join(numbers(row))}]" for row in step.matrix)]
    lens = camera.lens
    lines += [
        f"  cam_overlaps: [{', '.join(str(other) for other in range(len(rig)) if other != position)}]",
        "  camera_model: pinhole",
        f"  distortion_coeffs: [{', '.join(numbers(coefficients))}]",
        f"  distortion_model: {model}",
        f"  intrinsics: [{', '.join(numbers((*lens.focal_px, *lens.centre_px)))}]",
        f"  resolution: [{lens.size_px[0]}, {lens.size_px[1]}]",
        f"  rostopic: /{name}/image_raw",
    ]
    return "\n".join(lines) + "\n"


def _distortion(camera: Camera) -> tuple[str, list[float]]:
    lens = camera.lens
    if lens.model == "fisheye":
        return "equidistant", list(lens.distortion)
    if not any(lens.distortion):
        return "none", []
    return "radtan", perspective_coefficients(camera, "Kalibr", most=4)


def _is_kalibr(path: Path) -> bool:
    return path.suffix.lower() in (".yml", ".yaml") and not beginning(path, 5).startswith("%YAML")


FORMAT = Format("kalibr", "`camchain.yaml`, cameras relative to the first", _is_kalibr, _read, _write)
