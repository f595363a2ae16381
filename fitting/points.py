"""Triangulation: 2D keypoints of a calibrated rig -> 3D points with covariance, all frames and joints at once.

Blocks of frames are worked on side by side, and only so many at a time that memory does not grow with the recording.
In each, views whose left and right were exchanged by the detector are recognised against the points found
(`fitting.meeting`) and set right before a second pass. When the noise of all frames is known, points are finished with
a loss so wide, in its units, that honest noise keeps 99 % of its information (Tukey's biweight).
"""

from __future__ import annotations

import dataclasses
import itertools
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.arrays import Float
from core.cameras import Rig
from core.errors import InputError
from core.files import read_npz, write_npz
from core.skeletons import Skeleton, skeleton_named
from fitting.meeting import TriangulationConfig, meeting_points, view_pairs
from fitting.pixel_forms import PixelForms
from fitting.rays import rays_of

_PART = 2048  # points worked on at a time: their forms, 8 views, are 1.3 MB
_KEPT_BYTES = 2**28  # of forms that are kept for the second pass instead of being made again
_WIDE = 8.0  # standard deviations at which Tukey's biweight ends: efficiency 0.99 for errors in two coordinates
_FINISHING = 2  # steps with it
_LEAST_NOISE_PX = 0.02


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

    def frames(self, part: slice) -> Points3d:
        """The same of some of the frames."""
        cut = {
            name: getattr(self, name)[part] for name in ("t_s", "xyz_m", "covariance", "num_views", "valid", "error_px")
        }
        return dataclasses.replace(self, **cut, swapped=self.swapped[:, part])

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
            compressed=False,
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
    mirror = skeleton.swap_idx if config.fix_swaps else None
    pairs, length = view_pairs(rig, config.max_pairs), max(1, _PART // num_joints)
    blocks = [slice(first, min(first + length, num_frames)) for first in range(0, num_frames, length)]
    keep = len(blocks) * num_views * _PART * 80 < _KEPT_BYTES

    def read(block: slice) -> PixelForms:
        part_px, part_score = xy_px[:, block], score[:, block]
        rays = rays_of(rig, part_px.reshape(num_views, -1, 2), part_score.reshape(num_views, -1), config.min_score)
        return PixelForms.of(rays)

    def begin(block: slice) -> _Block:
        return _begin(read(block), pairs, mirror, config, keep=keep)

    with ThreadPoolExecutor(_num_cores()) as pool:
        begun = list(pool.map(begin, blocks))
        noise2 = _noise2(np.concatenate([one.noise2 for one in begun]))

        def end(block: slice, one: _Block) -> tuple[np.ndarray, ...]:
            forms = one.forms or _exchanged(read(block), one.swapped, mirror)
            return _finish(forms, one.xyz, rig.centres, noise2, config)

        parts = list(pool.map(end, blocks, begun))
    shape = (num_frames, num_joints)
    xyz, covariance, views, valid, error = (np.concatenate(fields) for fields in zip(*parts, strict=True))
    return Points3d(
        t_s=np.arange(num_frames, dtype=float) if t_s is None else t_s,
        xyz_m=xyz.reshape(*shape, 3),
        covariance=covariance.reshape(*shape, 3, 3),
        num_views=views.reshape(shape),
        valid=valid.reshape(shape),
        error_px=error.reshape(shape),
        swapped=np.concatenate([one.swapped for one in begun], axis=1).reshape(num_views, *shape),
        noise_px=float(np.sqrt(noise2)),
        skeleton=skeleton,
    )


def reprojection_px(
    rig: Rig, xyz_m: Float[np.ndarray, "*n 3"], xy_px: Float[np.ndarray, "views *n 2"]
) -> Float[np.ndarray, "views *n"]:
    """Distance in pixels between keypoints and projected points; NaN where either is missing."""
    return np.linalg.norm(rig.project(xyz_m) - xy_px, axis=-1)


def _num_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True, eq=False)
class _Block:
    """What is known of a block of frames before the noise is: points (3, n), exchanged views (V, n), squared error a
    degree of freedom of points with three views or more, and the forms, where memory allows to keep them."""

    xyz: np.ndarray
    swapped: np.ndarray
    noise2: np.ndarray
    forms: PixelForms | None


