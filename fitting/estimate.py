"""From measurements of one sequence to SMPL parameters with covariances: the fit as a pure function.

First what stays the same, on single frames (`fitting.subject`). Then the poses, stretch by stretch (`fitting.windows`):
by Procrustes and by all terms against the triangulated points, whose basin is wide, on every few frames; between those,
and by all terms against the keypoints themselves, on all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from core.arrays import Bool, Float, Int
from core.threads import one_blas_thread
from core.transforms import geodesic, so3_log
from fitting.backend import CPU
from fitting.body_kinds import SMPL
from fitting.fit_model import FitModel
from fitting.initialise import initial_pose
from fitting.measurements import EstimateConfig, Measurements
from fitting.objective import FitState, Objective
from fitting.residuals import information_factor
from fitting.smpl import rodrigues
from fitting.solver import Minimum, factorise, marginals, minimise
from fitting.standing import resting_soles
from fitting.subject import Subject

_FIRST_FOOT_SCALE = 100.0
_MOST_STAYING = 0.9  # share of the noise
_ROUGH_DAMPING = 1e-2  # first poses are far from the points, and a spine bends back easily
_LOST_M = 0.12  # median distance from the points that were seen, beyond which a pose is in another valley
_LEAST_BONE_M = 0.1
_NOWHERE = 10.0  # metres, radians: what is known of a frame that shows nothing

__all__ = ["Estimate", "EstimateConfig", "Measurements", "estimate_poses"]


@dataclass(frozen=True, eq=False)
class Estimate:
    """The fitted parameters.

    Attributes:
        state: poses, translations, shape and mounts.
        joint_covariance: of SMPL's 24 joints, or what stands for them, in the world, m^2, (frames, 24, 3, 3).
        subject: shape and mounts, and how certain they are.
        cost: of all terms, half the weighted sum of squares.
        num_steps: steps of all stages.
        converged: whether the last stage ended by itself.
    """

    state: FitState
    joint_covariance: Float[np.ndarray, "frames 24 3 3"]
    subject: Subject
    cost: float
    num_steps: int
    converged: bool

    def __len__(self) -> int:
        return len(self.state.R)

    def frames(self, index: np.ndarray | slice) -> Estimate:
        """The same of some of the frames."""
        state = dataclasses.replace(self.state, R=self.state.R[index], transl=self.state.transl[index])
        return dataclasses.replace(self, state=state, joint_covariance=self.joint_covariance[index])


@one_blas_thread
def estimate_poses(
    model: FitModel,
    measured: Measurements,
    subject: Subject,
    config: EstimateConfig,
    device: str = CPU,
) -> Estimate:
    """Fits the poses of one stretch of a sequence to a known person.

    Args:
        model: the body.
        measured: keypoints and what else is known.
        subject: shape and mounts; foot cameras without a mount are left out.
        config: settings.
        device: where the normal equations are solved (`fitting.backend`); the result does not depend on it.
    """
    objective = _objective(model, measured, subject, config, device)
    rough = _rough_poses(objective, measured, subject, config)
    objective = _standing(objective, rough.state, config)
    fine = minimise(rough.state, objective.linearise, FitState.retract, config.solver)
    covariance = _joint_covariance(objective, fine.state, subject, measured.staying, _stride(measured, config))
    return Estimate(fine.state, covariance, subject, fine.costs[-1], rough.num_steps + fine.num_steps, fine.converged)


@one_blas_thread
def refine_between(
    model: FitModel,
    measured: Measurements,
    subject: Subject,
    config: EstimateConfig,
    state: FitState,
    device: str = CPU,
) -> FitState:
    """The poses of a stretch whose first and last two frames stay as they are.

    Args:
        model: the body.
        measured: keypoints and what else is known.
        subject: shape and mounts.
        config: settings.
        state: all poses, near the best ones.
        device: where the normal equations are solved.
    """
    ends = np.array([0, 1, len(measured) - 2, len(measured) - 1])
    held = dataclasses.replace(state, R=state.R[ends], transl=state.transl[ends])
    objective = _standing(_objective(model, measured, subject, config, device), state, config)
    objective = dataclasses.replace(objective, anchors=(ends, held))
    return minimise(state, objective.linearise, FitState.retract, config.solver).state


def _objective(
    model: FitModel, measured: Measurements, subject: Subject, config: EstimateConfig, device: str
) -> Objective:
    feet = {view: measured.feet[view] for view in subject.mounts}
    return Objective(
        model.with_offsets(subject.offsets),
        measured.step_s,
        config.weights,
        rays=measured.rays(config.min_score),
        feet=feet,
        floor=config.floor,
        free=False,
        device=device,
    )


def _standing(objective: Objective, state: FitState, config: EstimateConfig) -> Objective:
    """The objective that holds the soles that rest in a rough fit, where there is a floor."""
    if not config.floor or len(state.R) < 2:
        return objective
    assert objective.step_s is not None
    model = objective.model
    soles_m = model.landmarks.positions(state.posed(model.body))[:, model.sole_idx]
    resting = resting_soles(soles_m, objective.step_s, objective.feet, config.standing)
    return dataclasses.replace(objective, resting=resting, standing=config.standing)


def _stride(measured: Measurements, config: EstimateConfig) -> int:
    """Frames from one of the few to the next."""
    return max(1, min(round(config.rough_step_s / measured.step_s), len(measured) // 4))


def _rough_poses(
    objective: Objective, measured: Measurements, subject: Subject, config: EstimateConfig
) -> Minimum[FitState]:
    """Poses of all frames between those of every few, which were fitted to the points."""
    stride = _stride(measured, config)
    frames = np.arange(0, len(measured), stride)
    part = measured.frames(frames)
    model = objective.model
    first = initial_pose(model.body.with_shape(subject.betas), model.keypoints, part.points_m)
    start = FitState(*first, subject.betas, subject.mounts)
    # a hidden foot may be guessed half a metre from its camera, far outside the robust loss: pull it in first
    few = dataclasses.replace(
        objective, step_s=stride * measured.step_s, rays=None, points_m=part.points_m,
        feet={view: part.feet[view] for view in subject.mounts}, foot_scale=_FIRST_FOOT_SCALE,
    )  # fmt: skip
    # only the basin matters here, so a percent of the cost is near enough
    loose = dataclasses.replace(config.solver, tolerance=1e-2, damping=_ROUGH_DAMPING)
    rough = minimise(start, few.linearise, FitState.retract, loose)
    steps = rough.num_steps
    for retry in (start, None):
        lost = _lost(few, rough.state, start)
        if not lost.any() or lost.all():
            break
        again = _restart(rough.state, retry or _over(rough.state, lost), lost)
        other = minimise(again, few.linearise, FitState.retract, loose)
        steps += other.num_steps
        if other.costs[-1] < rough.costs[-1]:
            rough = other
    rough = dataclasses.replace(rough, num_steps=steps)
    return dataclasses.replace(rough, state=_between(rough.state, frames, len(measured)))


def _lost(few: Objective, state: FitState, start: FitState) -> Bool[np.ndarray, "frames"]:
    """Frames whose body has turned round, or lies far from the points that were seen."""
    assert few.points_m is not None
    off = few.model.keypoints.positions(state.posed(few.model.body)) - few.points_m
    far = np.ma.median(np.ma.masked_invalid(np.linalg.norm(off, axis=-1)), axis=1).filled(0.0)
    return np.asarray((geodesic(state.R[:, 0], start.R[:, 0]) > np.pi / 2) | (far > _LOST_M))


def _over(state: FitState, lost: Bool[np.ndarray, "frames"]) -> FitState:
    """The state with lost frames between those that are not."""
    good = np.flatnonzero(~lost)
    return _between(state.frames(good), good, len(lost))


def _restart(reached: FitState, start: FitState, where: np.ndarray) -> FitState:
    """The state with the marked frames set back."""
    R = np.where(where[:, None, None, None], start.R, reached.R)
    return dataclasses.replace(reached, R=R, transl=np.where(where[:, None], start.transl, reached.transl))


def _between(state: FitState, frames: Int[np.ndarray, "n"], num_frames: int) -> FitState:
    """Poses of all frames from those of some: each joint turns evenly from one to the next."""
    at = np.arange(num_frames)  # before the first and after the last it rests
    left = np.clip(np.searchsorted(frames, at, side="right") - 1, 0, max(len(frames) - 2, 0))
    right = np.minimum(left + 1, len(frames) - 1)
    share = np.clip((at - frames[left]) / np.maximum(frames[right] - frames[left], 1), 0.0, 1.0)
    turn = (
        so3_log(np.swapaxes(state.R[:-1], -1, -2) @ state.R[1:])
        if len(frames) > 1
        else np.zeros((1, *state.R.shape[1:3]))
    )
    R = state.R[left] @ rodrigues(share[:, None, None] * turn[left])
    transl = state.transl[left] + share[:, None] * (state.transl[right] - state.transl[left])
    return dataclasses.replace(state, R=R, transl=transl)


def _joint_covariance(
    objective: Objective, state: FitState, subject: Subject, staying: float, stride: int
) -> Float[np.ndarray, "frames 24 3 3"]:
    """Covariance of every joint's position by its three causes.

    Noise that is new in every frame, and what nothing determines, through the system of all frames. Noise that stays,
    and what is off in shape, offsets and mounts, move every frame alike, so each frame answers by itself: with A what
    it knows without the others, H what its keypoints do, and K how its gradient changes with the constants, by
    A^-1 H A^-1 times the share that stays, and by -A^-1 K. Both change slowly and are computed on every few frames.
    Limits and floor are left out: one that is just touched says that the truth lies on one side of it, not there.
    """
    objective = dataclasses.replace(objective, limits=False, floor=False)
    model, staying, weights = objective.model, min(staying, _MOST_STAYING), objective.weights
    told = information_factor(weights.keypoint_scale_px / weights.keypoint_sigma_px)
    J, _ = _joint_derivatives(model, state)
    T, K, _, D = J.shape
    few = np.unique(np.append(np.arange(0, T, stride), T - 1))
    constant, seen = _alone(objective.frames(few, T), state.frames(few), subject, staying / told)
    system = objective.linearise(state)
    # noise that is new is less than all of it, and a robust loss hears more than its curvature says
    nearest = np.abs(np.arange(T)[:, None] - few).argmin(axis=1)
    system.diagonal[:] += system.beside((told / (1 - staying) - 1) * seen[nearest])
    frames = marginals(factorise(system))[0]
    own = (J.reshape(T, 3 * K, D) @ frames).reshape(T, K, 3, D) @ np.swapaxes(J, -1, -2)
    rest = model.joints.positions(model.body.with_shape(state.betas).with_pose(np.zeros((D // 3 - 1, 3))))
    return _curved(own + _evenly(constant, few, T), rest)


def _curved(
    covariance: Float[np.ndarray, "frames 24 3 3"], rest_m: Float[np.ndarray, "24 3"]
) -> Float[np.ndarray, "frames 24 3 3"]:
    """The covariance with what its linearisation leaves out: a limb that swings far leaves its tangent.

    On a circle of radius r, the angle's variance s moves a point off the tangent by r^2 E[(1 - cos a)^2], in the mean
    of its square: r^2 (3/2 - 2 exp(-s / 2) + exp(-2 s) / 2). The circle is taken as large as the bone is long.
    """
    bones = rest_m - rest_m[np.maximum(SMPL.parents, 0)]
    radius2 = np.maximum((bones**2).sum(axis=-1), _LEAST_BONE_M**2)
    s = np.einsum("tjii->tj", covariance) / radius2
    off = radius2 * (1.5 - 2 * np.exp(-s / 2) + np.exp(-2 * s) / 2)
    return covariance + off[..., None, None] * np.eye(3)


def _alone(
    objective: Objective, state: FitState, subject: Subject, staying: float
) -> tuple[Float[np.ndarray, "frames 24 3 3"], Float[np.ndarray, "frames D D"]]:
    """Covariance of joints by constants and by noise that stays, and what keypoints tell of each frame's unknowns."""
    model = objective.model
    J, by_betas = _joint_derivatives(model, state)
    T, K, _, D = J.shape
    constants = dataclasses.replace(state, offsets=np.zeros((model.num_keypoints, 3)))
    alone = dataclasses.replace(objective, free=True, step_s=None, device=CPU).linearise(constants)
    seen = alone.diagonal - objective.prior_alone(state)
    root = np.linalg.cholesky(alone.diagonal + np.eye(D) / _NOWHERE**2)
    inverse = np.linalg.inv(root)
    response = (J.reshape(T, 3 * K, D) @ np.swapaxes(inverse, 1, 2)) @ inverse  # J A^-1
    by_constants = -response @ alone.border
    by_constants[..., : by_betas.shape[-1]] += by_betas.reshape(T, 3 * K, -1)
    spread = (by_constants @ np.linalg.cholesky(subject.covariance)).reshape(T, K, 3, -1)
    response = response.reshape(T, K, 3, D)
    kept = staying * (response.reshape(T, 3 * K, D) @ seen).reshape(T, K, 3, D)
    covariance = spread @ np.swapaxes(spread, -1, -2) + kept @ np.swapaxes(response, -1, -2)
    return covariance, seen


