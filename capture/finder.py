"""Looks for a set of targets in pictures, and for what speaks against their description."""

from __future__ import annotations

import dataclasses
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from capture.april_grid import grid_corners
from capture.charuco import Grid, MarkerSet, Points, agreeing, chess_corners, detect_markers, marker_corners
from capture.checkerboard import find_checkerboard
from capture.markers import MarkerPoints
from capture.targets import Target, aruco_dictionary
from core.arrays import UInt8
from core.errors import InputError

_MIN_BOARD_POINTS = 4  # fewer corners of a board say nothing about its pose
_MIN_CONTRADICTIONS = 3  # pictures that must speak against a description
_MIN_SHARE = 0.1  # of those that seem to fit it, for pictures that fit one other description without exception
_NONE: Points = (np.zeros(0, np.int64), np.zeros((0, 2)), np.zeros(0))


@dataclass(frozen=True, eq=False)
class Seen:
    """What one picture shows.

    Attributes:
        points: found points.
        against: targets that cannot be as described, and what they could be instead (empty if nothing fits).
    """

    points: MarkerPoints
    against: Mapping[str, str]


class TargetFinder:
    """Looks for a set of targets in pictures; may be used by several threads at once.

    ArUco markers are searched once for each dictionary; the corners of every board follow from its own markers.

    Args:
        targets: by id; their order is that of `MarkerPoints.target_ids`.
        parts: take a checkerboard of which only a part is in the picture; for lenses alone, as its place on the board
            is not known.
    """

    def __init__(self, targets: Mapping[str, Target], *, parts: bool = False) -> None:
        self.target_ids = tuple(targets)
        self._parts_of_boards = parts
        self._parts = [
            (index, start, part) for index, target in enumerate(targets.values()) for part, start in target.parts
        ]
        self._used: dict[tuple[str, bool], tuple[int, ...]] = {}
        for _, _, part in self._parts:
            if part.kind != "checkerboard":
                key = (part.dictionary, part.inverted)
                self._used[key] = self._used.get(key, ()) + part.marker_ids
        self._touching = {(part.dictionary, part.inverted) for _, _, part in self._parts if part.kind == "aprilgrid"}
        self._grids = {part.id: Grid.of(part) for _, _, part in self._parts if part.kind == "charuco"}
        self._others = {part.id: _other_boards(part) for _, _, part in self._parts if part.kind == "charuco"}

    def find(self, image: UInt8[np.ndarray, "h w"], frame_idx: int = 0) -> MarkerPoints:
        """Points of all targets in a gray picture, labelled with a frame."""
        return self.look(image, frame_idx).points

    def look(self, image: UInt8[np.ndarray, "h w"], frame_idx: int = 0) -> Seen:
        """Points of all targets in a gray picture, labelled with a frame, and what speaks against the targets."""
        seen = {
            key: detect_markers(image, key[0], ids, key[1], touching=key in self._touching)
            for key, ids in self._used.items()
        }
        tables, against = [], {}
        for index, start, part in self._parts:
            (points, xy, sigma), instead = self._find_part(image, part, seen)
            if instead is not None:
                against[self.target_ids[index]] = instead
            if n := len(points):
                rows = (np.full(n, frame_idx), np.full(n, index), points + start)
                frames, targets, numbers = (column.astype(np.int32) for column in rows)
                xy_px, sigma_px = xy.astype(np.float32), sigma.astype(np.float32)
                tables.append(MarkerPoints(self.target_ids, frames, targets, numbers, xy_px, sigma_px))
        return Seen(MarkerPoints.concatenate(tables, self.target_ids), against)

    def look_at_all(
        self, pictures: Iterable[tuple[int, UInt8[np.ndarray, "h w"]]], *, threads: int = 1
    ) -> Iterator[Seen]:
        """What every numbered picture shows, in their order; the next ones are decoded while threads look at these."""
        with ThreadPoolExecutor(threads) as pool:
            waiting: deque[Future[Seen]] = deque()
            for index, image in pictures:
                waiting.append(pool.submit(self.look, image, index))
                if len(waiting) > 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def _find_part(
        self, image: np.ndarray, part: Target, seen: Mapping[tuple[str, bool], MarkerSet]
    ) -> tuple[Points, str | None]:
        """Points of a board or marker; what it could be instead where it cannot be what it is said to be."""
        if part.kind == "checkerboard":
            return find_checkerboard(image, part, part=self._parts_of_boards), None
        markers = seen[part.dictionary, part.inverted].of(part.marker_ids)
        if part.kind == "marker":
            shown = 255 - image if part.inverted else image
            return marker_corners(shown, markers, aruco_dictionary(part.dictionary).markerSize + 2), None
        if part.kind == "aprilgrid":
            points, believable = grid_corners(image, markers, part)
            instead = "" if not believable else None
        else:
            kept, believable = agreeing(markers, self._grids[part.id])
            instead = None if believable else self._instead(part, markers)
            points = chess_corners(image, kept, self._grids[part.id]) if believable else _NONE
        return points if len(points[0]) >= _MIN_BOARD_POINTS else _NONE, instead

    def _instead(self, part: Target, markers: MarkerSet) -> str:
        """Which other board the markers of a picture fit."""
        fitting = [words for words, grid in self._others[part.id].items() if agreeing(markers, grid)[1]]
        return fitting[0] if fitting else ""