def _begin(
    forms: PixelForms, pairs: np.ndarray, mirror: np.ndarray | None, config: TriangulationConfig, *, keep: bool
) -> _Block:
    xyz, swapped = meeting_points(forms, pairs, config), np.zeros(forms.weight.shape, dtype=bool)
    if mirror is not None:
        swapped = _find_swaps(forms, xyz, mirror, config)
        changed = np.flatnonzero(swapped.any(axis=0))
        if len(changed):
            forms = _exchanged(forms, swapped, mirror)
            xyz[:, changed] = meeting_points(forms.points(changed), pairs, config)
    error2 = forms.errors2(xyz)
    inlier = _agree(forms, error2, config.outlier_px**2)
    num_views = inlier.sum(axis=0)
    many = num_views >= 3
    freedom = 2 * num_views[many] - 3
    # the median of chi-squared with k degrees of freedom is about k (1 - 2 / 9k)^3 (Wilson and Hilferty 1931)
    total = (np.where(inlier, error2, 0.0) * forms.weight)[:, many].sum(axis=0)
    noise2 = total / (freedom * (1 - 2 / (9 * freedom)) ** 3)
    return _Block(xyz, swapped, noise2, forms if keep else None)


def _noise2(by_point: np.ndarray) -> float:
    """Variance of a coordinate of a keypoint of score 1: the median over points; a pixel's where none tells."""
    return max(float(np.median(by_point)), _LEAST_NOISE_PX**2) if len(by_point) else 1.0


def _find_swaps(forms: PixelForms, xyz: np.ndarray, swap_idx: np.ndarray, config: TriangulationConfig) -> np.ndarray:
    """Where a view's keypoint fits the mirror joint and not its own, (V, N).

    Both joints of a pair must ask for the exchange, or one where the other is missing. At least three views must see a
    joint: two cannot tell who is wrong.
    """
    mirror = _mirror_points(swap_idx, xyz.shape[1])
    limit2, seen = config.outlier_px**2, forms.seen
    with np.errstate(invalid="ignore"):
        wants = seen & (forms.errors2(xyz) > limit2)
        asking = np.flatnonzero(wants.any(axis=0))
        wants[:, asking] &= forms.points(asking).errors2(xyz[:, mirror[asking]]) < limit2
    stays = seen & ~wants
    swapped = wants & (seen.sum(axis=0) >= 3) & ~stays[:, mirror]
    return (swapped | swapped[:, mirror]) & (mirror != np.arange(len(mirror)))


def _mirror_points(swap_idx: np.ndarray, num_points: int) -> np.ndarray:
    """Index of the mirror joint of every point of a block (N,)."""
    first = np.arange(0, num_points, len(swap_idx))
    return np.asarray((first[:, None] + swap_idx).ravel())


def _exchanged(forms: PixelForms, swapped: np.ndarray, swap_idx: np.ndarray | None) -> PixelForms:
    """The observations with the marked ones taken from their mirror joints."""
    if swap_idx is None or not swapped.any():
        return forms
    mirror = _mirror_points(swap_idx, swapped.shape[1])
    form = np.where(swapped, forms.form[..., mirror], forms.form)
    weight = np.where(swapped, forms.weight[:, mirror], forms.weight)
    return PixelForms(form, weight, forms.axis, forms.offset)


def _finish(
    forms: PixelForms, xyz: np.ndarray, centres: np.ndarray, noise2: float, config: TriangulationConfig
) -> tuple[np.ndarray, ...]:
    """Points (N, 3), covariances (N, 3, 3), numbers of views, validity and mean inlier error."""
    wide2 = min(_WIDE**2 * noise2, config.outlier_px**2)
    for _ in range(_FINISHING):
        weight = _biweight(forms, xyz, wide2)
        moved = forms.meet(weight)
        enough = (weight > 0).sum(axis=0) >= 2
        xyz = np.where(enough & np.isfinite(moved), moved, xyz)
    error2 = forms.errors2(xyz)
    inlier = _agree(forms, error2, wide2)
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
    )


def _agree(forms: PixelForms, error2: np.ndarray, limit2: float) -> np.ndarray:
    """Which views see a point no further off than this (V, N)."""
    with np.errstate(invalid="ignore"):
        return forms.seen & (error2 < limit2)


def _biweight(forms: PixelForms, xyz: np.ndarray, wide2: float) -> np.ndarray:
    """Weights of the forms by Tukey's biweight, 1 / depth^2 included."""
    depth = forms.depths(xyz)
    share = np.maximum(1 - forms.errors2(xyz, depth) / wide2, 0.0)
    return forms.weight * np.nan_to_num((share / depth) ** 2)


def _widest_angle(centres: np.ndarray, xyz: np.ndarray, inlier: np.ndarray) -> np.ndarray:
    """Largest angle between two inlier rays at each point, radians; 0 where there are no two."""
    towards = centres.T[..., None] - xyz[:, None]
    towards = np.where(inlier, towards / np.linalg.norm(towards, axis=0), 0.0)
    cosine = np.ones(xyz.shape[1])
    for a, b in itertools.combinations(range(len(centres)), 2):
        both = (towards[:, a] * towards[:, b]).sum(axis=0)
        cosine = np.minimum(cosine, np.where(inlier[a] & inlier[b], both, 1.0))
    return np.arccos(np.clip(cosine, -1.0, 1.0))
