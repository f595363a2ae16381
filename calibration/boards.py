"""A rig from one rigid target moved in front of fixed cameras, as plain arrays: mathematics for the rig stage."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from calibration.bundle import BundleConfig, BundleResult, solve_bundle
from calibration.initial import Registration, connected_groups, find_pairs, observed_rays, register
from calibration.lens_pool import pooled_lens_prior
from calibration.lens_prior import weak_lens_prior
from calibration.scene import Observations, Scene, num_params
from core.arrays import Float
from core.cameras import Camera, Lens, Rig
from core.errors import GateError
from core.transforms import SE3

_OUTLIER_SIGMAS = 5.0  # Gaussian noise in two dimensions passes it once in 270,000 corners
_POOL_ROUNDS = 3  # further ones change the centres by less than a tenth of their standard deviations


def board_observations(
    corners_px: Float[np.ndarray, "views boards points 2"], points_m: Float[np.ndarray, "points 3"], sigma_px: float
) -> Observations:
    """The seen corners of a table in which NaN means not seen."""
    view, board, point = np.nonzero(np.isfinite(corners_px[..., 0]))
    xy = corners_px[view, board, point].astype(float)
    return Observations(view, board, points_m[point].astype(float), xy, np.full(len(view), sigma_px))


@dataclass(frozen=True, eq=False)
class BoardRig:
    """A rig solved from one moving board.

    Attributes:
        rig: the cameras, in the frame of the first one.
        result: the bundle, with the covariances relative to that camera.
    """

    rig: Rig
    result: BundleResult


def solve_boards(
    ids: tuple[str, ...],
    lenses: tuple[Lens, ...],
    corners_px: Float[np.ndarray, "views boards points 2"],
    points_m: Float[np.ndarray, "points 3"],
    *,
    sigma_px: float = 0.3,
    free_lenses: bool = False,
) -> BoardRig:
    """The rig that saw a rigid target in many places, in the frame of its first camera.

    The robust solution only decides which corners are outliers; the rest is then solved by plain least squares, which
    at Gaussian noise no robust loss equals. Free lenses take priors from one another (`calibration.lens_pool`).

    Args:
        ids: names of the cameras.
        lenses: their lenses.
        corners_px: corners by camera, instant and point; NaN where not seen.
        points_m: the target's points.
        sigma_px: standard deviation of a coordinate.
        free_lenses: refine the lenses too.

    Raises:
        GateError: if cameras share no view, naming the groups.
    """
    observations = board_observations(corners_px, points_m, sigma_px)
    lens_idx = np.arange(len(lenses))
    rays = observed_rays(lenses, lens_idx, observations)
    pairs = find_pairs(observations, rays)
    start = register(observations, rays, pairs, len(lenses), {})
    if not start.image_known.all():
        groups = " | ".join(", ".join(ids[k] for k in group) for group in connected_groups(pairs, len(lenses)))
        raise GateError("rig", f"cameras share no view, they fall into groups: {groups}", "show the target to both")
    robust = bundle_registered(observations, lenses, lens_idx, start, free_lenses=free_lenses)
    result = _efficient(robust, observations, start, pool=free_lenses)
    solved = result.scene
    poses = [solved.world_from_cam[k] for k in range(len(lenses))]
    cameras = zip(ids, solved.lenses, poses, strict=True)
    return BoardRig(Rig(tuple(Camera(name, lens, pose.inverse()) for name, lens, pose in cameras)), result)


def _efficient(robust: BundleResult, observations: Observations, start: Registration, *, pool: bool) -> BundleResult:
    """The least-squares solution of what the robust one does not call outliers."""
    used = start.target_known[observations.target_idx]
    spread = observations.sigma_px * np.sqrt(max(robust.variance_factor, 1.0))
    with np.errstate(invalid="ignore"):
        kept = observations[used & (robust.error_px < _OUTLIER_SIGMAS * spread)]
    plain = BundleConfig(loss="none")
    weakest = robust.scene.lens_prior
    if not pool or weakest is None:
        return solve_bundle(robust.scene, kept, plain)
    result = robust
    for _ in range(_POOL_ROUNDS):
        prior = result.scene.lens_prior or weakest
        pooled = pooled_lens_prior(result.scene.lenses, result.lens_sigma, prior, weakest, robust.lens_sigma)
        result = solve_bundle(dataclasses.replace(result.scene, lens_prior=pooled), kept, plain)
    return result


def bundle_registered(
    observations: Observations,
    lenses: tuple[Lens, ...],
    lens_idx: np.ndarray,
    start: Registration,
    *,
    free_lenses: bool = False,
    held_targets: np.ndarray | None = None,
    config: BundleConfig | None = None,
) -> BundleResult:
    """Bundle adjustment from registered start values; what was not registered stays out of it.

    The first registered image is held unless targets are. Unregistered nodes keep NaN poses and covariances.
    """
    used = start.image_known[observations.image_idx] & start.target_known[observations.target_idx]
    image, target = _filled(start.world_from_cam), _filled(start.world_from_target)
    held_images = None if held_targets is not None else np.flatnonzero(start.image_known)[:1]
    scene = Scene.fixed_lenses(lenses, lens_idx, image, target, held_images=held_images, held_targets=held_targets)
    seen_images, seen_targets = np.zeros(len(image), bool), np.zeros(len(target), bool)
    seen_images[observations.image_idx[used]] = True
    seen_targets[observations.target_idx[used]] = True
    scene = dataclasses.replace(
        scene,
        image_free=scene.image_free & seen_images[:, None],
        target_free=scene.target_free & seen_targets[:, None],
    )
    if free_lenses:
        free = np.zeros((len(lenses), num_params(lenses)), bool)
        for row, lens in zip(free, lenses, strict=True):
            row[: len(lens.params)] = True
        scene = dataclasses.replace(scene, lens_free=free, lens_prior=weak_lens_prior(lenses))
    result = solve_bundle(scene, observations[used], config)
    residual, weight = np.full((len(observations), 2), np.nan), np.zeros(len(observations))
    residual[used], weight[used] = result.residual_px, result.weight
    return dataclasses.replace(result, residual_px=residual, weight=weight)


def _filled(poses: SE3) -> SE3:
    """NaN poses replaced by the identity, for nodes that no equation mentions."""
    known = np.isfinite(poses.t[:, 0])
    return SE3(np.where(known[:, None, None], poses.R, np.eye(3)), np.where(known[:, None], poses.t, 0.0))
