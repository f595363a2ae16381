"""From a reconstruction of arbitrary scale to points in metres: registered to the rig, adjusted with it, described.

The scale never comes from the pictures alone: it is that of the room cameras' places in the rig, and of located markers
that the walk-through saw. Both then enter the adjustment as priors, so the map ends where they and all pictures agree.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from calibration.colmap import Structure
from calibration.features import Features
from calibration.point_bundle import PointBundle, PointScene, Sights, solve_points
from calibration.registration import Similarity, in_line, register
from calibration.scene_points import SceneMap, few_descriptors
from core.arrays import Bool, Float, Int
from core.cameras import Lens
from core.errors import GateError
from core.transforms import SE3, geodesic

FEATURE_SIGMA_PX = 0.4
_LARGE_PX = 6.0  # diameter of a point above which its place is less certain
_MARK_SIGMA_PX = 0.3
_LEAST_SIGHTS = 6  # of a picture: three fix a pose, and must not fix it by themselves
_LEAST_CROSSING = 0.01  # of rays: sum of squared sines of the angles between them
_LEAST_VARIANCE = np.repeat([1e-4, 5e-4], 3) ** 2  # of a rig's camera, whose stated errors leave out what it shares


@dataclass(frozen=True)
class SceneSolverConfig:
    """Settings of the map's registration and adjustment.

    Attributes:
        anchor_sigma_m: how well places in the map before the adjustment can agree with the room.
        max_error_px: reprojection error above which a point's observation is dropped.
        min_views: pictures that must see a point.
        max_sigma_m: standard deviation of its place above which a point is dropped.
        descriptors: of each point at most.
        seed: of the trials of the registration.
    """

    anchor_sigma_m: float = 0.03
    max_error_px: float = 3.0
    min_views: int = 3
    max_sigma_m: float = 0.03
    descriptors: int = 4
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Anchors:
    """What of the room is known before.

    Attributes:
        camera_image: (c,) images of the room cameras.
        world_from_cam: (c,) their poses in the rig.
        camera_covariance: (c, 6, 6) of these.
        mark_image: (k,) image that saw a marker point.
        mark_idx: (k,) which marker point.
        mark_xy_px: (k, 2) where.
        marks_m: (q, 3) the marker points in the world.
        mark_sigma_m: (q,) standard deviations of their places.
    """

    camera_image: Int[np.ndarray, "c"]
    world_from_cam: SE3
    camera_covariance: Float[np.ndarray, "c 6 6"]
    mark_image: Int[np.ndarray, "k"]
    mark_idx: Int[np.ndarray, "k"]
    mark_xy_px: Float[np.ndarray, "k 2"]
    marks_m: Float[np.ndarray, "q 3"]
    mark_sigma_m: Float[np.ndarray, "q"]


@dataclass(frozen=True, eq=False)
class SolvedScene:
    """A map in metres and how it came to be.

    Attributes:
        scene: the map.
        world_from_cam: (images,) poses; NaN where not registered, or dropped for want of sights that fit.
        pose_covariance: (images, 6, 6) of these; NaN where not registered.
        similarity: the registration.
        camera_registered: (c,) room cameras in the map.
        camera_m: (c,) distance of a room camera in the map from the rig's, before the adjustment; NaN if not in it.
        camera_rad: (c,) angle between them.
        scale_by_source: the scale from cameras and from markers alone, where they allow one.
        num_marks: marker points among the anchors.
        rms_px: root mean square of the kept residuals' coordinates.
    """

    scene: SceneMap
    world_from_cam: SE3
    pose_covariance: Float[np.ndarray, "images 6 6"]
    similarity: Similarity
    camera_registered: Bool[np.ndarray, "c"]
    camera_m: Float[np.ndarray, "c"]
    camera_rad: Float[np.ndarray, "c"]
    scale_by_source: Mapping[str, float]
    num_marks: int
    rms_px: float


def solve_scene(
    structure: Structure,
    features: Sequence[Features],
    lenses: Sequence[Lens],
    lens_idx: Int[np.ndarray, "images"],
    anchors: Anchors,
    config: SceneSolverConfig | None = None,
) -> SolvedScene:
    """Registers a reconstruction to the room and adjusts it there.

    Raises:
        GateError: if too little of the room is known in it to fix its scale and place.
    """
    config = config or SceneSolverConfig()
    marks = _triangulated_marks(structure, lenses, lens_idx, anchors)
    similarity, by_source = _registered(structure, anchors, marks, config)
    posed = similarity.apply_pose(structure.world_from_cam)
    seen = structure.registered[anchors.camera_image]
    apart = np.linalg.norm(posed.t[anchors.camera_image] - anchors.world_from_cam.t, axis=-1)
    angle = np.full(len(apart), np.nan)
    angle[seen] = geodesic(posed.R[anchors.camera_image[seen]], anchors.world_from_cam.R[seen])
    scene, sights, feature_idx = _problem(structure, features, lenses, lens_idx, anchors, marks, similarity)
    bundle, sights, feature_idx, held = _adjusted(scene, sights, feature_idx, config)
    images = np.flatnonzero(structure.registered)[held]
    left = np.isin(anchors.camera_image, images)
    R, t = np.full((len(lens_idx), 3, 3), np.nan), np.full((len(lens_idx), 3), np.nan)
    covariance = np.full((len(lens_idx), 6, 6), np.nan)
    R[images], t[images] = bundle.scene.world_from_cam.R, bundle.scene.world_from_cam.t
    covariance[images] = bundle.pose_covariance
    return SolvedScene(
        scene=_described(bundle, sights, feature_idx, [features[i] for i in images.tolist()], config),
        world_from_cam=SE3(R, t),
        pose_covariance=covariance,
        similarity=similarity,
        camera_registered=left,
        camera_m=np.where(left, apart, np.nan),
        camera_rad=np.where(left, angle, np.nan),
        scale_by_source=by_source,
        num_marks=int(np.isfinite(marks[:, 0]).sum()),
        rms_px=float(np.sqrt(np.nanmean(bundle.residual_px**2))),
    )


def _registered(
    structure: Structure, anchors: Anchors, marks: np.ndarray, config: SceneSolverConfig
) -> tuple[Similarity, dict[str, float]]:
    """The registration by all anchors, and the scale by each kind alone."""
    seen, found = structure.registered[anchors.camera_image], np.isfinite(marks[:, 0])
    sources = {
        "cameras": (structure.world_from_cam.t[anchors.camera_image[seen]], anchors.world_from_cam.t[seen]),
        "markers": (marks[found], anchors.marks_m[found]),
    }
    in_map, in_room = (np.concatenate([source[k] for source in sources.values()]) for k in (0, 1))
    sigma = np.full(len(in_room), config.anchor_sigma_m)
    similarity = register(in_map, in_room, sigma, seed=config.seed)
    scales, end = {}, 0
    for name, (own_map, own_room) in sources.items():
        end += len(own_map)
        good = similarity.inlier[end - len(own_map) : end]
        if good.sum() >= 3 and not in_line(own_room[good]):
            scales[name] = register(own_map[good], own_room[good], sigma[: good.sum()], seed=config.seed).scale
    return similarity, scales


def _triangulated_marks(
    structure: Structure, lenses: Sequence[Lens], lens_idx: np.ndarray, anchors: Anchors
) -> np.ndarray:
    """Marker points in the map (q, 3), nearest to the rays that saw them; NaN where those do not cross."""
    q, pose = len(anchors.marks_m), structure.world_from_cam
    rays = np.full((len(anchors.mark_xy_px), 3), np.nan)
    for k, lens in enumerate(lenses):
        rows = lens_idx[anchors.mark_image] == k
        rays[rows] = lens.unproject(anchors.mark_xy_px[rows])
    direction = np.einsum("nij,nj->ni", pose.R[anchors.mark_image], rays)
    good = np.isfinite(direction[:, 0])
    direction, mark, image = direction[good], anchors.mark_idx[good], anchors.mark_image[good]
    across = np.eye(3) - direction[:, :, None] * direction[:, None, :]
    A, b = np.zeros((q, 3, 3)), np.zeros((q, 3))
    np.add.at(A, mark, across)
    np.add.at(b, mark, np.einsum("nij,nj->ni", across, pose.t[image]))
    points, crossing = np.full((q, 3), np.nan), np.linalg.eigvalsh(A)[:, 0] > _LEAST_CROSSING
    points[crossing] = np.linalg.solve(A[crossing], b[crossing][..., None])[..., 0]
    return points


def _problem(
    structure: Structure,
    features: Sequence[Features],
    lenses: Sequence[Lens],
    lens_idx: np.ndarray,
    anchors: Anchors,
    marks: np.ndarray,
    similarity: Similarity,
) -> tuple[PointScene, Sights, np.ndarray]:
    """The adjustment of the registered images: first the map's points, then the marker points with their priors.

    The third is which of its image's features each observation is; -1 for marker points.
    """
    images, used = np.flatnonzero(structure.registered), np.flatnonzero(np.isfinite(marks[:, 0]))
    place, mark_place = np.full(len(lens_idx), -1), np.full(len(marks), -1)
    place[images], mark_place[used] = np.arange(len(images)), len(structure.points) + np.arange(len(used))
    rows = (mark_place[anchors.mark_idx] >= 0) & (place[anchors.mark_image] >= 0)
    first = np.cumsum([0, *(len(f) for f in features)])
    at = first[structure.image_idx] + structure.feature_idx
    sigma = feature_sigma(np.concatenate([f.scale_px for f in features])[at])
    sights = Sights(
        np.concatenate([place[structure.image_idx], place[anchors.mark_image[rows]]]),
        np.concatenate([structure.point_idx, mark_place[anchors.mark_idx[rows]]]),
        np.concatenate([np.concatenate([f.xy_px for f in features])[at], anchors.mark_xy_px[rows]]),
        np.concatenate([sigma, np.full(int(rows.sum()), _MARK_SIGMA_PX)]),
    )
    points = similarity.apply(np.concatenate([structure.points, marks[used]]))
    expected, held = points.copy(), np.zeros((len(points), 3, 3))
    expected[len(structure.points) :] = anchors.marks_m[used]
    held[len(structure.points) :] = np.eye(3) / anchors.mark_sigma_m[used, None, None] ** 2
    pose = similarity.apply_pose(structure.world_from_cam[images])
    prior, information = SE3(pose.R.copy(), pose.t.copy()), np.zeros((len(images), 6, 6))
    agree = structure.registered[anchors.camera_image]
    agree[agree] = similarity.inlier[: agree.sum()]
    cameras = place[anchors.camera_image[agree]]
    prior.R[cameras], prior.t[cameras] = anchors.world_from_cam.R[agree], anchors.world_from_cam.t[agree]
    information[cameras] = np.linalg.inv(anchors.camera_covariance[agree] + np.diag(_LEAST_VARIANCE))
    scene = PointScene(lenses, lens_idx[images], pose, points, prior, information, expected, held)
    return scene, sights, np.concatenate([structure.feature_idx, np.full(int(rows.sum()), -1)])


def feature_sigma(scale_px: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    """Standard deviation of points' places: larger ones are less certain."""
    return FEATURE_SIGMA_PX * np.sqrt(np.maximum(scale_px / _LARGE_PX, 1.0))


