"""Parts: what `dataset.build` makes of each source, until all sources are there.

A part is a small HDF5 file of the source's clips and, for each clip, the sums that statistics add up from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from core.arrays import Float
from dataset.features import LAYOUT, FeatureStats, leg_length
from dataset.resample import resample
from dataset.schema import Clip, ClipInfo
from dataset.settings import BuildConfig
from dataset.shards import body_scale, motion_from_clip, new_shard, write_clip

PARTS, _SUMS = "parts", "sums"
# what each source left behind: `clips` (index entries), `skipped`, `action_names`
Facts = Mapping[str, Mapping[str, Any]]


def write_part(path: Path, clips: Sequence[Clip], config: BuildConfig) -> list[ClipInfo]:
    """A source's clips with the sums of their frame vectors; returns their index entries."""
    entries = []
    with new_shard(path) as file:
        for clip in clips:
            entries.append(clip_info(clip, write_clip(file, clip, config.compression)))
            sums = feature_sums(clip, entries[-1], config.feature_rate_hz)
            file.create_dataset(f"{_SUMS}/{clip.id}", data=sums, track_times=False)
    return entries


def clip_info(clip: Clip, sha256: str) -> ClipInfo:
    """A clip's index entry; shard and split are decided when all clips are known."""
    leg_m = leg_length(clip.joints_m)
    return ClipInfo(
        id=clip.id,
        shard="",
        num_frames=len(clip),
        rate=clip.labels.rate,
        subject=clip.labels.subject,
        session=clip.labels.session,
        split="train",
        start_s=clip.labels.start_s,
        leg_m=leg_m if np.isfinite(leg_m) else 0.0,
        valid_fraction=float(clip.valid.mean()),
        sha256=sha256,
    )


def feature_sums(clip: Clip, info: ClipInfo, rate_hz: float) -> Float[np.ndarray, "sums"]:
    """Number, sum and sum of squares of a clip's frame vectors, one after the other; they add up over clips."""
    motion = resample(motion_from_clip(clip, body_scale(info)), rate_hz)
    features = motion.features().astype(np.float64)
    features = features[motion.frame_valid & np.isfinite(features).all(axis=1)]
    return np.concatenate([[len(features)], features.sum(axis=0), (features**2).sum(axis=0)])


def entries(facts: Facts) -> Iterator[tuple[str, ClipInfo]]:
    """(source, index entry) of every clip, in order; facts come back from disk as plain JSON."""
    for item, fact in facts.items():
        for entry in fact["clips"]:
            yield item, ClipInfo(**entry)


class Parts:
    """Part files, the last one kept open: clips come source by source."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._item, self._file = folder / PARTS, "", None

    def of(self, item: str) -> h5py.File:
        """The open part of a source."""
        if item != self._item or self._file is None:
            self.close()
            self._item, self._file = item, h5py.File(self._folder / f"{item}.h5", "r")
        return self._file

    def close(self) -> None:
        """Closes the last one."""
        if self._file is not None:
            self._file.close()
        self._file = None


@contextmanager
def open_parts(folder: Path) -> Iterator[Parts]:
    """The parts under a dataset's working folder."""
    parts = Parts(folder)
    try:
        yield parts
    finally:
        parts.close()


def add_up(folder: Path, clips: Sequence[ClipInfo], facts: Facts, rate_hz: float) -> FeatureStats:
    """Statistics of the training split alone, so that nothing of the test people is in the normalisation."""
    sums = np.zeros(1 + 2 * LAYOUT.size)
    with open_parts(folder) as parts:
        for (item, _), clip in zip(entries(facts), clips, strict=True):
            if clip.split == "train":
                sums += parts.of(item)[_SUMS][clip.id][()]
    total, squares = sums[1 : 1 + LAYOUT.size], sums[1 + LAYOUT.size :]
    return FeatureStats.from_sums(rate_hz, int(sums[0]), total, squares)
