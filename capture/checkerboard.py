"""Checkerboards: found by either of OpenCV's two methods at two sizes of the picture, numbered one way, fitted anew.

The methods find different boards: `findChessboardCornersSB` the tilted, blurred and dim ones, the classic one those
with a narrow border. Whichever finds a board, its corners are then fitted to the picture itself (`capture.corner_fit`):
on rendered boards that leaves 0.01 px where the methods' own corners are off by 0.1 px.

A board with an odd and an even number of inner corners is numbered from the end where the squares in the corners are
black. All others look the same turned by half a turn, so that their numbering may start at either end; they serve for
lenses alone.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from capture.charuco import Points
from capture.corner_fit import fit_corners
from capture.targets import Target
from core.arrays import Float, UInt8

_SMALL_PX = 960  # long side of the reduced picture that is searched first
_EXTENT = 0.45  # squares along the edges to which a corner is fitted
_MAX_MOVE = 0.3  # squares that the fit may move a corner
_MIN_GOOD = 0.7  # share of the corners that must be corners for the lattice to be a board
_PART = (4, 3)  # least corners a side of a part of a board


def find_checkerboard(image: UInt8[np.ndarray, "h w"], target: Target, *, part: bool = False) -> Points:
    """Inner corners of a checkerboard: all but those that something covers, or none.

    Args:
        image: gray picture.
        target: the board.
        part: also take a board of which a part is in the picture. Its place on the board is unknown then, so the
            numbering starts at one end of the part: right for a lens, wrong for anything else.

    Returns:
        corner numbers, increasing; pixels; standard deviations.
    """
    columns, rows = target.grid
    for lattice in _lattices(image, target, part):
        height, width = lattice.shape[:2]
        if (height, width) == (rows, columns):
            lattice = _from_black_end(image, lattice)
        xy, axes = lattice.reshape(-1, 2), _axes(lattice)
        square_px = np.linalg.norm(axes, axis=-1).min(axis=-1)
        fit = fit_corners(
            image, xy, axes, shape="saddle", extent=_EXTENT, band=_EXTENT, max_move_px=_MAX_MOVE * square_px
        )
        if fit.good.mean() >= _MIN_GOOD:
            number = (np.arange(height)[:, None] * columns + np.arange(width)).ravel()
            return number[fit.good], fit.xy_px[fit.good], fit.sigma_px[fit.good]
    return np.zeros(0, np.int64), np.zeros((0, 2)), np.zeros(0)


def _lattices(image: np.ndarray, target: Target, part: bool) -> Iterator[Float[np.ndarray, "rows columns 2"]]:
    """What the methods find, the quickest first, as right-handed lattices that fit into the board's."""
    import cv2

    columns, rows = target.grid
    scale = min(1.0, _SMALL_PX / max(image.shape))
    small = image if scale == 1 else cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    half = cv2.resize(small, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    sizes = [(small, scale), (image, 1.0)][: 1 if scale == 1 else 2]
    adaptive = cv2.CALIB_CB_ADAPTIVE_THRESH | cv2.CALIB_CB_NORMALIZE_IMAGE
    exhaustive = cv2.CALIB_CB_EXHAUSTIVE | cv2.CALIB_CB_ACCURACY | cv2.CALIB_CB_NORMALIZE_IMAGE
    for picture, size in (*sizes, (half, scale / 2)):
        found, corners = cv2.findChessboardCorners(picture, target.grid, flags=adaptive | cv2.CALIB_CB_FAST_CHECK)
        if found:
            yield _right_handed(_unscaled(corners, size).reshape(rows, columns, 2))
        found, corners = cv2.findChessboardCornersSB(picture, target.grid, flags=exhaustive)
        if found:
            yield _right_handed(_unscaled(corners, size).reshape(rows, columns, 2))
    for size_of_part in _PART if part else ():
        grid = (min(size_of_part, columns), min(size_of_part, rows))
        found, corners, kinds = cv2.findChessboardCornersSBWithMeta(small, grid, exhaustive | cv2.CALIB_CB_LARGER)
        if not found:
            continue
        lattice = _unscaled(corners, scale).reshape(*kinds.shape, 2)
        if kinds.shape[0] > rows or kinds.shape[1] > columns:
            lattice = np.swapaxes(lattice, 0, 1)
        if lattice.shape[0] <= rows and lattice.shape[1] <= columns:
            yield _right_handed(lattice)


def _unscaled(corners: np.ndarray, scale: float) -> np.ndarray:
    """Pixels of the whole picture from those of a reduced one."""
    return (corners.reshape(-1, 2).astype(float) + 0.5) / scale - 0.5


def _right_handed(lattice: np.ndarray) -> np.ndarray:
    """The lattice with y turned clockwise from x, as on a print seen from its front."""
    axes = _axes(lattice).mean(axis=0)
    return lattice if np.linalg.det(axes) > 0 else lattice[:, ::-1]


def _axes(lattice: Float[np.ndarray, "rows columns 2"]) -> Float[np.ndarray, "n 2 2"]:
    """Pixels a square along the board's x and y at every corner."""
    return np.stack([np.gradient(lattice, axis=1), np.gradient(lattice, axis=0)], axis=-2).reshape(-1, 2, 2)


def _from_black_end(image: np.ndarray, lattice: np.ndarray) -> np.ndarray:
    """The lattice numbered so that the square right and below of its first corner is black, if either end allows it."""
    import cv2

    middle = (lattice[:-1, :-1] + lattice[1:, :-1] + lattice[:-1, 1:] + lattice[1:, 1:]) / 4
    at = middle.astype(np.float32)
    gray = cv2.remap(image, at[..., 0], at[..., 1], cv2.INTER_LINEAR).astype(float)
    odd = np.add.outer(np.arange(gray.shape[0]), np.arange(gray.shape[1])) % 2 == 1
    return lattice[::-1, ::-1] if gray[~odd].mean() > gray[odd].mean() else lattice
