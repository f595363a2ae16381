"""The clock of a foot camera from what room cameras see of the foot it rides on.

A foot camera tells its own way from markers that never move, whatever its clock says. The room cameras see the foot's
joints go the same way at times that they know: ankle and heel hold their places in the foot camera's frame, so a clock
that is late by d shows as joints that are ahead by d times their velocity. Offset, rate and the joints' places are
solved together on the rays of all detections, and weighed against what synchronisation knew.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from calibration.robust import robust_weight
from calibration.smoothing import SmoothedWay, acceleration
from core.arrays import Bool, Float, Int
from core.clock import Clock
from core.transforms import SE3, hat

JOINTS = ("ankle", "heel", "big_toe", "small_toe")
_RIGID = 2  # the first two are of the foot's own bone; toes bend against it
_ROUNDS = 12
_PLACE_ROUNDS = 4
_MEDIAN_OF_TWO = 1.1774  # of the length of a normal two-vector
_LOSS_SIGMAS = 2.0
_CLUSTER_S = 0.5  # detections of one network are off together for about so long
_SEARCH_STEP_S = 0.01
_MIN_CLUSTERS = 4
_MIN_SPEED_MPS = 0.3


@dataclass(frozen=True)
class FootClockConfig:
    """Settings of a foot camera's clock.

    Attributes:
        refine: refine it against the room cameras' keypoints, where there are any.
        min_score: keypoints below it are not used.
        sigma_px: standard deviation of a keypoint.
        max_shift_s: how far the clock of synchronisation may be off.
        max_disagreement_sigmas: contradiction between both, in standard deviations, above which the view is refused.
        max_sigma_ms: uncertainty above which the room cameras are said to have told nothing.
    """

    refine: bool = True
    min_score: float = 0.3
    sigma_px: float = 4.0
    max_shift_s: float = 0.2
    max_disagreement_sigmas: float = 4.0
    max_sigma_ms: float = 10.0


@dataclass(frozen=True, eq=False)
class JointRays:
    """Where room cameras saw a foot's joints, one row each.

    Attributes:
        t_s: session time.
        joint: which joint.
        centre_m: (n, 3) the room camera's centre.
        ray: (n, 3) unit direction in the world.
        sigma_rad: standard deviation of the direction.
    """

    t_s: Float[np.ndarray, "n"]
    joint: Int[np.ndarray, "n"]
    centre_m: Float[np.ndarray, "n 3"]
    ray: Float[np.ndarray, "n 3"]
    sigma_rad: Float[np.ndarray, "n"]

    def __getitem__(self, rows: Bool[np.ndarray, "n"] | Int[np.ndarray, "m"]) -> JointRays:
        return JointRays(self.t_s[rows], self.joint[rows], self.centre_m[rows], self.ray[rows], self.sigma_rad[rows])

    @staticmethod
    def none() -> JointRays:
        """No rays."""
        return JointRays(np.zeros(0), np.zeros(0, int), np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0))

    @staticmethod
    def concatenate(parts: Sequence[JointRays]) -> JointRays:
        """Rays of several cameras and joints."""
        names = ("t_s", "joint", "centre_m", "ray", "sigma_rad")
        return JointRays(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


@dataclass(frozen=True, eq=False)
class FootClock:
    """A refined clock.

    Attributes:
        clock: both kinds of knowledge together; that of synchronisation where the room cameras told nothing.
        refined: whether they told something.
        shift_s: what the room cameras alone add to synchronisation's clock, at the middle of the data; NaN if none.
        shift_sigma_s: its standard deviation.
        disagreement: of the two, in standard deviations; NaN if there is nothing to compare.
        lever_m: (joints, 3) places of the joints in the foot camera's frame; NaN if not solved.
        rms_sigmas: root mean square of the weighted residuals, in standard deviations of a keypoint.
    """

    clock: Clock
    refined: bool
    shift_s: float
    shift_sigma_s: float
    disagreement: float
    lever_m: Float[np.ndarray, "joints 3"]
    rms_sigmas: float


def refine_clock(way: SmoothedWay, rays: JointRays, prior: Clock, config: FootClockConfig) -> FootClock:
    """Solves the clock of a foot camera.

    Args:
        way: its smoothed way, at times by the prior clock.
        rays: what room cameras saw of its foot; their own clocks are taken as true.
        prior: the clock of synchronisation.
        config: settings.
    """
    nothing = FootClock(prior, False, np.nan, np.nan, np.nan, np.full((_RIGID, 3), np.nan), np.nan)
    problem = _Problem(way, rays[problem_rows(way, rays, config) & (rays.joint < _RIGID)], _RIGID)
    start = _search(problem, config)
    if start is None:
        return nothing
    state, H, weight, residual = _solve(problem, start)
    moving = problem.speed(state) > _MIN_SPEED_MPS
    if len(np.unique(np.floor(problem.rays.t_s[moving] / _CLUSTER_S))) < _MIN_CLUSTERS:
        return nothing
    alone = _Knowledge.of_data(state[:2], _clustered(problem, state, H, weight)[:2, :2], prior)
    sigma = float(np.sqrt(alone.covariance[0, 0]))
    if not sigma * 1e3 < config.max_sigma_ms:
        return nothing
    rms = float(np.sqrt((weight[:, None] * residual**2).sum() / (2 * weight.sum())))
    clock, prior_sigma = _combined(problem, alone, prior)
    shift = float(alone.shift[0])
    return FootClock(
        clock, True, shift, sigma, abs(shift) / np.hypot(sigma, prior_sigma), state[2:].reshape(-1, 3), rms
    )


@dataclass(frozen=True, eq=False)
class _Knowledge:
    """What the room cameras say, with the rate held as sync knew it: shift (s) and its change a second."""

    shift: np.ndarray
    covariance: np.ndarray

    @staticmethod
    def of_data(shift: np.ndarray, covariance: np.ndarray, prior: Clock) -> _Knowledge:
        of_data = np.linalg.inv(covariance)
        total = np.linalg.inv(of_data + np.diag([0.0, 1 / max(prior.rate_sigma, 1e-12) ** 2]))
        return _Knowledge(total @ of_data @ shift, total)


def problem_rows(way: SmoothedWay, rays: JointRays, config: FootClockConfig) -> Bool[np.ndarray, "n"]:
    """Rays whose times lie well inside the way, however far the clock may be off."""
    used = way.t_s[way.used]
    if len(used) < 2:
        return np.zeros(len(rays.t_s), bool)
    return (rays.t_s > used[0] + config.max_shift_s) & (rays.t_s < used[-1] - config.max_shift_s)


class _Problem:
    """Unknowns: the shift at the middle of the data (s), its change a second, and each joint's place (m).

    A frame that the prior clock dates t was exposed at t + shift: seen at s, the foot was where the way has it at
    s - shift.
    """

    def __init__(self, way: SmoothedWay, rays: JointRays, num_joints: int) -> None:
        self.way, self.rays, self.num_joints = way, rays, num_joints
        self.middle_s = float(rays.t_s.mean()) if len(rays.t_s) else 0.0
        self.change = acceleration(way)
        self.keys = np.flatnonzero(way.used)
        self.reach_s = 0.75 * float(np.median(np.diff(way.t_s))) if len(way.t_s) > 1 else 0.0
        self.size = 2 + 3 * num_joints

    def pose_at(self, state: np.ndarray) -> tuple[SE3, np.ndarray, np.ndarray]:
        """Poses at the rays' times, the motion there (n, 6), and which of them a measurement is near."""
        t_s = self.rays.t_s - state[0] - state[1] * (self.rays.t_s - self.middle_s)
        measured_s = self.way.t_s[self.keys]
        after = np.clip(np.searchsorted(measured_s, t_s), 1, len(self.keys) - 1)
        nearest = self.keys[after - (t_s - measured_s[after - 1] < measured_s[after] - t_s)]
        by = (t_s - self.way.t_s[nearest])[:, None]
        near = np.abs(by[:, 0]) < self.reach_s
        by = np.where(near[:, None], by, 0.0)
        motion, change = self.way.motion[nearest], self.change[nearest]
        pose = self.way.world_from_cam[nearest].retract(by * motion + by**2 / 2 * change)
        return pose, motion + by * change, near

    def linear(self, state: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Residuals (n, 3) in standard deviations, their Jacobian (n, 3, size), and robust weights."""
        pose, motion, near = self.pose_at(state)
        rays, n = self.rays, np.arange(len(self.rays.t_s))
        lever = state[2:].reshape(-1, 3)[rays.joint]
        arm = (pose.R @ lever[..., None])[..., 0]
        offset = pose.t + arm - rays.centre_m
        distance = np.linalg.norm(offset, axis=-1)[:, None]
        toward = offset / distance
        scale = 1 / rays.sigma_rad[:, None]
        residual = (toward - rays.ray) * scale
        by_point = (np.eye(3) - toward[:, :, None] * toward[:, None, :]) * (scale / distance)[..., None]
        velocity = motion[:, 3:] - (pose.R @ hat(lever) @ motion[:, :3, None])[..., 0]
        by_shift = -(by_point @ velocity[..., None])[..., 0]
        J = np.zeros((len(n), 3, self.size))
        J[:, :, 0], J[:, :, 1] = by_shift, by_shift * (rays.t_s - self.middle_s)[:, None]
        place = by_point @ pose.R
        for k in range(3):
            J[n, :, 2 + 3 * rays.joint + k] = place[:, :, k]
        weight = robust_weight((residual**2).sum(axis=-1), "cauchy", _LOSS_SIGMAS)
        return residual, J, np.where(near, weight, 0.0)

    def speed(self, state: np.ndarray) -> np.ndarray:
        """How fast the foot camera moves at the rays' times; 0 where no measurement is near."""
        _, motion, near = self.pose_at(state)
        return np.where(near, np.linalg.norm(motion[:, 3:], axis=-1), 0.0)


def places_of_joints(
    way: SmoothedWay, rays: JointRays
) -> tuple[Float[np.ndarray, "joints 3"], Float[np.ndarray, "joints"]]:
    """Where each joint sits in the foot camera's frame, from the measured frames, with the clock as it is.

    Returns:
        the places (zero where a joint was never seen), and how far detections scatter about them, in standard
        deviations of a keypoint: more than one for toes, which bend.
    """
    problem = _Problem(way, rays, len(JOINTS))
    state = np.zeros(problem.size)
    residual, weight = _place_joints(problem, state)
    error, spread = np.sqrt((residual**2).sum(axis=-1)), np.ones(len(JOINTS))
    for joint in range(len(JOINTS)):
        rows = (rays.joint == joint) & (weight > 0)
        if rows.any():
            spread[joint] = float(np.median(error[rows])) / _MEDIAN_OF_TWO
    return state[2:].reshape(-1, 3), spread


def _place_joints(problem: _Problem, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Solves the joints' places at the state's clock, in place; residuals and weights."""
    for _ in range(_PLACE_ROUNDS):
        residual, J, weight = problem.linear(state)
        H, g = _normal(J[..., 2:], residual, weight)
        state[2:] -= np.linalg.solve(H + 1e-6 * np.eye(len(H)), g)
    residual, _, weight = problem.linear(state)
    return residual, weight


def _search(problem: _Problem, config: FootClockConfig) -> np.ndarray | None:
    """The best start among shifts over the whole range, each with its own joints' places; None without any data."""
    if len(problem.rays.t_s) == 0 or len(np.unique(problem.rays.joint)) < problem.num_joints:
        return None
    steps = int(np.ceil(config.max_shift_s / _SEARCH_STEP_S))
    best, found = np.inf, None
    for shift in np.arange(-steps, steps + 1) * _SEARCH_STEP_S:
        state = np.zeros(problem.size)
        state[0] = shift
        residual, weight = _place_joints(problem, state)
        counted = weight > 0
        cost = (
            float(np.log1p((residual[counted] ** 2).sum(axis=-1) / _LOSS_SIGMAS**2).mean()) if counted.any() else np.inf
        )
        if cost < best:
            best, found = cost, state
    return found


def _solve(problem: _Problem, state: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Gauss-Newton with reweighting; the state, its normal matrix, weights and residuals."""
    for _ in range(_ROUNDS):
        residual, J, weight = problem.linear(state)
        H, g = _normal(J, residual, weight)
        state = state - np.linalg.solve(H + 1e-9 * np.diag(np.diag(H)) + 1e-6 * np.eye(len(H)), g)
    residual, J, weight = problem.linear(state)
    return state, _normal(J, residual, weight)[0], weight, residual


def _normal(J: np.ndarray, residual: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    width = J.shape[-1]
    A = (J * np.sqrt(weight)[:, None, None]).reshape(-1, width)
    return A.T @ A, A.T @ (residual * np.sqrt(weight)[:, None]).ravel()


def _clustered(problem: _Problem, state: np.ndarray, H: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Covariance that holds though detections that follow each other are off together.

    The inverse normal matrix, as much larger for all unknowns as the scatter of the gradients over stretches of time
    (Liang and Zeger 1986) makes that of the shift.
    """
    residual, J, _ = problem.linear(state)
    gradient = np.einsum("nkp,nk,n->np", J, residual, weight)
    cluster = np.unique(np.floor(problem.rays.t_s / _CLUSTER_S), return_inverse=True)[1]
    sums = np.stack([np.bincount(cluster, gradient[:, p]) for p in range(gradient.shape[1])], axis=-1)
    inverse = np.linalg.inv(H + 1e-6 * np.eye(len(H)))
    clustered = inverse @ (sums.T @ sums) @ inverse * len(sums) / max(len(sums) - 1, 1)
    return np.asarray(inverse * max(clustered[0, 0] / inverse[0, 0], 1.0))


def _combined(problem: _Problem, alone: _Knowledge, prior: Clock) -> tuple[Clock, float]:
    """The clock by both kinds of knowledge, and the prior's uncertainty at the middle of the data.

    The prior's offset holds where it was measured, its rate is part of `alone` already. The result is stated where its
    own offset and rate are independent, as a clock's figures have to be.
    """
    there = np.array([1.0, float(prior.to_session(np.array([prior.measured_at_s]))[0]) - problem.middle_s])
    of_data = np.linalg.inv(alone.covariance)
    total = np.linalg.inv(of_data + np.outer(there, there) / max(prior.offset_sigma_s, 1e-9) ** 2)
    a, b = total @ of_data @ alone.shift
    best_s = problem.middle_s - total[0, 1] / total[1, 1]
    clock = Clock(
        offset_s=float(prior.offset_s + a + b * (prior.offset_s - problem.middle_s)),
        rate=float(prior.rate * (1 + b)),
        offset_sigma_s=float(np.sqrt(total[0, 0] - total[0, 1] ** 2 / total[1, 1])),
        rate_sigma=float(prior.rate * np.sqrt(total[1, 1])),
    )
    clock = dataclasses.replace(clock, measured_at_s=float(clock.to_local(np.array([best_s]))[0]))
    return clock, float(np.hypot(prior.offset_sigma_s, there[1] * prior.rate_sigma))
