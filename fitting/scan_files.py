"""Point clouds from PLY files: positions in metres, and normals where the file has them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from core.arrays import Float
from core.errors import InputError
from core.files import require_file

Unit = Literal["m", "cm", "mm"]
_METRES: dict[str, float] = {"m": 1.0, "cm": 0.01, "mm": 0.001}
_MAX_BYTES = 2 << 30
_MAX_HEADER = 1 << 16
_NUM_POINTS = (1000, 50_000_000)
_ROOM_M = (0.5, 60.0)  # what a scan of a person and the room around spans
_USUAL_M = 2.5  # what it mostly spans: a person and some floor


@dataclass(frozen=True, eq=False)
class PointCloud:
    """Points of one file.

    Attributes:
        name: of the file.
        points_m: finite points; pixels without depth are left out.
        normals: of unit length, NaN for points without; None if the file has none.
    """

    name: str
    points_m: Float[np.ndarray, "n 3"]
    normals: Float[np.ndarray, "n 3"] | None


def read_ply(path: Path, unit: Unit) -> PointCloud:
    """Reads a PLY file, ascii or binary; colours, faces and all else are left aside.

    Args:
        path: the file.
        unit: of its coordinates. PLY files do not state one.

    Raises:
        InputError: if the file is missing, damaged, too large or too small, or its extent is no room's in this unit.
    """
    _check_header(require_file(Path(path)))
    from trimesh.exchange.ply import load_ply

    try:
        with Path(path).open("rb") as stream:
            content = load_ply(stream, fix_texture=False, skip_materials=True)
        points = np.asarray(content["vertices"], dtype=float)
        normals = content.get("vertex_normals")
        normals = None if normals is None else np.asarray(normals, dtype=float)
    except (ValueError, KeyError, IndexError, TypeError, OverflowError, MemoryError, AttributeError) as error:
        action = "export it again as a PLY of points, without faces of mixed sizes"
        raise InputError(str(path), f"not a readable PLY file ({error})", action) from error
    # sensors write pixels without depth as zeros or NaN
    seen = np.isfinite(points).all(axis=1) & points.any(axis=1)
    points, normals = points[seen] * _METRES[unit], None if normals is None else normals[seen]
    if len(points) < _NUM_POINTS[0]:
        problem = f"it has {len(points)} points, {_NUM_POINTS[0]} are the least"
        raise InputError(str(path), problem, "give a denser scan")
    _check_extent(Path(path), points, unit)
    near = (np.abs(points - np.median(points, axis=0)) < _ROOM_M[1]).all(axis=1)  # of single wild points
    return PointCloud(Path(path).name, points[near], None if normals is None else _unit_length(normals[near]))


def _check_header(path: Path) -> None:
    """Refuses what is no PLY file, or too large to be a person's scan, before anything is read or allocated."""
    size = path.stat().st_size
    if size > _MAX_BYTES:
        raise InputError(str(path), f"it has {size / 2**30:.1f} GiB, more than 2", "thin the points first")
    with path.open("rb") as stream:
        head = stream.read(_MAX_HEADER)
    end = head.find(b"end_header")
    if not head.startswith((b"ply\n", b"ply\r")) or end < 0:
        raise InputError(str(path), "not a PLY file (no header of one)", "give a point cloud as .ply")
    counts = re.findall(rb"^element\s+vertex\s+(\d{1,12})\s*$", head[:end], re.MULTILINE)
    if len(counts) != 1:
        raise InputError(str(path), f"its header counts vertices {len(counts)} times", "export it again")
    count = int(counts[0])
    if not _NUM_POINTS[0] <= count <= min(_NUM_POINTS[1], size):
        problem = f"it says to have {count} points in {size} bytes; {_NUM_POINTS[0]} to {_NUM_POINTS[1]} are read"
        raise InputError(str(path), problem, "thin the points, or export the file again")


def _check_extent(path: Path, points_m: np.ndarray, unit: Unit) -> None:
    """A scan in another unit than stated spans a thousandth of a room, or a city."""
    low, high = np.quantile(points_m, [0.02, 0.98], axis=0)
    span = float((high - low).max())
    if _ROOM_M[0] <= span <= _ROOM_M[1]:
        return
    spans = {other: span / _METRES[unit] * _METRES[other] for other in get_args(Unit)}
    other = min(spans, key=lambda name: abs(np.log(max(spans[name], 1e-12) / _USUAL_M)))
    fits = _ROOM_M[0] <= spans[other] <= _ROOM_M[1]
    action = f"give --scan-unit {other}" if fits else "check the file, and give --scan-unit m, cm or mm"
    raise InputError(str(path), f"in {unit} it spans {span:.4g} m, which is no person's scan", action)


def _unit_length(normals: np.ndarray) -> np.ndarray | None:
    """Unit normals, NaN where there is no direction; None if that is everywhere."""
    with np.errstate(invalid="ignore", divide="ignore"):
        unit = normals / np.linalg.norm(normals, axis=1, keepdims=True)
    return unit if np.isfinite(unit).all(axis=1).mean() > 0.5 else None
