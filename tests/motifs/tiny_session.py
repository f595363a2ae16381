"""A tiny session of two room cameras with videos and joints."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from capture.detectors import openpose
from capture.keypoints import clean
from capture.session import Session, View
from capture.video import VideoWriter
from core.skeletons import COCO_17

NUM_FRAMES = 12
SIZE_PX = (64, 48)


def write_video(path: Path, num_frames: int = NUM_FRAMES) -> None:
    """A few gray frames."""
    with VideoWriter(path, SIZE_PX, Fraction(30)) as writer:
        for index in range(num_frames):
            writer.write(np.full(SIZE_PX[::-1], 10 * index, np.uint8))


def write_joints(folder: Path, num_frames: int = NUM_FRAMES) -> None:
    """One person who stands still, in OpenPose's layout."""
    found = clean(np.full((num_frames, 1, 17, 2), 20.0), np.full((num_frames, 1, 17), 0.9), COCO_17)
    openpose.write(folder, found, "frame")


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    """Changes a JSON file in place; a change that returns something replaces the content."""
    data = json.loads(path.read_text())
    replaced = change(data)
    path.write_text(json.dumps(data if replaced is None else replaced))


def content(folder: Path) -> dict[str, str]:
    """Hash of every file and name of every folder, but for the hidden folder in which a stage goes on later."""
    paths = [p for p in folder.rglob("*") if not any(part.endswith(".partial") for part in p.parts)]
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() if p.is_file() else "" for p in sorted(paths)}


def write_session(folder: Path) -> Path:
    """Two room cameras with videos and joints."""
    views = []
    for name in ("cam1", "cam2"):
        write_video(folder / f"videos/{name}.mp4")
        write_joints(folder / f"keypoints/{name}")
        joints = {"keypoints": f"keypoints/{name}", "keypoints_format": "openpose", "keypoints_skeleton": "COCO_17"}
        views.append(View(name, "room", SIZE_PX, f"videos/{name}.mp4", num_frames=NUM_FRAMES, **joints))
    Session(folder, "s", "anna", tuple(views)).save()
    return folder
