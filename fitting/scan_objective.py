"""The cost of a person's shape and poses, given the points of scans, as one arrow system.

Unknowns of a capture are those of a frame (`fitting.objective`): translation, then rotation increments of 24 joints;
the betas are common to all captures.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from scipy.spatial import KDTree

from core.arrays import Bool, Float, Int
from fitting.objective import FitState
from fitting.scan_loss import PointLoss, even_loss, point_loss
from fitting.scan_parts import PARTS, part_of_vertex
from fitting.scan_priors import add_pose_prior, sole_residuals
from fitting.smpl import PosedBody
from fitting.solver import ArrowSystem
from fitting.surface import Matches, Surface

_DENSITY_RADIUS_M = 0.05
_ONE_SIDED = 0.5  # length of a part's mean normal, across; 0 all around, 0.64 for half a cylinder
_FIRST_TOGETHER = 20.0  # points that count as one, before their errors are known


@dataclass(frozen=True)
class ScanLossConfig:
    """How the points of a scan are believed; `benchmarks/scan_shape.py` measures what comes of it.

    Attributes:
        sigma_m: noise of a point on bare skin, and what the model cannot follow of a body.
        cloth_m: mean distance of clothes and hair from the skin. Longer than clothes are on average, so that those
            which touch the skin tell more than those which stand off.
        fold_m: clothes stand off alike over so much, and the points of such a square count as one. Smaller, and folds
            would be taken for the shape of the body.
        standoff_m: how far sensors and the model are off over a whole bare part.
        snug_m: how far clothes may stand off that lie as evenly as skin, and are taken for it.
        one_sided: whether clothes are known to lie outside the skin; otherwise a loss that is even on both sides.
    """

    sigma_m: float = 0.004
    cloth_m: float = 0.05
    fold_m: float = 0.4
    standoff_m: float = 0.0005
    snug_m: float = 0.003
    one_sided: bool = True


@dataclass(frozen=True, eq=False)
class ScanObjective:
    """The cost of poses and a shape, given points.

    Attributes:
        surface: of the body model.
        points_m: of each capture, z up.
        floor_seen: whether z = 0 is known to be the floor, of each capture.
        config: how they are believed.
        in_fold: how many points of each capture a fold has.
        dressed: share of the points of each part that lie on clothes or hair.
        together: how many points on bare skin count as one.
        start_scale_m: of an even loss that reaches far, to start with; None for the loss that `config` asks for.
    """

    surface: Surface
    points_m: tuple[Float[np.ndarray, "_ 3"], ...]
    floor_seen: tuple[bool, ...]
    config: ScanLossConfig
    in_fold: tuple[float, ...]
    dressed: Float[np.ndarray, "parts"]
    together: float = 1.0
    start_scale_m: float | None = None

    @staticmethod
    def of(
        surface: Surface,
        points_m: tuple[np.ndarray, ...],
        floor_seen: tuple[bool, ...],
        config: ScanLossConfig,
        start_scale_m: float,
    ) -> ScanObjective:
        """The cost to start with."""
        in_fold = tuple(max(density(points) * config.fold_m**2, 1.0) for points in points_m)
        none = np.zeros(len(PARTS))
        return ScanObjective(surface, points_m, floor_seen, config, in_fold, none, _FIRST_TOGETHER, start_scale_m)

    def matched(self, state: FitState) -> tuple[Matches, ...]:
        """The closest points of the body in every capture."""
        meshes = state.posed(self.surface.body).mesh()
        return tuple(self.surface.match(mesh, points) for mesh, points in zip(meshes, self.points_m, strict=True))

    def parts(self, matches: Matches) -> Int[np.ndarray, "n"]:
        """The part of the body that each point is on."""
        corner = matches.share.argmax(axis=1)
        vertex = self.surface.body.faces[matches.face_idx, corner]
        return part_of_vertex(self.surface.body)[vertex]

    def seen_around(self, matches: tuple[Matches, ...]) -> Bool[np.ndarray, "parts"]:
        """Whether the points of each part face all ways around the vertical, in all captures together."""
        part = np.concatenate([self.parts(m) for m in matches])
        total = np.zeros((len(PARTS), 2))
        np.add.at(total, part, np.concatenate([m.normal[:, :2] for m in matches]))
        mean = total / np.maximum(np.bincount(part, minlength=len(PARTS)), 1)[:, None]
        return np.linalg.norm(mean, axis=1) < _ONE_SIDED

    def losses(self, matches: Matches) -> PointLoss:
        """What the points of a capture cost, each by itself."""
        c = self.config
        if self.start_scale_m is not None:
            return even_loss(matches.distance_m, 0.2 * self.start_scale_m, self.start_scale_m)
        if not c.one_sided:
            return even_loss(matches.distance_m, c.sigma_m, 5 * c.sigma_m)
        return point_loss(matches.distance_m, c.sigma_m, c.cloth_m, self.dressed[self.parts(matches)])

    def counts(self, capture: int, matches: Matches) -> Float[np.ndarray, "n"]:
        """As how much of an independent point each counts."""
        if self.start_scale_m is not None or not self.config.one_sided:
            return np.full(len(matches.face_idx), 1 / self.together)
        share = self.dressed[self.parts(matches)]
        return 1 / (self.together * (1 - share) + max(self.in_fold[capture], self.together) * share)

    def linearise(self, state: FitState, *, standoff: bool = False) -> ArrowSystem:
        """Cost and normal equations at a state.

        Args:
            state: the state.
            standoff: whether what is common to all points of a part is left out of what the points tell, as far as
                sensors, clothes and the model may be off there. For covariances: of a common distance no point is a
                witness.
        """
        body, num_betas = self.surface.body, len(state.betas)
        system = ArrowSystem.zeros(len(state.R), state.num_unknowns, num_betas)
        cost = 0.5 * float(state.betas @ state.betas)
        for t, matches in enumerate(self.matched(state)):
            posed = body.with_shape(state.betas).with_rotations(state.R[t], state.transl[t])
            cost += self._add_points(system, t, posed, matches, standoff)
            if self.floor_seen[t]:
                residual, J = sole_residuals(posed)
                _add(system, t, J.T @ J, J.T @ residual)
                cost += 0.5 * float(residual @ residual)
        system.corner[:] += np.eye(num_betas)
        system.gradient_global[:] += state.betas
        return dataclasses.replace(system, cost=cost + add_pose_prior(system, state))

    def _add_points(self, system: ArrowSystem, t: int, posed: PosedBody, matches: Matches, standoff: bool) -> float:
        """What the points of a capture tell; returns their cost."""
        loss, count = self.losses(matches), self.counts(t, matches)
        J = -np.concatenate([matches.normal, *self.surface.slopes(posed, matches)], axis=1)
        weight = count * loss.curvature
        H = J.T @ (weight[:, None] * J)
        if standoff:
            H -= self._common(self.parts(matches), J, weight)
        _add(system, t, H, J.T @ (count * loss.slope))
        return float(loss.cost @ count)

    def _common(self, part: np.ndarray, J: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Information on a distance common to all points of a part, which is itself unknown (its Schur complement)."""
        c = self.config
        spread = np.where(self.dressed > 0.5, c.cloth_m / 2, np.where(np.arange(len(PARTS)) == 0, 0, c.snug_m))
        spread = spread + c.standoff_m
        each = np.zeros((len(PARTS), J.shape[1]))
        np.add.at(each, part, weight[:, None] * J)
        total = np.bincount(part, weight, minlength=len(PARTS)) + 1 / spread**2
        return each.T @ (each / total[:, None])


def density(points_m: Float[np.ndarray, "n 3"]) -> float:
    """Points per square metre of the surface that they lie on."""
    tree = KDTree(points_m)
    near = tree.query_ball_point(points_m[:: max(len(points_m) // 500, 1)], _DENSITY_RADIUS_M, return_length=True)
    return float(np.median(near)) / (np.pi * _DENSITY_RADIUS_M**2)


def _add(system: ArrowSystem, capture: int, H: np.ndarray, g: np.ndarray) -> None:
    """Adds the normal equations of one capture."""
    own, shared = np.split(np.arange(len(g)), [system.gradient.shape[1]])
    system.diagonal[capture] += H[np.ix_(own, own)]
    system.border[capture] += H[np.ix_(own, shared)]
    system.corner[:] += H[np.ix_(shared, shared)]
    system.gradient[capture] += g[own]
    system.gradient_global[:] += g[shared]
