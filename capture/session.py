"""A session: one recording of one subject by many views, described by `session.json` in the session's folder.

Every path in it is relative to that folder and may not leave it. Stages read the description and never change it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
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
Role = Literal["room", "left_foot", "right_foot", "handheld"]
FOOT_ROLES: tuple[Role, ...] = ("left_foot", "right_foot")


@dataclass(frozen=True)
class View:
    """One camera of a session.

    Attributes:
        id: unique name, also the name of its files in every stage.
        role: a static camera of the room, a camera on a foot, or stills taken by hand.
        size_px: width and height of the pixel frame that lens and keypoints live in.
        video: video file; None for stills or bare keypoints.
        images: folder of stills (hand-held photographs, each from its own place).
        num_frames: frames in the video (or keypoint sequence).
        frame_rate: frames a second as a rational, "30000/1001".
        lens_model: model to calibrate.
        lens_images: folder of stills, or a video, of the lens board.
        row_time_s: rolling shutter: readout time of one row, seconds; row v is exposed at `t + v * row_time_s`.
        keypoints: folder or file of another tool's 2D detections.
        keypoints_format: its layout.
        keypoints_skeleton: name of its skeleton.
        picture_from_px: (scale, dx, dy) from the pixel frame above to the video's own pixels, for videos that were
            rescaled or padded after calibration: `picture = scale * px + (dx, dy)`.
    """

    id: str
    role: Role
    size_px: tuple[int, int]
    video: str | None = None
    images: str | None = None
    num_frames: int = 0
    frame_rate: str = "30"
    lens_model: LensModel = "radtan"
    lens_images: str | None = None
    row_time_s: float = 0.0
    keypoints: str | None = None
    keypoints_format: KeypointsFormat | None = None
    keypoints_skeleton: str | None = None
    picture_from_px: tuple[float, float, float] = (1.0, 0.0, 0.0)

    @property
    def rate(self) -> Fraction:
        """Frames a second."""
        return parse_rate(self.frame_rate)

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
        spans_s: named stretches of the recording on the session clock: `calibration` (the marker rig is carried),
            `motion` (to be annotated). A stretch that is not named is the whole recording.
    """

    folder: Path
    id: str
    subject: str
    views: tuple[View, ...]
    rate: str = "30"
    targets: str | None = None
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
            views = tuple(_view_from_json(view) for view in fields.pop("views"))
            spans = {name: (float(a), float(b)) for name, (a, b) in fields.pop("spans_s", {}).items()}
            session = Session(folder=folder, views=views, spans_s=spans, **fields)
            _check_session(session)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                str(path), f"a field is missing, unknown or of the wrong kind ({error})", "repair it"
            ) from error
        return session


def _view_from_json(data: Mapping[str, Any]) -> View:
    fields = dict(data)
    width, height = fields.pop("size_px")
    scale, dx, dy = fields.pop("picture_from_px", (1.0, 0.0, 0.0))
    row_time_s = float(fields.pop("row_time_s", 0.0))
    for name in ("id", "frame_rate"):
        _require_text(name, fields.get(name, "30"))
    return View(
        size_px=(int(width), int(height)),
        picture_from_px=(float(scale), float(dx), float(dy)),
        row_time_s=row_time_s,
        **fields,
    )


def _check_session(session: Session) -> None:
    """Refuses values that no session can have, so that a stage meets none of them halfway.

    Raises:
        ValueError: naming the field.
        InputError: if a path leaves the folder, or a rate is none.
    """
    for name in ("id", "subject", "rate"):
        _require_text(name, getattr(session, name))
    if not session.views:
        raise ValueError("no views")
    parse_rate(session.rate)
    _check_paths(session, [session.targets])
    for view in session.views:
        _check_view(view)
        _check_paths(session, [view.video, view.images, view.lens_images, view.keypoints])
    for name, (first, last) in session.spans_s.items():
        if not first < last:
            raise ValueError(f"the span {name} runs from {first} to {last}")


def _check_view(view: View) -> None:
    if view.id.startswith(".") or set(view.id) & set("/\\\0"):
        raise ValueError(f"view id {view.id!r} is no file name")
    choices: tuple[tuple[str, Any], ...] = (("role", Role), ("lens_model", LensModel))
    choices += (("keypoints_format", KeypointsFormat),) if view.keypoints_format is not None else ()
    for name, kind in choices:
        if getattr(view, name) not in get_args(kind):
            raise ValueError(f"{name} {getattr(view, name)!r} of view {view.id!r}")
    if view.keypoints_skeleton is not None:
        skeleton_named(_require_text("keypoints_skeleton", view.keypoints_skeleton))
    if not isinstance(view.num_frames, int) or view.num_frames < 0:
        raise ValueError(f"num_frames {view.num_frames!r} of view {view.id!r}")
    if min(view.size_px) < 1:
        raise ValueError(f"size_px {view.size_px} of view {view.id!r}")
    if not (
        math.isfinite(view.row_time_s) and view.picture_from_px[0] > 0 and all(map(math.isfinite, view.picture_from_px))
    ):
        raise ValueError(f"row_time_s or picture_from_px of view {view.id!r}")
    parse_rate(view.frame_rate)


def _check_paths(session: Session, paths: Sequence[str | None]) -> None:
    for path in paths:
        if path is not None:
            session.path(_require_text("a path", path))


def _require_text(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name} is {value!r}, not a text")
    return value
