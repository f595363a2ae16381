"""AMASS `.npz` out of a dataset: SMPL-H layout, both spellings of the rate, and validity, which AMASS has no place for.

SMPL's two hand joints have no counterpart in SMPL-H's finger chains and are left at rest; everything else comes back
through the importer as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from core.errors import InputError
from core.files import write_npz
from dataset.schema import Clip
from dataset.shards import AmdDataset
from dataset.sources import file_name

_WIDTH, _BODY_WIDTH, _NUM_BETAS = 156, 66, 16


def amass_arrays(clip: Clip) -> dict[str, np.ndarray]:
    """The arrays of an AMASS file for a clip; `valid`, `reasons`, `contacts` and the exact `rate` are additions."""
    poses = np.zeros((len(clip), _WIDTH))
    poses[:, :_BODY_WIDTH] = clip.poses.reshape(len(clip), -1)[:, :_BODY_WIDTH]
    betas = np.zeros(_NUM_BETAS)
    num_betas = min(len(clip.betas), _NUM_BETAS)
    betas[:num_betas] = clip.betas[:num_betas]
    return {
        "poses": poses,
        "trans": clip.trans.astype(np.float64),
        "betas": betas,
        "gender": np.array(clip.labels.gender),
        "mocap_framerate": np.array(float(clip.rate)),
        "mocap_frame_rate": np.array(float(clip.rate)),
        "rate": np.array(clip.labels.rate),
        "valid": clip.valid,
        "reasons": clip.reasons,
        "contacts": clip.contacts,
    }


def export_amass(dataset: AmdDataset, out: Path, clip_ids: Sequence[str] | None = None) -> tuple[Path, ...]:
    """Writes clips as `<out>/<subject>/<clip_id>_poses.npz`.

    Args:
        clip_ids: which; all of them if None.

    Raises:
        InputError: if there is no such clip, or a file is there already.
    """
    paths = []
    for clip_id in [clip.id for clip in dataset.clips] if clip_ids is None else clip_ids:
        path = out / file_name(dataset[clip_id].subject) / f"{clip_id}_poses.npz"
        if path.exists():
            raise InputError(str(path), "there is a file already", "export into an empty folder")
        write_npz(path, amass_arrays(dataset.read(clip_id)))
        paths.append(path)
    return tuple(paths)
