"""Clips from parts into shards of bounded size, one at a time and without decompressing them."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import h5py

from core.files import sha256_of_file
from dataset.labels import in_vocabulary
from dataset.parts import Facts, Parts, entries, open_parts
from dataset.schema import ClipInfo, ShardInfo
from dataset.settings import BuildConfig
from dataset.shards import Compression, copy_clip, new_shard, read_clip, stored_bytes, write_clip


def write_shards(
    folder: Path, clips: Sequence[ClipInfo], facts: Facts, vocabulary: tuple[str, ...], config: BuildConfig
) -> tuple[tuple[ClipInfo, ...], tuple[ShardInfo, ...]]:
    """Copies the clips into shards; returns the index with their places, and the shards."""
    items = [item for item, _ in entries(facts)]
    placed: list[ClipInfo] = []
    with open_parts(folder) as parts:
        for number, group in enumerate(_groups(parts, items, clips, round(config.shard_mb * 2**20))):
            name = f"shard-{number:05d}.h5"
            with new_shard(folder / "data" / name) as target:
                for item, clip in group:
                    names = tuple(facts[item]["action_names"])
                    sha256 = _place(parts.of(item), target, clip, names, vocabulary, config.compression)
                    placed.append(dataclasses.replace(clip, shard=name, sha256=sha256))
    counts = Counter(clip.shard for clip in placed)
    paths = [folder / "data" / name for name in sorted(counts)]
    shards = (ShardInfo(p.name, p.stat().st_size, sha256_of_file(p), counts[p.name]) for p in paths)
    return tuple(placed), tuple(shards)


def _place(
    source: h5py.File,
    target: h5py.File,
    info: ClipInfo,
    names: tuple[str, ...],
    vocabulary: tuple[str, ...],
    compression: Compression,
) -> str:
    """One clip into its shard, its labels in the dataset's vocabulary; returns its content's hash."""
    if names in ((), vocabulary):
        copy_clip(source, target, info.id)
        return info.sha256
    clip = read_clip(source, info.id)
    assert clip.actions is not None
    actions = in_vocabulary(clip.actions, names, vocabulary, f"clip {info.id}")
    labels = dataclasses.replace(clip.labels, action_names=vocabulary)
    return write_clip(target, dataclasses.replace(clip, labels=labels, actions=actions), compression)


def _groups(
    parts: Parts, items: Sequence[str], clips: Sequence[ClipInfo], max_bytes: int
) -> Iterator[list[tuple[str, ClipInfo]]]:
    """Runs of clips that fill a shard each."""
    group: list[tuple[str, ClipInfo]] = []
    size = 0
    for item, clip in zip(items, clips, strict=True):
        clip_bytes = stored_bytes(parts.of(item), clip.id)
        if group and size + clip_bytes > max_bytes:
            yield group
            group, size = [], 0
        group.append((item, clip))
        size += clip_bytes
    if group:
        yield group
