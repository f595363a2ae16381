"""Video and sound files through PyAV: what is really in them, frame by frame, with the times the container states.

Times are presentation times in seconds on the container's own clock, on which its pictures and its sound agree. Frame
`i` is the i-th in presentation order. Rotation written by phones is applied, so sizes are those a player shows.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
from av.error import FFmpegError

from capture.video_writer import VideoWriter
from core.arrays import Float, UInt8
from core.clock import frame_times
from core.errors import InputError
from core.files import require_file

__all__ = ["Color", "VideoInfo", "VideoWriter", "probe", "read_audio", "read_frames"]

Color = Literal["gray", "bgr"]
_SEEK_FRAMES = 12  # a keyframe no further ahead than this is reached sooner by decoding on than by seeking
# Containers of one file each. FFmpeg tells a format by what is in the file, whatever its name: playlists and scripts
# (concat, hls, dash, sdp, mlv and others) would make it open other files and addresses.
_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo,mxf,mxf_opatom,gxf,asf,flv,ogg,nut,ivf,dv,rm,wtv,"
    "cine,dhav,gif,apng,yuv4mpegpipe,mjpeg,mjpeg_2000,h264,hevc,m4v,av1,obu,vc1,dnxhd,wav,w64,flac,mp3,aac"
)
_OPTIONS = {"format_whitelist": _FORMATS, "protocol_whitelist": "file"}
_EIGHT_BIT_LUMA = frozenset({"gray", "yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p", "nv12"})


@dataclass(frozen=True, eq=False)
class VideoInfo:
    """What a video file holds.

    Attributes:
        path: the file.
        size_px: width and height as shown.
        rate: mean frames a second, as the container states it.
        pts: presentation time of every frame in units of `time_base`, increasing; None where the container has none.
        time_base: their unit, seconds.
        keyframes: positions in `pts` from which decoding can start.
        num_frames: number of frames.
        has_audio: whether there is a sound track.
        codec: name of the picture codec.
    """

    path: Path
    size_px: tuple[int, int]
    rate: Fraction
    pts: tuple[int, ...] | None
    time_base: Fraction
    keyframes: tuple[int, ...]
    num_frames: int
    has_audio: bool
    codec: str

    @cached_property
    def pts_s(self) -> Float[np.ndarray, "frames"]:
        """Presentation times, seconds; index over rate where the container states none."""
        if self.pts is None:
            return frame_times(self.num_frames, self.rate)
        return np.array(self.pts, dtype=np.float64) * self.time_base.numerator / self.time_base.denominator

    @property
    def duration_s(self) -> float:
        """From the first frame's time to the end of the last."""
        return float(self.pts_s[-1] - self.pts_s[0] + 1 / self.rate)


def probe(path: Path, *, decode: bool = False) -> VideoInfo:
    """Reads a video through, so that what it reports is there.

    Args:
        path: the file.
        decode: decode every frame as well (about 1 ms each), which also finds damaged pictures.

    Raises:
        InputError: if the file is missing, no video, empty, or ends before its declared end.
    """
    with _open(path) as container:
        stream = _video_stream(container, path)
        declared = int(stream.frames)
        stored = [packet for packet in container.demux(stream) if packet.size]
        # a cut without re-encoding keeps the frames before it in the file and marks them as not to be shown
        packets = [(packet.pts, packet.is_keyframe) for packet in stored if not packet.is_discard]
        if not packets:
            raise InputError(str(path), "it holds no frames", "record or export it again")
        if len(stored) < declared:
            raise InputError(
                str(path), f"it ends after {len(stored)} of {declared} frames", "copy it again; the file is truncated"
            )
        time_base = Fraction(stream.time_base or 1)
        rate = Fraction(stream.average_rate or stream.guessed_rate or 0)
        if stream.codec_context is None:
            raise InputError(str(path), "its pictures are coded in an unknown way", "export it again as H.264")
        has_audio, codec = bool(container.streams.audio), str(stream.codec_context.name)
    times = None if any(pts is None for pts, _ in packets) else sorted(packets)
    pts = None if times is None else tuple(p for p, _ in times)
    if pts is not None and len(set(pts)) != len(pts):
        raise InputError(str(path), "two frames have the same time", "export it again with a constant frame rate")
    if rate <= 0:
        raise InputError(str(path), "it states no frame rate", "export it again with a constant frame rate")
    keyframes = () if times is None else (0, *(i for i, (_, key) in enumerate(times) if key and i))
    size_px = _check_decoding(path, len(packets), decode)
    return VideoInfo(path, size_px, rate, pts, time_base, keyframes, len(packets), has_audio, codec)


