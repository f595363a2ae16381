"""Terms of the fitting objective as pure functions, each with its analytic derivatives.

Terms on points (landmarks in the world) return a `PointTerm`: cost, gradient and Gauss-Newton Hessian by each point, to
be pulled back through the body's Jacobian once for all of them. Terms on joint rotations and terms in time return
residuals and Jacobians by right-multiplied rotation increments, `R exp(hat(d))`, joint by joint. All costs are half
sums of squares in units of standard deviations.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from core.arrays import Float
from core.transforms import right_jacobian_inverse, so3_log
from fitting.rays import UPPER, Rays, errors, residual_rows


@dataclass(frozen=True, eq=False)
class PointTerm:
    """A cost of landmark positions.

    Attributes:
        cost: its value.
        gradient: by the points, (frames, points, 3).
        hessian: Gauss-Newton's, (frames, points, 3, 3).
    """

    cost: float
    gradient: np.ndarray
    hessian: np.ndarray

    def __add__(self, other: PointTerm) -> PointTerm:
        return PointTerm(self.cost + other.cost, self.gradient + other.gradient, self.hessian + other.hessian)


def reprojection_term(
    rays: Rays, points_m: Float[np.ndarray, "frames points 3"], sigma_px: float, scale_px: float
) -> PointTerm:
    """Robust pixel distance between keypoints and projected points in every view, weighted by detector score.

    `rho(r) = 1/2 w c^2 r^2 / (c^2 + r^2) / sigma^2` (Geman and McClure 1987); a view that cannot see a point at all
    counts as an outlier.

    Args:
        rays: keypoints of (views, frames * points).
        points_m: landmarks in the world.
        sigma_px: standard deviation of a good keypoint's coordinate.
        scale_px: c, the error at which a keypoint has lost three quarters of its pull.
    """
    T, L, _ = points_m.shape
    error2, residual, at, depth = errors(rays, points_m.reshape(-1, 3).T)
    share = np.where(np.isfinite(error2), scale_px**2 / (scale_px**2 + error2), 0.0)
    lost = np.where(share > 0, error2 * share, scale_px**2)
    cost = 0.5 * float((rays.weight * lost).sum()) / sigma_px**2
    rows = np.nan_to_num(residual_rows(rays, at, depth))
    weighted = rows * (rays.weight * share**2 / sigma_px**2)
    gradient = (weighted * np.nan_to_num(residual)).sum(axis=(1, 2))
    hessian = np.empty((T * L, 3, 3))
    for i, j in UPPER:
        hessian[:, i, j] = hessian[:, j, i] = (weighted[i] * rows[j]).sum(axis=(0, 1))
    return PointTerm(cost, gradient.T.reshape(T, L, 3), hessian.reshape(T, L, 3, 3))


@cache
def information_factor(scale_in_sigmas: float) -> float:
    """What honest keypoints tell under the loss of `reprojection_term`, over what its Hessian says.

    An M-estimate of normal errors r in two coordinates, psi(r) = w(|r|) r, has the information E[psi']^2 / E[psi^2] of
    each (Huber 1981, section 6.3); the Gauss-Newton Hessian counts E[w].
    """
    r = np.linspace(0.0, 10.0, 4001)
    density = r * np.exp(-r * r / 2)
    density /= density.sum()
    w = (1 + (r / scale_in_sigmas) ** 2) ** -2.0
    slope = w + r / 2 * np.gradient(w, r)  # mean of psi' over directions
    return float((density @ slope) ** 2 / (density @ (w * w * r * r / 2)) / (density @ w))


def point_term(
    points_m: Float[np.ndarray, "frames points 3"],
    target_m: Float[np.ndarray, "frames points 3"],
    sigma_m: float,
    scale_m: float,
) -> PointTerm:
    """Robust distance to triangulated points; NaN targets pull nothing."""
    residual = np.nan_to_num(points_m - target_m)
    known = np.isfinite(target_m).all(axis=-1)
    share = scale_m**2 / (scale_m**2 + (residual**2).sum(axis=-1))
    weight = np.where(known, share**2 / sigma_m**2, 0.0)
    cost = 0.5 * float(((residual**2).sum(axis=-1) * share)[known].sum()) / sigma_m**2
    return PointTerm(cost, weight[..., None] * residual, weight[..., None, None] * np.eye(3))


def floor_term(points_m: Float[np.ndarray, "frames points 3"], sigma_m: float) -> PointTerm:
    """Depth of points under the floor z = 0, AMD's E_f with a square for a smooth start."""
    below = np.minimum(points_m[..., 2], 0.0)
    gradient, hessian = np.zeros(points_m.shape), np.zeros((*points_m.shape, 3))
    gradient[..., 2] = below / sigma_m**2
    hessian[..., 2, 2] = (below < 0) / sigma_m**2
    return PointTerm(0.5 * float((below**2).sum()) / sigma_m**2, gradient, hessian)


@dataclass(frozen=True, eq=False)
class JointTerm:
    """A cost of joint rotations: value, gradient (frames, joints, 3) and Hessian (frames, joints, 3, 3)."""

    cost: float
    gradient: np.ndarray
    hessian: np.ndarray

    def __add__(self, other: JointTerm) -> JointTerm:
        return JointTerm(self.cost + other.cost, self.gradient + other.gradient, self.hessian + other.hessian)


def rest_term(
    R: Float[np.ndarray, "frames joints 3 3"],
    mean: Float[np.ndarray, "joints 3"],
    sigma: Float[np.ndarray, "joints 3"],
) -> JointTerm:
    """Gaussian on each joint's rotation vector (radians)."""
    vector = so3_log(R)
    return _pull_back(vector, (vector - mean) / sigma, 1 / sigma)


def limit_term(
    R: Float[np.ndarray, "frames joints 3 3"],
    low: Float[np.ndarray, "joints 3"],
    high: Float[np.ndarray, "joints 3"],
    sigma: float,
) -> JointTerm:
    """How far each component of the rotation vector lies outside its anatomical range, squared."""
    vector = so3_log(R)
    outside = np.minimum(vector - low, 0.0) + np.maximum(vector - high, 0.0)
    return _pull_back(vector, outside / sigma, (outside != 0) / sigma)


def _pull_back(vector: np.ndarray, residual: np.ndarray, slope: np.ndarray) -> JointTerm:
    """The cost of residuals that depend on one component of the rotation vector each."""
    J = np.broadcast_to(slope, vector.shape)[..., None] * right_jacobian_inverse(vector)
    Jt = np.swapaxes(J, -1, -2)
    return JointTerm(0.5 * float((residual**2).sum()), np.einsum("...ij,...j->...i", Jt, residual), Jt @ J)


@dataclass(frozen=True, eq=False)
class TimeTerm:
    """Residuals between neighbouring frames, for translation (slot 0) and each joint (slots 1 to joints).

    Attributes:
        residual: in standard deviations, (n, slots, 3); residual i involves frames i to i + reach.
        jacobian: by the increments of frame i + k, (n, reach + 1, slots, 3, 3).
    """

    residual: np.ndarray
    jacobian: np.ndarray

    @property
    def cost(self) -> float:
        """Half the sum of squares."""
        return 0.5 * float((self.residual**2).sum())


def velocity_term(
    R: Float[np.ndarray, "frames joints 3 3"],
    transl: Float[np.ndarray, "frames 3"],
    sigma: Float[np.ndarray, "slots"],
) -> TimeTerm:
    """Change from frame to frame, AMD's E_vel: metres for the translation, radians for each joint."""
    step, from_old, from_new = _steps(R, transl)
    scale = 1 / sigma[:, None]
    return TimeTerm(step * scale, np.stack([from_old, from_new], axis=1) * scale[..., None])


def acceleration_term(
    R: Float[np.ndarray, "frames joints 3 3"],
    transl: Float[np.ndarray, "frames 3"],
    sigma: Float[np.ndarray, "slots"],
) -> TimeTerm:
    """Change of that change, AMD's E_acc."""
    step, from_old, from_new = _steps(R, transl)
    scale = 1 / sigma[:, None]
    jacobian = np.stack([-from_old[:-1], from_old[1:] - from_new[:-1], from_new[1:]], axis=1)
    return TimeTerm((step[1:] - step[:-1]) * scale, jacobian * scale[..., None])


def _steps(R: np.ndarray, transl: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """log(R_t^T R_t+1) and differences of translation (T-1, slots, 3); derivatives by the old and the new frame."""
    turn = so3_log(np.swapaxes(R[:-1], -1, -2) @ R[1:])
    by_new = right_jacobian_inverse(turn)
    identity = np.broadcast_to(np.eye(3), (len(turn), 1, 3, 3))
    step = np.concatenate([np.diff(transl, axis=0)[:, None], turn], axis=1)
    # log(exp(-d) E) ~ w - Jl^-1(w) d, and the left Jacobian is the transpose of the right one
    from_old = np.concatenate([-identity, -np.swapaxes(by_new, -1, -2)], axis=1)
    return step, from_old, np.concatenate([identity, by_new], axis=1)
