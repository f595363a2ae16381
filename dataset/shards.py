"""Shards: HDF5 files that hold many clips each, chunked along time so that a random window reads only its own frames.

The same clips give the same bytes: no times are stored, groups are written in order, the file format version is pinned.
Every clip carries the SHA-256 of its content, every chunk a checksum that reading it checks, and every shard's hash
stands in `meta/info.json`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import zlib
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np

from core.errors import InputError
from core.files import inside, read_json
from dataset.checks import require_whole
from dataset.features import LAYOUT, REFERENCE_LEG_M, FeatureStats
from dataset.hdf5 import DAMAGE, own_dataset, own_group, require_own
from dataset.resample import Motion, motion_of
from dataset.schema import (
    CONVENTIONS,
    FIELDS,
    OPTIONAL_FIELDS,
    SCHEMA,
    Clip,
    ClipInfo,
    ClipLabels,
    DatasetInfo,
    clips_from_json,
    require_schema,
)

Compression = Literal["auto", "gzip", "lzf", "none"]
# About 8 s at 30 fps: a 30-s window reads at most one chunk more than it needs at either end.
CHUNK_FRAMES = 256
# `auto`: an array is deflated where this brings it below this share of its size. Poses of a fit are noise in their last
# bits: a fifth less space would cost five times as long for a window (benchmarks/shard_compression.py).
_WORTH = 0.5
_LIBVER = ("v110", "v110")
# a file is open until so many others were used after it; systems allow a process some hundreds
_MAX_OPEN = 64
_LABEL_NAMES = ("rate", "subject", "session", "gender", "body_model", "body_model_sha256")
MOTION_FIELDS = ("poses", "joints_m", "contacts", "valid", "reasons", "joint_covariance")


def content_sha256(clip: Clip) -> str:
    """Hash of a clip's arrays and labels, independent of compression, chunking and HDF5's own version."""
    digest = hashlib.sha256(json.dumps(_attributes(clip), sort_keys=True).encode())
    for name, array in clip.arrays().items():
        digest.update(f"\n{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _attributes(clip: Clip) -> dict[str, Any]:
    """A clip's attributes in the shard: everything a reader needs that is not an array."""
    labels = clip.labels
    return {
        **CONVENTIONS,
        **{name: getattr(labels, name) for name in _LABEL_NAMES},
        "start_s": float(labels.start_s),
        "num_betas": len(clip.betas),
        "action_names": json.dumps(list(labels.action_names)),
        "provenance": json.dumps(dict(labels.provenance), sort_keys=True),
    }


@contextlib.contextmanager
def new_shard(path: Path) -> Iterator[h5py.File]:
    """Opens a new shard for writing; the same clips written to it in the same order give the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w", libver=_LIBVER) as file:
        file.attrs["schema"] = SCHEMA
        file.create_group("clips")
        yield file


def write_clip(file: h5py.File, clip: Clip, compression: Compression, chunk_frames: int = CHUNK_FRAMES) -> str:
    """Appends a clip to a shard; returns its content's SHA-256.

    Raises:
        InputError: if the clip contradicts itself, see `dataset.checks`.
    """
    require_whole(clip)
    group = file["clips"].create_group(clip.id)
    for name, array in clip.arrays().items():
        filters: dict[str, Any] = {}
        if array.ndim > 1 or name == "reasons":
            filters = {"chunks": (min(len(array), chunk_frames), *array.shape[1:]), "fletcher32": True}
            chosen = _compression_of(array) if compression == "auto" else compression
            if chosen != "none":
                filters |= {"compression": chosen, "shuffle": array.dtype.itemsize > 1}
        group.create_dataset(name, data=array, track_times=False, **filters)
    for key, value in _attributes(clip).items():
        group.attrs[key] = value
    sha256 = content_sha256(clip)
    group.attrs["sha256"] = sha256
    return sha256


def _compression_of(array: np.ndarray) -> Compression:
    """Whether an array is worth deflating, judged by its first, middle and last frames as HDF5 would shuffle them."""
    middle, length = len(array) // 2, CHUNK_FRAMES // 4
    sample = np.concatenate([array[:length], array[middle : middle + length], array[-length:]])
    shuffled = np.ascontiguousarray(sample).view(np.uint8).reshape(-1, array.dtype.itemsize).T
    return "gzip" if len(zlib.compress(shuffled.tobytes(), 4)) < _WORTH * sample.nbytes else "none"


def copy_clip(source: h5py.File, target: h5py.File, clip_id: str) -> None:
    """Copies a clip from one shard to another without decompressing it."""
    source.copy(require_own(clip_group(source, clip_id)), target["clips"], name=clip_id)


def clip_group(file: h5py.File, clip_id: str) -> h5py.Group:
    """The group of a clip, which lies in the file itself; `dataset.hdf5` says what it raises."""
    return own_group(own_group(file, "clips"), clip_id)


def stored_bytes(file: h5py.File, clip_id: str) -> int:
    """Size of a clip's arrays in the file, compressed."""
    return sum(int(dataset.id.get_storage_size()) for dataset in clip_group(file, clip_id).values())


