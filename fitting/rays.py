"""Keypoints of a rig as undistorted rays in arrays, and the arithmetic that triangulation and fit do on them.

Axes lead and points trail, (3, views, points), so that every operation runs over long contiguous rows. Errors are
measured in pixels to first order around each keypoint: undistorted coordinates times the local scale of the lens. The
lens is thus inverted once, not in every iteration.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from core.arrays import Float
from core.cameras import Rig


@dataclass(frozen=True, eq=False)
class Rays:
    """Observations as arrays over (views, points), ready for arithmetic: axes lead, so each slice is contiguous.

    `xy` (2, V, N) are undistorted coordinates, `scale` (2, V, N) pixels for one unit of them in each direction,
    `seen` (V, N), `weight` (V, N) detector scores, 0 where not seen; R (V, 3, 3), t (V, 3) of cam_from_world.
    """

    xy: np.ndarray
    scale: np.ndarray
    seen: np.ndarray
    weight: np.ndarray
    R: np.ndarray
    t: np.ndarray

    def points(self, index: np.ndarray) -> Rays:
        """The observations of some of the points."""
        return Rays(
            self.xy[..., index], self.scale[..., index], self.seen[:, index], self.weight[:, index], self.R, self.t
        )


UPPER = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))
"""Row and column of the six numbers that stand for a symmetric 3 x 3 matrix."""


def rays_of(
    rig: Rig, xy_px: Float[np.ndarray, "views n 2"], score: Float[np.ndarray, "views n"], min_score: float
) -> Rays:
    """Undistorts keypoints; those below `min_score`, missing, or outside what the lens can see are not seen."""
    seen = np.isfinite(xy_px).all(axis=-1) & (score >= min_score)
    xy, scale = np.zeros((2, *seen.shape)), np.ones((2, *seen.shape))
    for v, camera in enumerate(rig):
        idx = np.flatnonzero(seen[v])
        # the small shear of a lens is left out of the pixel metric
        normal, by_axis = camera.lens.undistort_with_scale(xy_px[v, idx].astype(float))
        good = np.isfinite(normal[:, 0])
        seen[v, idx[~good]] = False
        xy[:, v, idx[good]], scale[:, v, idx[good]] = normal[good].T, by_axis[good].T
    weight = np.where(seen, np.clip(np.nan_to_num(score.astype(float)), 0.0, 1.0), 0.0)
    R, t = (np.stack([getattr(c.cam_from_world, name) for c in rig]) for name in ("R", "t"))
    return Rays(xy, scale, seen, weight, R, t)


def ray_equations(rays: Rays) -> tuple[np.ndarray, np.ndarray]:
    """Normal equations of the point nearest to the rays: (6, V, N) upper triangles and right sides (3, V, N)."""
    direction = np.einsum("vji,jvn->ivn", rays.R, np.concatenate([rays.xy, np.ones_like(rays.xy[:1])]))
    direction /= np.linalg.norm(direction, axis=0)
    centre = -np.einsum("vji,vj->iv", rays.R, rays.t)[..., None]
    across = np.stack([float(i == j) - direction[i] * direction[j] for i, j in UPPER]) * rays.weight
    rows = np.stack([across[[0, 1, 2]], across[[1, 3, 4]], across[[2, 4, 5]]])
    return across, (rows * centre).sum(axis=1)


def solve3(upper: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Solves symmetric 3 x 3 systems given as (6, *n) upper triangles and (3, *n); NaN where singular."""
    a, b, c, d, e, f = upper
    cofactors = np.stack([d * f - e * e, c * e - b * f, b * e - c * d, a * f - c * c, b * c - a * e, a * d - b * b])
    determinant = a * cofactors[0] + b * cofactors[1] + c * cofactors[2]
    trace = a + d + f
    inverse = cofactors / np.where(determinant > 1e-9 * trace**3 / 27, determinant, np.nan)
    x, y, z = right
    return np.stack(
        [
            inverse[0] * x + inverse[1] * y + inverse[2] * z,
            inverse[1] * x + inverse[3] * y + inverse[4] * z,
            inverse[2] * x + inverse[4] * y + inverse[5] * z,
        ]
    )


def errors(rays: Rays, xyz: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Squared pixel errors of points (3, ..., N) in every view (..., V, N), residuals, predictions and depths."""
    in_cam = np.einsum("vij,j...n->i...vn", rays.R, xyz) + rays.t.T.reshape(3, *[1] * (xyz.ndim - 2), -1, 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        depth = np.where(in_cam[2] > 1e-3, in_cam[2], np.nan)
        at = in_cam[:2] / depth
    scale, seen = (a.reshape(a.shape[0], *[1] * (xyz.ndim - 2), *a.shape[1:]) for a in (rays.scale, rays.xy))
    residual = (at - seen) * scale
    return residual[0] ** 2 + residual[1] ** 2, residual, at, depth


def residual_rows(rays: Rays, at: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Derivatives of the pixel residuals by the point, (3, 2, V, N)."""
    R = rays.R.transpose(2, 1, 0)[..., None]  # world axis, camera axis, view
    return (R[:, :2] - at * R[:, 2:]) * (rays.scale / depth)
