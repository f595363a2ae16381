"""From a folder of recordings to a session folder: every file is checked, brought in, and described in `session.json`.

The session folder is self-contained. Files are hard links where both folders are on one disk, copies elsewhere. Nothing
appears under the final name unless everything was in order.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Literal, cast

from capture.detectors import guess_format, read_keypoints
from capture.frame_times import read_frame_times
from capture.layouts import PHOTOS, FoundView, LayoutName, find_views
from capture.masks import list_masks
from capture.session import FOOT_ROLES, KeypointsFormat, Role, Session, View
from capture.stills import list_stills, stills_size_px
from capture.targets import load_targets
from capture.video import VideoInfo, probe
from core.cameras import LensModel
from core.clock import parse_rate
from core.errors import InputError
from core.files import atomic_folder
from core.skeletons import skeleton_named

_CALIBRATION = "calibration/rig.json"
SPANS = ("calibration", "motion")  # stretches that stages read


@dataclass(frozen=True)
class IngestConfig:
    """What a recording's files do not say themselves.

    Attributes:
        id: name of the session; that of its folder if empty.
        subject: name of the person; sessions of one subject share a body shape.
        rate: instants a second of the annotation ("30000/1001"); that of the slowest room video if empty.
        layout: how the recording's folder is arranged; `auto` looks.
        lens_model: lens model of room cameras and photographs.
        foot_lens_model: lens model of foot cameras.
        keypoints: folder of 2D joints within the recording, where it is not the layout's usual one.
        keypoints_format: their layout; `auto` looks.
        keypoints_skeleton: what their joints are (COCO_17, BODY_25, BODY_25B, HALPE_26).
        frame_rate: frames a second of views that have no video, but stills or 2D joints.
        size_px: pixel frame of views that have neither video nor lens pictures, `VIEW=WIDTH,HEIGHT`.
        picture_from_px: videos rescaled or padded after calibration, `VIEW=SCALE,DX,DY`:
            picture = scale * px + (dx, dy), where px is the pixel frame of lens and joints. Pixel centres are integers:
            a plain resize by s has dx = dy = (s - 1) / 2.
        row_time_s: rolling shutter of a foot camera, `VIEW=SECONDS` from one row to the next.
        spans_s: named stretches on the session clock, `calibration=FIRST,LAST` and `motion=FIRST,LAST`.
        synchronised: whether hardware exposed all cameras together.
        targets: description of boards and markers; the recording's `targets.json` if there is one.
        copy: copy files even where a hard link would do.
    """

    id: str = ""
    subject: str = "subject"
    rate: str = ""
    layout: LayoutName = "auto"
    lens_model: LensModel = "radtan"
    foot_lens_model: LensModel = "fisheye"
    keypoints: str = ""
    keypoints_format: Literal["auto", "openpose", "coco", "mmpose"] = "auto"
    keypoints_skeleton: str = ""
    frame_rate: str = "30"
    size_px: tuple[str, ...] = ()
    picture_from_px: tuple[str, ...] = ()
    row_time_s: tuple[str, ...] = ()
    spans_s: tuple[str, ...] = ()
    targets: Path | None = None
    synchronised: bool = False
    copy: bool = False


def ingest(source: Path, out: Path, config: IngestConfig | None = None, *, calibration: Path | None = None) -> Session:
    """Makes a session folder from a recording.

    Args:
        source: folder of the recording, in a layout of `capture.layouts`.
        out: session folder to make.
        config: what the files do not say.
        calibration: this project's `rig.json` with the room cameras, metres, z up.

    Raises:
        InputError: if a file cannot be used, or `out` exists; nothing is left behind then.
    """
    config = config or IngestConfig()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(str(out), "it exists already", "choose another --out, or remove it first")
    spans = _spans(config.spans_s)
    found = find_views(source, config.layout, config.keypoints)
    targets = config.targets or (source / "targets.json" if (source / "targets.json").is_file() else None)
    if targets is not None:
        load_targets(targets)
    views = _describe(found, config)
    with atomic_folder(out) as folder:
        stored = tuple(_bring_view(view, files, folder, config.copy) for view, files in zip(views, found, strict=True))
        if targets is not None:
            _bring(targets, folder / "targets.json", config.copy)
        if calibration is not None:
            _bring(calibration, folder / _CALIBRATION, copy=True)
        Session(
            folder=folder,
            id=config.id or out.resolve().name,
            subject=config.subject,
            views=stored,
            rate=str(parse_rate(config.rate)) if config.rate else _common_rate(stored),
            targets="targets.json" if targets is not None else None,
            calibration=_CALIBRATION if calibration is not None else None,
            synchronised=config.synchronised,
            spans_s=spans,
        ).save()
    return Session.load(out)


def parse_pairs(texts: Sequence[str], count: int, option: str) -> dict[str, tuple[float, ...]]:
    """Settings of single views written as `NAME=NUMBER,...`.

    Raises:
        InputError: if one is malformed, or one name is given twice.
    """
    found: dict[str, tuple[float, ...]] = {}
    for text in texts:
        name, _, numbers = text.partition("=")
        try:
            values = tuple(float(number) for number in numbers.split(","))
        except ValueError:
            values = ()
        if not name or len(values) != count or not all(math.isfinite(value) for value in values):
            raise InputError(text, f"{option} takes NAME={','.join(['NUMBER'] * count)}", "write it like that")
        if name in found:
            raise InputError(name, f"{option} is given twice for it", "give it once")
        found[name] = values
    return found


def _spans(texts: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Named stretches of the recording.

    Raises:
        InputError: if one is malformed, has a name that nothing reads, or ends before it begins.
    """
    spans = {}
    for name, (first, last) in parse_pairs(texts, 2, "--spans-s").items():
        if name not in SPANS:
            raise InputError(name, "--spans-s names a stretch that nothing reads", f"use one of {', '.join(SPANS)}")
        if not first < last:
            problem = f"--spans-s lets it run from {first:g} to {last:g} s"
            raise InputError(name, problem, f"write it as {name}=FIRST,LAST with the earlier time first")
        spans[name] = (first, last)
    return spans


