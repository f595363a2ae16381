"""Acclaim files: a skeleton (`.asf`) and its motion (`.amc`), as CMU's motion capture database has them.

A bone's motion is given about its own axes: world_from_bone = world_from_parent C M C^-1 with C from `axis` and M from
the degrees of freedom, the first of `dof` turning first. A bone becomes the joint at its start; the last bones of the
tree get a joint `<bone>_end`. Lengths are inches over the unit's `length` (Lander, "Working with Motion Capture File
Formats", Game Developer, January 1998, and CMU's own notes), so results are metres.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from core.arrays import Float
from core.errors import InputError
from dataset.importers.articulated import MAX_JOINTS, ArticulatedMotion, forward_kinematics, turned
from dataset.importers.bvh import at_line, numbers, read_lines

_INCH_M = 0.0254
_ROOT_ORDER = ("TX", "TY", "TZ", "RX", "RY", "RZ")
CMU_RATE = Fraction(120)


@dataclass(frozen=True, eq=False)
class Bone:
    """A bone of an ASF file.

    Attributes:
        name: of the bone.
        parent: name of its parent, "" for the root.
        offset: from its start to its end in the rest pose, the file's unit.
        axes: its axes in the rest pose: world_from_axes.
        dof: channels in the order of the AMC file's numbers.
    """

    name: str
    parent: str
    offset: Float[np.ndarray, "3"]
    axes: Float[np.ndarray, "3 3"]
    dof: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Acclaim:
    """An ASF skeleton: bones, parents first, the root leading.

    Attributes:
        bones: all of them.
        unit_m: metres of one unit of length.
        to_radians: what angles are multiplied by.
        root_position: where the root stands before it moves, the file's unit.
    """

    bones: tuple[Bone, ...]
    unit_m: float
    to_radians: float
    root_position: Float[np.ndarray, "3"]


def read_asf_amc(amc: Path, asf: Path, rate: Fraction = CMU_RATE) -> ArticulatedMotion:
    """Reads a motion and its skeleton, in metres; AMC files state no rate.

    Raises:
        InputError: if a file is missing, too large or damaged, or they do not belong together; it names the line.
    """
    skeleton = read_asf(asf)
    values = _read_amc(amc, skeleton)
    names = [bone.name for bone in skeleton.bones]
    parents = [names.index(bone.parent) if bone.parent else -1 for bone in skeleton.bones]
    leaves = [i for i in range(1, len(names)) if i not in parents]
    offsets = [skeleton.root_position, *(skeleton.bones[p].offset for p in parents[1:])]
    offsets += [skeleton.bones[i].offset for i in leaves]
    rest = skeleton.unit_m * np.array(offsets)
    moved = np.tile(rest, (len(values[names[0]]), 1, 1))
    local = np.tile(np.eye(3), (*moved.shape[:2], 1, 1))
    for i, bone in enumerate(skeleton.bones):
        shift, local[:, i] = _moved(bone, values[bone.name], skeleton)
        moved[:, i] += shift
    tree = np.array([*parents, *leaves], dtype=np.int64)
    all_names = (*names, *(f"{names[i]}_end" for i in leaves))
    return ArticulatedMotion(all_names, tree, rest, *forward_kinematics(tree, moved, local), rate)


def _moved(
    bone: Bone, values: Float[np.ndarray, "frames dof"], skeleton: Acclaim
) -> tuple[Float[np.ndarray, "frames 3"], Float[np.ndarray, "frames 3 3"]]:
    """How far a bone's start moves, metres, and its rotation relative to the parent."""
    shift = np.zeros((len(values), 3))
    rotation = np.tile(np.eye(3), (len(values), 1, 1))
    # the last degree of freedom stands leftmost in the product
    for column in reversed(range(len(bone.dof))):
        kind, axis = bone.dof[column][0], bone.dof[column][1]
        if kind == "T":
            shift[:, "XYZ".index(axis)] = skeleton.unit_m * values[:, column]
        else:
            rotation = turned(rotation, axis, skeleton.to_radians * values[:, column])
    return shift, bone.axes @ rotation @ bone.axes.T


