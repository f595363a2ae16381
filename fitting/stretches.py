"""A recording cut into stretches that lie in files of their own: each process reads what it works on and no more."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.cameras import Rig
from core.files import read_json, read_npz, write_json
from core.skeletons import Skeleton, skeleton_named
from core.transforms import SE3
from fitting.measurements import Measurements
from fitting.own_view import joined
from fitting.windows import Window

_INDEX = "stretches.json"


@dataclass(frozen=True, eq=False)
class Stretches:
    """The stretches of a session's measurements.

    Attributes:
        folder: where they lie, `<name>.npz` each.
        windows: by name, in order.
        rig: the room cameras that saw the subject.
        skeleton: of the keypoints.
        step_s: time between frames.
    """

    folder: Path
    windows: Mapping[str, Window]
    rig: Rig
    skeleton: Skeleton
    step_s: float

    @staticmethod
    def cut(folder: Path, measured: Measurements, windows: Mapping[str, Window], skeleton: Skeleton) -> None:
        """Writes them."""
        for name, window in windows.items():
            measured.frames(window.fitted).save(folder / f"{name}.npz")
        index = {
            "windows": {name: dataclasses.asdict(window) for name, window in windows.items()},
            "rig": measured.rig.to_json(),
            "skeleton": skeleton.name,
            "step_s": measured.step_s,
        }
        write_json(folder / _INDEX, index)

    @staticmethod
    def load(folder: Path) -> Stretches:
        """Reads the index that `cut` wrote."""
        index = read_json(folder / _INDEX)
        windows = {name: Window(**bounds) for name, bounds in index["windows"].items()}
        return Stretches(
            folder, windows, Rig.from_json(index["rig"]), skeleton_named(index["skeleton"]), float(index["step_s"])
        )

    def __len__(self) -> int:
        return max(window.end for window in self.windows.values())

    def read(self, name: str) -> Measurements:
        """One of them, with what it shares with its neighbours."""
        return Measurements.of_arrays(self.rig, read_npz(self.folder / f"{name}.npz"))

    def frames(self, span: slice) -> Measurements:
        """Any frames that follow each other, from as many stretches as hold them."""
        parts = []
        for name, window in self.windows.items():
            first, last = max(span.start, window.begin), min(span.stop, window.end)
            if first < last:
                parts.append(self.read(name).frames(slice(first - window.first, last - window.first)))
        return _joined(parts)


def _joined(parts: list[Measurements]) -> Measurements:
    """Measurements one after the other."""
    feet = {}
    for view, foot in parts[0].feet.items():
        every = [part.feet[view] for part in parts]
        R, t = (np.concatenate([getattr(one.world_from_cam, name) for one in every]) for name in ("R", "t"))
        information = np.concatenate([one.information for one in every])
        own = None if foot.own is None else joined([one.own for one in every if one.own is not None])
        feet[view] = dataclasses.replace(foot, world_from_cam=SE3(R, t), information=information, own=own)
    return dataclasses.replace(
        parts[0],
        xy_px=np.concatenate([part.xy_px for part in parts], axis=1),
        score=np.concatenate([part.score for part in parts], axis=1),
        points_m=np.concatenate([part.points_m for part in parts]),
        feet=feet,
    )
