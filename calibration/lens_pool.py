"""What lenses of one kind have in common, learned from the lenses themselves: empirical Bayes.

Cameras of a rig are often of one make, and the high orders of their distortions, hardly seen by any one of them alone,
differ little. Each coefficient's spread over the lenses is estimated from their own solutions and becomes the prior of
the next one: by MacKay's rule (Neural Computation 1992, "Bayesian interpolation", equation 4.8), the sum of squares
over the number of well determined values. Where the lenses do differ, the spread comes out large and the prior weak.
"""

from __future__ import annotations

import numpy as np

from calibration.scene import LensPrior
from core.arrays import Float
from core.cameras import Lens

_MIN_LENSES = 4  # of one model and size: fewer say nothing about a spread
# smallest spreads that are believed: no two lenses are cut alike, no sensor's pixels are square beyond these
_LEAST_SPREAD = {"radial": 2e-3, "tangential": 5e-5, "aspect": 1e-4}
_TANGENTIAL = {"radtan": (6, 7), "rational": (6, 7)}


def pooled_lens_prior(
    lenses: tuple[Lens, ...],
    sigma: Float[np.ndarray, "lenses p"],
    prior: LensPrior,
    weakest: LensPrior,
    alone: Float[np.ndarray, "lenses p"],
) -> LensPrior:
    """Priors of the distortions and the aspect with the spread that lenses of one model and size show.

    Args:
        lenses: solved under `prior`.
        sigma: standard deviations of their parameters then.
        prior: the prior they were solved with.
        weakest: bound on how weak a prior may become; what is not pooled keeps it.
        alone: standard deviations of the parameters under the weakest prior: the lenses' mean is known no better than
            their mean square over the number of lenses.
    """
    mean, information = weakest.mean.copy(), weakest.information.copy()
    for group in _alike(lenses):
        params = np.stack([lenses[k].params for k in group])
        tangential = _TANGENTIAL.get(lenses[group[0]].model, ())
        for j in range(4, params.shape[1]):
            centre = 0.0 if j in tangential else float(params[:, j].mean())  # decentring has no preferred side
            least = _LEAST_SPREAD["tangential" if j in tangential else "radial"]
            known = 1 - sigma[group, j] ** 2 * prior.information[group, j, j]
            mean_variance = 0.0 if j in tangential else float((alone[group, j] ** 2).mean()) / len(group)
            spread = float(np.sqrt(max(_spread(params[:, j] - centre, known), least) ** 2 + mean_variance))
            mean[group, j] = centre
            information[group, j, j] = np.maximum(1 / spread**2, weakest.information[group, j, j])
        focal = params[:, :2].mean(axis=1)
        skewed = (params[:, 0] - params[:, 1]) / focal
        spread = max(_spread(skewed, np.ones(len(group))), _LEAST_SPREAD["aspect"])
        alike = np.maximum(1 / (spread * focal) ** 2, weakest.information[group, 0, 0])
        information[group, :2, :2] = alike[:, None, None] * np.array([[1.0, -1.0], [-1.0, 1.0]])
    return LensPrior(mean, information)


def _alike(lenses: tuple[Lens, ...]) -> list[list[int]]:
    """Groups of lenses of one model and picture size, those that are large enough."""
    groups: dict[tuple[str, tuple[int, int]], list[int]] = {}
    for k, lens in enumerate(lenses):
        groups.setdefault((lens.model, lens.size_px), []).append(k)
    return [group for group in groups.values() if len(group) >= _MIN_LENSES]


def _spread(off: np.ndarray, known: np.ndarray) -> float:
    """Spread of values of which `known` (0..1 each) is determined by data; widened as so few values ask for (t)."""
    effective = float(np.clip(known, 1e-3, 1.0).sum())
    n = len(off)
    return float(np.sqrt((off**2).sum() / effective * (n + 2) / n))
