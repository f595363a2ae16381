"""Normal equations of a scene: pairs of image and target summed at once, targets eliminated by the Schur complement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from calibration.robust import robust_cost, robust_weight
from calibration.scene import LensPrior, Observations, Scene, reproject, scene_step
from core.arrays import Float
from core.cameras import Lens
from core.errors import GateError
from core.transforms import right_jacobian_inverse

UNSEEN_SIGMAS = 100.0  # residual charged for a point that the lens cannot see: worse than any outlier


@dataclass(frozen=True)
class BundleConfig:
    """Settings of the solver.

    Attributes:
        loss: robust loss of an observation's residual.
        loss_sigmas: residual, in standard deviations, at which the loss begins to bend.
        max_iterations: Levenberg-Marquardt steps.
        tolerance: relative fall of the cost below which the solution stands.
        damping: of the first step; small where the start is near, so that weakly determined unknowns move at once.
    """

    loss: Literal["none", "huber", "cauchy"] = "cauchy"
    loss_sigmas: float = 3.0
    max_iterations: int = 60
    tolerance: float = 1e-9
    damping: float = 1e-4


@dataclass(frozen=True, eq=False)
class Normal:
    """Normal equations: images and lenses in one dense block, targets in blocks of six."""

    H: np.ndarray  # (d, d)
    g: np.ndarray  # (d,)
    free: np.ndarray  # (d,) which rows are solved for
    cross: np.ndarray  # (targets, 6, d)
    H_target: np.ndarray  # (targets, 6, 6)
    g_target: np.ndarray  # (targets, 6)
    shape: tuple[int, int, int]  # images, lenses, lens parameters

    def reduced(self, damping: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Schur complement of the targets, its right-hand side, and `H_target^-1` damped.

        Raises:
            GateError: if no camera can see a target's points any more.
        """
        diagonal = np.einsum("tii->ti", self.H_target)
        try:
            inverse = np.linalg.inv(self.H_target + damping * diagonal[..., None] * np.eye(6))
        except np.linalg.LinAlgError as error:
            lost = int(diagonal.min(axis=-1).argmin())
            problem = f"target {lost} of {len(diagonal)}: all its points fall behind the cameras that saw it ({error})"
            raise GateError("bundle", problem, "check that each view has its own camera, and start values") from error
        width = self.H.shape[0]
        weighted = inverse @ self.cross
        S = self.H + damping * np.diag(np.diag(self.H))
        S = S - self.cross.reshape(-1, width).T @ weighted.reshape(-1, width)
        b = self.g - np.einsum("tid,ti->d", weighted, self.g_target)
        return S, b, inverse

    def solve(self, damping: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The step for images, targets and lenses."""
        S, b, inverse = self.reduced(damping)
        step = np.zeros(len(b))
        index = np.flatnonzero(self.free)
        if len(index):
            step[index] = -cho_solve(factor_dense(S[np.ix_(index, index)]), b[index])
        target_step = -np.einsum("tij,tj->ti", inverse, self.g_target + self.cross @ step)
        images, lenses, p = self.shape
        return step[: 6 * images].reshape(images, 6), target_step, step[6 * images :].reshape(lenses, p)

    def covariances(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of images (images, 6, 6), targets (targets, 6, 6), and lens variances (lenses, p)."""
        S, _, inverse = self.reduced(0.0)
        index = np.flatnonzero(self.free)
        full = np.zeros_like(S)
        if len(index):
            full[np.ix_(index, index)] = cho_solve(factor_dense(S[np.ix_(index, index)]), np.eye(len(index)))
        images, lenses, p = self.shape
        blocks = full[: 6 * images, : 6 * images].reshape(images, 6, images, 6)
        image = blocks[np.arange(images), :, np.arange(images)]
        gain = inverse @ self.cross
        target = inverse + gain @ full @ np.swapaxes(gain, -1, -2)
        return image, target, np.diag(full)[6 * images :].reshape(lenses, p)


def factor_dense(S: np.ndarray) -> tuple[np.ndarray, bool]:
    """Cholesky factor for `cho_solve`.

    Raises:
        GateError: if the matrix is singular.
    """
    try:
        factor: tuple[np.ndarray, bool] = cho_factor(S, check_finite=False)
    except LinAlgError as error:
        raise GateError(
            "bundle", f"the points do not determine every pose ({error})", "show the targets to more cameras at once"
        ) from error
    return factor


class System:
    """The observations in the solver's order: sorted by (image, target) pair, whose products are summed at once."""

    def __init__(self, observations: Observations, config: BundleConfig) -> None:
        self.observations = observations
        self.config = config
        o = observations
        new = np.flatnonzero((np.diff(o.image_idx, prepend=-1) != 0) | (np.diff(o.target_idx, prepend=-1) != 0))
        self.starts, self.sizes = new, np.diff(np.append(new, len(o)))
        self.pair_image, self.pair_target = o.image_idx[new], o.target_idx[new]

    def move(self, scene: Scene, step: tuple[np.ndarray, np.ndarray, np.ndarray]) -> Scene | None:
        """The scene after a step."""
        return scene_step(scene, *step)

    def cost(self, scene: Scene) -> float:
        """Robust cost with the priors."""
        residual = reproject(scene, self.observations)[0] / self.observations.sigma_px[:, None]
        squared = np.where(np.isfinite(residual[:, 0]), (residual**2).sum(axis=-1), UNSEEN_SIGMAS**2)
        return float(robust_cost(squared, self.config.loss, self.config.loss_sigmas).sum()) + _prior_cost(scene)

    def weighted(self, scene: Scene) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Whitened and weighted residuals (n, 2), their Jacobian (n, 2, 12 + p), and the robust weights (n,)."""
        residual, by_image, by_target, by_lens = reproject(scene, self.observations, jacobians=True)
        residual = residual / self.observations.sigma_px[:, None]
        seen = np.isfinite(residual[:, 0])
        squared = np.where(seen, (residual**2).sum(axis=-1), 0.0)
        weight = np.where(seen, robust_weight(squared, self.config.loss, self.config.loss_sigmas), 0.0)
        o = self.observations
        by_image = by_image * scene.image_free[o.image_idx][:, None]
        by_target = by_target * scene.target_free[o.target_idx][:, None]
        by_lens = by_lens * scene.lens_free[scene.lens_idx[o.image_idx]][:, None]
        scale = np.sqrt(weight)[:, None]
        J = np.concatenate([by_image, by_target, by_lens], axis=-1) * (scale / o.sigma_px[:, None])[..., None]
        J = np.where(seen[:, None, None], J, 0.0)
        return np.where(seen[:, None], residual, 0.0) * scale, J, weight

    def linearise(self, scene: Scene) -> Normal:
        """Normal equations at a scene."""
        lens_moves = bool(scene.lens_free.any())
        residual, J, _ = self.weighted(scene)
        products, gradients = group_products(J if lens_moves else J[..., :12], residual, self.starts, self.sizes)
        return _assemble(scene, self.pair_image, self.pair_target, products, gradients, lens_moves)


def group_products(
    J: Float[np.ndarray, "n 2 w"], r: Float[np.ndarray, "n 2"], starts: np.ndarray, sizes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """J^T J and J^T r of every group of consecutive rows; groups of one size are multiplied together."""
    width = J.shape[-1]
    products, gradients = np.empty((len(starts), width, width)), np.empty((len(starts), width))
    for size in np.unique(sizes):
        groups = np.flatnonzero(sizes == size)
        rows = starts[groups][:, None] + np.arange(size)
        A = J[rows].reshape(len(groups), 2 * size, width)
        At = np.swapaxes(A, -1, -2)
        products[groups] = At @ A
        gradients[groups] = (At @ r[rows].reshape(len(groups), 2 * size, 1))[..., 0]
    return products, gradients


def _assemble(
    scene: Scene,
    image: np.ndarray,
    target: np.ndarray,
    products: np.ndarray,
    gradients: np.ndarray,
    lens_moves: bool,
) -> Normal:
    """Adds the pairs' products into the blocks; what may not move gets a unit diagonal and no gradient."""
    images, targets, lenses = len(scene.world_from_cam), len(scene.world_from_target), len(scene.lenses)
    p = scene.lens_free.shape[1] if lens_moves else 0
    width = 6 * images + lenses * p
    H, g = np.zeros((width, width)), np.zeros(width)
    cross = np.zeros((targets, 6, width))
    H_target, g_target = np.zeros((targets, 6, 6)), np.zeros((targets, 6))
    rows = 6 * image[:, None] + np.arange(6)
    np.add.at(H, (rows[:, :, None], rows[:, None, :]), products[:, :6, :6])
    np.add.at(g, rows, gradients[:, :6])
    np.add.at(H_target, target, products[:, 6:12, 6:12])
    np.add.at(g_target, target, gradients[:, 6:12])
    cross[target[:, None, None], np.arange(6)[:, None], rows[:, None, :]] = products[:, 6:12, :6]
    if lens_moves:
        columns = 6 * images + p * scene.lens_idx[image][:, None] + np.arange(p)
        np.add.at(H, (columns[:, :, None], columns[:, None, :]), products[:, 12:, 12:])
        np.add.at(H, (rows[:, :, None], columns[:, None, :]), products[:, :6, 12:])
        np.add.at(H, (columns[:, :, None], rows[:, None, :]), products[:, 12:, :6])
        np.add.at(g, columns, gradients[:, 12:])
        index = (target[:, None, None], np.arange(6)[:, None], columns[:, None, :])
        np.add.at(cross, index, products[:, 6:12, 12:])
    _add_priors(scene, H, g, p)
    H_target += np.where(scene.target_free, 0.0, 1.0)[..., None] * np.eye(6)
    free = np.concatenate([scene.image_free.ravel(), scene.lens_free.ravel() if lens_moves else np.zeros(0, bool)])
    if not lens_moves:
        return Normal(H, g, free, cross, H_target, g_target, (images, lenses, 0))
    return Normal(H, g, free, cross, H_target, g_target, (images, lenses, p))


def _prior_cost(scene: Scene) -> float:
    cost = 0.0
    if scene.pose_prior is not None:
        off = scene.pose_prior.world_from_cam.local(scene.world_from_cam)
        cost += float(np.einsum("ni,nij,nj->", off, scene.pose_prior.information, off))
    return cost + lens_prior_terms(scene.lenses, scene.lens_prior)[0]


def _add_priors(scene: Scene, H: np.ndarray, g: np.ndarray, p: int) -> None:
    """Adds the priors' products to the normal equations; only free variables feel them."""
    images = len(scene.world_from_cam)
    if scene.pose_prior is not None:
        off = scene.pose_prior.world_from_cam.local(scene.world_from_cam)
        J = np.broadcast_to(np.eye(6), (images, 6, 6)).copy()
        J[:, :3, :3] = right_jacobian_inverse(off[:, :3])
        Jt_info = np.swapaxes(J, -1, -2) @ scene.pose_prior.information
        rows = 6 * np.arange(images)[:, None] + np.arange(6)
        H[rows[:, :, None], rows[:, None, :]] += Jt_info @ J
        g[rows] += np.einsum("nij,nj->ni", Jt_info, off)
    if scene.lens_prior is not None and p:
        columns = 6 * images + p * np.arange(len(scene.lenses))[:, None] + np.arange(p)
        _, information, gradient = lens_prior_terms(scene.lenses, scene.lens_prior)
        H[columns[:, :, None], columns[:, None, :]] += information
        g[columns] += gradient


def lens_prior_terms(lenses: tuple[Lens, ...], prior: LensPrior | None) -> tuple[float, np.ndarray, np.ndarray]:
    """Cost of the lenses' priors, its information (lenses, p, p) and gradient (lenses, p); zeros without a prior."""
    params = np.zeros((len(lenses), max(len(lens.params) for lens in lenses)))
    if prior is None:
        return 0.0, np.zeros((*params.shape, params.shape[1])), params
    for row, lens in zip(params, lenses, strict=True):
        row[: len(lens.params)] = lens.params
    off = params - prior.mean
    gradient = np.einsum("nij,nj->ni", prior.information, off)
    return float((off * gradient).sum()), prior.information, gradient
