"""What a camera wrote into its pictures: model, focal length and digital zoom (EXIF 2.3, JPEG and TIFF)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

_HEAD_BYTES = 1 << 17  # EXIF stands in the first segments of a JPEG
_EXIF_IFD, _MODEL, _FOCAL, _ZOOM = 0x8769, 0x0110, 0x920A, 0xA404
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1}  # bytes of a value by type


@dataclass(frozen=True)
class Exposure:
    """How a picture was taken, as far as it says.

    Attributes:
        model: of the camera.
        focal_mm: focal length.
        digital_zoom: enlargement of the picture's middle, 1 for none.
    """

    model: str | None = None
    focal_mm: float | None = None
    digital_zoom: float = 1.0

    def zoom_over(self, other: Exposure) -> float | None:
        """Focal length in pixels over that of another picture of the same size; None where one does not say."""
        if self.focal_mm is None or other.focal_mm is None:
            return None
        return self.focal_mm * self.digital_zoom / (other.focal_mm * other.digital_zoom)


def read_exposure(path: Path) -> Exposure:
    """What a picture says; nothing where it has no EXIF or a damaged one."""
    with path.open("rb") as stream:
        head = stream.read(_HEAD_BYTES)
    start = head.find(b"Exif\0\0")
    tiff = head[start + 6 :] if start >= 0 else head
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        return Exposure()
    try:
        (first,) = struct.unpack_from(f"{order}I", tiff, 4)
        tags = _directory(tiff, order, first)
        if isinstance(place := tags.get(_EXIF_IFD), int):
            tags |= _directory(tiff, order, place)
    except struct.error:
        return Exposure()
    model, focal, zoom = tags.get(_MODEL), tags.get(_FOCAL), tags.get(_ZOOM)
    return Exposure(
        model if isinstance(model, str) else None,
        float(focal) if isinstance(focal, (int, float)) and focal > 0 else None,
        float(zoom) if isinstance(zoom, (int, float)) and zoom > 0 else 1.0,  # 0 says that there was none
    )


def _directory(tiff: bytes, order: str, offset: int) -> dict[int, str | int | float]:
    """Tags of one image file directory; numbers of which there is one, and texts."""
    tags: dict[int, str | int | float] = {}
    (count,) = struct.unpack_from(f"{order}H", tiff, offset)
    for k in range(count):
        entry = offset + 2 + 12 * k
        tag, kind, num = struct.unpack_from(f"{order}HHI", tiff, entry)
        size = _SIZES.get(kind, 0) * num
        at = entry + 8 if size <= 4 else struct.unpack_from(f"{order}I", tiff, entry + 8)[0]
        if kind == 2:
            tags[tag] = tiff[at : at + num].split(b"\0")[0].decode("ascii", "replace").strip()
        elif kind in (3, 4) and num == 1:
            (tags[tag],) = struct.unpack_from(f"{order}{'H' if kind == 3 else 'I'}", tiff, at)
        elif kind == 5 and num == 1:
            over, under = struct.unpack_from(f"{order}II", tiff, at)
            tags[tag] = over / under if under else 0.0
    return tags
