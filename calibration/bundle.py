"""One bundle adjustment for everything that is calibrated from image points.

The residual of one observation is

    lens.project(world_from_cam^-1  world_from_target  X) - px

with X known in the target's frame. Poses move by `SE3.retract`, so every covariance is in its (rotation, translation)
order. Targets never see each other, so they are eliminated by the Schur complement (Triggs et al. 2000, section 6.1),
and what is left, images and lenses, is solved densely.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np

from calibration.normal_equations import BundleConfig, System
from calibration.robust import variance_factor
from calibration.scene import Observations, Scene, reproject
from core.arrays import Float
from core.threads import one_blas_thread

__all__ = ["BundleConfig", "BundleResult", "solve_bundle"]


S = TypeVar("S")
_SHORTER = 1 / 3  # of a step that went too far


@dataclass(frozen=True, eq=False)
class BundleResult:
    """A solved scene.

    Attributes:
        scene: the scene at the optimum.
        residual_px: (n, 2) predicted minus seen, in the order of the observations; NaN where unseen by the lens.
        weight: (n,) robust weight of each observation, 0..1.
        image_covariance: (images, 6, 6) of `world_from_cam`, (rotation, translation).
        target_covariance: (targets, 6, 6) of `world_from_target`.
        lens_sigma: (lenses, p) standard deviation of the lens parameters; 0 where held.
        variance_factor: by how much the residuals exceed the stated standard deviations, squared; already in the
            covariances.
        converged: whether the cost stopped falling before the iterations ran out.
    """

    scene: Scene
    residual_px: Float[np.ndarray, "n 2"]
    weight: Float[np.ndarray, "n"]
    image_covariance: Float[np.ndarray, "images 6 6"]
    target_covariance: Float[np.ndarray, "targets 6 6"]
    lens_sigma: Float[np.ndarray, "lenses p"]
    variance_factor: float
    converged: bool

    @property
    def error_px(self) -> Float[np.ndarray, "n"]:
        """Distance between predicted and seen, pixels."""
        return np.linalg.norm(self.residual_px, axis=-1)


@one_blas_thread
def solve_bundle(scene: Scene, observations: Observations, config: BundleConfig | None = None) -> BundleResult:
    """Minimises the robust reprojection error by Levenberg-Marquardt with analytic Jacobians.

    Args:
        scene: start values; they must be near enough for the points to lie in front of their cameras.
        observations: what was seen.
        config: settings.

    Raises:
        GateError: if the normal equations are singular, that is, something free is not determined by the data.
    """
    config = config or BundleConfig()
    order = np.lexsort((observations.target_idx, observations.image_idx))
    system = System(observations[order], config)
    scene, converged = minimise(system, scene, config)
    return _finish(scene, system, order, config, converged)


@runtime_checkable
class Problem(Protocol[S]):
    """A least-squares problem over states of any kind."""

    def cost(self, state: S) -> float:
        """What is minimised."""

    def linearise(self, state: S) -> Any:
        """Normal equations at a state, whose `solve(damping)` gives a step."""

    def move(self, state: S, step: Any) -> S | None:
        """The state after a step; None where there is none."""


def minimise(problem: Problem[S], state: S, config: BundleConfig) -> tuple[S, bool]:
    """Levenberg-Marquardt (Marquardt's scaling): the optimum, and whether the cost stopped falling before the end.

    A step that raises the cost is tried at a third of its length before the damping grows: where residuals bend along a
    weakly determined direction, Gauss and Newton's step points the right way but too far.
    """
    damping, cost = config.damping, problem.cost(state)
    normal = problem.linearise(state)
    for _ in range(config.max_iterations):
        step = normal.solve(damping)
        for length in (1.0, _SHORTER):
            trial = problem.move(state, tuple(length * part for part in step))
            trial_cost = np.inf if trial is None else problem.cost(trial)
            if trial_cost <= cost:
                break
        if trial is not None and trial_cost <= cost:
            settled = cost - trial_cost <= config.tolerance * max(cost, 1e-12)
            state, cost, damping = trial, trial_cost, max(damping / 8, 1e-10)
            if settled:
                return state, True
            normal = problem.linearise(state)
        else:
            damping *= 6
            if damping > 1e8:
                return state, True  # no step of any length lowers the cost
    return state, False


def _finish(scene: Scene, system: System, order: np.ndarray, config: BundleConfig, converged: bool) -> BundleResult:
    """Covariances and residuals at the optimum, back in the caller's order."""
    residual = reproject(scene, system.observations)[0]
    weight = system.weighted(scene)[2]
    num_params = int(scene.image_free.sum() + scene.target_free.sum() + scene.lens_free.sum())
    factor = variance_factor(residual / system.observations.sigma_px[:, None], weight, num_params)
    image, target, lens = system.linearise(scene).covariances()
    lens_variance = np.zeros(scene.lens_free.shape)
    lens_variance[:, : lens.shape[1]] = lens
    target = target * (scene.target_free[:, :, None] & scene.target_free[:, None, :])
    back = np.argsort(order)
    return BundleResult(
        scene=scene,
        residual_px=residual[back],
        weight=weight[back],
        image_covariance=factor * image,
        target_covariance=factor * target,
        lens_sigma=np.sqrt(factor * np.maximum(lens_variance, 0.0)),
        variance_factor=factor,
        converged=converged,
    )
