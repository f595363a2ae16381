"""`motifs verify`: recomputes every checksum of a dataset and names the clips that are damaged.

Three layers answer for each other: the hash of each file finds any flipped bit, the hash of each clip says whose it is,
and the index, the shards and the description must tell the same story. A group in two splits is a leak, and so is one
motion that came in twice under two names.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import h5py

from core.errors import InputError
from core.files import inside, read_json, sha256_of_file
from core.progress import progress
from dataset.hdf5 import DAMAGE, own_group, require_sound_heaps
from dataset.schema import ClipInfo, DatasetInfo, ShardInfo, clips_from_json, require_schema
from dataset.shards import clip_group, content_sha256, read_clip, read_fields
from dataset.splits import SplitConfig, check_disjoint, group_of

_MEND = "copy the dataset again, or run `motifs build` with --redo"
_MOST_NAMES = 8


@dataclass(frozen=True)
class Problem:
    """Something wrong with a dataset.

    Attributes:
        item: the clip or file.
        problem: what is wrong with it.
        action: what mends it.
    """

    item: str
    problem: str
    action: str = _MEND


@dataclass(frozen=True)
class Verification:
    """What a verification found.

    Attributes:
        num_clips: clips whose content was hashed.
        num_bytes: of all shards.
        problems: empty if the dataset is sound.
    """

    num_clips: int
    num_bytes: int
    problems: tuple[Problem, ...]

    def require(self, path: Path) -> Verification:
        """Returns itself if the dataset is sound.

        Raises:
            InputError: naming what is damaged first, and how much else.
        """
        if not self.problems:
            return self
        first, more = self.problems[0], len(self.problems) - 1
        also = f" (and {more} more: {', '.join(p.item for p in self.problems[1:6])})" if more else ""
        raise InputError(f"{path}: {first.item}", f"{first.problem}{also}", first.action)


def verify(path: Path) -> Verification:
    """Checks a whole dataset.

    Raises:
        InputError: if it has no readable description or index, or they are of another schema version.
    """
    info_path, clips_path = path / "meta" / "info.json", path / "meta" / "clips.json"
    info = DatasetInfo.from_json(read_json(info_path), info_path)
    clips = clips_from_json(read_json(clips_path), clips_path)
    problems = [*_check_files(path), *_check_index(info, clips)]
    motions: dict[str, ClipInfo] = {}
    with progress("verify", len(clips)) as advance:
        for shard in info.shards:
            members = tuple(clip for clip in clips if clip.shard == shard.name)
            problems += _check_shard(path / "data" / shard.name, shard, members, info.action_names, motions)
            advance(len(members))
    return Verification(len(clips), sum(shard.num_bytes for shard in info.shards), tuple(problems))


def _check_files(path: Path) -> list[Problem]:
    """The small files against the manifest; shards are checked against `info.json`, which the manifest vouches for."""
    if not (path / "manifest.json").is_file():
        return [Problem("manifest.json", "is missing, so meta/ cannot be vouched for")]
    outputs = read_json(path / "manifest.json").get("outputs", {})
    problems = []
    for name, sha256 in outputs.items():
        if not name.startswith("data/"):
            if not (path / name).is_file():
                problems.append(Problem(name, "is missing"))
            elif sha256_of_file(path / name) != sha256:
                problems.append(Problem(name, "its checksum differs"))
    return problems


def _check_index(info: DatasetInfo, clips: tuple[ClipInfo, ...]) -> list[Problem]:
    """The description against the index, and the splits for leaks."""
    try:
        config = SplitConfig(**info.settings["split"])
    except (KeyError, TypeError) as error:
        return [Problem("meta/info.json", f"does not say how it was divided ({error})")]
    problems = [
        Problem(f"{info.split_by} {group}", "is in more than one split")
        for group in check_disjoint(clips, lambda clip: group_of(clip, config))
    ]
    if len(clips) != info.num_clips or len({clip.id for clip in clips}) != len(clips):
        problems.append(Problem("meta/clips.json", f"lists {len(clips)} clips, meta/info.json {info.num_clips}"))
    known = {shard.name for shard in info.shards}
    problems += [
        Problem(f"clip {c.id}", f"is in {c.shard}, which meta/info.json lacks") for c in clips if c.shard not in known
    ]
    return problems


def _check_shard(
    path: Path,
    shard: ShardInfo,
    clips: tuple[ClipInfo, ...],
    vocabulary: tuple[str, ...],
    motions: dict[str, ClipInfo],
) -> list[Problem]:
    """A shard's file hash, then the content of its clips."""
    inside(path.parent, shard.name)
    if not path.is_file():
        return [Problem(path.name, f"is missing, with clips {_names(clips)}")]
    size = path.stat().st_size
    if size != shard.num_bytes:
        return [Problem(path.name, f"is {size} bytes, not {shard.num_bytes}: clips {_names(clips)}")]
    intact = sha256_of_file(path) == shard.sha256
    problems = _check_clips(path, clips, vocabulary, motions)
    if not intact and not problems:
        problems = [Problem(path.name, "its checksum differs, outside the content of its clips")]
    return problems


