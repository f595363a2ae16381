"""What the exporters share: where a clip's file goes, and clips without the gaps that other formats cannot mark."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from core.arrays import Bool, Float
from core.errors import InputError
from core.files import inside
from core.transforms import SE3, interpolate, so3_exp, so3_log
from dataset.rotations import matrix_from_rotvec
from dataset.schema import NUM_JOINTS, Clip
from dataset.shards import AmdDataset
from dataset.sources import file_name
from fitting.smpl import PARENTS

# float32 joints a hundred metres away are known to 4 micrometres; another body is centimetres off
_MAX_OFFSET_ERROR_M = 1e-3


def new_path(dataset: AmdDataset, out: Path, clip_id: str, ending: str) -> Path:
    """`<out>/<subject>/<clip_id><ending>`.

    Raises:
        InputError: if there is no such clip, its file would lie outside `out`, or is there already.
    """
    name = f"{file_name(dataset[clip_id].subject)}/{clip_id}{ending}"
    inside(out, name)
    return require_new(out / name)


def require_new(path: Path) -> Path:
    """Returns `path` if nothing is there.

    Raises:
        InputError: if there is.
    """
    if path.exists():
        raise InputError(str(path), "there is a file already", "export into an empty folder")
    return path


def chosen(dataset: AmdDataset, clip_ids: Sequence[str] | None) -> list[str]:
    """The clips asked for; all of them if None."""
    return [clip.id for clip in dataset.clips] if clip_ids is None else list(clip_ids)


def without_gaps(clip: Clip) -> tuple[Clip, int]:
    """The clip with frames that hold no body filled from their neighbours in time, and how many these were.

    Every joint turns along the shortest way, the pelvis moves straight, and the joints follow.

    Raises:
        InputError: if no frame holds a body, or the joints are not of one rigid skeleton.
    """
    whole = whole_frames(clip)
    if whole.all():
        return clip, 0
    if not whole.any():
        raise InputError(f"clip {clip.id}", "none of its frames holds a body", "leave this clip out")
    known, frames = np.flatnonzero(whole).astype(float), np.arange(len(clip), dtype=float)
    turns = np.empty((len(clip), NUM_JOINTS, 3, 3))
    for joint in range(NUM_JOINTS):
        seen = SE3(so3_exp(clip.poses[whole, joint].astype(float)), np.zeros((len(known), 3)))
        turns[:, joint] = interpolate(seen, known, frames).R
    trans, pelvis = (_straight(a[whole], known, frames) for a in (clip.trans, clip.joints_m[:, 0]))
    filled = {"poses": so3_log(turns), "trans": trans, "joints_m": _joints(turns, rest_offsets(clip), pelvis)}
    kept: dict[str, Any] = {name: getattr(clip, name).copy() for name in filled}
    for name, values in filled.items():
        kept[name][~whole] = values[~whole]  # frames that were whole keep their very numbers
    return dataclasses.replace(clip, **kept), int((~whole).sum())


def whole_frames(clip: Clip) -> Bool[np.ndarray, "frames"]:
    """Frames whose body is all numbers."""
    whole = np.isfinite(clip.trans).all(axis=1)
    for array in (clip.poses, clip.joints_m):
        whole &= np.isfinite(array).all(axis=(1, 2))
    return whole


def rest_offsets(clip: Clip) -> Float[np.ndarray, "24 3"]:
    """Each joint from its parent in the parent's frame, metres, from the clip's own motion; zero for the root.

    Raises:
        InputError: if they change from frame to frame.
    """
    whole = whole_frames(clip)
    world = _world(matrix_from_rotvec(clip.poses[whole].astype(np.float64)))
    joints = clip.joints_m[whole].astype(np.float64)
    seen = np.einsum("tjba,tjb->tja", world[:, PARENTS[1:]], joints[:, 1:] - joints[:, PARENTS[1:]])
    offsets = np.concatenate([np.zeros((1, 3)), seen.mean(axis=0)])
    error_m = float(np.abs(seen - offsets[1:]).max())
    if error_m > _MAX_OFFSET_ERROR_M:
        problem = f"its joints leave a rigid skeleton by {1e3 * error_m:.1f} mm, so its rotations are of another body"
        raise InputError(f"clip {clip.id}", problem, "build the dataset again from its sources")
    return offsets


def gap_notes(filled: dict[str, int], what: str) -> tuple[str, ...]:
    """What to tell about filled frames; nothing if there are none."""
    if not any(filled.values()):
        return ()
    clips = [clip for clip, frames in filled.items() if frames]
    named = ", ".join(clips[:3]) + (", ..." if len(clips) > 3 else "")
    return (f"{sum(filled.values())} frames without a body are filled from their neighbours, {what}: {named}",)


def _world(local: Float[np.ndarray, "frames 24 3 3"]) -> Float[np.ndarray, "frames 24 3 3"]:
    """world_from_joint from parent_from_joint."""
    world = local.copy()
    for joint in range(1, NUM_JOINTS):
        world[:, joint] = world[:, PARENTS[joint]] @ local[:, joint]
    return world


def _joints(local: np.ndarray, offsets: np.ndarray, pelvis: np.ndarray) -> Float[np.ndarray, "frames 24 3"]:
    """Places of the joints."""
    world = _world(local)
    joints = np.repeat(pelvis[:, None], NUM_JOINTS, axis=1)
    for joint in range(1, NUM_JOINTS):
        joints[:, joint] = joints[:, PARENTS[joint]] + world[:, PARENTS[joint]] @ offsets[joint]
    return joints


def _straight(values: np.ndarray, known: np.ndarray, frames: np.ndarray) -> Float[np.ndarray, "frames 3"]:
    return np.stack([np.interp(frames, known, values[:, k]) for k in range(3)], axis=-1)