def _adjusted(
    scene: PointScene, sights: Sights, feature_idx: np.ndarray, config: SceneSolverConfig
) -> tuple[PointBundle, Sights, np.ndarray, np.ndarray]:
    """Adjusts, drops what does not fit, and adjusts what is left; marker points keep the priors they have.

    The last is which of the pictures are left.
    """
    rough = solve_points(scene, sights, iterations=15)
    error = np.linalg.norm(rough.residual_px, axis=-1)
    with np.errstate(invalid="ignore"):
        good = error < config.max_error_px
    good = _enough(sights, good, feature_idx < 0, (len(scene.lens_idx), len(scene.points_m)), config.min_views)
    if not good.any():
        raise GateError("scene map", "no picture of it fits the room", "check the lenses, the rig and the marker map")
    kept, place = np.unique(sights.point_idx[good], return_inverse=True)
    images, image = np.unique(sights.image_idx[good], return_inverse=True)
    left = dataclasses.replace(
        rough.scene,
        lens_idx=scene.lens_idx[images],
        world_from_cam=rough.scene.world_from_cam[images],
        prior_pose=scene.prior_pose[images],
        prior_information=scene.prior_information[images],
        points_m=rough.scene.points_m[kept],
        prior_points_m=scene.prior_points_m[kept],
        prior_point_information=scene.prior_point_information[kept],
    )
    sights = dataclasses.replace(sights.where(good), image_idx=image, point_idx=place)
    return solve_points(left, sights), sights, feature_idx[good], images


