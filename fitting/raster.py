"""Which triangle of a mesh is seen at each pixel: a z-buffer in numpy, for any lens.

Vertices are projected by the lens, so a distorted picture is met exactly at every vertex; between them edges are drawn
straight, which for the triangles of a body farther than a metre is off by less than 0.02 px. A pixel belongs to the
triangle that covers its centre: a silhouette is neither wider nor narrower than the body.

All triangles are cut into pixel rows at once, and all rows into pixels; no step loops over triangles.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from core.arrays import Bool, Float, Int
from core.cameras import Camera

PictureFromPx = tuple[float, float, float]
SAME_PX: PictureFromPx = (1.0, 0.0, 0.0)
_FACE_BITS = 20  # of a z-buffer entry, below the depth: a million triangles
_NEAREST = 1e3  # 1/m: nothing is nearer to a camera than a millimetre
_DEPTH_STEPS = 2.0**33  # of an inverse distance in 1/m, so that an entry fits into 63 bits
_FLAT_PX2 = 1e-9  # triangles of a smaller area cover no pixel's centre and have no plane


@dataclass(frozen=True, eq=False)
class Raster:
    """The part of a picture in which a mesh is seen.

    Attributes:
        left: column of the picture where the part begins.
        top: its row.
        face_idx: the triangle seen at each pixel, -1 for none.
    """

    left: int
    top: int
    face_idx: Int[np.ndarray, "h w"]

    @property
    def covered(self) -> Bool[np.ndarray, "h w"]:
        """Where the mesh is, in the part."""
        return self.face_idx >= 0

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the part in the picture."""
        height, width = self.face_idx.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)

    def mask(self, size_px: tuple[int, int]) -> Bool[np.ndarray, "height width"]:
        """Where the mesh is, in the whole picture.

        Args:
            size_px: the picture's width and height.
        """
        whole = np.zeros(size_px[::-1], dtype=bool)
        whole[self.window] = self.covered
        return whole


def see(
    camera: Camera,
    vertices_m: Float[np.ndarray, "v 3"],
    faces: Int[np.ndarray, "f 3"],
    size_px: tuple[int, int],
    picture_from_px: PictureFromPx = SAME_PX,
) -> tuple[Raster, Float[np.ndarray, "f"]]:
    """The triangles of a closed mesh that a camera sees, and how squarely each faces it.

    A triangle with a vertex that the lens cannot see is left out.

    Args:
        camera: where it is seen from.
        vertices_m: the mesh in the world.
        faces: its triangles, counter-clockwise from outside; fewer than a million.
        size_px: the picture's width and height.
        picture_from_px: scale, dx, dy from the camera's pixels to the picture's.

    Returns:
        The raster, and the cosine between each triangle's normal and the direction to the camera.
    """
    in_cam = camera.cam_from_world.apply(vertices_m)
    scale, dx, dy = picture_from_px
    px = camera.lens.project(in_cam) * scale + np.array([dx, dy])
    a, b, c = in_cam[faces[:, 0]], in_cam[faces[:, 1]], in_cam[faces[:, 2]]
    normal = np.cross(b - a, c - a)
    # any corner serves for the sign, and the cosines of a body's small triangles hardly differ
    length = np.sqrt(np.einsum("fc,fc->f", normal, normal) * np.einsum("fc,fc->f", a, a))
    facing = -np.einsum("fc,fc->f", normal, a) / np.maximum(length, 1e-12)
    unseen = ~np.isfinite(px[:, 0] + px[:, 1])
    front = np.flatnonzero((facing > 0) & ~(unseen[faces[:, 0]] | unseen[faces[:, 1]] | unseen[faces[:, 2]]))
    near = 1 / np.maximum(np.linalg.norm(in_cam, axis=-1), 1 / _NEAREST)
    return rasterise(px, near, faces, front, size_px), facing


