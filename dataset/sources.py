"""What `motifs build` is given, sorted out: session folders, motion files of other projects, and folders of either."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from core.errors import InputError
from dataset.importers import bandai_namco, cmu_mocap
from dataset.importers.foreign import npz_names
from dataset.importers.hik import MARKS as HIK_MARKS
from dataset.importers.mocap import skeleton_file
from dataset.importers.session import require_fit, session_names
from dataset.importers.takes import Take

Kind = Literal["session", "amass", "hik", "ntu", "humanml3d", "mocap"]
# how a file's name ends; an .npz is of AMASS or of Humans in Kitchens by what it holds
_KINDS: dict[str, Kind] = {".npz": "amass", ".skeleton": "ntu", ".npy": "humanml3d", ".bvh": "mocap", ".amc": "mocap"}
# what lies beside motions and holds none: shapes of AMASS, statistics of HumanML3D, a body model of Humans in Kitchens
_BESIDE = ("shape.npz", "stagei.npz", "SMPLX_NEUTRAL.npz", "Mean.npy", "Std.npy", "mean.npy", "std.npy")
_GIVE = "give session folders, AMASS or HiK .npz, BVH, AMC with its ASF, NTU .skeleton, or HumanML3D .npy files"


@dataclass(frozen=True)
class Source:
    """One sequence to bring in.

    Attributes:
        item: unique name, good as a file name; the clips' ids begin with it.
        kind: which importer reads it.
        path: session folder or file.
        take: who moves, where the source itself does not say, and its label.
        inputs: files that are read.
    """

    item: str
    kind: Kind
    path: Path
    take: Take
    inputs: tuple[Path, ...]


def file_name(text: str) -> str:
    """A text as a good file name: letters, digits, dot, dash and underscore, not hidden."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("._") or "unnamed"


def find_sources(paths: Sequence[Path]) -> dict[str, Source]:
    """The sequences under the given paths by item name, sorted, so that the order of the paths does not matter.

    A folder with `session.json` is a session; any other folder is searched for sessions (one level down) and
    for motion files (all the way down). Of HumanML3D's two files of a motion the joints are taken and the vectors left;
    of a take of CMU's database that is there as AMC and as BVH, CMU's own AMC is taken and the conversion left.

    Raises:
        InputError: if a path is missing or holds nothing, or a session has no fit yet.
    """
    found = {entry.resolve(): entry for path in paths for entry in _expand(path)}
    if not found:
        raise InputError("build", "no sources are given", _GIVE)
    originals = {cmu_mocap.trial_of(path) for path in found.values() if path.suffix.lower() == ".amc"} - {None}
    once = [p for p in found.values() if p.suffix.lower() != ".bvh" or cmu_mocap.trial_of(p) not in originals]
    ordered = sorted(once, key=lambda path: path.resolve().as_posix())
    names = _unique_names(ordered)
    sources = [_source(path, name) for path, name in zip(ordered, names, strict=True)]
    return {source.item: source for source in sorted(_with_vocabularies(sources), key=lambda source: source.item)}


def _with_vocabularies(sources: Sequence[Source]) -> list[Source]:
    """Tells every take which actions its dataset is labelled with, so that a 0 means the same in all of them."""
    actions: dict[object, set[str]] = defaultdict(set)
    for source in sources:
        actions[source.take.details.get("dataset")] |= {source.take.action} - {""}
    words = {dataset: tuple(sorted(found)) for dataset, found in actions.items()}
    return [replace(s, take=replace(s.take, vocabulary=words[s.take.details.get("dataset")])) for s in sources]


def _expand(path: Path) -> Iterable[Path]:
    if path.is_file() or (path / "session.json").is_file():
        return [path]
    if not path.is_dir():
        raise InputError(str(path), "there is no such file or folder", "check the path")
    sessions = sorted(description.parent for description in path.glob("*/session.json"))
    found = (file for file in path.rglob("*") if file.suffix.lower() in _KINDS and not file.name.endswith(_BESIDE))
    files = [file for file in sorted(found) if file.is_file() and not _said_twice(file)]
    files = [file for file in files if not any(file.is_relative_to(session) for session in sessions)]
    if not sessions and not files:
        raise InputError(str(path), f"it holds no session.json and no {', '.join(_KINDS)} files", _GIVE)
    return [*sessions, *files]


def _said_twice(file: Path) -> bool:
    """Whether these are HumanML3D's vectors, and the joints that they are made of lie beside them."""
    return file.parent.name == "new_joint_vecs" and (file.parent.parent / "new_joints" / file.name).is_file()


def _unique_names(paths: Sequence[Path]) -> list[str]:
    """Short names: the last part of the path, with as many parents before it as tell it from the others."""
    parts = [path.resolve().with_suffix("").parts if path.is_file() else path.resolve().parts for path in paths]
    depth = [1] * len(paths)
    for _ in range(max(len(p) for p in parts)):
        names = [file_name("-".join(p[-d:])) for p, d in zip(parts, depth, strict=True)]
        counts = Counter(names)
        if len(counts) == len(names):
            break
        depth = [d + (counts[name] > 1) for d, name in zip(depth, names, strict=True)]
    if len(set(names)) < len(names):
        raise InputError(names[0], "two sources get the same name", "rename one of them")
    return names


def _source(path: Path, item: str) -> Source:
    if not path.is_file():
        fit = require_fit(path)
        _, subject = session_names(path)
        return Source(item, "session", path, Take(file_name(subject)), (fit, path / "session.json"))
    parents = path.resolve().parent.parts[-2:]
    folder = Take(file_name("-".join(p for p in parents if p != "/")))
    suffix = path.suffix.lower()
    if suffix not in _KINDS:
        raise InputError(str(path), f"not a file of {', '.join(_KINDS)}", _GIVE)
    if suffix == ".npz" and npz_names(path) >= HIK_MARKS:
        return Source(item, "hik", path, folder, (path,))
    if _KINDS[suffix] != "mocap":
        return Source(item, _KINDS[suffix], path, folder, (path,))
    take = bandai_namco.take_of(path) or cmu_mocap.take_of(path) or folder
    return Source(item, "mocap", path, take, (path, skeleton_file(path)) if suffix == ".amc" else (path,))
