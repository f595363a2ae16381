"""What another tool's folder holds, and what its owner may have to say beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from calibration.formats import Up
from capture.ingest import IngestConfig
from capture.keypoints import Keypoints2d
from capture.layouts import VIDEO_SUFFIXES

ProjectKind = Literal["auto", "recording", "pose2sim", "easymocap", "caliscope", "freemocap"]


@dataclass(frozen=True)
class ImportConfig(IngestConfig):
    """What the files of a recording or of another tool's project do not say themselves.

    Attributes:
        project: which tool made the folder; `recording` for plain folders; `auto` looks.
        recording: name of the recording, in a project of caliscope that has several.
        calibration: file of the cameras in any format that is known, instead of the project's own.
        calibration_unit: its unit of length; `auto` takes the tool's usual one.
        calibration_up: axis of its world that points up; `auto` takes the tool's usual one.
    """

    project: ProjectKind = "auto"
    recording: str = ""
    calibration: Path | None = None
    calibration_unit: Literal["auto", "m", "cm", "mm"] = "auto"
    calibration_up: Literal["auto", "x", "y", "z", "-x", "-y", "-z"] = "auto"


@dataclass(frozen=True, eq=False)
class Project:
    """What another tool's folder holds.

    Attributes:
        videos: by view.
        images: folders of stills by view.
        joints: 2D joints by view.
        joint_folders: folders in OpenPose's layout by view, brought as they are.
        frame_times: a table of all views' frame times.
        skeleton: what the joints are.
        calibration: file or folder of the cameras.
        unit: of the calibration.
        up: axis of its world that points up.
        synchronised: whether frames of one number belong together.
        in_place: whether the folder is one that `capture.ingest` reads as it is.
        notes: what people should know of it.
    """

    videos: Mapping[str, Path] = field(default_factory=dict)
    images: Mapping[str, Path] = field(default_factory=dict)
    joints: Mapping[str, Keypoints2d] = field(default_factory=dict)
    joint_folders: Mapping[str, Path] = field(default_factory=dict)
    frame_times: Path | None = None
    skeleton: str = ""
    calibration: Path | None = None
    unit: Literal["m", "cm", "mm"] = "m"
    up: Up = "z"
    synchronised: bool = False
    in_place: bool = False
    notes: tuple[str, ...] = ()


def videos_in(folder: Path) -> dict[str, Path]:
    """Videos of a folder by their names; none where it is missing."""
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    return {p.stem: p for p in files if p.suffix.lower() in VIDEO_SUFFIXES and not p.name.startswith(".")}


def folders_in(folder: Path) -> dict[str, Path]:
    """Folders in a folder by their names; none where it is missing."""
    entries = sorted(folder.iterdir()) if folder.is_dir() else []
    return {path.name: path for path in entries if path.is_dir() and not path.name.startswith(".")}
