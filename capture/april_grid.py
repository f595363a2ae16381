"""AprilGrids, the boards of Kalibr: a grid of AprilTags whose corners touch small black squares.

Kalibr numbers tags and points row by row from the lower left, x right, y up and z out of the print, its origin at the
lower left corner of the first tag. Here the order of tags and points is Kalibr's, but the frame is that of all other
targets (x right, y down, z into the print, origin at the print's upper left): `kalibr_from_target` converts.

Prints turn their tags by quarter turns against OpenCV's dictionaries, according to the program that made them. The
turn is found in every picture: of four, it is the one under which neighbouring tags agree.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from capture.charuco import Grid, MarkerSet, Points, agreeing
from capture.corner_fit import CornerFit, fit_corners
from capture.targets import Mounting, Target, aruco_dictionary
from core.arrays import UInt8
from core.errors import InputError
from core.files import require_file, write_text
from core.transforms import SE3

DICTIONARY = "DICT_APRILTAG_36h11"
_MIN_TAGS = 2  # fewer do not tell how the tags are turned
_MAX_MOVE = 1.0  # cells of a tag that the fit may move a corner; the next saddle is further
_NEIGHBOURS = 14  # corners from which one that was missed is predicted


def kalibr_from_target(target: Target) -> SE3:
    """Pose of an AprilGrid's frame in Kalibr's."""
    border_m = target.square_m - target.marker_m
    return SE3(np.diag([1.0, -1.0, -1.0]), np.array([-border_m, target.size_m[1] - border_m, 0.0]))


def tag_grid(target: Target) -> Grid:
    """The tags' corners in units of their distance, clockwise from the upper left, for `agreeing`."""
    points = target.points_m[:, :2].reshape(target.grid[1], 2, target.grid[0], 2, 2) / target.square_m
    lower, upper = points[:, 0], points[:, 1]
    tags = np.stack([upper[:, :, 0], upper[:, :, 1], lower[:, :, 1], lower[:, :, 0]], axis=2)
    return Grid(tags.reshape(-1, 4, 2), np.full((tags.shape[0] * tags.shape[1], 4), -1), points.reshape(-1, 2), 0.0)


def grid_corners(image: UInt8[np.ndarray, "h w"], markers: MarkerSet, target: Target) -> tuple[Points, bool]:
    """Corners of the tags of an AprilGrid, and whether what is seen can be the grid declared.

    Args:
        image: gray picture.
        markers: its tags, numbered within the grid.
        target: the grid.
    """
    none = np.zeros(0, np.int64), np.zeros((0, 2)), np.zeros(0)
    if len(markers.ids) < _MIN_TAGS:
        return none, True
    grid = tag_grid(target)
    turned = [MarkerSet(markers.ids, np.roll(markers.corners_px, turn, axis=1)) for turn in range(4)]
    tried = [agreeing(each, grid) for each in turned]
    kept, believable = max(tried, key=lambda result: (result[1], len(result[0].ids)))
    if not believable or len(kept.ids) < _MIN_TAGS:
        return none, False
    corners = kept.corners_px  # (m, 4, 2) clockwise from the upper left
    along = np.roll(corners, -1, axis=1) - corners
    axes = np.stack([along, -np.roll(along, 1, axis=1)], axis=2).reshape(-1, 2, 2)
    number = _point_numbers(target)[kept.ids].ravel()
    fit = _fit(image, corners.reshape(-1, 2), axes, target)
    xy, sigma = fit.xy_px, fit.sigma_px
    guess = _predicted(target.points_m[number, :2], xy)
    room = np.maximum(_MAX_MOVE * np.linalg.norm(axes, axis=-1).min(axis=-1) / _cells(target), 1.5)
    # a small square that ran together with its tag drew the detector's corner away, perhaps to the square's far end
    if (wrong := np.flatnonzero(~(np.linalg.norm(xy - guess, axis=-1) < room))).size:
        again = _fit(image, guess[wrong], axes[wrong], target)
        xy[wrong], sigma[wrong] = again.xy_px, again.sigma_px
    order = np.argsort(number)
    order = order[np.isfinite(xy[order, 0])]
    return (number[order], xy[order], sigma[order]), True


def _cells(target: Target) -> int:
    """Cells along the side of a tag, with its border."""
    return int(aruco_dictionary(target.dictionary).markerSize) + 2


