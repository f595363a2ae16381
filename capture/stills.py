"""Folders of still pictures: photographs taken by hand and pictures of a lens board."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from core.arrays import UInt8
from core.errors import InputError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp"})


def list_stills(folder: Path) -> list[Path]:
    """Pictures in a folder, sorted by name; a still's index is its place here.

    Raises:
        InputError: if there is no folder or no picture in it.
    """
    if not folder.is_dir():
        raise InputError(str(folder), "there is no such folder", "check the path")
    stills = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
    if not stills:
        raise InputError(str(folder), "it holds no pictures", f"put {', '.join(sorted(SUFFIXES))} files there")
    return stills


def read_still(path: Path, *, color: Literal["gray", "bgr"] = "gray") -> UInt8[np.ndarray, "h w *channels"]:
    """A picture as the sensor wrote it: the orientation tag is ignored, so that one lens fits all pictures.

    Raises:
        InputError: if it cannot be decoded.
    """
    import cv2

    data = np.frombuffer(path.read_bytes(), np.uint8)
    flag = cv2.IMREAD_GRAYSCALE if color == "gray" else cv2.IMREAD_COLOR_BGR
    image = cv2.imdecode(data, flag | cv2.IMREAD_IGNORE_ORIENTATION) if len(data) else None
    if image is None:
        raise InputError(str(path), "it cannot be decoded as a picture", "export it again as JPEG or PNG, or remove it")
    return image


def stills_size_px(folder: Path) -> tuple[int, int]:
    """Width and height of a folder's pictures.

    Raises:
        InputError: if they differ, naming the picture that does.
    """
    first, *rest = list_stills(folder)
    height, width = read_still(first).shape
    for path in rest:
        if read_still(path).shape != (height, width):
            found = read_still(path).shape[::-1]
            raise InputError(
                str(path), f"it is {found[0]}x{found[1]} px, {first.name} is {width}x{height}", "keep one size a folder"
            )
    return width, height
