"""Stage `02_keypoints`: what is seen in each view, in pixels: 2D joints of people, corners of boards and markers.

Joints come from another tool's files, or from RTMPose with the user's own weights. Boards are searched in every room
video, densely while the rig is carried and now and then outside of it, in every frame of a foot camera, and in every
hand-held still.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from capture.detectors import read_keypoints
from capture.finder import TargetFinder, refuse_contradicted
from capture.keypoints import Keypoints2d
from capture.markers import MarkerPoints
from capture.pictures import read_pictures
from capture.session import Session, View
from capture.settings import refuse_setting
from capture.stills import list_stills
from capture.sync import load_times
from capture.targets import Target, load_targets
from core.arrays import Bool, Float, Int
from core.errors import InputError
from core.progress import progress
from core.skeletons import skeleton_named
from core.stage import Health, Manifest, Summary, run_stage

STAGE = "02_keypoints"
_MARGIN_S = 0.25  # beside a span, so that its first and last instants can be interpolated


@dataclass(frozen=True)
class DetectConfig:
    """Settings of `motifs detect`.

    Attributes:
        model: RTMPose weights (.onnx), for views without another tool's joints.
        model_skeleton: what that network's joints are.
        carried_every: while a marker rig is carried, boards are searched in every n-th frame of a room video.
        still_every: outside of that, in every n-th frame; static boards do not move.
        foot_every: in a foot camera's video, in every n-th frame.
        feet: whether joints are looked for in the foot cameras' pictures too, which see their wearer from below.
        min_seen: share of a video's frames in which joints must be found.
    """

    model: Path | None = None
    model_skeleton: str = "HALPE_26"
    carried_every: int = 2
    still_every: int = 60
    foot_every: int = 1
    feet: bool = False
    min_seen: float = 0.05


def run(session_dir: Path, config: DetectConfig | None = None, *, workers: int = 1, redo: bool = False) -> Manifest:
    """Finds joints, boards and markers in every view of a session.

    Raises:
        InputError: if a setting cannot be, a file cannot be read, or joints are not those of the declared skeleton.
        GateError: if hardly any joints are found in a view.
    """
    config = config or DetectConfig()
    for name in ("carried_every", "still_every", "foot_every"):
        refuse_setting(name, getattr(config, name), getattr(config, name) >= 1, "1 or more")
    session = Session.load(session_dir)
    room_targets(session)  # a damaged targets file is one error, not one of every view
    items = [view.id for view in session.views if _wanted(session, view, config)]
    if not items:
        raise InputError(
            session.id,
            "there is nothing to detect: no keypoints, no targets, no RTMPose weights",
            "ingest it with keypoints or with a targets file, or give `--model rtmpose.onnx`",
        )
    return run_stage(
        "detect",
        2,
        inputs=_inputs(session, config),
        config=config,
        out=session.stage(STAGE),
        items=items,
        process=partial(_process, session_dir, config, max(workers // len(items), 1)),
        finish=partial(_finish, config),
        workers=workers,
        redo=redo,
    )


def room_targets(session: Session) -> dict[str, Target]:
    """The session's targets that can appear in its recording; the lens board has pictures of its own."""
    if session.targets is None:
        return {}
    targets = load_targets(session.path(session.targets))
    return {name: target for name, target in targets.items() if target.mounting != "lens"}


def frames_to_search(
    session: Session, view: View, t_s: Float[np.ndarray, "frames"], config: DetectConfig
) -> Int[np.ndarray, "n"]:
    """Frames of a video in which boards are looked for."""
    frames = np.arange(len(t_s))
    if view.is_foot:
        return frames[_within(session, "motion", t_s) & (frames % config.foot_every == 0)]
    carried = _within(session, "calibration", t_s) & (frames % config.carried_every == 0)
    return frames[carried | (frames % config.still_every == 0)]


def _within(session: Session, span: str, t_s: Float[np.ndarray, "frames"]) -> Bool[np.ndarray, "frames"]:
    """Frames in a named span; all of them if the session does not name it."""
    first, last = session.spans_s.get(span, (-np.inf, np.inf))
    return (t_s >= first - _MARGIN_S) & (t_s <= last + _MARGIN_S)


def _wanted(session: Session, view: View, config: DetectConfig) -> bool:
    joints = view.keypoints is not None or (config.model is not None and _shows_people(view, config))
    return joints or (_searched(view) and bool(room_targets(session)))


def _shows_people(view: View, config: DetectConfig) -> bool:
    return view.role == "room" or (config.feet and view.is_foot)


def _searched(view: View) -> bool:
    """Whether boards are looked for in a view; the scene map looks for them itself, in the frames it chooses."""
    return view.has_pictures and view.role != "walkthrough"


def _inputs(session: Session, config: DetectConfig) -> dict[str, Path]:
    inputs = {"session": session.folder / "session.json", "clocks": session.stage("01_sync")}
    if session.targets:
        inputs["targets"] = session.path(session.targets)
    if config.model:
        inputs["model"] = config.model
    for view in session.views:
        parts = {"video": view.video, "images": view.images, "keypoints": view.keypoints}
        inputs |= {f"{view.id} {name}": session.path(path) for name, path in parts.items() if path}
    return inputs


