"""A session: one recording of one subject by many views, described by `session.json` in the session's folder.

Every path in it is relative to that folder and may not leave it. Stages read the description and never change it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, get_args

from core.cameras import LensModel
from core.clock import parse_rate
from core.errors import InputError
from core.files import inside, read_json, write_json
from core.skeletons import skeleton_named

SCHEMA = "action-motifs/session/1"
KeypointsFormat = Literal["openpose", "coco", "mmpose"]
Role = Literal["room", "left_foot", "right_foot", "handheld", "walkthrough"]
# beyond every camera and every recording; a number in a file may be anything
_MAX_SIZE_PX, _MAX_FRAMES = 32_768, 100_000_000
_PATHS = ("video", "images", "frame_times", "lens_images", "keypoints", "masks")
FOOT_ROLES: tuple[Role, ...] = ("left_foot", "right_foot")


@dataclass(frozen=True)
class View:
    """One camera of a session.

    Attributes:
        id: unique name, also the name of its files in every stage.
        role: a static camera of the room, a camera on a foot, stills taken by hand, or a hand-held walk through the
            still, empty room (a video or pictures), from which the scene map is made.
        size_px: width and height of the pixel frame that lens and keypoints live in.
        video: video file; None for stills or bare keypoints.
        images: folder of stills: the frames of a camera that writes pictures instead of a video, in the order of
            their names; or hand-held photographs, each from its own place.
        frame_times: file of frame times that a computer wrote down (`capture.frame_times`), for webcams: they hold
            instead of the container's.
        num_frames: frames in the video (or keypoint sequence).
        frame_rate: frames a second as a rational, "30000/1001".
        lens_model: model to calibrate.
        lens_images: folder of stills, or a video, of the lens board.
        row_time_s: rolling shutter: readout time of one row, seconds; row v is exposed at `t + v * row_time_s`. Rows
            are those of `size_px`, in which all points are stored, not of a video that was rescaled or padded.
            Of foot cameras only; room cameras are taken as global shutters.
        keypoints: folder or file of another tool's 2D detections.
        keypoints_format: its layout.
        keypoints_skeleton: name of its skeleton.
        masks: folder of another tool's silhouettes of the subject (`capture.masks`).
        picture_from_px: (scale, dx, dy) from the pixel frame above to the video's own pixels, for videos that were
            rescaled or padded after calibration: `picture = scale * px + (dx, dy)`.
    """

    id: str
    role: Role
    size_px: tuple[int, int]
    video: str | None = None
    images: str | None = None
    frame_times: str | None = None
    num_frames: int = 0
    frame_rate: str = "30"
    lens_model: LensModel = "radtan"
    lens_images: str | None = None
    row_time_s: float = 0.0
    keypoints: str | None = None
    keypoints_format: KeypointsFormat | None = None
    keypoints_skeleton: str | None = None
    masks: str | None = None
    picture_from_px: tuple[float, float, float] = (1.0, 0.0, 0.0)

    @property
    def rate(self) -> Fraction:
        """Frames a second."""
        return parse_rate(self.frame_rate)

    @property
    def has_pictures(self) -> bool:
        """Whether there is anything to look at."""
        return self.video is not None or self.images is not None

    @property
    def is_foot(self) -> bool:
        """Whether the camera rides on a foot."""
        return self.role in FOOT_ROLES


@dataclass(frozen=True)
class Session:
    """The description of a recording.

    Attributes:
        folder: where the session lives; not part of the file.
        id: unique name of the session.
        subject: name of the person annotated; sessions of one subject share a body shape.
        views: all cameras.
        rate: instants a second of the annotation.
        targets: file that describes the boards and markers (`capture.targets`).
        calibration: cameras as another tool placed them, `rig.json` in metres with z up; stages take it where their
            settings name no other file.
        synchronised: whether hardware exposed all cameras together, or another tool has cut their videos so.
        spans_s: named stretches of the recording on the session clock: `calibration` (the marker rig is carried),
            `motion` (to be annotated). A stretch that is not named is the whole recording.
    """

    folder: Path
    id: str
    subject: str
    views: tuple[View, ...]
    rate: str = "30"
    targets: str | None = None
    calibration: str | None = None
    synchronised: bool = False
    spans_s: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        ids = [view.id for view in self.views]
        if len(set(ids)) != len(ids):
            raise InputError(self.id, f"view ids repeat: {ids}", "give every view its own id in session.json")

    def __getitem__(self, view_id: str) -> View:
        for view in self.views:
            if view.id == view_id:
                return view
        names = ", ".join(view.id for view in self.views)
        raise InputError(view_id, f"the session has no such view, only {names}", "check the view's id")

    def of_role(self, *roles: Role) -> tuple[View, ...]:
        """Views with one of these roles, in order."""
        return tuple(view for view in self.views if view.role in roles)

    def path(self, relative: str) -> Path:
        """A file of the session; refuses a path that leaves the folder."""
        return inside(self.folder, relative)

    def stage(self, name: str) -> Path:
        """Folder of a stage's result (`04_rig`)."""
        return self.folder / name

    def save(self) -> None:
        """Writes `session.json`."""
        data = dataclasses.asdict(self)
        del data["folder"]
        write_json(self.folder / "session.json", {"schema": SCHEMA, **data})

    @staticmethod
    def load(folder: Path) -> Session:
        """Reads `session.json`.

        Raises:
            InputError: if the folder or file is missing, of another schema, has unknown or wrong fields, or names a
                path outside the folder.
        """
        if not folder.is_dir():
            raise InputError(
                str(folder), "there is no such session folder", "check the path, or make it with `motifs ingest`"
            )
        path = folder / "session.json"
        if not path.is_file():
            raise InputError(str(folder), "it holds no session.json", "make one with `motifs ingest`")
        data = read_json(path)
        if not isinstance(data, dict) or data.get("schema") != SCHEMA:
            found = data.get("schema") if isinstance(data, dict) else type(data).__name__
            raise InputError(str(path), f"schema is {found!r}, not {SCHEMA!r}", "make it again with `motifs ingest`")
        fields = {key: value for key, value in data.items() if key != "schema"}
        try:
            described = fields.pop("views")
            _check_paths(
                folder,
                [
                    fields.get("targets"),
                    fields.get("calibration"),
                    *(view.get(key) for view in described for key in _PATHS),
                ],
            )
            views = tuple(_view_from_json(view) for view in described)
            spans = {name: (float(a), float(b)) for name, (a, b) in fields.pop("spans_s", {}).items()}
            _check_session(fields, views, spans)
            return Session(folder=folder, views=views, spans_s=spans, **fields)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise InputError(
                str(path), f"a field is missing, unknown or of the wrong kind ({error})", "repair it"
            ) from error


