"""Where rays meet: points from what several views saw of them, though some of the views are wrong.

Every point starts from the least-squares meeting place of its rays. Where views disagree, the loss (Geman and McClure
1987) is made convex and sharpened step by step (graduated non-convexity: Blake and Zisserman 1987), and where even then
too few views agree, every pair of views is tried as a start (exhaustive RANSAC, scored by truncated error). Points are
refined by reweighted least squares on pixel errors (`fitting.pixel_forms`).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from core.arrays import Float
from core.cameras import Rig
from fitting.pixel_forms import PixelForms

_SETTLED_M = 1e-5  # a step that ends the refinement
_WORTH_PACKING = 0.7  # share of points still moving under which the others are left behind
_WIDEST = 8.0  # first loss of the graduated ones, over the error of an outlier


@dataclass(frozen=True)
class TriangulationConfig:
    """How points are triangulated.

    Attributes:
        min_score: keypoints below this detector score are not used.
        outlier_px: a view that disagrees by more than this, or by eight times the noise, is an outlier.
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


def meeting_points(forms: PixelForms, pairs: np.ndarray, config: TriangulationConfig) -> Float[np.ndarray, "3 n"]:
    """Points in the world on which most of the views that see them agree; NaN where fewer than two rays meet.

    Args:
        forms: what the views saw.
        pairs: pairs of views that may start a point (`view_pairs`).
        config: settings.
    """
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


def view_pairs(rig: Rig, max_pairs: int) -> np.ndarray:
    """Pairs of views (pairs, 2); of too many, those whose optical axes cross at the most useful angles."""
    pairs = np.array(list(itertools.combinations(range(len(rig)), 2)))
    axes = np.stack([camera.cam_from_world.R[2] for camera in rig])
    crossing = np.linalg.norm(np.cross(axes[pairs[:, 0]], axes[pairs[:, 1]]), axis=-1)
    return pairs[np.sort(np.argsort(-crossing, kind="stable")[:max_pairs])]
