"""Pose2Sim: `Config.toml`, `calibration/Calib*.toml`, `videos/`, `pose*/CAM_json/`: a layout of `capture.layouts`."""

from __future__ import annotations

import tomllib
from pathlib import Path

from calibration.formats.contents import read_text
from capture.layouts import POSE_SYNC
from core.errors import InputError
from motifs.projects.contents import ImportConfig, Project

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
    calibrations = sorted((source / "calibration").glob("Calib*.toml"))
    if len(calibrations) > 1 and config.calibration is None:
        names = ", ".join(path.name for path in calibrations)
        raise InputError(str(source), f"it has several calibrations: {names}", "name one: --calibration FILE")
    model = _model(source)
    notes = [f"its joints are taken to be {model}, as Config.toml says"] if model else []
    if (source / POSE_SYNC).is_dir() and not config.keypoints:
        notes.append(f"its joints are those of pose/: {POSE_SYNC}/ numbers frames otherwise than the videos")
    calibration = calibrations[0] if calibrations else None
    return Project(skeleton=model, calibration=calibration, in_place=True, notes=tuple(notes))


def _model(source: Path) -> str:
    """The skeleton that `Config.toml` names; nothing if it does not."""
    path = source / "Config.toml"
    if not path.is_file():
        return ""
    try:
        pose = tomllib.loads(read_text(path)).get("pose", {})
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(str(path), f"not TOML ({error})", "repair it, or give --keypoints-skeleton") from error
    model = pose.get("pose_model") if isinstance(pose, dict) else None
    return _POSE2SIM_MODELS.get(str(model).lower(), "")
