"""Triangulation: 2D keypoints of a calibrated rig -> 3D points with covariance, all frames and joints at once.

Every point starts from the least-squares meeting place of its rays. Where views disagree, the loss (Geman and McClure
1987) is made convex and sharpened step by step (graduated non-convexity: Blake and Zisserman 1987), and where even then
too few views agree, every pair of views is tried as a start (exhaustive RANSAC, scored by truncated error). Points are
refined by reweighted least squares on pixel errors (`fitting.pixel_forms`) and finished with a loss so wide, in units
of the noise that the errors show, that honest noise keeps 99 % of its information (Tukey's biweight). Views whose left
and right were exchanged by the detector are recognised against the points found and set right before a second pass.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.arrays import Float
from core.cameras import Rig
from core.errors import InputError
from core.files import read_npz, write_npz
from core.skeletons import Skeleton, skeleton_named
from fitting.pixel_forms import PixelForms
from fitting.rays import rays_of

_PART = 2048  # points solved at a time: their forms, 8 views, are 1.3 MB
_SETTLED_M = 1e-5  # a step that ends the refinement
_WORTH_PACKING = 0.7  # share of points still moving under which the others are left behind
_WIDEST = 8.0  # first loss of the graduated ones, over the error of an outlier
_WIDE = 8.0  # standard deviations at which Tukey's biweight ends: efficiency 0.99 for errors in two coordinates
_FINISHING = 2  # steps with it


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
        iterations: steps of refinement at most.
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
        noise_px: standard deviation of a coordinate of a keypoint of score 1, from what the views leave.
        skeleton: what the joints are.
    """

    t_s: np.ndarray
    xyz_m: np.ndarray
    covariance: np.ndarray
    num_views: np.ndarray
    valid: np.ndarray
    error_px: np.ndarray
    swapped: np.ndarray
    noise_px: float
    skeleton: Skeleton

    def save(self, path: Path) -> None:
        """Writes `points3d.npz`."""
        arrays = {k: getattr(self, k) for k in ("t_s", "xyz_m", "covariance", "num_views", "valid", "error_px")}
        write_npz(
            path,
            {
                **arrays,
                "swapped": self.swapped,
                "noise_px": np.array(self.noise_px),
                "skeleton": np.array(self.skeleton.name),
            },
        )


def load_points3d(path: Path) -> Points3d:
    """Reads `points3d.npz`.

    Raises:
        InputError: if the file is missing, damaged, or lacks an array.
    """
    arrays = read_npz(path)
    try:
        skeleton = skeleton_named(str(arrays.pop("skeleton")))
        noise_px = float(arrays.pop("noise_px"))
        return Points3d(**arrays, noise_px=noise_px, skeleton=skeleton)
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
    forms, pairs = PixelForms.of(rays), _pairs(rig, config.max_pairs)
    xyz = _solve(forms, pairs, config)
    swapped = np.zeros((num_views, num_frames * num_joints), dtype=bool)
    if config.fix_swaps:
        swapped, mirror = _find_swaps(forms, xyz, skeleton.swap_idx, num_frames, config)
        changed = np.flatnonzero(swapped.any(axis=0))
        if len(changed):
            forms = _exchange(forms, swapped, mirror)
            xyz[:, changed] = _solve(forms.points(changed), pairs, config)
    fields = _finish(forms, xyz, rig.centres, config)
    shape = (num_frames, num_joints)
    return Points3d(
        t_s=np.arange(num_frames, dtype=float) if t_s is None else t_s,
        xyz_m=fields[0].reshape(*shape, 3),
        covariance=fields[1].reshape(*shape, 3, 3),
        num_views=fields[2].reshape(shape),
        valid=fields[3].reshape(shape),
        error_px=fields[4].reshape(shape),
        swapped=swapped.reshape(num_views, *shape),
        noise_px=float(np.sqrt(fields[5])),
        skeleton=skeleton,
    )


def reprojection_px(
    rig: Rig, xyz_m: Float[np.ndarray, "*n 3"], xy_px: Float[np.ndarray, "views *n 2"]
) -> Float[np.ndarray, "views *n"]:
    """Distance in pixels between keypoints and projected points; NaN where either is missing."""
    return np.linalg.norm(rig.project(xyz_m) - xy_px, axis=-1)


def _solve(forms: PixelForms, pairs: np.ndarray, config: TriangulationConfig) -> np.ndarray:
    """Points (3, N) in the world; NaN where fewer than two rays meet."""
    return _in_parts(lambda part: _solve_part(forms.points(part), pairs, config), forms.weight.shape[1])


