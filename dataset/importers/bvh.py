"""BVH files (Biovision): a hierarchy of joints with their channels, then one line of numbers a frame.

Any order of channels and rotations is understood; rotations multiply in the order in which the channels stand
(`Zrotation Xrotation Yrotation` is Rz Rx Ry), angles are degrees. Position channels replace the OFFSET of their joint,
the root's and any other's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from core.arrays import Float
from core.errors import InputError
from core.files import require_file
from dataset.importers.articulated import (
    MAX_FILE_BYTES,
    MAX_JOINTS,
    ArticulatedMotion,
    forward_kinematics,
    rate_of_frame_time,
    turned,
)

_CHANNEL = re.compile(r"([XYZ])(position|rotation)", re.IGNORECASE)
_MEND = "export the file again"


@dataclass
class _Joint:
    """A joint while the hierarchy is read; `channels` are (axis, whether it turns)."""

    name: str
    parent: int
    offset: tuple[float, ...] = ()
    channels: list[tuple[str, bool]] = field(default_factory=list)


def read_bvh(path: Path) -> ArticulatedMotion:
    """Reads a BVH file.

    Raises:
        InputError: if it is missing, too large, or damaged; it names the line.
    """
    lines = read_lines(path)
    joints, start = _hierarchy(lines, path)
    values, frame_time = _frames(lines, start, sum(len(joint.channels) for joint in joints), path)
    local, offsets = _local(joints, values)
    parents = np.array([joint.parent for joint in joints], dtype=np.int64)
    return ArticulatedMotion(
        tuple(joint.name for joint in joints),
        parents,
        np.array([joint.offset for joint in joints]),
        *forward_kinematics(parents, offsets, local),
        rate_of_frame_time(frame_time, str(path)),
    )


def read_lines(path: Path) -> list[str]:
    """The lines of a text file of believable size.

    Raises:
        InputError: if it is missing or too large.
    """
    if (size := require_file(path).stat().st_size) > MAX_FILE_BYTES:
        raise InputError(str(path), f"{size} bytes, more than {MAX_FILE_BYTES}", "cut it into shorter takes")
    return path.read_text(encoding="utf-8", errors="replace").splitlines()


def at_line(path: Path, number: int, problem: str) -> InputError:
    """An error that names a line, counted from 1."""
    return InputError(f"{path}, line {number}", problem, _MEND)


def _pieces(lines: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """(line number, words) of the hierarchy, braces by themselves, as far as MOTION."""
    for number, line in enumerate(lines, start=1):
        for piece in re.split(r"([{}])", line):
            if words := piece.split():
                yield number, words
                if words == ["MOTION"]:
                    return


def _hierarchy(lines: Sequence[str], path: Path) -> tuple[list[_Joint], int]:
    """The joints, parents first, and the number of the line MOTION."""
    joints: list[_Joint] = []
    opened: list[int] = []
    number = 0
    for number, words in _pieces(lines):
        key = words[0].upper()
        if key in ("ROOT", "JOINT", "END"):
            joints.append(_new_joint(key, words, joints, opened, at=(path, number)))
        elif key == "{" and len(opened) < len(joints):
            opened.append(len(joints) - 1)
        elif key == "}" and opened and joints[opened[-1]].offset:
            opened.pop()
        elif key in ("OFFSET", "CHANNELS") and opened:
            _describe(joints[opened[-1]], key, words[1:], at=(path, number))
        elif key == "MOTION" and joints and not opened:
            if bare := [joint.name for joint in joints if not joint.offset]:
                raise at_line(path, number, f"joint {bare[0][:40]!r} has no OFFSET")
            return joints, number
        elif key != "HIERARCHY" or joints:
            raise at_line(path, number, f"{' '.join(words)[:40]!r} does not belong here")
    raise at_line(path, max(number, 1), "no whole hierarchy and MOTION in the file")


def _new_joint(
    key: str, words: Sequence[str], joints: Sequence[_Joint], opened: Sequence[int], at: tuple[Path, int]
) -> _Joint:
    path, number = at
    if (key == "ROOT") != (not joints) or (joints and not opened):
        raise at_line(path, number, "a joint outside the one root")
    if len(joints) >= MAX_JOINTS:
        raise at_line(path, number, f"more than {MAX_JOINTS} joints")
    parent = opened[-1] if opened else -1
    name = f"{joints[parent].name}_end" if key == "END" else " ".join(words[1:])
    if not name or name in {joint.name for joint in joints}:
        raise at_line(path, number, f"a second joint {name!r}" if name else "a joint without a name")
    return _Joint(name, parent)


def _describe(joint: _Joint, key: str, words: Sequence[str], at: tuple[Path, int]) -> None:
    """Takes in an OFFSET or CHANNELS line."""
    path, number = at
    if key == "OFFSET":
        joint.offset = _offset(words)
        if len(joint.offset) != 3 or not np.isfinite(joint.offset).all():
            raise at_line(path, number, f"OFFSET {' '.join(words)[:40]!r} is not three numbers")
        return
    found = [_CHANNEL.fullmatch(word) for word in words[1:]]
    channels = [(match[1].upper(), match[2].lower() == "rotation") for match in found if match]
    if len(channels) != len(found) or words[:1] != [str(len(found))] or joint.channels:
        raise at_line(path, number, f"CHANNELS {' '.join(words)[:60]!r} is not a number and as many channels")
    if len({axis for axis, turns in channels if not turns}) < sum(not turns for _, turns in channels):
        raise at_line(path, number, "a position channel stands twice")
    joint.channels = channels


def _offset(words: Sequence[str]) -> tuple[float, ...]:
    try:
        return tuple(float(word) for word in words)
    except ValueError:
        return ()


def _frames(
    lines: Sequence[str], start: int, num_channels: int, path: Path
) -> tuple[Float[np.ndarray, "frames channels"], str]:
    """The numbers of all frames, and the frame time as written; `start` is the line number of MOTION."""
    rows = [(n, words) for n, line in enumerate(lines[start:], start=start + 1) if (words := line.split())]
    head = [(n, words) for n, words in rows[:2]]
    if len(head) < 2 or head[0][1][0] != "Frames:" or head[1][1][:2] != ["Frame", "Time:"] or len(head[1][1]) != 3:
        raise at_line(path, start, "MOTION is not followed by 'Frames:' and 'Frame Time:'")
    declared = " ".join(head[0][1][1:])
    if declared != str(len(rows) - 2) or len(rows) == 2:
        raise at_line(path, head[0][0], f"{declared[:20]!r} frames declared, {len(rows) - 2} there")
    return numbers(rows[2:], num_channels, path), head[1][1][2]


def numbers(rows: Sequence[tuple[int, Sequence[str]]], width: int, path: Path) -> Float[np.ndarray, "rows width"]:
    """The words of numbered lines as finite numbers, `width` a line.

    Raises:
        InputError: naming the first line that has another number of them, or one that is none.
    """
    for number, words in rows:
        if len(words) != width:
            raise at_line(path, number, f"{len(words)} numbers, the channels are {width}")
    try:
        values = np.array([words for _, words in rows], dtype=np.float64)
    except ValueError:
        values = np.array([[_number(word) for word in words] for _, words in rows])
    if not (finite := np.isfinite(values).all(axis=1)).all():
        number, words = rows[int(np.argmin(finite))]
        bad = next(word for word in words if not np.isfinite(_number(word)))
        raise at_line(path, number, f"{bad[:20]!r} is not a finite number")
    return values


def _number(word: str) -> float:
    """A word as a number, NaN where it is none."""
    try:
        return float(word)
    except ValueError:
        return float("nan")


def _local(
    joints: Sequence[_Joint], values: Float[np.ndarray, "frames channels"]
) -> tuple[Float[np.ndarray, "frames joints 3 3"], Float[np.ndarray, "frames joints 3"]]:
    """Rotations and offsets relative to the parents."""
    local = np.tile(np.eye(3), (len(values), len(joints), 1, 1))
    offsets = np.tile(np.array([joint.offset for joint in joints]), (len(values), 1, 1))
    column = 0
    for j, joint in enumerate(joints):
        for axis, turns in joint.channels:
            if turns:
                local[:, j] = turned(local[:, j], axis, np.deg2rad(values[:, column]))
            else:
                offsets[:, j, "XYZ".index(axis)] = values[:, column]
            column += 1
    return local, offsets
