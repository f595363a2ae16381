"""From parts to a dataset: shards, index, splits, statistics, descriptions."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from core.files import dump_json, read_json, write_json, write_text
from core.stage import Health, Summary
from dataset.card import card
from dataset.croissant import croissant
from dataset.features import LAYOUT
from dataset.labels import joint_vocabulary
from dataset.packing import write_shards
from dataset.parts import PARTS, Facts, add_up, entries
from dataset.schema import SCHEMA, SPLITS, ClipInfo, DatasetInfo, ShardInfo, Skipped
from dataset.settings import BuildConfig
from dataset.splits import SplitConfig, divide, group_of, notes_on


def assemble(config: BuildConfig, folder: Path, facts: Facts) -> Summary:
    """Makes the dataset in `folder` from its parts; `facts` are the index entries of each, and what it skipped."""
    meta = folder / "meta"
    # info.json is written last: with it, all else is there, and a killed run may already have removed parts
    if not (meta / "info.json").is_file():
        _write_all(config, folder, facts)
    for part in sorted((folder / PARTS).glob("*.h5")):
        part.unlink()
    if (folder / PARTS).is_dir():
        (folder / PARTS).rmdir()
    info = DatasetInfo.from_json(read_json(meta / "info.json"), meta / "info.json")
    metrics = {
        "clips": info.num_clips,
        "frames": info.num_frames,
        "hours": round(info.duration_s / 3600, 4),
        "split_clips": info.split_clips,
        "skipped": len(info.skipped),
        "notes": info.notes,
    }
    action = "see the health of the fits (`motifs status`), or lower --cut.min-clip-s"
    return Summary(metrics, [Health("clips", float(info.num_clips), 1.0, "min", action)])


def _write_all(config: BuildConfig, folder: Path, facts: Facts) -> None:
    meta = folder / "meta"
    vocabulary = config.vocabulary or joint_vocabulary(fact["action_names"] for fact in facts.values())
    clips, notes = _divided(facts, config.split)
    clips, shards = write_shards(folder, clips, facts, vocabulary, config)
    if len({tuple(fact["action_names"]) for fact in facts.values() if fact["action_names"]}) > 1:
        notes = (*notes, "sources are labelled with different lists of actions: a 0 can mean that nobody looked for it")
    if config.about.unsaid:
        notes = (*notes, f"not said yet, and needed before publishing: {', '.join(config.about.unsaid)} (--about.*)")
    described = _describe(clips, shards, notes, vocabulary, facts, config)
    write_json(meta / "clips.json", {"schema": SCHEMA, "clips": clips})
    write_json(meta / "stats.json", _statistics(folder, clips, facts, config.feature_rate_hz))
    write_json(meta / "splits.json", _splits(clips, config.split))
    write_text(folder / "README.md", card(described, clips))
    text = dump_json(described.to_json())
    write_json(folder / "croissant.json", croissant(config.about, described, folder, {"meta/info.json": text}))
    write_text(meta / "info.json", text)


def _divided(facts: Facts, config: SplitConfig) -> tuple[tuple[ClipInfo, ...], tuple[str, ...]]:
    """Index entries with their splits, and what must be said about the division."""
    clips = [clip for _, clip in entries(facts)]
    splits = divide({group_of(clip, config) for clip in clips}, config)
    divided = tuple(dataclasses.replace(clip, split=splits[group_of(clip, config)]) for clip in clips)
    return divided, notes_on(divided, config) if divided else ()


def _splits(clips: Sequence[ClipInfo], config: SplitConfig) -> dict[str, Any]:
    """`meta/splits.json`: who is where, by name, and by which rule."""
    groups = {str(s): sorted({group_of(clip, config) for clip in clips if clip.split == s}) for s in SPLITS}
    return {"schema": SCHEMA, "rule": config, "groups": groups}


def _statistics(folder: Path, clips: Sequence[ClipInfo], facts: Facts, rate_hz: float) -> dict[str, Any]:
    """`meta/stats.json`."""
    layout = {name: [part.start, part.stop] for name, part in LAYOUT.parts.items()}
    stats = add_up(folder, clips, facts, rate_hz)
    return {"schema": SCHEMA, "split": "train", "layout": layout, **dataclasses.asdict(stats)}


def _describe(
    clips: Sequence[ClipInfo],
    shards: tuple[ShardInfo, ...],
    notes: tuple[str, ...],
    vocabulary: tuple[str, ...],
    facts: Facts,
    config: BuildConfig,
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
        action_names=vocabulary,
        shards=shards,
        skipped=tuple(Skipped(**entry) for fact in facts.values() for entry in fact["skipped"]),
        settings=dataclasses.asdict(config),
    )
