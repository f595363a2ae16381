"""What is known of a lens before any board is seen: weak, so that good data overrule it and poor data stay sane."""

from __future__ import annotations

import numpy as np

from calibration.scene import LensPrior, num_params
from core.cameras import Lens, LensModel

_CENTRE_SIGMA = 0.03  # of the image width: how far principal points lie from the middle
# of the focal length, fx against fy: sensors have square pixels; a video resized to even numbers of pixels, 0.1 % less
_ASPECT_SIGMA = 0.002
# standard deviations of each model's coefficients; high orders are tight because nothing else holds them back
_DISTORTION_SIGMA: dict[LensModel, tuple[float, ...]] = {
    "pinhole": (),
    "radtan": (0.5, 0.5, 0.01, 0.01, 0.5),
    "rational": (5.0, 5.0, 0.01, 0.01, 2.0, 5.0, 5.0, 2.0),
    "fisheye": (0.2, 0.2, 0.2, 0.1),
}


def weak_lens_prior(lenses: tuple[Lens, ...], *, distortion_scale: float = 1.0) -> LensPrior:
    """Priors centred on the image's middle and on no distortion; none on the focal length, but fx and fy are alike.

    Args:
        lenses: start values; their focal lengths scale the aspect prior.
        distortion_scale: factor on the standard deviations of the distortion, below 1 for few boards.
    """
    p = num_params(lenses)
    mean, information = np.zeros((len(lenses), p)), np.zeros((len(lenses), p, p))
    for k, lens in enumerate(lenses):
        width, height = lens.size_px
        mean[k, 2:4] = (width - 1) / 2, (height - 1) / 2
        sigma = distortion_scale * np.array(_DISTORTION_SIGMA[lens.model])
        information[k, [2, 3], [2, 3]] = 1 / (_CENTRE_SIGMA * width) ** 2
        used = np.arange(4, 4 + len(sigma))
        information[k, used, used] = 1 / sigma**2
        alike = 1 / (_ASPECT_SIGMA * np.mean(lens.focal_px)) ** 2
        information[k, :2, :2] = alike * np.array([[1.0, -1.0], [-1.0, 1.0]])
    return LensPrior(mean, information)
