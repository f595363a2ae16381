"""Squared pixel errors as quadratic forms of the point: what triangulation computes again and again, made cheap.

Seen at undistorted (x, y), a point X of depth d = r3 X + t3 lies off by e = s_x ((r1 - x r3) X + t1 - x t3) / d pixels
across, and likewise down. So d^2 |e|^2 is a quadratic form of X whose ten coefficients are known once and for all; with
the depth of the last iterate, normal equations are weighted sums of them. What this leaves out of the gradient is the
change of d, which is e over the focal length smaller: a hundredth of a millimetre at some pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from core.arrays import Float
from fitting.rays import Rays, solve3

_NEAREST_M = 1e-3  # a point nearer to the camera's plane, or behind it, is not seen


@dataclass(frozen=True, eq=False)
class PixelForms:
    """Forms of (views, points).

    Attributes:
        form: coefficients of xx, 2xy, 2xz, yy, 2yz, zz, 2x, 2y, 2z, 1, px^2 over metres where they belong; 0 where a
            view did not see a point.
        weight: detector scores, 0 where not seen.
        axis: (views, 3) third rows of cam_from_world.
        offset: (views,) third components of its translation.
    """

    form: Float[np.ndarray, "10 views n"]
    weight: Float[np.ndarray, "views n"]
    axis: Float[np.ndarray, "views 3"]
    offset: Float[np.ndarray, "views"]

    @staticmethod
    def of(rays: Rays) -> PixelForms:
        """From undistorted keypoints."""
        form = np.zeros((10, *rays.seen.shape))
        for k in (0, 1):
            scale = np.where(rays.seen, rays.scale[k], 0.0)
            a = [(rays.R[:, k, i, None] - rays.xy[k] * rays.R[:, 2, i, None]) * scale for i in range(3)]
            a.append((rays.t[:, k, None] - rays.xy[k] * rays.t[:, 2, None]) * scale)
            pairs = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2), (0, 3), (1, 3), (2, 3), (3, 3))
            for row, (i, j) in enumerate(pairs):
                form[row] += a[i] * a[j]
        return PixelForms(form, rays.weight, rays.R[:, 2], rays.t[:, 2])

    def points(self, index: np.ndarray | slice) -> PixelForms:
        """The forms of some of the points."""
        return PixelForms(self.form[..., index], self.weight[:, index], self.axis, self.offset)

    @property
    def seen(self) -> np.ndarray:
        """(views, n)"""
        return self.form[9] > 0

    def depths(self, xyz: Float[np.ndarray, "3 n"]) -> Float[np.ndarray, "views n"]:
        """Depth of points in every view, NaN where it is no depth that a camera sees."""
        depth = self.axis @ xyz + self.offset[:, None]
        with np.errstate(invalid="ignore"):
            return np.where(depth > _NEAREST_M, depth, np.nan)

    def errors2(
        self, xyz: Float[np.ndarray, "3 n"], depth: Float[np.ndarray, "views n"] | None = None
    ) -> Float[np.ndarray, "views n"]:
        """Squared pixel errors; 0 where not seen, NaN behind the camera."""
        depth = self.depths(xyz) if depth is None else depth
        x, y, z = xyz
        quadratic = np.stack([x * x, 2 * x * y, 2 * x * z, y * y, 2 * y * z, z * z, 2 * x, 2 * y, 2 * z])
        # the constant is millions of px^2: what rounding leaves of it may be negative
        value = np.einsum("kvn,kn->vn", self.form[:9], quadratic) + self.form[9]
        return np.maximum(value, 0.0) / depth**2

    def meet(self, weight: Float[np.ndarray, "views n"]) -> Float[np.ndarray, "3 n"]:
        """The points with the least weighted sum of forms; NaN where singular. Weights hold 1 / depth^2."""
        return solve3(np.einsum("kvn,vn->kn", self.form[:6], weight), -np.einsum("kvn,vn->kn", self.form[6:9], weight))

    def information(self, weight: Float[np.ndarray, "views n"]) -> Float[np.ndarray, "n 3 3"]:
        """Weighted normal matrices of the points, px^2 over square metres times the weight."""
        upper = np.einsum("kvn,vn->kn", self.form[:6], weight)
        return np.moveaxis(upper[[[0, 1, 2], [1, 3, 4], [2, 4, 5]]], -1, 0)
