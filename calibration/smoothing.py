"""Smoothing of a camera's way: a Rauch-Tung-Striebel smoother on SE(3) whose process noise follows the motion.

State: pose, angular velocity (in the camera) and velocity (in the world); their accelerations are white noise. So
inside a gap the smoothed way is the cubic Hermite curve between its ends, with the covariance that belongs to it.

A foot stands still for most of the time and then swings at several m/s: one noise level for both would shake the still
foot, and promise too much of the swing. The level of every stretch from measurement to measurement is therefore
estimated from the smoothed accelerations themselves, by MacKay's fixed point of the evidence ("Bayesian interpolation",
1992, section 4.4): the squared noise that the data show, over the number of its components that they determine. A gap
between two measurements of a resting foot becomes a rest, one that a step hides in becomes a step, and both say so in
their covariance.

With D = R0_k^-1 R0_{k+1} the nominal step, the error of rotation moves as d_{k+1} = D^T d_k + Jr (w_k dt - log D)
with Jr that of log D (Sola et al. 2018, section 4). The nominal way is replaced by the smoothed one and the pass
repeated, as in an iterated extended smoother. The estimate is that of Rauch, Tung and Striebel (1965); it is computed
from its block-tridiagonal normal equations (Bell 1994), which batch over the frames.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from math import factorial

import numpy as np
from scipy.special import stdtrit

from calibration.tridiagonal import solve_chain
from core.arrays import Bool, Float
from core.transforms import SE3, interpolate, right_jacobian, so3_log

_ORDER = 2  # pose, velocity
_SIZE = 6 * _ORDER
_PASSES = 2  # the nominal way has converged after two on real gaits
_MAX_DROPS = 12  # rounds of dropping outliers
_LEVELS = 6  # rounds of estimating the noise levels
_NEIGHBOURS = 3  # frames on either side that one wrong measurement may drag along
_SHARE = np.array([1.0, 2.0, 3.0, 2.0, 1.0])  # weights of a stretch and its neighbours in its noise level
_LEAST_FREEDOM = 3.0  # of Student's distribution; under it there is no variance
_TWO_SIDED = 1.96
_PRIOR_COUNT = 1.0  # components' worth of belief in the configured noise level
_STILL = 1e-4  # least noise level over the configured one, as standard deviations
_WIDE = (np.pi, 10.0, 30.0, 10.0)  # what is known of a camera before: rad, m, rad/s, m/s


@dataclass(frozen=True)
class SmoothingConfig:
    """Settings of the smoother.

    Attributes:
        acceleration_mps2: typical acceleration of the moving camera; a foot in swing reaches 10 to 30 m/s^2.
        angular_acceleration_radps2: typical angular acceleration.
        adaptive: estimate the noise level of every stretch, so that a resting foot rests; without, the typical
            accelerations hold everywhere.
        outlier_sigmas: distance of a measurement from what all others say, in standard deviations, beyond which it is
            dropped.
        max_gap_s: longest gap that is filled; frames of longer ones stay without a pose.
    """

    acceleration_mps2: float = 15.0
    angular_acceleration_radps2: float = 60.0
    adaptive: bool = True
    outlier_sigmas: float = 6.0
    max_gap_s: float = 1.0


@dataclass(frozen=True, eq=False)
class SmoothedWay:
    """A smoothed way at its instants.

    Attributes:
        t_s: (n,) the instants.
        world_from_cam: (n,) poses, where not valid too.
        motion: (n, 6) angular velocity in the camera's frame (rad/s) and velocity in the world (m/s).
        joint: (n, 12, 12) covariance of pose, in (rotation, translation) order, and motion; it grows without bound
            where not valid.
        used: (n,) measurements that were kept.
        valid: (n,) used, or filled from both sides of a gap that is short enough.
    """

    t_s: Float[np.ndarray, "n"]
    world_from_cam: SE3
    motion: Float[np.ndarray, "n 6"]
    joint: Float[np.ndarray, "n 12 12"]
    used: Bool[np.ndarray, "n"]
    valid: Bool[np.ndarray, "n"]

    @property
    def covariance(self) -> Float[np.ndarray, "n 6 6"]:
        """Of the poses, in (rotation, translation) order."""
        return self.joint[:, :6, :6]

    @property
    def motion_sigma(self) -> Float[np.ndarray, "n 6"]:
        """Standard deviations of the motion."""
        return np.asarray(np.sqrt(np.einsum("nii->ni", self.joint)[:, 6:]))

    def with_noise(
        self, before: Float[np.ndarray, "n 6 6"], after: Float[np.ndarray, "n 6 6"], rows: Bool[np.ndarray, "n"]
    ) -> SmoothedWay:
        """The same way where measurements (rows) had another noise than they were weighed with.

        Their share of a pose's covariance is as large as the measurement's own where the motion is wild, and less by
        the number of those that it was averaged over where it is calm: by both, it changes as the noise does.
        """
        change = np.linalg.cholesky(after[rows]) @ np.linalg.inv(np.linalg.cholesky(before[rows]))
        joint = self.joint.copy()
        joint[rows, :6] = change @ joint[rows, :6]
        joint[rows, :, :6] = joint[rows, :, :6] @ np.swapaxes(change, -1, -2)
        return dataclasses.replace(self, joint=joint)

    def less_certain(self, by: Float[np.ndarray, "n 6 6"]) -> SmoothedWay:
        """The same way with a larger covariance of its poses."""
        joint = self.joint.copy()
        joint[:, :6, :6] += by
        return dataclasses.replace(self, joint=joint)


def smooth_way(
    t_s: Float[np.ndarray, "n"],
    measured: SE3,
    covariance: Float[np.ndarray, "n 6 6"],
    known: Bool[np.ndarray, "n"],
    config: SmoothingConfig | None = None,
) -> SmoothedWay:
    """Smooths measured poses.

    Args:
        t_s: instants, increasing, seconds.
        measured: (n,) measured `world_from_cam`; anything where not known.
        covariance: (n, 6, 6) of the measurements, (rotation, translation), each independent of the others.
        known: (n,) where there is a measurement.
        config: settings.
    """
    config = config or SmoothingConfig()
    used = known.copy()
    if used.sum() < 2:
        return _nothing(t_s, used)
    measured = SE3(np.where(known[:, None, None], measured.R, np.eye(3)), np.where(known[:, None], measured.t, 0.0))
    covariance = np.where(known[:, None, None], covariance, np.eye(6))
    level, wider = np.ones((len(t_s) - 1, 2)), np.ones((len(t_s) - 1, 2))
    for _ in range(_MAX_DROPS):
        way = _smooth(t_s, measured, covariance, used, level, config)
        wrong = _outliers(_distance(way, measured, covariance), used, config.outlier_sigmas)
        if not wrong.any() or used.sum() - wrong.sum() < 2:
            break
        used = used & ~wrong
    for _ in range(_LEVELS if config.adaptive else 0):
        level, wider = _noise_levels(way, t_s, used, config)
        way = _smooth(t_s, measured, covariance, used, level, config, way.pose)
    grown = np.where(used[1:, None], 1.0, np.tile(np.repeat(np.sqrt(wider), 3, axis=1), 2))
    grown = np.concatenate([np.ones((1, 12)), grown])
    return SmoothedWay(
        t_s=t_s,
        world_from_cam=way.pose,
        motion=way.state[:, 6:],
        joint=way.covariance * grown[:, :, None] * grown[:, None, :],
        used=used,
        valid=used | bridged(t_s, used, config.max_gap_s),
    )


def shifted(way: SmoothedWay, by_s: Float[np.ndarray, "n"]) -> SmoothedWay:
    """The way a little before or after each of its instants, carried there by its own motion."""
    by, change = by_s[:, None], acceleration(way)
    carried = np.broadcast_to(np.eye(12), way.joint.shape).copy()
    carried[:, np.arange(6), np.arange(6, 12)] = by
    return dataclasses.replace(
        way,
        t_s=way.t_s + by_s,
        world_from_cam=way.world_from_cam.retract(by * way.motion + by**2 / 2 * change),
        motion=way.motion + by * change,
        joint=carried @ way.joint @ np.swapaxes(carried, -1, -2),
    )


def acceleration(way: SmoothedWay) -> Float[np.ndarray, "n 6"]:
    """Change of the motion (n, 6), a second."""
    return np.gradient(way.motion, way.t_s, axis=0) if len(way.t_s) > 1 else np.zeros_like(way.motion)


@dataclass(frozen=True, eq=False)
class _Way:
    """Smoothed states: poses, (n, 12) with zeros for the pose, covariances; each step's noise and the level used."""

    pose: SE3
    state: np.ndarray
    covariance: np.ndarray
    noise: np.ndarray
    noise_covariance: np.ndarray
    level: np.ndarray