def _enough(
    sights: Sights, good: Bool[np.ndarray, "n"], marks: Bool[np.ndarray, "n"], size: tuple[int, int], min_views: int
) -> Bool[np.ndarray, "n"]:
    """Those good sights whose points have views enough, and whose pictures have sights enough: each needs the other."""
    while True:
        views = np.bincount(sights.point_idx[good], minlength=size[1])
        left = good & ((views >= min_views)[sights.point_idx] | marks)
        shown = np.bincount(sights.image_idx[left], minlength=size[0])
        left &= (shown >= _LEAST_SIGHTS)[sights.image_idx]
        if left.sum() == good.sum():
            return left
        good = left


def _described(
    bundle: PointBundle,
    sights: Sights,
    feature_idx: np.ndarray,
    features: Sequence[Features],
    config: SceneSolverConfig,
) -> SceneMap:
    """The certain points with the descriptors of the features that saw them."""
    first = np.cumsum([0, *(len(f) for f in features)])
    rows = np.flatnonzero(feature_idx >= 0)
    rows = rows[np.argsort(sights.point_idx[rows], kind="stable")]
    own, shared = (np.sqrt(np.einsum("pii->p", c) / 3) for c in (bundle.own_covariance, bundle.shared_covariance))
    certain = np.hypot(own, shared) < config.max_sigma_m
    rows = rows[certain[sights.point_idx[rows]]]
    looks = np.concatenate([f.descriptors for f in features])[first[sights.image_idx[rows]] + feature_idx[rows]]
    points, owner = np.unique(sights.point_idx[rows], return_inverse=True)
    descriptors, owner = few_descriptors(looks, owner, config.descriptors)
    covariance = (bundle.own_covariance + bundle.shared_covariance)[points]
    return SceneMap(bundle.scene.points_m[points], covariance, own[points], shared[points], descriptors, owner)