def read_clip(file: h5py.File, clip_id: str, start: int = 0, stop: int | None = None) -> Clip:
    """Frames `start` to `stop` of a clip of an open shard."""
    group = clip_group(file, clip_id)
    attributes = group.attrs
    labels = ClipLabels(
        **{name: str(attributes[name]) for name in _LABEL_NAMES},
        start_s=float(attributes["start_s"]),
        action_names=tuple(json.loads(attributes["action_names"])),
        provenance=json.loads(attributes["provenance"]),
    )
    names = [name for name in FIELDS if name in group or name not in OPTIONAL_FIELDS]
    return Clip(clip_id, labels, **read_fields(group, names, start, stop))


def read_fields(group: h5py.Group, names: Collection[str], start: int, stop: int | None) -> dict[str, np.ndarray]:
    """Frames `start` to `stop` of some arrays of a clip's group."""
    return {name: _field(group, name)[slice(start, stop) if FIELDS[name][0][0] == "T" else ()] for name in names}


def _field(group: h5py.Group, name: str) -> h5py.Dataset:
    """An array of plain numbers: strings and structures could be of any size each."""
    dataset = own_dataset(group, name)
    if dataset.dtype.kind not in "biuf":
        raise ValueError(f"{dataset.name} holds {dataset.dtype}, not numbers")
    return dataset


