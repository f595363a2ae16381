"""How uncertain points that err together make camera poses, told by the residuals themselves.

Points of the scene map on one surface are off together: the map is bent there, or repeated texture misleads all of
them. No stated covariance knows that, but the residuals of a picture do. Leaving one cluster of points out after the
other shows how far each alone moves the pose, and the sum of these movements squared is the covariance (the jackknife
by clusters: Bell and McCaffrey 2002, "Bias reduction in standard errors for linear regression with multi-stage
samples"; the estimate CR3 of Cameron and Miller 2015, section VI).
"""

from __future__ import annotations

import numpy as np

from core.arrays import Float, Int

_LEAST_CLUSTERS = 4
_KEPT = 1e-6  # share of the information that any cluster leaves: one that carries a whole direction moves it far


def cells(xy_px: Float[np.ndarray, "n 2"], size_px: tuple[int, int], across: int) -> Int[np.ndarray, "n"]:
    """Cluster of each pixel: the cell of the picture, cut into `across` by `across`."""
    cell = np.clip((xy_px / np.array(size_px) * across).astype(int), 0, across - 1)
    return np.asarray(cell[:, 0] * across + cell[:, 1])


def jackknife(
    J: Float[np.ndarray, "n k d"],
    residual: Float[np.ndarray, "n k"],
    cluster: Int[np.ndarray, "n"],
    prior: Float[np.ndarray, "d d"],
) -> Float[np.ndarray, "d d"]:
    """Covariance of a weighted least-squares estimate whose residuals agree within clusters.

    Args:
        J: derivatives of the whitened residuals.
        residual: whitened residuals at the estimate.
        cluster: of each point.
        prior: information from elsewhere.

    Returns:
        sum over clusters c of d_c d_c^T (G - 1) / G, with d_c the change of the estimate without c; zero where fewer
        than four clusters tell nothing.
    """
    names, row = np.unique(cluster, return_inverse=True)
    count, size = len(names), J.shape[-1]
    if count < _LEAST_CLUSTERS:
        return np.zeros((size, size))
    H, g = np.zeros((count, size, size)), np.zeros((count, size))
    np.add.at(H, row, np.swapaxes(J, -1, -2) @ J)
    np.add.at(g, row, np.einsum("nki,nk->ni", J, residual))
    full = H.sum(axis=0) + prior
    change = np.linalg.solve(full - H + _KEPT * np.diag(np.diag(full)), g[..., None])[..., 0]
    return np.asarray(change.T @ change * (count - 1) / count)


def beyond(stated: Float[np.ndarray, "m d d"], shown: Float[np.ndarray, "m d d"]) -> Float[np.ndarray, "m d d"]:
    """What must be added to stated covariances so that they are nowhere less than those shown: 0 where they are not."""
    L = np.linalg.cholesky(stated)
    half = np.linalg.solve(L, shown)
    ratio, axes = np.linalg.eigh(np.linalg.solve(L, np.swapaxes(half, -1, -2)))
    wide = L @ axes
    return np.asarray((wide * np.maximum(ratio - 1, 0.0)[:, None, :]) @ np.swapaxes(wide, -1, -2))
