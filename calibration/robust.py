"""Robust losses of squared, whitened residual norms, and the noise level that residuals reveal.

Losses follow Triggs et al. 2000 (section 3.3) with weights for iteratively reweighted least squares, w = d(cost)/d(s).
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from core.arrays import Float

Loss = Literal["none", "huber", "cauchy"]

_MAD_TO_SIGMA = 1.4826  # of a normal distribution


def robust_cost(squared: Float[np.ndarray, "n"], loss: Loss, scale: float) -> Float[np.ndarray, "n"]:
    """Cost of squared residual norms `s`: s, Huber's, or Cauchy's `c^2 log(1 + s / c^2)`."""
    c2 = scale * scale
    if loss == "cauchy":
        return c2 * np.log1p(squared / c2)
    if loss == "huber":
        return np.where(squared <= c2, squared, 2 * scale * np.sqrt(squared) - c2)
    return squared


def robust_weight(squared: Float[np.ndarray, "n"], loss: Loss, scale: float) -> Float[np.ndarray, "n"]:
    """Weight of each residual, 0..1: the derivative of `robust_cost`."""
    c2 = scale * scale
    if loss == "cauchy":
        return 1 / (1 + squared / c2)
    if loss == "huber":
        return np.where(squared <= c2, 1.0, scale / np.sqrt(np.maximum(squared, c2)))
    return np.ones_like(squared)


def variance_factor(whitened: Float[np.ndarray, "n 2"], weight: Float[np.ndarray, "n"], num_params: int = 0) -> float:
    """Squared ratio of the residuals' spread to what was stated, from the median of those that count; 1 without any.

    Args:
        whitened: residuals over their stated standard deviations.
        weight: robust weights; those below 0.1 do not count.
        num_params: unknowns that were fitted to them. Fitting takes their share of the residuals' variance away, so
            what is left is divided by the degrees of freedom.
    """
    counted = whitened[weight > 0.1]
    if len(counted) == 0:
        return 1.0
    freedom = max(counted.size - num_params, 1) / counted.size
    return float((_MAD_TO_SIGMA * np.median(np.abs(counted))) ** 2 / freedom)