class AmdDataset:
    """A dataset folder, read lazily: opening it reads `meta/`, a shard is opened when its first clip is asked for.

    Safe to hand to other processes: open files are neither pickled nor shared over a fork.

    Args:
        path: the dataset's folder.

    Raises:
        InputError: if it is no dataset, of another schema version, or a shard is missing or truncated.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not (path / "meta" / "info.json").is_file():
            raise InputError(str(path), "it holds no meta/info.json", "make a dataset with `motifs build`")
        info_path, clips_path = path / "meta" / "info.json", path / "meta" / "clips.json"
        self.info: DatasetInfo = DatasetInfo.from_json(read_json(info_path), info_path)
        self.clips: tuple[ClipInfo, ...] = clips_from_json(read_json(clips_path), clips_path)
        self._by_id = {clip.id: clip for clip in self.clips}
        self._files: dict[str, h5py.File] = {}
        self._pid = os.getpid()
        for shard in self.info.shards:
            self._require_whole(shard.name, shard.num_bytes)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_files": {}, "_pid": -1}

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, clip_id: str) -> ClipInfo:
        try:
            return self._by_id[clip_id]
        except KeyError as error:
            raise InputError(clip_id, f"{self.path} has no such clip", "see meta/clips.json for its clips") from error

    def of_split(self, split: str) -> tuple[ClipInfo, ...]:
        """Clips of a split (`train`, `val`, `test`, or `all`)."""
        return tuple(clip for clip in self.clips if split in ("all", clip.split))

    def read(self, clip_id: str, start: int = 0, stop: int | None = None) -> Clip:
        """Frames `start` to `stop` of a clip, every field.

        Raises:
            InputError: if there is no such clip or its shard is damaged.
        """
        info = self[clip_id]
        with self._reading(info):
            return read_clip(self._open(info.shard), clip_id, start, stop)

    def read_fields(
        self, clip_id: str, names: Sequence[str], start: int = 0, stop: int | None = None
    ) -> dict[str, np.ndarray]:
        """Some arrays of a clip only."""
        info = self[clip_id]
        with self._reading(info):
            return read_fields(clip_group(self._open(info.shard), clip_id), names, start, stop)

    def motion(self, clip_id: str, start: int = 0, stop: int | None = None) -> Motion:
        """What features are made of, for frames `start` to `stop`, with the clip's own body normalisation."""
        info = self[clip_id]
        arrays = self.read_fields(clip_id, MOTION_FIELDS, start, stop)
        return motion_of(arrays, float(info.frame_rate), body_scale(info))

    def stats(self) -> FeatureStats:
        """Mean and standard deviation of the frame vectors of the training split (`meta/stats.json`)."""
        path = self.path / "meta" / "stats.json"
        data = read_json(path)
        require_schema(data.get("schema") if isinstance(data, dict) else None, path)
        try:
            stats = FeatureStats(
                float(data["rate_hz"]),
                np.array(data["mean"], float),
                np.array(data["sd"], float),
                int(data["num_frames"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(str(path), f"damaged: {error!r}", "run `motifs build` with --redo") from error
        if stats.mean.shape != (LAYOUT.size,) or stats.sd.shape != (LAYOUT.size,):
            problem = f"statistics of {stats.mean.shape} values, not {LAYOUT.size}"
            raise InputError(str(path), problem, "run `motifs build` with --redo")
        return stats

    def close(self) -> None:
        """Closes the shards; they open again when needed."""
        for file in self._files.values():
            file.close()
        self._files = {}

    def _require_whole(self, shard: str, num_bytes: int) -> None:
        path = inside(self.path / "data", shard)
        if not path.is_file():
            raise InputError(str(path), "this shard is missing", "copy it again, or run `motifs build` with --redo")
        size = path.stat().st_size
        if size != num_bytes:
            raise InputError(
                str(path),
                f"truncated or changed: {size} bytes, {num_bytes} expected",
                "copy it again, or run `motifs build` with --redo",
            )

    def _open(self, shard: str) -> h5py.File:
        if self._pid != os.getpid():  # a forked worker must not share the parent's file positions
            self._files, self._pid = {}, os.getpid()
        file = self._files.pop(shard, None)
        if file is None:
            file = h5py.File(inside(self.path / "data", shard), "r")
            require_schema(file.attrs.get("schema"), self.path / "data" / shard)
            if len(self._files) >= _MAX_OPEN:
                self._files.pop(next(iter(self._files))).close()
        self._files[shard] = file  # the last in the order of use
        return file

    @contextlib.contextmanager
    def _reading(self, info: ClipInfo) -> Iterator[None]:
        """Names the clip in whatever HDF5 says about damaged bytes."""
        try:
            yield
        except DAMAGE as error:
            raise InputError(
                f"clip {info.id} in {self.path / 'data' / info.shard}",
                f"damaged ({error})",
                "run `motifs verify`, then copy the shard again or run `motifs build` with --redo",
            ) from error


def motion_from_clip(clip: Clip, scale: float) -> Motion:
    """What features are made of, for a clip in memory."""
    return motion_of(clip.arrays(), float(clip.rate), scale)


def body_scale(info: ClipInfo) -> float:
    """The factor that normalises a clip's body; 1 where its legs were never seen whole."""
    return REFERENCE_LEG_M / info.leg_m if info.leg_m > 0 else 1.0
