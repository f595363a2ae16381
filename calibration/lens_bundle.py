"""Bundle adjustment of one lens and the pictures of one board.

The residual is `lens.project(board_from_cam^-1 X) - px`. Pictures never see each other, so each one's pose is
eliminated by the Schur complement and what is left is a system of the lens's parameters alone (Triggs et al. 2000,
section 6.1): the information that each picture carries about the lens, which also serves to choose pictures.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calibration.planar_pose import Pictures
from calibration.robust import Loss, robust_cost, robust_weight, variance_factor
from core.arrays import Bool, Float
from core.cameras import Lens
from core.threads import one_blas_thread
from core.transforms import SE3, hat

_MIN_WEIGHT = 0.1  # robust weight below which a corner counts as rejected
_OUTLIER = 25.0  # squared standard deviations beyond which a corner says nothing of the noise
_LOSS_SIGMAS = 3.0
_MEAN_WEIGHTED = 1.4410  # mean of s / (1 + s / 9) over the chi-square distribution of two coordinates
_UNSEEN_SIGMAS = 100.0  # residual charged for a point that the lens cannot see: worse than any outlier


@dataclass(frozen=True)
class LensBundleConfig:
    """Settings of the solver.

    Attributes:
        loss: robust loss of a corner's residual.
        loss_sigmas: residual, in standard deviations, at which it begins to bend.
        max_iterations: Levenberg-Marquardt steps.
        tolerance: relative fall of the cost below which the solution stands.
    """

    loss: Loss = "cauchy"
    loss_sigmas: float = _LOSS_SIGMAS
    max_iterations: int = 50
    tolerance: float = 1e-9


@dataclass(frozen=True, eq=False)
class Prior:
    """What is known of `lens.params` beforehand: `information` (p, p) about `mean` (p,)."""

    mean: Float[np.ndarray, "p"]
    information: Float[np.ndarray, "p p"]


@dataclass(frozen=True, eq=False)
class LensBundle:
    """A solved lens.

    Attributes:
        lens: at the optimum.
        board_from_cam: (views,) poses.
        residual_px: (views, m, 2) predicted minus seen; NaN in the padding and where the lens sees nothing.
        weight: (views, m) robust weights, 0 in the padding.
        covariance: (p, p) of `lens.params`, with the noise stated or, if more, shown by the residuals; 0 where held.
        information: (views, p, p) what each picture says of the lens with its own pose unknown, at the stated noise.
        variance_factor: squared ratio of the noise shown to the noise stated.
        cost: robust cost with the prior's.
        normal: the normal equations at the optimum.
    """

    lens: Lens
    board_from_cam: SE3
    residual_px: Float[np.ndarray, "views m 2"]
    weight: Float[np.ndarray, "views m"]
    covariance: Float[np.ndarray, "p p"]
    information: Float[np.ndarray, "views p p"]
    variance_factor: float
    cost: float
    normal: Normal


@dataclass(frozen=True, eq=False)
class Normal:
    """Whitened, weighted derivatives and residuals at a state.

    Attributes:
        by_pose: (views, 2 m, 6).
        by_lens: (views, 2 m, p), 0 for parameters held.
        residual: (views, 2 m).
        residual_px: (views, m, 2).
        weight: (views, m).
        points_in_cam: (views, m, 3) the board in the camera, metres.
        scale: (views, m) what whitens and weights a coordinate's derivative.
    """

    by_pose: np.ndarray
    by_lens: np.ndarray
    residual: np.ndarray
    residual_px: np.ndarray
    weight: np.ndarray
    points_in_cam: np.ndarray
    scale: np.ndarray

    def reduced(self, damping: float, by_lens: np.ndarray | None = None) -> tuple[np.ndarray, ...]:
        """Per picture: Schur complement (views, p, p) and right-hand side (views, p), inverse pose block, coupling,
        gradient of the pose."""
        B = self.by_lens if by_lens is None else by_lens
        At, Bt = np.swapaxes(self.by_pose, -1, -2), np.swapaxes(B, -1, -2)
        H = At @ self.by_pose
        diagonal = np.einsum("vii->vi", H)
        # a picture with too few points to fix its pose moves only where it is told to
        H = H + (damping * diagonal + 1e-9 * (1e-6 + diagonal.max(axis=-1, keepdims=True)))[..., None] * np.eye(6)
        inverse, coupling = np.linalg.inv(H), At @ B
        gradient = np.einsum("vni,vn->vi", self.by_pose, self.residual)
        W = inverse @ coupling
        S = Bt @ B - np.swapaxes(coupling, -1, -2) @ W
        b = np.einsum("vni,vn->vi", B, self.residual) - np.einsum("vij,vi->vj", W, gradient)
        return S, b, inverse, coupling, gradient


@one_blas_thread
def solve_lens(
    lens: Lens,
    board_from_cam: SE3,
    pictures: Pictures,
    prior: Prior,
    free: Bool[np.ndarray, "p"],
    config: LensBundleConfig | None = None,
) -> LensBundle:
    """Minimises the robust reprojection error over the lens's free parameters and all poses.

    Args:
        lens: start values.
        board_from_cam: (views,) start poses, all known.
        pictures: what was seen.
        prior: of the lens.
        free: which of its parameters may move.
        config: settings.
    """
    config = config or LensBundleConfig()
    damping = 1e-3
    normal = linearise(lens, board_from_cam, pictures, free, config)
    cost = _cost(lens, normal.residual_px, pictures, prior, config)
    for _ in range(config.max_iterations):
        lens_step, pose_step = _step(lens, normal, prior, free, damping)
        params = lens.params + lens_step
        trial_cost = np.inf
        if params[:2].min() > 0:
            trial, trial_poses = lens.with_params(params), board_from_cam.retract(pose_step)
            residual_px = trial.project(_in_camera(trial_poses, pictures)) - pictures.xy_px
            trial_cost = _cost(trial, residual_px, pictures, prior, config)
        if trial_cost <= cost:
            settled = cost - trial_cost <= config.tolerance * max(cost, 1e-12)
            lens, board_from_cam, cost, damping = trial, trial_poses, trial_cost, max(damping / 10, 1e-12)
            normal = linearise(lens, board_from_cam, pictures, free, config)
            if settled:
                break
        else:
            damping *= 8
            if damping > 1e8:
                break
    return _finish(lens, board_from_cam, pictures, prior, free, normal, cost)


def linearise(
    lens: Lens, board_from_cam: SE3, pictures: Pictures, free: Bool[np.ndarray, "p"], config: LensBundleConfig
) -> Normal:
    """Derivatives and residuals at a state. dp/dw = hat(p) and dp/dt = -R^T with `board_from_cam.retract`."""
    points = _in_camera(board_from_cam, pictures)
    px, by_point, by_lens = lens.project_with_jacobian(points)
    residual = px - pictures.xy_px
    usable = pictures.seen & np.isfinite(residual[..., 0])
    whitened = np.where(usable[..., None], residual, 0.0) / pictures.sigma_px[..., None]
    squared = (whitened**2).sum(axis=-1)
    weight = robust_weight(squared.ravel(), config.loss, config.loss_sigmas).reshape(squared.shape) * usable
    scale = np.sqrt(weight) / pictures.sigma_px
    by_turn = by_point @ hat(points)
    by_place = -by_point @ np.swapaxes(board_from_cam.R, -1, -2)[:, None]
    by_pose = _scaled(np.concatenate([by_turn, by_place], axis=-1), usable, scale)
    views = len(pictures)
    return Normal(
        by_pose.reshape(views, -1, 6),
        (_scaled(by_lens, usable, scale) * free).reshape(views, -1, by_lens.shape[-1]),
        (whitened * np.sqrt(weight)[..., None]).reshape(views, -1),
        np.where(pictures.seen[..., None], residual, np.nan),
        weight,
        points,
        scale,
    )


def _scaled(J: np.ndarray, usable: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return np.where(usable[..., None, None], J, 0.0) * scale[..., None, None]


def _in_camera(board_from_cam: SE3, pictures: Pictures) -> np.ndarray:
    return (pictures.points_m - board_from_cam.t[:, None]) @ board_from_cam.R


def _cost(lens: Lens, residual_px: np.ndarray, pictures: Pictures, prior: Prior, config: LensBundleConfig) -> float:
    squared = ((residual_px / pictures.sigma_px[..., None]) ** 2).sum(axis=-1)
    squared = np.where(np.isfinite(squared), squared, _UNSEEN_SIGMAS**2)[pictures.seen]
    off = lens.params - prior.mean
    return float(robust_cost(squared, config.loss, config.loss_sigmas).sum() + off @ prior.information @ off)


def _step(lens: Lens, normal: Normal, prior: Prior, free: np.ndarray, damping: float) -> tuple[np.ndarray, np.ndarray]:
    """Steps of the lens (p,) and of the poses (views, 6)."""
    S, b, inverse, coupling, gradient = normal.reduced(damping)
    index = np.flatnonzero(free)
    H = S.sum(axis=0) + prior.information
    g = b.sum(axis=0) + prior.information @ (lens.params - prior.mean)
    step = np.zeros(len(free))
    if len(index):
        part = H[np.ix_(index, index)]
        unit = 1 / np.sqrt(np.maximum(np.diag(part), 1e-300))  # focal lengths and k3 differ by powers of ten
        scaled = part * unit[:, None] * unit + damping * np.eye(len(index))
        step[index] = -unit * np.linalg.lstsq(scaled, unit * g[index], rcond=1e-14)[0]
    return step, -np.einsum("vij,vj->vi", inverse, gradient + coupling @ step)


def _finish(
    lens: Lens,
    board_from_cam: SE3,
    pictures: Pictures,
    prior: Prior,
    free: np.ndarray,
    normal: Normal,
    cost: float,
) -> LensBundle:
    information = normal.reduced(0.0)[0]
    counted = pictures.seen & np.isfinite(normal.residual_px[..., 0])
    whitened = normal.residual_px[counted] / pictures.sigma_px[counted][:, None]
    equations = 2 * int((normal.weight > _MIN_WEIGHT).sum())
    unknowns = 6 * len(pictures) + int(free.sum())
    # fitting takes out part of the noise: what is left is smaller by the share of equations that the unknowns use up
    factor = _noise_factor(whitened, normal.weight[counted]) * equations / max(equations - unknowns, 1)
    # smaller residuals than stated buy nothing: what the stated noise allows for prints and paper does not average out
    covariance = invert_information(information.sum(axis=0) / max(factor, 1.0) + prior.information, free)
    return LensBundle(
        lens, board_from_cam, normal.residual_px, normal.weight, covariance, information, factor, cost, normal
    )


def _noise_factor(whitened: Float[np.ndarray, "n 2"], weight: Float[np.ndarray, "n"]) -> float:
    """Squared ratio of noise shown to noise stated: the median's, made efficient by one weighted mean at its scale."""
    rough = max(variance_factor(whitened, weight), 1e-6)
    squared = (whitened[weight > _MIN_WEIGHT] ** 2).sum(axis=-1) / rough
    inside = squared[squared < _OUTLIER]
    weighted = inside * robust_weight(inside, "cauchy", _LOSS_SIGMAS)
    return rough * float(weighted.mean()) / _MEAN_WEIGHTED if len(inside) else 1.0


def invert_information(information: Float[np.ndarray, "p p"], free: Bool[np.ndarray, "p"]) -> Float[np.ndarray, "p p"]:
    """Covariance of the free parameters, infinite variances where nothing determines one; 0 for those held."""
    covariance = np.zeros(information.shape)
    index = np.flatnonzero(free)
    part = information[np.ix_(index, index)]
    diagonal = np.diag(part)
    unit = 1 / np.sqrt(np.maximum(diagonal, 1e-300))
    values, vectors = np.linalg.eigh(part * unit[:, None] * unit)
    inverse = (vectors / np.maximum(values, 1e-14)) @ vectors.T
    covariance[np.ix_(index, index)] = unit[:, None] * inverse * unit
    return covariance