def _joint_derivatives(
    model: FitModel, state: FitState
) -> tuple[Float[np.ndarray, "frames 24 3 D"], Float[np.ndarray, "frames 24 3 betas"]]:
    """Of the joints, by the frame's unknowns and by the betas."""
    linear = model.joints.linearise(state.posed(model.body))
    moved = np.broadcast_to(np.eye(3), (*linear.positions.shape, 3))
    return np.concatenate([moved, linear.by_pose], axis=-1), linear.by_betas


def _evenly(values: np.ndarray, frames: Int[np.ndarray, "n"], num_frames: int) -> np.ndarray:
    """Values of all frames on straight lines between those of some."""
    at = np.arange(num_frames)
    right = np.clip(np.searchsorted(frames, at), 1, max(len(frames) - 1, 1))
    right = np.minimum(right, len(frames) - 1)
    left = np.maximum(right - 1, 0)
    share = ((at - frames[left]) / np.maximum(frames[right] - frames[left], 1))[:, None, None, None]
    return np.asarray(values[left] + share * (values[right] - values[left]))


def joined(parts: Mapping[slice, Estimate] | list[Estimate]) -> Estimate:
    """Stretches one after the other."""
    every = list(parts.values()) if isinstance(parts, Mapping) else parts
    first = every[0]
    R, transl = (np.concatenate([getattr(part.state, name) for part in every]) for name in ("R", "transl"))
    return Estimate(
        state=dataclasses.replace(first.state, R=R, transl=transl),
        joint_covariance=np.concatenate([part.joint_covariance for part in every]),
        subject=first.subject,
        cost=sum(part.cost for part in every),
        num_steps=max(part.num_steps for part in every),
        converged=all(part.converged for part in every),
    )
