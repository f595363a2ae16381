"""From rays to a finished picture: one moving thing drawn over a still scene, pixels averaged, sensor noise added."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from core.arrays import UInt8
from simulation.render import Layer, Window


class Canvas:
    """A scene that stays as it is while something moves before it.

    Args:
        still: what the samples of the whole picture see.
        per_side: samples along a pixel's side.
    """

    def __init__(self, still: Layer, per_side: int) -> None:
        self._still, self._per_side = still, per_side
        self.picture = develop(still.colour, per_side)

    def with_thing(self, look: Callable[[Window], Layer], window: Window | None) -> UInt8[np.ndarray, "h w 3"]:
        """The picture with a thing drawn wherever it is nearer than the scene; only its window is cast again."""
        if window is None:
            return self.picture
        colour, _ = self._merged(look(window), window)
        left, top, right, bottom = window
        picture = self.picture.copy()
        picture[top:bottom, left:right] = develop(colour, self._per_side)
        return picture

    def and_thing(self, look: Callable[[Window], Layer], window: Window | None) -> Canvas:
        """The scene with a thing that is to stay in it."""
        layer = Layer(self._still.colour.copy(), self._still.distance_m.copy())
        if window is not None:
            cut = self._samples_of(window)
            layer.colour[cut], layer.distance_m[cut] = self._merged(look(window), window)
        return Canvas(layer, self._per_side)

    def developed(self) -> Canvas:
        """The scene at one sample a pixel, its averaged colours kept: things drawn on it cost a quarter or less."""
        skip = slice(None, None, self._per_side)
        return Canvas(Layer(self.picture, self._still.distance_m[skip, skip]), 1)

    def _merged(self, thing: Layer, window: Window) -> tuple[np.ndarray, np.ndarray]:
        cut = self._samples_of(window)
        colour, distance_m = self._still.colour[cut].copy(), self._still.distance_m[cut].copy()
        nearer = thing.distance_m < distance_m
        np.copyto(colour, thing.colour, where=nearer[..., None])
        np.copyto(distance_m, thing.distance_m, where=nearer)
        return colour, distance_m

    def _samples_of(self, window: Window) -> tuple[slice, slice]:
        left, top, right, bottom = (n * self._per_side for n in window)
        return slice(top, bottom), slice(left, right)


def develop(colour: UInt8[np.ndarray, "hs ws 3"], per_side: int) -> UInt8[np.ndarray, "h w 3"]:
    """Averages the samples of each pixel."""
    if per_side == 1:
        return colour
    height, width = colour.shape[0] // per_side, colour.shape[1] // per_side
    return np.asarray(cv2.resize(colour, (width, height), interpolation=cv2.INTER_AREA))


class Grain:
    """Sensor noise: one random field a view, shifted to a random place in each frame.

    Args:
        rng: fixes the field.
        size_px: picture size.
        sigma: standard deviation, gray levels.
    """

    _SPARE = 61

    def __init__(self, rng: np.random.Generator, size_px: tuple[int, int], sigma: float) -> None:
        shape = (size_px[1] + self._SPARE, size_px[0] + self._SPARE, 3)
        field = np.rint(sigma * rng.standard_normal(shape, dtype=np.float32))
        self._more = np.clip(field, 0, 255).astype(np.uint8)
        self._less = np.clip(-field, 0, 255).astype(np.uint8)
        self._seed = int(rng.integers(2**31))

    def on(self, image: UInt8[np.ndarray, "h w 3"], frame_idx: int) -> UInt8[np.ndarray, "h w 3"]:
        """The picture with the noise of a frame."""
        y, x = np.random.default_rng([self._seed, frame_idx]).integers(self._SPARE, size=2)
        cut = slice(y, y + image.shape[0]), slice(x, x + image.shape[1])
        return np.asarray(cv2.subtract(cv2.add(image, self._more[cut]), self._less[cut]))
