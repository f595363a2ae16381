"""Pictures for surfaces: an atlas that is sampled without aliasing, and procedural wood, plaster and paintings."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from core.arrays import Float, Int, UInt8

Picture = UInt8[np.ndarray, "_ _ 3"]  # pictures in one list differ in size
_WIDTH = 4096  # texels; OpenCV's remap takes at most 32767 a side
_LEVELS = 6
_PAD = 2  # texels around each picture, copies of its rim, so that interpolation never meets a neighbour
_ROW = 1024  # remap wants an image of coordinates, not a list


class Atlas:
    """Pictures and their half-size reductions (mip levels) in one image.

    Sampling at the level whose texel is about as large as a pixel's footprint filters each pixel over its area. The
    levels are box averages and keep the picture's outline, so edges stay where they are, without bias, at any level.
    """

    def __init__(self, pictures: Sequence[Picture]) -> None:
        levels = [[_reduced(picture, level) for picture in pictures] for level in range(_LEVELS)]
        tiles = [tile for level in levels for tile in level]
        corners, height = _pack([(tile.shape[1] + 2 * _PAD, tile.shape[0] + 2 * _PAD) for tile in tiles])
        self._num_pictures = len(pictures)
        self._image = np.zeros((height, _WIDTH, 3), np.uint8)
        for tile, (x, y) in zip(tiles, corners, strict=True):
            padded = cv2.copyMakeBorder(tile, _PAD, _PAD, _PAD, _PAD, cv2.BORDER_REPLICATE)
            self._image[y : y + padded.shape[0], x : x + padded.shape[1]] = padded
        # x and y apart, each contiguous for `take`
        self._scale = np.array([tile.shape[1::-1] for tile in tiles], np.float32).T.copy()
        self._offset = (np.array(corners, np.float32) + _PAD - 0.5).T.copy()

    def sample(
        self,
        picture_idx: Int[np.ndarray, "n"],
        xy: Float[np.ndarray, "n 2"],
        texels: Float[np.ndarray, "n"],
    ) -> UInt8[np.ndarray, "n 3"]:
        """Colours at places of pictures.

        Args:
            picture_idx: which picture.
            xy: place, 0 to 1 from the picture's left and top edge.
            texels: width of the pixel's footprint, in texels of the full picture.
        """
        n = len(xy)
        if n == 0:  # OpenCV refuses empty maps
            return np.zeros((0, 3), np.uint8)
        level = np.clip(np.rint(np.log2(np.maximum(texels, 1e-6))), 0, _LEVELS - 1).astype(np.int64)
        tile = level * self._num_pictures + picture_idx
        rows = -(-n // _ROW)
        places = []
        for axis in range(2):
            where = np.zeros(rows * _ROW, np.float32)
            where[:n] = np.clip(xy[:, axis], 0, 1) * np.take(self._scale[axis], tile)
            where[:n] += np.take(self._offset[axis], tile)
            places.append(where.reshape(rows, _ROW))
        colours = cv2.remap(self._image, places[0], places[1], cv2.INTER_LINEAR)
        return np.asarray(colours.reshape(-1, 3)[:n])


def _reduced(picture: np.ndarray, level: int) -> np.ndarray:
    height, width = picture.shape[:2]
    size = max(round(width / 2**level), 1), max(round(height / 2**level), 1)
    return picture if level == 0 else np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA))


def _pack(sizes: Sequence[tuple[int, int]]) -> tuple[list[tuple[int, int]], int]:
    """Places of rectangles on shelves of one width, tallest first; and the height used."""
    corners = [(0, 0)] * len(sizes)
    x = y = shelf = 0
    for i in sorted(range(len(sizes)), key=lambda i: (-sizes[i][1], i)):
        width, height = sizes[i]
        if x + width > _WIDTH:
            x, y, shelf = 0, y + shelf, 0
        corners[i] = (x, y)
        x, shelf = x + width, max(shelf, height)
    return corners, y + shelf


def plain(colour: tuple[int, int, int]) -> Picture:
    """One colour (BGR)."""
    return np.full((2, 2, 3), colour, np.uint8)


def cloudy(
    rng: np.random.Generator, size: tuple[int, int], colour: tuple[int, int, int], contrast: float, *, finest: int = 2
) -> Picture:
    """A colour under random shades of many sizes, as of plaster or carpet.

    Args:
        size: width and height in texels.
        colour: mean (BGR).
        contrast: standard deviation of the shades, gray levels.
        finest: size of the finest shade, texels.
    """
    width, height = size
    field = np.zeros((height, width))
    step = finest
    while step < min(size):
        grid = rng.standard_normal((height // step + 2, width // step + 2))
        field += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
        step *= 3
    field *= contrast / field.std()
    return np.clip(np.array(colour) + field[..., None], 0, 255).astype(np.uint8)


def wallpaper(
    rng: np.random.Generator, size: tuple[int, int], colour: tuple[int, int, int], contrast: float
) -> Picture:
    """Stripes with a printed flower that repeats: corners enough, but every one of them is there many times.

    Args:
        size: width and height in texels.
        colour: mean (BGR).
        contrast: standard deviation of the shades of the plaster beneath, gray levels; the print is four times that.
    """
    width, height = size
    tile = np.zeros((88, 66), np.float32)
    tile[:, 3:9] = 0.4
    petals = np.array([33, 30]) + 9 * np.stack([np.cos(a := np.arange(5) * 2 * np.pi / 5), np.sin(a)], axis=-1)
    for x, y in petals:
        cv2.circle(tile, (round(x), round(y)), 5, -1.0, -1, cv2.LINE_AA)
    cv2.ellipse(tile, (40, 62), (11, 4), 40.0, 0.0, 360.0, -0.7, -1, cv2.LINE_AA)
    printed = np.tile(tile, (-(-height // 88), -(-width // 66)))[:height, :width, None]
    paper = cloudy(rng, size, colour, contrast)
    return np.clip(paper + 4 * contrast * printed, 0, 255).astype(np.uint8)


def grille(size: tuple[int, int], colour: tuple[int, int, int], pitch: int) -> Picture:
    """A framed grille of slats along x, `pitch` texels apart."""
    width, height = size
    image = np.full((height, width, 3), colour, float)
    image[np.arange(height) % pitch < pitch // 2] *= 0.45
    frame = max(pitch // 2, 3)
    cv2.rectangle(image, (0, 0), (width - 1, height - 1), tuple(1.04 * c for c in colour), 2 * frame)
    return np.clip(image, 0, 255).astype(np.uint8)


def planks(rng: np.random.Generator, size: tuple[int, int], colour: tuple[int, int, int], plank: int) -> Picture:
    """Wooden boards along x, `plank` texels wide, each of its own shade, with grain."""
    width, height = size
    grain = cv2.resize(rng.standard_normal((height, width // 24 + 2)), (width, height), interpolation=cv2.INTER_CUBIC)
    rows = np.arange(height) // plank
    shade = 14 * rng.standard_normal((rows.max() + 1, 1))[rows]
    image = np.array(colour) + (shade + 7 * grain)[..., None]
    length = 7 * plank
    for row in range(rows.max() + 1):
        start = int(rng.integers(length))
        image[row * plank : (row + 1) * plank, start::length] *= 0.55
    image[::plank] *= 0.6
    return np.clip(image, 0, 255).astype(np.uint8)


def painting(rng: np.random.Generator, size: tuple[int, int]) -> Picture:
    """A framed abstract: coloured discs and bars, rich in corners."""
    width, height = size
    image = np.full((height, width, 3), rng.integers(120, 240, 3), np.uint8)
    for _ in range(22):
        colour = tuple(int(v) for v in rng.integers(20, 245, 3))
        x, y = int(rng.integers(width)), int(rng.integers(height))
        if rng.random() < 0.5:
            cv2.circle(image, (x, y), int(rng.integers(6, height // 4)), colour, -1, cv2.LINE_AA)
        else:
            w, h = int(rng.integers(10, width // 2)), int(rng.integers(8, height // 3))
            cv2.rectangle(image, (x, y), (x + w, y + h), colour, -1)
    frame = max(height // 25, 2)
    cv2.rectangle(image, (0, 0), (width - 1, height - 1), (32, 44, 60), 2 * frame)
    return image


def lit(picture: Picture, low: float, high: float) -> Picture:
    """The picture under light that changes from top (`high`) to bottom (`low`), factors of its brightness."""
    light = np.linspace(high, low, picture.shape[0])[:, None, None]
    return np.clip(picture * light, 0, 255).astype(np.uint8)
