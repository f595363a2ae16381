"""Points of boards and markers found in pictures, as one flat table a view."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.arrays import Bool, Float, Int
from core.errors import InputError
from core.files import read_npz, write_npz


@dataclass(frozen=True, eq=False)
class MarkerPoints:
    """Found points, one row each, ordered by frame, target and point.

    Attributes:
        target_ids: names of the targets that were looked for.
        frame_idx: frame of the video, or place of the still in its folder.
        target: position in `target_ids`.
        point_idx: position in the target's `points_m`.
        xy_px: where it was found, in the view's pixel frame.
        sigma_px: standard deviation of either coordinate.
    """

    target_ids: tuple[str, ...]
    frame_idx: Int[np.ndarray, "n"]
    target: Int[np.ndarray, "n"]
    point_idx: Int[np.ndarray, "n"]
    xy_px: Float[np.ndarray, "n 2"]
    sigma_px: Float[np.ndarray, "n"]

    def __len__(self) -> int:
        return len(self.frame_idx)

    def where(self, mask: Bool[np.ndarray, "n"]) -> MarkerPoints:
        """The rows of a mask."""
        rows = (self.frame_idx, self.target, self.point_idx, self.xy_px, self.sigma_px)
        return MarkerPoints(self.target_ids, *(column[mask] for column in rows))

    def of_target(self, target_id: str) -> MarkerPoints:
        """The rows of one target; none if it was not looked for."""
        idx = self.target_ids.index(target_id) if target_id in self.target_ids else -1
        return self.where(self.target == idx)

    @staticmethod
    def empty(target_ids: Sequence[str]) -> MarkerPoints:
        """A table without rows."""
        none = np.zeros(0, np.int32)
        return MarkerPoints(tuple(target_ids), none, none, none, np.zeros((0, 2), np.float32), np.zeros(0, np.float32))

    @staticmethod
    def concatenate(tables: Sequence[MarkerPoints], target_ids: Sequence[str]) -> MarkerPoints:
        """Tables of the same targets, one after another."""
        if not tables:
            return MarkerPoints.empty(target_ids)
        names = ("frame_idx", "target", "point_idx", "xy_px", "sigma_px")
        columns = (np.concatenate([getattr(table, name) for table in tables]) for name in names)
        return MarkerPoints(tuple(target_ids), *columns)

    def save(self, path: Path) -> None:
        """Writes the table as `.npz`."""
        write_npz(
            path,
            {
                "frame_idx": self.frame_idx.astype(np.int32),
                "target": self.target.astype(np.int32),
                "point_idx": self.point_idx.astype(np.int32),
                "xy_px": self.xy_px.astype(np.float32),
                "sigma_px": self.sigma_px.astype(np.float32),
                "target_ids": np.array(self.target_ids, dtype=np.str_),
            },
        )


def load_markers(path: Path) -> MarkerPoints:
    """Reads what `MarkerPoints.save` wrote.

    Raises:
        InputError: if the file is damaged or its columns do not fit together.
    """
    data = read_npz(path)
    try:
        target_ids = tuple(str(name) for name in data["target_ids"])
        names = ("frame_idx", "target", "point_idx", "sigma_px")
        frame_idx, target, point_idx, sigma_px = (data[name] for name in names)
        xy_px = data["xy_px"]
    except KeyError as error:
        raise InputError(str(path), f"it has no array {error}", "run `motifs detect` with --redo") from error
    lengths = {len(frame_idx), len(target), len(point_idx), len(sigma_px), len(xy_px)}
    if len(lengths) != 1 or xy_px.shape[1:] != (2,) or (len(target) and target.max() >= len(target_ids)):
        raise InputError(str(path), "its columns do not fit together", "run `motifs detect` with --redo")
    return MarkerPoints(target_ids, frame_idx, target, point_idx, xy_px, sigma_px)
