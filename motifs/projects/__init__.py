"""Other tools' projects as sessions: their videos, joints and cameras in one command.

A project is laid out as a plain recording in a temporary folder (links, no copies of videos) and goes through
`capture.ingest` like any other; its cameras are converted to metres with z up. Each tool has a module that returns a
`Project`; a further one needs such a module, a line in `_READERS` and one in `_guess`.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from calibration.camera_names import match_cameras
from calibration.formats import read_file, turned_up, write_rig
from capture.detectors import openpose
from capture.ingest import IngestConfig, ingest
from capture.layouts import PHOTOS, find_views
from capture.session import FOOT_ROLES, Session
from core.cameras import Rig
from core.errors import InputError
from motifs.projects.caliscope import read_caliscope
from motifs.projects.contents import ImportConfig, Project, ProjectKind
from motifs.projects.easymocap import read_easymocap
from motifs.projects.freemocap import read_freemocap
from motifs.projects.pose2sim import is_pose2sim, read_pose2sim

__all__ = ["ImportConfig", "Project", "bring"]

_READERS: Mapping[str, Callable[[Path, ImportConfig], Project]] = {
    "pose2sim": read_pose2sim,
    "easymocap": read_easymocap,
    "caliscope": read_caliscope,
    "freemocap": read_freemocap,
}


def bring(source: Path, out: Path, config: ImportConfig) -> tuple[Session, tuple[str, ...]]:
    """Makes a session of a recording, or of another tool's project.

    Returns:
        the session, and what people should know of what was brought.

    Raises:
        InputError: if a file cannot be used, or `out` exists; nothing is left behind then.
    """
    if not source.is_dir():
        raise InputError(str(source), "there is no such folder", "give the folder of the recording")
    kind = _guess(source) if config.project == "auto" else config.project
    project = Project() if kind == "recording" else _READERS[kind](source, config)
    told: dict[str, Any] = {
        "keypoints_skeleton": config.keypoints_skeleton or project.skeleton,
        "synchronised": config.synchronised or project.synchronised,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    # beside the session: hard links need the same disk
    with tempfile.TemporaryDirectory(prefix=".motifs-", dir=out.parent) as temporary:
        recording = source
        if not project.in_place and kind != "recording":
            recording, told["layout"] = Path(temporary) / "recording", "flat"
            _lay_out(project, recording)
        plain = _plain_config(config, told)
        calibration, notes = _cameras(project, config, _room_views(recording, plain), Path(temporary))
        session = ingest(recording, out, plain, calibration=calibration)
    return session, (*project.notes, *notes)


def _guess(source: Path) -> ProjectKind:
    if (source / "intri.yml").is_file() and (source / "extri.yml").is_file():
        return "easymocap"
    if (source / "synchronized_videos").is_dir():
        return "freemocap"
    if (source / "camera_array.toml").is_file():
        return "caliscope"
    if is_pose2sim(source):
        return "pose2sim"
    return "recording"


def _plain_config(config: ImportConfig, told: Mapping[str, Any]) -> IngestConfig:
    """The part of the settings that `capture.ingest` knows, with what the project told."""
    values = {f.name: getattr(config, f.name) for f in dataclasses.fields(IngestConfig)}
    return IngestConfig(**{**values, **told})


def _room_views(recording: Path, config: IngestConfig) -> list[str]:
    """Names of the views whose cameras stand in the room."""
    named = [view.id for view in find_views(recording, config.layout, config.keypoints)]
    return [name for name in named if name not in (PHOTOS, "walkthrough", *FOOT_ROLES)]


def _cameras(
    project: Project, config: ImportConfig, views: Sequence[str], folder: Path
) -> tuple[Path | None, tuple[str, ...]]:
    """The cameras in this project's file, those of views under the views' names; and what people should know of them.

    Without cameras there is no file. Where names do not tell them, they keep theirs, for a person to rename.
    """
    given = config.calibration or project.calibration
    if given is None:
        return None, ()
    unit = project.unit if config.calibration_unit == "auto" else config.calibration_unit
    up = project.up if config.calibration_up == "auto" else config.calibration_up
    found = read_file(given).in_unit({"m": 1.0, "cm": 0.01, "mm": 0.001}[unit])
    rig = turned_up(found.rig(), up)
    try:
        pairs, told = match_cameras(views, rig.ids, str(given))
    except InputError as error:
        pairs, told = {}, (f"its cameras are not used before they are told apart: {error.problem}; {error.action}",)
    view_of = {camera: view for view, camera in pairs.items()}
    rig = Rig(tuple(dataclasses.replace(camera, id=view_of.get(camera.id, camera.id)) for camera in rig))
    write_rig(folder / "rig.json", rig)
    return folder / "rig.json", (*found.notes, *told)


def _lay_out(project: Project, folder: Path) -> None:
    """Links a project's files into a folder as a plain recording has them."""
    for name, video in project.videos.items():
        _link(video, folder / "videos" / f"{name}{video.suffix.lower()}")
    for name, stills in project.images.items():
        _link(stills, folder / "images" / name)
    for name, joints in project.joint_folders.items():
        _link(joints, folder / "keypoints" / name)
    for name, found in project.joints.items():
        (folder / "keypoints").mkdir(parents=True, exist_ok=True)
        openpose.write(folder / "keypoints" / name, found, name)
    if project.frame_times is not None:
        _link(project.frame_times, folder / "timestamps.csv")


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.symlink_to(source.resolve(), target_is_directory=source.is_dir())
