"""A bundle adjustment whose targets are known beforehand, together: photographs on top of what room videos located.

Located targets are off together (a tilt of the world moves a whole ceiling), so what is known of them is one Gaussian
over all of them. It couples targets, which `calibration.bundle` keeps apart; here images are eliminated instead, by the
Schur complement (Triggs et al. 2000, section 6.1), and targets and lenses stay in one dense block with the prior.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_solve

from calibration.bundle import BundleConfig, minimise
from calibration.normal_equations import UNSEEN_SIGMAS, System, factor_dense, group_products, lens_prior_terms
from calibration.robust import robust_cost
from calibration.scene import Observations, Scene, reproject
from core.arrays import Float, Int
from core.threads import one_blas_thread
from core.transforms import SE3, right_jacobian_inverse

_FLAT = 1e-12  # share of the largest eigenvalue below which a direction of the prior counts as known this well at most


@dataclass(frozen=True, eq=False)
class JointPrior:
    """What is known of some targets before: a Gaussian over all of them.

    Attributes:
        target_idx: (k,) targets of the scene.
        world_from_target: (k,) their means.
        information: (6k, 6k) inverse covariance, (rotation, translation) of `SE3.local`.
    """

    target_idx: Int[np.ndarray, "k"]
    world_from_target: SE3
    information: Float[np.ndarray, "d d"]

    @staticmethod
    def of(target_idx: Int[np.ndarray, "k"], mean: SE3, covariance: Float[np.ndarray, "d d"]) -> JointPrior:
        """From a covariance, which may be nearly singular: targets that hang together move together."""
        return JointPrior(target_idx, mean, inverse_covariance(covariance))

    def off(self, world_from_target: SE3) -> Float[np.ndarray, "k 6"]:
        """How far the scene's targets are from their means."""
        return self.world_from_target.local(world_from_target[self.target_idx])


def inverse_covariance(covariance: Float[np.ndarray, "d d"]) -> Float[np.ndarray, "d d"]:
    """Information of a covariance that may be nearly singular, whatever the units of its variables."""
    sigma = np.sqrt(np.maximum(np.diag(covariance), 1e-18))
    values, vectors = np.linalg.eigh(covariance / np.outer(sigma, sigma))
    values = np.maximum(values, _FLAT * values.max(initial=1.0))
    return np.asarray((vectors / values) @ vectors.T / np.outer(sigma, sigma))


@dataclass(frozen=True, eq=False)
class JointResult:
    """A solved scene.

    Attributes:
        scene: the scene at the optimum.
        residual_px: (n, 2) predicted minus seen; NaN where the lens cannot see the point.
        weight: (n,) robust weights.
        cost: (n,) robust cost of each observation.
        covariance: (6 targets, 6 targets) of all targets' poses, from the stated standard deviations; zero rows for
            those held.
        converged: whether the cost stopped falling before the iterations ran out.
    """

    scene: Scene
    residual_px: Float[np.ndarray, "n 2"]
    weight: Float[np.ndarray, "n"]
    cost: Float[np.ndarray, "n"]
    covariance: Float[np.ndarray, "d d"]
    converged: bool

    @property
    def error_px(self) -> Float[np.ndarray, "n"]:
        """Distance between predicted and seen, pixels."""
        return np.linalg.norm(self.residual_px, axis=-1)


@one_blas_thread
def solve_joint(
    scene: Scene, observations: Observations, prior: JointPrior | None = None, config: BundleConfig | None = None
) -> JointResult:
    """Minimises the robust reprojection errors and the priors by Levenberg-Marquardt.

    Args:
        scene: start values, with priors on images and lenses where there are any.
        observations: what was seen.
        prior: what is known of the targets.
        config: settings.

    Raises:
        GateError: if something free is not determined by the data.
    """
    order = np.lexsort((observations.target_idx, observations.image_idx))
    system = _JointSystem(observations[order], prior, config or BundleConfig())
    scene, converged = minimise(system, scene, system.config)
    residual, weight = reproject(scene, system.observations)[0], system.weighted(scene)[2]
    squared = ((residual / system.observations.sigma_px[:, None]) ** 2).sum(axis=-1)
    squared = np.where(np.isfinite(squared), squared, UNSEEN_SIGMAS**2)
    cost = robust_cost(squared, system.config.loss, system.config.loss_sigmas)
    covariance = system.linearise(scene).covariance(6 * len(scene.world_from_target))
    back = np.argsort(order)
    return JointResult(scene, residual[back], weight[back], cost[back], covariance, converged)