def rasterise(
    px: Float[np.ndarray, "v 2"],
    near: Float[np.ndarray, "v"],
    faces: Int[np.ndarray, "f 3"],
    drawn: Int[np.ndarray, "n"],
    size_px: tuple[int, int],
) -> Raster:
    """Fills triangles into a z-buffer.

    Args:
        px: vertices in the picture; pixel centres at integers.
        near: inverse distance of each vertex, 1/m, at most 1000.
        faces: triangles.
        drawn: which of them are filled; their vertices are finite.
        size_px: the picture's width and height.
    """
    drawn, corners, closeness = _upright(px, near, faces, drawn)
    x, y = corners[..., 0], corners[..., 1]
    low = np.ceil([x.min(initial=np.inf), y.min(initial=np.inf)]).clip(0)
    high = np.minimum(np.floor([x.max(initial=-np.inf), y.max(initial=-np.inf)]) + 1, size_px)
    if not (low < high).all():
        return Raster(0, 0, np.full((0, 0), -1))
    corners = corners - low
    width, height = (high - low).astype(int).tolist()
    triangle, row, first, last = _spans(corners, width, height)
    plane = np.take(_planes(corners, closeness), triangle, axis=1)
    depth = plane[0] + plane[2] * row
    span, column = _counted(last - first)
    column += np.take(first, span)
    depth = np.take(depth, span) + np.take(plane[1], span) * column
    entry = (np.clip(depth, 0, _NEAREST) * _DEPTH_STEPS).astype(np.int64) << _FACE_BITS
    entry |= np.take(drawn[triangle], span)
    buffer = np.full(height * width, -1)
    np.maximum.at(buffer, np.take(row * width, span) + column, entry)
    face = np.where(buffer < 0, -1, buffer & ((1 << _FACE_BITS) - 1))
    return Raster(int(low[0]), int(low[1]), face.reshape(height, width))


def _upright(
    px: np.ndarray, near: np.ndarray, faces: np.ndarray, drawn: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Triangles that have an area, their corners from top to bottom, and the corners' inverse distances."""
    idx = faces[drawn]
    idx = np.take_along_axis(idx, np.argsort(px[idx, 1], axis=1, kind="stable"), axis=1)
    corners = px[idx]
    b, c = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    wide = np.abs(b[:, 0] * c[:, 1] - b[:, 1] * c[:, 0]) > _FLAT_PX2
    return drawn[wide], corners[wide], near[idx[wide]]


def _spans(corners: np.ndarray, width: int, height: int) -> tuple[np.ndarray, ...]:
    """Triangle, row, first column and the one after the last, of every row that a triangle crosses."""
    x, y = corners[..., 0], corners[..., 1]
    begin = np.clip(np.ceil(y[:, 0]), 0, height).astype(np.int64)
    end = np.clip(np.ceil(y[:, 2]), 0, height).astype(np.int64)
    triangle, row = _counted(np.maximum(end - begin, 0))
    row += np.take(begin, triangle)
    with np.errstate(divide="ignore", invalid="ignore"):  # of level edges, which no row crosses
        slope = (x[:, [2, 1, 2]] - x[:, [0, 0, 1]]) / (y[:, [2, 1, 2]] - y[:, [0, 0, 1]])
    at = np.take(np.concatenate([x, y, slope], axis=1), triangle, axis=0).T
    long = at[0] + (row - at[3]) * at[6]
    # edges run from their upper end whichever triangle they bound, so neighbours leave no pixel between them
    x_from, y_from, slope = np.where(row >= at[4], at[[1, 4, 8]], at[[0, 3, 7]])
    short = x_from + (row - y_from) * slope
    first = np.clip(np.ceil(np.minimum(long, short)), 0, width).astype(np.int64)
    last = np.clip(np.ceil(np.maximum(long, short)), 0, width).astype(np.int64)
    wide = np.flatnonzero(first < last)  # most triangles are narrower than a pixel in most of their rows
    return triangle[wide], row[wide], first[wide], last[wide]


def _planes(corners: np.ndarray, near: np.ndarray) -> np.ndarray:
    """Inverse distance as a + b column + c row: linear in a pinhole's picture, and in any other's within a triangle."""
    b, c = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    db, dc = near[:, 1] - near[:, 0], near[:, 2] - near[:, 0]
    area = b[:, 0] * c[:, 1] - b[:, 1] * c[:, 0]
    across = (db * c[:, 1] - dc * b[:, 1]) / area
    down = (dc * b[:, 0] - db * c[:, 0]) / area
    return np.stack([near[:, 0] - across * corners[:, 0, 0] - down * corners[:, 0, 1], across, down])


def _counted(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """0, 0, 1, 2, 2, 2 and 0, 1, 0, 0, 1, 2 for counts of 2, 1, 3."""
    owner = np.repeat(np.arange(len(counts)), counts)
    return owner, np.arange(len(owner)) - np.take(np.cumsum(counts) - counts, owner)
