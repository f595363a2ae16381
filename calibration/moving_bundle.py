"""Bundle adjustment in continuous time: cameras, lenses, clocks, parts of targets and the ways of what is carried.

Levenberg-Marquardt on `calibration.moving_scene`, with the white-noise-on-acceleration prior of every motion. A knot
is coupled to its neighbours alone, so the trajectories' normal matrix is banded; it is factored by Cholesky and
eliminated (Schur complement), and what is left, cameras, lenses, clocks and parts, is solved densely.

Where the clocks of all cameras that saw a motion are free, pictures tell them from one another but never all of them
from the session's clock: a motion that happens later is the same motion. This direction is held at what was known
before, because noise that a trajectory has fitted does not move along with it and would seem to hold it. Cameras that
saw different motions, or one with a gap between, are groups of their own, whose clocks nothing compares.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from calibration.bundle import minimise
from calibration.moving_normal import MovingNormal
from calibration.moving_scene import (
    CLOCK,
    STEADY,
    MovingScene,
    Residuals,
    TimedPoints,
    dense_columns,
    linearised,
    residuals,
)
from calibration.normal_equations import UNSEEN_SIGMAS, BundleConfig, group_products, lens_prior_terms
from calibration.robust import robust_cost, robust_weight, variance_factor
from calibration.trajectory import STATE, Smoothness, Trajectory
from core.arrays import Float, Int
from core.threads import one_blas_thread

_EAGER = 1.5  # times the step of expectation and maximisation; at 2 it may go to and fro for ever
_ALIKE_S = 0.25  # time within which a hand's haste does not change much
_LEAST_JITTER_S = 1e-5  # under which a frame's time is as good as exact
_STIFF = 1e6  # times what is known of the mean of all clocks


@dataclass(frozen=True, eq=False)
class MovingResult:
    """A solved moving scene.

    Attributes:
        scene: the scene at the optimum.
        residual_px: (n, 2) predicted minus seen; NaN where unseen by the lens.
        weight: (n,) robust weight of each point, 0..1.
        speed_px_s: (n, 2) how fast each point moves in the picture.
        covariance: (d, d) of the dense block: cameras (6 each), lenses (if free), clocks (3 each), parts (6 each),
            jitters.
        variance_factor: by how much the residuals exceed the stated standard deviations, squared; already in the
            covariances.
        converged: whether the cost stopped falling before the iterations ran out.
        clock_groups: cameras whose clocks the motions compare, group by group; others saw nothing move.
    """

    scene: MovingScene
    residual_px: Float[np.ndarray, "n 2"]
    weight: Float[np.ndarray, "n"]
    speed_px_s: Float[np.ndarray, "n 2"]
    covariance: Float[np.ndarray, "d d"]
    variance_factor: float
    converged: bool
    clock_groups: tuple[Int[np.ndarray, "cameras"], ...]

    @property
    def error_px(self) -> Float[np.ndarray, "n"]:
        """Distance between predicted and seen, pixels."""
        return np.linalg.norm(self.residual_px, axis=-1)

    @property
    def camera_covariance(self) -> Float[np.ndarray, "cameras 6 6"]:
        """Of each `world_from_cam`, (rotation, translation)."""
        return self._blocks(0, 6, len(self.scene.lenses))

    @property
    def clock_covariance(self) -> Float[np.ndarray, "cameras 3 3"]:
        """Of each clock: offset, drift, row time."""
        cameras, lenses = self.scene.dense_sizes[:2]
        return self._blocks(cameras + lenses, CLOCK, len(self.scene.lenses))

    @property
    def part_covariance(self) -> Float[np.ndarray, "parts 6 6"]:
        """Of each `body_from_part`."""
        return self._blocks(sum(self.scene.dense_sizes[:3]), 6, len(self.scene.part_body))

    @property
    def lens_sigma(self) -> Float[np.ndarray, "cameras p"]:
        """Standard deviations of the lens parameters; 0 where held."""
        cameras, lenses = self.scene.dense_sizes[:2]
        if not lenses:
            return np.zeros(self.scene.lens_free.shape)
        variance = np.diag(self.covariance)[cameras : cameras + lenses]
        return np.sqrt(np.maximum(variance, 0.0)).reshape(self.scene.lens_free.shape)

    def _blocks(self, start: int, size: int, count: int) -> np.ndarray:
        end = start + size * count
        cut = self.covariance[start:end, start:end].reshape(count, size, count, size)
        return cut[np.arange(count), :, np.arange(count)]


@one_blas_thread
def solve_moving(
    scene: MovingScene,
    points: TimedPoints,
    smoothness: tuple[Smoothness, ...],
    config: BundleConfig | None = None,
) -> MovingResult:
    """Minimises the robust reprojection error and the motions' priors.

    Args:
        scene: start values; they must be near enough for the points to lie in front of their cameras.
        points: what was seen.
        smoothness: prior of each motion.
        config: settings.

    Raises:
        GateError: if the normal equations are singular, that is, something free is not determined by the data.
    """
    system = _System(scene, points, smoothness, config or BundleConfig())
    scene, converged = minimise(system, scene, system.config)
    final, weight = system.weighted(scene)
    whitened = final.px / points.sigma_px[:, None]
    num_params = int(scene.dense_free.sum()) + STATE * scene.first_knots[-1]
    factor = variance_factor(whitened, weight, num_params)
    covariance = factor * system.linearise(scene).covariance()
    for at, weight_of in system.common_modes(scene):
        covariance[np.ix_(at, at)] += 1 / weight_of.sum()
    return MovingResult(scene, final.px, weight, final.speed_px_s, covariance, factor, converged, system.groups)


@one_blas_thread
def learn_freedom(
    scene: MovingScene,
    points: TimedPoints,
    smoothness: tuple[Smoothness, ...],
    config: BundleConfig | None = None,
) -> tuple[tuple[Smoothness, ...], Float[np.ndarray, "frames"]]:
    """What a solved scene says of how freely its motions move and its frame times jitter.

    One step of expectation and maximisation: the expected squares of the priors' residuals, those at the optimum plus
    those of its uncertainty, must come out at one (Shumway and Stoffer, "An approach to time series smoothing and
    forecasting using the EM algorithm", 1982). A hand moves now slowly, now in haste: every stretch of time has its own
    smoothness, and where little was seen of it that of the whole. All frames of a camera jitter alike. The step is
    lengthened (in the logarithm), which still converges and is faster.

    Returns:
        the smoothness of each motion, and the standard deviation of each frame's jitter.
    """
    system = _System(scene, points, smoothness, config or BundleConfig())
    own, after, jitter_variance = system.linearise(scene).spreads(scene)
    learned = []
    for motion, prior, first in zip(scene.motions, smoothness, scene.first_knots, strict=False):
        if not motion.linked.any():
            learned.append(prior)
            continue
        r, J0, J1 = prior.residual(motion)
        r, J0, J1 = (part[:-1] for part in (r, J0, J1))
        here = slice(first, first + len(motion) - 1)
        nxt = slice(first + 1, first + len(motion))
        both = J1 @ after[here] @ np.swapaxes(J0, -1, -2)
        spread = J0 @ own[here] @ np.swapaxes(J0, -1, -2) + J1 @ own[nxt] @ np.swapaxes(J1, -1, -2)
        expected = r**2 + np.einsum("kii->ki", spread + both + np.swapaxes(both, -1, -2))
        before = prior.strength(len(motion))
        raw = np.append(expected.reshape(-1, 2, 2, 3).mean(axis=(1, 3)), np.ones((1, 2)), axis=0) * before
        change = np.clip(_local_mean(raw, motion) / before, 0.1, 10.0) ** _EAGER
        learned.append(replace(prior, rotation=(change * before)[:, 0], translation=(change * before)[:, 1]))
    return tuple(learned), _learned_jitter(scene, points, jitter_variance)


def _learned_jitter(scene: MovingScene, points: TimedPoints, variance: np.ndarray) -> np.ndarray:
    """Standard deviation of each frame's jitter, the same for all frames of a camera."""
    if not len(scene.jitter_s):
        return scene.jitter_sigma_s
    rows = points.frame_idx != STEADY
    camera = np.zeros(len(scene.jitter_s), int)
    camera[points.frame_idx[rows]] = points.camera_idx[rows]
    change = (scene.jitter_s**2 + variance) / scene.jitter_sigma_s**2
    change = (np.bincount(camera, change) / np.maximum(np.bincount(camera), 1))[camera]
    return np.maximum(scene.jitter_sigma_s * np.clip(change, 0.1, 10.0) ** (_EAGER / 2), _LEAST_JITTER_S)


def _local_mean(raw: np.ndarray, motion: Trajectory) -> np.ndarray:
    """Means (k, 2) of the links' values (k, 2) over those near in time, and over all of them, which count as one."""
    near = (np.abs(motion.t_s[:, None] - motion.t_s) <= _ALIKE_S) & motion.linked
    return (near @ raw + raw[motion.linked].mean(axis=0)) / (near.sum(axis=1) + 1)[:, None]


class _System:
    """Cost and normal equations of a moving scene; a problem for `bundle.minimise`."""

    def __init__(
        self, scene: MovingScene, points: TimedPoints, smoothness: tuple[Smoothness, ...], config: BundleConfig
    ) -> None:
        self.points, self.smoothness, self.config = points, smoothness, config
        self.groups = clock_groups(scene, points)

    def move(self, scene: MovingScene, step: tuple[np.ndarray, np.ndarray]) -> MovingScene | None:
        """The scene after a step."""
        return scene.moved(*step)

    def cost(self, scene: MovingScene) -> float:
        """Robust cost with the priors."""
        whitened = residuals(scene, self.points) / self.points.sigma_px[:, None]
        squared = np.where(np.isfinite(whitened[:, 0]), (whitened**2).sum(axis=-1), UNSEEN_SIGMAS**2)
        cost = float(robust_cost(squared, self.config.loss, self.config.loss_sigmas).sum())
        cost += float((((scene.clocks - scene.clock_prior) / scene.clock_sigma)[scene.clock_free] ** 2).sum())
        cost += float(((scene.jitter_s / scene.jitter_sigma_s) ** 2).sum())
        for motion, prior in zip(scene.motions, self.smoothness, strict=True):
            cost += float((prior.residual(motion)[0] ** 2).sum())
            cost += float((motion.velocity[_starts(motion.linked)] ** 2 * prior.rate_information).sum())
        off = (scene.clocks - scene.clock_prior).ravel()
        for at, weight in self.common_modes(scene):
            cost += _STIFF * float(weight @ off[at - sum(scene.dense_sizes[:2])]) ** 2 / float(weight.sum())
        if scene.lens_free.any():
            cost += lens_prior_terms(scene.lenses, scene.lens_prior)[0]
        return cost

    def common_modes(self, scene: MovingScene) -> list[tuple[np.ndarray, np.ndarray]]:
        """Offsets, and drifts, that could all change together: places in the dense block and prior information."""
        first = sum(scene.dense_sizes[:2])
        return [
            (first + CLOCK * group + number, 1 / scene.clock_sigma[group, number] ** 2)
            for number in (0, 1)
            for group in self.groups
            if scene.clock_free[group, number].all()
        ]

    def weighted(self, scene: MovingScene) -> tuple[Residuals, np.ndarray]:
        """Residuals with derivatives, and the robust weight of each point; 0 where the lens cannot see it."""
        found = linearised(scene, self.points)
        seen = np.isfinite(found.px[:, 0])
        squared = np.where(seen, ((found.px / self.points.sigma_px[:, None]) ** 2).sum(axis=-1), 0.0)
        weight = robust_weight(squared, self.config.loss, self.config.loss_sigmas)
        return found, np.where(seen, weight, 0.0)

    def linearise(self, scene: MovingScene) -> MovingNormal:
        """Normal equations at a scene."""
        found, weight = self.weighted(scene)
        scale = np.sqrt(weight) / self.points.sigma_px
        J = np.concatenate([found.by_dense, found.by_knots], axis=-1) * scale[:, None, None]
        J = np.where((weight > 0)[:, None, None], J, 0.0)
        r = np.where((weight > 0)[:, None], found.px, 0.0) * scale[:, None]
        order, starts, sizes = self._groups(found.knot)
        products, gradients = group_products(J[order], r[order], starts, sizes)
        first = self.points[order[starts]]
        columns = dense_columns(scene, first.camera_idx, first.part_idx, first.frame_idx)
        return self._assemble(scene, columns, found.knot[order[starts]], products, gradients)

    def _groups(self, knot: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Order of the points by camera, part, knot and frame, and the groups' first places and sizes."""
        o = self.points
        key = (o.camera_idx * (int(o.part_idx.max()) + 1) + o.part_idx) * (int(knot.max()) + 1) + knot
        key = key * (int(o.frame_idx.max()) + 2) + o.frame_idx - STEADY
        order = np.argsort(key, kind="stable")
        starts = np.flatnonzero(np.diff(key[order], prepend=-1))
        return order, starts, np.diff(np.append(starts, len(o)))

    def _assemble(
        self,
        scene: MovingScene,
        columns: np.ndarray,
        knot: np.ndarray,
        products: np.ndarray,
        gradients: np.ndarray,
    ) -> MovingNormal:
        """Adds the groups' products into the blocks, and the priors."""
        width, d, k = columns.shape[1], sum(scene.dense_sizes), scene.first_knots[-1]
        H = _sum_at(columns[:, :, None] * d + columns[:, None, :], products[:, :width, :width], d * d).reshape(d, d)
        g = _sum_at(columns, gradients[:, :width], d)
        rows = STATE * np.minimum(knot, max(k - 1, 0))[:, None] + np.arange(2 * STATE)
        size = STATE * (max(k, 1) + 1)  # the last knot's successor is a place for zeros
        cross = _sum_at(rows[:, :, None] * d + columns[:, None, :], products[:, width:, :width], size * d)
        g_knots = _sum_at(rows, gradients[:, width:], size)
        own, ahead = np.zeros((2, k + 1, STATE, STATE))
        at, head, tail = np.minimum(knot, k), slice(width, width + STATE), slice(width + STATE, None)
        np.add.at(own, at, products[:, head, head])
        np.add.at(ahead, at, products[:, head, tail])
        np.add.at(own, np.minimum(at + 1, k), products[:, tail, tail])
        normal = MovingNormal(
            H, g, scene.dense_free, cross.reshape(size, d)[: STATE * k], own[:k], ahead[:k], g_knots[: STATE * k]
        )
        self._add_priors(scene, normal)
        return normal

    def _add_priors(self, scene: MovingScene, normal: MovingNormal) -> None:
        cameras, lenses, clocks = scene.dense_sizes[:3]
        at = cameras + lenses + np.arange(clocks)
        information = 1 / scene.clock_sigma.ravel() ** 2
        normal.H[at, at] += information
        normal.g[at] += information * (scene.clocks - scene.clock_prior).ravel()
        at = sum(scene.dense_sizes[:4]) + np.arange(len(scene.jitter_s))
        normal.H[at, at] += 1 / scene.jitter_sigma_s**2
        normal.g[at] += scene.jitter_s / scene.jitter_sigma_s**2
        off = (scene.clocks - scene.clock_prior).ravel()
        for at, weight in self.common_modes(scene):
            share = _STIFF / weight.sum() * weight
            normal.H[np.ix_(at, at)] += np.outer(share, weight)
            normal.g[at] += share * float(weight @ off[at - cameras - lenses])
        if lenses:
            _, H, g = lens_prior_terms(scene.lenses, scene.lens_prior)
            p = scene.lens_free.shape[1]
            at = cameras + p * np.arange(len(scene.lenses))[:, None] + np.arange(p)
            normal.H[at[:, :, None], at[:, None, :]] += H
            normal.g[at] += g
        g_knots = normal.g_knots.reshape(-1, STATE)
        for motion, prior, first in zip(scene.motions, self.smoothness, scene.first_knots, strict=False):
            r, J0, J1 = prior.residual(motion)
            here, nxt = slice(first, first + len(motion)), slice(first + 1, first + len(motion))
            J0t, J1t = np.swapaxes(J0, -1, -2), np.swapaxes(J1, -1, -2)
            normal.own[here] += J0t @ J0
            normal.own[nxt] += (J1t @ J1)[:-1]
            normal.ahead[here] += J0t @ J1
            g_knots[here] += (J0t @ r[..., None])[..., 0]
            g_knots[nxt] += (J1t @ r[..., None])[:-1, :, 0]
            start = np.flatnonzero(_starts(motion.linked))
            rate = np.arange(6, STATE)
            normal.own[first + start[:, None], rate, rate] += prior.rate_information
            g_knots[first + start[:, None], rate] += prior.rate_information * motion.velocity[start]


def clock_groups(scene: MovingScene, points: TimedPoints) -> tuple[Int[np.ndarray, "cameras"], ...]:
    """Cameras that hang together through stretches of motion that several of them saw: all of each group."""
    body, times, cameras = scene.part_body[points.part_idx], scene.times(points), len(scene.lenses)
    links, first = [], cameras
    for m, motion in enumerate(scene.motions):
        rows = np.flatnonzero(body == m)
        stretch = np.cumsum(_starts(motion.linked)) - 1
        links.append(np.stack([points.camera_idx[rows], first + stretch[motion.knot_before(times[rows])]]))
        first += int(stretch[-1]) + 1
    a, b = np.concatenate(links, axis=1) if links else np.zeros((2, 0), int)
    label = connected_components(coo_array((np.ones(len(a)), (a, b)), shape=(first, first)), directed=False)[1]
    seen = np.unique(a)
    return tuple(seen[label[seen] == value] for value in np.unique(label[seen]))


def _starts(linked: np.ndarray) -> np.ndarray:
    """Knots that no other leads to: of their velocity nothing is known beforehand."""
    return np.append(True, ~linked[:-1])


def _sum_at(index: np.ndarray, values: np.ndarray, size: int) -> np.ndarray:
    """Sums of values by place (size,)."""
    return np.bincount(index.ravel(), values.ravel(), minlength=size)
