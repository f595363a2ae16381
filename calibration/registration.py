"""A map of arbitrary scale laid onto a world in metres: a similarity from points known in both, some of them wrong.

Minimal sets of three points are tried (Fischler and Bolles 1981), then the similarity is solved on all points by
Umeyama 1991 with Cauchy's weights. The scale is worth what the anchors' spread makes it worth; where they stand on a
line, or are fewer than three, nothing is registered.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calibration.robust import robust_weight
from core.arrays import Bool, Float
from core.errors import GateError
from core.transforms import SE3, align_points

_TRIALS = 500
_IN_LINE = 0.05  # second extent over the first, below which anchors stand on a line
_ITERATIONS = 20
_INLIER_SIGMAS = 4.0
_MORE = "let the walk-through see what the room cameras see, from near where they hang, or hang markers in the room"


@dataclass(frozen=True, eq=False)
class Similarity:
    """`world = scale * world_from_map.R @ map + world_from_map.t`.

    Attributes:
        world_from_map: rotation and translation.
        scale: metres a unit of the map.
        scale_sigma: standard deviation of the scale, relative.
        residual_m: (n,) distance of each anchor from where the similarity puts it.
        inlier: (n,) anchors that agree.
    """

    world_from_map: SE3
    scale: float
    scale_sigma: float
    residual_m: Float[np.ndarray, "n"]
    inlier: Bool[np.ndarray, "n"]

    def apply(self, points: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
        """Points of the map in the world."""
        return self.scale * points @ self.world_from_map.R.T + self.world_from_map.t

    def apply_pose(self, map_from_cam: SE3) -> SE3:
        """Camera poses in the world."""
        return SE3(self.world_from_map.R @ map_from_cam.R, self.apply(map_from_cam.t))


def register(
    points_map: Float[np.ndarray, "n 3"],
    points_m: Float[np.ndarray, "n 3"],
    sigma_m: Float[np.ndarray, "n"],
    *,
    seed: int = 0,
) -> Similarity:
    """The similarity that most anchors agree on.

    Args:
        points_map: anchors in the map.
        points_m: the same in the world.
        sigma_m: standard deviation of their agreement, metres.
        seed: of the trials.

    Raises:
        GateError: if fewer than three anchors agree, or they stand on a line.
    """
    if len(points_m) < 3 or in_line(points_m):
        problem = f"{len(points_m)} places known both in it and in the room, which fix no scale: they are fewer than "
        raise GateError("scene map", problem + "three or stand on a line", _MORE)
    pose, scale = _best_of_trials(points_map, points_m, sigma_m, np.random.default_rng(seed))
    weight = np.ones(len(points_m))
    for _ in range(_ITERATIONS):
        residual = _residual(pose, scale, points_map, points_m)
        weight = robust_weight((residual / sigma_m) ** 2, "cauchy", 2.0) / sigma_m**2
        pose, scale = _weighted_alignment(points_map, points_m, weight)
    residual = _residual(pose, scale, points_map, points_m)
    inlier = residual < _INLIER_SIGMAS * sigma_m
    if inlier.sum() < 3 or in_line(points_m[inlier]):
        problem = (
            f"only {inlier.sum()} of {len(inlier)} places known in the room agree with it, on no plane of their own"
        )
        raise GateError("scene map", problem, _MORE)
    spread = points_m[inlier] - points_m[inlier].mean(axis=0)
    noise = np.sqrt(np.mean(np.maximum(residual[inlier], sigma_m[inlier] / 2) ** 2) / 3)
    return Similarity(pose, scale, float(noise / np.sqrt((spread**2).sum())), residual, inlier)


def in_line(points: Float[np.ndarray, "n 3"]) -> bool:
    """Whether points stand on a line, or nearly."""
    spread = np.linalg.svd(points - points.mean(axis=0), compute_uv=False)
    return bool(spread[1] < _IN_LINE * spread[0])


def _residual(pose: SE3, scale: float, points_map: np.ndarray, points_m: np.ndarray) -> np.ndarray:
    return np.asarray(np.linalg.norm(scale * points_map @ pose.R.T + pose.t - points_m, axis=-1))


def _best_of_trials(
    points_map: np.ndarray, points_m: np.ndarray, sigma_m: np.ndarray, rng: np.random.Generator
) -> tuple[SE3, float]:
    """The similarity of three anchors under which the truncated squares of all are least."""
    best, lowest = align_points(points_map, points_m, with_scale=True), np.inf
    for _ in range(_TRIALS):
        three = rng.choice(len(points_m), 3, replace=False)
        if in_line(points_m[three]):
            continue
        pose, scale = align_points(points_map[three], points_m[three], with_scale=True)
        squared = (_residual(pose, scale, points_map, points_m) / sigma_m) ** 2
        if (cost := float(np.minimum(squared, _INLIER_SIGMAS**2).sum())) < lowest:
            best, lowest = (pose, scale), cost
    return best


def _weighted_alignment(points_map: np.ndarray, points_m: np.ndarray, weight: np.ndarray) -> tuple[SE3, float]:
    """Umeyama's alignment with weights: those of the mean and of every product."""
    share = weight / weight.sum()
    mean_map, mean_m = share @ points_map, share @ points_m
    root = np.sqrt(share)[:, None]
    S, T = root * (points_map - mean_map), root * (points_m - mean_m)
    U, singular, Vt = np.linalg.svd(T.T @ S)
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(U @ Vt))])
    R = (U * sign) @ Vt
    scale = float((singular * sign).sum() / (S**2).sum())
    return SE3(R, mean_m - scale * R @ mean_map), scale
