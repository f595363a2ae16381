"""Pictures of targets through any lens, with exact truth."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np

from capture.prints import target_image
from capture.targets import Target
from core.cameras import Lens
from core.transforms import SE3

OVERSAMPLING = 3


@cache
def rays_of(lens: Lens) -> np.ndarray:
    """Directions through the sub-pixels of a picture."""
    step = (np.arange(OVERSAMPLING) + 0.5) / OVERSAMPLING - 0.5
    u, v = np.meshgrid(*[(np.arange(n)[:, None] + step).ravel() for n in lens.size_px])
    return lens.unproject(np.stack([u, v], axis=-1))


def render(
    target: Target,
    lens: Lens,
    cam_from_target: SE3,
    rng: np.random.Generator,
    *,
    blur_px: float = 0.6,
    noise: float = 2.0,
    margin_m: float = 0.04,
    contrast: float = 0.7,
    smear_px: float = 0.0,
) -> np.ndarray:
    """A planar target through a lens: every pixel averages 3x3 rays, then blur and noise as of a camera.

    Args:
        target: what is shown.
        lens: the camera's.
        cam_from_target: its pose.
        rng: of the noise.
        blur_px: standard deviation of a Gaussian.
        noise: standard deviation, gray levels.
        margin_m: of white paper.
        contrast: of the picture.
        smear_px: length of a motion blur along x.
    """
    k = OVERSAMPLING
    print_px_per_m = target_image(target, 1500.0).shape[1] / target.size_m[0]
    picture = target_image(target, 1500.0, margin_m=margin_m)
    target_from_cam = cam_from_target.inverse()
    rays = rays_of(lens) @ target_from_cam.R.T
    scale = -target_from_cam.t[2] / rays[..., 2]
    at = target_from_cam.t[:2] + scale[..., None] * rays[..., :2]
    at = np.where((scale > 0)[..., None], at, -1e3) * print_px_per_m + round(margin_m * print_px_per_m) - 0.5
    big = cv2.remap(
        picture, at[..., 0].astype(np.float32), at[..., 1].astype(np.float32), cv2.INTER_LINEAR, borderValue=110
    )
    if smear_px > 0:
        length = 2 * round(smear_px * k / 2) + 1
        big = cv2.blur(big, (length, 1))
    image = cv2.GaussianBlur(big.reshape(len(rays) // k, k, -1, k).mean(axis=(1, 3)), (0, 0), blur_px)
    return np.clip(30 + contrast * image + rng.normal(0, noise, image.shape), 0, 255).astype(np.uint8)


def facing(target: Target, rotvec: list[float], centre_m: list[float]) -> SE3:
    """A pose that puts the target's middle at a place in the camera frame."""
    R = SE3.from_rotvec(np.array(rotvec), np.zeros(3)).R
    return SE3(R, np.array(centre_m) - R @ target.points_m.mean(axis=0))
