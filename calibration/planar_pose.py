"""Poses of many pictures of one planar target at once, in closed form, for lenses of any width.

Every picture is turned into a virtual camera that looks at the middle of what it saw, so that a board at the rim of a
fisheye, even behind the image plane, has a homography like any other (Zhang 2000). A plane has a second pose, mirrored
about the line of sight, that explains a picture nearly as well (Schweighofer and Pinz 2006); both are given.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from core.arrays import Bool, Float, Int
from core.transforms import SE3, nearest_rotation

_MIN_POINTS = 4
_MIN_COSINE = np.cos(np.radians(75.0))  # of a ray with the virtual axis: beyond it the plane z = 1 amplifies noise
_MIN_GAP = 1e-7  # second smallest over largest eigenvalue: below it points lie on a line, which fixes no homography


@dataclass(frozen=True, eq=False)
class Pictures:
    """Points of one target in many pictures, padded to a rectangle.

    Attributes:
        points_m: (views, m, 3) in the target's frame.
        xy_px: (views, m, 2) where they were seen.
        sigma_px: (views, m) standard deviation of each coordinate; 1 in the padding.
        seen: (views, m) False in the padding.
        row: (views, m) place in the flat table they come from; 0 in the padding.
    """

    points_m: Float[np.ndarray, "views m 3"]
    xy_px: Float[np.ndarray, "views m 2"]
    sigma_px: Float[np.ndarray, "views m"]
    seen: Bool[np.ndarray, "views m"]
    row: Int[np.ndarray, "views m"]

    def __len__(self) -> int:
        return len(self.seen)

    def __getitem__(self, views: Int[np.ndarray, "k"] | Bool[np.ndarray, "views"]) -> Pictures:
        """Some of the pictures."""
        return Pictures(*(column[views] for column in self._columns))

    @property
    def _columns(self) -> tuple[np.ndarray, ...]:
        return self.points_m, self.xy_px, self.sigma_px, self.seen, self.row

    @staticmethod
    def of(
        image_idx: Int[np.ndarray, "n"],
        points_m: Float[np.ndarray, "n 3"],
        xy_px: Float[np.ndarray, "n 2"],
        sigma_px: Float[np.ndarray, "n"],
        num_views: int,
    ) -> Pictures:
        """From a flat table; pictures without a point are all padding."""
        count = np.bincount(image_idx, minlength=num_views)
        order = np.argsort(image_idx, kind="stable")
        slot = np.arange(len(order)) - np.repeat(np.cumsum(count) - count, count)
        row = np.zeros((num_views, max(count.max(initial=0), 1)), np.int64)
        seen = np.zeros(row.shape, bool)
        row[image_idx[order], slot], seen[image_idx[order], slot] = order, True
        if not len(order):
            return Pictures(np.zeros((*row.shape, 3)), np.zeros((*row.shape, 2)), np.ones(row.shape), seen, row)
        return Pictures(points_m[row], xy_px[row], np.where(seen, sigma_px[row], 1.0), seen, row)


def planar_poses(
    points_m: Float[np.ndarray, "views m 3"], rays: Float[np.ndarray, "views m 3"], seen: Bool[np.ndarray, "views m"]
) -> tuple[SE3, SE3]:
    """`board_from_cam` of every picture and the mirrored candidate; NaN where the points fix none.

    Args:
        points_m: points of a target in its plane z = 0.
        rays: unit rays in the camera; NaN where the lens has none.
        seen: which of them count.
    """
    seen = seen & np.isfinite(rays[..., 0])
    rays = np.where(seen[..., None], rays, 0.0)
    middle = rays.sum(axis=1)
    length = np.linalg.norm(middle, axis=-1, keepdims=True)
    turn = _turned_to(np.where(length > 1e-9, middle / np.maximum(length, 1e-9), [0.0, 0.0, 1.0]))  # virtual_from_cam
    virtual = rays @ np.swapaxes(turn, -1, -2)
    seen = seen & (virtual[..., 2] > _MIN_COSINE)
    xy = np.where(seen[..., None], virtual[..., :2] / np.where(seen, virtual[..., 2], 1.0)[..., None], 0.0)
    count = np.maximum(seen.sum(axis=1), 1)[:, None]
    centre = np.where(seen[..., None], points_m[..., :2], 0.0).sum(axis=1) / count
    flat = np.where(seen[..., None], points_m[..., :2] - centre[:, None], 0.0)
    size = np.sqrt((flat**2).sum(axis=(1, 2)) / count[:, 0])
    H, known = _homographies(flat / np.maximum(size, 1e-12)[:, None, None], xy, seen)
    scale = 2 / np.maximum(np.linalg.norm(H[..., 0], axis=-1) + np.linalg.norm(H[..., 1], axis=-1), 1e-300)
    first, second = (H[..., k] * scale[:, None] for k in (0, 1))
    R = nearest_rotation(np.stack([first, second, np.cross(first, second)], axis=-1))
    at = H[..., 2] * (scale * size)[:, None]  # the centre of the points in the virtual camera
    known &= (seen.sum(axis=1) >= _MIN_POINTS) & (at[:, 2] > 0)
    away = at / np.maximum(np.linalg.norm(at, axis=-1, keepdims=True), 1e-300)
    # looking along `away`, depths change sign and the picture stays: reflect, and turn the plane's back to the front
    reflected = (np.eye(3) - 2 * away[:, :, None] * away[:, None, :]) @ R * np.array([1.0, 1.0, -1.0])
    gap = np.where(known, 1.0, np.nan)
    origin = np.concatenate([centre, np.zeros((len(centre), 1))], axis=-1)
    poses = []
    for rotation in (R, reflected):
        cam_from_board = np.swapaxes(turn, -1, -2) @ rotation * gap[:, None, None]
        in_cam = np.einsum("vji,vj->vi", turn, at) - np.einsum("vij,vj->vi", cam_from_board, origin)
        poses.append(SE3(cam_from_board, in_cam).inverse())
    return poses[0], poses[1]


def _turned_to(direction: Float[np.ndarray, "views 3"]) -> Float[np.ndarray, "views 3 3"]:
    """Rotations that take unit directions to the z axis."""
    helper = np.where(np.abs(direction[:, :1]) < 0.9, [1.0, 0.0, 0.0], [0.0, 1.0, 0.0])
    x = np.cross(np.cross(direction, helper), direction)
    x /= np.linalg.norm(x, axis=-1, keepdims=True)
    return np.stack([x, np.cross(direction, x), direction], axis=1)


def _homographies(
    xy: Float[np.ndarray, "views m 2"], uv: Float[np.ndarray, "views m 2"], seen: Bool[np.ndarray, "views m"]
) -> tuple[Float[np.ndarray, "views 3 3"], Bool[np.ndarray, "views"]]:
    """Maps from board to plane z = 1 by the direct linear method, with a positive last element, and which are fixed."""
    one, zero = seen.astype(float), np.zeros(seen.shape)
    x, y = xy[..., 0], xy[..., 1]
    u, v = uv[..., :1], uv[..., 1:]
    line, none = np.stack([x, y, one], axis=-1), np.stack([zero] * 3, axis=-1)
    rows = np.concatenate(
        [np.concatenate([line, none, -u * line], axis=-1), np.concatenate([none, line, -v * line], axis=-1)], axis=1
    )
    values, vectors = np.linalg.eigh(np.swapaxes(rows, -1, -2) @ rows)
    H = vectors[..., 0].reshape(-1, 3, 3)
    return H * np.sign(H[:, 2:, 2:] + 1e-300), values[:, 1] > _MIN_GAP * np.maximum(values[:, -1], 1e-300)
