"""From measurements of one sequence to SMPL parameters with covariances: the fit as a pure function.

Stages: shape from bone lengths and pose by Procrustes; all terms against the triangulated points, whose basin is wide;
all terms against the keypoints themselves; and, where foot cameras were tracked, once more with them and their mounts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from core.arrays import Float
from core.cameras import Rig
from core.errors import InputError
from core.skeletons import SMPL_24
from core.threads import one_blas_thread
from core.transforms import geodesic
from fitting.foot_mount import FootObservation, initial_mount
from fitting.initialise import initial_pose
from fitting.landmarks import VERTEX_IDS, Landmarks
from fitting.objective import FitState, Objective, Weights
from fitting.rays import rays_of
from fitting.sequence import CONTACTS
from fitting.shape import betas_from_bones
from fitting.smpl import NUM_JOINTS, NUM_VERTICES, BodyModel
from fitting.solver import Minimum, SolverConfig, factorise, marginals, minimise

SOLES = (*CONTACTS, "left_small_toe", "right_small_toe")
_FIRST_FOOT_SCALE = 100.0
_MAX_MOUNT_SIGMA = (np.deg2rad(4.0), 0.02)  # a mount less certain than this helps no frame


@dataclass(frozen=True)
class EstimateConfig:
    """Settings of the fit.

    Attributes:
        weights: how much each term is believed.
        solver: iterations of each stage.
        min_score: keypoints below this detector score are not used.
        floor: whether the world has a floor at z = 0.
    """

    weights: Weights = dataclasses.field(default_factory=Weights)
    solver: SolverConfig = dataclasses.field(default_factory=SolverConfig)
    min_score: float = 0.1
    floor: bool = True


@dataclass(frozen=True, eq=False)
class Measurements:
    """What is known of one person over one sequence.

    Attributes:
        rig: the room cameras.
        xy_px: keypoints (views, frames, joints, 2), NaN where missing, left and right in order.
        score: detector scores (views, frames, joints).
        points_m: triangulated keypoints (frames, joints, 3), NaN where not valid.
        step_s: time between frames.
        feet: what foot cameras measured, by view.
        betas: shape, if it is known.
    """

    rig: Rig
    xy_px: np.ndarray
    score: np.ndarray
    points_m: np.ndarray
    step_s: float
    feet: Mapping[str, FootObservation] = dataclasses.field(default_factory=dict)
    betas: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Estimate:
    """The fitted parameters.

    Attributes:
        state: poses, translations, shape and mounts.
        joint_covariance: of the 24 joints in the world, m^2, (frames, 24, 3, 3).
        mount_sigma: standard deviations of each mount: 3 rotations (radians), 3 translations (metres).
        refused: foot cameras that were left out, and why.
        costs: cost after each step of the last stage.
        num_steps: steps of all stages.
        converged: whether the last stage ended by itself.
    """

    state: FitState
    joint_covariance: np.ndarray
    mount_sigma: Mapping[str, np.ndarray]
    refused: Mapping[str, str]
    costs: tuple[float, ...]
    num_steps: int
    converged: bool


@one_blas_thread
def estimate_body(
    body: BodyModel, landmarks: Landmarks, measured: Measurements, config: EstimateConfig | None = None
) -> Estimate:
    """Fits one body to a whole sequence.

    Args:
        body: the model.
        landmarks: where the keypoints lie on it, in their order.
        measured: keypoints and what else is known.
        config: settings.

    Raises:
        InputError: if the arrays do not fit each other, or the trunk is never seen.
    """
    config = config or EstimateConfig()
    V, T, K = measured.score.shape
    if measured.points_m.shape != (T, K, 3) or len(landmarks) != K or len(measured.rig) != V:
        raise InputError("fit", "keypoints, points, landmarks and rig differ in length", "triangulate again")
    betas = betas_from_bones(body, landmarks, measured.points_m) if measured.betas is None else measured.betas
    start = FitState(*initial_pose(body.with_shape(betas), landmarks, measured.points_m), betas)
    on_points = Objective(
        body, *_with_soles(body, landmarks), measured.step_s, config.weights, points_m=measured.points_m,
        floor=config.floor, fixed=measured.betas,
    )  # fmt: skip
    # only the basin matters here, so a percent of the cost is near enough
    rough = minimise(start, on_points.linearise, FitState.retract, dataclasses.replace(config.solver, tolerance=1e-2))
    turned = geodesic(rough.state.R[:, 0], start.R[:, 0]) > np.pi / 2
    if turned.any():
        again = _restart(rough.state, start, turned)
        rough = minimise(again, on_points.linearise, FitState.retract, config.solver)
    rays = rays_of(measured.rig, measured.xy_px.reshape(V, T * K, 2), measured.score.reshape(V, -1), config.min_score)
    on_keypoints = dataclasses.replace(on_points, points_m=None, rays=rays)
    fine = minimise(rough.state, on_keypoints.linearise, FitState.retract, config.solver)
    trusted = {view: _foot_seen(landmarks, measured.points_m, foot) for view, foot in measured.feet.items()}
    final, mount_sigma, refused = _with_feet(on_keypoints, fine, measured.feet, trusted, config.solver)
    joint_covariance, _ = _covariances(body, final)
    steps = rough.num_steps + fine.num_steps + (final.num_steps if final is not fine else 0)
    return Estimate(final.state, joint_covariance, mount_sigma, refused, final.costs, steps, final.converged)


def _with_soles(body: BodyModel, landmarks: Landmarks) -> tuple[Landmarks, int, np.ndarray]:
    """Landmarks with those sole points added that they lack; the number of keypoints; positions of all sole points."""
    missing = [name for name in SOLES if name not in landmarks.names]
    joined = landmarks
    if missing:
        by_vertex = np.zeros((len(missing), NUM_VERTICES))
        by_vertex[np.arange(len(missing)), [VERTEX_IDS[name] for name in missing]] = 1.0
        extra = Landmarks.from_regressors(body, tuple(missing), np.zeros((len(missing), NUM_JOINTS)), by_vertex)
        joined = _joined(landmarks, extra)
    return joined, len(landmarks), np.array([joined.names.index(name) for name in SOLES])


def _joined(first: Landmarks, second: Landmarks) -> Landmarks:
    arrays = {
        name: np.concatenate([getattr(first, name), getattr(second, name)])
        for name in ("bone_idx", "weight", "rest", "shapedirs", "posedirs")
    }
    landmark_idx = np.concatenate([first.landmark_idx, second.landmark_idx + len(first)])
    return Landmarks(first.names + second.names, landmark_idx, **arrays)


def _restart(reached: FitState, start: FitState, where: np.ndarray) -> FitState:
    """The state with the marked frames set back to their first pose: the body had turned round."""
    R = np.where(where[:, None, None, None], start.R, reached.R)
    return dataclasses.replace(reached, R=R, transl=np.where(where[:, None], start.transl, reached.transl))


def _foot_seen(landmarks: Landmarks, points_m: np.ndarray, foot: FootObservation) -> np.ndarray:
    """Frames in which the room cameras saw the shank and the foot itself: at least three points below the hip."""
    side = SMPL_24.joints[foot.ankle_idx].split("_")[0]
    names = [f"{side}_{part}" for part in ("knee", "ankle", "heel", "big_toe", "small_toe")]
    idx = [landmarks.names.index(name) for name in names if name in landmarks.names]
    return np.asarray(np.isfinite(points_m[:, idx]).all(axis=-1).sum(axis=1) >= min(3, len(idx)))


def _with_feet(
    objective: Objective,
    fine: Minimum[FitState],
    feet: Mapping[str, FootObservation],
    trusted: Mapping[str, np.ndarray],
    solver: SolverConfig,
) -> tuple[Minimum[FitState], dict[str, np.ndarray], dict[str, str]]:
    """The fit with every foot camera whose mount can be determined; the others are left out and said why."""
    refused, mounts = {}, {}
    posed = fine.state.posed(objective.body)
    for view, foot in feet.items():
        mount = initial_mount(posed, foot, trusted[view])
        if mount is None:
            refused[view] = "too few frames in which both the room cameras and the foot camera know the foot"
        else:
            mounts[view] = mount
    while mounts:
        with_feet = dataclasses.replace(objective, feet={view: feet[view] for view in mounts})
        state = dataclasses.replace(fine.state, mounts=dict(mounts))
        # a hidden foot may be guessed half a metre from its camera, far outside the robust loss: pull it in first
        reach = dataclasses.replace(with_feet, foot_scale=_FIRST_FOOT_SCALE)
        near = minimise(state, reach.linearise, FitState.retract, dataclasses.replace(solver, tolerance=1e-2))
        result = minimise(near.state, with_feet.linearise, FitState.retract, solver)
        covariance = marginals(factorise(result.system))[2][len(fine.state.betas) :, len(fine.state.betas) :]
        spread = np.sqrt(np.diagonal(covariance)).reshape(-1, 6)
        sigma = dict(zip(mounts, spread, strict=True))
        loose = [v for v, s in sigma.items() if s[:3].max() > _MAX_MOUNT_SIGMA[0] or s[3:].max() > _MAX_MOUNT_SIGMA[1]]
        if not loose:
            return result, sigma, refused
        for view in loose:
            refused[view] = (
                f"its mount is uncertain by {np.rad2deg(sigma[view][:3].max()):.1f} degrees and "
                f"{1000 * sigma[view][3:].max():.0f} mm: record ankle circles and toe raises in view of room cameras"
            )
            del mounts[view]
    return fine, {}, refused


def _covariances(
    body: BodyModel, minimum: Minimum[FitState]
) -> tuple[Float[np.ndarray, "frames 24 3 3"], Float[np.ndarray, "globals globals"]]:
    """Covariance of every joint's position from that of the unknowns, shape included; and that of the globals."""
    frames, cross, shared = marginals(factorise(minimum.system))
    posed = minimum.state.posed(body)
    num_betas = len(minimum.state.betas)
    by_joint = np.eye(NUM_JOINTS)
    joints = Landmarks.from_regressors(
        body, tuple(f"joint{j}" for j in range(NUM_JOINTS)), by_joint, np.zeros((NUM_JOINTS, NUM_VERTICES))
    )
    linear = joints.linearise(posed)
    J = np.concatenate([np.broadcast_to(np.eye(3), (*linear.positions.shape, 3)), linear.by_pose], axis=-1)
    B = linear.by_betas
    mixed = J @ cross[:, None, :, :num_betas] @ np.swapaxes(B, -1, -2)
    covariance = J @ frames[:, None] @ np.swapaxes(J, -1, -2)
    covariance += mixed + np.swapaxes(mixed, -1, -2) + B @ shared[:num_betas, :num_betas] @ np.swapaxes(B, -1, -2)
    return covariance, shared
