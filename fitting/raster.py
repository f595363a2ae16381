"""Which triangle of a mesh is seen at each pixel, for any lens: a rasteriser in numpy.

Vertices are projected by the lens, so a distorted picture is met exactly at every vertex; between them edges are drawn
straight, which for the triangles of a body farther than a metre is off by less than 0.02 px. A pixel belongs to the
nearest triangle that covers its centre: a silhouette is neither wider nor narrower than the body. Of two triangles the
one is nearer whose middle is, which for the small triangles of a body is right to their size.

All triangles are cut into pixel rows at once, and all rows into pixels; no step loops over triangles.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from core.arrays import Bool, Float, Int
from core.cameras import Camera

PictureFromPx = tuple[float, float, float]
SAME_PX: PictureFromPx = (1.0, 0.0, 0.0)
_RIM = -0.35  # cosine of 110 degrees from the axis: no lens shows what is farther behind it, though its formula goes on


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
    distance_m = np.linalg.norm(in_cam, axis=-1)
    seen = np.isfinite(px[:, 0] + px[:, 1]) & (in_cam[:, 2] > _RIM * distance_m)
    a, b, c = (in_cam[faces[:, k]] for k in range(3))
    normal, middle = np.cross(b - a, c - a), a + b + c
    far = np.sqrt(np.einsum("fc,fc->f", middle, middle))
    length = np.sqrt(np.einsum("fc,fc->f", normal, normal)) * far
    facing = -np.einsum("fc,fc->f", normal, middle) / np.maximum(length, 1e-12)
    front = np.flatnonzero((facing > 0) & seen[faces[:, 0]] & seen[faces[:, 1]] & seen[faces[:, 2]])
    front = front[np.argsort(-far[front], kind="stable")]
    return rasterise(px, faces, front, size_px), facing


def rasterise(
    px: Float[np.ndarray, "v 2"], faces: Int[np.ndarray, "f 3"], drawn: Int[np.ndarray, "n"], size_px: tuple[int, int]
) -> Raster:
    """Fills triangles, later ones over earlier ones.

    Args:
        px: vertices in the picture; pixel centres at integers.
        faces: triangles.
        drawn: which of them are filled, in order; their vertices are finite.
        size_px: the picture's width and height.
    """
    corners = px[faces[drawn]]
    x, y = corners[..., 0], corners[..., 1]
    low = np.ceil([x.min(initial=np.inf), y.min(initial=np.inf)]).clip(0)
    high = np.minimum(np.floor([x.max(initial=-np.inf), y.max(initial=-np.inf)]) + 1, size_px)
    if not (low < high).all():
        return Raster(0, 0, np.full((0, 0), -1))
    width, height = (high - low).astype(int).tolist()
    triangle, row, first, last = _spans(corners - low, width, height)
    counts = last - first
    # the place of a span's first pixel, less that of the span among all pixels; the rest is counting
    begin = (row * width + first - (np.cumsum(counts) - counts)).astype(np.int32)
    pixel = np.repeat(begin, counts)
    pixel += np.arange(len(pixel), dtype=np.int32)
    latest = np.full(height * width, -1, dtype=np.int32)
    np.maximum.at(latest, pixel, np.repeat(triangle.astype(np.int32), counts))
    face_idx = np.take(np.append(drawn, -1).astype(np.int32), latest)
    return Raster(int(low[0]), int(low[1]), face_idx.reshape(height, width))


def _spans(corners: np.ndarray, width: int, height: int) -> tuple[np.ndarray, ...]:
    """Triangle, row, first column and the one after the last, of every row of pixel centres that a triangle covers."""
    order = np.argsort(corners[..., 1], axis=1, kind="stable")
    x, y = (np.take_along_axis(corners[..., k], order, axis=1) for k in range(2))  # from top to bottom
    begin = np.clip(np.ceil(y[:, 0]), 0, height).astype(np.int64)
    end = np.clip(np.ceil(y[:, 2]), 0, height).astype(np.int64)
    triangle, row = _counted(np.maximum(end - begin, 0))
    row += np.take(begin, triangle)
    # edges as column = at_row_0 + slope * row: the long one, and those from its ends to the corner between; always from
    # the upper end, whichever triangle an edge bounds, so that neighbours leave no pixel between them
    with np.errstate(divide="ignore", invalid="ignore"):  # of level edges, which no row crosses
        slope = (x[:, [2, 1, 2]] - x[:, [0, 0, 1]]) / (y[:, [2, 1, 2]] - y[:, [0, 0, 1]])
        at_row_0 = x[:, [0, 0, 1]] - slope * y[:, [0, 0, 1]]
    edge = 3 * triangle
    long = np.take(at_row_0, edge) + np.take(slope, edge) * row
    edge += 1 + (row >= np.take(y[:, 1], triangle))
    short = np.take(at_row_0, edge) + np.take(slope, edge) * row
    first = np.clip(np.ceil(np.minimum(long, short)), 0, width).astype(np.int64)
    last = np.clip(np.ceil(np.maximum(long, short)), 0, width).astype(np.int64)
    wide = np.flatnonzero(first < last)  # most triangles are narrower than a pixel in most of their rows
    return triangle[wide], row[wide], first[wide], last[wide]


def _counted(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """0, 0, 1, 2, 2, 2 and 0, 1, 0, 0, 1, 2 for counts of 2, 1, 3."""
    owner = np.repeat(np.arange(len(counts)), counts)
    return owner, np.arange(len(owner)) - np.take(np.cumsum(counts) - counts, owner)
