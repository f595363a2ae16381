"""Clips of NTU RGB+D or PKU-MMD out of one file, and which of them a benchmark trains and tests on.

The file is HDF5, as `dataset.kinect.cache` writes it:

- attributes: `schema`, `source` (`ntu`, `pku1` or `pku2`), `rate_hz`, `up_axis`, `files_sha256` (names and sizes of the
  files it was read from, and how), `content_sha256` (its own clips), `code_version`;
- `clips/name`, `clips/label` (from 1), `clips/first_row`, `clips/people`, `clips/frames`;
- `joints_m`: rows of 25 joints, metres, z up, float32; a clip's rows are its first person frame by frame, then its
  second one, NaN where a person is not there;
- `skipped/name`, `skipped/reason`: what is not among the clips, and why;
- `video_splits` (PKU-MMD): JSON, the names of the videos of each part by each rule.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from core.arrays import Float, Int
from core.errors import InputError
from core.files import require_file
from dataset.hdf5 import DAMAGE, own_dataset, own_group
from dataset.kinect.actors import MAX_PEOPLE
from dataset.kinect.benchmarks import Benchmark, NtuName, Part
from dataset.kinect.skeleton_files import NUM_NTU_JOINTS

SCHEMA = "action-motifs/kinect-clips/1"
_AGAIN = "read the skeleton files again: remove this file, or give another --cache"


@dataclass(frozen=True, eq=False)
class Parts:
    """A benchmark's clips, by their position in the file.

    Attributes:
        train: for training.
        test: for testing.
        left_out: names of clips of the file that are in neither part, with the reason.
    """

    train: Int[np.ndarray, "train"]
    test: Int[np.ndarray, "test"]
    left_out: Mapping[str, str]


class ClipFile:
    """Clips of one action each, read when they are asked for.

    Args:
        path: the file.

    Attributes:
        names: of the clips; those of PKU-MMD are the video's, `#` and the number of the action in it.
        labels: actions, from 1.
        frames: of each clip.
        people: of each clip, one or two.
        skipped: what was not taken into the file, and why.

    Raises:
        InputError: if it is missing, damaged, of another schema, or says more rows than it holds.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = h5py.File(require_file(path), "r")
            self._read_index(self._file)
        except DAMAGE as error:
            raise InputError(str(path), f"not a readable file of clips ({error})", _AGAIN) from error

    def __len__(self) -> int:
        return len(self.names)

    def joints(self, idx: int) -> Float[np.ndarray, "people frames 25 3"]:
        """Joints of a clip: metres, z up, NaN where a person is not there."""
        people, frames = int(self.people[idx]), int(self.frames[idx])
        first = int(self._first_row[idx])
        try:
            rows = self._joints_m[first : first + people * frames]
            return np.asarray(rows).reshape(people, frames, NUM_NTU_JOINTS, 3)
        except DAMAGE as error:
            raise InputError(f"{self.path} {self.names[idx]}", f"cannot be read ({error})", _AGAIN) from error

    def parts(self, benchmark: Benchmark) -> Parts:
        """The clips of a benchmark.

        Raises:
            InputError: if the file is of another dataset, has no split of this rule, or leaves a part empty.
        """
        if self.source != benchmark.source:
            problem = f"holds {self.source}, and {benchmark.name} is on {benchmark.source}"
            raise InputError(str(self.path), problem, "give the folder or the file of that dataset")
        found: dict[Part, list[int]] = {"train": [], "test": []}
        left_out: dict[str, str] = {}
        videos = self._videos(benchmark) if self.source != "ntu" else {}
        for idx, name in enumerate(self.names):
            part: Part | None
            if self.source == "ntu":
                part = benchmark.part_of_ntu(NtuName.parse(name))
                reason = f"is not of the {benchmark.classes} actions of {benchmark.name}"
            else:
                part, reason = videos.get(name.rpartition("#")[0]), "its video is in no part of the split file"
            if part is None:
                left_out[name] = reason
            else:
                found[part].append(idx)
        if not found["train"] or not found["test"]:
            problem = f"{len(found['train'])} clips to train on and {len(found['test'])} to test on"
            raise InputError(f"{benchmark.name} of {self.path}", problem, "give the whole dataset")
        train, test = (np.array(found[part], dtype=np.int64) for part in ("train", "test"))
        return Parts(train, test, left_out)

    def _videos(self, benchmark: Benchmark) -> Mapping[str, Part]:
        by_rule = self._splits.get(benchmark.rule)
        if by_rule is None:
            action = f"put PKU-MMD's file of this split beside the skeletons and {_AGAIN}"
            raise InputError(str(self.path), f"was read without a split file for {benchmark.rule}", action)
        return {str(video): part for part in ("train", "test") for video in by_rule[part]}

    def _read_index(self, file: h5py.File) -> None:
        schema = file.attrs["schema"]
        if schema != SCHEMA:
            raise ValueError(f"its schema is {schema!r}, not {SCHEMA!r}")
        self.source = str(file.attrs["source"])
        self.files_sha256, self.content_sha256 = (str(file.attrs[k]) for k in ("files_sha256", "content_sha256"))
        clips, self._joints_m = own_group(file, "clips"), own_dataset(file, "joints_m")
        self.names: tuple[str, ...] = tuple(own_dataset(clips, "name").asstr()[:])
        self.labels, self._first_row, self.people, self.frames = (
            own_dataset(clips, name)[:].astype(np.int64) for name in ("label", "first_row", "people", "frames")
        )
        skipped = own_group(file, "skipped")
        self.skipped: Mapping[str, str] = dict(
            zip(*(own_dataset(skipped, column).asstr()[:] for column in ("name", "reason")), strict=True)
        )
        self._splits: Mapping[str, Any] = json.loads(own_dataset(file, "video_splits").asstr()[()])
        lengths = {len(x) for x in (self.names, self.labels, self._first_row, self.people, self.frames)}
        last_row = self._first_row + self.people * self.frames
        sound = (self._first_row >= 0) & (self.frames > 0) & (self.people > 0) & (self.people <= MAX_PEOPLE)
        sound &= np.maximum(self.frames, self._first_row) <= len(self._joints_m)  # so that no sum of them runs over
        if len(lengths) != 1 or not (sound & (last_row <= len(self._joints_m)) & (self.labels > 0)).all():
            raise ValueError("its index does not fit its rows")
        if self._joints_m.shape[1:] != (NUM_NTU_JOINTS, 3) or self._joints_m.dtype != np.float32:
            raise ValueError(f"its joints are {self._joints_m.dtype} of {self._joints_m.shape}")