def refuse_contradicted(sightings: Mapping[str, int], against: Mapping[str, list[str]], item: str) -> None:
    """Refuses targets that more pictures speak against than for, or several for one and the same other description.

    Args:
        sightings: pictures in which each target was found.
        against: what it could be instead, of every picture that speaks against it.
        item: the view, for messages.

    Raises:
        InputError: naming the target and what it seems to be.
    """
    for target_id, hints in against.items():
        count = sightings.get(target_id, 0)
        best, agreed = Counter(hint for hint in hints if hint).most_common(1)[0] if any(hints) else ("", 0)
        told = agreed >= max(_MIN_CONTRADICTIONS, _MIN_SHARE * count)
        if not told and (len(hints) < _MIN_CONTRADICTIONS or len(hints) <= count):
            continue
        action = f"in targets.json, describe it {best}" if best else "check its description in targets.json"
        raise InputError(
            item, f"{len(hints)} pictures show markers of {target_id} in places that its description forbids", action
        )


def markers_instead(images: Iterable[UInt8[np.ndarray, "h w"]], target: Target) -> str:
    """What markers pictures show that do not show a target: "DICT_5X5_1000, inverted, numbers from 0", or nothing.

    Args:
        images: a few gray pictures; the common dictionaries are tried on each.
        target: a board or marker with markers.
    """
    # the smaller dictionaries of a family are the beginnings of its largest
    names = [f"DICT_{bits}X{bits}_1000" for bits in (4, 5, 6, 7)] + ["DICT_APRILTAG_36h11", "DICT_ARUCO_ORIGINAL"]
    most, best = max(len(target.marker_ids) // 3, 2), ""
    for image in images if target.marker_ids else ():
        for name in names:
            for inverted in (False, True):
                everything = range(len(aruco_dictionary(name).bytesList))
                ids = detect_markers(image, name, everything, inverted).ids
                # chance readings of a large dictionary are spread over its numbers; a board's lie close together
                count = int((np.abs(ids - np.median(ids)) <= len(target.marker_ids)).sum()) if len(ids) else 0
                if count > most:
                    most, best = count, f"{name}{', inverted' if inverted else ''}, numbers from {ids.min()}"
    return best


def _other_boards(target: Target) -> dict[str, Grid]:
    """Charuco boards that are easily mistaken for one, by what to change in its description."""
    columns, rows = target.grid
    turned = dataclasses.replace(target, grid=(rows, columns))
    boards = {f"with legacy {str(not target.legacy).lower()}": dataclasses.replace(target, legacy=not target.legacy)}
    if rows != columns:
        boards[f"with squares [{rows}, {columns}]"] = turned
        also = f"with squares [{rows}, {columns}] and legacy {str(not target.legacy).lower()}"
        boards[also] = dataclasses.replace(turned, legacy=not target.legacy)
    return {words: Grid.of(board) for words, board in boards.items()}
