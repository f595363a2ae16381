"""Folders of still pictures: photographs taken by hand and pictures of a lens board."""

from __future__ import annotations

import io
import struct
import warnings
from pathlib import Path
from typing import Literal

import numpy as np

from core.arrays import UInt8
from core.errors import InputError

_MAX_PIXELS = 250_000_000
_PNG = b"\x89PNG\r\n\x1a\n"
# up to here whatever a file says is believed; above, as many pixels a byte as no code packs tighter
_FREE_PIXELS, _MAX_PACKED = 32_000_000, 1100
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
    if content.startswith(_PNG) and not _is_whole_png(content):  # OpenCV takes memory on the word of a part's length
        raise InputError(str(path), "it cannot be decoded as a picture (cut off)", "copy it again, or remove it")
    pixels = width * height
    if pixels > _MAX_PIXELS or (pixels > _FREE_PIXELS and pixels > _MAX_PACKED * len(content)):
        raise InputError(
            str(path), f"it says that it is {width}x{height} px", "export it again; no camera's is so large"
        )


def _is_whole_png(content: bytes) -> bool:
    """Whether all parts of a PNG, as long as they say they are, lie in it."""
    place = len(_PNG)
    while place + 12 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, place)
        place += 12 + length
        if kind == b"IEND":
            return place <= len(content)
    return False


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
