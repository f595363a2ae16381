"""GLB out of a dataset: each clip as a skinned, moving body, as `motifs film` writes a session's (`fitting.glb`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dataset.exporters.clips import chosen, gap_notes, new_path, without_gaps
from dataset.schema import REASON_UNSPECIFIED, Clip
from dataset.shards import AmdDataset
from fitting.glb import write_glb
from fitting.playback import Playback
from fitting.sequence import SmplSequence
from fitting.smpl import BodyModel


def export_glb(
    dataset: AmdDataset, out: Path, body: BodyModel, every: int = 1, clip_ids: Sequence[str] | None = None
) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """Writes clips as `<out>/<subject>/<clip_id>.glb`.

    Args:
        body: the model that the clips were made with.
        every: only every so many frames.
        clip_ids: which; all of them if None.

    Returns:
        the files, and what was filled in.

    Raises:
        InputError: if there is no such clip, a file is there already, or a clip was made with another body.
    """
    paths, filled = [], {}
    for clip_id in chosen(dataset, clip_ids):
        path = new_path(dataset, out, clip_id, ".glb")
        clip, filled[clip_id] = without_gaps(dataset.read(clip_id))
        write_glb(path, Playback.of(smpl_sequence(clip), body), every)
        paths.append(path)
    return tuple(paths), gap_notes(filled, "and marked under asset.extras")


def smpl_sequence(clip: Clip) -> SmplSequence:
    """A clip as the fit's own sequence; its covariance, where the source has none, is NaN."""
    frames = len(clip)
    covariance = clip.joint_covariance[..., [0, 1, 2, 1, 3, 4, 2, 4, 5]].reshape(frames, -1, 3, 3)
    invalid = ~np.isfinite(clip.poses).all(axis=(1, 2))
    return SmplSequence(
        t_s=clip.labels.start_s + np.arange(frames) / float(clip.rate),
        rate=clip.labels.rate,
        poses=clip.poses.reshape(frames, -1).astype(np.float64),
        trans=clip.trans.astype(np.float64),
        betas=clip.betas.astype(np.float64),
        gender=clip.labels.gender,
        body_model=clip.labels.body_model,
        body_sha256=clip.labels.body_model_sha256,
        joints_m=clip.joints_m.astype(np.float64),
        joint_covariance=covariance.astype(np.float64),
        joint_valid=clip.valid,
        frame_valid=clip.frame_valid,
        reasons=clip.reasons | np.where(invalid, REASON_UNSPECIFIED, 0),
        contacts=clip.contacts,
    )
