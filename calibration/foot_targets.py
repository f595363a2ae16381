"""Whether every target still hangs where the map has it: each placed anew from frames whose other targets are believed.

A way that was solved with a target that was moved follows it, and hides it: the residuals are shared out. So the poses
of frames that show the target and others are solved without it, and one place of it is solved from all of them: the
increment d of its believed pose that explains its pixels. With A the derivatives of the pixels by d, P those by the
frame's pose and motion, all whitened, and L what the other points know of pose and motion, a frame gives

    H = A^T B,  g = -B^T r,  B = A - P (P^T P + L)^-1 P^T A,

and frames add up. What is off in the same way in all of them (other targets, the lens, the detector) does not average
out: cov(sum x_k) <= sum cov(x_k) / p_k for any shares p_k that sum to one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from calibration.place_noise import Places, pixel_derivatives, pose_covariances
from calibration.resection import PointRays, RollingShutter, refine_poses
from calibration.robust import robust_weight
from calibration.smoothing import acceleration, shifted
from calibration.tracking import MOTION_SIGMA, Track, TrackConfig, middle_delay
from core.arrays import Float, Int
from core.cameras import Lens
from core.transforms import SE3, hat

_ROUNDS = 4
_LOSS_SIGMAS = 3.0
_WIDE = np.repeat([1 / np.pi, 1 / 10.0], 3) ** 2  # of a target before it is seen: rad, m
_AS_GOOD = 1.0  # standard deviations within which two explanations are equally good
_MAX_NAMED = 4  # more moved targets than this are another room


@dataclass(frozen=True)
class TargetCheck:
    """Settings of the search for targets that were moved.

    Attributes:
        min_frames: frames a target and others must share for a statement.
        max_frames: frames it is placed from, spread over all that it shares with others.
        parts: stretches of time that are placed each by itself, so that one moved meanwhile shows.
        tolerance_m: how far a target's place may really be off, beside what its covariance says: prints and bends.
        tolerance_rad: the same for its orientation.
        max_sigmas: distance in standard deviations above which the target has been moved.
    """

    min_frames: int = 10
    max_frames: int = 120
    parts: int = 4
    tolerance_m: float = 0.002
    tolerance_rad: float = 0.004
    max_sigmas: float = 4.0


@dataclass(frozen=True)
class Displacement:
    """How far a target seems to be from where the map has it.

    Attributes:
        off_m: distance of its centre.
        turned_rad: angle of its orientation.
        sigmas: the largest component of both, in standard deviations; of a moved target, the largest of all then left.
        at_s: session time about which it was seen there.
    """

    off_m: float
    turned_rad: float
    sigmas: float
    at_s: float


@dataclass(frozen=True)
class TargetReport:
    """What a foot camera says of the targets.

    Attributes:
        moved: targets that are not where the map has them, each with the largest contradiction that it leaves; where
            nothing tells which of several was moved, all are named in one key.
        others: the rest of those that could be checked, without those that were moved.
        unchecked: targets that were seen, but not beside enough others.
    """

    moved: dict[str, Displacement]
    others: dict[str, Displacement]
    unchecked: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As facts of the stage."""
        return {
            "moved_targets": {name: dataclasses.asdict(found) for name, found in self.moved.items()},
            "targets": {name: dataclasses.asdict(found) for name, found in self.others.items()},
            "unchecked_targets": list(self.unchecked),
        }


def check_targets(
    lens: Lens,
    t_s: Float[np.ndarray, "frames"],
    points: PointRays,
    track: Track,
    places: Places,
    names: Sequence[str],
    *,
    row_time_s: float = 0.0,
    lens_covariance: Float[np.ndarray, "p p"] | None = None,
    config: TrackConfig | None = None,
    check: TargetCheck | None = None,
) -> TargetReport:
    """Finds targets that are not where the map has them.

    Args:
        lens: the camera's lens.
        t_s: frame times, seconds.
        points: points of the room by frame, as given to `track_camera`.
        track: what came of them.
        places: the targets the points belong to.
        names: of the targets.
        row_time_s: readout time of one row.
        lens_covariance: of the lens's parameters.
        config: settings of the poses.
        check: settings of the search.
    """
    check = check or TargetCheck()
    seen = _Checked(lens, t_s, points, track, places, row_time_s, lens_covariance, config or TrackConfig(), check)
    present = [int(k) for k in np.unique(places.target) if k >= 0]
    left_out: list[int] = []
    found, moved = seen.all_placed(present, left_out), dict[str, Displacement]()
    unchecked = tuple(names[k] for k in present if k not in found)
    while len(left_out) < _MAX_NAMED:
        worst = max((d.sigmas for d in found.values()), default=0.0)
        if worst <= check.max_sigmas:
            break
        # the one that was moved is the one without which the others agree; it need not be the one that is furthest off
        suspects = [k for k, d in found.items() if d.sigmas > worst / 2]
        rest = {k: seen.all_placed(sorted(set(found) - {k}), [*left_out, k]) for k in suspects}
        left = {k: max((d.sigmas for d in others.values()), default=0.0) for k, others in rest.items()}
        chosen = sorted(k for k in suspects if left[k] < min(left.values()) + _AS_GOOD)
        likeliest = max(chosen, key=lambda k: found[k].sigmas)
        moved[" or ".join(names[k] for k in chosen)] = dataclasses.replace(found[likeliest], sigmas=worst)
        left_out += chosen
        found = seen.all_placed(sorted(set(found) - set(chosen)), left_out)
    return TargetReport(moved, {names[k]: d for k, d in found.items()}, unchecked)


