"""Smoothing of a camera's way: a Rauch-Tung-Striebel smoother on SE(3) that drops outliers and bridges gaps.

State: small rotation about a nominal way, position, and the errors of angular velocity (in the camera) and velocity (in
the world). Accelerations are white noise, so inside a gap the smoothed way is the cubic Hermite curve between its ends
(the Kochanek-Bartels spline of zero tension with the smoother's own tangents), with the covariance that belongs to it.

With D = R0_k^-1 R0_{k+1} the nominal step, w0 = log(D)/dt and w = w0 + dw, the rotation error moves as
d_{k+1} = D^T d_k + Jr(w0 dt) dt dw_k, and dw_{k+1} = dw_k + w0_k - w0_{k+1} (Sola et al. 2018, section 4). The nominal
way is replaced by the smoothed one and the pass repeated, as in an iterated extended smoother.
Rauch, Tung, Striebel 1965 for the backward pass.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from core.arrays import Bool, Float, Int
from core.transforms import SE3, interpolate, right_jacobian, so3_log

_PASSES = 3  # the nominal way has converged after two on real gaits
_MAX_DROPS = 12  # rounds of dropping outliers
_NEIGHBOURS = 3  # frames on either side that one wrong measurement may drag along
_ROTATION, _POSITION, _SPIN, _VELOCITY = (slice(0, 3), slice(3, 6), slice(6, 9), slice(9, 12))


@dataclass(frozen=True)
class SmoothingConfig:
    """Settings of the smoother.

    Attributes:
        acceleration_mps2: typical acceleration of the camera; a foot in swing reaches 10 to 30 m/s^2.
        angular_acceleration_radps2: typical angular acceleration.
        outlier_sigmas: distance of a measurement from what all others say, in standard deviations, beyond which it is
            dropped.
        max_gap_s: longest gap that is filled.
    """

    acceleration_mps2: float = 15.0
    angular_acceleration_radps2: float = 60.0
    outlier_sigmas: float = 6.0
    max_gap_s: float = 0.5


@dataclass(frozen=True, eq=False)
class SmoothedWay:
    """A smoothed way at every instant.

    Attributes:
        world_from_cam: (n,) poses, where not valid too.
        covariance: (n, 6, 6) in (rotation, translation) order; it grows without bound where not valid.
        motion: (n, 6) angular velocity in the camera's frame (rad/s) and velocity in the world (m/s).
        motion_sigma: (n, 6) their standard deviations.
        used: (n,) measurements that were kept.
        valid: (n,) used, or filled from both sides of a gap that is short enough.
    """

    world_from_cam: SE3
    covariance: Float[np.ndarray, "n 6 6"]
    motion: Float[np.ndarray, "n 6"]
    motion_sigma: Float[np.ndarray, "n 6"]
    used: Bool[np.ndarray, "n"]
    valid: Bool[np.ndarray, "n"]

    def __getitem__(self, rows: Int[np.ndarray, "m"]) -> SmoothedWay:
        """The way at some of its instants."""
        columns = (self.covariance, self.motion, self.motion_sigma, self.used, self.valid)
        return SmoothedWay(self.world_from_cam[rows], *(column[rows] for column in columns))


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
        covariance: (n, 6, 6) of the measurements, (rotation, translation).
        known: (n,) where there is a measurement.
        config: settings.
    """
    config = config or SmoothingConfig()
    used = known.copy()
    if used.sum() < 2:
        return _nothing(len(t_s), used)
    measured = SE3(np.where(known[:, None, None], measured.R, np.eye(3)), np.where(known[:, None], measured.t, 0.0))
    covariance = np.where(known[:, None, None], covariance, np.eye(6))
    for _ in range(_MAX_DROPS):
        way = _smooth(t_s, measured, covariance, used, config)
        wrong = _outliers(_distance(way, measured, covariance), used, config.outlier_sigmas)
        if not wrong.any() or used.sum() - wrong.sum() < 2:
            break
        used = used & ~wrong
    pose, state_covariance, motion = way
    return SmoothedWay(
        world_from_cam=pose,
        covariance=state_covariance[:, :6, :6],
        motion=motion,
        motion_sigma=np.sqrt(np.einsum("nii->ni", state_covariance)[:, 6:]),
        used=used,
        valid=used | bridged(t_s, used, config.max_gap_s),
    )


_Way = tuple[SE3, np.ndarray, np.ndarray]


def _smooth(t_s: np.ndarray, measured: SE3, covariance: np.ndarray, used: np.ndarray, config: SmoothingConfig) -> _Way:
    """Poses, state covariances (n, 12, 12) and velocities (n, 6) from the measurements used."""
    nominal = interpolate(measured[used], t_s[used], t_s)
    for _ in range(_PASSES):
        F, offset, spin0 = _transitions(nominal, t_s)
        Q = _process_noise(np.diff(t_s), config)
        z = np.concatenate([so3_log(np.swapaxes(nominal.R, -1, -2) @ measured.R), measured.t], axis=-1)
        x, P = _rts(F, offset, Q, np.where(used[:, None], z, 0.0), covariance, used, _start(t_s, nominal, used))
        nominal = SE3(
            nominal.retract(np.concatenate([x[:, _ROTATION], np.zeros((len(x), 3))], axis=-1)).R, x[:, _POSITION]
        )
    return nominal, P, np.concatenate([x[:, _SPIN] + spin0, x[:, _VELOCITY]], axis=-1)