def _smooth(
    t_s: np.ndarray,
    measured: SE3,
    covariance: np.ndarray,
    used: np.ndarray,
    level: np.ndarray,
    config: SmoothingConfig,
    nominal: SE3 | None = None,
) -> _Way:
    """Smoothed states from the measurements used and the noise levels (n - 1, 2) of rotation and translation."""
    passes = _PASSES if nominal is None else 1
    nominal = interpolate(measured[used], t_s[used], t_s) if nominal is None else nominal
    dt = np.diff(t_s)
    unit = _units(float(np.median(dt)))
    information = np.where(used[:, None, None], np.linalg.inv(covariance), 0.0)
    W = _noise_information(dt, level, config)
    for _ in range(passes):
        F, offset = _transitions(nominal, dt)
        z = np.concatenate([so3_log(np.swapaxes(nominal.R, -1, -2) @ measured.R), measured.t - nominal.t], axis=-1)
        x, P, next_P = _solve(F, offset, W, information, np.where(used[:, None], z, 0.0), unit)
        noise = x[1:] - (F @ x[:-1, :, None])[..., 0] - offset
        nominal, x = nominal.retract(x[:, :6]), x.copy()
        x[:, :6] = 0.0
    moved = F @ np.swapaxes(next_P, -1, -2)
    spread = P[1:] + F @ P[:-1] @ np.swapaxes(F, -1, -2) - moved - np.swapaxes(moved, -1, -2)
    return _Way(nominal, x, P, noise, spread, level)