class _Checked:
    """The points of all frames, and targets placed from some of them."""

    def __init__(
        self,
        lens: Lens,
        t_s: np.ndarray,
        points: PointRays,
        track: Track,
        places: Places,
        row_time_s: float,
        lens_covariance: np.ndarray | None,
        config: TrackConfig,
        check: TargetCheck,
    ) -> None:
        self.lens, self.t_s, self.points, self.places = lens, t_s, points, places
        self.track, self.lens_covariance, self.config, self.check = track, lens_covariance, config, check
        self.delay_s, self.rolling = points.xy_px[:, 1] * row_time_s, row_time_s > 0

    def all_placed(self, targets: Sequence[int], left_out: Sequence[int]) -> dict[int, Displacement]:
        """Each target from frames that show others too, without those left out; those for which there are enough."""
        placed = {k: self.placed(k, left_out) for k in targets}
        return {k: found for k, found in placed.items() if found is not None}

    def placed(self, target: int, left_out: Sequence[int]) -> Displacement | None:
        """The place of one target by the others; None if it shares too few frames with them."""
        of_it = self.places.target == target
        of_others = ~of_it & ~np.isin(self.places.target, left_out)
        least, frames, index = self.config.min_points, len(self.t_s), self.points.pose_idx
        shared = np.flatnonzero(
            (np.bincount(index[of_it], minlength=frames) >= least)
            & (np.bincount(index[of_others], minlength=frames) >= least)
        )
        if len(shared) < self.check.min_frames:
            return None
        spread = np.linspace(0, len(shared) - 1, min(len(shared), self.check.max_frames)).round().astype(int)
        equations = self._equations(shared[spread], of_it, of_others, self.places.world_from_target[target])
        if len(equations) < self.check.min_frames:
            return None
        count = len(self.places.world_from_target)
        known = self.places.covariance.reshape(count, 6, count, 6)[target, :, target]
        known = known + np.diag(np.repeat([self.check.tolerance_rad, self.check.tolerance_m], 3) ** 2)
        rows = np.array_split(np.arange(len(equations)), min(self.check.parts, len(equations) // self.check.min_frames))
        return max((equations[part].displacement(known) for part in rows), key=lambda one: one.sigmas)

    def _equations(self, frames: np.ndarray, of_it: np.ndarray, of_others: np.ndarray, believed: SE3) -> _Equations:
        """What frames say of a target, with their poses by others; frames whose others fix no pose are left out."""
        points, rows = self._subset(frames, of_others, self.track.weighed_px)
        delay = self.delay_s[rows]
        middle = middle_delay(points, delay, len(frames), 0.0)
        by = np.zeros(len(self.t_s))
        by[frames] = middle
        way = shifted(self.track.way, by)
        motion, change = way.motion[frames], acceleration(way)[frames]
        sigma = np.minimum(way.motion_sigma, MOTION_SIGMA)[frames]
        shutter = RollingShutter(delay - middle[points.pose_idx], motion, sigma, change) if self.rolling else None
        solved = refine_poses(self.lens, way.world_from_cam[frames], points, shutter=shutter)
        steady_px = (self.config.shared_px, self.config.corner_px)
        others = dataclasses.replace(
            self.places, target=self.places.target[rows], own_sigma_m=self.places.own_sigma_m[rows]
        )
        noise_px = self.track.noise_px[rows]
        picture, place = pose_covariances(
            self.lens, solved, points, noise_px, others, shutter, steady_px, self.lens_covariance
        )
        its, rows = self._subset(frames, of_it, self.track.noise_px)
        if shutter is not None:
            shutter = RollingShutter(self.delay_s[rows] - middle[its.pose_idx], solved.motion, sigma, change)
        predicted = refine_poses(self.lens, solved.world_from_cam, its, iterations=0, shutter=shutter)
        by_pose, by_world, _ = pixel_derivatives(self.lens, predicted, its, shutter)
        inside = believed.inverse().apply(its.points_m)
        by_target = by_world @ np.concatenate(
            [-believed.R @ hat(inside), np.broadcast_to(np.eye(3), (len(inside), 3, 3))], axis=-1
        )
        scale = 1 / its.sigma_px[:, None]
        A, P, r = by_target * scale[..., None], by_pose * scale[..., None], predicted.residual_px * scale
        good = np.isfinite(A).all(axis=(1, 2)) & np.isfinite(P).all(axis=(1, 2)) & np.isfinite(r).all(axis=-1)
        edges = np.searchsorted(its.pose_idx, np.arange(len(frames) + 1))
        equations = []
        for k in np.flatnonzero((picture[:, 0, 0] > 0) & (solved.rms_px < self.config.max_rms_px)):
            of_frame = np.arange(edges[k], edges[k + 1])[good[edges[k] : edges[k + 1]]]
            if len(of_frame) < self.config.min_points:
                continue
            known = np.zeros((P.shape[-1],) * 2)
            known[:6, :6] = np.linalg.inv(picture[k])
            known[6:, 6:] = np.diag(1 / sigma[k] ** 2) if self.rolling else 0.0
            equations.append(
                (
                    self.t_s[frames[k]],
                    *_reduced(A[of_frame], P[of_frame], r[of_frame], scale[of_frame], known, place[k], steady_px),
                )
            )
        return _Equations.stacked(equations)

    def _subset(self, frames: np.ndarray, rows: np.ndarray, sigma_px: np.ndarray) -> tuple[PointRays, np.ndarray]:
        """The points in some of the frames, which are numbered anew, and their rows."""
        number = np.full(len(self.t_s), -1)
        number[frames] = np.arange(len(frames))
        kept = np.flatnonzero(rows & (number[self.points.pose_idx] >= 0))
        p = self.points
        return PointRays(number[p.pose_idx[kept]], p.points_m[kept], p.xy_px[kept], sigma_px[kept]), kept


@dataclass(frozen=True, eq=False)
class _Equations:
    """What each frame says of a target: H d = g, and the covariance of g by what is off in the same way in all."""

    t_s: Float[np.ndarray, "n"]
    H: Float[np.ndarray, "n 6 6"]
    g: Float[np.ndarray, "n 6"]
    steady: Float[np.ndarray, "n 6 6"]

    def __len__(self) -> int:
        return len(self.t_s)

    def __getitem__(self, rows: Int[np.ndarray, "k"]) -> _Equations:
        return _Equations(self.t_s[rows], self.H[rows], self.g[rows], self.steady[rows])

    @staticmethod
    def stacked(frames: Sequence[tuple[float, np.ndarray, np.ndarray, np.ndarray]]) -> _Equations:
        """From one tuple a frame."""
        n = len(frames)
        t_s, H, g, steady = zip(*frames, strict=True) if frames else ((), (), (), ())
        return _Equations(np.array(t_s), np.reshape(H, (n, 6, 6)), np.reshape(g, (n, 6)), np.reshape(steady, (n, 6, 6)))

    def displacement(self, known: Float[np.ndarray, "6 6"]) -> Displacement:
        """The displacement that the frames agree on, against how well the target's place is known."""
        alone = np.linalg.inv(self.H + self.steady + np.diag(_WIDE))
        weight, d, inverse = np.ones(len(self)), np.zeros(6), np.eye(6)
        for _ in range(_ROUNDS):
            inverse = np.linalg.inv(np.einsum("n,nij->ij", weight, self.H) + np.diag(_WIDE))
            d = inverse @ (weight @ self.g)
            off = self.g - self.H @ d
            weight = robust_weight(np.einsum("ni,nij,nj->n", off, alone, off) / 6, "cauchy", _LOSS_SIGMAS)
        share = weight * np.einsum("nii->n", self.H)
        share = np.maximum(share / share.sum(), 1e-12)
        steady = np.einsum("n,nij->ij", weight**2 / share, self.steady)
        sigma = np.sqrt(np.diag(inverse + inverse @ steady @ inverse + known))
        return Displacement(
            off_m=float(np.linalg.norm(d[3:])),
            turned_rad=float(np.linalg.norm(d[:3])),
            sigmas=float(np.abs(d / sigma).max()),
            at_s=float(np.median(self.t_s)),
        )


def _reduced(
    A: Float[np.ndarray, "n 2 6"],
    P: Float[np.ndarray, "n 2 d"],
    r: Float[np.ndarray, "n 2"],
    scale: Float[np.ndarray, "n 1"],
    known: Float[np.ndarray, "d d"],
    place: Float[np.ndarray, "6 6"],
    steady_px: tuple[float, float],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """H, g and the covariance of g by systematic errors, of one frame with its pose and motion eliminated."""
    width = P.shape[-1]
    flat_A, flat_P = A.reshape(-1, 6), P.reshape(-1, width)
    B = flat_A - flat_P @ np.linalg.solve(flat_P.T @ flat_P + known, flat_P.T @ flat_A)
    by_place = B.T @ flat_P[:, :6]
    shared = np.einsum("nki,n->ik", B.reshape(-1, 2, 6), scale[:, 0])
    own = (B.reshape(-1, 2, 6) * scale[..., None]).reshape(-1, 6)
    steady = by_place @ place @ by_place.T + steady_px[0] ** 2 * shared @ shared.T + steady_px[1] ** 2 * own.T @ own
    return flat_A.T @ B, -B.T @ r.ravel(), steady
