"""QR time codes: a display shows the session time as a code, and every frame that shows one bounds its camera's clock.

A code reads `MOTIFS-T=<milliseconds>`: the session time at which it first appeared. It stays for one period of the
display, so a row exposed at local time l while code c is on display obeys `c <= offset + rate * l < c + period`. The
clock is the middle of what all frames together allow, and half of what they leave open is its uncertainty.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from scipy.optimize import linprog

from capture.video import VideoInfo, read_frames
from core.arrays import Float, UInt8

_PAYLOAD = re.compile(r"MOTIFS-T=(-?\d{1,12})")
_LONG_SIDE_PX = 1280  # larger pictures are halved: a code that fills a tablet stays readable
_FISHEYE_DEG = (130.0, 165.0, 100.0, 195.0)  # each reads codes of lenses some 20 degrees about it
_MISREAD_S = 0.5  # further than this from the other codes is a misread or a replayed code


@dataclass(frozen=True, eq=False)
class TimeCodes:
    """Codes read from the frames of one view.

    Attributes:
        local_s: local time at which the code's middle row was exposed, seconds.
        code_s: session time at which the code appeared, seconds.
    """

    local_s: Float[np.ndarray, "n"]
    code_s: Float[np.ndarray, "n"]

    def __len__(self) -> int:
        return len(self.local_s)

    def consistent(self) -> TimeCodes:
        """Without codes that lie far from what the others say."""
        if not len(self):
            return self
        difference = self.code_s - self.local_s
        keep = np.abs(difference - np.median(difference)) < _MISREAD_S
        return TimeCodes(self.local_s[keep], self.code_s[keep])


@dataclass(frozen=True)
class CodeClock:
    """What time codes say of a clock.

    Attributes:
        local_s: local time in the middle of the codes.
        session_s: session time there.
        session_sigma_s: its standard deviation.
        rate: session seconds for one local second.
        rate_sigma: its standard deviation.
        violation_s: by how much the worst frame contradicts the others; zero for true codes.
    """

    local_s: float
    session_s: float
    session_sigma_s: float
    rate: float
    rate_sigma: float
    violation_s: float


class CodeReader:
    """Reads QR codes from a view's pictures.

    No decoder follows the bent edges of a code before a wide lens, and the lens is not known yet: pictures of a fisheye
    are straightened as if the lens were ideal, for a few fields of view, and the one that works is kept.

    Args:
        size_px: width and height of the pictures.
        fisheye: whether the lens is one.
    """

    def __init__(self, size_px: tuple[int, int], fisheye: bool) -> None:
        self._detector = cv2.QRCodeDetectorAruco()
        self._scale = 1.0 / max(1, round(max(size_px) / _LONG_SIDE_PX))
        degrees = _FISHEYE_DEG if fisheye else (None,)
        self._maps = [_straightening(size_px, self._scale, field) for field in degrees]

    def read(self, image: UInt8[np.ndarray, "h w"]) -> tuple[str, float]:
        """Text of the code, empty if there is none, and the row of the picture in which it stands."""
        for index, (x, y) in enumerate(self._maps):
            straight = cv2.remap(image, x, y, cv2.INTER_AREA if self._scale < 1 else cv2.INTER_LINEAR)
            text, corners, _ = self._detector.detectAndDecode(straight)
            if text and corners is not None:
                self._maps = [self._maps[index]]
                column, row = np.clip(corners.reshape(-1, 2).mean(axis=0).round(), 0, np.array(x.shape)[::-1] - 1)
                return text, float(y[int(row), int(column)])
        return "", float("nan")


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


def read_time_codes(info: VideoInfo, until_s: float, row_time_s: float, *, fisheye: bool = False) -> TimeCodes:
    """Reads the codes in the first `until_s` seconds of a video."""
    times = info.pts_s
    frames = np.flatnonzero(times - times[0] <= until_s)
    reader = CodeReader(info.size_px, fisheye)
    found: list[tuple[float, float]] = []
    for idx, image in read_frames(info.path, frames.tolist(), info=info):
        text, row = reader.read(image)
        if match := _PAYLOAD.fullmatch(text):
            found.append((float(times[idx]) + row * row_time_s, int(match[1]) / 1000))
    table = np.array(found, dtype=np.float64).reshape(-1, 2)
    return TimeCodes(table[:, 0], table[:, 1])


def display_period_s(codes: Sequence[TimeCodes]) -> float:
    """Period of the display: the smallest step between any two codes seen by any view; NaN if fewer than two were."""
    seen = np.unique(np.concatenate([c.code_s for c in codes])) if codes else np.zeros(0)
    return float(np.diff(seen).min()) if len(seen) > 1 else float("nan")


def clock_from_codes(codes: TimeCodes, period_s: float, rate_prior_sigma: float) -> CodeClock:
    """The clock that a view's codes allow.

    Args:
        codes: at least one.
        period_s: how long a code stays on display.
        rate_prior_sigma: spread of the rates of recorders about 1; used where the codes span too little time.
    """
    middle = float((codes.local_s.min() + codes.local_s.max()) / 2)
    elapsed = codes.local_s - middle
    # unknowns: session time at the middle, rate error, common slack of all bounds
    bounds = [(None, None), (-5 * rate_prior_sigma, 5 * rate_prior_sigma), (0.0, None)]
    low, high = codes.code_s - elapsed, codes.code_s + period_s - elapsed
    ones = np.ones_like(elapsed)
    A = np.concatenate([np.stack([ones, elapsed, -ones], 1), np.stack([-ones, -elapsed, -ones], 1)])
    b = np.concatenate([high, -low])
    slack = float(linprog([0, 0, 1], A_ub=A, b_ub=b, bounds=bounds).x[2])
    bounds[2] = (slack + 1e-9, slack + 1e-9)
    session = [linprog([sign, 0, 0], A_ub=A, b_ub=b, bounds=bounds).x[0] for sign in (1, -1)]
    rate = [linprog([0, sign, 0], A_ub=A, b_ub=b, bounds=bounds).x[1] for sign in (1, -1)]
    rate_sigma = (rate[1] - rate[0]) / np.sqrt(12)
    free = rate_sigma > rate_prior_sigma  # the codes say less than what is known of recorders
    return CodeClock(
        local_s=middle,
        session_s=float(sum(session) / 2),
        session_sigma_s=float(max(session[1] - session[0], 1e-4) / np.sqrt(12)),
        rate=1.0 if free else 1.0 + float(sum(rate) / 2),
        rate_sigma=rate_prior_sigma if free else float(rate_sigma),
        violation_s=slack,
    )
