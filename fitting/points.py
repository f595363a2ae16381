"""Triangulation: 2D keypoints of a calibrated rig -> 3D points with covariance, all frames and joints at once.

Every point starts from the least-squares meeting place of its rays. Points whose views disagree are started again from
the best of all view pairs (exhaustive RANSAC, scored by truncated reprojection error), then all are refined by
iteratively reweighted Gauss-Newton on pixel errors with Geman-McClure's loss. Views whose left and right were exchanged
by the detector are recognised against the points found and set right before a second pass.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.arrays import Float
from core.cameras import Rig
from core.errors import InputError
from core.files import read_npz, write_npz
from core.skeletons import Skeleton, skeleton_named
from fitting.rays import UPPER, Rays, errors, ray_equations, rays_of, residual_rows, solve3


@dataclass(frozen=True)
class TriangulationConfig:
    """How points are triangulated.

    Attributes:
        min_score: keypoints below this detector score are not used.
        outlier_px: a view that disagrees by more than this is an outlier.
        scale_px: scale of the Geman-McClure loss; about 4 times the keypoint noise.
        min_angle_deg: smallest angle between the two most divergent inlier rays of a valid point.
        max_pairs: number of view pairs tried as starting points where views disagree; those with the widest angle at
            the middle of the rig are taken.
        iterations: Gauss-Newton steps.
        fix_swaps: whether exchanged left and right joints are recognised and set right.
    """

    min_score: float = 0.1
    outlier_px: float = 30.0
    scale_px: float = 12.0
    min_angle_deg: float = 4.0
    max_pairs: int = 28
    iterations: int = 8
    fix_swaps: bool = True


@dataclass(frozen=True, eq=False)
class Points3d:
    """Triangulated keypoints of one person.

    Attributes:
        t_s: instants on the session clock, (frames,).
        xyz_m: points in the world, (frames, joints, 3); NaN where not valid.
        covariance: of the points, m^2, (frames, joints, 3, 3); NaN where not valid.
        num_views: inlier views of each point, (frames, joints).
        valid: whether the point is determined by at least two agreeing views, (frames, joints).
        error_px: mean reprojection error over inlier views, (frames, joints); NaN where not valid.
        swapped: views in which the joint was exchanged with its mirror image, (views, frames, joints).
        skeleton: what the joints are.
    """

    t_s: np.ndarray
    xyz_m: np.ndarray
    covariance: np.ndarray
    num_views: np.ndarray
    valid: np.ndarray
    error_px: np.ndarray
    swapped: np.ndarray
    skeleton: Skeleton

    def save(self, path: Path) -> None:
        """Writes `points3d.npz`."""
        arrays = {k: getattr(self, k) for k in ("t_s", "xyz_m", "covariance", "num_views", "valid", "error_px")}
        write_npz(path, {**arrays, "swapped": self.swapped, "skeleton": np.array(self.skeleton.name)})


def load_points3d(path: Path) -> Points3d:
    """Reads `points3d.npz`.

    Raises:
        InputError: if the file is missing, damaged, or lacks an array.
    """
    arrays = read_npz(path)
    try:
        skeleton = skeleton_named(str(arrays.pop("skeleton")))
        return Points3d(**arrays, skeleton=skeleton)
    except (TypeError, KeyError) as error:
        raise InputError(
            str(path), f"not a file of triangulated points ({error})", "run `motifs triangulate`"
        ) from error


def triangulate_points(
    rig: Rig,
    xy_px: Float[np.ndarray, "views frames joints 2"],
    score: Float[np.ndarray, "views frames joints"],
    skeleton: Skeleton,
    config: TriangulationConfig | None = None,
    t_s: Float[np.ndarray, "frames"] | None = None,
) -> Points3d:
    """Triangulates every joint of every frame by itself.

    Args:
        rig: cameras in the order of the first axis.
        xy_px: keypoints, NaN where missing.
        score: detector scores, 0 to 1.
        skeleton: names of the joints; tells which of them are mirror images.
        config: settings.
        t_s: instants of the frames, seconds; frame numbers where not given.

    Raises:
        InputError: if the arrays do not fit the rig or the skeleton, or there are fewer than two views.
    """
    config = config or TriangulationConfig()
    num_views, num_frames, num_joints = score.shape
    if len(rig) != num_views or len(skeleton) != num_joints:
        raise InputError(
            "triangulation",
            f"keypoints of {num_views} views and {num_joints} joints do not fit {len(rig)} cameras and "
            f"{len(skeleton)} joints of {skeleton.name}",
            "give one row of keypoints for each camera and name the right skeleton",
        )
    if num_views < 2:
        raise InputError("triangulation", "needs at least two views", "add a view or its calibration")
    rays = rays_of(rig, xy_px.reshape(num_views, -1, 2), score.reshape(num_views, -1), config.min_score)
    xyz = _solve(rays, config)
    swapped = np.zeros((num_views, num_frames * num_joints), dtype=bool)
    if config.fix_swaps:
        swapped, mirror = _find_swaps(rays, xyz, skeleton.swap_idx, num_frames, config)
        changed = np.flatnonzero(swapped.any(axis=0))
        if len(changed):
            rays = _exchange(rays, swapped, mirror)
            xyz[:, changed] = _solve(rays.points(changed), config)
    fields = _judge(rays, xyz, config)
    shape = (num_frames, num_joints)
    return Points3d(
        t_s=np.arange(num_frames, dtype=float) if t_s is None else t_s,
        xyz_m=fields[0].reshape(*shape, 3),
        covariance=fields[1].reshape(*shape, 3, 3),
        num_views=fields[2].reshape(shape),
        valid=fields[3].reshape(shape),
        error_px=fields[4].reshape(shape),
        swapped=swapped.reshape(num_views, *shape),
        skeleton=skeleton,
    )


def reprojection_px(
    rig: Rig, xyz_m: Float[np.ndarray, "*n 3"], xy_px: Float[np.ndarray, "views *n 2"]
) -> Float[np.ndarray, "views *n"]:
    """Distance in pixels between keypoints and projected points; NaN where either is missing."""
    return np.linalg.norm(rig.project(xyz_m) - xy_px, axis=-1)


def _solve(rays: Rays, config: TriangulationConfig) -> np.ndarray:
    """Points (3, N) in the world; NaN where fewer than two rays meet."""
    normal, moment = ray_equations(rays)
    xyz = solve3(normal.sum(axis=1), moment.sum(axis=1))
    error2 = errors(rays, xyz)[0]
    with np.errstate(invalid="ignore"):
        doubtful = np.flatnonzero((rays.seen & ~(error2 < config.outlier_px**2)).any(axis=0))
    if len(doubtful):
        xyz[:, doubtful] = _best_pair(
            rays.points(doubtful), normal[..., doubtful], moment[..., doubtful], xyz[:, doubtful], config
        )
    for _ in range(config.iterations):
        xyz = _refine(rays, xyz, config.scale_px)
    return xyz


def _best_pair(
    rays: Rays, normal: np.ndarray, moment: np.ndarray, start: np.ndarray, config: TriangulationConfig
) -> np.ndarray:
    """The best of the points given and of those that any two views determine, by truncated reprojection error."""
    first, second = _pairs(rays, config.max_pairs).T
    both = rays.seen[first] & rays.seen[second]
    candidates = solve3(normal[:, first] + normal[:, second], moment[:, first] + moment[:, second])
    candidates = np.concatenate([start[:, None], np.where(both, candidates, np.nan)], axis=1)
    error2 = errors(rays, candidates)[0]
    cost = np.fmin(error2 / config.outlier_px**2, 1.0) * rays.weight
    best = np.argmin(cost.sum(axis=1), axis=0)
    return np.take_along_axis(candidates, best[None, None], axis=1)[:, 0]


def _pairs(rays: Rays, max_pairs: int) -> np.ndarray:
    """Pairs of views (pairs, 2); of too many, those whose optical axes cross at the most useful angles."""
    pairs = np.array(list(itertools.combinations(range(len(rays.R)), 2)))
    axes = rays.R[:, 2]
    crossing = np.linalg.norm(np.cross(axes[pairs[:, 0]], axes[pairs[:, 1]]), axis=-1)
    return pairs[np.sort(np.argsort(-crossing, kind="stable")[:max_pairs])]


def _refine(rays: Rays, xyz: np.ndarray, scale_px: float) -> np.ndarray:
    """One reweighted Gauss-Newton step; a point that a step would lose keeps its place."""
    error2, residual, at, depth = errors(rays, xyz)
    weight = np.nan_to_num(rays.weight / (1 + error2 / scale_px**2) ** 2)  # Geman and McClure 1987
    rows = np.nan_to_num(residual_rows(rays, at, depth))
    weighted = rows * weight
    upper = np.stack([(weighted[i] * rows[j]).sum(axis=(0, 1)) for i, j in UPPER])
    right = (weighted * np.nan_to_num(residual)).sum(axis=(1, 2))
    step = np.nan_to_num(solve3(upper, right))
    return xyz - step * np.fmin(1.0, 0.5 / np.maximum(np.linalg.norm(step, axis=0), 1e-12))


def _find_swaps(
    rays: Rays, xyz: np.ndarray, swap_idx: np.ndarray, num_frames: int, config: TriangulationConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Where a view's keypoint fits the mirror joint and not its own, (V, N); and the index of every mirror point.

    Both joints of a pair must ask for the exchange, or one where the other is missing. At least three views must see a
    joint: two cannot tell who is wrong.
    """
    mirror = (np.arange(num_frames)[:, None] * len(swap_idx) + swap_idx).ravel()
    own = np.sqrt(errors(rays, xyz)[0])
    other = np.sqrt(errors(rays, xyz[:, mirror])[0])
    with np.errstate(invalid="ignore"):
        wants = rays.seen & (own > config.outlier_px) & (other < config.outlier_px)
        stays = rays.seen & ~wants
    enough = rays.seen.sum(axis=0) >= 3
    swapped = wants & enough & ~stays[:, mirror]
    return (swapped | swapped[:, mirror]) & (mirror != np.arange(len(mirror))), mirror