def _process(session_dir: Path, config: DetectConfig, threads: int, view_id: str, folder: Path) -> Mapping[str, Any]:
    """Everything seen in one view; `threads` look at its pictures while the next ones are decoded."""
    session = Session.load(session_dir)
    view = session[view_id]
    facts: dict[str, Any] = {}
    keypoints = _keypoints(session, view, config)
    if keypoints is not None:
        keypoints.save(folder / f"{view_id}.npz")
        facts["seen"] = float(keypoints.valid.any(axis=(1, 2)).mean())
    targets = room_targets(session)
    if targets and _searched(view):
        points = _markers(session, view, targets, config, threads)
        points.save(folder / f"{view_id}.markers.npz")
        facts["points"] = len(points)
        facts["targets"] = sorted({points.target_ids[i] for i in np.unique(points.target)})
    return facts


def _keypoints(session: Session, view: View, config: DetectConfig) -> Keypoints2d | None:
    """Joints of a view, as many frames as it has; None if it has none."""
    if view.keypoints is not None:
        if view.keypoints_format is None or view.keypoints_skeleton is None:
            action = "state keypoints_format and keypoints_skeleton in session.json"
            raise InputError(view.id, "the layout or the skeleton of its keypoints is not stated", action)
        skeleton = skeleton_named(view.keypoints_skeleton)
        found = read_keypoints(session.path(view.keypoints), view.keypoints_format, skeleton)
        return _as_long_as(found, view.num_frames, view.id)
    if config.model is None or not view.has_pictures or not _shows_people(view, config):
        return None
    from capture.detectors.rtmpose import RtmPose

    network = RtmPose(config.model, skeleton_named(config.model_skeleton))
    frames = (image for _, image in read_pictures(session, view, color="bgr"))
    found = network.detect_sequence(frames)
    scale, dx, dy = view.picture_from_px
    xy_px = ((found.xy_px - np.array([dx, dy])) / scale).astype(np.float32)
    return Keypoints2d(xy_px, found.score, found.skeleton)


def _as_long_as(found: Keypoints2d, num_frames: int, view_id: str) -> Keypoints2d:
    """Frames after the last one with people are missing, not an error; more frames than the video has are one."""
    if num_frames and found.num_frames > num_frames:
        raise InputError(
            view_id,
            f"its keypoints have {found.num_frames} frames, its video {num_frames}",
            "check that they belong together",
        )
    missing = max(num_frames - found.num_frames, 0)
    xy_px = np.pad(found.xy_px, ((0, missing), (0, 0), (0, 0), (0, 0)), constant_values=np.nan)
    return Keypoints2d(xy_px, np.pad(found.score, ((0, missing), (0, 0), (0, 0))), found.skeleton)


def _markers(
    session: Session, view: View, targets: Mapping[str, Target], config: DetectConfig, threads: int
) -> MarkerPoints:
    """Target points of a view, in the pixel frame of its lens.

    Raises:
        InputError: if its pictures contradict the description of a target.
    """
    finder = TargetFinder(targets)
    tables: list[MarkerPoints] = []
    sightings: Counter[str] = Counter()
    against: dict[str, list[str]] = {}
    numbers = _frames(session, view, config)
    with progress(f"boards in {view.id}", len(numbers)) as advance:
        for seen in finder.look_at_all(read_pictures(session, view, numbers), threads=threads):
            tables.append(seen.points)
            sightings.update({seen.points.target_ids[i] for i in np.unique(seen.points.target)})
            for target_id, instead in seen.against.items():
                against.setdefault(target_id, []).append(instead)
            advance()
    refuse_contradicted(sightings, against, view.id)
    points = MarkerPoints.concatenate(tables, finder.target_ids)
    scale, dx, dy = view.picture_from_px
    xy_px = ((points.xy_px - np.array([dx, dy])) / scale).astype(np.float32)
    sigma_px = (points.sigma_px / scale).astype(np.float32)
    return MarkerPoints(points.target_ids, points.frame_idx, points.target, points.point_idx, xy_px, sigma_px)


def _frames(session: Session, view: View, config: DetectConfig) -> list[int]:
    """Numbers of the pictures of a view in which boards are looked for."""
    if view.role == "handheld":
        num = view.num_frames if view.images is None else len(list_stills(session.path(view.images)))
        return list(range(num))
    return frames_to_search(session, view, load_times(session.folder, view.id), config).tolist()


def _finish(config: DetectConfig, folder: Path, facts: Mapping[str, Mapping[str, Any]]) -> Summary:
    action = "check the detector's files of this view, or leave the view out"
    health = [
        Health("frames_with_joints", fact["seen"], config.min_seen, "min", action, view_id)
        for view_id, fact in facts.items()
        if "seen" in fact
    ]
    return Summary({"views": facts}, health)