def _check_clips(
    path: Path, clips: tuple[ClipInfo, ...], vocabulary: tuple[str, ...], motions: dict[str, ClipInfo]
) -> list[Problem]:
    try:
        require_sound_heaps(path)
        with h5py.File(path, "r") as file:
            require_schema(file.attrs.get("schema"), path)
            problems = [Problem(f"clip {c.id}", why) for c in clips if (why := _damage_of(file, c, vocabulary))]
            problems += [leak for c in clips if not problems and (leak := _leak_of(file, c, motions))]
            extra = sorted(set(own_group(file, "clips")) - {clip.id for clip in clips})
            return problems + [Problem(f"clip {name}", f"is in {path.name} but not in the index") for name in extra]
    except (*DAMAGE, InputError) as error:
        return [Problem(path.name, f"cannot be opened ({error}): clips {_names(clips)}")]


def _leak_of(file: h5py.File, info: ClipInfo, motions: dict[str, ClipInfo]) -> Problem | None:
    """Whether another split shows the same; `motions` are the clips seen so far by a hash of what they show."""
    shown = read_fields(clip_group(file, info.id), ("poses", "trans"), 0, None)
    twin = motions.setdefault(hashlib.sha256(shown["poses"].tobytes() + shown["trans"].tobytes()).hexdigest(), info)
    if twin.split == info.split:
        return None
    problem = f"shows the same motion as clip {twin.id} of split {twin.split}"
    return Problem(f"clip {info.id}", problem, "leave one of them out, or give both the same subject")


def _damage_of(file: h5py.File, info: ClipInfo, vocabulary: tuple[str, ...]) -> str:
    """What is wrong with a clip; "" if nothing is."""
    try:
        clip = read_clip(file, info.id)
        found = content_sha256(clip)
    except DAMAGE as error:
        return f"cannot be read ({error})"
    if found != info.sha256:
        return "its checksum differs from the index"
    if clip_group(file, info.id).attrs.get("sha256") != info.sha256:
        return "the checksum stored with it differs from the index"
    if (len(clip), clip.labels.subject, clip.labels.rate) != (info.num_frames, info.subject, info.rate):
        return "the index says something else about it"
    if clip.actions is not None and clip.labels.action_names != vocabulary:
        return f"its labels are of another vocabulary ({', '.join(clip.labels.action_names)})"
    return ""


def _names(clips: tuple[ClipInfo, ...]) -> str:
    """The first ones by name; a shard may hold thousands."""
    rest = f" and {len(clips) - _MOST_NAMES} more" if len(clips) > _MOST_NAMES else ""
    return ", ".join(clip.id for clip in clips[:_MOST_NAMES]) + rest