def _in_parts(work: Callable[[slice], np.ndarray], num_points: int) -> np.ndarray:
    """Results (3, n) of parts of the points, side by side: parts that fit the cache, on all cores."""
    parts = [slice(i, i + _PART) for i in range(0, num_points, _PART)]
    if len(parts) <= 1:
        return work(slice(None))
    with ThreadPoolExecutor(min(len(parts), _num_cores())) as pool:
        return np.concatenate(list(pool.map(work, parts)), axis=-1)


def _num_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _solve_part(forms: PixelForms, pairs: np.ndarray, config: TriangulationConfig) -> np.ndarray:
    xyz = forms.meet(forms.weight)
    depth = forms.depths(xyz)
    xyz = forms.meet(forms.weight * np.nan_to_num(1 / depth**2))  # errors in pixels, not over the depth
    error2 = forms.errors2(xyz)
    with np.errstate(invalid="ignore"):
        doubtful = np.flatnonzero(~(error2 < config.outlier_px**2).all(axis=0))
    if len(doubtful):
        xyz[:, doubtful] = _robust_start(forms.points(doubtful), xyz[:, doubtful], pairs, config)
    active, part = np.arange(xyz.shape[1]), forms
    for _ in range(config.iterations):
        moved = _refined(part, xyz[:, active], config.scale_px)
        with np.errstate(invalid="ignore"):
            far = ((moved - xyz[:, active]) ** 2).sum(axis=0) > _SETTLED_M**2
        xyz[:, active] = moved
        if not far.any():
            break
        if far.mean() < _WORTH_PACKING:
            part, active = part.points(far), active[far]
    return xyz


def _robust_start(forms: PixelForms, xyz: np.ndarray, pairs: np.ndarray, config: TriangulationConfig) -> np.ndarray:
    """Points about which several views agree, of points some of whose views do not."""
    scale = _WIDEST * config.outlier_px
    while scale > config.scale_px:
        xyz = _refined(forms, xyz, scale)
        scale /= 2
    with np.errstate(invalid="ignore"):
        agree = (forms.seen & (forms.errors2(xyz) < config.outlier_px**2)).sum(axis=0)
    alone = np.flatnonzero((agree < 3) | (2 * agree <= forms.seen.sum(axis=0)))
    if len(alone):
        xyz[:, alone] = _best_pair(forms.points(alone), xyz[:, alone], pairs, config)
    return xyz


def _refined(forms: PixelForms, xyz: np.ndarray, scale_px: float) -> np.ndarray:
    """One step of reweighted least squares; a point that a step would lose keeps its place."""
    depth = forms.depths(xyz)
    share = 1 / (1 + forms.errors2(xyz, depth) / scale_px**2)
    moved = forms.meet(forms.weight * np.nan_to_num((share / depth) ** 2))
    return np.where(np.isfinite(moved), moved, xyz)


def _best_pair(forms: PixelForms, start: np.ndarray, pairs: np.ndarray, config: TriangulationConfig) -> np.ndarray:
    """The best of the points given and of those that any two views determine, by truncated reprojection error."""
    best = start
    least = _truncated(forms, start, config.outlier_px)
    for first, second in pairs:
        both = np.zeros_like(forms.weight)
        both[[first, second]] = forms.seen[first] & forms.seen[second]
        trial = forms.meet(both)
        trial = forms.meet(both * np.nan_to_num(1 / forms.depths(trial) ** 2))
        cost = _truncated(forms, trial, config.outlier_px)
        better = cost < least
        best, least = np.where(better, trial, best), np.where(better, cost, least)
    return best


def _truncated(forms: PixelForms, xyz: np.ndarray, outlier_px: float) -> np.ndarray:
    """Sum over views of squared errors cut off at that of an outlier, (N,)."""
    return (np.fmin(forms.errors2(xyz) / outlier_px**2, 1.0) * forms.weight).sum(axis=0)


def _pairs(rig: Rig, max_pairs: int) -> np.ndarray:
    """Pairs of views (pairs, 2); of too many, those whose optical axes cross at the most useful angles."""
    pairs = np.array(list(itertools.combinations(range(len(rig)), 2)))
    axes = np.stack([camera.cam_from_world.R[2] for camera in rig])
    crossing = np.linalg.norm(np.cross(axes[pairs[:, 0]], axes[pairs[:, 1]]), axis=-1)
    return pairs[np.sort(np.argsort(-crossing, kind="stable")[:max_pairs])]


