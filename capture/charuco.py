"""Sub-pixel corners of ArUco markers and of the chessboards around them.

A board's corners are predicted from each marker next to them by that marker's own homography, which stays valid under
the strong distortion of a fisheye where one homography for the whole board does not, and then fitted to the picture
(`capture.corner_fit`). Markers that contradict their neighbours on the board were misread, or the board is another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from capture.corner_fit import fit_corners
from capture.targets import Target, aruco_dictionary, charuco_board
from core.arrays import Float, Int, UInt8

Points: TypeAlias = tuple[Int[np.ndarray, "n"], Float[np.ndarray, "n 2"], Float[np.ndarray, "n"]]

_MAX_DISAGREEMENT = 0.2  # squares; two markers that predict one corner further apart are not on one plane
_MAX_MOVE = 0.25  # squares (or a marker's cells) that the fit may move a prediction
_EXTENT = 0.45  # squares along the edges to which a corner is fitted: the next corner's blur stays out
_SADDLE_SQUARES = 0.11  # where to look for black and white along the diagonals: within a marker's white margin
_MARKER_EXTENT, _MARKER_BAND = 2.5, 0.85  # cells of a marker: its border is one wide, and so is its quiet zone
_NEAR_SQUARES = 2.5  # markers this near on a board must agree
_MAX_ODDS = 0.1  # share of misread markers above which the board is another than declared
_DETECTED_SIGMA_PX = 1.0  # of a marker's corner as the detector gives it, where no fit succeeds
_MAX_ROUGHNESS = 0.35  # difference of opposite squares over that of neighbours; at most 0.3 within 0.5 px of a corner
_MIN_CONTRAST = 12.0  # gray levels between black and white squares


@dataclass(frozen=True, eq=False)
class MarkerSet:
    """Markers found in one picture.

    Attributes:
        ids: their numbers.
        corners_px: corners clockwise from the top left of the print.
    """

    ids: Int[np.ndarray, "m"]
    corners_px: Float[np.ndarray, "m 4 2"]

    def of(self, marker_ids: Sequence[int]) -> MarkerSet:
        """Those of one target, numbered from its first; a number seen twice is nobody's."""
        count = Counter(self.ids.tolist())
        place = {marker: i for i, marker in enumerate(marker_ids)}
        keep = np.array([i in place and count[i] == 1 for i in self.ids.tolist()], dtype=bool)
        return MarkerSet(np.array([place[i] for i in self.ids[keep].tolist()], dtype=np.int64), self.corners_px[keep])


@dataclass(frozen=True, eq=False)
class Grid:
    """A charuco board as plain arrays.

    Attributes:
        marker_xy: corners of each marker on the board, in squares.
        near_corner: the four chessboard corners at the corners of each marker's square; -1 outside the board.
        corner_xy: chessboard corners on the board, in squares.
        margin: white between a marker and its square's edge, in squares; the refinement looks no further.
    """

    marker_xy: Float[np.ndarray, "markers 4 2"]
    near_corner: Int[np.ndarray, "markers 4"]
    corner_xy: Float[np.ndarray, "corners 2"]
    margin: float

    @staticmethod
    def of(target: Target) -> Grid:
        """The grid of a charuco target."""
        board = charuco_board(target)
        marker_xy = np.array([corners[:, :2] for corners in board.getObjPoints()], dtype=float) / target.square_m
        corner_xy = target.points_m[:, :2] / target.square_m
        columns, rows = target.corner_grid
        square = np.floor(marker_xy.mean(axis=1)).astype(np.int64)  # column and row of the marker's square
        around = square[:, None] + np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
        inside = ((around >= 1) & (around <= [columns, rows])).all(axis=-1)
        return Grid(
            marker_xy,
            np.where(inside, (around[..., 1] - 1) * columns + around[..., 0] - 1, -1),
            corner_xy,
            0.5 - 0.5 * target.marker_m / target.square_m,
        )