def _view_from_json(data: Mapping[str, Any]) -> View:
    """A view, its fields checked one by one so that no stage meets a wrong one halfway."""
    fields = dict(data)
    width, height = fields.pop("size_px")
    scale, dx, dy = (float(v) for v in fields.pop("picture_from_px", (1.0, 0.0, 0.0)))
    row_time_s = float(fields.pop("row_time_s", 0.0))
    name = _require_text("a view's id", fields.get("id"))
    if name.startswith(".") or set(name) & set("/\\\0"):
        raise ValueError(f"view id {name!r} is no file name")
    for field, kind, default in (
        ("role", Role, None),
        ("lens_model", LensModel, "radtan"),
        ("keypoints_format", KeypointsFormat | None, None),
    ):
        value = fields.get(field, default)
        if value not in _choices(kind):
            raise ValueError(f"{field} {value!r} of view {name!r}")
    if type(num_frames := fields.get("num_frames", 0)) is not int or not 0 <= num_frames <= _MAX_FRAMES:
        raise ValueError(f"num_frames {num_frames!r} of view {name!r}")
    if not all(1 <= length <= _MAX_SIZE_PX for length in (width, height)):
        raise ValueError(f"size_px {(width, height)} of view {name!r}")
    size_px = (int(width), int(height))
    if not (all(map(math.isfinite, (scale, dx, dy, row_time_s))) and scale > 0):
        raise ValueError(f"picture_from_px {(scale, dx, dy)} or row_time_s {row_time_s} of view {name!r}")
    if row_time_s < 0 or (row_time_s > 0 and fields.get("role") not in FOOT_ROLES):
        # only egomotion and time codes honour it: a room camera's joints would silently be taken at row 0
        raise ValueError(f"row_time_s {row_time_s} of view {name!r}: positive, and of foot cameras only")
    if (skeleton := fields.get("keypoints_skeleton")) is not None:
        skeleton_named(_require_text("keypoints_skeleton", skeleton))
    parse_rate(_require_text("frame_rate", fields.get("frame_rate", "30")))
    return View(size_px=size_px, picture_from_px=(scale, dx, dy), row_time_s=row_time_s, **fields)


def _choices(kind: Any) -> tuple[Any, ...]:
    """The values of a `Literal`, or of one that may be absent."""
    parts = get_args(kind)
    return (*get_args(parts[0]), None) if type(None) in parts else parts


def _check_session(data: Mapping[str, Any], views: Sequence[View], spans_s: Mapping[str, tuple[float, float]]) -> None:
    """Refuses values that no session can have.

    Raises:
        ValueError: naming the field.
        InputError: if the rate is none.
    """
    for name in ("id", "subject"):
        _require_text(name, data.get(name))
    parse_rate(_require_text("rate", data.get("rate", "30")))
    if type(data.get("synchronised", False)) is not bool:
        raise ValueError(f"synchronised is {data['synchronised']!r}, not true or false")
    if not views:
        raise ValueError("no views")
    for name, (first, last) in spans_s.items():
        if not first < last:
            raise ValueError(f"the span {name} runs from {first} to {last}")


def _check_paths(folder: Path, paths: Iterable[Any]) -> None:
    for path in paths:
        if path is not None:
            inside(folder, _require_text("a path", path))


def _require_text(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name} is {value!r}, not a text")
    return value
