"""Points of boards and markers found in pictures, as one flat table a view."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from capture.charuco import Grid, MarkerSet, Points, chess_corners, detect_markers, refine, refine_marker_corners
from capture.targets import Target
from core.arrays import Bool, Float, Int, UInt8
from core.errors import InputError
from core.files import read_npz, write_npz

_MIN_BOARD_POINTS = 4  # fewer corners of a board say nothing about its pose
_CHECKERBOARD_SIGMA_PX = 0.1  # reprojection of findChessboardCornersSB's corners on real pictures (0.08-0.09 px)


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


class TargetFinder:
    """Looks for a set of targets in pictures.

    ArUco markers are searched once for each dictionary; the corners of every board follow from its own markers.

    Args:
        targets: by id; their order is that of `MarkerPoints.target_ids`.
    """

    def __init__(self, targets: Mapping[str, Target]) -> None:
        self.target_ids = tuple(targets)
        self._parts = [
            (index, start, part) for index, target in enumerate(targets.values()) for part, start in target.parts
        ]
        self._used: dict[tuple[str, bool], tuple[int, ...]] = {}
        for _, _, part in self._parts:
            if part.kind != "checkerboard":
                key = (part.dictionary, part.inverted)
                self._used[key] = self._used.get(key, ()) + part.marker_ids
        self._grids = {part.id: Grid.of(part) for _, _, part in self._parts if part.kind == "charuco"}

    def find(self, image: UInt8[np.ndarray, "h w"], frame_idx: int = 0) -> MarkerPoints:
        """Points of all targets in a gray picture.

        Args:
            image: the picture.
            frame_idx: what the rows are labelled with.
        """
        seen = {key: detect_markers(image, key[0], ids, key[1]) for key, ids in self._used.items()}
        tables = []
        for index, start, part in self._parts:
            points, xy, sigma = self._find_part(image, part, seen)
            if n := len(points):
                rows = (np.full(n, frame_idx), np.full(n, index), points + start)
                frames, targets, numbers = (column.astype(np.int32) for column in rows)
                tables.append(
                    MarkerPoints(
                        self.target_ids, frames, targets, numbers, xy.astype(np.float32), sigma.astype(np.float32)
                    )
                )
        return MarkerPoints.concatenate(tables, self.target_ids)

    def _find_part(self, image: np.ndarray, part: Target, seen: Mapping[tuple[str, bool], MarkerSet]) -> Points:
        if part.kind == "checkerboard":
            return find_checkerboard(image, part)
        markers = seen[part.dictionary, part.inverted].of(part.marker_ids)
        if part.kind == "marker":
            return refine_marker_corners(image, markers)
        points, xy, sigma = chess_corners(image, markers, self._grids[part.id])
        enough = len(points) if len(points) >= _MIN_BOARD_POINTS else 0
        return points[:enough], xy[:enough], sigma[:enough]


def find_checkerboard(image: UInt8[np.ndarray, "h w"], target: Target) -> Points:
    """All inner corners of a checkerboard, or none.

    A board of equal squares looks the same turned by half a turn, so the numbering may start at either end.
    """
    import cv2

    # the exhaustive search finds tilted and dim boards; half resolution finds those that blur breaks at full
    flags = cv2.CALIB_CB_EXHAUSTIVE | cv2.CALIB_CB_ACCURACY | cv2.CALIB_CB_NORMALIZE_IMAGE
    for scale in (1.0, 0.5):
        small = image if scale == 1.0 else cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        found, corners = cv2.findChessboardCornersSB(small, target.grid, flags=flags)
        if found:
            xy = (corners.reshape(-1, 2).astype(float) + 0.5) / scale - 0.5
            if scale != 1.0:
                spacing_px = np.linalg.norm(np.diff(xy.reshape(target.grid[1], target.grid[0], 2), axis=1), axis=-1)
                refined = refine(image, xy, np.full(len(xy), 0.25 * spacing_px.min()))
                xy = np.where(np.isfinite(refined), refined, xy)
            return np.arange(len(xy)), xy, np.full(len(xy), _CHECKERBOARD_SIGMA_PX)
    return np.zeros(0, np.int64), np.zeros((0, 2)), np.zeros(0)
