"""A rigid body on its way through the room, in continuous time: pose and velocity at knots, a cubic between them.

The prior of the motion is white noise on the acceleration (Barfoot, State Estimation for Robotics, 2017, sections 3.4
and 11.3; Anderson and Barfoot, "Full STEAM ahead", IROS 2015). Under it the mean between two knots is the cubic Hermite
curve through their poses and velocities, in the tangent space of the first. Each knot knows of its neighbours alone, so
the normal equations of a whole trajectory are banded.

Rotation and translation are separate, as in `SE3.retract`: R(t) = R_0 exp(phi(t)) with

    phi(t) = a w_0 + b phi_1 + c psi_1,  phi_1 = log(R_0^T R_1),  psi_1 = Jr^-1(phi_1) w_1
    p(t) = (1 - b) p_0 + a v_0 + b p_1 + c v_1

w the angular velocity in the body's frame, v the velocity of its origin in the world, and a, b, c the Hermite weights.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from core.arrays import Bool, Float, Int
from core.transforms import SE3, hat, right_jacobian, right_jacobian_inverse, so3_exp, so3_log

_ALIKE = 1.1  # ratio of two smoothnesses between which nothing changes by more than hundredths of its uncertainty
STATE = 12  # numbers a knot: rotation, translation, angular velocity, velocity


@dataclass(frozen=True, eq=False)
class Trajectory:
    """A motion given at knots.

    Attributes:
        t_s: times of the knots, increasing, seconds.
        world_from_body: (k,) poses at the knots.
        velocity: (k, 6) angular velocity in the body's frame (rad/s) and velocity in the world (m/s).
        linked: (k,) whether a knot and its successor are near enough in time to be interpolated; the last is False.
            On the far side of an unlinked knot the motion goes on at its velocity.
    """

    t_s: Float[np.ndarray, "k"]
    world_from_body: SE3
    velocity: Float[np.ndarray, "k 6"]
    linked: Bool[np.ndarray, "k"]

    def __len__(self) -> int:
        return len(self.t_s)

    @staticmethod
    def through(t_s: Float[np.ndarray, "k"], world_from_body: SE3, max_gap_s: float) -> Trajectory:
        """A trajectory through poses; velocities from their differences within `max_gap_s`, else zero."""
        linked = np.append(np.diff(t_s) <= max_gap_s, False)
        velocity = np.zeros((len(t_s), 6))
        gap = np.where(linked[:-1], np.diff(t_s), np.inf)[:, None]
        w = so3_log(np.swapaxes(world_from_body.R[:-1], -1, -2) @ world_from_body.R[1:])
        rate = np.concatenate([w, np.diff(world_from_body.t, axis=0)], axis=-1) / gap
        sides = linked.astype(int) + np.append(False, linked[:-1])
        velocity[:-1] += rate
        velocity[1:] += rate
        return Trajectory(t_s, world_from_body, velocity / np.maximum(sides, 1)[:, None], linked)

    def densified(self, spacing_s: float) -> Trajectory:
        """The same motion with further knots, where linked ones are further apart than one and a half spacings.

        A cubic over a long interval is stiffer than the prior; knots that nothing was seen at cost nothing.
        """
        steps = np.where(self.linked, np.maximum(np.round(np.diff(self.t_s, append=np.inf) / spacing_s), 1), 1)
        steps = steps.astype(int)
        first = np.repeat(np.arange(len(self)), steps)
        share = (np.arange(len(first)) - np.repeat(np.cumsum(steps) - steps, steps)) / steps[first]
        length = np.where(self.linked, np.diff(self.t_s, append=self.t_s[-1]), 0.0)[first]
        t_s = self.t_s[first] + share * length
        between = self.sample(t_s)
        linked = self.linked[first]
        return Trajectory(t_s, between.world_from_body, between.velocity, linked)

    def retract(self, step: Float[np.ndarray, "k 12"]) -> Trajectory:
        """The trajectory moved by a small step of every knot."""
        pose = self.world_from_body.retract(step[:, :6])
        return dataclasses.replace(self, world_from_body=pose, velocity=self.velocity + step[:, 6:])

    def knot_before(self, t_s: Float[np.ndarray, "n"]) -> Int[np.ndarray, "n"]:
        """The knot whose cubic (or constant velocity) holds at each time."""
        last = len(self.t_s) - 1
        left = np.clip(np.searchsorted(self.t_s, t_s, side="right") - 1, 0, last)
        right = np.minimum(left + 1, last)
        nearer = np.abs(self.t_s[right] - t_s) < np.abs(t_s - self.t_s[left])
        return np.where(self.linked[left], left, np.where(nearer & ~self.linked[left], right, left))

    def near(self, t_s: Float[np.ndarray, "n"], margin_s: float) -> Bool[np.ndarray, "n"]:
        """Whether times lie within `margin_s` of a knot."""
        right = np.clip(np.searchsorted(self.t_s, t_s), 0, len(self.t_s) - 1)
        gap = np.minimum(np.abs(self.t_s[right] - t_s), np.abs(self.t_s[np.maximum(right - 1, 0)] - t_s))
        return np.asarray(gap <= margin_s)

    def at(self, t_s: Float[np.ndarray, "n"]) -> SE3:
        """Poses (n,) at any times."""
        return self.sample(t_s, jacobians=False).world_from_body

    def sample(self, t_s: Float[np.ndarray, "n"], *, jacobians: bool = True) -> Sample:
        """Poses at any times, with velocities and derivatives by the knots if asked for."""
        k = self.knot_before(t_s)
        nxt = np.minimum(k + 1, len(self.t_s) - 1)
        weight, slope = self._weights(t_s, k)
        a, b, c = weight
        R0, w0, v0 = self.world_from_body.R[k], self.velocity[k, :3], self.velocity[k, 3:]
        w1, v1 = self.velocity[nxt, :3], self.velocity[nxt, 3:]
        p0, p1 = self.world_from_body.t[k], self.world_from_body.t[nxt]
        arc = so3_log(np.swapaxes(self.world_from_body.R, -1, -2) @ self.world_from_body.R[_next(len(self))])
        bend = right_jacobian_inverse(arc)
        phi1 = arc[k]
        psi1 = (bend[k] @ w1[..., None])[..., 0]
        phi = a * w0 + b * phi1 + c * psi1
        pose = SE3(R0 @ so3_exp(phi), (1 - b) * p0 + a * v0 + b * p1 + c * v1)
        if not jacobians:
            return Sample(pose, k, np.zeros((len(t_s), 6)), np.zeros((len(t_s), 6, 0)))
        turn = right_jacobian(phi)
        da, db, dc = slope
        spin = (turn @ (da * w0 + db * phi1 + dc * psi1)[..., None])[..., 0]
        speed = np.concatenate([spin, db * (p1 - p0) + da * v0 + dc * v1], axis=-1)
        D = np.zeros((len(t_s), 6, 2 * STATE))
        by_arc = turn @ (b[..., None] * np.eye(3) + c[..., None] * _bend_derivative(phi1, w1))
        D[:, :3, :3] = so3_exp(-phi) - by_arc @ right_jacobian_inverse(-arc)[k]
        D[:, :3, 6:9] = a[..., None] * turn
        D[:, :3, 12:15] = by_arc @ bend[k]
        D[:, :3, 18:21] = c[..., None] * (turn @ bend[k])
        for column, factor in ((3, 1 - b), (9, a), (15, b), (21, c)):
            D[:, 3:, column : column + 3] = factor[..., None] * np.eye(3)
        return Sample(pose, k, speed, D)

    def _weights(self, t_s: np.ndarray, k: np.ndarray) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
        """Hermite weights a, b, c (n, 1) and their derivatives by time; constant velocity after unlinked knots."""
        h = np.where(self.linked, np.diff(self.t_s, append=self.t_s[-1] + 1.0), 1.0)[k]
        late, linked = t_s - self.t_s[k], self.linked[k]
        s = late / h
        a = np.where(linked, h * s * (1 - s) ** 2, late)
        b = np.where(linked, s * s * (3 - 2 * s), 0.0)
        c = np.where(linked, h * s * s * (s - 1), 0.0)
        da = np.where(linked, (1 - s) * (1 - 3 * s), 1.0)
        db = np.where(linked, 6 * s * (1 - s) / h, 0.0)
        dc = np.where(linked, s * (3 * s - 2), 0.0)
        return (a[:, None], b[:, None], c[:, None]), (da[:, None], db[:, None], dc[:, None])


@dataclass(frozen=True, eq=False)
class Sample:
    """A trajectory at some times.

    Attributes:
        world_from_body: (n,) poses.
        knot: (n,) the knot before; it and its successor are what the pose depends on.
        velocity: (n, 6) angular velocity in the body's frame and velocity in the world.
        by_knots: (n, 6, 24) derivative of the pose's (rotation, translation) by the two knots' states.
    """

    world_from_body: SE3
    knot: Int[np.ndarray, "n"]
    velocity: Float[np.ndarray, "n 6"]
    by_knots: Float[np.ndarray, "n 6 c"]


@dataclass(frozen=True, eq=False)
class Smoothness:
    """How freely a body moves: white noise on its acceleration, of one strength or of one for every knot's link.

    Attributes:
        rotation: power spectral density of the angular acceleration, rad^2/s^3.
        translation: power spectral density of the acceleration, m^2/s^3.
        spin_sigma: standard deviation of an angular velocity of which nothing is known, rad/s.
        speed_sigma: the same of a velocity, m/s.
    """

    rotation: float | Float[np.ndarray, "k"]
    translation: float | Float[np.ndarray, "k"]
    spin_sigma: float = 10.0
    speed_sigma: float = 3.0

    def resembles(self, other: Smoothness) -> bool:
        """Whether another allows about the same motions."""
        ratios = np.append(other.rotation / self.rotation, other.translation / self.translation)
        return bool(np.abs(np.log(ratios)).max() < np.log(_ALIKE))

    def strength(self, k: int) -> Float[np.ndarray, "k 2"]:
        """Rotation and translation of each of k links."""
        return np.stack([np.broadcast_to(self.rotation, k), np.broadcast_to(self.translation, k)], axis=-1)

    def residual(self, trajectory: Trajectory) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Whitened residuals (k, 12) of every knot to its successor, and their derivatives by both (k, 12, 12) each.

        With e_p = p_1 - p_0 - h v_0 and e_v = v_1 - v_0, and likewise for the rotation in the tangent space of the
        first knot, the covariance is q [h^3/3, h^2/2; h^2/2, h] (Barfoot 2017, eq. 3.198). Unlinked knots have none.
        """
        T, k = trajectory, len(trajectory)
        nxt = _next(k)
        h = np.where(T.linked, np.diff(T.t_s, append=T.t_s[-1] + 1.0), 1.0)
        R = T.world_from_body.R
        arc = so3_log(np.swapaxes(R, -1, -2) @ R[nxt])
        bend = right_jacobian_inverse(arc)
        w0, w1, v0, v1 = T.velocity[:, :3], T.velocity[nxt, :3], T.velocity[:, 3:], T.velocity[nxt, 3:]
        place = T.world_from_body.t
        e = np.zeros((k, 2, 6))  # (place, rate) of (rotation, translation)
        e[:, 0, :3], e[:, 1, :3] = arc - h[:, None] * w0, (bend @ w1[..., None])[..., 0] - w0
        e[:, 0, 3:], e[:, 1, 3:] = place[nxt] - place - h[:, None] * v0, v1 - v0
        eye, zero = np.broadcast_to(np.eye(3), (k, 3, 3)), np.zeros((k, 3, 3))
        back, curl = -right_jacobian_inverse(-arc), _bend_derivative(arc, w1)
        late = h[:, None, None] * eye
        J0 = np.block(
            [[back, zero, -late, zero], [zero, -eye, zero, -late], [curl @ back, zero, -eye, zero], [zero] * 3 + [-eye]]
        )
        J1 = np.block(
            [[bend, zero, zero, zero], [zero, eye, zero, zero], [curl @ bend, zero, bend, zero], [zero] * 3 + [eye]]
        )
        root = self._whitening(h) * T.linked[:, None, None]
        residual = (root @ e.reshape(k, STATE)[..., None])[..., 0]
        return residual, root @ J0, root @ J1

    def _whitening(self, h: np.ndarray) -> np.ndarray:
        """W (k, 12, 12) with W^T W the inverse covariance: L = [1/sqrt(q) ...] of the two-by-two per axis.

        [h^3/3, h^2/2; h^2/2, h]^-1 = U^T U with U = [sqrt(12/h^3), -sqrt(3/h); 0, 1/sqrt(h)].
        """
        scale = np.repeat(self.strength(len(h)) ** -0.5, 3, axis=1)
        W = np.zeros((len(h), STATE, STATE))
        i = np.arange(6)
        W[:, i, i] = np.sqrt(12 / h**3)[:, None] * scale
        W[:, i, i + 6] = -np.sqrt(3 / h)[:, None] * scale
        W[:, i + 6, i + 6] = (1 / np.sqrt(h))[:, None] * scale
        return W

    @property
    def rate_information(self) -> Float[np.ndarray, "6"]:
        """Information on each component of a velocity before anything is seen."""
        return np.repeat([self.spin_sigma**-2, self.speed_sigma**-2], 3)


