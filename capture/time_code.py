"""QR time codes in pictures: reads them, and samples their modules so that codes mixed in one exposure can be told.

A code reads `MOTIFS-T=<milliseconds>`: the session time at which it first appeared; a fraction is allowed. What the
samples say of a clock is worked out in `capture.code_clock`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from core.arrays import Bool, Float, UInt8
from core.files import read_npz, write_npz

_PAYLOAD = re.compile(r"MOTIFS-T=(-?\d{1,12}(?:\.\d{1,6})?)")
_LONG_SIDE_PX = 1280  # larger pictures are halved: a code that fills a tablet stays readable
_FISHEYE_DEG = (130.0, 165.0, 100.0, 195.0)  # each reads codes of lenses some 20 degrees about it
_MISREAD_S = 0.5  # further than this from the other codes is a misread or a replayed code
_SIDE_SAMPLES = 3  # samples along a module's side, of which the middle one counts
_SIDES = (21, 25)  # modules along the codes' sides
_LEVELS = (0.5, 0.35, 0.65)  # of light, between black and white: where a code mixed with a weaker one can be cut out
_GAMMA = 2.2
_NEAR_S = 0.25  # a frame whose code was not found takes its place from one no further away


@dataclass(frozen=True, eq=False)
class CodeFrames:
    """Frames in which a time code was seen.

    Attributes:
        local_s: (frames,) their times, of row 0, seconds.
        edge_s: (frames, 2) by how much later the code's upper and lower edges were exposed (rolling shutter).
        code_s: (frames,) session time at which the code appeared; NaN where it was seen but not read.
        modules: (frames, side, side) gray levels of the code's modules.
    """

    local_s: Float[np.ndarray, "frames"]
    edge_s: Float[np.ndarray, "frames 2"]
    code_s: Float[np.ndarray, "frames"]
    modules: UInt8[np.ndarray, "frames side side"]

    def __len__(self) -> int:
        return len(self.local_s)

    @property
    def read(self) -> Bool[np.ndarray, "frames"]:
        """Frames whose code was read."""
        return np.isfinite(self.code_s)

    @property
    def middle_s(self) -> Float[np.ndarray, "frames"]:
        """Local times at which the code's middle was exposed."""
        return self.local_s + self.edge_s.mean(axis=1)

    def where(self, chosen: Bool[np.ndarray, "frames"]) -> CodeFrames:
        """Some of the frames."""
        return CodeFrames(self.local_s[chosen], self.edge_s[chosen], self.code_s[chosen], self.modules[chosen])

    def consistent(self) -> CodeFrames:
        """Without codes that lie far from what the others say."""
        if not self.read.any():
            return self
        difference = self.code_s - self.local_s
        return self.where(~(np.abs(difference - np.nanmedian(difference)) > _MISREAD_S))

    def save(self, path: Path) -> None:
        """Writes `<view>.codes.npz`."""
        names = ("local_s", "edge_s", "code_s", "modules")
        write_npz(path, {name: getattr(self, name) for name in names})

    @staticmethod
    def load(path: Path) -> CodeFrames:
        """Reads what `save` wrote."""
        data = read_npz(path)
        return CodeFrames(data["local_s"], data["edge_s"], data["code_s"], data["modules"])


@lru_cache(maxsize=1024)
def code_modules(text: str) -> Bool[np.ndarray, "side side"]:
    """White modules of a code, as OpenCV writes it, without its margin."""
    code = cv2.QRCodeEncoder.create().encode(text) > 127
    rows, columns = (np.flatnonzero(~code.all(axis=axis)) for axis in (1, 0))
    return np.asarray(code[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])