def read_frames(
    path: Path, indices: Iterable[int] | None = None, *, color: Color = "gray", info: VideoInfo | None = None
) -> Iterator[tuple[int, UInt8[np.ndarray, "h w *channels"]]]:
    """Yields (index, image) of the asked frames in increasing order; images are (h, w) gray or (h, w, 3) BGR.

    Args:
        path: the file.
        indices: frames wanted, all if None; stretches between them are skipped from keyframe to keyframe.
        color: kind of image.
        info: what `probe` returned, to save reading the file through again.

    Raises:
        InputError: if a frame asked for does not exist or cannot be decoded.
    """
    info = probe(path) if info is None else info
    wanted = range(info.num_frames) if indices is None else sorted(set(indices))
    if not len(wanted):
        return
    if wanted[0] < 0 or wanted[-1] >= info.num_frames:
        outside = wanted[0] if wanted[0] < 0 else wanted[-1]
        raise InputError(str(path), f"frame {outside} of {info.num_frames} was asked for", "check the frame numbers")
    remaining = iter(wanted)
    next_idx: int | None = next(remaining)
    for idx, frame in _decode_towards(info, wanted):
        if idx == next_idx:
            yield idx, _image(frame, color)
            next_idx = next(remaining, None)
            if next_idx is None:
                return
    raise InputError(str(path), f"frame {next_idx} cannot be decoded", "copy or export the video again")


def read_audio(path: Path) -> tuple[Float[np.ndarray, "samples"], int, float]:
    """The first sound track, mixed to mono.

    Returns:
        samples (float32, -1 to 1; silence where the container has a gap), samples a second, and the time of the first
        sample on the container's clock. An encoder's priming samples are already removed as the container asks.

    Raises:
        InputError: if there is no sound or it cannot be decoded.
    """
    pieces: list[tuple[float, np.ndarray]] = []
    with _open(path) as container:
        if not container.streams.audio:
            raise InputError(str(path), "it has no sound", "choose another way to synchronise this view")
        stream = container.streams.audio[0]
        rate = int(stream.rate)
        resampler = av.AudioResampler(format="fltp", layout="mono", rate=rate)
        for frame in container.decode(stream):
            if frame.pts is None or not frame.samples:
                continue
            first_s = float(frame.pts * frame.time_base)
            pieces += [(first_s, mono.to_ndarray()[0]) for mono in resampler.resample(frame)]
    if not pieces:
        raise InputError(str(path), "its sound track is empty", "choose another way to synchronise this view")
    first_s = pieces[0][0]
    starts = [round((start - first_s) * rate) for start, _ in pieces]
    samples = np.zeros(max(s + len(piece) for s, (_, piece) in zip(starts, pieces, strict=True)), dtype=np.float32)
    for start, (_, piece) in zip(starts, pieces, strict=True):
        samples[start : start + len(piece)] = piece
    return samples, rate, first_s


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    """An input container; every FFmpeg error inside the block becomes an `InputError` that names the file."""
    require_file(path)
    if path.stat().st_size == 0:
        raise InputError(str(path), "the file is empty", "copy it again")
    try:
        # absolute, as the first part of `data:x` or `concat:a|b` would be taken for a protocol
        with av.open(str(path.absolute()), metadata_errors="replace", container_options=_OPTIONS) as container:
            yield container
    except FFmpegError as error:
        raise InputError(
            str(path), f"it cannot be read as a video ({error.strerror})", "copy it again; it is damaged or no video"
        ) from error


def _video_stream(container: Any, path: Path) -> Any:
    if not container.streams.video:
        raise InputError(str(path), "it holds no picture track", "give a video file")
    return container.streams.video[0]


def _check_decoding(path: Path, num_frames: int, decode_all: bool) -> tuple[int, int]:
    """Size of the pictures as shown; decodes the first, or all of them."""
    count, size_px = 0, (0, 0)
    with _open(path) as container:
        for frame in container.decode(_video_stream(container, path)):
            if frame.is_corrupt:
                raise InputError(str(path), f"frame {count} is damaged", "copy or export the video again")
            if not count:
                turned = frame.rotation % 180 != 0
                size_px = (frame.height, frame.width) if turned else (frame.width, frame.height)
                if not decode_all:
                    return size_px
            count += 1
    if count < num_frames:
        raise InputError(str(path), f"only {count} of its {num_frames} frames can be decoded", "copy it again")
    return size_px


def _decode_towards(info: VideoInfo, wanted: range | list[int]) -> Iterator[tuple[int, Any]]:
    """Decodes frames in order, jumping to a later keyframe whenever the next wanted frame lies beyond one."""
    with _open(info.path) as container:
        stream = _video_stream(container, info.path)
        if info.pts is None:
            yield from enumerate(container.decode(stream))
            return
        position = {pts: i for i, pts in enumerate(info.pts)}
        frames = container.decode(stream)
        current = -1  # last frame decoded
        for target in wanted:
            key = info.keyframes[max(bisect_right(info.keyframes, target) - 1, 0)] if info.keyframes else 0
            if key > current + _SEEK_FRAMES:
                container.seek(info.pts[key], stream=stream)
                frames = container.decode(stream)
            while current < target and (frame := next(frames, None)) is not None:
                if frame.pts in position:
                    current = position[frame.pts]
                    yield current, frame


def _image(frame: Any, color: Color) -> np.ndarray:
    """The picture as an array, turned as the container asks."""
    if color == "gray" and frame.format.name in _EIGHT_BIT_LUMA:
        plane = frame.planes[0]
        image = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width].copy()
    else:
        image = frame.to_ndarray(format="gray" if color == "gray" else "bgr24")
    return np.ascontiguousarray(np.rot90(image, frame.rotation // 90)) if frame.rotation else image