def estimate_smoothness(trajectory: Trajectory) -> Smoothness:
    """The smoothness of the motion through a trajectory's knots, from their second differences.

    Of a motion with white acceleration sampled at steps h the second difference has the variance 2/3 q h^3. Its mean
    square over all triples of linked knots counts, so that the fast stretches set the prior and the slow ones suffer
    little from one too wide. Without three linked knots it is that of a hand in a hurry.
    """
    T = trajectory
    mid = np.flatnonzero(T.linked[1:] & T.linked[:-1]) + 1
    if len(mid) == 0:
        return Smoothness(rotation=50.0, translation=5.0)
    R = np.swapaxes(T.world_from_body.R, -1, -2)
    before, after = T.t_s[mid] - T.t_s[mid - 1], T.t_s[mid + 1] - T.t_s[mid]
    rate0 = np.concatenate(
        [so3_log(R[mid - 1] @ T.world_from_body.R[mid]), np.diff(T.world_from_body.t, axis=0)[mid - 1]], axis=-1
    )
    rate1 = np.concatenate(
        [so3_log(R[mid] @ T.world_from_body.R[mid + 1]), np.diff(T.world_from_body.t, axis=0)[mid]], axis=-1
    )
    # of rates over unequal steps: var(rate1 - rate0) = q (before + after) / 3
    power = (rate1 / after[:, None] - rate0 / before[:, None]) ** 2 * (3 / (before + after))[:, None]
    return Smoothness(rotation=max(float(power[:, :3].mean()), 0.1), translation=max(float(power[:, 3:].mean()), 0.01))