@dataclass(frozen=True, eq=False)
class _Normal:
    """Normal equations: targets and lenses in one dense block, images in blocks of six."""

    H: np.ndarray  # (d, d)
    g: np.ndarray  # (d,)
    free: np.ndarray  # (d,)
    cross: np.ndarray  # (images, 6, d)
    H_image: np.ndarray  # (images, 6, 6)
    g_image: np.ndarray  # (images, 6)
    lenses: tuple[int, int]

    def reduced(self, damping: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What is left without the images, its right-hand side, and the images' damped inverses times `cross`, `g`."""
        damped = self.H_image + (damping * np.einsum("nii->ni", self.H_image))[..., None] * np.eye(6)
        gain = np.linalg.solve(damped, np.concatenate([self.cross, self.g_image[..., None]], axis=-1))
        flat = self.cross.reshape(6 * len(self.cross), len(self.g))
        reduced = flat.T @ gain.reshape(len(flat), len(self.g) + 1)
        return self.H + damping * np.diag(np.diag(self.H)) - reduced[:, :-1], self.g - reduced[:, -1], gain

    def solve(self, damping: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The step for images, targets and lenses."""
        S, b, gain = self.reduced(damping)
        step, index = np.zeros(len(b)), np.flatnonzero(self.free)
        if len(index):
            step[index] = -cho_solve(factor_dense(S[np.ix_(index, index)]), b[index])
        targets = len(step) - self.lenses[0] * self.lenses[1]
        image_step = -(gain[..., -1] + gain[..., :-1] @ step)
        return image_step, step[:targets].reshape(-1, 6), step[targets:].reshape(self.lenses)

    def covariance(self, width: int) -> np.ndarray:
        """Of the first `width` dense variables."""
        S, index = self.reduced(0.0)[0], np.flatnonzero(self.free)
        full = np.zeros_like(S)
        if len(index):
            full[np.ix_(index, index)] = cho_solve(factor_dense(S[np.ix_(index, index)]), np.eye(len(index)))
        return full[:width, :width]


class _JointSystem(System):
    """The same observations with the joint prior, and the other elimination."""

    def __init__(self, observations: Observations, prior: JointPrior | None, config: BundleConfig) -> None:
        super().__init__(observations, config)
        self.prior = prior

    def cost(self, scene: Scene) -> float:
        """Robust cost with the priors."""
        cost = super().cost(scene)
        if self.prior is not None:
            off = self.prior.off(scene.world_from_target).ravel()
            cost += float(off @ self.prior.information @ off)
        return cost

    def linearise(self, scene: Scene) -> _Normal:  # type: ignore[override]
        """Normal equations at a scene."""
        images, targets, lenses = len(scene.world_from_cam), len(scene.world_from_target), len(scene.lenses)
        moves = bool(scene.lens_free.any())
        p = scene.lens_free.shape[1] if moves else 0
        residual, J, _ = self.weighted(scene)
        products, gradients = group_products(J if moves else J[..., :12], residual, self.starts, self.sizes)
        dense = 6 * targets + lenses * p
        lens = 6 * targets + p * scene.lens_idx[self.pair_image][:, None] + np.arange(p)
        columns = np.concatenate([6 * self.pair_target[:, None] + np.arange(6), lens], axis=-1)
        H, g = np.zeros((dense, dense)), np.zeros(dense)
        H_image, g_image, cross = np.zeros((images, 6, 6)), np.zeros((images, 6)), np.zeros((images, 6, dense))
        np.add.at(H, (columns[:, :, None], columns[:, None, :]), products[:, 6:, 6:])
        np.add.at(g, columns, gradients[:, 6:])
        np.add.at(H_image, self.pair_image, products[:, :6, :6])
        np.add.at(g_image, self.pair_image, gradients[:, :6])
        rows = (self.pair_image[:, None, None], np.arange(6)[:, None], columns[:, None, :])
        np.add.at(cross, rows, products[:, :6, 6:])
        if self.prior is not None:
            _add_target_prior(self.prior, scene, H, g)
        _add_pose_prior(scene, H_image, g_image)
        if moves:
            at = (6 * targets + np.arange(lenses * p)).reshape(lenses, p)
            _, information, gradient = lens_prior_terms(scene.lenses, scene.lens_prior)
            H[at[:, :, None], at[:, None, :]] += information
            g[at] += gradient
        free = np.concatenate([scene.target_free.ravel(), scene.lens_free.ravel() if moves else np.zeros(0, bool)])
        return _Normal(H, g, free, cross, H_image, g_image, (lenses, p))


def _add_target_prior(prior: JointPrior, scene: Scene, H: np.ndarray, g: np.ndarray) -> None:
    off = prior.off(scene.world_from_target)
    k = len(off)
    J = np.zeros((k, 6, k, 6))
    J[np.arange(k), :, np.arange(k)] = _log_jacobian(off)
    at = (6 * prior.target_idx[:, None] + np.arange(6)).ravel()
    J_flat = J.reshape(6 * k, 6 * k)
    weighted = J_flat.T @ prior.information
    H[np.ix_(at, at)] += weighted @ J_flat
    g[at] += weighted @ off.ravel()


def _add_pose_prior(scene: Scene, H_image: np.ndarray, g_image: np.ndarray) -> None:
    """Adds the images' priors where they may move, and a unit where not."""
    free = scene.image_free
    if scene.pose_prior is not None:
        off = scene.pose_prior.world_from_cam.local(scene.world_from_cam)
        J = _log_jacobian(off)
        weighted = np.swapaxes(J, -1, -2) @ scene.pose_prior.information
        H_image += (weighted @ J) * (free[:, :, None] & free[:, None, :])
        g_image += np.einsum("nij,nj->ni", weighted, off) * free
    H_image += np.where(free, 0.0, 1.0)[..., None] * np.eye(6)


def _log_jacobian(off: np.ndarray) -> np.ndarray:
    """Derivative (n, 6, 6) of `SE3.local` by a further `retract`."""
    J = np.broadcast_to(np.eye(6), (len(off), 6, 6)).copy()
    J[:, :3, :3] = right_jacobian_inverse(off[:, :3])
    return J
