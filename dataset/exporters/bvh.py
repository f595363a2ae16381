"""BVH (Biovision hierarchy) out of a dataset: SMPL's 24 joints with the offsets of the clip's own body.

World y up, facing +z at rest with arms spread: the world's (x, y, z) becomes (x, z, -y), joint offsets are SMPL's own
(x left, y up, z forward). The root has three positions and three rotations, other joints three rotations; a channel
order Z X Y means R = Rz Rx Ry. Angles run on past 180 degrees, so that programs which interpolate them do not spin.
Offsets are solved from joints and rotations, which needs no body model and gives the joints back within a micrometre.
The last bones (head, hands, feet) get end sites half a bone long, which mean nothing.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from scipy.spatial.transform import Rotation

from core.files import write_text
from core.skeletons import SMPL_24
from dataset.exporters.clips import chosen, gap_notes, new_path, rest_offsets, without_gaps
from dataset.rotations import matrix_from_rotvec
from dataset.schema import Clip
from dataset.shards import AmdDataset
from fitting.smpl import PARENTS

_Y_UP_FROM_Z_UP = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
_UNITS = {"cm": 100.0, "m": 1.0}


@dataclass(frozen=True)
class BvhConfig:
    """How BVH files are written.

    Attributes:
        unit: of offsets and positions; most programs take a BVH for centimetres.
        order: of the rotation channels.
    """

    unit: Literal["cm", "m"] = "cm"
    order: Literal["ZXY", "ZYX"] = "ZXY"


def export_bvh(
    dataset: AmdDataset, out: Path, config: BvhConfig | None = None, clip_ids: Sequence[str] | None = None
) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """Writes clips as `<out>/<subject>/<clip_id>.bvh`.

    Args:
        clip_ids: which; all of them if None.

    Returns:
        the files, and what the format does not say of the clips.

    Raises:
        InputError: if there is no such clip, a file is there already, or a clip's joints are not of one rigid body.
    """
    config = config or BvhConfig()
    paths, filled = [], {}
    for clip_id in chosen(dataset, clip_ids):
        path = new_path(dataset, out, clip_id, ".bvh")
        clip, filled[clip_id] = without_gaps(dataset.read(clip_id))
        write_text(path, bvh_text(clip, config))
        paths.append(path)
    return tuple(paths), gap_notes(filled, "which BVH cannot mark")


def bvh_text(clip: Clip, config: BvhConfig) -> str:
    """The content of a BVH file for a clip without gaps.

    Raises:
        InputError: if its joints are not of one rigid body.
    """
    scale = _UNITS[config.unit]
    lines = ["HIERARCHY", *_hierarchy(0, scale * rest_offsets(clip), config.order)]
    lines += ["MOTION", f"Frames: {len(clip)}", f"Frame Time: {float(1 / clip.rate):.10f}"]
    return "\n".join(lines) + "\n" + _motion(clip, scale, config.order)


def _hierarchy(joint: int, offsets: np.ndarray, order: str) -> list[str]:
    """Lines of a joint and of all below it."""
    children = np.flatnonzero(joint == PARENTS).tolist()
    turns = " ".join(f"{axis}rotation" for axis in order)
    channels = f"3 {turns}" if joint else f"6 Xposition Yposition Zposition {turns}"
    inside = [f"OFFSET {_numbers(offsets[joint])}", f"CHANNELS {channels}"]
    inside += [line for child in children for line in _hierarchy(child, offsets, order)]
    if not children:
        inside += ["End Site", "{", f"  OFFSET {_numbers(offsets[joint] / 2)}", "}"]
    kind = "JOINT" if joint else "ROOT"
    return [f"{kind} {SMPL_24.joints[joint]}", "{", *(f"  {line}" for line in inside), "}"]


def _motion(clip: Clip, scale: float, order: str) -> str:
    """A line of numbers for each frame."""
    rotations = matrix_from_rotvec(clip.poses.astype(np.float64))
    rotations[:, 0] = _Y_UP_FROM_Z_UP @ rotations[:, 0]
    turns = Rotation.from_matrix(rotations.reshape(-1, 3, 3))
    # a joint at the poles of its angles has no unique ones; any will do
    angles = turns.as_euler(order, degrees=True, suppress_warnings=True).reshape(len(clip), -1, 3)
    angles = angles[:, _depth_first(0)].reshape(len(clip), -1)
    places = scale * clip.joints_m[:, 0].astype(np.float64) @ _Y_UP_FROM_Z_UP.T
    text = io.StringIO()
    np.savetxt(text, np.concatenate([places, np.unwrap(angles, axis=0, period=360.0)], axis=1), fmt="%.6f")
    return text.getvalue()


def _depth_first(joint: int) -> list[int]:
    """A joint and all below it in the order of the file's lines, which is that of its numbers."""
    return [joint, *(j for child in np.flatnonzero(joint == PARENTS).tolist() for j in _depth_first(child))]


def _numbers(values: np.ndarray) -> str:
    return " ".join(f"{value:.6f}" for value in values)
