"""HumanML3D out of a dataset: `new_joint_vecs/<clip>.npy` (T x 263) and the `new_joints/<clip>.npy` they say, 20 Hz.

Conventions and their source are those of `dataset.humanml3d`. HumanML3D gives everybody the bones of one of its
motions, 000021; that file, from its `joints` folder, may be given to do the same. Without it everybody keeps their own.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.arrays import Float
from core.errors import InputError
from core.files import inside, write_bytes
from dataset.exporters.clips import chosen, gap_notes, require_new, without_gaps
from dataset.humanml3d import NUM_JOINTS, RATE_HZ, joints_from_vectors, vectors_from_joints, with_bones
from dataset.importers.foreign import read_npy
from dataset.resample import resample
from dataset.schema import Clip
from dataset.shards import AmdDataset, motion_from_clip


@dataclass(frozen=True)
class HumanML3DConfig:
    """How HumanML3D files are written.

    Attributes:
        skeleton: a motion of HumanML3D (`joints/000021.npy` is its own choice) whose bones everybody gets.
    """

    skeleton: Path | None = None


def export_humanml3d(
    dataset: AmdDataset, out: Path, config: HumanML3DConfig | None = None, clip_ids: Sequence[str] | None = None
) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """Writes clips as `<out>/new_joint_vecs/<clip_id>.npy` and `<out>/new_joints/<clip_id>.npy`.

    Args:
        clip_ids: which; all of them if None.

    Returns:
        the files, and what the format does not say of the clips.

    Raises:
        InputError: if there is no such clip, a file is there already, or the skeleton's file is not one.
    """
    skeleton = None if config is None or config.skeleton is None else _skeleton(config.skeleton)
    paths, filled, notes = [], {}, []
    for clip_id in chosen(dataset, clip_ids):
        names = [f"{folder}/{clip_id}.npy" for folder in ("new_joint_vecs", "new_joints")]
        for name in names:
            inside(out, name)
        vectors_path, joints_path = (require_new(out / name) for name in names)
        clip, filled[clip_id] = without_gaps(dataset.read(clip_id))
        joints = joints_at_20_hz(clip)
        if len(joints) < 2:
            notes.append(f"{clip_id} is too short for HumanML3D and left out")
            continue
        vectors = vectors_from_joints(joints if skeleton is None else with_bones(joints, skeleton)).astype(np.float32)
        write_bytes(vectors_path, _npy(vectors))
        write_bytes(joints_path, _npy(joints_from_vectors(vectors).astype(np.float32)))
        paths += [vectors_path, joints_path]
    return tuple(paths), (*gap_notes(filled, "which HumanML3D cannot mark"), *notes)


def joints_at_20_hz(clip: Clip) -> Float[np.ndarray, "frames 22 3"]:
    """Joints of a clip without gaps in HumanML3D's world (y up) and at its rate."""
    joints = resample(motion_from_clip(clip, 1.0), float(RATE_HZ)).joints_m[:, :NUM_JOINTS].astype(np.float64)
    return joints[..., [0, 2, 1]] * np.array([1.0, 1.0, -1.0])


def _skeleton(path: Path) -> Float[np.ndarray, "22 3"]:
    """The first pose of a HumanML3D motion."""
    array = read_npy(path)
    if array.ndim != 3 or array.shape[1:] != (NUM_JOINTS, 3) or not len(array) or not np.isfinite(array[0]).all():
        raise InputError(str(path), f"an array {array.shape} holds no joints", "give joints/000021.npy of HumanML3D")
    return array[0].astype(np.float64)


def _npy(array: np.ndarray) -> bytes:
    """The content of an `.npy`."""
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()