def read_asf(path: Path) -> Acclaim:
    """Reads a skeleton.

    Raises:
        InputError: if it is missing, too large or damaged; it names the line.
    """
    sections = _sections(path)
    units = {words[0].lower(): words[-1] for _, words in sections.get("units", [])}
    line = next((number for number, words in sections.get("units", []) if words[0].lower() == "length"), 0)
    length = _floats(path, line, [units.get("length", "1")])[0]
    if not 1e-4 < length < 1e4:
        raise InputError(str(path), f"its unit of length is {length}", "give a skeleton with ':units length'")
    to_radians = np.pi / 180 if units.get("angle", "deg").lower().startswith("deg") else 1.0
    root, position = _root(path, sections.get("root", []), to_radians)
    bones = _bones(path, sections.get("bonedata", []), to_radians)
    return Acclaim(_ordered(path, root, bones, sections.get("hierarchy", [])), _INCH_M / length, to_radians, position)


Section = list[tuple[int, list[str]]]


def _sections(path: Path) -> dict[str, Section]:
    """(line number, words) of each section by its keyword."""
    found: dict[str, Section] = {}
    section: Section = []
    for number, line in enumerate(read_lines(path), start=1):
        words = line.split("#")[0].split()
        if words and words[0].startswith(":"):
            section = found.setdefault(words[0][1:].lower(), [])
        elif words:
            section.append((number, words))
    return found


def _root(path: Path, section: Section, to_radians: float) -> tuple[Bone, Float[np.ndarray, "3"]]:
    """The root, whose bone has no length, and its position."""
    lines = {words[0].lower(): (number, words[1:]) for number, words in section}
    if not {"order", "axis", "position", "orientation"} <= lines.keys():
        raise InputError(str(path), "its :root lacks order, axis, position or orientation", "give a whole skeleton")
    order = tuple(word.upper() for word in lines["order"][1])
    if len(set(order)) != len(order) or not set(order) <= set(_ROOT_ORDER):
        raise at_line(path, lines["order"][0], f"the root's order is {' '.join(order)[:40]!r}")
    position, angles = (_floats(path, lines[key][0], lines[key][1], 3) for key in ("position", "orientation"))
    axes = _axes(path, lines["axis"][0], angles * to_radians, lines["axis"][1])
    dof = tuple(f"{name[0]}{name[1]}" for name in order)
    return Bone("root", "", np.zeros(3), axes, dof), position


def _bones(path: Path, section: Section, to_radians: float) -> dict[str, Bone]:
    """All bones by name, not yet with their parents."""
    bones: dict[str, Bone] = {}
    entry: dict[str, tuple[int, list[str]]] = {}
    for number, words in section:
        key = words[0].lower()
        if key == "begin":
            entry = {}
        elif key == "end":
            bone = _bone(path, number, entry, to_radians)
            if bone.name in bones or bone.name == "root" or len(bones) >= MAX_JOINTS:
                raise at_line(path, number, f"a second bone {bone.name!r}, or more than {MAX_JOINTS}")
            bones[bone.name] = bone
        else:
            entry.setdefault(key, (number, words[1:]))
    return bones


def _bone(path: Path, number: int, entry: Mapping[str, tuple[int, list[str]]], to_radians: float) -> Bone:
    if missing := {"name", "direction", "length", "axis"} - entry.keys():
        raise at_line(path, number, f"a bone without {sorted(missing)[0]}")
    direction = _floats(path, *entry["direction"], 3)
    length = _floats(path, *entry["length"], 1)[0]
    line, words = entry["axis"]
    axes = _axes(path, line, _floats(path, line, words[:3], 3) * to_radians, words[3:])
    dof = tuple(f"{word[:1].upper()}{word[1:].upper()}" for word in entry.get("dof", (0, []))[1])
    if len(set(dof)) != len(dof) or not set(dof) <= set(_ROOT_ORDER) or len(entry["name"][1]) != 1:
        raise at_line(path, number, f"a bone {' '.join(entry['name'][1])[:30]!r} with dof {' '.join(dof)[:40]!r}")
    return Bone(entry["name"][1][0], "", direction * length, axes, dof)


