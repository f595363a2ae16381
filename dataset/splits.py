"""Train, validation and test: whole subjects (or sessions, or clips) in the order of a hash, never divided.

The same names always fall the same way, whatever the order of the sources. Whoever has few subjects is told which split
stays empty; clips of one subject are spread over splits only when the caller asks for it.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from core.errors import InputError
from dataset.schema import SPLITS, ClipInfo, Split

SplitBy = Literal["subject", "session", "clip"]


@dataclass(frozen=True)
class SplitConfig:
    """How clips are divided.

    Attributes:
        split_by: what stays together. `session` and `clip` let one subject appear in several splits.
        val_share: share of the groups for validation.
        test_share: share of the groups for testing.
        split_salt: another word gives another division.
        pinned_splits: groups whose split is given by name; the rest is divided by the shares.
    """

    split_by: SplitBy = "subject"
    val_share: float = 0.1
    test_share: float = 0.1
    split_salt: str = "action-motifs"
    pinned_splits: dict[str, Split] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not (self.val_share >= 0 and self.test_share >= 0 and self.val_share + self.test_share < 1):
            raise InputError(
                "split",
                f"shares val {self.val_share} and test {self.test_share} leave nothing to train on",
                "give shares that add up to less than 1",
            )


def group_of(clip: ClipInfo, by: str) -> str:
    """What a clip must stay together with."""
    if by == "clip":
        return clip.id
    return clip.session if by == "session" else clip.subject


def divide(groups: Iterable[str], config: SplitConfig) -> dict[str, Split]:
    """The split of every group.

    Each of val and test gets its share, rounded, and at least one group as soon as there are three to divide; of two
    groups one is for testing, a single one is for training.

    Raises:
        InputError: if a pinned name is no group.
    """
    names = sorted(set(groups))
    if unknown := sorted(set(config.pinned_splits) - set(names)):
        problem = f"a split is given for it, but there is no such {config.split_by}"
        raise InputError(unknown[0], problem, f"use one of {', '.join(names)}")
    free = sorted((n for n in names if n not in config.pinned_splits), key=lambda name: _hash(name, config.split_salt))
    num_test, num_val = (_share(config.test_share, len(free), 2), _share(config.val_share, len(free), 3))
    splits: dict[str, Split] = {name: config.pinned_splits.get(name, "train") for name in names}
    splits |= dict.fromkeys(free[:num_test], "test")
    splits |= dict.fromkeys(free[num_test : num_test + num_val], "val")
    return splits


def _hash(name: str, salt: str) -> str:
    return hashlib.sha256(f"{salt}/{name}".encode()).hexdigest()


def _share(fraction: float, total: int, enough: int) -> int:
    """How many of `total` groups a split gets, which begins at `enough` groups."""
    if fraction == 0 or total < enough:
        return 0
    return max(1, round(fraction * total))


def notes_on(counts: Mapping[str, int], num_groups: int, by: str) -> tuple[str, ...]:
    """What must be said about a division: empty splits, and subjects on both sides.

    Args:
        counts: clips in each split.
        num_groups: how many subjects (sessions, clips) were divided.
        by: what was kept together.
    """
    notes = []
    empty = [split for split in SPLITS if not counts.get(split)]
    if empty:
        notes.append(
            f"no clips in {' and '.join(empty)}: there are {num_groups} {by}s to divide; add some, "
            f"or divide by session or clip"
        )
    if by != "subject":
        notes.append(f"divided by {by}: one subject may be in several splits, so figures on test are of known people")
    return tuple(notes)


def check_disjoint(clips: Sequence[ClipInfo], by: str) -> tuple[str, ...]:
    """Groups that occur in more than one split: leaks; empty if there are none."""
    seen = {(group_of(clip, by), clip.split) for clip in clips}
    counts = Counter(group for group, _ in seen)
    return tuple(sorted(group for group, count in counts.items() if count > 1))
