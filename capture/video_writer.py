"""Writes H.264 video with an optional AAC track; the same pictures and samples give the same bytes."""

from __future__ import annotations

from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import numpy as np

from core.arrays import Float, UInt8
from core.errors import InputError
from core.files import atomic_path

_AAC_FRAME = 1024  # samples of one AAC frame


class VideoWriter:
    """Context manager that makes one mp4 file; the file appears, complete, when the block ends without an error.

    Args:
        path: file to make.
        size_px: width and height, both even as H.264 with 4:2:0 colour needs.
        rate: frames a second.
        crf: x264's constant quality, 0 (lossless) to 51.
        preset: x264's speed.
        time_base: unit of the times given to `write`; 1/rate if None, so that frame i has time i.
        audio: mono samples, -1 to 1, starting at container time 0.
        audio_rate: samples a second.

    Raises:
        InputError: if the size is odd.
    """

    def __init__(
        self,
        path: Path,
        size_px: tuple[int, int],
        rate: Fraction,
        *,
        crf: int = 20,
        preset: str = "veryfast",
        time_base: Fraction | None = None,
        audio: Float[np.ndarray, "samples"] | None = None,
        audio_rate: int = 48000,
    ) -> None:
        if size_px[0] % 2 or size_px[1] % 2:
            raise InputError(str(path), f"a picture of {size_px[0]}x{size_px[1]} px has an odd side", "use even sides")
        self._path, self._size_px, self._rate = path, size_px, rate
        self._time_base = 1 / rate if time_base is None else time_base
        # x264's macroblock tree (as built into PyAV 18) gives other bytes each time that it encodes the same frames
        self._options = {"crf": str(crf), "preset": preset, "x264-params": "mbtree=0"}
        self._audio = None if audio is None else np.asarray(audio, dtype=np.float32)
        self._audio_rate, self._audio_done = audio_rate, 0
        self._frames = 0
        self._stack = ExitStack()

    def __enter__(self) -> VideoWriter:
        with ExitStack() as stack:
            temporary = stack.enter_context(atomic_path(self._path))
            # bitexact: no encoder versions or dates in the file
            self._container = stack.enter_context(
                av.open(str(temporary), "w", format="mp4", options={"fflags": "+bitexact"})
            )
            self._video = self._container.add_stream("libx264", rate=self._rate, options=self._options)
            self._video.width, self._video.height = self._size_px
            self._video.pix_fmt = "yuv420p"
            self._video.codec_context.time_base = self._time_base
            # more threads would cut the picture otherwise from machine to machine
            self._video.codec_context.thread_count = 1
            if self._audio is not None:
                self._sound = self._container.add_stream("aac", rate=self._audio_rate, layout="mono")
                self._sound.codec_context.thread_count = 1
            self._stack = stack.pop_all()
        return self

    def write(self, image: UInt8[np.ndarray, "h w *channels"], pts: int | None = None) -> None:
        """Adds a frame.

        Args:
            image: (h, w) gray or (h, w, 3) BGR.
            pts: its time in units of `time_base`; the number of frames so far if None.
        """
        if image.shape[1::-1] != self._size_px:
            raise InputError(str(self._path), f"a frame of shape {image.shape} is not {self._size_px}", "resize it")
        frame = av.VideoFrame.from_ndarray(
            np.ascontiguousarray(image), format="gray" if image.ndim == 2 else "bgr24"
        ).reformat(format="yuv420p")
        frame.pts = self._frames if pts is None else pts
        frame.time_base = self._time_base
        self._frames += 1
        self._write_sound(until_s=float(frame.pts * self._time_base))
        self._container.mux(self._video.encode(frame))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None and not self._frames:
            error = InputError(str(self._path), "no frame was written to it", "write at least one")
            self._stack.__exit__(type(error), error, None)
            raise error
        if error is not None:
            self._stack.__exit__(kind, error, trace)
            return
        with self._stack:  # closes the container, then publishes the file
            self._write_sound(until_s=np.inf)
            self._container.mux(self._video.encode(None))
            if self._audio is not None:
                self._container.mux(self._sound.encode(None))

    def _write_sound(self, until_s: float) -> None:
        """Encodes the sound up to a time, so that the file interleaves the two tracks."""
        if self._audio is None:
            return
        while self._audio_done < len(self._audio) and self._audio_done < until_s * self._audio_rate:
            piece = self._audio[self._audio_done : self._audio_done + _AAC_FRAME]
            frame: Any = av.AudioFrame.from_ndarray(piece[None], format="fltp", layout="mono")
            frame.sample_rate, frame.pts = self._audio_rate, self._audio_done
            frame.time_base = Fraction(1, self._audio_rate)
            self._audio_done += len(piece)
            self._container.mux(self._sound.encode(frame))
