"""Qualisys QTM's calibration, XML (`.qca.txt`, `.qca`, `.xml`), in only.

`transform` holds the camera's position (mm) and, in its rows, the axes of Qualisys' camera frame (x right, y up, z
backward) in the world: OpenCV's camera is that frame with y and z reversed. Lengths in the image are in 1/64 of a
sensor pixel, from the corner of the whole sensor; whether that corner is a pixel's centre is not documented and taken
to be so, as Pose2Sim does. `radialDistortion1..3` and `tangentalDistortion1..2` are OpenCV's k1 k2 k3 p1 p2.

Three things that a file holds beside are easily overlooked:

- **Marker cameras.** They are calibrated like the others and have no video. Where a file names models, cameras whose
  model says `Video` or `Hybrid` are taken alone; cameras that are switched off or not calibrated never are.
- **Field of view.** The video shows `fov_video` of the sensor, which may be less than `fov_video_max`.
- **Resolution.** With `video_resolution` below the sensor's, pixels are binned: the lens is that of the smaller
  picture. A lens for pictures of another size than the session's frames is refused where it is used.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np

from calibration.formats.contents import Calibration, Format, in_file, plain_lens, pose_of, read_limited
from core.cameras import Lens
from core.errors import InputError
from core.transforms import SE3

_SUBPIXEL_PX = 1.0 / 64.0
_MM = 1e-3
_QTM_FROM_OPENCV = np.diag([1.0, -1.0, -1.0])
_FULL_LINES = {1088: 1080}  # sensors are read in blocks of 16 lines; the resolution is named without the rest


def _read(path: Path) -> Calibration:
    nodes = {str(node.get("serial")): node for node in _parse(path).iter("camera")}
    if not nodes:
        raise InputError(str(path), "it holds no camera", "export it from QTM again")
    taken, notes = _filming(nodes)
    if not taken:
        raise InputError(str(path), f"none of its cameras films: {', '.join(notes)}", "export those that do")
    lenses: dict[str, Lens] = {}
    poses: dict[str, SE3] = {}
    for name in taken:
        node = nodes[name]
        lenses[name] = in_file(path, name, _lens, node)
        poses[name] = in_file(path, name, _pose, node)
        if turn := in_file(path, name, _view_turn, node):
            notes.append(f"camera {name}: its lens is that of the sensor, which QTM shows turned by {turn} deg")
        if (factor := _binning(node)) != 1:
            notes.append(f"camera {name}: its pictures are scaled by {factor:g} to {node.get('video_resolution')}")
    return Calibration("qualisys", lenses, poses, tuple(notes))


def _view_turn(node: ElementTree.Element) -> int:
    """By how many degrees QTM shows a camera's pictures turned."""
    turn = float(node.get("viewrotation") or 0)
    if not turn == turn // 1 or abs(turn) > 3600:
        raise ValueError(f"viewrotation {turn} is no number of degrees")
    return int(turn) % 360


def _parse(path: Path) -> ElementTree.Element:
    raw = read_limited(path)
    # a zero byte: text of two bytes a letter, in which neither word would be found
    if any(word in raw.upper() for word in (b"<!DOCTYPE", b"<!ENTITY", b"\0")):
        raise InputError(str(path), "it declares a document type, by which a small file can grow", "export it again")
    try:
        return ElementTree.fromstring(raw)
    except ElementTree.ParseError as error:
        raise InputError(str(path), f"not XML ({error})", "export it from QTM again") from error


def _filming(nodes: dict[str, ElementTree.Element]) -> tuple[list[str], list[str]]:
    """Cameras to take, and why the others are not."""
    models = {name: str(node.get("model", "none")).lower() for name, node in nodes.items()}
    video = [name for name, model in models.items() if "video" in model or "hybrid" in model]
    taken, notes = [], []
    for name, node in nodes.items():
        if node.get("active") == "0" or node.get("calibrated") == "false":
            notes.append(f"camera {name} is left out: it is switched off or not calibrated")
        elif video and name not in video:
            notes.append(f"camera {name} is left out: {node.get('model')} films markers only")
        else:
            taken.append(name)
    return taken, notes


def _attributes(node: ElementTree.Element, tag: str) -> dict[str, str]:
    found = node.find(tag)
    if found is None:
        raise KeyError(tag)
    return dict(found.attrib)


def _pose(node: ElementTree.Element) -> SE3:
    pose = _attributes(node, "transform")
    qtm_from_world = np.array([[float(pose[f"r{i}{j}"]) for j in (1, 2, 3)] for i in (1, 2, 3)])
    centre_m = _MM * np.array([float(pose[axis]) for axis in "xyz"])
    return pose_of(qtm_from_world.T @ _QTM_FROM_OPENCV, centre_m).inverse()


def _lens(node: ElementTree.Element) -> Lens:
    lens = _attributes(node, "intrinsic")
    left, top, right, bottom = (
        int(_attributes(node, "fov_video")[side]) for side in ("left", "top", "right", "bottom")
    )
    if float(lens.get("skew", 0)) != 0:
        raise ValueError(f"a lens with skew {lens['skew']}")
    focal = [_SUBPIXEL_PX * float(lens[f"focalLength{axis}"]) for axis in "UV"]
    centre = [_SUBPIXEL_PX * float(lens[f"centerPoint{axis}"]) for axis in "UV"]
    k = [float(lens[f"radialDistortion{i}"]) for i in (1, 2, 3)]
    p = [float(lens[f"tangentalDistortion{i}"]) for i in (1, 2)]
    size = (right - left + 1, bottom - top + 1)
    full = plain_lens(focal, (centre[0] - left, centre[1] - top), (k[0], k[1], *p, k[2]), size)
    factor = _binning(node)
    return full if factor == 1 else full.scaled(factor)


def _binning(node: ElementTree.Element) -> float:
    """Picture pixels a sensor pixel: below 1 where `video_resolution` names fewer lines than the sensor has."""
    named = re.fullmatch(r"(\d{3,4})p", str(node.get("video_resolution", "")))
    if named is None:
        return 1.0
    sensor = _attributes(node, "fov_video_max")
    # lines are counted across the shorter side, however the camera hangs
    lines = min(int(sensor["bottom"]) - int(sensor["top"]), int(sensor["right"]) - int(sensor["left"])) + 1
    return min(1.0, int(named.group(1)) / _FULL_LINES.get(lines, lines))


def _is_qualisys(path: Path) -> bool:
    return path.name.lower().endswith((".qca.txt", ".qca", ".xml"))


FORMAT = Format("qualisys", "QTM's `.qca.txt` or XML, mm; in only", _is_qualisys, _read)
