"""Labelled clips in memory with the group of people that each belongs to, and the parts of a clip that are judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from core.arrays import Int
from core.errors import InputError
from dataset.resample import Motion
from dataset.shards import AmdDataset, body_scale, motion_from_clip


@dataclass(frozen=True, eq=False)
class LabelledMotions:
    """Clips of several groups of people, one action each.

    Attributes:
        ids: of the clips.
        motions: at the clips' own rates.
        label: (n,) position in `classes`.
        group: (n,) position in `groups`.
        classes: names of the actions that occur.
        groups: subjects (actors, or sets of them) of which one at a time is left out.
    """

    ids: tuple[str, ...]
    motions: tuple[Motion, ...]
    label: Int[np.ndarray, "clips"]
    group: Int[np.ndarray, "clips"]
    classes: tuple[str, ...]
    groups: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.motions)


def load_motions(dataset: AmdDataset, groups: Sequence[str]) -> LabelledMotions:
    """The clips of some subjects that have an action; a clip's label is the action of most of its frames.

    Raises:
        InputError: if a subject has no labelled clip.
    """
    ids, motions, names, group = [], [], [], []
    for info in dataset.clips:
        clip = dataset.read(info.id) if info.subject in groups else None
        if clip is not None and clip.actions is not None and clip.actions.any():
            ids.append(info.id)
            motions.append(motion_from_clip(clip, body_scale(info)))
            names.append(clip.labels.action_names[int(clip.actions.sum(axis=0, dtype=np.int64).argmax())])
            group.append(groups.index(info.subject))
    if missing := [name for k, name in enumerate(groups) if k not in group]:
        problem = f"no labelled clip of this subject in {dataset.path}"
        raise InputError(missing[0], problem, f"use some of {', '.join(dataset.info.subjects)}")
    classes = tuple(sorted(set(names)))
    label = np.array([classes.index(name) for name in names], dtype=np.int64)
    return LabelledMotions(tuple(ids), tuple(motions), label, np.array(group, np.int64), classes, tuple(groups))


Part = Callable[[Motion], Motion]


def whole(motion: Motion) -> Motion:
    """All of a clip."""
    return motion


def middle(seconds: float) -> Part:
    """The middle of a clip, or all of a shorter one."""

    def part(motion: Motion) -> Motion:
        count = min(round(seconds * motion.rate_hz), len(motion))
        start = (len(motion) - count) // 2
        return motion.part(start, start + count)

    return part


def first(share: float) -> Part:
    """The first share of a clip, two fifths of a second at least (two frames of the paper's grid)."""

    def part(motion: Motion) -> Motion:
        return motion.part(0, max(round(share * len(motion)), min(round(0.4 * motion.rate_hz), len(motion))))

    return part


PARTS: Mapping[str, Part] = {
    "whole": whole,
    "first 50 %": first(0.5),
    "first 25 %": first(0.25),
    "first 10 %": first(0.1),
    "middle 1 s": middle(1.0),
    "middle 2 s": middle(2.0),
    "middle 3 s": middle(3.0),
}

# parts whose vectors are put one after the other
JOINED: Mapping[str, tuple[str, ...]] = {"pyramid": ("whole", "middle 3 s", "middle 1 s")}
PART_NAMES = (*PARTS, *JOINED)
