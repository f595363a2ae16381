"""Bundle adjustment of free points and cameras whose lenses are known, under priors, with the covariance of both.

    lens_i.project(world_from_cam_i^-1 X_p) - px

Priors on cameras (a rig that is solved) and on points (markers that are located) hold the world where it is: the scale
comes from them. Points are eliminated by the Schur complement (Triggs et al. 2000, section 6.1). A point's covariance
is the sum of that of its own rays and of what its cameras' errors add; the second is shared by neighbours, so both are
kept apart.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from scipy.linalg import cho_factor, cho_solve

from calibration.robust import robust_cost, robust_weight
from core.arrays import Bool, Float, Int
from core.cameras import Lens
from core.errors import GateError
from core.threads import one_blas_thread
from core.transforms import SE3, hat

_LOSS_SIGMAS = 2.5
_CHUNK = 1024


@dataclass(frozen=True, eq=False)
class PointScene:
    """Cameras and points, and what is known of them beforehand.

    Attributes:
        lenses: distinct lenses.
        lens_idx: (m,) lens of each image.
        world_from_cam: (m,) poses.
        points_m: (p, 3) points.
        prior_pose: (m,) poses expected.
        prior_information: (m, 6, 6) inverse covariances of that, (rotation, translation); 0 for none.
        prior_points_m: (p, 3) places expected.
        prior_point_information: (p, 3, 3) inverse covariances of that; 0 for none.
    """

    lenses: Sequence[Lens]
    lens_idx: Int[np.ndarray, "m"]
    world_from_cam: SE3
    points_m: Float[np.ndarray, "p 3"]
    prior_pose: SE3
    prior_information: Float[np.ndarray, "m 6 6"]
    prior_points_m: Float[np.ndarray, "p 3"]
    prior_point_information: Float[np.ndarray, "p 3 3"]


@dataclass(frozen=True, eq=False)
class Sights:
    """Points seen in images.

    Attributes:
        image_idx: (n,) image.
        point_idx: (n,) point.
        xy_px: (n, 2) where.
        sigma_px: (n,) standard deviation of each coordinate.
    """

    image_idx: Int[np.ndarray, "n"]
    point_idx: Int[np.ndarray, "n"]
    xy_px: Float[np.ndarray, "n 2"]
    sigma_px: Float[np.ndarray, "n"]

    def where(self, rows: Int[np.ndarray, "r"] | Bool[np.ndarray, "n"]) -> Sights:
        """Some of them."""
        return Sights(*(getattr(self, f.name)[rows] for f in dataclasses.fields(self)))


@dataclass(frozen=True, eq=False)
class PointBundle:
    """A solved scene.

    Attributes:
        scene: at the optimum.
        residual_px: (n, 2) predicted minus seen; NaN where the lens does not see the point.
        weight: (n,) robust weights.
        pose_covariance: (m, 6, 6) of `world_from_cam`.
        own_covariance: (p, 3, 3) of the points as if the cameras were certain.
        shared_covariance: (p, 3, 3) what the cameras' errors add to it; neighbours have it in common.
        variance_factor: by how much residuals exceed what was stated, squared; it is in the covariances.
    """

    scene: PointScene
    residual_px: Float[np.ndarray, "n 2"]
    weight: Float[np.ndarray, "n"]
    pose_covariance: Float[np.ndarray, "m 6 6"]
    own_covariance: Float[np.ndarray, "p 3 3"]
    shared_covariance: Float[np.ndarray, "p 3 3"]
    variance_factor: float


@one_blas_thread
def solve_points(scene: PointScene, sights: Sights, *, iterations: int = 30) -> PointBundle:
    """Levenberg-Marquardt with Cauchy's loss.

    Raises:
        GateError: if something is not determined by the data.
    """
    damping, cost = 1e-4, _cost(scene, sights)
    normal = _Normal(scene, sights)
    for _ in range(iterations):
        trial = normal.step(scene, damping)
        trial_cost = _cost(trial, sights)
        if trial_cost <= cost:
            done = cost - trial_cost < 1e-6 * cost
            scene, cost, damping = trial, trial_cost, max(damping / 8, 1e-9)
            normal = _Normal(scene, sights)
            if done:
                break
        else:
            damping *= 8
            if damping > 1e6:
                break
    return normal.result(scene, sights)


def _project(scene: PointScene, sights: Sights) -> tuple[np.ndarray, np.ndarray]:
    """Predicted pixels (n, 2) and their derivatives by the point in the camera (n, 2, 3)."""
    points = _in_cameras(scene, sights)
    px, by_point = np.full((len(points), 2), np.nan), np.zeros((len(points), 2, 3))
    lens_of = scene.lens_idx[sights.image_idx]
    for k, lens in enumerate(scene.lenses):
        rows = np.flatnonzero(lens_of == k)
        px[rows], by_point[rows], _ = lens.project_with_jacobian(points[rows])
    return px, by_point


def _in_cameras(scene: PointScene, sights: Sights) -> np.ndarray:
    R, t = scene.world_from_cam.R[sights.image_idx], scene.world_from_cam.t[sights.image_idx]
    away = scene.points_m[sights.point_idx] - t
    return np.asarray((np.swapaxes(R, -1, -2) @ away[..., None])[..., 0])


def _cost(scene: PointScene, sights: Sights) -> float:
    points, lens_of = _in_cameras(scene, sights), scene.lens_idx[sights.image_idx]
    px = np.full((len(points), 2), np.nan)
    for k, lens in enumerate(scene.lenses):
        rows = np.flatnonzero(lens_of == k)
        px[rows] = lens.project(points[rows])
    whitened = (px - sights.xy_px) / sights.sigma_px[:, None]
    squared = np.where(np.isfinite(whitened[:, 0]), (whitened**2).sum(axis=-1), 1e4)
    off, place = _prior_residuals(scene)
    held = np.einsum("mi,mij,mj->", off, scene.prior_information, off)
    held += np.einsum("pi,pij,pj->", place, scene.prior_point_information, place)
    return float(robust_cost(squared, "cauchy", _LOSS_SIGMAS).sum() + held)


def _prior_residuals(scene: PointScene) -> tuple[np.ndarray, np.ndarray]:
    """How far poses (m, 6) and points (p, 3) are from where they are expected."""
    return scene.prior_pose.local(scene.world_from_cam), scene.points_m - scene.prior_points_m


class _Normal:
    """Normal equations at one scene."""

    def __init__(self, scene: PointScene, sights: Sights) -> None:
        self.m, self.p = len(scene.lens_idx), len(scene.points_m)
        px, by_cam_point = _project(scene, sights)
        self.residual_px = px - sights.xy_px
        seen = np.isfinite(px[:, 0])
        whitened = np.where(seen[:, None], self.residual_px / sights.sigma_px[:, None], 0.0)
        weight = robust_weight((whitened**2).sum(axis=-1), "cauchy", _LOSS_SIGMAS)
        self.weight = np.where(seen, weight, 0.0)
        root = np.sqrt(self.weight)
        scaled = by_cam_point * (root / sights.sigma_px)[:, None, None]
        in_cam = _in_cameras(scene, sights)
        turned = scaled @ np.swapaxes(scene.world_from_cam.R[sights.image_idx], -1, -2)
        A = np.concatenate([scaled @ hat(in_cam), -turned], axis=-1)
        A[~seen], turned[~seen] = 0.0, 0.0
        r = whitened * root[:, None]
        i, j = sights.image_idx, sights.point_idx
        self.U = _sums(np.swapaxes(A, -1, -2) @ A, i, self.m) + scene.prior_information
        self.V = _sums(np.swapaxes(turned, -1, -2) @ turned, j, self.p) + scene.prior_point_information
        off, place = _prior_residuals(scene)
        # a rotation's distance from its prior grows as its right increment does, while it is small
        self.gu = _sums(np.einsum("nki,nk->ni", A, r), i, self.m)
        self.gu += np.einsum("mij,mj->mi", scene.prior_information, off)
        self.gv = _sums(np.einsum("nki,nk->ni", turned, r), j, self.p)
        self.gv += np.einsum("pij,pj->pi", scene.prior_point_information, place)
        self.W = _block_sparse(np.swapaxes(A, -1, -2) @ turned, i, j, (self.m, self.p))

    def step(self, scene: PointScene, damping: float) -> PointScene:
        """The scene after one damped step."""
        factor, T, Vi = self._reduced(damping)
        gv = (Vi @ self.gv[..., None])[..., 0]
        du = -cho_solve(factor, self.gu.ravel() - self.W @ gv.ravel())
        dv = -gv.ravel() - T @ du
        pose = scene.world_from_cam.retract(du.reshape(-1, 6))
        return dataclasses.replace(scene, world_from_cam=pose, points_m=scene.points_m + dv.reshape(-1, 3))

    def _reduced(self, damping: float) -> tuple[tuple[np.ndarray, bool], sp.csr_array, np.ndarray]:
        """Factorised reduced camera system, V^-1 W^T, and V^-1."""
        V = self.V + damping * self.V * np.eye(3) + 1e-9 * np.eye(3)
        Vi = np.linalg.inv(V)
        index = np.arange(self.p)
        T = _block_sparse(Vi, index, index, (self.p, self.p)) @ self.W.T
        S = -(self.W @ T).toarray()
        U = self.U + damping * self.U * np.eye(6)
        for k in range(self.m):
            S[6 * k : 6 * k + 6, 6 * k : 6 * k + 6] += U[k]
        try:
            return cho_factor(S, lower=True), T.tocsr(), Vi
        except np.linalg.LinAlgError as error:
            action = "take more pictures that share points with the room cameras"
            raise GateError("scene map", "its cameras are not determined by what they see", action) from error

    def result(self, scene: PointScene, sights: Sights) -> PointBundle:
        """Covariances at the optimum."""
        factor, T, Vi = self._reduced(0.0)
        whitened = self.residual_px / sights.sigma_px[:, None]
        seen = np.isfinite(whitened[:, 0])
        inflate = max(_inflation((whitened[seen] ** 2).sum(axis=-1), self.weight[seen]), 1.0)
        C = cho_solve(factor, np.eye(6 * self.m))
        blocks = np.stack([C[6 * k : 6 * k + 6, 6 * k : 6 * k + 6] for k in range(self.m)])
        shared = np.concatenate([_diagonal_blocks(T[3 * k : 3 * (k + _CHUNK)], C) for k in range(0, self.p, _CHUNK)])
        return PointBundle(
            scene,
            self.residual_px,
            self.weight,
            inflate * blocks,
            inflate * Vi,
            inflate * shared,
            inflate,
        )


def _inflation(squared: np.ndarray, weight: np.ndarray) -> float:
    """What the inverse of sum w J^T J must be multiplied by to be the covariance of a robust estimate.

    Huber 1981, section 6.6: E[psi^2] / E[psi']^2 instead of 1 / E[w], here of residuals in two dimensions. Heavy tails,
    which a median of residuals does not see, count.
    """
    if len(weight) == 0:
        return 1.0
    slope = (weight - weight**2 * squared / _LOSS_SIGMAS**2).mean()
    return float((weight**2 * squared).mean() / 2 * weight.mean() / max(slope, 1e-3) ** 2)


def _diagonal_blocks(T: sp.csr_array, C: np.ndarray) -> np.ndarray:
    """(k, 3, 3) blocks on the diagonal of T C T^T."""
    TC = (T @ C).reshape(-1, 3, C.shape[0])
    return TC @ np.swapaxes(T.toarray().reshape(-1, 3, C.shape[0]), -1, -2)


def _sums(values: np.ndarray, index: np.ndarray, size: int) -> np.ndarray:
    """Sums of blocks by index."""
    flat = values.reshape(len(values), -1)
    gather = sp.csr_array((np.ones(len(index)), (index, np.arange(len(index)))), shape=(size, len(index)))
    return np.asarray(gather @ flat).reshape(size, *values.shape[1:])


def _block_sparse(blocks: np.ndarray, row: np.ndarray, column: np.ndarray, shape: tuple[int, int]) -> sp.csr_array:
    """Blocks (n, a, b) at block rows and columns of a sparse matrix; those at one place add up."""
    a, b = blocks.shape[1:]
    rows = (a * row[:, None, None] + np.arange(a)[:, None]) + np.zeros(b, np.int64)
    columns = (b * column[:, None, None] + np.arange(b)) + np.zeros((a, 1), np.int64)
    table = sp.coo_array((blocks.ravel(), (rows.ravel(), columns.ravel())), shape=(a * shape[0], b * shape[1]))
    return table.tocsr()
