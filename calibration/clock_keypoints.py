"""Clocks refined on the keypoints of a moving person, where the cameras' places and lenses are known.

At a session instant t every view sees joint X at p_v(l) with l = (t - o_v) / (1 + r_v) on its own clock. If the clocks
are right the rays meet; a clock that is off by d moves the view's ray by d times the joint's velocity in the picture.
The cost is the distance of the keypoints from the projection of the one point that fits all views best, minimised over
offsets and rates by Gauss-Newton with the points eliminated (variable projection: residuals are projected off the
columns of the point). A detector sees a joint from every side a little elsewhere, for as long as the pose lasts: each
view and joint carries a constant bias in the picture with a prior, and what is left is correlated over time, so that
the covariance is that of clusters of instants with all their joints (Liang and Zeger 1986), not of single ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from calibration.rig_targets import ClockCorrection
from core.arrays import Bool, Float
from core.cameras import Rig
from core.clock import Clock
from core.errors import GateError

_REACH_FRAMES = 4  # of the local quadratic through keypoints, to either side
_MIN_FRAMES = 5
_MIN_INSTANTS = 10


@dataclass(frozen=True)
class ClockRefinement:
    """Settings of the refinement of clocks on keypoints.

    Attributes:
        min_score: keypoints below it are not used.
        sigma_px: standard deviation of a keypoint about its place and bias.
        bias_px: standard deviation of the constant bias of a joint in a view.
        rate_sigma_ppm: prior on how far a rate is from the one given, where nothing else is stated of it.
        offset_sigma_s: the same of an offset.
        cluster_s: stretch of time over which errors of keypoints are alike.
        iterations: of Gauss-Newton.
        max_instants: instants used at most, evenly spread.
    """

    min_score: float = 0.3
    sigma_px: float = 4.0
    bias_px: float = 15.0
    rate_sigma_ppm: float = 60.0
    offset_sigma_s: float = 0.1
    cluster_s: float = 0.25
    iterations: int = 12
    max_instants: int = 1500


@dataclass(frozen=True, eq=False)
class Track:
    """One person's joints in one view.

    Attributes:
        local_s: (frames,) times of row 0 on the view's clock.
        xy_px: (frames, joints, 2), NaN where missing.
        score: (frames, joints).
    """

    local_s: Float[np.ndarray, "frames"]
    xy_px: Float[np.ndarray, "frames joints 2"]
    score: Float[np.ndarray, "frames joints"]

    def at(
        self, local_s: Float[np.ndarray, "n"], min_score: float
    ) -> tuple[Float[np.ndarray, "n joints 2"], Float[np.ndarray, "n joints 2"]]:
        """Places and velocities (px/s) at any times: a quadratic through the frames near by; NaN where too few are."""
        near = np.searchsorted(self.local_s, local_s)[:, None] + np.arange(-_REACH_FRAMES, _REACH_FRAMES)
        inside = (near >= 0) & (near < len(self.local_s))
        near = np.clip(near, 0, len(self.local_s) - 1)
        step = float(np.median(np.diff(self.local_s)))
        elapsed = (self.local_s[near] - local_s[:, None]) / step
        good = np.isfinite(self.xy_px[..., 0]) & (self.score >= min_score)
        kernel = np.maximum(1 - (elapsed / _REACH_FRAMES) ** 2, 0.0) ** 2 * inside
        weight = kernel[..., None] * good[near]
        powers = elapsed[..., None] ** np.arange(3)
        normal = np.einsum("nwj,nwa,nwb->njab", weight, powers, powers)
        value = np.where(good[..., None], np.nan_to_num(self.xy_px), 0.0)[near]
        right = np.einsum("nwj,nwa,nwjc->njac", weight, powers, value)
        # frames on both sides, or the quadratic would extrapolate
        before = (weight * (elapsed <= 0)[..., None] > 0).sum(axis=1)
        after = (weight * (elapsed > 0)[..., None] > 0).sum(axis=1)
        known = (before + after >= _MIN_FRAMES) & (before > 0) & (after > 0)
        solved = np.linalg.solve(np.where(known[..., None, None], normal, np.eye(3)), right)
        solved = np.where(known[..., None, None], solved, np.nan)
        return solved[..., 0, :], solved[..., 1, :] / step


@dataclass(frozen=True, eq=False)
class RefinedClocks:
    """Clocks refined on keypoints.

    Attributes:
        clocks: the clocks, of the rig's cameras in order; the first keeps its own, to which the others are refined.
        correction: (views, 2) by how much the session times at `middle_s` and the rates changed.
        covariance: (2 views, 2 views) of offset (at `middle_s`) and rate of each in turn; zero for the first.
        middle_s: session time at which offsets are least uncertain.
        before_px: (views,) median distance from the common point under the clocks given.
        after_px: (views,) the same under the refined ones.
    """

    clocks: tuple[Clock, ...]
    correction: Float[np.ndarray, "views 2"]
    covariance: Float[np.ndarray, "unknowns unknowns"]
    middle_s: float
    before_px: Float[np.ndarray, "views"]
    after_px: Float[np.ndarray, "views"]

    def corrections(self, rig: Rig) -> dict[str, ClockCorrection]:
        """The changes by camera, as the rig stage writes them."""
        found = {}
        for v, view_id in enumerate(rig.ids):
            own = slice(2 * v, 2 * v + 2)
            offset, drift = (float(value) for value in self.correction[v])
            found[view_id] = ClockCorrection(offset, drift, self.middle_s, 0.0, self.covariance[own, own], v > 0)
        return found


def refine_clocks(
    rig: Rig,
    tracks: Sequence[Track],
    clocks: Sequence[Clock],
    config: ClockRefinement | None = None,
    prior: Float[np.ndarray, "views 2"] | None = None,
) -> RefinedClocks:
    """Refines the clocks of the views of a rig on one person's keypoints.

    Args:
        rig: solved or imported; the views are its cameras in order.
        tracks: keypoints of the person in each view.
        clocks: where to start from; the first view's is held.
        config: settings.
        prior: standard deviations of offset and rate of each view as known before; those of `config` if None.

    Raises:
        GateError: if the views share too little of a moving person.
    """
    config = config or ClockRefinement()
    first = max(float(c.to_session(t.local_s[:1])[0]) for c, t in zip(clocks, tracks, strict=True))
    last = min(float(c.to_session(t.local_s[-1:])[0]) for c, t in zip(clocks, tracks, strict=True))
    step = max(float(np.median(np.diff(track.local_s))) for track in tracks)
    instants = np.arange(first, last, max(step, (last - first) / config.max_instants))
    if len(instants) < _MIN_INSTANTS:
        raise GateError("clocks", f"the views share {len(instants)} instants", "record longer, or check the offsets")
    middle = float(instants.mean())
    x = np.zeros((len(rig), 2))
    loose = np.tile([config.offset_sigma_s, config.rate_sigma_ppm * 1e-6], (len(rig), 1))
    # what is known before is weighed at the end, against what keypoints turn out to be worth
    information = 1 / (loose if prior is None else 10 * loose) ** 2
    points: np.ndarray | None = None
    before: np.ndarray | None = None
    for _ in range(config.iterations):
        p, velocity = _moved(tracks, clocks, x, instants, middle, config.min_score)
        problem = _Problem.of(rig, p, velocity, instants, middle, points, config)
        points = problem.points
        before = problem.distance_px if before is None else before
        step_x, covariance = problem.step(x, config, information)
        x = x + step_x
        if np.abs(step_x[:, 0]).max() < 1e-6:
            break
    if prior is not None:
        x, covariance = _weighed(x, covariance, prior)
    p, velocity = _moved(tracks, clocks, x, instants, middle, config.min_score)
    after = _Problem.of(rig, p, velocity, instants, middle, points, config).distance_px
    assert before is not None
    refined = []
    for v, clock in enumerate(clocks):
        # t = clock(l) is replaced by t + x0 + x1 (t - middle)
        rate = clock.rate * (1 + x[v, 1])
        offset = clock.offset_s + x[v, 0] + x[v, 1] * (clock.offset_s - middle)
        sigma = np.sqrt(np.diag(covariance)[2 * v : 2 * v + 2])
        at_s = float(clock.to_local(np.array([middle]))[0])
        refined.append(clock if v == 0 else Clock(offset, rate, float(sigma[0]), float(sigma[1]), at_s))
    return RefinedClocks(tuple(refined), x, covariance, middle, before, after)


def _weighed(x: np.ndarray, covariance: np.ndarray, prior: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corrections and their covariance after what was known of the clocks; the first view's uncertainty counts too."""
    before = np.diag(np.maximum(np.hypot(prior, prior[:1])[1:].ravel(), 1e-9) ** 2)
    # a few clusters tell variances, but correlations of more unknowns than there are clusters are chance
    gain = before @ np.linalg.inv(before + np.diag(np.diag(covariance)[2:]))
    both, weighed = np.zeros_like(covariance), np.zeros_like(x)
    both[2:, 2:] = before - gain @ before
    weighed[1:] = (gain @ x[1:].ravel()).reshape(-1, 2)
    return weighed, both


