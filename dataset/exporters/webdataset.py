"""WebDataset out of a dataset: tar files of bounded size, two members a clip, `<clip>.json` and `<clip>.npz`.

One series of tars a split: `train-000000.tar` and so on, so that `webdataset.WebDataset("train-{000000..000003}.tar")`
reads a split and decodes both members by their endings. The `.json` is the clip's index entry and labels, the `.npz`
its arrays by field (`dataset.schema.FIELDS`). The same dataset gives the same bytes: headers state no time and no user.
WebDataset cuts a name at its first dot, so dots in a clip's id become underscores in the member's name.
"""

from __future__ import annotations

import dataclasses
import io
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import InputError
from core.files import atomic_path, dump_json
from dataset.exporters.clips import chosen, require_new
from dataset.schema import SCHEMA, Clip, ClipInfo
from dataset.shards import AmdDataset

_BLOCK_BYTES = 512  # a tar's members and their headers are padded to it


@dataclass(frozen=True)
class WebDatasetConfig:
    """How tars are written.

    Attributes:
        shard_mb: size at which a tar is closed, MiB; a clip is never divided.
    """

    shard_mb: float = 256.0

    def __post_init__(self) -> None:
        if not self.shard_mb > 0:
            raise InputError("webdataset", f"tars of {self.shard_mb} MiB were asked for", "give a size above 0")


def export_webdataset(
    dataset: AmdDataset, out: Path, config: WebDatasetConfig | None = None, clip_ids: Sequence[str] | None = None
) -> tuple[Path, ...]:
    """Writes clips as `<out>/<split>-000000.tar` and so on, in the order of the index.

    Args:
        clip_ids: which; all of them if None.

    Raises:
        InputError: if there is no such clip, a file is there already, or two clips get the same name.
    """
    max_bytes = round((config or WebDatasetConfig()).shard_mb * 2**20)
    clips = [dataset[clip_id] for clip_id in chosen(dataset, clip_ids)]
    _require_distinct(clips)
    paths: list[Path] = []
    for split in dict.fromkeys(clip.split for clip in clips):
        samples = (_sample(clip, dataset.read(clip.id)) for clip in clips if clip.split == split)
        for number, group in enumerate(_groups(samples, max_bytes)):
            path = require_new(out / f"{split}-{number:06d}.tar")
            with atomic_path(path) as temporary, tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
                for name, content in group:
                    _add(tar, name, content)
            paths.append(path)
    return tuple(paths)


def _sample(info: ClipInfo, clip: Clip) -> list[tuple[str, bytes]]:
    """The members of a clip: name and content."""
    described: dict[str, Any] = {"schema": SCHEMA, **dataclasses.asdict(info), **dataclasses.asdict(clip.labels)}
    arrays = io.BytesIO()
    np.savez_compressed(arrays, allow_pickle=False, **clip.arrays())
    key = _key(info.id)
    return [(f"{key}.json", dump_json(described).encode()), (f"{key}.npz", arrays.getvalue())]


def _groups(samples: Iterator[list[tuple[str, bytes]]], max_bytes: int) -> Iterator[list[tuple[str, bytes]]]:
    """Members of runs of clips that fill a tar each."""
    group: list[tuple[str, bytes]] = []
    size = 0
    for sample in samples:
        num_bytes = sum(_BLOCK_BYTES + -(-len(content) // _BLOCK_BYTES) * _BLOCK_BYTES for _, content in sample)
        if group and size + num_bytes > max_bytes:
            yield group
            group, size = [], 0
        group += sample
        size += num_bytes
    if group:
        yield group


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    """A member whose header states name and size alone."""
    header = tarfile.TarInfo(name)
    header.size, header.mtime, header.mode = len(content), 0, 0o644
    header.uid = header.gid = 0
    header.uname = header.gname = ""
    tar.addfile(header, io.BytesIO(content))


def _key(clip_id: str) -> str:
    return clip_id.replace(".", "_")


def _require_distinct(clips: Sequence[ClipInfo]) -> None:
    counts = Counter(_key(clip.id) for clip in clips)
    if twice := [key for key, count in counts.items() if count > 1]:
        raise InputError(twice[0], "two clips get this name, for dots become underscores", "rename their sources")