def _describe(found: Sequence[FoundView], config: IngestConfig) -> list[View]:
    """Descriptions of all views, each file of theirs checked; paths are filled in when the files are brought."""
    sizes = parse_pairs(config.size_px, 2, "--size-px")
    pictures = parse_pairs(config.picture_from_px, 3, "--picture-from-px")
    rows = parse_pairs(config.row_time_s, 1, "--row-time-s")
    ids = {files.id for files in found}
    for option, given in (("--size-px", sizes), ("--picture-from-px", pictures), ("--row-time-s", rows)):
        if unknown := sorted(given.keys() - ids):
            raise InputError(unknown[0], f"{option} names a view that is not there", f"use one of {sorted(ids)}")
    views = []
    for files in found:
        info = probe(files.video, decode=True) if files.video else None
        size_px = _frame_size(files, info, sizes.get(files.id), files.id in pictures)
        num_frames = info.num_frames if info else len(list_stills(files.images)) if files.images else 0
        if files.frame_times is not None:
            read_frame_times(files.frame_times, files.id, num_frames)
        if files.masks is not None:
            list_masks(files.masks, num_frames)
        layout, num_joint_frames = _check_keypoints(files, config, num_frames)
        scale, dx, dy = pictures.get(files.id, (1.0, 0.0, 0.0))
        if scale <= 0:
            raise InputError(files.id, f"--picture-from-px has the scale {scale}", "give a positive one")
        role = _role(files)
        row_time_s = rows.get(files.id, (0.0,))[0]
        if row_time_s < 0 or (row_time_s > 0 and role not in FOOT_ROLES):
            action = "leave it out: only foot cameras' rolling shutters are modelled"
            raise InputError(files.id, f"--row-time-s gives it {row_time_s:g} s a row", action)
        views.append(
            View(
                id=files.id,
                role=role,
                size_px=size_px,
                num_frames=num_frames or num_joint_frames,
                frame_rate=str(info.rate if info else parse_rate(config.frame_rate)),
                lens_model=config.foot_lens_model if role in FOOT_ROLES else config.lens_model,
                row_time_s=row_time_s,
                keypoints_format=layout,
                keypoints_skeleton=skeleton_named(config.keypoints_skeleton).name if layout else None,
                picture_from_px=(scale, dx, dy),
            )
        )
    return views