def _exchange(rays: Rays, swapped: np.ndarray, mirror: np.ndarray) -> Rays:
    """The observations with the marked ones taken from their mirror joints."""
    xy = np.where(swapped, rays.xy[..., mirror], rays.xy)
    scale = np.where(swapped, rays.scale[..., mirror], rays.scale)
    seen = np.where(swapped, rays.seen[:, mirror], rays.seen)
    weight = np.where(swapped, rays.weight[:, mirror], rays.weight)
    return Rays(xy, scale, seen, weight, rays.R, rays.t)


def _judge(
    rays: Rays, xyz: np.ndarray, config: TriangulationConfig
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Points (N, 3), covariances (N, 3, 3), numbers of views, validity and mean inlier error."""
    error2, _, at, depth = errors(rays, xyz)
    with np.errstate(invalid="ignore"):
        inlier = rays.seen & (error2 < config.outlier_px**2)
    num_views = inlier.sum(axis=0)
    valid = (num_views >= 2) & (_widest_angle(rays, xyz, inlier) >= np.deg2rad(config.min_angle_deg))
    error = np.where(inlier, error2, 0.0)
    rows = np.where(inlier, np.nan_to_num(residual_rows(rays, at, depth)), 0.0).reshape(3, -1, error2.shape[-1])
    information = np.einsum("ikn,jkn->nij", rows, rows)
    information[~valid] = np.eye(3)
    covariance = np.linalg.inv(information) * _noise2(error, num_views)
    gone = ~valid[:, None]
    mean_error = np.sqrt(error).sum(axis=0) / np.maximum(num_views, 1)
    return (
        np.where(gone, np.nan, xyz.T),
        np.where(gone[..., None], np.nan, covariance),
        num_views,
        valid,
        np.where(valid, mean_error, np.nan),
    )


def _noise2(error2: np.ndarray, num_views: np.ndarray) -> float:
    """Variance of one pixel coordinate: median over points of the squared error a degree of freedom."""
    many = num_views >= 3
    if not many.any():
        return float(np.median(error2[error2 > 0])) if (error2 > 0).any() else 1.0
    freedom = 2 * num_views[many] - 3
    # the median of chi-squared with k degrees of freedom is about k (1 - 2 / 9k)^3 (Wilson and Hilferty 1931)
    return float(np.median(error2[:, many].sum(axis=0) / (freedom * (1 - 2 / (9 * freedom)) ** 3)))


def _widest_angle(rays: Rays, xyz: np.ndarray, inlier: np.ndarray) -> np.ndarray:
    """Largest angle between two inlier rays at each point, radians; 0 where there are no two."""
    centre = -np.einsum("vji,vj->iv", rays.R, rays.t)[..., None]
    towards = centre - xyz[:, None]
    towards = np.where(inlier, towards / np.linalg.norm(towards, axis=0), 0.0)
    cosine = np.ones(xyz.shape[1])
    for a, b in itertools.combinations(range(len(rays.R)), 2):
        both = (towards[:, a] * towards[:, b]).sum(axis=0)
        cosine = np.minimum(cosine, np.where(inlier[a] & inlier[b], both, 1.0))
    return np.arccos(np.clip(cosine, -1.0, 1.0))
