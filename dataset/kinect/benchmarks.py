"""Published splits: NTU RGB+D 60 by subject and camera, 120 by subject and setup, PKU-MMD by its own lists.

NTU RGB+D: Shahroudy et al., CVPR 2016 (60), Liu et al., TPAMI 2019 (120). A name such as S001C002P003R002A013 says
setup, camera, performer, replication and action. PKU-MMD: Liu et al. 2017, arXiv 1703.07475; its two phases come with
lists of the training and the validation videos, of which the latter are what everybody tests on.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from core.errors import InputError
from core.files import require_file
from dataset.importers.foreign import read_text

Source = Literal["ntu", "pku1", "pku2"]
Rule = Literal["xsub", "xview", "xset"]
Part = Literal["train", "test"]

_NAME = re.compile(r"S(\d{3})C(\d{3})P(\d{3})R(\d{3})A(\d{3})")
# NTU RGB+D 60 are these setups
NTU60_SETUPS = 17
TRAIN_SUBJECTS_60 = frozenset({1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38})
TRAIN_SUBJECTS_120 = TRAIN_SUBJECTS_60 | {
    45, 46, 47, 49, 50, 52, 53, 54, 55, 56, 57, 58, 59, 70, 74, 78, 80, 81, 82, 83, 84, 85, 86, 89, 91, 92, 93, 94, 95,
    97, 98, 100, 103,
}  # fmt: skip
TRAIN_CAMERAS = frozenset({2, 3})
MISSING_FILE = Path(__file__).parent / "data" / "samples_with_missing_skeletons.txt"


@dataclass(frozen=True)
class NtuName:
    """What the name of a sample of NTU RGB+D says, each counted from 1."""

    setup: int
    camera: int
    subject: int
    replication: int
    action: int

    @classmethod
    def parse(cls, name: str) -> NtuName:
        """Reads a name without its ending.

        Raises:
            InputError: if it is none.
        """
        found = _NAME.fullmatch(name.upper())
        if found is None:
            problem = "not a name such as S001C002P003R002A013"
            raise InputError(name, problem, "keep the names of NTU RGB+D as they were downloaded")
        return cls(*(int(number) for number in found.groups()))

    def __str__(self) -> str:
        numbers = (self.setup, self.camera, self.subject, self.replication, self.action)
        return "".join(f"{letter}{number:03d}" for letter, number in zip("SCPRA", numbers, strict=True))


@dataclass(frozen=True)
class Benchmark:
    """Which clips are for training and which for testing.

    Attributes:
        name: as papers call it.
        source: the dataset.
        rule: by subject, camera or setup.
        classes: number of actions.
        complete: clips to train and to test on of the whole dataset without its missing samples, as papers report them;
            None where they do not agree on one number.
    """

    name: str
    source: Source
    rule: Rule
    classes: int
    complete: tuple[int, int] | None = None

    def part_of_ntu(self, name: NtuName) -> Part | None:
        """The part that a sample of NTU RGB+D belongs to; None where the benchmark does not have it."""
        if name.action > self.classes or (self.classes == 60 and name.setup > NTU60_SETUPS):
            return None
        if self.rule == "xsub":
            subjects = TRAIN_SUBJECTS_60 if self.classes == 60 else TRAIN_SUBJECTS_120
            return "train" if name.subject in subjects else "test"
        if self.rule == "xview":
            return "train" if name.camera in TRAIN_CAMERAS else "test"
        return "train" if name.setup % 2 == 0 else "test"


BENCHMARKS: Mapping[str, Benchmark] = {
    b.name: b
    for b in (
        Benchmark("ntu60-xsub", "ntu", "xsub", 60, (40091, 16487)),
        Benchmark("ntu60-xview", "ntu", "xview", 60, (37646, 18932)),
        Benchmark("ntu120-xsub", "ntu", "xsub", 120, (63026, 50919)),
        Benchmark("ntu120-xset", "ntu", "xset", 120, (54468, 59477)),
        Benchmark("pku1-xsub", "pku1", "xsub", 51), Benchmark("pku1-xview", "pku1", "xview", 51),
        Benchmark("pku2-xsub", "pku2", "xsub", 51), Benchmark("pku2-xview", "pku2", "xview", 51),
    )
}  # fmt: skip


def benchmark_named(name: str) -> Benchmark:
    """A benchmark by its name.

    Raises:
        InputError: if there is none.
    """
    if name not in BENCHMARKS:
        raise InputError(name, "no such benchmark", f"use one of {', '.join(BENCHMARKS)}")
    return BENCHMARKS[name]


def missing_samples(path: Path = MISSING_FILE) -> frozenset[str]:
    """Names of the samples of NTU RGB+D whose skeletons are missing or incomplete.

    Args:
        path: the list of the dataset's authors, ours or one's own copy; lines that are no name and come before the
            first one are its heading.

    Raises:
        InputError: if it cannot be read, has no name in it, or goes on with what is none.
    """
    found: set[str] = set()
    for number, line in enumerate(read_text(require_file(path)).splitlines(), 1):
        text = line.strip().removesuffix(".skeleton")
        if _NAME.fullmatch(text.upper()):
            found.add(text.upper())
        elif text and found:
            problem = f"line {number} is {text[:40]!r}, not a name such as S001C002P003R002A013"
            raise InputError(str(path), problem, "give NTU_RGBD120_samples_with_missing_skeletons.txt as downloaded")
    if not found:
        raise InputError(str(path), "has no names of samples in it", "give the list of the dataset's authors")
    return frozenset(found)


@dataclass(frozen=True)
class VideoSplit:
    """Names of videos of PKU-MMD, such as 0002-L or A01N01-M."""

    train: frozenset[str]
    test: frozenset[str]


def read_video_split(path: Path, known: Collection[str] | None = None) -> VideoSplit:
    """PKU-MMD's `cross-subject.txt` and the like: a heading and names with commas, for training and for validation.

    Args:
        path: the file.
        known: names of videos that may appear; None: every name of the right form.

    Raises:
        InputError: if the file has other words in it, lacks a part, or has a video in both.
    """
    parts: dict[str, set[str]] = {"train": set(), "test": set()}
    part: str | None = None
    for word in re.split(r"[,\s]+", read_text(require_file(path))):
        lower = word.lower()
        if lower.startswith("train"):
            part = "train"
        elif lower.startswith(("valid", "test")):
            part = "test"
        elif word and not lower.startswith("video"):
            if part is None or VIDEO.fullmatch(word) is None or (known is not None and word not in known):
                problem = f"{word[:40]!r} is not a video such as 0002-L or A01N01-M"
                raise InputError(str(path), problem, "give the split file of PKU-MMD as it was downloaded")
            parts[part].add(word)
    both = parts["train"] & parts["test"]
    if not parts["train"] or not parts["test"] or both:
        problem = f"{len(parts['train'])} videos for training, {len(parts['test'])} for validation, {len(both)} in both"
        raise InputError(str(path), problem, "give the split file of PKU-MMD as it was downloaded")
    return VideoSplit(frozenset(parts["train"]), frozenset(parts["test"]))


# L, M and R are the cameras; the first phase numbers its videos, the second names them by actor and number
VIDEO = re.compile(r"(\d{4}|A\d{2,3}N\d{2,3})-([LMR])")


def phase_of(video: str) -> Source | None:
    """The phase of PKU-MMD that a video's name belongs to; None if it is none."""
    found = VIDEO.fullmatch(video)
    if found is None:
        return None
    return "pku2" if found[1].startswith("A") else "pku1"
