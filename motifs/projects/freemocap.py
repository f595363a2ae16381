"""FreeMoCap: `synchronized_videos/`, `output_data/**/*2dData*.npy` and `*_camera_calibration.toml` in millimetres."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from calibration.formats import Up
from capture.keypoints import Keypoints2d
from core.errors import InputError
from core.files import read_toml
from core.skeletons import HALPE_26
from dataset.importers.foreign import read_npy
from motifs.projects.contents import ImportConfig, Project, videos_in
from motifs.projects.mediapipe import NUM_MEDIAPIPE, from_mediapipe

_NUM_HOLISTIC = 543  # MediaPipe's body, two hands and face; newer ones have more points in the face


def read_freemocap(source: Path, config: ImportConfig) -> Project:
    """A recording whose videos FreeMoCap has synchronised.

    Raises:
        InputError: if it has several calibrations and none is named, or its joints are not those of its videos.
    """
    videos = videos_in(source / "synchronized_videos")
    calibrations = sorted(source.glob("*camera_calibration*.toml"))
    if len(calibrations) > 1 and config.calibration is None:
        names = ", ".join(path.name for path in calibrations)
        raise InputError(str(source), f"it has several calibrations: {names}", "name one: --calibration FILE")
    notes = []
    up: Up = "-y"  # of the first camera, which stands upright as a rule
    if calibrations and _on_ground(calibrations[0]):
        up = "z"
    elif calibrations and config.calibration_up == "auto":
        notes.append("its world is that of the first camera: `motifs run --rig.world person` finds the floor")
    arrays = sorted(source.glob("output_data/**/*2dData*.npy"))
    others = [path for path in arrays if not path.name.lower().startswith("mediapipe")]
    arrays = [path for path in arrays if path not in others]
    if len(arrays) > 1:
        names = ", ".join(str(path.relative_to(source)) for path in arrays)
        raise InputError(str(source), f"it has several arrays of joints: {names}", "keep the one to take")
    notes += [f"{path.relative_to(source)} is left out: of trackers, MediaPipe's is known" for path in others]
    joints: dict[str, Keypoints2d] = {}
    if arrays:
        joints = _freemocap_joints(arrays[0], list(videos))
        notes.append(f"its joints are those of {arrays[0].relative_to(source)}")
    else:
        notes.append("it has no 2D joints: run `motifs detect` with a model")
    return Project(
        videos, joints=joints, skeleton=HALPE_26.name if joints else "",
        calibration=calibrations[0] if calibrations else None, unit="mm", up=up, synchronised=True, notes=tuple(notes),
    )  # fmt: skip


def _on_ground(path: Path) -> bool:
    """Whether FreeMoCap put the origin on the floor, by the board that lay there."""
    metadata = read_toml(path).get("metadata", {})
    return isinstance(metadata, dict) and metadata.get("groundplane_calibration") is True


def _freemocap_joints(path: Path, views: Sequence[str]) -> dict[str, Keypoints2d]:
    """Joints of all views from one array (cameras, frames, points, 2 or 3), cameras in the order of their videos."""
    data = read_npy(path)
    known = data.ndim == 4 and (data.shape[2] == NUM_MEDIAPIPE or data.shape[2] >= _NUM_HOLISTIC)
    if not known or data.shape[3] not in (2, 3) or data.dtype.kind not in "fiu":
        wanted = f"(cameras, frames, points, 2 or 3) with {NUM_MEDIAPIPE} points, or {_NUM_HOLISTIC} and more"
        problem = f"an array {data.dtype} of {data.shape}, not of {wanted}"
        raise InputError(str(path), problem, "give what FreeMoCap's MediaPipe tracker wrote")
    if len(data) != len(views):
        problem = f"it is of {len(data)} cameras, and there are {len(views)} videos ({', '.join(views)})"
        raise InputError(str(path), problem, "keep the videos that were tracked in synchronized_videos/")
    body = data[:, :, None, :NUM_MEDIAPIPE].astype(float)
    if body.shape[-1] == 2:
        body = np.concatenate([body, np.isfinite(body).all(axis=-1, keepdims=True).astype(float)], axis=-1)
    # FreeMoCap's third number is a depth in some versions: only what can be a score is one
    if not ((np.nan_to_num(body[..., 2]) >= 0) & (np.nan_to_num(body[..., 2]) <= 1)).all():
        body[..., 2] = np.isfinite(body[..., :2]).all(axis=-1)
    return {view: from_mediapipe(body[k]) for k, view in enumerate(views)}