def detect_markers(
    image: UInt8[np.ndarray, "h w"],
    dictionary: str,
    marker_ids: Sequence[int],
    inverted: bool = False,
    *,
    touching: bool = False,
) -> MarkerSet:
    """The markers of these ids in a gray picture, to about a pixel.

    Markers that touch other black squares at their corners (`touching`, as on an AprilGrid) run together in a
    threshold picture. They are looked for a second time with the black parts a pixel thinner.

    Only the markers in use are compared with what is seen: with DICT_4X4_1000 that takes 5 ms a picture instead of 95,
    and what belongs to nobody cannot be mistaken for them, as the whole dictionary's error correction is kept.
    """
    import cv2

    whole = aruco_dictionary(dictionary)
    used = np.array(sorted(set(marker_ids)), dtype=np.int64)
    part = cv2.aruco.Dictionary(whole.bytesList[used].copy(), whole.markerSize, whole.maxCorrectionBits)
    parameters = cv2.aruco.DetectorParameters()
    # twice the default sampling and a looser quadrilateral find 6 % more of the small, tilted markers
    parameters.perspectiveRemovePixelPerCell = 8
    parameters.polygonalApproxAccuracyRate = 0.05
    detector = cv2.aruco.ArucoDetector(part, parameters)
    shown = 255 - image if inverted else image
    ids, corners_px = np.zeros(0, np.int64), np.zeros((0, 4, 2))
    for picture in (shown, cv2.dilate(shown, np.ones((3, 3), np.uint8))) if touching else (shown,):
        corners, found, _ = detector.detectMarkers(picture)
        if found is not None and len(corners):
            number = used[np.asarray(found, np.int64).reshape(-1)]
            new = ~np.isin(number, ids)
            ids = np.concatenate([ids, number[new]])
            corners_px = np.concatenate([corners_px, np.asarray(corners, float).reshape(-1, 4, 2)[new]])
    return MarkerSet(ids, corners_px)


def chess_corners(image: UInt8[np.ndarray, "h w"], markers: MarkerSet, grid: Grid) -> Points:
    """Inner corners of a charuco board.

    Args:
        image: gray picture.
        markers: the board's markers in it, numbered within the board.
        grid: the board.

    Returns:
        corner numbers, increasing; pixels; standard deviations.
    """
    if not len(markers.ids):
        return np.zeros(0, np.int64), np.zeros((0, 2)), np.zeros(0)
    H = homographies(grid.marker_xy[markers.ids], markers.corners_px)
    near = grid.near_corner[markers.ids]
    row, slot = np.nonzero(near >= 0)
    corner = near[row, slot]
    xy, axes = _map_with_axes(H[row], grid.corner_xy[corner])
    number, guess, spread = _mean_by_group(corner, xy)
    _, axes, _ = _mean_by_group(corner, axes.reshape(-1, 4))
    axes = axes.reshape(-1, 2, 2)
    square_px = np.linalg.norm(axes, axis=-1).min(axis=-1)
    move_px = np.maximum(_MAX_MOVE * square_px, 1.0)
    fit = fit_corners(image, guess, axes, shape="saddle", extent=_EXTENT, band=grid.margin, max_move_px=move_px)
    contrast, rough = _saddle(image, np.where(fit.good[:, None], fit.xy_px, guess), axes)
    good = fit.good & (spread < _MAX_DISAGREEMENT * square_px)
    good &= (contrast > _MIN_CONTRAST) & (rough < _MAX_ROUGHNESS * contrast)
    return number[good], fit.xy_px[good], fit.sigma_px[good]


def marker_corners(image: UInt8[np.ndarray, "h w"], markers: MarkerSet, cells: int) -> Points:
    """The four corners of a single marker; nothing if it is not in the set, or so smeared that no corner is one.

    Args:
        image: gray picture.
        markers: at most one marker.
        cells: cells along its side, with the border.
    """
    if len(markers.ids) != 1:
        return np.zeros(0, np.int64), np.zeros((0, 2)), np.zeros(0)
    corners = markers.corners_px[0]
    along = (np.roll(corners, -1, axis=0) - corners) / cells
    axes = np.stack([along, -np.roll(along, 1, axis=0)], axis=1)  # both sides that leave a corner
    cell_px = np.linalg.norm(along, axis=-1)
    fit = fit_corners(
        image,
        corners,
        axes,
        shape="corner",
        extent=_MARKER_EXTENT,
        band=_MARKER_BAND,
        max_move_px=np.maximum(0.5 * cell_px, 2.0),
    )
    if not fit.good.any():
        return np.zeros(0, np.int64), np.zeros((0, 2)), np.zeros(0)
    xy = np.where(fit.good[:, None], fit.xy_px, corners)
    return np.arange(4), xy, np.where(fit.good, fit.sigma_px, _DETECTED_SIGMA_PX)


