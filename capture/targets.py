"""Boards and markers: what is printed on them, how each is mounted, and where its points lie.

A target's frame is that of OpenCV's boards: origin at the outer top-left corner of the print, x right, y down along it,
z into it. `points_m` are the points that a detector finds:

| kind         | points                                     | frame's origin                     |
|--------------|--------------------------------------------|------------------------------------|
| charuco      | inner corners of the squares, row by row   | outer corner of the top-left square|
| checkerboard | inner corners, row by row                  | outer corner of the top-left square|
| aprilgrid    | corners of the tags in Kalibr's order, row | outer corner of the top-left small |
|              | by row from the lower left                 | black square                       |
| marker       | corners: top-left, clockwise               | first corner                       |
| rig          | its panels' points, one panel after another| free                               |
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from core.arrays import Float
from core.errors import InputError
from core.files import read_json, write_json
from core.transforms import SE3

SCHEMA = "action-motifs/targets/1"
Kind = Literal["charuco", "checkerboard", "aprilgrid", "marker", "rig"]
Mounting = Literal["world", "static", "carried", "lens"]

_KEYS: Mapping[str, tuple[frozenset[str], frozenset[str]]] = {
    "charuco": (
        frozenset({"squares", "square_m", "marker_m", "dictionary"}),
        frozenset({"first_marker", "legacy", "inverted"}),
    ),
    "checkerboard": (frozenset({"corners", "square_m"}), frozenset()),
    "aprilgrid": (frozenset({"tags", "tag_m", "spacing"}), frozenset({"dictionary", "first_marker"})),
    "marker": (frozenset({"marker_id", "size_m", "dictionary"}), frozenset({"inverted"})),
    "rig": (frozenset({"panels"}), frozenset()),
}
_MAX_SQUARES = 100  # a side; more than any board, and a bound on what a hostile file can make us allocate


@dataclass(frozen=True, eq=False)
class Target:
    """One board, marker or rig of markers.

    Attributes:
        id: unique name.
        kind: what is printed on it.
        mounting: `world` fixes the world frame by its known pose, `static` hangs somewhere in the room, `carried` is
            moved through it, `lens` is shown in the lens images.
        grid: squares of a charuco board, inner corners of a checkerboard, tags of an aprilgrid (columns, rows);
            (0, 0) for others.
        square_m: side of a square; of an aprilgrid, the distance from tag to tag.
        marker_m: side of an ArUco or AprilTag marker.
        dictionary: name of the ArUco dictionary.
        first_marker: id of the (first) marker.
        legacy: charuco pattern of OpenCV before 4.6.
        inverted: white on black.
        world_from_target: pose in the world, where it is known beforehand.
        panels: parts of a rig.
        target_from_panel: pose of each of them in the rig; None where it is to be found out.
    """

    id: str
    kind: Kind
    mounting: Mounting
    grid: tuple[int, int] = (0, 0)
    square_m: float = 0.0
    marker_m: float = 0.0
    dictionary: str = ""
    first_marker: int = 0
    legacy: bool = False
    inverted: bool = False
    world_from_target: SE3 | None = None
    panels: tuple[Target, ...] = ()
    target_from_panel: tuple[SE3 | None, ...] = ()

    @cached_property
    def points_m(self) -> Float[np.ndarray, "n 3"]:
        """Points in the target's frame, metres; NaN on panels whose place on their rig is unknown."""
        if self.kind == "rig":
            placed = zip(self.panels, self.target_from_panel, strict=True)
            unknown = SE3(np.full((3, 3), np.nan), np.full(3, np.nan))
            return np.concatenate([(unknown if pose is None else pose).apply(panel.points_m) for panel, pose in placed])
        if self.kind == "marker":
            return self.marker_m * np.array([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
        if self.kind == "aprilgrid":
            return self._tag_corners_m()
        columns, rows = self.corner_grid
        x, y = np.meshgrid(np.arange(1, columns + 1), np.arange(1, rows + 1))
        return self.square_m * np.stack([x.ravel(), y.ravel(), np.zeros(x.size)], axis=-1).astype(float)

    def _tag_corners_m(self) -> Float[np.ndarray, "n 3"]:
        """Corners of an aprilgrid's tags; a small black square lies on each of them, as far from tag to tag."""
        border = self.square_m - self.marker_m
        steps = [(border + self.square_m * np.arange(n)[:, None] + [0.0, self.marker_m]).ravel() for n in self.grid]
        x, y = np.meshgrid(steps[0], self.size_m[1] - steps[1])
        return np.stack([x.ravel(), y.ravel(), np.zeros(x.size)], axis=-1)

    @property
    def num_points(self) -> int:
        """Number of points."""
        return len(self.points_m)

    @property
    def is_known(self) -> bool:
        """Whether the places of all its points are known."""
        return all(pose is not None for pose in self.target_from_panel)

    @property
    def placed_panels(self) -> tuple[SE3, ...]:
        """Poses of the panels whose place is known."""
        return tuple(pose for pose in self.target_from_panel if pose is not None)

    @property
    def corner_grid(self) -> tuple[int, int]:
        """Columns and rows of inner corners of a board; (0, 0) for others."""
        if self.kind == "charuco":
            return self.grid[0] - 1, self.grid[1] - 1
        return self.grid if self.kind == "checkerboard" else (0, 0)

    @property
    def size_m(self) -> tuple[float, float]:
        """Width and height of the print of a planar target, metres.

        Raises:
            InputError: for a rig, which has no single print.
        """
        if self.kind == "rig":
            raise InputError(self.id, "a rig is not planar", "print its panels one by one")
        if self.kind == "marker":
            return self.marker_m, self.marker_m
        if self.kind == "aprilgrid":
            width, height = (n * self.square_m + self.square_m - self.marker_m for n in self.grid)
            return width, height
        columns, rows = self.corner_grid
        return (columns + 1) * self.square_m, (rows + 1) * self.square_m

    @property
    def marker_ids(self) -> tuple[int, ...]:
        """Ids of its ArUco markers, within `dictionary`; a rig's are those of its panels."""
        if self.kind == "rig":
            return tuple(i for panel in self.panels for i in panel.marker_ids)
        if self.kind == "checkerboard":
            return ()
        squares = self.grid[0] * self.grid[1]
        count = {"marker": 1, "aprilgrid": squares}.get(self.kind, squares // 2)
        return tuple(range(self.first_marker, self.first_marker + count))

    @property
    def parts(self) -> tuple[tuple[Target, int], ...]:
        """The planar targets it is made of, each with the index of its first point in `points_m`."""
        if self.kind != "rig":
            return ((self, 0),)
        starts = np.cumsum([0, *(panel.num_points for panel in self.panels)])
        return tuple((panel, int(start)) for panel, start in zip(self.panels, starts[:-1], strict=True))

    def to_json(self) -> dict[str, Any]:
        """Plain types; the inverse of `Target.from_json`."""
        data: dict[str, Any] = {"id": self.id, "kind": self.kind, "mounting": self.mounting}
        if self.kind == "charuco":
            data |= {"squares": list(self.grid), "square_m": self.square_m, "marker_m": self.marker_m}
            data |= {"dictionary": self.dictionary, "first_marker": self.first_marker, "legacy": self.legacy}
            data |= {"inverted": self.inverted}
        elif self.kind == "checkerboard":
            data |= {"corners": list(self.grid), "square_m": self.square_m}
        elif self.kind == "aprilgrid":
            data |= {"tags": list(self.grid), "tag_m": self.marker_m, "spacing": self.square_m / self.marker_m - 1}
            data |= {"dictionary": self.dictionary, "first_marker": self.first_marker}
        elif self.kind == "marker":
            data |= {"marker_id": self.first_marker, "size_m": self.marker_m, "dictionary": self.dictionary}
            data |= {"inverted": self.inverted}
        else:
            placed = zip(self.panels, self.target_from_panel, strict=True)
            data["panels"] = [panel.to_json() | {"target_from_panel": _pose_to_json(pose)} for panel, pose in placed]
        data["world_from_target"] = _pose_to_json(self.world_from_target)
        return data

    @staticmethod
    def from_json(data: Mapping[str, Any], *, item: str = "target") -> Target:
        """Reads what `to_json` wrote.

        Args:
            item: the name of the file or rig it comes from, for messages.

        Raises:
            InputError: on an unknown kind or key, a missing one, or a value that no target can have.
        """
        return _parse(data, item)


def load_targets(path: Path) -> dict[str, Target]:
    """Reads `targets.json`: targets by id, in the file's order.

    Raises:
        InputError: if the file is damaged, a target is impossible, or two targets share an id or a marker.
    """
    data = read_json(path)
    if not isinstance(data, dict) or data.get("schema") != SCHEMA or not isinstance(data.get("targets"), list):
        raise InputError(str(path), f"not a list of targets of schema {SCHEMA!r}", "write it as docs/formats.md shows")
    targets = [_parse(entry, str(path)) for entry in data["targets"]]
    check_targets(targets, str(path))
    return {target.id: target for target in targets}


def save_targets(path: Path, targets: Sequence[Target]) -> None:
    """Writes `targets.json` atomically; refuses what `load_targets` would refuse."""
    check_targets(targets, str(path))
    write_json(path, {"schema": SCHEMA, "targets": [target.to_json() for target in targets]})


def check_targets(targets: Sequence[Target], item: str) -> None:
    """Refuses targets that a detector could not tell apart.

    Raises:
        InputError: naming the ids or markers that repeat.
    """
    repeated = [name for name, count in Counter(target.id for target in targets).items() if count > 1]
    if repeated:
        raise InputError(item, f"target ids repeat: {', '.join(repeated)}", "give every target its own id")
    owner: dict[tuple[str, int], str] = {}
    for target in targets:
        for panel, _ in target.parts:
            for marker in panel.marker_ids:
                key = (_family(panel.dictionary), marker)
                if key in owner:
                    raise InputError(
                        item,
                        f"marker {marker} of {panel.dictionary} is on both {owner[key]} and {panel.id}",
                        "give each target markers of its own by first_marker or marker_id",
                    )
                owner[key] = panel.id


def aruco_dictionary(name: str) -> Any:
    """OpenCV's dictionary of this name (`DICT_5X5_1000`).

    Raises:
        InputError: if there is none.
    """
    import cv2

    value = getattr(cv2.aruco, name, None) if name.startswith("DICT_") else None
    if not isinstance(value, int):
        raise InputError(name, "no such ArUco dictionary", "use one of OpenCV's, such as DICT_5X5_1000")
    return cv2.aruco.getPredefinedDictionary(value)


def charuco_board(target: Target) -> Any:
    """OpenCV's board object of a charuco target; built anew, as it cannot be pickled."""
    import cv2

    dictionary = aruco_dictionary(target.dictionary)
    ids = np.array(target.marker_ids, dtype=np.int32)
    board = cv2.aruco.CharucoBoard(target.grid, target.square_m, target.marker_m, dictionary, ids)
    board.setLegacyPattern(target.legacy)
    return board


def _family(dictionary: str) -> str:
    """Dictionaries of one family are prefixes of each other: marker 3 of DICT_5X5_50 is marker 3 of DICT_5X5_1000."""
    head, _, tail = dictionary.rpartition("_")
    return head if tail.isdigit() else dictionary


def _parse(data: Any, item: str) -> Target:
    if not isinstance(data, Mapping):
        raise InputError(item, f"a target is {type(data).__name__}, not an object", "repair it")
    name = str(data.get("id", "?"))
    item = f"{item}, target {name}"
    kind = str(data.get("kind"))
    if kind not in _KEYS:
        raise InputError(item, f"unknown kind {kind!r}", f"use one of {', '.join(_KEYS)}")
    required, optional = _KEYS[kind]
    required = required | {"id", "kind", "mounting"}
    unknown = data.keys() - required - optional - {"world_from_target"}
    missing = required - data.keys()
    if unknown or missing:
        wrong = [f"unknown key {k!r}" for k in sorted(unknown)] + [f"no {k!r}" for k in sorted(missing)]
        raise InputError(item, "; ".join(wrong), f"a {kind} has the keys {', '.join(sorted(required | optional))}")
    if data["mounting"] not in get_args(Mounting):
        raise InputError(item, f"unknown mounting {data['mounting']!r}", f"use one of {', '.join(get_args(Mounting))}")
    try:
        target = _build(data, name, item)
    except (TypeError, ValueError, KeyError) as error:
        raise InputError(item, f"a value is of the wrong kind ({error})", "repair it") from error
    _check_values(target, item)
    return target


def _build(data: Mapping[str, Any], name: str, item: str) -> Target:
    kind: Kind = data["kind"]
    pose = data.get("world_from_target")
    columns, rows = data.get("squares", data.get("corners", data.get("tags", (0, 0))))
    square_m, marker_m = float(data.get("square_m", 0.0)), float(data.get("marker_m", data.get("size_m", 0.0)))
    if kind == "aprilgrid":
        marker_m = float(data["tag_m"])
        square_m = marker_m * (1 + float(data["spacing"]))
    panels = [_parse_panel(panel, index, data, item) for index, panel in enumerate(data.get("panels", ()))]
    return Target(
        id=name,
        kind=kind,
        mounting=data["mounting"],
        grid=(int(columns), int(rows)),
        square_m=square_m,
        marker_m=marker_m,
        dictionary=str(data.get("dictionary", "DICT_APRILTAG_36h11" if kind == "aprilgrid" else "")),
        first_marker=int(data["marker_id"] if kind == "marker" else data.get("first_marker", 0)),
        legacy=bool(data.get("legacy", False)),
        inverted=bool(data.get("inverted", False)),
        world_from_target=None if pose is None else _pose_from_json(pose),
        panels=tuple(panel for panel, _ in panels),
        target_from_panel=tuple(pose for _, pose in panels),
    )


def _parse_panel(data: Any, index: int, rig: Mapping[str, Any], item: str) -> tuple[Target, SE3 | None]:
    if not isinstance(data, Mapping) or data.get("kind") not in ("charuco", "aprilgrid", "marker"):
        raise InputError(item, f"panel {index} is neither charuco, aprilgrid nor marker", "repair it")
    if "target_from_panel" not in data:
        raise InputError(item, f"panel {index} has no target_from_panel", "state its pose in the rig, or null")
    fields = {"id": f"{rig['id']}/{index}", "mounting": rig["mounting"]} | dict(data)
    pose = fields.pop("target_from_panel")
    return _parse(fields, item), None if pose is None else _pose_from_json(pose)


def _check_values(target: Target, item: str) -> None:
    """Refuses what cannot be printed or mounted."""
    if target.mounting == "world" and target.world_from_target is None:
        raise InputError(item, "it is to fix the world but has no world_from_target", "state its pose in the world")
    if target.kind == "rig":
        if not target.panels:
            raise InputError(item, "the rig has no panels", "list them")
        if not target.is_known and target.mounting != "carried":
            raise InputError(item, "a panel of it has no place, and it is not carried", "carry it, or state the pose")
        return
    if target.kind != "marker":
        least = 1 if target.kind == "aprilgrid" else 2
        if not least <= min(target.grid) <= max(target.grid) <= _MAX_SQUARES:
            raise InputError(item, f"a grid of {target.grid} is no board", f"use {least} to {_MAX_SQUARES} a side")
        if not (math.isfinite(target.square_m) and target.square_m > 0):
            raise InputError(item, f"square_m is {target.square_m}", "give the side of a square in metres")
    if target.kind == "checkerboard":
        if target.mounting != "lens" and sum(target.grid) % 2 == 0:
            looks = f"a board of {target.grid[0]} x {target.grid[1]} corners looks the same turned by half a turn"
            raise InputError(item, looks, "use one with an odd and an even number of corners, or a charuco board")
        return
    limit = math.inf if target.kind == "marker" else target.square_m
    if not (0 < target.marker_m < limit):
        raise InputError(item, f"a marker of {target.marker_m} m does not fit", "give its side in metres")
    available = len(aruco_dictionary(target.dictionary).bytesList)
    if not 0 <= target.first_marker <= target.marker_ids[-1] < available:
        raise InputError(
            item,
            f"markers {target.first_marker} to {target.marker_ids[-1]} are not in {target.dictionary}",
            f"it has ids 0 to {available - 1}",
        )


def _pose_to_json(pose: SE3 | None) -> dict[str, list[float]] | None:
    return None if pose is None else {"rotvec": pose.rotvec.tolist(), "t_m": pose.t.tolist()}


def _pose_from_json(data: Any) -> SE3:
    if not isinstance(data, Mapping) or data.keys() != {"rotvec", "t_m"}:
        raise ValueError(f"a pose is {{rotvec, t_m}}, not {data!r}")
    rotvec, t = np.array(data["rotvec"], float), np.array(data["t_m"], float)
    if rotvec.shape != (3,) or t.shape != (3,) or not np.isfinite([rotvec, t]).all():
        raise ValueError("rotvec and t_m of a pose are three finite numbers each")
    return SE3.from_rotvec(rotvec, t)
