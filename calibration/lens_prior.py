"""What is known of a lens before any board is seen, weak, so that good data overrule it and poor data stay sane; and
how far a lens from another tool's file is trusted, which does not say so itself."""

from __future__ import annotations

import numpy as np

from calibration.scene import LensPrior, num_params
from core.arrays import Float
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
# standard deviations of a lens from twenty to forty boards at a third of a pixel, as other tools write them; a
# principal point and a turn of the camera look alike, so no residual shows that it is off by pixels
_IMPORTED_FOCAL = 0.005
_IMPORTED_CENTRE = 0.004  # of the image width
_IMPORTED_DISTORTION = 0.1  # of the spread above


def imported_lens_covariance(lens: Lens) -> Float[np.ndarray, "p p"]:
    """Covariance of `Lens.params` that a lens deserves whose file states none."""
    focal = _IMPORTED_FOCAL * np.array(lens.focal_px)
    centre = np.full(2, _IMPORTED_CENTRE * lens.size_px[0])
    distortion = _IMPORTED_DISTORTION * np.array(_DISTORTION_SIGMA[lens.model])
    return np.diag(np.concatenate([focal, centre, distortion]) ** 2)


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