def _transitions(nominal: SE3, t_s: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Transition matrices (n-1, 12, 12), offsets (n-1, 12), and nominal angular velocities (n, 3)."""
    dt = np.diff(t_s)
    D = np.swapaxes(nominal.R[:-1], -1, -2) @ nominal.R[1:]
    step = so3_log(D)
    spin0 = step / dt[:, None]
    spin0 = np.concatenate([spin0, spin0[-1:]])
    F = np.broadcast_to(np.eye(12), (len(dt), 12, 12)).copy()
    F[:, _ROTATION, _ROTATION] = np.swapaxes(D, -1, -2)
    F[:, _ROTATION, _SPIN] = right_jacobian(step) * dt[:, None, None]
    F[:, _POSITION, _VELOCITY] = np.eye(3) * dt[:, None, None]
    offset = np.zeros((len(dt), 12))
    offset[:, _SPIN] = spin0[:-1] - spin0[1:]
    return F, offset, spin0


def _process_noise(dt: np.ndarray, config: SmoothingConfig) -> np.ndarray:
    """Covariance of white acceleration over each step (n-1, 12, 12); its density is acceleration^2 times one frame."""
    Q = np.zeros((len(dt), 12, 12))
    frame = float(np.median(dt))
    pairs = (
        (_ROTATION, _SPIN, config.angular_acceleration_radps2),
        (_POSITION, _VELOCITY, config.acceleration_mps2),
    )
    eye = np.eye(3)
    for place, rate, acceleration in pairs:
        density = acceleration**2 * frame
        Q[:, place, place] = density * eye * (dt**3 / 3)[:, None, None]
        Q[:, place, rate] = Q[:, rate, place] = density * eye * (dt**2 / 2)[:, None, None]
        Q[:, rate, rate] = density * eye * dt[:, None, None]
    return Q


def _start(t_s: np.ndarray, nominal: SE3, used: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A start state that says next to nothing: 10 m, pi, 10 m/s, 30 rad/s."""
    x = np.zeros(12)
    x[_POSITION] = nominal.t[int(np.argmax(used))]
    sigma = np.repeat([np.pi, 10.0, 30.0, 10.0], 3)
    return x, np.diag(sigma**2)


def _rts(
    F: np.ndarray,
    offset: np.ndarray,
    Q: np.ndarray,
    z: np.ndarray,
    covariance: np.ndarray,
    used: np.ndarray,
    start: tuple[np.ndarray, np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """Kalman filter forward, Rauch-Tung-Striebel backward; states (n, 12) and covariances (n, 12, 12)."""
    n = len(z)
    x, P = np.empty((n, 12)), np.empty((n, 12, 12))
    ahead_x, ahead_P = np.empty((n, 12)), np.empty((n, 12, 12))
    ahead_x[0], ahead_P[0] = start
    for k in range(n):
        if k:
            ahead_x[k] = F[k - 1] @ x[k - 1] + offset[k - 1]
            ahead_P[k] = F[k - 1] @ P[k - 1] @ F[k - 1].T + Q[k - 1]
        x[k], P[k] = ahead_x[k], ahead_P[k]
        if used[k]:
            gain = np.linalg.solve(ahead_P[k][:6, :6] + covariance[k], ahead_P[k][:6]).T
            x[k] = ahead_x[k] + gain @ (z[k] - ahead_x[k][:6])
            keep = np.eye(12)
            keep[:, :6] -= gain
            P[k] = keep @ ahead_P[k] @ keep.T + gain @ covariance[k] @ gain.T  # Joseph's form stays positive
    for k in range(n - 2, -1, -1):
        gain = np.linalg.solve(ahead_P[k + 1], F[k] @ P[k]).T
        x[k] += gain @ (x[k + 1] - ahead_x[k + 1])
        P[k] += gain @ (P[k + 1] - ahead_P[k + 1]) @ gain.T
    return x, P


def _distance(way: _Way, measured: SE3, covariance: np.ndarray) -> np.ndarray:
    """How far each measurement used lies from what all others say (n,); 1 is expected.

    The residual e of a smoothed state has the covariance R - P, and e^T (R - P)^-1 e is the Mahalanobis distance from
    the state smoothed without that measurement; a sixth of it, because it has six components.
    """
    pose, P = way[0], way[1]
    off = np.concatenate([so3_log(np.swapaxes(pose.R, -1, -2) @ measured.R), measured.t - pose.t], axis=-1)
    # R - P is positive in theory; where the others say next to nothing it drowns in rounding
    spread = covariance - P[:, :6, :6] + 1e-9 * np.einsum("nii->n", covariance)[:, None, None] * np.eye(6)
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


def _nothing(n: int, used: np.ndarray) -> SmoothedWay:
    """Too few measurements for a way."""
    infinite = np.broadcast_to(np.diag(np.full(6, np.inf)), (n, 6, 6))
    none = np.zeros_like(used)
    return SmoothedWay(SE3.identity(n), infinite, np.zeros((n, 6)), np.full((n, 6), np.inf), none, none)
