"""Folders of still pictures: photographs taken by hand and pictures of a lens board."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Literal

import numpy as np

from core.arrays import UInt8
from core.errors import InputError

_MAX_PIXELS = 130_000_000
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

    content = path.read_bytes()
    _require_size(content, path)
    data = np.frombuffer(content, np.uint8)
    flag = cv2.IMREAD_GRAYSCALE if color == "gray" else cv2.IMREAD_COLOR_BGR
    image = cv2.imdecode(data, flag | cv2.IMREAD_IGNORE_ORIENTATION) if len(data) else None
    if image is None:
        raise InputError(str(path), "it cannot be decoded as a picture", "export it again as JPEG or PNG, or remove it")
    return image


def _require_size(content: bytes, path: Path) -> None:
    """Refuses a picture that says it is larger than any camera's, before it fills the memory.

    Raises:
        InputError: also if it is no picture.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(content)) as picture:
            width, height = picture.size
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        action = "export it again as JPEG or PNG, or remove it"
        raise InputError(str(path), f"it cannot be decoded as a picture ({error})", action) from error
    if width * height > _MAX_PIXELS:
        raise InputError(
            str(path), f"it says that it is {width}x{height} px", "export it again; no camera's is so large"
        )


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
