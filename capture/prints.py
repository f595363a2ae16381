"""Pictures of boards and markers, to print or to render."""

from __future__ import annotations

import numpy as np

from capture.targets import Target, aruco_dictionary, charuco_board
from core.arrays import UInt8
from core.errors import InputError

_MAX_SIDE_PX = 20_000


def target_image(target: Target, px_per_m: float, *, margin_m: float = 0.0) -> UInt8[np.ndarray, "h w"]:
    """The print of a planar target, gray.

    Without a margin the picture covers `size_m` exactly, pixel (-0.5, -0.5) being the frame's origin; the resolution is
    rounded so that a square (a marker's cell) takes a whole number of pixels.

    Args:
        target: board or marker.
        px_per_m: resolution.
        margin_m: white border on every side; a marker needs one of about a quarter of its size to be found.

    Raises:
        InputError: for a rig, or a picture too large to make.
    """
    if max(target.size_m) * px_per_m > _MAX_SIDE_PX:
        raise InputError(
            target.id, f"{px_per_m} px/m makes a picture of over {_MAX_SIDE_PX} px", "lower the resolution"
        )
    picture, actual_px_per_m = _draw(target, px_per_m)
    picture = 255 - picture if target.inverted else picture
    return np.pad(picture, round(margin_m * actual_px_per_m), constant_values=0 if target.inverted else 255)


def _draw(target: Target, px_per_m: float) -> tuple[np.ndarray, float]:
    """Black on white print, and its resolution."""
    import cv2

    if target.kind == "marker":
        dictionary = aruco_dictionary(target.dictionary)
        cells = dictionary.markerSize + 2
        side = cells * max(round(target.marker_m * px_per_m / cells), 1)
        return cv2.aruco.generateImageMarker(dictionary, target.first_marker, side), side / target.marker_m
    if target.kind == "aprilgrid":
        return _draw_tags(target, px_per_m)
    columns, rows = (n + 1 for n in target.corner_grid)
    square = max(round(target.square_m * px_per_m), 1)
    if target.kind == "charuco":
        square = max(square, 10)  # OpenCV cannot draw the markers in less
        return charuco_board(target).generateImage((columns * square, rows * square)), square / target.square_m
    parity = np.add.outer(np.arange(rows), np.arange(columns)) % 2
    return np.kron(parity, np.ones((square, square))).astype(np.uint8) * 255, square / target.square_m


def _draw_tags(target: Target, px_per_m: float) -> tuple[np.ndarray, float]:
    """An aprilgrid: tags upright as OpenCV draws them, a small black square at each corner of every tag."""
    import cv2

    dictionary = aruco_dictionary(target.dictionary)
    cell = max(round(target.marker_m * px_per_m / (dictionary.markerSize + 2)), 1)
    tag = cell * (dictionary.markerSize + 2)
    small = max(round(tag * (target.square_m / target.marker_m - 1)), 1)
    columns, rows = target.grid
    picture = np.full((rows * (tag + small) + small, columns * (tag + small) + small), 255, np.uint8)
    for row in range(rows + 1):
        for column in range(columns + 1):
            y, x = row * (tag + small), column * (tag + small)
            picture[y : y + small, x : x + small] = 0
            if row < rows and column < columns:
                number = target.first_marker + (rows - 1 - row) * columns + column
                marker = cv2.aruco.generateImageMarker(dictionary, number, tag)
                picture[y + small : y + small + tag, x + small : x + small + tag] = marker
    return picture, tag / target.marker_m
