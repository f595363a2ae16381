"""What the exporters share: where a clip's file goes, and clips without the gaps that other formats cannot mark."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import InputError
from core.transforms import SE3, interpolate, so3_exp, so3_log
from dataset.schema import NUM_JOINTS, Clip
from dataset.shards import AmdDataset
from dataset.sources import file_name


def new_path(dataset: AmdDataset, out: Path, clip_id: str, ending: str) -> Path:
    """`<out>/<subject>/<clip_id><ending>`.

    Raises:
        InputError: if there is no such clip, or the file is there already.
    """
    return require_new(out / file_name(dataset[clip_id].subject) / f"{clip_id}{ending}")


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

    Raises:
        InputError: if no frame holds a body.
    """
    whole = np.isfinite(clip.trans).all(axis=1)
    for array in (clip.poses, clip.joints_m):
        whole &= np.isfinite(array).all(axis=(1, 2))
    if whole.all():
        return clip, 0
    if not whole.any():
        raise InputError(f"clip {clip.id}", "none of its frames holds a body", "leave this clip out")
    known, frames = np.flatnonzero(whole).astype(float), np.arange(len(clip), dtype=float)
    poses, joints = np.empty(clip.poses.shape), np.empty(clip.joints_m.shape)
    trans = np.stack([np.interp(frames, known, clip.trans[whole, k]) for k in range(3)], axis=-1)
    for joint in range(NUM_JOINTS):
        seen = SE3(so3_exp(clip.poses[whole, joint].astype(float)), clip.joints_m[whole, joint].astype(float))
        between = interpolate(seen, known, frames)
        poses[:, joint], joints[:, joint] = so3_log(between.R), between.t
    filled = {"poses": poses, "trans": trans, "joints_m": joints}
    # frames that were whole keep their very numbers
    kept: dict[str, Any] = {
        name: np.where(_like(whole, a), getattr(clip, name), a).astype(np.float32) for name, a in filled.items()
    }
    return dataclasses.replace(clip, **kept), int((~whole).sum())


def gap_notes(filled: dict[str, int], what: str) -> tuple[str, ...]:
    """What to tell about filled frames; nothing if there are none."""
    if not any(filled.values()):
        return ()
    clips = [clip for clip, frames in filled.items() if frames]
    named = ", ".join(clips[:3]) + (", ..." if len(clips) > 3 else "")
    return (f"{sum(filled.values())} frames without a body are filled from their neighbours, {what}: {named}",)


def _like(mask: np.ndarray, array: np.ndarray) -> np.ndarray:
    return mask.reshape(-1, *(1,) * (array.ndim - 1))
