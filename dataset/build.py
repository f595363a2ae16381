"""Stage `build`: fitted sessions and imported motion into one dataset folder.

Each source becomes a part of its own (so that many processes can work, and a killed run resumes); the parts are then
copied into shards of bounded size in the order of their names, without decompressing them.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from core.errors import InputError
from core.files import read_json, sha256_of_file, write_json, write_text
from core.stage import Health, Manifest, Summary, run_stage
from dataset.archives import unpacked
from dataset.card import card
from dataset.cutting import CutConfig, cut
from dataset.features import LAYOUT, FeatureStats, leg_length
from dataset.importers.hik import HikLabels
from dataset.importers.reading import read_source
from dataset.resample import resample
from dataset.schema import SCHEMA, SPLITS, Clip, ClipInfo, DatasetInfo, ShardInfo, Skipped
from dataset.shards import Compression, body_scale, copy_clip, motion_from_clip, new_shard, stored_bytes, write_clip
from dataset.sources import Source, file_name, find_sources
from dataset.splits import SplitConfig, divide, group_of, notes_on
from fitting.body_kinds import SMPL
from fitting.smpl import BodyModel

_VERSION = 1
_PARTS = "parts"


@dataclass(frozen=True)
class BuildConfig:
    """How a dataset is built.

    Attributes:
        cut: where sequences are cut into clips.
        split: how clips are divided into train, val and test.
        feature_rate_hz: rate at which the statistics of the frame vectors are taken (the model's rate).
        compression: of the arrays. `gzip` is read by every HDF5 library; `lzf` is faster and larger.
        shard_mb: size at which a shard is closed, MiB; a clip is never divided.
        body_model: model that the joints of AMASS and motion capture files are computed with, and bodies fitted to
            joints: a file, or `stand-in`.
        hik_labels: what Humans in Kitchens is labelled with: its 82 activities, or the paper's 36 classes.
        max_failed_fraction: share of the sources that may fail to import.
    """

    cut: CutConfig = field(default_factory=CutConfig)
    split: SplitConfig = field(default_factory=SplitConfig)
    feature_rate_hz: float = 5.0
    compression: Compression = "gzip"
    shard_mb: float = 256.0
    body_model: str = "stand-in"
    hik_labels: HikLabels = "original"
    max_failed_fraction: float = 0.0


def build(
    sources: Sequence[Path], out: Path, config: BuildConfig | None = None, *, workers: int = 1, redo: bool = False
) -> Manifest:
    """Builds a dataset.

    Args:
        sources: session folders, motion files of other projects, folders of them, or archives of such folders.
        out: the dataset's folder.
        config: settings; None for the defaults.
        workers: processes; the result does not depend on it.
        redo: replace a dataset made from other sources or settings.

    Raises:
        InputError: if a source is missing or not fitted yet.
        StageError: if `out` was made otherwise, or too many sources cannot be read.
        GateError: if no clip is left.
    """
    config = BuildConfig() if config is None else config
    with unpacked(sources) as paths:
        return _build(find_sources(paths), out, config, workers, redo)


def _build(found: Mapping[str, Source], out: Path, config: BuildConfig, workers: int, redo: bool) -> Manifest:
    """`build` of the sources found."""
    inputs = {f"{item}/{path.name}": path for item, source in found.items() for path in source.inputs}
    if config.body_model != "stand-in":
        inputs["body_model"] = Path(config.body_model)
    actions = tuple(sorted({source.take.action for source in found.values()} - {""}))
    # of the model file its name alone: its content is hashed, and its folder is no business of the dataset's
    portable = dataclasses.replace(config, body_model=Path(config.body_model).name)
    return run_stage(
        "build",
        _VERSION,
        inputs=inputs,
        config=portable,
        out=out,
        items=list(found),
        process=partial(_import_source, found, config, actions),
        finish=partial(_assemble, portable, actions),
        max_failed_fraction=config.max_failed_fraction,
        workers=workers,
        redo=redo,
    )


@lru_cache(maxsize=1)
def load_body(name: str) -> BodyModel:
    """The body model of a setting: a file, or `stand-in`."""
    if name != "stand-in":
        return BodyModel.load(Path(name)).require(SMPL, "a dataset of SMPL's joints")
    from fitting.stand_in import stand_in_body  # takes a second to make; sessions do not need it

    return stand_in_body()


def _import_source(
    sources: Mapping[str, Source], config: BuildConfig, item: str, folder: Path
) -> dict[str, Any]:
    """One source into a part file; its facts are the index entries, what was skipped, and the sums for statistics."""
    clips, skipped = [], []
    for sequence in read_source(sources[item], partial(load_body, config.body_model), config.hik_labels):
        labels = dataclasses.replace(sequence.labels, subject=file_name(sequence.labels.subject))
        kept, left = cut(dataclasses.replace(sequence, labels=labels), config.cut)
        clips += kept
        skipped += left
    entries = []
    if clips:
        with new_shard(folder / _PARTS / f"{item}.h5") as file:
            for clip in clips:
                sha256 = write_clip(file, clip, config.compression)
                info = clip_info(clip, sha256)
                entries.append({"info": info, "sums": feature_sums(clip, info, config.feature_rate_hz)})
    return {"clips": entries, "skipped": skipped, "action_names": list(clips[0].labels.action_names) if clips else []}


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


def feature_sums(clip: Clip, info: ClipInfo, rate_hz: float) -> dict[str, Any]:
    """Number, sum and sum of squares of a clip's frame vectors, from which a dataset's statistics add up."""
    motion = resample(motion_from_clip(clip, body_scale(info)), rate_hz)
    features = motion.features().astype(np.float64)
    features = features[motion.frame_valid & np.isfinite(features).all(axis=1)]
    return {"count": len(features), "total": features.sum(axis=0), "squares": (features**2).sum(axis=0)}


def _assemble(
    config: BuildConfig, actions: tuple[str, ...], folder: Path, facts: Mapping[str, Mapping[str, Any]]
) -> Summary:
    """Shards, index, statistics and description from the parts."""
    meta, parts = folder / "meta", folder / _PARTS
    # info.json is written last: with it, all else is there, and a killed run may already have removed parts
    if not (meta / "info.json").is_file():
        clips, notes = _divided(facts, config.split)
        clips, shards = _write_shards(folder, clips, facts, round(config.shard_mb * 2**20))
        write_json(meta / "clips.json", {"schema": SCHEMA, "clips": clips})
        write_json(meta / "stats.json", _statistics(clips, facts, config.feature_rate_hz))
        described = _describe(clips, shards, notes, facts, config, actions)
        write_text(folder / "README.md", card(described, clips))
        write_json(meta / "info.json", described.to_json())
    for part in sorted(parts.glob("*.h5")):
        part.unlink()
    if parts.is_dir():
        parts.rmdir()
    info = DatasetInfo.from_json(read_json(meta / "info.json"), meta / "info.json")
    metrics = {
        "clips": info.num_clips,
        "frames": info.num_frames,
        "hours": round(info.duration_s / 3600, 4),
        "split_clips": info.split_clips,
        "skipped": len(info.skipped),
        "notes": info.notes,
    }
    action = "see the health of the fits (`motifs status`), or lower --min-clip-s"
    return Summary(metrics, [Health("clips", float(info.num_clips), 1.0, "min", action)])


def _entries(facts: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, ClipInfo, Mapping[str, Any]]]:
    """(source, index entry, feature sums) of every clip, in order; facts come back from disk as plain JSON."""
    for item, fact in facts.items():
        for entry in fact["clips"]:
            yield item, ClipInfo(**entry["info"]), entry["sums"]


def _divided(
    facts: Mapping[str, Mapping[str, Any]], config: SplitConfig
) -> tuple[tuple[ClipInfo, ...], tuple[str, ...]]:
    """Index entries with their splits, and what must be said about the division."""
    clips = [clip for _, clip, _ in _entries(facts)]
    groups = {group_of(clip, config.split_by) for clip in clips}
    splits = divide(groups, config)
    divided = tuple(dataclasses.replace(clip, split=splits[group_of(clip, config.split_by)]) for clip in clips)
    counts = Counter(str(clip.split) for clip in divided)
    return divided, notes_on(counts, len(groups), config.split_by) if divided else ()


def _write_shards(
    folder: Path, clips: Sequence[ClipInfo], facts: Mapping[str, Mapping[str, Any]], max_bytes: int
) -> tuple[tuple[ClipInfo, ...], tuple[ShardInfo, ...]]:
    """Copies the clips into shards; returns the index with their places, and the shards."""
    items = [item for item, _, _ in _entries(facts)]
    placed: list[ClipInfo] = []
    for number, group in enumerate(_groups(folder, items, clips, max_bytes)):
        name = f"shard-{number:05d}.h5"
        with new_shard(folder / "data" / name) as target:
            for item, clip in group:
                with h5py.File(folder / _PARTS / f"{item}.h5", "r") as source:
                    copy_clip(source, target, clip.id)
                placed.append(dataclasses.replace(clip, shard=name))
    counts = Counter(clip.shard for clip in placed)
    paths = [folder / "data" / name for name in sorted(counts)]
    shards = (ShardInfo(p.name, p.stat().st_size, sha256_of_file(p), counts[p.name]) for p in paths)
    return tuple(placed), tuple(shards)


def _groups(
    folder: Path, items: Sequence[str], clips: Sequence[ClipInfo], max_bytes: int
) -> Iterator[list[tuple[str, ClipInfo]]]:
    """Runs of clips that fill a shard each."""
    group: list[tuple[str, ClipInfo]] = []
    size = 0
    for item, clip in zip(items, clips, strict=True):
        with h5py.File(folder / _PARTS / f"{item}.h5", "r") as part:
            clip_bytes = stored_bytes(part, clip.id)
        if group and size + clip_bytes > max_bytes:
            yield group
            group, size = [], 0
        group.append((item, clip))
        size += clip_bytes
    if group:
        yield group


def _statistics(clips: Sequence[ClipInfo], facts: Mapping[str, Mapping[str, Any]], rate_hz: float) -> dict[str, Any]:
    """`meta/stats.json`: of the training split alone, so that nothing of the test people is in the normalisation."""
    train = {clip.id for clip in clips if clip.split == "train"}
    sums = [entry for _, clip, entry in _entries(facts) if clip.id in train]
    total = np.sum([np.array(s["total"]) for s in sums], axis=0) if sums else np.zeros(LAYOUT.size)
    squares = np.sum([np.array(s["squares"]) for s in sums], axis=0) if sums else np.zeros(LAYOUT.size)
    stats = FeatureStats.from_sums(rate_hz, sum(int(s["count"]) for s in sums), total, squares)
    layout = {name: [part.start, part.stop] for name, part in LAYOUT.parts.items()}
    return {"schema": SCHEMA, "split": "train", "layout": layout, **dataclasses.asdict(stats)}


def _describe(
    clips: Sequence[ClipInfo],
    shards: tuple[ShardInfo, ...],
    notes: tuple[str, ...],
    facts: Mapping[str, Mapping[str, Any]],
    config: BuildConfig,
    actions: tuple[str, ...],
) -> DatasetInfo:
    counts = Counter(clip.split for clip in clips)
    return DatasetInfo(
        num_clips=len(clips),
        num_frames=sum(clip.num_frames for clip in clips),
        duration_s=float(sum(clip.duration_s for clip in clips)),
        subjects=tuple(sorted({clip.subject for clip in clips})),
        split_by=config.split.split_by,
        split_clips={str(split): counts[split] for split in SPLITS},
        notes=notes,
        action_names=_vocabulary(facts),
        shards=shards,
        skipped=tuple(Skipped(**entry) for fact in facts.values() for entry in fact["skipped"]),
        settings=dataclasses.asdict(config),
    )


def _vocabulary(facts: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """What the columns of `actions` mean, which is one list in a dataset."""
    found = {tuple(fact["action_names"]): item for item, fact in facts.items() if fact["action_names"]}
    if len(found) > 1:
        problem = f"{' and '.join(found.values())} are labelled with other lists of actions"
        raise InputError("build", problem, "build a dataset of its own for each project's files")
    return next(iter(found), ())