def agreeing(markers: MarkerSet, grid: Grid) -> tuple[MarkerSet, bool]:
    """The markers of a board that fit together, and whether the board can be the one declared.

    Each marker's homography says where its neighbours on the board are. One that most of them contradict was misread
    (or is on another board, in a mirror, on a screen); where no few can be blamed, the board itself is another: it has
    OpenCV's other pattern, or its columns and rows are exchanged.
    """
    count = len(markers.ids)
    if count < 2:
        return markers, True
    middle = grid.marker_xy[markers.ids].mean(axis=1)
    H = homographies(grid.marker_xy[markers.ids], markers.corners_px)
    told = np.einsum("iab,jb->ija", H, np.concatenate([middle, np.ones((count, 1))], axis=-1))
    seen_px = np.einsum("iia->ia", told)
    square_px = np.sqrt(np.abs(np.linalg.det(_map_with_axes(H, middle)[1])))
    off = np.linalg.norm(told[..., :2] / told[..., 2:] - (seen_px[:, :2] / seen_px[:, 2:])[None], axis=-1) / square_px
    off = np.where(told[..., 2] > 0, off, np.inf)  # beyond a marker's horizon
    apart = np.linalg.norm(middle[:, None] - middle, axis=-1) + 1e9 * np.eye(count)
    near = (apart < _NEAR_SQUARES) | (apart <= apart.min(axis=1, keepdims=True))
    against = (near | near.T) & (np.minimum(off, off.T) > 0.35 + 0.25 * apart)
    kept = np.ones(count, bool)
    while (blame := (against & kept[:, None] & kept).sum(axis=1)).any():
        kept[int(blame.argmax())] = False
    believable = (count - kept.sum()) <= max(_MAX_ODDS * count, 1 if count > 2 else 0)
    return MarkerSet(markers.ids[kept], markers.corners_px[kept]), bool(believable)


def homographies(xy: Float[np.ndarray, "m 4 2"], px: Float[np.ndarray, "m 4 2"]) -> Float[np.ndarray, "m 3 3"]:
    """The projective maps that take four points each onto four pixels (direct linear solution, last element 1)."""
    x, y = xy[..., 0], xy[..., 1]
    one, zero = np.ones_like(x), np.zeros_like(x)
    rows = [
        np.stack([x, y, one, zero, zero, zero, -px[..., 0] * x, -px[..., 0] * y], axis=-1),
        np.stack([zero, zero, zero, x, y, one, -px[..., 1] * x, -px[..., 1] * y], axis=-1),
    ]
    right = np.concatenate([px[..., 0], px[..., 1]], axis=-1)
    h = np.linalg.solve(np.concatenate(rows, axis=1), right[..., None])[..., 0]
    return np.concatenate([h, np.ones((len(h), 1))], axis=-1).reshape(-1, 3, 3)


def _map_with_axes(
    H: Float[np.ndarray, "n 3 3"], xy: Float[np.ndarray, "n 2"]
) -> tuple[Float[np.ndarray, "n 2"], Float[np.ndarray, "n 2 2"]]:
    """Pixels of board points, and the derivatives by the board's x and y (rows), pixels a square."""
    p = np.einsum("nij,nj->ni", H, np.concatenate([xy, np.ones((len(xy), 1))], axis=-1))
    px = p[:, :2] / p[:, 2:]
    axes = (H[:, :2, :2] - px[:, :, None] * H[:, 2:, :2]) / p[:, 2:, None]
    return px, np.swapaxes(axes, -1, -2)


def _mean_by_group(
    group: Int[np.ndarray, "n"], values: Float[np.ndarray, "n k"]
) -> tuple[Int[np.ndarray, "g"], Float[np.ndarray, "g k"], Float[np.ndarray, "g"]]:
    """Group numbers, means, and the largest distance of a member from its mean."""
    number, inverse = np.unique(group, return_inverse=True)
    mean = np.zeros((len(number), values.shape[1]))
    np.add.at(mean, inverse, values)
    mean /= np.bincount(inverse)[:, None]
    spread = np.zeros(len(number))
    np.maximum.at(spread, inverse, np.linalg.norm(values - mean[inverse], axis=-1))
    return number, mean, spread


def _saddle(
    image: UInt8[np.ndarray, "h w"], xy: Float[np.ndarray, "n 2"], axes: Float[np.ndarray, "n 2 2"]
) -> tuple[Float[np.ndarray, "n"], Float[np.ndarray, "n"]]:
    """Contrast between the two diagonals around each corner, and the larger difference along one of them.

    At a corner of a chessboard opposite squares are alike and neighbours differ; anywhere else one of the two fails.
    """
    import cv2

    signs = np.array([[1, 1], [-1, -1], [1, -1], [-1, 1]]) * _SADDLE_SQUARES
    at = (xy[:, None] + np.einsum("kj,njd->nkd", signs, axes)).astype(np.float32)
    gray = cv2.remap(image, at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE).astype(float)
    along = np.abs(gray[:, [0, 2]] - gray[:, [1, 3]]).max(axis=-1)
    return np.abs(gray[:, :2].mean(axis=-1) - gray[:, 2:].mean(axis=-1)), along
