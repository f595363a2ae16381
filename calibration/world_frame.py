"""Where the world stands: z up and z = 0 on the floor, from what lies or walks on it, with its uncertainty.

A rig is solved in some frame. A floor plane in that frame gives the vertical and the height; the heading and the origin
on the floor are a choice, which carries no error. Every covariance follows by linear propagation of all poses at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from core.arrays import Bool, Float
from core.errors import GateError
from core.transforms import SE3, so3_exp

_MAX_TILT_DEG = 1.0  # standard deviation of the vertical above which a world is not usable: 17 mm a metre
_PLANE_ROUNDS = 20
_CUT = 3.0  # standard deviations beyond which a point does not lie on the floor
_STEP = 1e-5  # of numeric derivatives, radians and metres


@dataclass(frozen=True, eq=False)
class Plane:
    """A plane fitted to points.

    Attributes:
        normal: (3,) unit vector, upwards.
        point: (3,) the middle of the points on it.
        tilt_sigma_rad: standard deviation of the normal, its worst direction.
        height_sigma_m: that of the point along the normal.
        spread_m: standard deviation of the points' distances from it.
        inlier: (n,) points that lie on it.
    """

    normal: Float[np.ndarray, "3"]
    point: Float[np.ndarray, "3"]
    tilt_sigma_rad: float
    height_sigma_m: float
    spread_m: float
    inlier: Bool[np.ndarray, "n"]


def fit_floor(
    points: Float[np.ndarray, "n 3"], above: Float[np.ndarray, "3"], item: str, *, sigma_m: float = 0.002
) -> Plane:
    """The plane through most of the points, by total least squares with outliers cut (three standard deviations).

    Args:
        points: on the floor, in any frame.
        above: a point that is above it.
        item: what the points belong to, for messages.
        sigma_m: least spread that is believed.

    Raises:
        GateError: if they lie on a line or too near to each other to tell the vertical.
    """
    inlier = np.isfinite(points).all(axis=-1)
    if inlier.sum() < 3:
        raise GateError(item, f"{int(inlier.sum())} points on the floor do not make a plane", "use three or more")
    middle = np.median(points[inlier], axis=0)
    for _ in range(_PLANE_ROUNDS):
        _, _, axes = np.linalg.svd(points[inlier] - middle, full_matrices=False)
        off = (points - middle) @ axes[2]
        centre = np.median(off[inlier])
        spread = max(1.4826 * float(np.median(np.abs(off[inlier] - centre))), sigma_m)
        with np.errstate(invalid="ignore"):
            now = np.abs(off - centre) < _CUT * spread
        middle = points[now].mean(axis=0) if now.sum() >= 3 else middle
        if now.sum() < 3 or (now == inlier).all():
            break
        inlier = now
    on = points[inlier] - middle
    _, size, axes = np.linalg.svd(on, full_matrices=False)
    spread = max(float(np.sqrt((size[2] ** 2) / max(len(on) - 3, 1))), sigma_m)
    tilt = spread / max(float(size[1]), 1e-9)  # size[1] is the root of the sum of squares along the narrower side
    normal = axes[2] if axes[2] @ (above - middle) > 0 else -axes[2]
    return require_vertical(Plane(normal, middle, tilt, spread / np.sqrt(len(on)), spread, inlier), item)


def require_vertical(plane: Plane, item: str) -> Plane:
    """The plane, if it tells the vertical.

    Raises:
        GateError: if it does not.
    """
    degrees = np.degrees(plane.tilt_sigma_rad)
    if degrees > _MAX_TILT_DEG:
        raise GateError(
            item,
            f"the points on the floor tell the vertical only to {degrees:.1f} deg ({1000 * plane.spread_m:.0f} mm off "
            "a plane, too near to each other or in a line)",
            "spread floor markers over the room, or walk over more of it",
        )
    return plane


def world_on(plane: Plane, ahead: Float[np.ndarray, "3"]) -> SE3:
    """`world_from_old` with z = 0 on the plane, the origin at its point, and x along `ahead` as seen from above.

    Raises:
        GateError: if `ahead` stands upright on the plane.
    """
    z = plane.normal
    x = ahead - (ahead @ z) * z
    if np.linalg.norm(x) < 0.05 * np.linalg.norm(ahead):
        raise GateError("world", "the direction chosen as its x axis is vertical", "choose another first marker")
    x = x / np.linalg.norm(x)
    R = np.stack([x, np.cross(z, x), z])
    return SE3(R, -R @ plane.point)


def plane_covariance(plane: Plane) -> Float[np.ndarray, "6 6"]:
    """Covariance of `world_on`'s result about the plane's point: tilt about x and y, and height; heading is chosen."""
    variance = [plane.tilt_sigma_rad**2] * 2 + [0.0, 0.0, 0.0, plane.height_sigma_m**2]
    return np.diag(variance)


def moved_poses(
    poses: SE3,
    covariance: Float[np.ndarray, "d d"],
    world_from_old: Callable[[SE3], SE3],
    own: Float[np.ndarray, "6 6"] | None = None,
) -> tuple[SE3, Float[np.ndarray, "d d"]]:
    """Poses in a world that is itself told by them, and their joint covariance there.

    Args:
        poses: (n,) of cameras and targets in the old frame.
        covariance: (6 n, 6 n), in the order of `SE3.retract`.
        world_from_old: the new world, from the poses.
        own: covariance of the new world's frame beside what the poses explain: (rotation, translation) in the world.
    """
    world = world_from_old(poses)
    moved, d = world @ poses, 6 * len(poses)
    J = np.zeros((d, d))
    for k in np.flatnonzero(np.diag(covariance) > 0).tolist():
        step = np.zeros(d)
        step[k] = _STEP
        ahead, back = (poses.retract(sign * step.reshape(-1, 6)) for sign in (1.0, -1.0))
        change = moved.local(world_from_old(ahead) @ ahead) - moved.local(world_from_old(back) @ back)
        J[:, k] = change.ravel() / (2 * _STEP)
    total = J @ covariance @ J.T
    if own is not None:
        by_world = np.zeros((d, 6))
        for k in range(6):
            turn, shift = _STEP * np.eye(6)[k, :3], _STEP * np.eye(6)[k, 3:]
            by_world[:, k] = moved.local(SE3(so3_exp(turn), shift) @ moved).ravel() / _STEP
        total = total + by_world @ own @ by_world.T
    return moved, total
