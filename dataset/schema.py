"""The Action Motif Dataset on disk: what it is called, what its fields are, and which versions this code reads.

A dataset is a folder of `meta/info.json` (this module's `DatasetInfo`), `meta/stats.json`, `meta/clips.json` (one
`ClipInfo` a clip) and `data/shard-00000.h5` and so on. A clip is one contiguous stretch of one person's motion: the
group `/clips/<clip_id>` of one shard. World z up, floor at z = 0, metres, seconds, radians; rotations are axis-angle.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np

from core.arrays import Bool, Float, Int, UInt8
from core.clock import parse_rate
from core.errors import InputError
from core.files import is_file_name
from core.skeletons import SMPL_24

FAMILY = "action-motifs/amd"
VERSION = 1
SCHEMA = f"{FAMILY}/{VERSION}"

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")

NUM_JOINTS = len(SMPL_24)
JOINT_ORDER = SMPL_24.joints
CONTACTS = ("left_heel", "left_toe", "right_heel", "right_toe")
COVARIANCE_ORDER = ("xx", "xy", "xz", "yy", "yz", "zz")

# Why a frame is invalid: bits that add up. The low ones are `fitting.sequence.Reason`, the high ones the dataset's own.
REASON_OK = 0
REASON_NON_FINITE = 1 << 16
REASON_UNSPECIFIED = 1 << 17
REASONS: Mapping[str, int] = {
    "no_keypoints": 1,
    "uncertain": 2,
    "misfit": 4,
    "below_floor": 8,
    "non_finite": REASON_NON_FINITE,
    "unspecified": REASON_UNSPECIFIED,
}

# field: (shape, "T" being the clip's frames; dtype on disk; unit)
FIELDS: Mapping[str, tuple[tuple[str | int, ...], str, str]] = {
    "poses": (("T", NUM_JOINTS, 3), "float32", "rad"),
    "trans": (("T", 3), "float32", "m"),
    "betas": (("B",), "float32", "1"),
    "joints_m": (("T", NUM_JOINTS, 3), "float32", "m"),
    "joint_covariance": (("T", NUM_JOINTS, 6), "float32", "m^2"),
    "valid": (("T", NUM_JOINTS), "bool", "1"),
    "reasons": (("T",), "int32", "1"),
    "contacts": (("T", 4), "float32", "probability"),
    "actions": (("T", "A"), "uint8", "1"),
}
OPTIONAL_FIELDS = frozenset({"actions"})

CONVENTIONS: Mapping[str, str] = {
    "units": "m",
    "up_axis": "z",
    "frame": "world",
    "rotation": "axis-angle",
    "joint_order": " ".join(JOINT_ORDER),
    "contact_order": " ".join(CONTACTS),
    "covariance_order": " ".join(COVARIANCE_ORDER),
    "reason_bits": " ".join(f"{name}={bit}" for name, bit in REASONS.items()),
}


@dataclass(frozen=True)
class ClipInfo:
    """What the index says about a clip.

    Attributes:
        id: unique in the dataset, a good file name.
        shard: file under `data/` that holds it.
        num_frames: its length.
        rate: frames a second as a rational, "30/1".
        subject: who moves.
        session: the recording, or the source file of an imported dataset.
        split: train, val or test.
        start_s: time of its first frame on the recording's clock.
        leg_m: length of hip-knee-ankle, mean of both sides; features are scaled by it.
        valid_fraction: share of joints and frames that were measured.
        sha256: of its content, see `dataset.shards.content_sha256`.
    """

    id: str
    shard: str
    num_frames: int
    rate: str
    subject: str
    session: str
    split: Split
    start_s: float
    leg_m: float
    valid_fraction: float
    sha256: str

    @property
    def frame_rate(self) -> Fraction:
        """Frames a second."""
        return parse_rate(self.rate)

    @property
    def duration_s(self) -> float:
        """Frames over rate."""
        return float(self.num_frames / self.frame_rate)


@dataclass(frozen=True)
class ClipLabels:
    """What a clip's shard says about it beside its arrays.

    Attributes:
        rate: frames a second as a rational, "30/1".
        subject: who moves.
        session: the recording, or the source file.
        start_s: time of the first frame on the recording's clock.
        gender: of the body model.
        body_model: its name.
        body_model_sha256: hash of its arrays, "" if the source does not say.
        action_names: what the columns of `actions` mean, the same list in every clip that has the field.
        provenance: where the clip comes from (source kind, fingerprint of the stage that made it).
    """

    rate: str
    subject: str
    session: str
    start_s: float
    gender: str
    body_model: str
    body_model_sha256: str
    action_names: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class Clip:
    """One clip, or frames `start` to `stop` of it.

    Attributes:
        id: the clip's id.
        labels: everything that is not an array.
        poses: (T, 24, 3) axis-angle: the root in the world, the others relative to their parents.
        trans: (T, 3) SMPL's `transl`, metres.
        betas: (B,) body shape.
        joints_m: (T, 24, 3) joints in the world, metres.
        joint_covariance: (T, 24, 6) upper triangle xx xy xz yy yz zz, m^2; NaN where the source has none.
        valid: (T, 24) whether a joint was measured.
        reasons: (T,) 0, or why the frame is invalid: bits of `REASONS`.
        contacts: (T, 4) left heel, left toe, right heel, right toe, 0 to 1.
        actions: (T, A) labels, columns named in `labels.action_names`.
    """

    id: str
    labels: ClipLabels
    poses: Float[np.ndarray, "frames 24 3"]
    trans: Float[np.ndarray, "frames 3"]
    betas: Float[np.ndarray, "shapes"]
    joints_m: Float[np.ndarray, "frames 24 3"]
    joint_covariance: Float[np.ndarray, "frames 24 6"]
    valid: Bool[np.ndarray, "frames 24"]
    reasons: Int[np.ndarray, "frames"]
    contacts: Float[np.ndarray, "frames 4"]
    actions: UInt8[np.ndarray, "frames actions"] | None = None

    def __len__(self) -> int:
        return len(self.poses)

    @property
    def rate(self) -> Fraction:
        """Frames a second."""
        return parse_rate(self.labels.rate)

    @property
    def frame_valid(self) -> Bool[np.ndarray, "frames"]:
        """Frames that no reason forbids."""
        frames: Bool[np.ndarray, "frames"] = self.reasons == REASON_OK
        return frames

    def arrays(self) -> dict[str, np.ndarray]:
        """The clip's arrays by field, in the dtypes of the disk; absent optional ones left out."""
        values = {name: getattr(self, name) for name in FIELDS}
        return {name: np.asarray(v, FIELDS[name][1]) for name, v in values.items() if v is not None}