def _fit(image: np.ndarray, guess: np.ndarray, axes: np.ndarray, target: Target) -> CornerFit:
    """Fits corners of tags from guesses; `axes` (n, 2, 2) are the sides of the tags that leave them."""
    cells = _cells(target)
    small = (target.square_m - target.marker_m) / target.marker_m * cells  # side of the small black squares
    room = np.maximum(_MAX_MOVE * np.linalg.norm(axes, axis=-1).min(axis=-1) / cells, 1.5)
    return fit_corners(image, guess, axes / cells, shape="saddle", extent=0.9 * small, band=0.85, max_move_px=room)


def _predicted(board: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """Where each point of the board (n, 2) should be seen, by the homography of its nearest neighbours; or NaN."""
    import cv2

    known = np.flatnonzero(np.isfinite(xy[:, 0]))
    predicted = np.full(xy.shape, np.nan)
    for k, place in enumerate(board):
        others = known[known != k]
        near = others[np.argsort(np.linalg.norm(board[others] - place, axis=-1), kind="stable")[:_NEIGHBOURS]]
        H = cv2.findHomography(board[near], xy[near], cv2.LMEDS)[0] if len(near) == _NEIGHBOURS else None
        if H is not None:
            p = H @ np.array([*place, 1.0])
            predicted[k] = p[:2] / p[2]
    return predicted


def _point_numbers(target: Target) -> np.ndarray:
    """Numbers (tags, 4) of each tag's corners in `points_m`, clockwise from the upper left."""
    columns, rows = target.grid
    index = np.arange(4 * columns * rows).reshape(rows, 2, columns, 2)
    lower, upper = index[:, 0], index[:, 1]
    return np.stack([upper[..., 0], upper[..., 1], lower[..., 1], lower[..., 0]], axis=-1).reshape(-1, 4)


def read_kalibr_target(path: Path, target_id: str, mounting: Mounting) -> Target:
    """An AprilGrid or a checkerboard from Kalibr's target file.

    Raises:
        InputError: if it is damaged, or of another kind.
    """
    require_file(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(str(path), f"no text file ({error.reason} at byte {error.start})", "check it") from error
    pairs = [line.split("#")[0].partition(":") for line in lines]
    fields = {key.strip(): value.strip().strip("'\"") for key, colon, value in pairs if colon}
    try:
        if fields.get("target_type") == "aprilgrid":
            data = {
                "kind": "aprilgrid",
                "tags": [int(fields["tagCols"]), int(fields["tagRows"])],
                "tag_m": float(fields["tagSize"]),
                "spacing": float(fields["tagSpacing"]),
            }
        elif fields.get("target_type") == "checkerboard":
            sides = float(fields["rowSpacingMeters"]), float(fields["colSpacingMeters"])
            if sides[0] != sides[1]:
                raise InputError(str(path), f"its squares are {sides[0]} x {sides[1]} m", "use a board of squares")
            corners = [int(fields["targetCols"]), int(fields["targetRows"])]
            data = {"kind": "checkerboard", "corners": corners, "square_m": sides[0]}
        else:
            kind = fields.get("target_type")
            raise InputError(str(path), f"a target of type {kind!r}", "give an aprilgrid or a checkerboard")
    except (KeyError, ValueError) as error:
        raise InputError(str(path), f"a field is missing or no number ({error})", "repair it") from error
    return Target.from_json(data | {"id": target_id, "mounting": mounting}, item=str(path))


def write_kalibr_target(path: Path, target: Target) -> None:
    """Writes an AprilGrid or a checkerboard as Kalibr's target file.

    Raises:
        InputError: for other kinds of target, and other tags, which Kalibr does not know.
    """
    fields: dict[str, object]
    if target.kind == "aprilgrid" and (target.dictionary, target.first_marker) == (DICTIONARY, 0):
        spacing = round(target.square_m / target.marker_m - 1, 12)
        grid = {"tagCols": target.grid[0], "tagRows": target.grid[1]}
        fields = {"target_type": "'aprilgrid'", **grid, "tagSize": target.marker_m, "tagSpacing": spacing}
    elif target.kind == "checkerboard":
        size = {"rowSpacingMeters": target.square_m, "colSpacingMeters": target.square_m}
        grid = {"targetCols": target.grid[0], "targetRows": target.grid[1]}
        fields = {"target_type": "'checkerboard'", **grid, **size}
    else:
        kind = f"{target.kind} of {target.dictionary}" if target.dictionary else target.kind
        action = "write a checkerboard, or an aprilgrid of 36h11 tags from number 0"
        raise InputError(target.id, f"Kalibr knows no {kind} from number {target.first_marker}", action)
    write_text(path, "".join(f"{key}: {value}\n" for key, value in fields.items()))
