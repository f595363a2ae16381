"""Pose2Sim: `Config.toml`, `*calib*/*.toml`, `videos/`, `pose*/CAM_json/`: a layout of `capture.layouts`.

A trial of a batch session may leave both files to the session, the folder above it.
"""

from __future__ import annotations

from pathlib import Path

from capture.layouts import POSE_SYNC
from core.errors import InputError
from core.files import read_toml
from motifs.projects.contents import ImportConfig, Project, folders_in

_NO_CAMERAS = "it has no cameras (no .toml in a folder called calib): name a file by --calibration, or calibrate"
# Pose2Sim's names of models; its default is RTMPose's body with feet
_POSE2SIM_MODELS = {
    "body_with_feet": "HALPE_26", "halpe_26": "HALPE_26", "body": "COCO_17", "coco_17": "COCO_17", "body_25": "BODY_25",
    "body_25b": "BODY_25B",
}  # fmt: skip


def read_pose2sim(source: Path, config: ImportConfig) -> Project:
    """What a project says beside its files: its cameras, and what its joints are.

    Raises:
        InputError: if it has several calibrations and none is named, or `Config.toml` is damaged.
    """
    calibrations = _calibrations(source)
    if len(calibrations) > 1 and config.calibration is None:
        names = ", ".join(f"{path.parent.name}/{path.name}" for path in calibrations)
        raise InputError(str(source), f"it has several calibrations: {names}", "name one: --calibration FILE")
    named = _model(source) or _model(source.resolve().parent)
    model = _POSE2SIM_MODELS.get(named.lower(), "")
    notes = [f"its joints are taken to be {model}, as Config.toml says"] if model else []
    if (source / POSE_SYNC).is_dir() and not config.keypoints:
        notes.append(f"its joints are those of pose/: {POSE_SYNC}/ numbers frames otherwise than the videos")
    calibration = calibrations[0] if calibrations else None
    if config.calibration is None:
        notes.append(f"its cameras are those of {calibration}" if calibration else _NO_CAMERAS)
    return Project(skeleton=model, calibration=calibration, in_place=True, notes=tuple(notes))


def is_pose2sim(source: Path) -> bool:
    """Whether a folder is a project, or a trial of a batch session."""
    named = (source / "Config.toml").is_file() or any(path.name.startswith("Calib") for path in _own(source))
    return named or (_pictured(source) and (source.resolve().parent / "Config.toml").is_file())


def _pictured(source: Path) -> bool:
    return (source / "videos").is_dir() or any(source.glob("pose*/*_json"))


def _calibrations(source: Path) -> list[Path]:
    """Calibrations of a project, or else of the session that it is a trial of; those that Pose2Sim wrote, if any."""
    found = _own(source) or _own(source.resolve().parent)
    return [path for path in found if path.name.startswith("Calib")] or found


def _own(folder: Path) -> list[Path]:
    """Files where Pose2Sim looks for calibrations: in any folder whose name holds "calib"."""
    folders = (path for name, path in folders_in(folder).items() if "calib" in name.lower())
    return [path for found in folders for path in sorted(found.glob("*.toml"))]


def _model(source: Path) -> str:
    """The model that a folder's `Config.toml` names; nothing if it does not."""
    path = source / "Config.toml"
    if not path.is_file():
        return ""
    pose = read_toml(path).get("pose", {})
    return str(pose.get("pose_model", "")) if isinstance(pose, dict) else ""