def _axes(path: Path, number: int, angles: Float[np.ndarray, "3"], order: Sequence[str]) -> Float[np.ndarray, "3 3"]:
    """world_from_axes of turns about x, y, z in an order such as XYZ: x first, so it stands rightmost."""
    word = "".join(order).upper()
    if sorted(word) != ["X", "Y", "Z"]:
        raise at_line(path, number, f"the order of the axes is {word[:20]!r}")
    rotation = np.eye(3)[None]
    for axis, angle in reversed(list(zip(word, angles, strict=True))):
        rotation = turned(rotation, axis, np.array([angle]))
    return rotation[0]


def _floats(path: Path, number: int, words: Sequence[str], width: int = 1) -> Float[np.ndarray, "width"]:
    """The words of a line as so many finite numbers."""
    return numbers([(number, words)], width, path)[0]


def _ordered(path: Path, root: Bone, bones: Mapping[str, Bone], section: Section) -> tuple[Bone, ...]:
    """The bones with their parents, parents first."""
    ordered = [root]
    placed = {"root"}
    for number, words in section:
        if words[0].lower() in ("begin", "end"):
            continue
        for name in words[1:]:
            if words[0] not in placed or name not in bones or name in placed:
                raise at_line(path, number, f"{name[:30]!r} cannot hang on {words[0][:30]!r}")
            bone = bones[name]
            ordered.append(Bone(name, words[0], bone.offset, bone.axes, bone.dof))
            placed.add(name)
    if lost := sorted(set(bones) - placed):
        raise InputError(str(path), f"its hierarchy lacks bone {lost[0]!r}", "give a whole skeleton")
    return tuple(ordered)


def _read_amc(path: Path, skeleton: Acclaim) -> dict[str, Float[np.ndarray, "frames dof"]]:
    """The numbers of every bone by name; no columns for a bone that cannot move."""
    found = ((n, line.split()) for n, line in enumerate(read_lines(path), start=1) if not line.startswith(("#", ":")))
    lines = [(number, words) for number, words in found if words]
    moving = {bone.name: len(bone.dof) for bone in skeleton.bones if bone.dof}
    size = len(moving) + 1
    for i, (number, words) in enumerate(lines):
        if i % size == 0 and words != [str(i // size + 1)]:
            raise at_line(
                path, number, f"{' '.join(words)[:30]!r} where frame {i // size + 1} of {size - 1} bones begins"
            )
    if not lines or len(lines) % size:
        number = lines[-1][0] if lines else 1
        raise at_line(path, number, f"the last frame does not have all of the {size - 1} bones that move")
    names = [words[0] for _, words in lines[1:size]]
    if set(names) != set(moving) or len(set(names)) != len(names):
        odd = sorted(set(names) ^ set(moving))
        raise at_line(path, lines[0][0], f"its bones and the skeleton's differ: {', '.join(odd)[:60]}")
    for i, (number, words) in enumerate(lines):
        if i % size and words[0] != names[i % size - 1]:
            raise at_line(path, number, f"bone {words[0][:30]!r} where {names[i % size - 1]!r} belongs")
    values = {
        name: numbers([(n, words[1:]) for n, words in lines[k + 1 :: size]], moving[name], path)
        for k, name in enumerate(names)
    }
    still = np.zeros((len(lines) // size, 0))
    return {bone.name: values.get(bone.name, still) for bone in skeleton.bones}
