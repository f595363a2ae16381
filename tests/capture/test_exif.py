from __future__ import annotations

import struct
from pathlib import Path

import pytest

from capture.exif import Exposure, read_exposure


def jpeg_with_exif(order: str, focal: tuple[int, int], zoom: tuple[int, int], model: bytes = b"Cam 9\0") -> bytes:
    """The head of a JPEG whose EXIF holds model, focal length and digital zoom."""

    def entry(tag: int, kind: int, num: int, value: int) -> bytes:
        return struct.pack(f"{order}HHII", tag, kind, num, value)

    first = 8
    second = first + 2 + 2 * 12 + 4
    text = second + 2 + 2 * 12 + 4
    numbers = text + len(model)
    tiff = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", first)
    tiff += struct.pack(f"{order}H", 2) + entry(0x0110, 2, len(model), text) + entry(0x8769, 4, 1, second)
    tiff += struct.pack(f"{order}I", 0)
    tiff += struct.pack(f"{order}H", 2) + entry(0x920A, 5, 1, numbers) + entry(0xA404, 5, 1, numbers + 8)
    tiff += struct.pack(f"{order}I", 0)
    tiff += model + struct.pack(f"{order}IIII", *focal, *zoom)
    return b"\xff\xd8\xff\xe1" + struct.pack(">H", len(tiff) + 8) + b"Exif\0\0" + tiff


@pytest.mark.parametrize("order", ["<", ">"])
def test_model_focal_length_and_zoom_are_read(tmp_path: Path, order: str) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg_with_exif(order, (686, 100), (0, 1)))
    assert read_exposure(path) == Exposure("Cam 9", 6.86, 1.0)
    path.write_bytes(jpeg_with_exif(order, (686, 100), (3, 2)))
    assert read_exposure(path).zoom_over(Exposure("Cam 9", 6.86)) == pytest.approx(1.5)


@pytest.mark.parametrize("content", [b"", b"\xff\xd8\xff\xe0 no exif", jpeg_with_exif("<", (1, 1), (1, 1))[:40]])
def test_pictures_that_say_nothing_say_nothing(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    assert read_exposure(path) == Exposure()
    assert Exposure().zoom_over(Exposure(focal_mm=4.0)) is None
