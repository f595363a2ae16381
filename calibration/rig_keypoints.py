"""Refinement of an imported rig on the person's own keypoints.

Every joint at every instant is a free point; cameras move under Gaussian priors about their imported poses, which also
hold position, orientation and scale of the whole, because keypoints alone say nothing about these.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from calibration.bundle import BundleConfig, solve_bundle
from calibration.initial import observed_rays
from calibration.scene import LensPrior, Observations, PosePrior, Scene, num_params
from core.arrays import Bool, Float, Int
from core.cameras import Camera, Rig
from core.errors import GateError
from core.transforms import SE3

_MIN_VIEWS = 3  # two views fix a point but cannot contradict each other along the epipolar line
_MIN_POINTS = 100  # fewer joints cannot carry six numbers a camera


@dataclass(frozen=True)
class KeypointRefinement:
    """Settings of the refinement on keypoints.

    Attributes:
        min_score: keypoints below it are not used.
        sigma_px: standard deviation of a keypoint with score 1; it grows as the score falls.
        rotation_sigma_deg: how far an imported orientation may be off.
        position_sigma_percent: how far an imported position may be off, of the camera's distance to the person.
        focal_sigma_percent: how far the focal lengths may be off; 0 holds all lenses.
        max_points: joints used at most, evenly spread over time.
    """

    min_score: float = 0.3
    sigma_px: float = 5.0
    rotation_sigma_deg: float = 2.0
    position_sigma_percent: float = 2.0
    focal_sigma_percent: float = 0.0
    max_points: int = 4000


@dataclass(frozen=True, eq=False)
class RefinedRig:
    """A rig refined on keypoints.

    Attributes:
        rig: the rig.
        covariance: (views, 6, 6) of `world_from_cam`, (rotation, translation).
        before_px: (views,) median reprojection error of the free points under the imported rig.
        after_px: (views,) the same under the refined one.
        moved_deg: (views,) by how much each orientation changed.
        moved_m: (views,) by how much each position changed.
        num_points: joints used.
    """

    rig: Rig
    covariance: Float[np.ndarray, "views 6 6"]
    before_px: Float[np.ndarray, "views"]
    after_px: Float[np.ndarray, "views"]
    moved_deg: Float[np.ndarray, "views"]
    moved_m: Float[np.ndarray, "views"]
    num_points: int


def refine_on_keypoints(
    rig: Rig,
    xy_px: Float[np.ndarray, "views instants joints 2"],
    score: Float[np.ndarray, "views instants joints"],
    config: KeypointRefinement | None = None,
) -> RefinedRig:
    """Bundle adjustment of the cameras over one person's keypoints at common instants.

    Args:
        rig: imported rig; the views are its cameras in order.
        xy_px: keypoints; NaN where missing.
        score: their scores, 0..1.
        config: settings.

    Raises:
        GateError: if too few joints are seen by three cameras.
    """
    config = config or KeypointRefinement()
    observations, num_points = _observe(xy_px, score, config)
    if num_points < _MIN_POINTS or len(np.unique(observations.image_idx)) < len(rig):
        seen = ", ".join(rig.ids[k] for k in np.unique(observations.image_idx))
        raise GateError(
            "rig",
            f"only {num_points} joints are seen by {_MIN_VIEWS} cameras or more (seen by any: {seen or 'none'})",
            "check that the keypoints belong to the same person and the clocks are right, or import without refining",
        )
    lenses = tuple(camera.lens for camera in rig)
    rays = observed_rays(lenses, np.arange(len(rig)), observations)
    poses = SE3.stack([camera.world_from_cam for camera in rig])
    points = intersect_rays(poses, observations.image_idx, observations.target_idx, rays, num_points)
    scene = _scene(rig, poses, points, config)
    robust = BundleConfig(loss="cauchy", loss_sigmas=2.0)
    held = dataclasses.replace(scene, image_free=np.zeros_like(scene.image_free), pose_prior=None)
    held = dataclasses.replace(held, lens_free=np.zeros_like(held.lens_free), lens_prior=None)
    before = solve_bundle(held, observations, robust)
    result = solve_bundle(
        dataclasses.replace(scene, world_from_target=before.scene.world_from_target), observations, robust
    )
    solved = result.scene
    refined = [
        Camera(camera.id, lens, solved.world_from_cam[k].inverse())
        for k, (camera, lens) in enumerate(zip(rig, solved.lenses, strict=True))
    ]
    moved = poses.local(solved.world_from_cam)
    return RefinedRig(
        rig=Rig(tuple(refined)),
        covariance=result.image_covariance,
        before_px=_medians(before.error_px, observations.image_idx, len(rig)),
        after_px=_medians(result.error_px, observations.image_idx, len(rig)),
        moved_deg=np.degrees(np.linalg.norm(moved[:, :3], axis=-1)),
        moved_m=np.linalg.norm(moved[:, 3:], axis=-1),
        num_points=num_points,
    )


def intersect_rays(
    world_from_cam: SE3,
    image_idx: Int[np.ndarray, "n"],
    point_idx: Int[np.ndarray, "n"],
    rays: Float[np.ndarray, "n 3"],
    num_points: int,
) -> Float[np.ndarray, "points 3"]:
    """Points nearest to their rays in the least-squares sense: sum (I - d d^T)(x - c) = 0."""
    d = np.einsum("nij,nj->ni", world_from_cam.R[image_idx], rays)
    off = np.eye(3) - d[:, :, None] * d[:, None, :]
    A, b = np.zeros((num_points, 3, 3)), np.zeros((num_points, 3))
    np.add.at(A, point_idx, off)
    np.add.at(b, point_idx, np.einsum("nij,nj->ni", off, world_from_cam.t[image_idx]))
    return np.asarray(np.linalg.solve(A, b[..., None])[..., 0])


def _observe(xy_px: np.ndarray, score: np.ndarray, config: KeypointRefinement) -> tuple[Observations, int]:
    """Keypoints of all joints that enough views see, and the number of joints."""
    with np.errstate(invalid="ignore"):
        good: Bool[np.ndarray, "views instants joints"] = np.isfinite(xy_px[..., 0]) & (score >= config.min_score)
    instant, joint = np.nonzero(good.sum(axis=0) >= _MIN_VIEWS)
    keep = np.unique(np.linspace(0, len(instant) - 1, min(len(instant), config.max_points)).round().astype(int))
    instant, joint = instant[keep], joint[keep]
    view, point = np.nonzero(good[:, instant, joint])
    at = (view, instant[point], joint[point])
    sigma = config.sigma_px / np.sqrt(score[at].astype(float))
    return Observations(view, point, np.zeros((len(view), 3)), xy_px[at].astype(float), sigma), len(instant)


def _scene(rig: Rig, poses: SE3, points: np.ndarray, config: KeypointRefinement) -> Scene:
    """Cameras under their priors, points free to move but not to turn."""
    lenses = tuple(camera.lens for camera in rig)
    targets = SE3(np.broadcast_to(np.eye(3), (len(points), 3, 3)).copy(), points)
    scene = Scene.fixed_lenses(lenses, np.arange(len(rig)), poses, targets)
    target_free = scene.target_free.copy()
    target_free[:, :3] = False
    distance = np.linalg.norm(poses.t - np.median(points, axis=0), axis=-1)
    sigma = np.empty((len(rig), 6))
    sigma[:, :3] = np.radians(config.rotation_sigma_deg)
    sigma[:, 3:] = config.position_sigma_percent / 100 * distance[:, None]
    prior = PosePrior(poses, np.eye(6) / sigma[..., None] ** 2)
    scene = dataclasses.replace(scene, target_free=target_free, pose_prior=prior)
    if config.focal_sigma_percent <= 0:
        return scene
    p = num_params(lenses)
    lens_free, mean, information = scene.lens_free.copy(), np.zeros((len(rig), p)), np.zeros((len(rig), p, p))
    lens_free[:, :2] = True
    for k, lens in enumerate(lenses):
        mean[k, : len(lens.params)] = lens.params
        information[k, [0, 1], [0, 1]] = 1 / (config.focal_sigma_percent / 100 * np.array(lens.focal_px)) ** 2
    return dataclasses.replace(scene, lens_free=lens_free, lens_prior=LensPrior(mean, information))


def _medians(error_px: np.ndarray, image_idx: np.ndarray, num_views: int) -> np.ndarray:
    return np.array([np.nanmedian(error_px[image_idx == view]) for view in range(num_views)])
