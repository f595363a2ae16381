"""Corners to a hundredth of a pixel, each with its own uncertainty: a blurred corner is fitted to the picture.

Near a corner two edges cross. Blurred by a Gaussian, an edge is an error function of the distance from it, and the
picture is `a + b E1 E2` where four squares meet (a saddle), or `a + b (1 + E1)(1 + E2) / 4` at the corner of one dark
quadrilateral. The corner, the direction and the blur of both edges and the two gray levels are solved for by least
squares in all corners of a picture at once; motion blur shows as two different blurs. The covariance follows from the
residuals, so that noise, low contrast and blur all weigh as much as they hurt.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import erf

from core.arrays import Bool, Float, UInt8

Shape = Literal["saddle", "corner"]

_ITERATIONS = 12
_REACH_PX = (3.0, 9.0)  # bounds of the window: below there is nothing to fit, above a wide lens bends the edges
_BLUR_PX = (0.3, 5.0)
_START_BLUR_PX = 0.8
_MAX_STEP_PX = 1.0
_SETTLED = 2e-3  # pixels, radians and shares of the blur
_MIN_PIXELS = 24
_GUARD_PX = 0.8  # what is printed next to the known band shines this far into it
_MIN_BAND_PX = 1.2  # half width of the narrowest band that still shows both sides of an edge
_FLOOR_PX = 0.03  # what remains on real boards, with their print, paper and sharpening; rendered ones leave 0.01
_MAX_MISFIT = 0.5  # residuals over half the contrast; 0.05 at ideal corners, 0.3 where a camera sharpens its pictures
_MAX_EXCESS = 1.3  # fitted over shown contrast; what covers a corner looks like a blur of squares that are not there
_MIN_CONTRAST = 10.0  # gray levels between dark and light


@dataclass(frozen=True, eq=False)
class CornerFit:
    """Fitted corners; those that are none are NaN.

    Attributes:
        xy_px: where they are.
        sigma_px: standard deviation of either coordinate.
        blur_px: standard deviation of the blur across the more blurred of the two edges.
        good: whether a corner was found.
    """

    xy_px: Float[np.ndarray, "n 2"]
    sigma_px: Float[np.ndarray, "n"]
    blur_px: Float[np.ndarray, "n"]
    good: Bool[np.ndarray, "n"]


def fit_corners(
    image: UInt8[np.ndarray, "h w"],
    guess_px: Float[np.ndarray, "n 2"],
    axes_px: Float[np.ndarray, "n 2 2"],
    *,
    shape: Shape,
    extent: float,
    band: float,
    max_move_px: Float[np.ndarray, "n"],
) -> CornerFit:
    """Fits corners near guesses.

    Args:
        image: gray picture.
        guess_px: to about a pixel.
        axes_px: pixels a unit (a square, a marker's cell) along the print's x and y there; the dark quadrilateral of a
            `corner` lies on the positive side of both.
        shape: four squares that meet, or one dark corner.
        extent: how far along the edges, in units, the print is known.
        band: how far beside the edges, in units, nothing else is printed.
        max_move_px: how far from its guess a corner may be.
    """
    n = len(guess_px)
    if not n:
        return CornerFit(np.zeros((0, 2)), np.zeros(0), np.zeros(0), np.zeros(0, bool))
    window = _Window.around(image, guess_px, axes_px, shape, extent, band)
    state = window.start()
    for _ in range(_ITERATIONS):
        J, residual = window.linearise(state)
        H, g = window.normal(J, residual)
        step = -np.linalg.solve(H, g[..., None])[..., 0]
        longest = np.abs(step[:, :2]).max(axis=-1, initial=1e-9)
        step *= np.minimum(1.0, _MAX_STEP_PX / longest)[:, None]
        step[:, 2:6] = np.clip(step[:, 2:6], -0.4, 0.4)
        state = state + step
        state[:, 4:6] = np.clip(state[:, 4:6], *np.log(_BLUR_PX))
        if np.abs(step[:, :6]).max() < _SETTLED:
            break
    return window.judge(state, max_move_px)


@dataclass(frozen=True, eq=False)
class _Window:
    """The pixels around each corner, and the model of them.

    A state is (n, 8): corner x, y; angles of the normals of both edges; logarithms of their blurs; a, b.
    """

    gray: np.ndarray  # (n, k)
    offset: np.ndarray  # (n, k, 2) pixels from the guess
    used: np.ndarray  # (n, k)
    guess: np.ndarray  # (n, 2)
    axes: np.ndarray  # (n, 2, 2)
    known: np.ndarray  # (n,) pixels to where the print is known
    shape: Shape

    @staticmethod
    def around(
        image: np.ndarray, guess: np.ndarray, axes: np.ndarray, shape: Shape, extent: float, band: float
    ) -> _Window:
        length = np.linalg.norm(axes, axis=-1)
        reach = np.clip(extent * length.min(axis=-1), *_REACH_PX)
        half = int(np.ceil(reach.max()))
        steps = np.arange(-half, half + 1)
        grid = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
        finite = np.where(np.isfinite(guess), guess, 0.0)
        pixel = np.round(finite).astype(int)[:, None] + grid
        height, width = image.shape
        used = ((pixel >= 0) & (pixel < [width, height])).all(axis=-1)
        at = np.clip(pixel, 0, [width - 1, height - 1])
        offset = pixel - finite[:, None]
        unit = np.einsum("nki,nij->nkj", offset, np.linalg.inv(axes))  # place on the print, in units
        # a unit shorter than the least window would leave nothing: the window then looks past the known print
        stretch = np.maximum(1.0, _REACH_PX[0] / np.maximum(extent * length.min(axis=-1), 1e-9))[:, None]
        unit = unit / stretch[..., None]
        area = np.abs(np.linalg.det(axes))[:, None]
        unit_px = area / length[:, ::-1]  # from one edge to its parallel a unit away
        edge = unit_px[:, None] * (np.abs(unit) if shape == "saddle" else unit)  # distance from both edges, pixels
        beside = np.maximum(band * unit_px / stretch - _GUARD_PX, _MIN_BAND_PX)[:, None]
        used &= (edge < beside).any(axis=-1) & (unit.max(axis=-1) < extent)
        used &= (unit.min(axis=-1) > -extent) if shape == "saddle" else (edge > -beside).all(axis=-1)
        used &= (np.abs(offset) <= reach[:, None, None]).all(axis=-1)
        known = extent * length.min(axis=-1)
        return _Window(image[at[..., 1], at[..., 0]].astype(float), offset, used, finite, axes, known, shape)

    def start(self) -> np.ndarray:
        """The guess, edges along the axes, and gray levels by least squares."""
        along_x, along_y = self.axes[:, 0], self.axes[:, 1]
        normals = []
        for along, other in ((along_y, along_x), (along_x, along_y)):
            normal = np.stack([-along[:, 1], along[:, 0]], axis=-1)
            normal *= np.sign(np.einsum("ni,ni->n", normal, other))[:, None]
            normals.append(np.arctan2(normal[:, 1], normal[:, 0]))
        state = np.zeros((len(self.gray), 8))
        state[:, 2], state[:, 3] = normals
        state[:, 4:6] = np.log(_START_BLUR_PX)
        model = self._model(state)[0]
        weight = self.used / np.maximum(self.used.sum(axis=1), 1)[:, None]
        mean, mean_gray = (model * weight).sum(axis=1), (self.gray * weight).sum(axis=1)
        spread = ((model - mean[:, None]) ** 2 * weight).sum(axis=1)
        state[:, 7] = ((model - mean[:, None]) * self.gray * weight).sum(axis=1) / np.maximum(spread, 1e-9)
        state[:, 6] = mean_gray - state[:, 7] * mean
        return state

    def _model(self, state: np.ndarray) -> tuple[np.ndarray, ...]:
        """The pattern between -1 and 1 (0 and 1 for a corner), its derivatives by each edge's distance, distances,
        normals and offsets."""
        place = self.offset - state[:, None, :2]
        normal = np.stack([np.cos(state[:, 2:4]), np.sin(state[:, 2:4])], axis=-1)  # (n, 2, 2)
        distance = place @ np.swapaxes(normal, 1, 2)  # (n, k, 2)
        blur = np.exp(state[:, None, 4:6])
        edge = erf(distance / (np.sqrt(2) * blur))
        slope = np.sqrt(2 / np.pi) / blur * np.exp(-0.5 * (distance / blur) ** 2)
        if self.shape == "corner":
            edge, slope = (1 + edge) / 2, slope / 2
        pattern = edge[..., 0] * edge[..., 1]
        by_distance = slope * edge[..., ::-1]
        return pattern, by_distance, distance, normal, place

    def linearise(self, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Derivatives (n, k, 8) and residuals (n, k), model minus picture; 0 outside the window."""
        pattern, by_distance, distance, normal, place = self._model(state)
        by_distance = by_distance * state[:, None, 7:]
        tangent = np.stack([-normal[..., 1], normal[..., 0]], axis=-1)
        J = np.concatenate(
            [
                -by_distance @ normal,
                by_distance * (place @ np.swapaxes(tangent, 1, 2)),
                -by_distance * distance,
                np.ones_like(pattern)[..., None],
                pattern[..., None],
            ],
            axis=-1,
        )
        residual = state[:, 6:7] + state[:, 7:] * pattern - self.gray
        return J * self.used[..., None], residual * self.used

    def normal(self, J: np.ndarray, residual: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Normal equations with a little damping: an edge that does not show leaves its blur where it is."""
        Jt = np.swapaxes(J, 1, 2)
        H = Jt @ J
        diagonal = np.einsum("nii->ni", H)
        H[:, np.arange(8), np.arange(8)] += 1e-3 * diagonal + 1e-6 * (1 + diagonal.max(axis=-1, keepdims=True))
        return H, (Jt @ residual[..., None])[..., 0]

    def judge(self, state: np.ndarray, max_move_px: np.ndarray) -> CornerFit:
        """Corners with their covariance from the residuals."""
        J, residual = self.linearise(state)
        count = self.used.sum(axis=1)
        variance = (residual**2).sum(axis=1) / np.maximum(count - 8, 1)
        covariance = np.linalg.inv(self.normal(J, residual)[0])[:, :2, :2]
        noise = np.sqrt(np.maximum(np.einsum("nii->n", covariance) * variance / 2, 0.0))
        contrast = np.abs(state[:, 7]) * (2.0 if self.shape == "saddle" else 1.0)
        good = (count >= _MIN_PIXELS) & (contrast > _MIN_CONTRAST) & (np.sqrt(variance) < _MAX_MISFIT * contrast / 2)
        shown = np.where(self.used, self.gray, -np.inf).max(axis=1) - np.where(self.used, self.gray, np.inf).min(axis=1)
        good &= (contrast < _MAX_EXCESS * shown) & (np.linalg.norm(state[:, :2], axis=-1) < max_move_px)
        blur = np.exp(state[:, 4:6].max(axis=-1))
        # what lies beyond the known print shines in where the blur reaches it
        leak = blur * np.exp(-0.5 * (self.known / blur) ** 2)
        if self.shape == "corner":
            good &= state[:, 7] < 0  # the inside is dark
        missing = np.where(good, 1.0, np.nan)
        return CornerFit(
            (self.guess + state[:, :2]) * missing[:, None],
            np.sqrt(noise**2 + _FLOOR_PX**2 + leak**2) * missing,
            blur * missing,
            good,
        )