def _find_swaps(
    forms: PixelForms, xyz: np.ndarray, swap_idx: np.ndarray, num_frames: int, config: TriangulationConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Where a view's keypoint fits the mirror joint and not its own, (V, N); and the index of every mirror point.

    Both joints of a pair must ask for the exchange, or one where the other is missing. At least three views must see a
    joint: two cannot tell who is wrong.
    """
    mirror = (np.arange(num_frames)[:, None] * len(swap_idx) + swap_idx).ravel()
    limit2, seen = config.outlier_px**2, forms.seen
    with np.errstate(invalid="ignore"):
        wants = seen & (forms.errors2(xyz) > limit2)
        asking = np.flatnonzero(wants.any(axis=0))
        wants[:, asking] &= forms.points(asking).errors2(xyz[:, mirror[asking]]) < limit2
    stays = seen & ~wants
    swapped = wants & (seen.sum(axis=0) >= 3) & ~stays[:, mirror]
    return (swapped | swapped[:, mirror]) & (mirror != np.arange(len(mirror))), mirror


def _exchange(forms: PixelForms, swapped: np.ndarray, mirror: np.ndarray) -> PixelForms:
    """The observations with the marked ones taken from their mirror joints."""
    form = np.where(swapped, forms.form[..., mirror], forms.form)
    weight = np.where(swapped, forms.weight[:, mirror], forms.weight)
    return PixelForms(form, weight, forms.axis, forms.offset)


def _finish(
    forms: PixelForms, xyz: np.ndarray, centres: np.ndarray, config: TriangulationConfig
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, float]:
    """Points (N, 3), covariances (N, 3, 3), numbers of views, validity, mean inlier error; variance of a keypoint."""
    inlier = _inliers(forms, forms.errors2(xyz), config)
    noise2 = _noise2(np.where(inlier, forms.errors2(xyz), 0.0) * forms.weight, inlier.sum(axis=0))
    wide2 = min(_WIDE**2 * noise2, config.outlier_px**2)
    for _ in range(_FINISHING):
        weight = _biweight(forms, xyz, wide2)
        moved = forms.meet(weight)
        enough = (weight > 0).sum(axis=0) >= 2
        xyz = np.where(enough & np.isfinite(moved), moved, xyz)
    error2 = forms.errors2(xyz)
    inlier = _inliers(forms, error2, config)
    num_views = inlier.sum(axis=0)
    valid = (num_views >= 2) & (_widest_angle(centres, xyz, inlier) >= np.deg2rad(config.min_angle_deg))
    information = forms.information(_biweight(forms, xyz, wide2))
    information[~valid] = np.eye(3)
    covariance = np.linalg.inv(information) * noise2
    gone = ~valid[:, None]
    mean_error = np.sqrt(np.where(inlier, error2, 0.0)).sum(axis=0) / np.maximum(num_views, 1)
    return (
        np.where(gone, np.nan, xyz.T),
        np.where(gone[..., None], np.nan, covariance),
        num_views,
        valid,
        np.where(valid, mean_error, np.nan),
        noise2,
    )


def _inliers(forms: PixelForms, error2: np.ndarray, config: TriangulationConfig) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return forms.seen & (error2 < config.outlier_px**2)


def _biweight(forms: PixelForms, xyz: np.ndarray, wide2: float) -> np.ndarray:
    """Weights of the forms by Tukey's biweight, 1 / depth^2 included."""
    depth = forms.depths(xyz)
    share = np.maximum(1 - forms.errors2(xyz, depth) / wide2, 0.0)
    return forms.weight * np.nan_to_num((share / depth) ** 2)


def _noise2(error2: np.ndarray, num_views: np.ndarray) -> float:
    """Variance of a pixel coordinate of score 1: median over points of the squared error a degree of freedom."""
    many = num_views >= 3
    if not many.any():
        return float(np.median(error2[error2 > 0])) if (error2 > 0).any() else 1.0
    freedom = 2 * num_views[many] - 3
    # the median of chi-squared with k degrees of freedom is about k (1 - 2 / 9k)^3 (Wilson and Hilferty 1931)
    return float(np.median(error2[:, many].sum(axis=0) / (freedom * (1 - 2 / (9 * freedom)) ** 3)))


def _widest_angle(centres: np.ndarray, xyz: np.ndarray, inlier: np.ndarray) -> np.ndarray:
    """Largest angle between two inlier rays at each point, radians; 0 where there are no two."""
    towards = centres.T[..., None] - xyz[:, None]
    towards = np.where(inlier, towards / np.linalg.norm(towards, axis=0), 0.0)
    cosine = np.ones(xyz.shape[1])
    for a, b in itertools.combinations(range(len(centres)), 2):
        both = (towards[:, a] * towards[:, b]).sum(axis=0)
        cosine = np.minimum(cosine, np.where(inlier[a] & inlier[b], both, 1.0))
    return np.arccos(np.clip(cosine, -1.0, 1.0))