def _moved(
    tracks: Sequence[Track],
    clocks: Sequence[Clock],
    x: np.ndarray,
    instants: np.ndarray,
    middle_s: float,
    min_score: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints of all views at session instants, and their velocities: (views, instants, joints, 2)."""
    found = []
    for track, clock, (offset, rate) in zip(tracks, clocks, x, strict=True):
        plain = instants - (offset + rate * (instants - middle_s))
        place, velocity = track.at(clock.to_local(plain), min_score)
        found.append((place, velocity / clock.rate))
    return np.stack([place for place, _ in found]), np.stack([velocity for _, velocity in found])


@dataclass(frozen=True, eq=False)
class _Problem:
    """Residuals and derivatives with the points eliminated.

    A residual is the keypoint minus its projected point, (views, instants, joints, 2); `off` projects a point's
    residuals (2 views) off the columns of its Jacobian. Missing views have weight zero.
    """

    residual: np.ndarray
    velocity: np.ndarray
    elapsed: np.ndarray
    off: np.ndarray
    seen: Bool[np.ndarray, "views instants joints"]
    points: np.ndarray
    cluster: np.ndarray

    @staticmethod
    def of(
        rig: Rig,
        p: np.ndarray,
        velocity: np.ndarray,
        instants: np.ndarray,
        middle: float,
        points: np.ndarray | None,
        config: ClockRefinement,
    ) -> _Problem:
        seen = np.isfinite(p[..., 0]) & np.isfinite(velocity[..., 0])
        seen &= seen.sum(axis=0) >= 2
        if seen.any(axis=-1).sum() < _MIN_INSTANTS * len(rig):
            raise GateError("clocks", "hardly any joint is seen by two cameras at once", "check the keypoints")
        points = _meeting(rig, p, seen) if points is None else points
        for _ in range(3):
            residual, J = _reproject(rig, p, points, seen)
            H = np.einsum("vijca,vijcb->ijab", J, J) + 1e-9 * np.eye(3)
            points = points + np.linalg.solve(H, np.einsum("vijca,vijc->ija", J, residual)[..., None])[..., 0]
        residual, J = _reproject(rig, p, points, seen)
        stacked = np.moveaxis(J, 0, 2).reshape(*J.shape[1:3], -1, 3)
        q, _ = np.linalg.qr(stacked)
        off = np.eye(2 * len(rig)) - q @ np.swapaxes(q, -1, -2)
        mask = np.repeat(np.moveaxis(seen, 0, -1), 2, axis=-1).astype(float)
        off = off * mask[..., None, :] * mask[..., None]
        cluster = np.floor((instants - instants[0]) / config.cluster_s).astype(int)
        velocity = np.where(seen[..., None], np.nan_to_num(velocity), 0.0)
        return _Problem(residual, velocity, instants - middle, off, seen, points, cluster)

    @property
    def distance_px(self) -> Float[np.ndarray, "views"]:
        """Median distance of each view's keypoints from the projected points."""
        distance = np.linalg.norm(self.residual, axis=-1)
        return np.array([np.median(d[s]) if s.any() else np.nan for d, s in zip(distance, self.seen, strict=True)])

    def step(self, x: np.ndarray, config: ClockRefinement, information: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """One Gauss-Newton step of the clocks, and their covariance at its end.

        Unknowns: offset and rate of every view, of which the first is held, and the constant bias of every view and
        joint, which the residuals never contain: each step finds the biases anew.
        """
        num_views, _, num_joints = self.seen.shape
        n_clock = 2 * num_views
        n = n_clock + num_views * num_joints * 2
        prior = np.full(n, 1 / config.bias_px**2)
        prior[:n_clock] = information.ravel()
        gone = np.concatenate([x.ravel(), np.zeros(n - n_clock)])
        terms = [self._joint(j, config) for j in range(num_joints)]
        A, b = np.diag(prior), prior * gone
        for where, J, e, weight in terms:
            A[np.ix_(where, where)] += np.einsum("i,ika,ikb->ab", weight, J, J)
            b[where] += np.einsum("i,ika,ik->a", weight, J, e)
        inverse = np.linalg.inv(A[2:, 2:])
        step = np.concatenate([np.zeros(2), -inverse @ b[2:]])
        scores = np.zeros((self.cluster.max() + 1, n))  # joints of one body are off together: a cluster holds them all
        for where, J, e, weight in terms:
            single = np.einsum("i,ika,ik->ia", weight, J, e + J @ step[where])
            np.add.at(scores, (self.cluster[:, None], where[None]), single)
        meat = np.diag(prior) + scores.T @ scores * len(scores) / max(len(scores) - 1, 1)
        clocks = slice(0, n_clock - 2)
        plain, robust = inverse[clocks, clocks], (inverse @ meat[2:, 2:] @ inverse)[clocks, clocks]
        covariance = np.zeros((n_clock, n_clock))
        covariance[2:, 2:] = max(1.0, float((np.diag(plain) / np.diag(robust)).max())) * robust
        return step[:n_clock].reshape(-1, 2), covariance

    def _joint(self, j: int, config: ClockRefinement) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Which unknowns one joint touches, its derivatives and residuals (instants, 2 views), and its weights."""
        num_views, num_instants, num_joints = self.seen.shape
        r = np.moveaxis(self.residual[:, :, j], 0, 1).reshape(num_instants, -1)
        velocity = np.moveaxis(self.velocity[:, :, j], 0, 1).reshape(num_instants, -1)
        lanes, n_clock = np.arange(2 * num_views), 2 * num_views
        J = np.zeros((num_instants, 2 * num_views, n_clock + 2 * num_views))
        J[:, lanes, 2 * (lanes // 2)] = -velocity
        J[:, lanes, 2 * (lanes // 2) + 1] = -velocity * self.elapsed[:, None]
        J[:, lanes, n_clock + lanes] = 1.0
        e = np.einsum("iab,ib->ia", self.off[:, j], r)
        weight = 1 / (1 + (e**2).sum(axis=1) / (4 * config.bias_px) ** 2) / config.sigma_px**2
        bias = n_clock + 2 * (np.arange(num_views)[:, None] * num_joints + j) + np.arange(2)
        return np.concatenate([np.arange(n_clock), bias.ravel()]), self.off[:, j] @ J, e, weight


def _meeting(rig: Rig, p: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Points nearest to the rays: sum (I - d d^T)(x - c) = 0."""
    A, b = np.zeros((*seen.shape[1:], 3, 3)), np.zeros((*seen.shape[1:], 3))
    for v, camera in enumerate(rig):
        ray = camera.lens.unproject(np.where(seen[v][..., None], p[v], np.array(camera.lens.centre_px)))
        d = ray @ camera.world_from_cam.R.T
        off = (np.eye(3) - d[..., :, None] * d[..., None, :]) * seen[v][..., None, None]
        A += off
        b += off @ camera.centre
    A += 1e-9 * np.eye(3)
    return np.asarray(np.linalg.solve(A, b[..., None])[..., 0])


def _reproject(rig: Rig, p: np.ndarray, points: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints minus projections, and the projections' derivatives by the points; zero where not seen."""
    residual, jacobian = np.zeros((*seen.shape, 2)), np.zeros((*seen.shape, 2, 3))
    for v, camera in enumerate(rig):
        in_cam = camera.cam_from_world.apply(points)
        px, by_cam, *_ = camera.lens.project_with_jacobian(in_cam)
        good = seen[v] & np.isfinite(px[..., 0])
        residual[v] = np.where(good[..., None], np.nan_to_num(p[v] - px), 0.0)
        jacobian[v] = np.where(good[..., None, None], np.nan_to_num(by_cam @ camera.cam_from_world.R), 0.0)
    return residual, jacobian
