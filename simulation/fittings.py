"""What ceilings and upper walls of real rooms carry: lamps, beams, a vent, an alarm, a hatch, a clock, a shelf.

A camera on a foot sees little else. They are few, as they are in rooms; the plaster between them is nearly bare.
"""

from __future__ import annotations

import cv2
import numpy as np

from simulation.cameras import ROOM_M
from simulation.render import Quads
from simulation.scenery import Scenery
from simulation.textures import Picture, cloudy, grille, painting, planks

_UNDER_M = 0.0015  # under the ceiling, above the boards that may hang from it
_BEAM_X_M, _BEAM_M = (-0.8, 0.8), (0.1, 0.04)  # between the places of the boards; width and depth
_SHELF_M = np.array([0.24, 1.1, 0.03])


def fittings(scenery: Scenery, rng: np.random.Generator) -> Quads:
    """All of them, as rectangles and boxes."""
    return Quads.concatenate([_ceiling(scenery, rng), _beams(scenery, rng), _clock(scenery), _shelf(scenery, rng)])


def _ceiling(scenery: Scenery, rng: np.random.Generator) -> Quads:
    """Lamps, a vent, an alarm and the hatch to the attic, flat on the ceiling."""
    things = [
        (_lamp(150), (-1.35, -0.55), 0.5),
        (_lamp(150), (1.35, 0.62), 0.5),
        (_lamp(60), (1.95, -1.45), 0.14),
        (_lamp(60), (-2.05, 1.5), 0.14),
        (grille((160, 90), (206, 210, 212), 12), (0.1, -1.45), 0.55),
        (_alarm(), (-0.25, 0.72), 0.13),
        (_hatch(rng), (-1.75, 0.75), 0.6),
    ]
    parts = []
    for picture, middle, width in things:
        height = width * picture.shape[0] / picture.shape[1]
        x, y = (np.array(middle) + rng.uniform(-0.1, 0.1, 2)).tolist()
        corner = (x - width / 2, y - height / 2, ROOM_M[2] - _UNDER_M)
        parts.append(scenery.rectangle(corner, (width, 0, 0), (0, height, 0), scenery.add(picture)))
    return Quads.concatenate(parts)


def _beams(scenery: Scenery, rng: np.random.Generator) -> Quads:
    """Wooden beams under the ceiling, along y."""
    width, depth = _BEAM_M
    middle = ROOM_M[2] - depth / 2
    parts = []
    for x in _BEAM_X_M:
        # a picture's right edge runs along y on the lower face: `box` would lay the grain across the beam
        wood = scenery.add(planks(rng, (int(ROOM_M[1] * 200), 40), (96, 128, 158), 40))
        corner = (x - width / 2, -ROOM_M[1] / 2, ROOM_M[2] - depth)
        parts.append(scenery.rectangle(corner, (0, ROOM_M[1], 0), (width, 0, 0), wood))
        parts.append(scenery.box((x, 0.0, middle + 0.001), (width, ROOM_M[1], depth - 0.002), wood))
    return Quads.concatenate(parts)


def _clock(scenery: Scenery) -> Quads:
    """A clock high on the wall at -y."""
    face = scenery.add(_clock_face())
    return scenery.rectangle((-0.55, 0.012 - ROOM_M[1] / 2, 2.35), (-0.3, 0, 0), (0, 0, -0.3), face)


def _shelf(scenery: Scenery, rng: np.random.Generator) -> Quads:
    """A board on the wall at -x with boxes and framed pictures leaning on it."""
    low = np.array([-ROOM_M[0] / 2, -0.4, 1.98])
    parts = [scenery.box(low + _SHELF_M / 2, _SHELF_M.tolist(), scenery.add(planks(rng, (240, 60), (58, 88, 132), 30)))]
    y = low[1] + 0.06
    while y < low[1] + _SHELF_M[1] - 0.16:
        size = np.array([rng.uniform(0.1, 0.2), rng.uniform(0.07, 0.15), rng.uniform(0.12, 0.34)])
        colour = tuple(int(v) for v in rng.integers(60, 220, 3))
        side = scenery.add(cloudy(rng, (60, 60), (colour[0], colour[1], colour[2]), 6.0))
        middle = np.array([low[0] + 0.02 + size[0] / 2, y + size[1] / 2, low[2] + _SHELF_M[2] + size[2] / 2])
        parts.append(scenery.box(middle, size.tolist(), side))
        label = scenery.add(painting(rng, (40, 60)))
        front = (low[0] + 0.022 + size[0], y + 0.01, middle[2] + 0.4 * size[2])
        parts.append(scenery.rectangle(front, (0, size[1] - 0.02, 0), (0, 0, -0.6 * size[2]), label))
        y += size[1] + rng.uniform(0.01, 0.06)
    return Quads.concatenate(parts)


def _lamp(size: int) -> Picture:
    """A round lamp of milk glass in a metal ring, on the ceiling's white."""
    image = np.full((size, size, 3), (226, 228, 230), np.uint8)
    middle = (size // 2, size // 2)
    for share, colour in (
        (0.49, (120, 126, 132)),
        (0.45, (250, 252, 254)),
        (0.16, (196, 206, 214)),
        (0.05, (90, 92, 96)),
    ):
        cv2.circle(image, middle, int(share * size), colour, -1, cv2.LINE_AA)
    return image


def _alarm() -> Picture:
    """A smoke alarm: a ring of slots and a red light."""
    size = 90
    image = np.full((size, size, 3), (228, 230, 232), np.uint8)
    cv2.circle(image, (45, 45), 44, (206, 208, 210), -1, cv2.LINE_AA)
    for angle in range(0, 360, 30):
        cv2.ellipse(image, (45, 45), (34, 34), angle, 0, 18, (70, 72, 74), 6, cv2.LINE_AA)
    cv2.circle(image, (58, 52), 5, (40, 40, 220), -1, cv2.LINE_AA)
    return image


def _hatch(rng: np.random.Generator) -> Picture:
    """A wooden hatch with a frame and a ring to pull."""
    image = planks(rng, (150, 120), (150, 176, 196), 30)
    cv2.rectangle(image, (0, 0), (149, 119), (110, 130, 146), 8)
    cv2.circle(image, (118, 60), 8, (50, 54, 60), 3, cv2.LINE_AA)
    return image


def _clock_face() -> Picture:
    """Ten past nine."""
    image = np.full((150, 150, 3), (186, 188, 172), np.uint8)
    cv2.circle(image, (75, 75), 72, (40, 36, 34), -1, cv2.LINE_AA)
    cv2.circle(image, (75, 75), 64, (236, 240, 242), -1, cv2.LINE_AA)
    hours = np.arange(12) * np.pi / 6
    for number, (x, y) in enumerate(75 + 52 * np.stack([np.sin(hours), -np.cos(hours)], axis=-1)):
        cv2.circle(image, (round(x), round(y)), 6 if number % 3 == 0 else 3, (30, 30, 34), -1, cv2.LINE_AA)
    cv2.line(image, (75, 75), (43, 67), (30, 30, 34), 6, cv2.LINE_AA)
    cv2.line(image, (75, 75), (112, 53), (30, 30, 34), 4, cv2.LINE_AA)
    return image