@dataclass(frozen=True)
class ShardInfo:
    """A shard file: its name under `data/`, size and hash, and how many clips it holds."""

    name: str
    num_bytes: int
    sha256: str
    num_clips: int


@dataclass(frozen=True)
class Skipped:
    """Motion that did not come in: which source, which stretch of it, and why."""

    source: str
    start_s: float
    duration_s: float
    reason: str


@dataclass(frozen=True)
class DatasetInfo:
    """`meta/info.json`.

    Attributes:
        num_clips: in all splits.
        num_frames: of all clips, at their own rates.
        duration_s: of all clips.
        subjects: everyone in it.
        split_by: what is never divided between splits: subject, session or clip.
        split_clips: number of clips of each split.
        notes: what a user of the dataset must know (an empty split, no covariance).
        action_names: vocabulary of `actions`, empty without labels.
        shards: the files under `data/`.
        skipped: motion of the sources that did not come in.
        settings: how it was built.
    """

    num_clips: int
    num_frames: int
    duration_s: float
    subjects: tuple[str, ...]
    split_by: str
    split_clips: Mapping[str, int]
    notes: tuple[str, ...]
    action_names: tuple[str, ...]
    shards: tuple[ShardInfo, ...]
    skipped: tuple[Skipped, ...]
    settings: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """As stored, with the schema and the conventions that hold for every clip."""
        return {"schema": SCHEMA, "conventions": dict(CONVENTIONS), **dataclasses.asdict(self)}

    @staticmethod
    def from_json(data: Any, path: Path) -> DatasetInfo:
        """Reads what `to_json` gave.

        Raises:
            InputError: if it is of another schema or lacks a field.
        """
        require_schema(data.get("schema") if isinstance(data, dict) else None, path)
        fields = {key: value for key, value in data.items() if key not in ("schema", "conventions")}
        try:
            fields["shards"] = tuple(ShardInfo(**shard) for shard in fields["shards"])
            fields["skipped"] = tuple(Skipped(**entry) for entry in fields["skipped"])
            for name in ("subjects", "notes", "action_names"):
                fields[name] = tuple(fields[name])
            return DatasetInfo(**fields)
        except (KeyError, TypeError) as error:
            raise InputError(str(path), f"damaged: {error}", "run `motifs build` with --redo") from error


def require_schema(found: Any, path: Path) -> None:
    """Checks that a file is of the schema version that this code reads.

    Raises:
        InputError: naming the command that mends it.
    """
    if found == SCHEMA:
        return
    family, _, version = str(found).rpartition("/")
    if family != FAMILY or not version.isdigit():
        raise InputError(
            str(path), f"schema is {found!r}, not {SCHEMA!r}", "give a dataset that `motifs build` has made"
        )
    if int(version) > VERSION:
        action = "update this program: `pip install --upgrade action-motifs`"
    else:
        action = "write it again from its sources: `motifs build` with --redo"
    raise InputError(str(path), f"schema version {version}, this program reads {VERSION}", action)


def clips_from_json(data: Any, path: Path) -> tuple[ClipInfo, ...]:
    """The clip index of `meta/clips.json`.

    Raises:
        InputError: if it is of another schema or an entry is damaged, or names what cannot name a file: exports do.
    """
    require_schema(data.get("schema") if isinstance(data, dict) else None, path)
    try:
        clips = tuple(ClipInfo(**entry) for entry in data["clips"])
        for clip in clips:
            if not is_file_name(clip.id) or clip.split not in SPLITS:
                raise ValueError(f"a clip {clip.id!r} of split {clip.split!r}")
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(str(path), f"damaged: {error}", "run `motifs build` with --redo") from error
    return clips
