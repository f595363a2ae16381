"""Files that were made to do harm: found by `benchmarks/fuzz.py`, kept so that they stay refused."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from capture.april_grid import read_kalibr_target
from capture.stills import read_still
from capture.video import probe
from core.errors import InputError
from core.files import read_npz
from dataset.importers.asf_amc import read_asf
from dataset.importers.foreign import read_npy
from fitting.unpickle import read_pickle_arrays


@contextmanager
def little_memory() -> Iterator[None]:
    """Fails where the block takes more than 100 MB at its peak, whatever this process took before."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = _peak_kib()
    yield
    assert _peak_kib() - before < 100_000


def _peak_kib() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


def png_of_size(width: int, height: int) -> bytes:
    """The beginning of a picture that says how large it is."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))


@pytest.mark.parametrize("size", [(11_000, 11_000), (60_000, 60_000)])
def test_a_picture_that_says_it_is_huge_takes_no_memory(size: tuple[int, int], tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png_of_size(*size))
    with little_memory(), pytest.raises(InputError, match=r"it says that it is|cannot be decoded"):
        read_still(tmp_path / "a.png")


def test_a_picture_whose_part_says_it_is_huge_takes_no_memory(tmp_path: Path) -> None:
    part = struct.pack(">I", 0x7FFFFFF0) + b"IDAT\0"
    (tmp_path / "a.png").write_bytes(png_of_size(8, 8) + part)
    with little_memory(), pytest.raises(InputError, match="cannot be decoded"):
        read_still(tmp_path / "a.png")


def test_a_pickle_that_numbers_a_part_beyond_all_memory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(b"\x80\x02}r\xff\xff\xff\x7f.")
    with little_memory(), pytest.raises(InputError, match="not a readable pickle"):
        read_pickle_arrays(tmp_path / "a.pkl")


def test_what_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_bytes(b"target_type: \x99")
    with pytest.raises(InputError, match="no text file"):
        read_kalibr_target(tmp_path / "b.yaml", "a", "static")


def test_a_section_without_lines_is_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "a.asf").write_text(":units\n:root\n")
    with pytest.raises(InputError, match=r":root lacks"):
        read_asf(tmp_path / "a.asf")


def test_a_header_that_is_no_python_is_refused(tmp_path: Path) -> None:
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (3L,"
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
    with pytest.raises(InputError, match=r"not a readable .npy"):
        read_npy(tmp_path / "a.npy")


def test_an_archive_of_an_unknown_version_is_refused(tmp_path: Path) -> None:
    import numpy as np

    path = tmp_path / "a.npz"
    np.savez(path, a=np.zeros(3))
    data = bytearray(path.read_bytes())
    place = data.index(b"PK\x01\x02") + 6  # version needed, in the directory
    data[place : place + 2] = struct.pack("<H", 255)
    path.write_bytes(bytes(data))
    with pytest.raises(InputError, match=r"not a readable .npz"):
        read_npz(path)


def test_a_video_whose_tags_are_no_text_is_read_or_refused(tmp_path: Path) -> None:
    from fractions import Fraction

    import numpy as np

    from capture.video import VideoWriter

    path = tmp_path / "a.mp4"
    with VideoWriter(path, (32, 24), Fraction(30)) as writer:
        writer.write(np.zeros((24, 32), np.uint8))
    data = path.read_bytes()
    place = data.index(b"VideoHandler")
    path.write_bytes(data[:place] + b"\xff\xfe" + data[place + 2 :])
    assert probe(path).num_frames == 1


def _filmed(path: Path, container: str, codec: str) -> Path:
    """Five pictures."""
    import av
    import numpy as np

    with av.open(str(path), "w", format=container) as output:
        stream = output.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 720, 576, "rgb8" if codec == "gif" else "yuv420p"
        for number in range(5):
            picture = np.full((576, 720, 3), 40 * number, np.uint8)
            output.mux(
                stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=stream.pix_fmt))
            )
        output.mux(stream.encode())
    return path


CONTAINERS = {
    "mp4": "mpeg4", "mov": "mpeg4", "matroska": "mpeg4", "webm": "libvpx", "avi": "mpeg4", "mpeg": "mpeg2video",
    "mpegts": "mpeg2video", "mxf": "mpeg2video", "gif": "gif", "flv": "flv", "asf": "mpeg4", "nut": "mpeg4",
}  # fmt: skip


@pytest.mark.parametrize("container", CONTAINERS)
def test_every_common_container_is_read(container: str, tmp_path: Path) -> None:
    assert probe(_filmed(tmp_path / "a.bin", container, CONTAINERS[container])).num_frames == 5


@pytest.mark.parametrize(
    "script",
    [
        "ffconcat version 1.0\nfile 'other.mkv'\n",
        "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n#EXTINF:1.0,\nother.ts\n#EXT-X-ENDLIST\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 26\n",
    ],
)
def test_a_video_that_is_a_script_opens_no_other_file(script: str, tmp_path: Path) -> None:
    _filmed(tmp_path / "other.mkv", "matroska", "mpeg4")
    _filmed(tmp_path / "other.ts", "mpegts", "mpeg2video")
    (tmp_path / "a.mp4").write_text(script)
    with pytest.raises(InputError, match="cannot be read as a video"):
        probe(tmp_path / "a.mp4")


def test_the_watch_on_memory_sees_what_is_taken() -> None:
    with pytest.raises(AssertionError), little_memory():
        bytearray(b"x" * 200_000_000)
