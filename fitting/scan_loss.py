"""What a scan's point says of the skin: a mixture of skin with noise, and of cloth or hair that lies outside it.

Bare skin is measured with normal noise. Cloth lies before the skin by an unknown distance that is never negative: with
an exponential distribution of mean `cloth_m` and the same noise its density is the exponentially modified normal. The
negative logarithm of the mixture is quadratic inside the body and at the skin, and pulls outside of it by no more than
1 / cloth_m, less than the pull of a bare point half a millimetre off. A few points are neither; beyond some centimetres
these pull nothing. Unlike a loss that is cut off at a distance, or pulls weakly on one whole side, it leaves a naked
scan without bias, because within the noise both sides pull alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import log_ndtr

from core.arrays import Float

_STRAY_DENSITY = 0.02  # per metre, of points that belong to nothing: one in a hundred over half a metre
_LOG_ROOT = 0.5 * np.log(2 * np.pi)


@dataclass(frozen=True, eq=False)
class PointLoss:
    """The loss of every point.

    Attributes:
        cost: minus the log likelihood, 0 for a bare point on the skin.
        slope: its derivative by the distance, per metre.
        curvature: what Gauss-Newton takes for the second derivative; positive.
        cloth: probability that the point is on cloth or hair.
        stray: probability that it is on nothing of the person.
    """

    cost: Float[np.ndarray, "n"]
    slope: Float[np.ndarray, "n"]
    curvature: Float[np.ndarray, "n"]
    cloth: Float[np.ndarray, "n"]
    stray: Float[np.ndarray, "n"]


def point_loss(
    distance_m: Float[np.ndarray, "n"], sigma_m: float, cloth_m: float, dressed: Float[np.ndarray, "n"]
) -> PointLoss:
    """The loss of points at signed distances before the skin.

    Args:
        distance_m: positive outside.
        sigma_m: noise of the points and misfit of the model.
        cloth_m: mean distance of cloth from the skin.
        dressed: probability beforehand that the point is not on bare skin.
    """
    z = distance_m / sigma_m
    lag = z - sigma_m / cloth_m
    ratio = np.exp(-0.5 * lag * lag - _LOG_ROOT - log_ndtr(lag))  # inverse Mills
    bare = np.log1p(-dressed) - 0.5 * z * z - _LOG_ROOT - np.log(sigma_m)
    cloth = np.log(np.maximum(dressed, 1e-300)) - np.log(cloth_m) + 0.5 * (sigma_m / cloth_m) ** 2
    cloth = cloth - distance_m / cloth_m + log_ndtr(lag)
    parts = np.stack([bare, cloth, np.full(z.shape, np.log(_STRAY_DENSITY))])
    total = np.logaddexp.reduce(parts, axis=0)
    of_bare, of_cloth, stray = np.exp(parts - total)
    slope = of_bare * z / sigma_m + of_cloth * (1 / cloth_m - ratio / sigma_m)
    curvature = (of_bare + of_cloth * ratio * (lag + ratio)) / sigma_m**2
    return PointLoss(-_LOG_ROOT - np.log(sigma_m) - total, slope, curvature, of_cloth, stray)


def even_loss(distance_m: Float[np.ndarray, "n"], sigma_m: float, scale_m: float) -> PointLoss:
    """Geman and McClure's loss, the same on both sides: for starting from afar, and to compare with.

    Args:
        distance_m: positive outside.
        sigma_m: standard deviation of a good point.
        scale_m: where a point has lost three quarters of its pull.
    """
    share = scale_m**2 / (scale_m**2 + distance_m**2)
    weight = share**2 / sigma_m**2
    return PointLoss(
        0.5 * distance_m**2 * share / sigma_m**2, weight * distance_m, weight, np.zeros(share.shape), 1 - share
    )