def _next(k: int) -> np.ndarray:
    return np.minimum(np.arange(k) + 1, k - 1)


def _bend_derivative(phi: np.ndarray, w: np.ndarray) -> np.ndarray:
    """d(Jr^-1(phi) w)/d(phi) (n, 3, 3), with Jr^-1 w = w + phi x w / 2 + g(|phi|) phi x (phi x w)."""
    angle = np.linalg.norm(phi, axis=-1)[:, None, None]
    small = angle < 1e-2
    x = np.where(small, 1.0, angle)
    cot = 1 / np.tan(x / 2)
    g = np.where(small, 1 / 12 + angle**2 / 720, 1 / x**2 - cot / (2 * x))
    dg = np.where(
        small, 1 / 360 + angle**2 / 7560, (-2 / x**3 + cot / (2 * x**2) + 1 / (4 * x * np.sin(x / 2) ** 2)) / x
    )
    column, row = phi[:, :, None], phi[:, None, :]
    along = (phi * w).sum(axis=-1)[:, None, None]
    twice = column * along - w[:, :, None] * angle**2  # phi x (phi x w)
    inner = along * np.eye(3) + column * w[:, None, :] - 2 * w[:, :, None] * row
    return -0.5 * hat(w) + g * inner + dg * (twice @ row)