def _role(files: FoundView) -> Role:
    if files.id == PHOTOS:
        return "handheld"
    named: tuple[Role, ...] = (*FOOT_ROLES, "walkthrough")
    return next((role for role in named if role == files.id), "room")


def _frame_size(
    files: FoundView, info: VideoInfo | None, given: tuple[float, ...] | None, mapped: bool
) -> tuple[int, int]:
    """The pixel frame of lens and joints: that of the lens pictures, else of the video or stills, else as given.

    Raises:
        InputError: if the lens pictures, the video and the size given differ and nothing says how they map.
    """
    lens_px = _pictures_size(files.lens_images) if files.lens_images else None
    own_px = info.size_px if info else stills_size_px(files.images) if files.images else None
    if lens_px and own_px and lens_px != own_px and not mapped:
        raise InputError(
            files.id,
            f"its lens pictures are {lens_px[0]}x{lens_px[1]} px, its own {own_px[0]}x{own_px[1]}",
            f"say how they map: --picture-from-px {files.id}=SCALE,DX,DY (1,0,0 if they share their pixels)",
        )
    size_px = lens_px or own_px
    if given and size_px and given != size_px and not mapped:
        raise InputError(
            files.id,
            f"--size-px says {given[0]:g}x{given[1]:g} px, its pictures are {size_px[0]}x{size_px[1]}",
            f"leave --size-px out, or say how they map: --picture-from-px {files.id}=SCALE,DX,DY",
        )
    if given:
        return int(given[0]), int(given[1])
    if size_px is None:
        raise InputError(files.id, "nothing tells its picture size", f"give --size-px {files.id}=WIDTH,HEIGHT")
    return size_px


def _pictures_size(path: Path) -> tuple[int, int]:
    return stills_size_px(path) if path.is_dir() else probe(path).size_px


def _check_keypoints(files: FoundView, config: IngestConfig, num_frames: int) -> tuple[KeypointsFormat | None, int]:
    """Layout and length of a view's 2D joints, after reading all of them; (None, 0) if there are none."""
    if files.keypoints is None:
        return None, 0
    if not config.keypoints_skeleton:
        raise InputError(
            str(files.keypoints), "nothing tells what its joints are", "give --keypoints-skeleton, such as BODY_25B"
        )
    layout = guess_format(files.keypoints) if config.keypoints_format == "auto" else config.keypoints_format
    found = read_keypoints(files.keypoints, layout, skeleton_named(config.keypoints_skeleton))
    if num_frames and found.num_frames > num_frames:
        raise InputError(
            str(files.keypoints),
            f"it has {found.num_frames} frames, its pictures {num_frames}",
            "check that they are of the same recording",
        )
    return cast(KeypointsFormat, layout), found.num_frames


def _common_rate(views: Sequence[View]) -> str:
    """Rate of the slowest room view: faster ones are interpolated, and nothing is invented between frames."""
    rates = [view.rate for view in views if view.role == "room"] or [view.rate for view in views]
    return str(min(rates, default=Fraction(30)))


def _bring_view(view: View, files: FoundView, folder: Path, copy: bool) -> View:
    """Brings a view's files into the session; returns the view with their paths."""
    paths: dict[str, str | None] = {}
    for field, path, target in (
        ("video", files.video, f"videos/{view.id}"),
        ("images", files.images, f"images/{view.id}"),
        ("frame_times", files.frame_times, f"timestamps/{view.id}"),
        ("lens_images", files.lens_images, f"lens_images/{view.id}"),
        ("keypoints", files.keypoints, f"keypoints/{view.id}"),
        ("masks", files.masks, f"masks/{view.id}"),
    ):
        if path is None:
            continue
        relative = target if path.is_dir() else target + path.suffix.lower()
        if not path.is_dir():
            _bring(path, folder / relative, copy)
        else:
            wanted = sorted(path.glob("*.json")) if field == "keypoints" else list_stills(path)
            for file in wanted:
                _bring(file, folder / relative / file.name, copy)
        paths[field] = relative
    return replace(view, **paths)  # type: ignore[arg-type]


def _bring(source: Path, target: Path, copy: bool) -> None:
    """Links a file, or copies it where that cannot be."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if not copy:
        try:
            os.link(source.resolve(), target)
            return
        except OSError:  # another disk, or a file system without hard links
            target.unlink(missing_ok=True)
    shutil.copyfile(source, target)
