"""Readers of other tools' 2D joints, one file a tool, behind one call.

A reader takes a file or folder and returns every frame it holds; frames are numbered as the tool numbered them, from 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from capture.detectors import coco, mmpose, openpose
from capture.keypoints import Keypoints2d
from core.errors import InputError
from core.skeletons import Skeleton

__all__ = ["READERS", "Reader", "guess_format", "read_keypoints"]


class Reader(Protocol):
    """Reads one tool's layout."""

    def __call__(self, path: Path, skeleton: Skeleton) -> Keypoints2d: ...


READERS: Mapping[str, Reader] = {"openpose": openpose.read, "coco": coco.read, "mmpose": mmpose.read}


def read_keypoints(path: Path, layout: str, skeleton: Skeleton) -> Keypoints2d:
    """2D joints in one of the known layouts.

    Raises:
        InputError: if nothing is there, it is damaged, or its joints are not the skeleton's.
    """
    if layout not in READERS:
        raise InputError(layout, "no such layout of 2D joints", f"use one of {', '.join(READERS)}")
    if not path.exists():
        raise InputError(str(path), "there is no such file or folder", "check the path")
    return READERS[layout](path, skeleton)


def guess_format(path: Path) -> str:
    """The layout of a file or folder: a folder of JSON files is OpenPose's, other files tell by their content.

    Raises:
        InputError: if it is none of them.
    """
    if path.is_dir():
        return "openpose"
    if coco.matches(path):
        return "coco"
    if mmpose.matches(path):
        return "mmpose"
    raise InputError(str(path), "it is neither COCO results nor MMPose JSON", f"use one of {', '.join(READERS)}")
