"""A dataset of long untrimmed sessions, stitched from the labelled clips of another one.

A session holds one person of one split, and stays in that split: nothing that a model was trained on is in the sessions
that it is judged on.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from core.errors import InputError
from core.stage import Manifest
from dataset.build import BuildConfig, build_from
from dataset.schema import Clip, ClipInfo, Split
from dataset.shards import AmdDataset
from dataset.splits import SplitConfig
from dataset.stitching import StitchConfig, pieces_of, stitch


@dataclass(frozen=True)
class Group:
    """Clips that may be stitched together: one person's, of one split."""

    name: str
    split: Split
    clips: tuple[ClipInfo, ...]


def groups_of(dataset: AmdDataset) -> tuple[Group, ...]:
    """The clips of a dataset by split and person; where the dataset has labels, those alone that are labelled."""
    found: dict[tuple[Split, str], list[ClipInfo]] = {}
    for clip in dataset.clips:
        found.setdefault((clip.split, clip.subject), []).append(clip)
    return tuple(Group(f"{split}-{subject}", split, tuple(clips)) for (split, subject), clips in found.items())


def read_group(dataset: AmdDataset, group: Group) -> list[Clip]:
    """The whole clips of a group, the unlabelled left out where others are labelled."""
    clips = [dataset.read(clip.id) for clip in group.clips]
    return [clip for clip in clips if clip.actions is not None or not dataset.info.action_names]


def stitch_dataset(
    source: Path,
    out: Path,
    config: StitchConfig | None = None,
    build: BuildConfig | None = None,
    *,
    workers: int = 1,
    redo: bool = False,
) -> Manifest:
    """Builds a dataset of stitched sessions; `dataset.stitching.boundary_frames` gives the boundaries of its clips.

    Args:
        source: dataset with the clips.
        out: the new dataset's folder.
        config: how sessions are stitched; None for the defaults.
        build: settings of the new dataset; its splits are those of `source` whatever is said here.
        workers: processes; the result does not depend on it.
        redo: replace a dataset made otherwise.

    Raises:
        InputError: if `source` is no dataset, or has no piece that is long enough.
        StageError: if `out` was made otherwise.
    """
    config, build = StitchConfig() if config is None else config, BuildConfig() if build is None else build
    dataset = AmdDataset(source)
    groups = {group.name: group for group in groups_of(dataset) if _has_pieces(dataset, group, config)}
    if not groups:
        problem = f"no stretch of one labelling is {config.min_piece_s:g} s long"
        raise InputError(str(source), problem, "lower --min-piece-s, or give a dataset with longer clips")
    # every session is pinned: the shares of a random division mean nothing here
    pinned = SplitConfig(split_by="session", pinned_splits={name: group.split for name, group in groups.items()})
    return build_from(
        list(groups),
        partial(_read, dataset, groups, config),
        out,
        dataclasses.replace(build, split=pinned),
        {"dataset": source / "meta" / "info.json"},
        stage="stitch",
        settings=config,
        workers=workers,
        redo=redo,
    )


def _has_pieces(dataset: AmdDataset, group: Group, config: StitchConfig) -> bool:
    return any(pieces_of(clip, config) for clip in read_group(dataset, group))


def _read(dataset: AmdDataset, groups: dict[str, Group], config: StitchConfig, item: str) -> list[Clip]:
    """The sessions of a group."""
    return [stitched.clip for stitched in stitch(read_group(dataset, groups[item]), item, config)]
