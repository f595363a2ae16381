"""Datasets with one group of people left out: views that share their shards with the datasets they are made of.

A group is one subject of a dataset, or several: `02+05+13`.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from core.errors import InputError
from core.files import atomic_folder, write_json
from dataset.features import LAYOUT, FeatureStats
from dataset.resample import resample
from dataset.schema import SCHEMA, ClipInfo, DatasetInfo, ShardInfo
from dataset.shards import AmdDataset


def subjects_of(group: str, known: Collection[str]) -> tuple[str, ...]:
    """The subjects that make a group.

    Args:
        group: a subject's name, or several with `+` between them.
        known: subjects of the dataset.

    Raises:
        InputError: if a dataset has no such subject.
    """
    subjects = (group,) if group in known else tuple(group.split("+"))
    if missing := [subject for subject in subjects if subject not in known]:
        raise InputError(missing[0], "no clip is of this subject", f"use some of {', '.join(sorted(known))}")
    return subjects


def leave_out(
    datasets: Sequence[AmdDataset],
    group: str | None,
    out: Path,
    *,
    rate_hz: float,
    without: Collection[str] = (),
) -> Path:
    """A dataset of several, in which one group of people is for testing and all others are for training.

    Statistics of the frame vectors are of the training clips alone. Shards are linked, or copied where the file system
    cannot link. A folder that is there already is taken as it is.

    Args:
        datasets: whose clips are joined; ids must be unique.
        group: of the test split; None: everybody is for training.
        out: folder to make.
        rate_hz: rate of the statistics: the model's.
        without: subjects of whom nothing is taken, for they may be those of the group under another name.

    Raises:
        InputError: if nobody is called so, or two clips have one id.
    """
    if (out / "meta" / "info.json").is_file():
        return out
    clips = [clip for clip in _divided(datasets, group) if clip.subject not in without]
    with atomic_folder(out) as folder:
        shards = [_link(d, shard, k, folder) for k, d in enumerate(datasets) for shard in d.info.shards]
        write_json(folder / "meta" / "clips.json", {"schema": SCHEMA, "clips": clips})
        write_json(folder / "meta" / "stats.json", _statistics(datasets, clips, rate_hz))
        write_json(folder / "meta" / "info.json", _described(datasets, clips, shards, group).to_json())
    return out


def _divided(datasets: Sequence[AmdDataset], group: str | None) -> list[ClipInfo]:
    clips: list[ClipInfo] = []
    for number, dataset in enumerate(datasets):
        clips += [dataclasses.replace(clip, shard=_shard_name(number, clip.shard)) for clip in dataset.clips]
    if twice := [name for name, count in Counter(clip.id for clip in clips).items() if count > 1]:
        raise InputError(twice[0], "two datasets have a clip of this id", "build one dataset of both sources")
    test = () if group is None else subjects_of(group, {clip.subject for clip in clips})
    return [dataclasses.replace(clip, split="test" if clip.subject in test else "train") for clip in clips]


def _shard_name(number: int, name: str) -> str:
    return f"{number}-{name}"


def _link(dataset: AmdDataset, shard: ShardInfo, number: int, folder: Path) -> ShardInfo:
    target = folder / "data" / _shard_name(number, shard.name)
    target.parent.mkdir(parents=True, exist_ok=True)
    source = dataset.path / "data" / shard.name
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copyfile(source, target)
    return dataclasses.replace(shard, name=target.name)


def _statistics(datasets: Sequence[AmdDataset], clips: Sequence[ClipInfo], rate_hz: float) -> Mapping[str, object]:
    count, sums = 0, np.zeros((2, LAYOUT.size))
    home = {clip.id: dataset for dataset in datasets for clip in dataset.clips}
    for clip in clips:
        if clip.split == "train":
            motion = resample(home[clip.id].motion(clip.id), rate_hz)
            features = motion.features().astype(np.float64)
            features = features[motion.frame_valid & np.isfinite(features).all(axis=1)]
            count += len(features)
            sums += features.sum(axis=0), (features**2).sum(axis=0)
    stats = FeatureStats.from_sums(rate_hz, count, *sums)
    return {"schema": SCHEMA, **dataclasses.asdict(stats)}


def _described(
    datasets: Sequence[AmdDataset], clips: Sequence[ClipInfo], shards: Sequence[ShardInfo], group: str | None
) -> DatasetInfo:
    info = datasets[0].info
    return dataclasses.replace(
        info,
        num_clips=len(clips),
        num_frames=sum(clip.num_frames for clip in clips),
        duration_s=float(sum(clip.duration_s for clip in clips)),
        subjects=tuple(sorted({clip.subject for clip in clips})),
        split_by="subject",
        split_clips=dict(Counter(clip.split for clip in clips)),
        notes=(
            f"for testing what was learned without {group or 'others'}; labels are those of {datasets[0].path.name}",
        ),
        shards=tuple(shards),
        skipped=(),
        settings={},
    )