class CodeReader:
    """Reads QR codes from a view's pictures.

    No decoder follows the bent edges of a code before a wide lens, and the lens is not known yet: pictures of a fisheye
    are straightened with the ideal lens of a nominal field of view, trying several until one is found that reads.
    """

    def __init__(self, size_px: tuple[int, int], fisheye: bool) -> None:
        # the first finds codes in wide pictures, the second reads small ones that the first only finds
        self._detectors = (cv2.QRCodeDetectorAruco(), cv2.QRCodeDetector())
        self._scale = 1.0 / max(1, round(max(size_px) / _LONG_SIDE_PX))
        degrees = _FISHEYE_DEG if fisheye else (None,)
        self._maps = [_straightening(size_px, self._scale, field) for field in degrees]

    def read(self, image: UInt8[np.ndarray, "h w"]) -> tuple[str, np.ndarray | None]:
        """Text of the code, empty if none could be read, and its corners in the straight picture if it was seen."""
        for index, (x, y) in enumerate(self._maps):
            straight = self._straight(image, x, y)
            text, corners = _decoded(self._detectors[0], straight)
            if _PAYLOAD.fullmatch(text) and corners is not None:
                self._maps = [self._maps[index]]
                return text, corners.reshape(-1, 4, 2)[0].astype(np.float64)
            if corners is not None and len(corners):
                place = corners.reshape(-1, 4, 2)[0].astype(np.float64)
                text, better = self._read_around(straight, place)
                if _PAYLOAD.fullmatch(text):
                    self._maps = [self._maps[index]]
                    return text, better
                if text := self._unmixed(image, place, index):
                    self._maps = [self._maps[index]]
                if text or len(self._maps) == 1:
                    return text, place
        return "", None

    def _read_around(self, straight: np.ndarray, place: np.ndarray) -> tuple[str, np.ndarray]:
        """Text and corners by the second detector, near to where the first saw a code."""
        margin = 0.4 * np.ptp(place, axis=0).max()
        low = np.maximum(np.floor(place.min(axis=0) - margin), 0).astype(int)
        high = np.ceil(place.max(axis=0) + margin).astype(int)
        part = np.ascontiguousarray(straight[low[1] : high[1], low[0] : high[0]])
        if min(part.shape) < _SIDES[0]:
            return "", place
        text, corners = _decoded(self._detectors[1], part)
        return text, place if corners is None else corners.reshape(-1, 4, 2)[0].astype(np.float64) + low

    def _unmixed(self, image: np.ndarray, corners: np.ndarray, index: int) -> str:
        """The stronger of two codes that share an exposure: a black and white copy of the modules is read instead."""
        for side in _SIDES:
            light = (self._modules(image, corners, side, index) / 255.0) ** _GAMMA
            black, white = np.percentile(light, [2, 98])
            for level in _LEVELS:
                copy = 255 * (light > black + level * (white - black)).astype(np.uint8)
                large = np.kron(np.pad(copy, 4, constant_values=255), np.ones((4, 4), np.uint8))
                text, _ = _decoded(self._detectors[0], large)
                if _PAYLOAD.fullmatch(text) and len(code_modules(text)) == side:
                    return text
        return ""

    def sample(
        self, image: UInt8[np.ndarray, "h w"], corners: Float[np.ndarray, "4 2"], side: int
    ) -> UInt8[np.ndarray, "side side"]:
        """Gray levels of the modules of a code with these corners in the straight picture."""
        return self._modules(image, corners, side, 0)

    def _modules(self, image: np.ndarray, corners: np.ndarray, side: int, index: int) -> np.ndarray:
        n = _SIDE_SAMPLES * side
        square = np.array([[-0.5, -0.5], [n - 0.5, -0.5], [n - 0.5, n - 0.5], [-0.5, n - 0.5]], np.float32)
        to_square = cv2.getPerspectiveTransform(corners.astype(np.float32), square)
        fine = cv2.warpPerspective(self._straight(image, *self._maps[index]), to_square, (n, n))
        middle = _SIDE_SAMPLES // 2
        return np.asarray(fine[middle::_SIDE_SAMPLES, middle::_SIDE_SAMPLES])

    def rows(self, corners: Float[np.ndarray, "4 2"]) -> tuple[float, float]:
        """Rows of the true picture in which a code's upper and lower edges lie."""
        _, y = self._maps[0]
        places = np.stack([corners[:2].mean(axis=0), corners[2:].mean(axis=0)])
        column, row = np.clip(places.round().astype(int), 0, np.array(y.shape)[::-1] - 1).T
        upper, lower = y[row, column]
        return float(upper), float(lower)

    def _straight(self, image: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.asarray(cv2.remap(image, x, y, cv2.INTER_AREA if self._scale < 1 else cv2.INTER_LINEAR))


def _decoded(detector: Any, image: np.ndarray) -> tuple[str, np.ndarray | None]:
    """Text and corners of the code in a straight picture."""
    try:
        text, corners, _ = detector.detectAndDecode(image)
    except cv2.error:  # raised for some misread headers, "mode 10 not implemented"
        return "", None
    return str(text), corners


def _straightening(size_px: tuple[int, int], scale: float, field_deg: float | None) -> tuple[np.ndarray, np.ndarray]:
    """Maps for `cv2.remap`: to a smaller picture, of an ideal fisheye with a field of view to a pinhole's."""
    width, height = size_px
    small = (round(width * scale), round(height * scale))
    if field_deg is None:
        x, y = np.meshgrid(*((np.arange(n) + 0.5) / scale - 0.5 for n in small))
        return x.astype(np.float32), y.astype(np.float32)
    focal = width / np.deg2rad(field_deg)
    K = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    K_small = np.diag([scale, scale, 1.0]) @ K
    x, y = cv2.fisheye.initUndistortRectifyMap(K, np.zeros(4), np.eye(3), K_small, small, cv2.CV_32FC1)
    return np.asarray(x), np.asarray(y)


def read_time_codes(
    pictures: Iterable[tuple[int, UInt8[np.ndarray, "h w"]]],
    times_s: Float[np.ndarray, "all_frames"],
    *,
    row_time_s: float = 0.0,
    picture_from_px: tuple[float, float, float] = (1.0, 0.0, 0.0),
    fisheye: bool = False,
) -> CodeFrames:
    """Reads the codes in some pictures of one view.

    Args:
        pictures: (frame, picture) in order of time.
        times_s: local times of all the view's frames.
        row_time_s: readout time of a row of the view's pixel frame.
        picture_from_px: (scale, dx, dy) from that pixel frame to the pictures.
        fisheye: whether the pictures are a fisheye's.
    """
    reader: CodeReader | None = None
    scale, _, dy = picture_from_px
    waiting: list[tuple[int, np.ndarray, np.ndarray | None]] = []  # seen, but not read
    corners_of: dict[int, np.ndarray] = {}
    code_of: dict[int, float] = {}  # of the frames that were read: a place may not wander on from frames that were not
    samples: dict[int, np.ndarray] = {}
    side = 0
    for idx, image in pictures:
        reader = reader or CodeReader((image.shape[1], image.shape[0]), fisheye)
        text, corners = reader.read(image)
        if match := _PAYLOAD.fullmatch(text):
            side = side or len(code_modules(text))
            if corners is not None and len(code_modules(text)) == side:
                corners_of[idx], code_of[idx] = corners, float(match[1]) / 1000
                samples[idx] = reader.sample(image, corners, side)
        waiting += [] if idx in samples else [(idx, image, corners)]
        while waiting and (samples or times_s[idx] - times_s[waiting[0][0]] > _NEAR_S):
            if times_s[idx] - times_s[waiting[0][0]] <= _NEAR_S and idx not in samples:
                break  # a frame to come may tell where its code is
            late, picture, place = waiting.pop(0)
            near = min(code_of, key=lambda i: abs(times_s[i] - times_s[late]), default=None)
            if near is not None and abs(times_s[near] - times_s[late]) <= _NEAR_S:
                corners_of[late] = corners_of[near] if place is None else place
                samples[late] = reader.sample(picture, corners_of[late], side)
    order = sorted(samples)
    edges = [(np.array(reader.rows(corners_of[i])) - dy) / scale * row_time_s for i in order] if reader else []
    return CodeFrames(
        times_s[order].astype(float),
        np.array(edges, dtype=np.float64).reshape(-1, 2),
        np.array([code_of.get(i, np.nan) for i in order], dtype=np.float64),
        np.array([samples[i] for i in order], dtype=np.uint8).reshape(len(order), side, side),
    )
