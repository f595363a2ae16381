"""Train, validation and test: whole subjects (or sessions, or clips, or named groups of them), never divided.

Each group falls where the hash of its name says, so it stays there when others are added: nobody moves from test to
train in a second edition. Shares then hold on average only. Of few groups, a split that would stay empty takes the
nearest by hash, and the dataset says so; clips of one subject are spread over splits only when the caller asks for it.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal

from core.errors import InputError
from dataset.schema import SPLITS, ClipInfo, Split

SplitBy = Literal["subject", "session", "clip"]
SplitRule = Literal["stable", "exact"]


@dataclass(frozen=True)
class SplitConfig:
    """How clips are divided.

    Attributes:
        split_by: what stays together. `session` and `clip` let one subject appear in several splits.
        val_share: share of the groups for validation.
        test_share: share of the groups for testing.
        split_salt: another word gives another division.
        split_rule: `stable` for groups that never move when others are added; `exact` for the shares to the nearest
            group (40, 5 and 5 of 50), where they may.
        split_groups: what belongs together under one name, by patterns of subjects (sessions, clips):
            `{"kitchenA-*": "A"}`.
        pinned_splits: groups whose split is given by name; the rest is divided by the shares.
    """

    split_by: SplitBy = "subject"
    val_share: float = 0.1
    test_share: float = 0.1
    split_salt: str = "action-motifs"
    split_rule: SplitRule = "stable"
    split_groups: dict[str, str] = field(default_factory=dict)
    pinned_splits: dict[str, Split] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not (self.val_share >= 0 and self.test_share >= 0 and self.val_share + self.test_share < 1):
            raise InputError(
                "split",
                f"shares val {self.val_share} and test {self.test_share} leave nothing to train on",
                "give shares that add up to less than 1",
            )


def group_of(clip: ClipInfo, config: SplitConfig) -> str:
    """What a clip must stay together with."""
    name = {"clip": clip.id, "session": clip.session, "subject": clip.subject}[config.split_by]
    return next((group for pattern, group in config.split_groups.items() if fnmatchcase(name, pattern)), name)


def divide(groups: Iterable[str], config: SplitConfig) -> dict[str, Split]:
    """The split of every group.

    As soon as there are three groups each split has one at least (whose share is not 0); of two groups one is for
    testing, a single one is for training.

    Raises:
        InputError: if a pinned name is no group.
    """
    names = sorted(set(groups))
    if unknown := sorted(set(config.pinned_splits) - set(names)):
        problem = f"a split is given for it, but there is no such {config.split_by}"
        raise InputError(unknown[0], problem, f"use one of {', '.join(names)}")
    free = sorted((n for n in names if n not in config.pinned_splits), key=lambda name: _hash(name, config.split_salt))
    pinned: dict[str, Split] = {name: config.pinned_splits[name] for name in names if name in config.pinned_splits}
    return pinned | (_exact(free, config) if config.split_rule == "exact" else _stable(free, config))


def _exact(free: Sequence[str], config: SplitConfig) -> dict[str, Split]:
    """The shares, rounded, in the order of the hash."""
    num_test, num_val = (_share(config.test_share, len(free), 2), _share(config.val_share, len(free), 3))
    splits: dict[str, Split] = dict.fromkeys(free, "train")
    splits |= dict.fromkeys(free[:num_test], "test")
    return splits | dict.fromkeys(free[num_test : num_test + num_val], "val")


def _stable(free: Sequence[str], config: SplitConfig) -> dict[str, Split]:
    """Each by its own hash; then a split that has none, and should, takes the next in the order of the hash."""
    splits = {name: _by_hash(name, config) for name in free}
    if len(free) < 3:
        splits = {name: "train" if split == "val" else split for name, split in splits.items()}
    wanted: list[tuple[Split, int, float]] = [
        ("train", 1, 1.0),
        ("test", 2, config.test_share),
        ("val", 3, config.val_share),
    ]
    for split, enough, share in wanted:
        if share > 0 and len(free) >= enough and split not in splits.values():
            # train is at the far end of the hashes
            order = reversed(free) if split == "train" else free
            counts = Counter(splits.values())
            splits[next(name for name in order if splits[name] == counts.most_common(1)[0][0])] = split
    return splits


def _by_hash(name: str, config: SplitConfig) -> Split:
    """Where a name falls, whoever else there is."""
    place = int(_hash(name, config.split_salt)[:13], 16) / 16**13
    if place < config.test_share:
        return "test"
    return "val" if place < config.test_share + config.val_share else "train"


def _hash(name: str, salt: str) -> str:
    return hashlib.sha256(f"{salt}/{name}".encode()).hexdigest()


def _share(fraction: float, total: int, enough: int) -> int:
    """How many of `total` groups a split gets, which begins at `enough` groups."""
    if fraction == 0 or total < enough:
        return 0
    return max(1, round(fraction * total))


def notes_on(clips: Sequence[ClipInfo], config: SplitConfig) -> tuple[str, ...]:
    """What must be said about a division: empty splits, groups that may move yet, and subjects on both sides."""
    splits = {group_of(clip, config): clip.split for clip in clips}
    by, notes = config.split_by, []
    if empty := [split for split in SPLITS if split not in splits.values()]:
        notes.append(
            f"no clips in {' and '.join(empty)}: there are {len(splits)} {by}s to divide; add some, "
            f"or divide by session or clip"
        )
    free = {name: split for name, split in splits.items() if name not in config.pinned_splits}
    moved = [name for name, split in free.items() if config.split_rule == "stable" and split != _by_hash(name, config)]
    notes += [
        f"{name} is in {splits[name]} so that it is not empty, and may leave it when more are added" for name in moved
    ]
    if check_disjoint(clips, lambda clip: clip.subject):
        notes.append(f"divided by {by}: one subject is in several splits, so figures on test are of known people")
    return tuple(notes)


def check_disjoint(clips: Sequence[ClipInfo], key: Callable[[ClipInfo], str]) -> tuple[str, ...]:
    """Keys that occur in more than one split: leaks; empty if there are none."""
    seen = {(key(clip), clip.split) for clip in clips}
    counts = Counter(name for name, _ in seen)
    return tuple(sorted(name for name, count in counts.items() if count > 1))
