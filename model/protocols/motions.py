"""Labelled clips in memory with the group of people that each belongs to, and the parts of a clip that are judged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from core.arrays import Int
from core.errors import InputError
from dataset.resample import Motion
from dataset.shards import AmdDataset, body_scale, motion_from_clip
from model.protocols.groups import subjects_of


@dataclass(frozen=True, eq=False)
class LabelledMotions:
    """Clips of several groups of people, one action each.

    Attributes:
        ids: of the clips.
        motions: at the clips' own rates.
        label: (n,) position in `classes`.
        group: (n,) position in `groups`.
        classes: names of the actions that occur.
        groups: of people, of which one at a time is left out.
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
    """The clips of some groups that have an action; a clip's label is the action of most frames that have one.

    Raises:
        InputError: if a group has no labelled clip, or a subject is in two groups.
    """
    ids, motions, names, group = [], [], [], []
    members = [(s, k) for k, name in enumerate(groups) for s in subjects_of(name, dataset.info.subjects)]
    if twice := [subject for subject, count in Counter(s for s, _ in members).items() if count > 1]:
        raise InputError(twice[0], "this subject is in two groups", "name each subject once")
    group_of = dict(members)
    for info in dataset.clips:
        clip = dataset.read(info.id) if info.subject in group_of else None
        if clip is not None and clip.actions is not None and clip.actions.any():
            ids.append(info.id)
            motions.append(motion_from_clip(clip, body_scale(info)))
            names.append(clip.labels.action_names[int(clip.actions.sum(axis=0, dtype=np.int64).argmax())])
            group.append(group_of[info.subject])
    if missing := [name for k, name in enumerate(groups) if k not in group]:
        problem = f"no labelled clip of this group in {dataset.path}"
        raise InputError(missing[0], problem, f"use some of {', '.join(dataset.info.subjects)}")
    classes = tuple(sorted(set(names)))
    label = np.array([classes.index(name) for name in names], dtype=np.int64)
    return LabelledMotions(tuple(ids), tuple(motions), label, np.array(group, np.int64), classes, tuple(groups))


def of_shared_classes(motions: LabelledMotions) -> LabelledMotions:
    """The clips whose action more than one group shows: of no other can anything be learned from other people.

    Raises:
        InputError: if there is no such action, or a group shows none.
    """
    shows = np.zeros((len(motions.classes), len(motions.groups)), dtype=bool)
    shows[motions.label, motions.group] = True
    shared = np.flatnonzero(shows.sum(axis=1) > 1)
    if len(bare := np.flatnonzero(~shows[shared].any(axis=0))):
        problem = "shows none of the actions that others show"
        raise InputError(motions.groups[int(bare[0])], problem, "join it to another group, as in a+b")
    kept = np.flatnonzero(np.isin(motions.label, shared))
    return LabelledMotions(
        tuple(motions.ids[i] for i in kept),
        tuple(motions.motions[i] for i in kept),
        np.searchsorted(shared, motions.label[kept]),
        motions.group[kept],
        tuple(motions.classes[i] for i in shared),
        motions.groups,
    )


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
