"""Ridge regression for any number of alphas after one decomposition."""

from __future__ import annotations

import numpy as np

from core.arrays import Float


class RidgePath:
    """The minimum of |y - x w|^2 + alpha |w|^2 over centred x and y, as a function of alpha.

    Args:
        x: inputs, scaled as the penalty shall see them.
        y: targets.
    """

    def __init__(self, x: Float[np.ndarray, "train width"], y: Float[np.ndarray, "train targets"]) -> None:
        self._mean, self._offset = x.mean(axis=0), y.mean(axis=0)
        centred, target = x - self._mean, y - self._offset
        # by the smaller one of x^T x and x x^T; the weights are the same
        if len(x) > x.shape[1]:
            values, self._basis = np.linalg.eigh(centred.T @ centred)
            self._projected = self._basis.T @ (centred.T @ target)
        else:
            values, left = np.linalg.eigh(centred @ centred.T)
            self._basis, self._projected = centred.T @ left, left.T @ target
        self._values = np.maximum(values, 0.0)

    def predict(self, x: Float[np.ndarray, "test width"], alpha: float) -> Float[np.ndarray, "test targets"]:
        """Targets of other inputs."""
        weights, offset = self.weights(alpha)
        return np.asarray(x @ weights + offset)

    def weights(self, alpha: float) -> tuple[Float[np.ndarray, "width targets"], Float[np.ndarray, "targets"]]:
        """What inputs are multiplied with, and what is added."""
        weights = self._basis @ (self._projected / (self._values + alpha)[:, None])
        return weights, self._offset - self._mean @ weights
