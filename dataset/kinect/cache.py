"""Thousands of text files of skeletons, read once into one file of clips; the same files give the same content.

What cannot be read, or is listed as incomplete by the dataset's authors, is recorded with its reason.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path

import h5py
import numpy as np

from core.arrays import Float
from core.errors import InputError
from core.files import atomic_path, inside
from core.parallel import processes
from core.progress import progress
from dataset.hdf5 import DAMAGE
from dataset.kinect.actors import Actors, main_actors, without_empty_frames
from dataset.kinect.benchmarks import (
    MISSING_FILE,
    NtuName,
    Source,
    VideoSplit,
    missing_samples,
    phase_of,
    read_video_split,
)
from dataset.kinect.clips import SCHEMA, ClipFile
from dataset.kinect.pku import read_pku_labels, read_pku_skeleton
from dataset.kinect.skeleton_files import NUM_NTU_JOINTS, RATE, read_skeleton
from dataset.rotations import z_up

# of the reading: another number makes caches that are there be read again
VERSION = 1
_ROWS_A_CHUNK = 64
# files that a worker takes at once
_FILES_A_JOB = 32
_LISTED = "its authors list it as missing or incomplete"


@dataclass(frozen=True, eq=False)
class _Clip:
    name: str
    label: int
    joints_m: Float[np.ndarray, "people frames 25 3"]


@dataclass
class _Read:
    """What a file gave."""

    clips: list[_Clip] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class _Job:
    """A file to read: of NTU RGB+D, or a video of PKU-MMD with its labels."""

    name: str
    skeleton: Path
    labels: Path | None = None


@dataclass(frozen=True)
class _Listing:
    """What is to be read.

    Attributes:
        jobs: files, in the order of their names.
        skipped: what is not read, and why.
        splits: of PKU-MMD, by rule.
        sha256: of names and sizes of all files, of the list of missing samples, and of how they are read.
    """

    jobs: Sequence[_Job]
    skipped: Sequence[tuple[str, str]]
    splits: Mapping[str, VideoSplit]
    sha256: str


def open_clips(
    data: Path, source: Source, cache: Path | None = None, *, missing: Path = MISSING_FILE, workers: int = 1
) -> ClipFile:
    """Clips of a folder of skeleton files, read now or before; or of a file of clips.

    Args:
        data: folder of `.skeleton` files (NTU RGB+D) at any depth; or of PKU-MMD, with folders whose names have `skel`
            and `label` in them, and the split files; or a file of clips.
        source: the dataset.
        cache: file of clips; beside the folder where it is None. One that was read from other files, or is of another
            version or damaged, is written again.
        missing: list of samples of NTU RGB+D to leave out.
        workers: processes that read.

    Raises:
        InputError: if there is nothing to read, none of it can be, `cache` is a file of another kind, or a list is to
            leave something out of a file of clips.
    """
    if data.is_file():
        if missing != MISSING_FILE:
            problem = f"is a file of clips, from which {missing} can leave nothing out"
            raise InputError(str(data), problem, "give the folder of the skeleton files")
        return ClipFile(data)
    if not data.is_dir():
        raise InputError(str(data), "there is no such file or folder", "give the folder of the skeleton files")
    data = data.resolve()  # `.` has no name to go beside
    cache = data.with_name(f"{data.name}.{source}.h5") if cache is None else cache
    listing = _list_ntu(data, missing) if source == "ntu" else _list_pku(data, source)
    if not listing.jobs:
        wanted = "*.skeleton files" if source == "ntu" else f"skeleton and label files of {source}"
        problem = f"has no {wanted} that can be used ({len(listing.skipped)} left out)"
        raise InputError(str(data), problem, "unpack the download into this folder")
    if cache.is_file():
        try:
            known = ClipFile(cache)
        except InputError:
            if not _is_of_clips(cache):
                raise  # somebody else's file is not written over
        else:
            if known.files_sha256 == listing.sha256:
                return known
    _write(cache, source, listing, workers)
    return ClipFile(cache)


def _is_of_clips(path: Path) -> bool:
    """Whether a file is one of clips, of any version and in any state."""
    try:
        with h5py.File(path, "r") as file:
            return str(file.attrs.get("schema", "")).startswith(SCHEMA.rpartition("/")[0])
    except DAMAGE:
        return False


def _list_ntu(data: Path, missing: Path) -> _Listing:
    listed = missing_samples(missing)
    jobs: dict[str, _Job] = {}
    skipped: list[tuple[str, str]] = []
    paths = _files(data, "*.skeleton", skipped)
    for path in paths:
        try:
            name = str(NtuName.parse(path.stem))
        except InputError as error:
            skipped.append((path.stem, error.problem))
            continue
        if name in listed:
            skipped.append((name, _LISTED))
        elif name in jobs:
            skipped.append((f"{name} in {path.parent.relative_to(data)}", "the same name was there before"))
        else:
            jobs[name] = _Job(name, path)
    ordered = [jobs[name] for name in sorted(jobs)]
    return _Listing(ordered, skipped, {}, _sha256(data, paths, sorted(listed)))


def _list_pku(data: Path, source: Source) -> _Listing:
    skipped: list[tuple[str, str]] = []
    paths = _files(data, "*.txt", skipped)
    found: dict[str, dict[str, Path]] = {"skel": {}, "label": {}}
    splits: dict[str, VideoSplit] = {}
    for path in paths:
        folder = path.parent.relative_to(data).as_posix().lower()
        rule = _rule(path.stem)
        if rule is not None:
            split = read_video_split(path)
            if {phase_of(video) for video in split.train | split.test} == {source}:
                splits[rule] = split
        elif phase_of(path.stem) == source:
            kind = next((kind for kind in ("label", "skel") if kind in folder), None)
            if kind is None:
                skipped.append((path.stem, f"lies in {folder or '.'}, which is called neither skeleton nor label"))
            elif path.stem in found[kind]:
                skipped.append((f"{path.stem} in {folder}", "the same name was there before"))
            else:
                found[kind][path.stem] = path
    jobs = []
    for video in sorted(found["skel"].keys() | found["label"].keys()):
        lacks = [kind for kind in ("skel", "label") if video not in found[kind]]
        if lacks:
            skipped.append((video, f"has no {'skeleton' if lacks == ['skel'] else 'label'} file"))
        else:
            jobs.append(_Job(video, found["skel"][video], found["label"][video]))
    return _Listing(jobs, skipped, splits, _sha256(data, paths, [source]))


def _rule(stem: str) -> str | None:
    """The rule of a split file: cross-subject, cross_view_v2 and the like."""
    known = {"cross-subject": "xsub", "cross-view": "xview"}
    return known.get("-".join(stem.lower().replace("_", "-").split("-")[:2]))


def _files(data: Path, pattern: str, skipped: list[tuple[str, str]]) -> list[Path]:
    """Files of a folder at any depth; links that leave it are not followed."""
    found = []
    for path in sorted(data.rglob(pattern)):
        try:
            inside(data, str(path.relative_to(data)))
        except InputError as error:
            skipped.append((path.stem, error.problem))
            continue
        if path.is_file():
            found.append(path)
    return found


def _sha256(data: Path, paths: Iterable[Path], settings: Sequence[str]) -> str:
    digest = hashlib.sha256(f"{SCHEMA} {VERSION} {settings}".encode())
    for path in paths:
        name = path.relative_to(data).as_posix().encode(errors="surrogateescape")
        digest.update(name + f"\0{path.stat().st_size}\n".encode())
    return digest.hexdigest()


def _read_job(source: Source, job: _Job) -> _Read:
    """One file; what is wrong with it is its reason to be skipped."""
    try:
        return _read_ntu(job) if source == "ntu" else _read_pku(job)
    except InputError as error:
        return _Read(skipped=[(job.name, error.problem)])


def _read_ntu(job: _Job) -> _Read:
    actors = main_actors([joints for joints, _ in read_skeleton(job.skeleton).values()])
    if not len(actors.exists):
        return _Read(skipped=[(job.name, "nobody is seen whole in any of its frames")])
    return _Read([_Clip(job.name, NtuName.parse(job.name).action, _stored(actors))])


def _read_pku(job: _Job) -> _Read:
    assert job.labels is not None
    joints, actions, found = read_pku_skeleton(job.skeleton), read_pku_labels(job.labels), _Read()
    if not actions:
        found.skipped.append((job.name, "has no labelled action"))
    for number, action in enumerate(actions):
        name = f"{job.name}#{number}"
        actors = without_empty_frames(joints[:, action.start : action.stop])
        if action.start >= joints.shape[1]:
            reason = f"begins in frame {action.start} of {joints.shape[1]}"
            found.skipped.append((name, reason))
        elif not len(actors.exists):
            found.skipped.append((name, "nobody is seen whole in any of its frames"))
        else:
            found.clips.append(_Clip(name, action.action, _stored(actors)))
    return found


def _stored(actors: Actors) -> Float[np.ndarray, "people frames 25 3"]:
    return z_up(actors.joints_m).astype(np.float32)


def _write(cache: Path, source: Source, listing: _Listing, workers: int) -> None:
    """Reads all files and writes the file of clips, complete or not at all."""
    from core.versions import code_version

    skipped, content = list(listing.skipped), hashlib.sha256()
    index: list[tuple[str, int, int, int, int]] = []
    with atomic_path(cache) as temporary, h5py.File(temporary, "w") as file:
        shape = (NUM_NTU_JOINTS, 3)
        rows = file.create_dataset(
            "joints_m", (0, *shape), np.float32, maxshape=(None, *shape), chunks=(_ROWS_A_CHUNK, *shape)
        )
        with processes(workers) as pool, progress(f"read {source}", len(listing.jobs)) as advance:
            sources = repeat(source, len(listing.jobs))
            mapped: Iterable[_Read] = (
                map(_read_job, sources, listing.jobs)
                if pool is None
                else pool.map(_read_job, sources, listing.jobs, chunksize=_FILES_A_JOB)
            )
            for read in mapped:
                skipped += read.skipped
                for clip in read.clips:
                    people, frames = clip.joints_m.shape[:2]
                    first = len(rows)
                    rows.resize(first + people * frames, axis=0)
                    rows[first:] = clip.joints_m.reshape(-1, *shape)
                    index.append((clip.name, clip.label, first, people, frames))
                    content.update(f"{clip.name} {clip.label} {people}\n".encode() + clip.joints_m.tobytes())
                advance()
        if not index:
            name, reason = skipped[0]
            raise InputError(name, f"{reason}; none of {len(listing.jobs)} files can be read", "check the folder")
        _write_index(file, index, skipped, listing.splits)
        file.attrs.update(
            schema=SCHEMA, source=source, rate_hz=float(RATE), up_axis="z", files_sha256=listing.sha256,
            content_sha256=content.hexdigest(), code_version=code_version(),
        )  # fmt: skip


def _plain(text: str) -> str:
    """Text that HDF5 takes: names of files may be no UTF-8."""
    return text.encode(errors="replace").decode().replace("\0", "?")


def _write_index(
    file: h5py.File,
    index: Sequence[tuple[str, int, int, int, int]],
    skipped: Sequence[tuple[str, str]],
    splits: Mapping[str, VideoSplit],
) -> None:
    text = h5py.string_dtype()
    clips, left = file.create_group("clips"), file.create_group("skipped")
    for column, (name, kind) in enumerate(
        (("name", text), ("label", np.int16), ("first_row", np.int64), ("people", np.uint8), ("frames", np.int32))
    ):
        clips.create_dataset(name, data=[row[column] for row in index], dtype=kind)
    for column, name in enumerate(("name", "reason")):
        left.create_dataset(name, (len(skipped),), text, data=[_plain(row[column]) for row in skipped])
    plain = {rule: {"train": sorted(s.train), "test": sorted(s.test)} for rule, s in splits.items()}
    file.create_dataset("video_splits", data=json.dumps(plain), dtype=text)
