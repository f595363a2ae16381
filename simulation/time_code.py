"""Time codes: tablets before the cameras that all show one clock as QR codes.

A code says the session time, in whole milliseconds, at which it first appeared: `MOTIFS-T=1480`. The displays change
together 50 times a second, a whole number of milliseconds, so that a code is exact.
"""

from __future__ import annotations

import cv2
import numpy as np

from core.arrays import Float
from simulation.render import Quads
from simulation.scenery import Scenery
from simulation.textures import Picture, plain

PERIOD_MS = 20
_QUIET_MODULES = 3  # white around the code, without which no reader finds it
_PX_PER_MODULE = 8


def shown_ms(t_s: float) -> int:
    """Session time (ms) at which the code that is on display at `t_s` appeared."""
    return int(np.floor(round(t_s * 1000, 6) / PERIOD_MS)) * PERIOD_MS


def code_picture(appeared_ms: int) -> Picture:
    """The display's picture."""
    code = cv2.QRCodeEncoder.create().encode(f"MOTIFS-T={appeared_ms}")
    rows, columns = (np.flatnonzero(np.any(code == 0, axis=axis)) for axis in (1, 0))
    code = code[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]  # its own margin differs by version
    code = np.pad(code, _QUIET_MODULES, constant_values=255)
    large = np.kron(code, np.ones((_PX_PER_MODULE, _PX_PER_MODULE), np.uint8))
    return np.asarray(cv2.merge([np.clip(large, 12, 240)] * 3))


def tablets(times_s: Float[np.ndarray, "n"], distance_m: float, side_m: float) -> tuple[Scenery, tuple[Quads, ...]]:
    """Tablets held upright and square to a camera.

    Args:
        times_s: exposures.
        distance_m: from the camera to the display.
        side_m: of the display.

    Returns:
        The pictures, and for each exposure a tablet in the camera's frame.
    """
    scenery = Scenery()
    bezel = scenery.add(plain((34, 32, 30)))
    codes = {ms: scenery.add(code_picture(ms)) for ms in sorted({shown_ms(float(t)) for t in times_s})}
    wide, half = 1.14 * side_m, side_m / 2
    frame = scenery.rectangle((-wide / 2, -wide / 2, distance_m + 0.004), (wide, 0, 0), (0, wide, 0), bezel)
    shown = [
        scenery.rectangle((-half, -half, distance_m), (side_m, 0, 0), (0, side_m, 0), codes[ms], glows=True)
        for ms in (shown_ms(float(t)) for t in times_s)
    ]
    return scenery, tuple(Quads.concatenate([frame, display]) for display in shown)
