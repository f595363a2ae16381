"""QR time codes: a display shows the session time as a code, and every frame that shows one bounds its camera's clock.

A code reads `MOTIFS-T=<milliseconds>`: the session time at which it first appeared. It stays for one period of the
display, so a row exposed at local time l while code c is on display obeys `c <= offset + rate * l < c + period`. The
clock is the middle of what all frames together allow, and half of what they leave open is its uncertainty.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from scipy.optimize import linprog

from capture.video import VideoInfo, read_frames
from core.arrays import Float

_PAYLOAD = re.compile(r"MOTIFS-T=(-?\d{1,12})")
_LONG_SIDE_PX = 1280  # larger pictures are halved: a code that fills a tablet stays readable
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


def read_time_codes(info: VideoInfo, until_s: float, row_time_s: float) -> TimeCodes:
    """Reads the codes in the first `until_s` seconds of a video."""
    times = info.pts_s
    frames = np.flatnonzero(times - times[0] <= until_s)
    detector = cv2.QRCodeDetector()
    found: list[tuple[float, float]] = []
    for idx, image in read_frames(info.path, frames.tolist(), info=info):
        scale = max(1, round(max(image.shape) / _LONG_SIDE_PX))
        small = (
            cv2.resize(image, None, fx=1 / scale, fy=1 / scale, interpolation=cv2.INTER_AREA) if scale > 1 else image
        )
        text, corners, _ = detector.detectAndDecode(small)
        match = _PAYLOAD.fullmatch(text or "")
        if match and corners is not None:
            row = scale * float(corners.reshape(-1, 2)[:, 1].mean())
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


def codes_of_video(path: Path, info: VideoInfo, until_s: float, row_time_s: float) -> dict[str, list[float]]:
    """`read_time_codes` as plain lists, the form in which the stage records them."""
    codes = read_time_codes(info, until_s, row_time_s).consistent()
    return {"local_s": codes.local_s.tolist(), "code_s": codes.code_s.tolist()}