def _solve(
    F: np.ndarray, offset: np.ndarray, W: np.ndarray, information: np.ndarray, z: np.ndarray, unit: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """States (n, 12), covariances (n, 12, 12) and of neighbours (n - 1, 12, 12), for x' = F x + offset + noise."""
    WF = W @ F
    D = np.zeros((len(z), _SIZE, _SIZE))
    D[:-1] += np.swapaxes(F, -1, -2) @ WF
    D[1:] += W
    D[:, :6, :6] += information
    D[0] += np.diag(1 / np.repeat(_WIDE, 3) ** 2)
    b = np.zeros((len(z), _SIZE))
    b[:-1] -= (np.swapaxes(WF, -1, -2) @ offset[..., None])[..., 0]
    b[1:] += (W @ offset[..., None])[..., 0]
    b[:, :6] += (information @ z[..., None])[..., 0]
    scale = np.outer(unit, unit)
    x, P, next_P = solve_chain(D * scale, -WF * scale, b * unit)
    return x * unit, P * scale, next_P * scale


def _units(frame_s: float) -> np.ndarray:
    """Units of the states in which one frame counts as one second: the system is better conditioned so."""
    return np.repeat(1.0 / frame_s ** np.arange(_ORDER), 6)


def _transitions(nominal: SE3, dt: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Transition matrices (n - 1, 12, 12) and offsets (n - 1, 12) of states relative to the nominal poses."""
    D = np.swapaxes(nominal.R[:-1], -1, -2) @ nominal.R[1:]
    step = so3_log(D)
    Jr = right_jacobian(step)
    F = np.zeros((len(dt), _SIZE, _SIZE))
    for i in range(_ORDER):
        for j in range(i, _ORDER):
            share = (dt ** (j - i) / factorial(j - i))[:, None, None]
            F[:, 6 * i : 6 * i + 6, 6 * j : 6 * j + 6] = share * np.eye(6)
            if i == 0:
                F[:, :3, 6 * j : 6 * j + 3] = share * Jr
    F[:, :3, :3] = np.swapaxes(D, -1, -2)
    offset = np.zeros((len(dt), _SIZE))
    offset[:, :3] = -step  # Jr log D = log D
    offset[:, 3:6] = nominal.t[:-1] - nominal.t[1:]
    return F, offset


def _shape(dt: np.ndarray) -> np.ndarray:
    """Covariance of pose and velocity after a step of white acceleration of unit density (n, 2, 2)."""
    Q = np.empty((len(dt), _ORDER, _ORDER))
    for i in range(_ORDER):
        for j in range(_ORDER):
            left = 2 * _ORDER - 1 - i - j
            Q[:, i, j] = dt**left / (left * factorial(_ORDER - 1 - i) * factorial(_ORDER - 1 - j))
    return Q


def _noise_information(dt: np.ndarray, level: np.ndarray, config: SmoothingConfig) -> np.ndarray:
    """Inverse covariance of each step's noise (n - 1, 12, 12); its density is acceleration^2 times one frame."""
    density = np.array([config.angular_acceleration_radps2, config.acceleration_mps2]) ** 2 * float(np.median(dt))
    weight = np.repeat(1 / (density * level), 3, axis=1)
    W = np.einsum("nij,nk->nikj", _inverse_shape(dt), weight)
    return np.asarray(np.einsum("nikj,kl->nikjl", W, np.eye(6)).reshape(-1, _SIZE, _SIZE))


def _inverse_shape(dt: np.ndarray) -> np.ndarray:
    """Inverse of `_shape`, computed in units of the step, where it is well conditioned."""
    powers = dt[:, None] ** np.arange(_ORDER)
    scale = powers[:, :, None] * powers[:, None, :] / dt[:, None, None] ** (2 * _ORDER - 1)
    return np.asarray(np.linalg.inv(_shape(np.ones(1))) * scale)


def _noise_levels(
    way: _Way, t_s: np.ndarray, used: np.ndarray, config: SmoothingConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Noise of each step (n - 1, 2), rotation and translation, as a share of the configured variance.

    Steps between two measurements share one level, pooled with those of its neighbours.

    Returns:
        the levels; and by how much a variance must grow that rests on a level from so few components: the ratio of
        Student's to the normal 95 % bound, squared.
    """
    dt = np.diff(t_s)
    density = np.array([config.angular_acceleration_radps2, config.acceleration_mps2]) ** 2 * float(np.median(dt))
    stretch = np.clip(np.cumsum(used)[:-1] - 1, 0, max(int(used.sum()) - 2, 0))
    inverse = _inverse_shape(dt)
    levels, wider = np.empty((len(dt), 2)), np.empty((len(dt), 2))
    for kind, part in enumerate((slice(0, 3), slice(3, 6))):
        noise = way.noise.reshape(-1, _ORDER, 6)[:, :, part]
        spread = way.noise_covariance.reshape(-1, _ORDER, 6, _ORDER, 6)[:, :, part][..., part]
        shown = np.einsum("nik,nij,njk->n", noise, inverse, noise) / density[kind]
        left_open = np.einsum("nij,njkik->n", inverse, spread) / (density[kind] * way.level[:, kind])
        counted = np.maximum(3 * _ORDER - left_open, 0.0)
        total = [np.convolve(np.bincount(stretch, v), _SHARE, mode="same") for v in (shown, counted)]
        pooled = (total[0] + _PRIOR_COUNT * _prior(total)) / (total[1] + _PRIOR_COUNT)
        levels[:, kind] = np.clip(pooled, _STILL**2, 1 / _STILL**2)[stretch]
        # the kernel's weights sum to more than one, and count no component more than once
        count = total[1] / _SHARE.max() + _PRIOR_COUNT
        wider[:, kind] = (stdtrit(np.maximum(count, _LEAST_FREEDOM), 0.975) / _TWO_SIDED)[stretch] ** 2
    return levels, wider


def _prior(total: list[np.ndarray]) -> float:
    """What a stretch of which nothing is known is believed to be like: the typical level of the others."""
    return float(np.median(total[0] / np.maximum(total[1], 1e-3)))


def _distance(way: _Way, measured: SE3, covariance: np.ndarray) -> np.ndarray:
    """How far each measurement used lies from what all others say (n,); 1 is expected.

    The residual e of a smoothed state has the covariance R - P, and e^T (R - P)^-1 e is the Mahalanobis distance from
    the state smoothed without that measurement; a sixth of it, because it has six components.
    """
    off = way.pose.local(measured)
    # R - P is positive in theory; where the others say next to nothing it drowns in rounding
    spread = covariance - way.covariance[:, :6, :6] + 1e-9 * np.einsum("nii->n", covariance)[:, None, None] * np.eye(6)
    squared = (off * np.linalg.solve(spread, off[..., None])[..., 0]).sum(axis=-1)
    return np.asarray(np.sqrt(np.maximum(squared, 0.0) / 6))


def _outliers(distance: np.ndarray, used: np.ndarray, limit: float) -> np.ndarray:
    """Measurements past the limit that are the worst of their neighbourhood, which a wrong one drags along."""
    index = np.flatnonzero(used)
    d = np.pad(distance[index], _NEIGHBOURS, constant_values=0.0)
    worst = np.lib.stride_tricks.sliding_window_view(d, 2 * _NEIGHBOURS + 1).max(axis=-1)
    wrong = np.zeros_like(used)
    wrong[index] = (distance[index] > limit) & (distance[index] >= worst)
    return wrong


def bridged(t_s: np.ndarray, used: np.ndarray, max_gap_s: float) -> np.ndarray:
    """Instants without a measurement that lie between two used ones not further apart than `max_gap_s`."""
    index = np.arange(len(t_s))
    before = np.maximum.accumulate(np.where(used, index, -1))
    after = np.minimum.accumulate(np.where(used, index, len(t_s))[::-1])[::-1]
    inside = (before >= 0) & (after < len(t_s))
    gap = t_s[np.minimum(after, len(t_s) - 1)] - t_s[np.maximum(before, 0)]
    return inside & (gap <= max_gap_s)


def _nothing(t_s: np.ndarray, used: np.ndarray) -> SmoothedWay:
    """Too few measurements for a way."""
    n = len(t_s)
    any_pose = np.broadcast_to(np.diag(np.repeat(np.square(_WIDE), 3)), (n, 12, 12))
    none = np.zeros_like(used)
    return SmoothedWay(t_s, SE3.identity(n), np.zeros((n, 6)), any_pose, none, none)
