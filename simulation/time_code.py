"""Time codes: tablets before the cameras that all show one clock as QR codes.

A code says the session time, in milliseconds, at which it first appeared: `MOTIFS-T=1480`. A display changes at its own
rate, whatever the camera's: a frame's exposure may see two or three codes, mixed in proportion to their times in it
(in linear light), and the rows of a rolling shutter see other mixtures than the first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from core.arrays import Float, UInt8
from simulation.render import Quads
from simulation.scenery import Scenery
from simulation.textures import plain

_QUIET_MODULES = 3  # white around the code, without which no reader finds it
_PX_PER_MODULE = 8
_DARK, _BRIGHT = 12, 240
_GAMMA = 2.2  # of the camera: gray levels are linear light to the power of 1 / gamma


@dataclass(frozen=True)
class Display:
    """A display of time codes, and the exposure with which a camera sees it.

    Attributes:
        rate_hz: codes a second.
        first_s: session time at which a code appeared, any one of them.
        exposure_s: how long a row is exposed, centred on its time; 0 for an instant.
        microseconds: whether codes are written as the page of `motifs prepare` does it, with three decimals.
    """

    rate_hz: float = 50.0
    first_s: float = 0.0
    exposure_s: float = 0.008
    microseconds: bool = False

    def says(self, index: int) -> str:
        """What the code with a number says, in milliseconds."""
        appeared_ms = 1000 * (self.first_s + index / self.rate_hz)
        return f"{appeared_ms:.3f}" if self.microseconds else f"{appeared_ms:.1f}".removesuffix(".0")

    def mixture(self, t_s: Float[np.ndarray, "n"]) -> tuple[int, Float[np.ndarray, "codes n"]]:
        """Number of the first code that any of the exposures sees, and the share of each in each of them."""
        half = max(self.exposure_s / 2, 1e-10)
        low, high = ((t_s + sign * half - self.first_s) * self.rate_hz + 1e-7 for sign in (-1, 1))
        index = np.arange(int(np.floor(low.min())), int(np.floor(high.max())) + 1)[:, None]
        seen = np.clip(np.minimum(high, index + 1) - np.maximum(low, index), 0, None)
        return int(index[0, 0]), seen / seen.sum(axis=0)


@lru_cache(maxsize=512)
def code_picture(milliseconds: str) -> UInt8[np.ndarray, "h w"]:
    """The display's picture, black and white, with its quiet zone."""
    code = cv2.QRCodeEncoder.create().encode(f"MOTIFS-T={milliseconds}")
    rows, columns = (np.flatnonzero(np.any(code == 0, axis=axis)) for axis in (1, 0))
    code = code[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]  # its own margin differs by version
    code = np.pad(code, _QUIET_MODULES, constant_values=255)
    return np.kron(code, np.ones((_PX_PER_MODULE, _PX_PER_MODULE), np.uint8))


def seen_display(display: Display, t_s: float, span_s: float = 0.0) -> UInt8[np.ndarray, "h w"]:
    """The display as one exposure sees it.

    Args:
        display: what it shows.
        t_s: exposure of its middle row.
        span_s: by how much later its lower edge is exposed than its upper one.
    """
    height = len(code_picture(display.says(0)))
    first, share = display.mixture(t_s + span_s * ((np.arange(height) + 0.5) / height - 0.5))
    codes = [code_picture(display.says(first + k)) for k in range(len(share))]
    if len({code.shape for code in codes}) > 1:  # a longer text needs a larger code: the one seen longest is taken
        codes = [codes[int(share.sum(axis=1).argmax())]] * len(codes)
        height = len(codes[0])
        share = np.full((len(codes), height), 1 / len(codes))
    light = sum(weight[:, None] * (code / 255.0) for weight, code in zip(share, codes, strict=True))
    levels = np.array([_DARK, _BRIGHT]) ** _GAMMA
    return np.asarray((levels[0] + light * (levels[1] - levels[0])) ** (1 / _GAMMA)).round().astype(np.uint8)


def tablets(
    times_s: Float[np.ndarray, "n"], distance_m: float, side_m: float, display: Display, span_s: float = 0.0
) -> tuple[Scenery, tuple[Quads, ...]]:
    """Tablets held upright and square to a camera.

    Args:
        times_s: exposures of the middle of the display.
        distance_m: from the camera to the display.
        side_m: of the display.
        display: what it shows.
        span_s: by how much later its lower edge is exposed than its upper one.

    Returns:
        The pictures, and for each exposure a tablet in the camera's frame.
    """
    scenery = Scenery()
    bezel = scenery.add(plain((34, 32, 30)))
    wide, half = 1.14 * side_m, side_m / 2
    frame = scenery.rectangle((-wide / 2, -wide / 2, distance_m + 0.004), (wide, 0, 0), (0, wide, 0), bezel)
    known: dict[bytes, int] = {}

    def picture_of(t_s: float) -> int:
        seen = np.asarray(cv2.merge([seen_display(display, t_s, span_s)] * 3))
        if (key := seen.tobytes()) not in known:
            known[key] = scenery.add(seen)
        return known[key]

    shown = [
        scenery.rectangle((-half, -half, distance_m), (side_m, 0, 0), (0, side_m, 0), picture_of(float(t)), glows=True)
        for t in times_s
    ]
    return scenery, tuple(Quads.concatenate([frame, tablet]) for tablet in shown)


def film_display(
    rng: np.random.Generator,
    display: Display,
    times_s: Float[np.ndarray, "frames"],
    *,
    size_px: int = 220,
    side_px: int = 130,
    row_time_s: float = 0.0,
    noise: float = 3.0,
) -> Iterator[UInt8[np.ndarray, "h w"]]:
    """A small square video of a display alone, held a little askew: for tests and benchmarks that need many.

    Args:
        rng: tilt and noise.
        display: what it shows.
        times_s: exposures of the pictures' first rows, session clock.
        size_px: side of the pictures.
        side_px: side of the display in them.
        row_time_s: rolling shutter.
        noise: standard deviation, gray levels.
    """
    turn, place = rng.uniform(-0.1, 0.1), (size_px - 1) / 2 + rng.uniform(-1, 1, 2)
    axes = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    corners = side_px * np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]]) @ axes.T + place
    for t_s in times_s:
        seen = seen_display(display, float(t_s) + row_time_s * place[1], row_time_s * side_px)
        n = len(seen) - 0.5
        own = np.array([[-0.5, -0.5], [n, -0.5], [n, n], [-0.5, n]], np.float32)
        to_picture = cv2.getPerspectiveTransform(own, corners.astype(np.float32))
        soft = cv2.GaussianBlur(seen, (0, 0), 1.0)
        picture = cv2.warpPerspective(soft, to_picture, (size_px, size_px), borderValue=40.0)
        yield np.clip(picture + noise * rng.standard_normal(picture.shape), 0, 255).astype(np.uint8)
