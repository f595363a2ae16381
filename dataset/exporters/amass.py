"""AMASS `.npz` out of a dataset: SMPL-H layout, both spellings of the rate, and validity, which AMASS has no place for.

SMPL's two hand joints have no counterpart in SMPL-H's finger chains and are left at rest; everything else comes back
through the importer as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from core.files import write_npz
from dataset.exporters.clips import chosen, new_path
from dataset.schema import Clip
from dataset.shards import AmdDataset
from fitting.amass import AmassMotion
from fitting.body_kinds import SMPL, SMPL_H


def amass_arrays(clip: Clip) -> dict[str, np.ndarray]:
    """The arrays of an AMASS file for a clip; `valid`, `reasons`, `contacts` and the exact `rate` are additions."""
    motion = AmassMotion(SMPL, clip.poses, clip.trans, clip.betas, clip.labels.gender, clip.rate)
    additions = {"valid": clip.valid, "reasons": clip.reasons, "contacts": clip.contacts}
    return motion.to_kind(SMPL_H).arrays() | additions


def export_amass(dataset: AmdDataset, out: Path, clip_ids: Sequence[str] | None = None) -> tuple[Path, ...]:
    """Writes clips as `<out>/<subject>/<clip_id>_poses.npz`.

    Args:
        clip_ids: which; all of them if None.

    Raises:
        InputError: if there is no such clip, or a file is there already.
    """
    paths = []
    for clip_id in chosen(dataset, clip_ids):
        path = new_path(dataset, out, clip_id, "_poses.npz")
        write_npz(path, amass_arrays(dataset.read(clip_id)))
        paths.append(path)
    return tuple(paths)
