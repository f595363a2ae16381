"""SMPL fitted to point clouds of a person in an A-pose: one shape, and a pose for every capture.

Damped Gauss-Newton (`fitting.solver`) on the distances of the points before the model's surface, matched anew at every
step. Every point of a scan has to be explained and the model may have more than was scanned, so half a body, seen by
one camera, is enough. Which parts are dressed is found with the fit: a person is bare until points spread as those of
skin do not. Points err together, too: sensors, clothes and the model are off by the same amount over some centimetres.
On bare skin the residuals tell how much, and there the points count as so many fewer, against the priors and in the
covariance; clothes count by the fold.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from core.arrays import Float
from fitting.body_kinds import SMPL
from fitting.objective import FitState
from fitting.scan_loss import PointLoss
from fitting.scan_objective import ScanLossConfig, ScanObjective
from fitting.scan_parts import PARTS
from fitting.scan_person import PersonCloud
from fitting.scan_pose import A_POSE, upright
from fitting.smpl import BodyModel
from fitting.solver import Minimum, SolverConfig, factorise, marginals, minimise
from fitting.surface import Matches, Surface

_BARE, _DRESSED = 0.02, 0.99  # share of a part's points on clothes; both may be wrong about single points
_EVEN = 1.3  # times the least spread of any part; clothes of 2 cm spread by 3 to 10 mm, skin by what a sensor errs
_LEAST_SPREAD = 0.4  # sigmas: what the model cannot follow of a body
_LEAST_POINTS = 30
_CLOTHES = ("trunk", "upper arms", "thighs")  # parts that are dressed together
_PATCH_M = 0.08  # points so near each other are taken to err together; the errors of sensors are smaller
_NUM_HEADINGS = 8
_FEW, _FEW_TOGETHER = 600, 2.0  # points of a capture by which headings are compared
_START_SCALE_M = (0.1, 0.05)  # of an even loss: of each heading, of all captures together
_ROUGH = (SolverConfig(6, 3e-2, 1e-2), SolverConfig(8, 1e-2, 1e-3))  # of each heading, of all captures together
_FINE = SolverConfig(25, 1e-4, 1e-3)


@dataclass(frozen=True, eq=False)
class ScanFit:
    """A person as scans show them.

    Attributes:
        state: a pose for each capture, and the shape.
        covariance: of the betas.
        matches: of each capture's points.
        loss: of each capture's points.
        parts: part of the body of each capture's points (`scan_parts.PARTS`).
        dressed: share of the points of each part that lie on clothes or hair.
        together: how many points on bare skin count as one.
        converged: whether the last iteration ended by itself.
    """

    state: FitState
    covariance: Float[np.ndarray, "betas betas"]
    matches: tuple[Matches, ...]
    loss: tuple[PointLoss, ...]
    parts: tuple[np.ndarray, ...]
    dressed: Float[np.ndarray, "parts"]
    together: float
    converged: bool


def fit_scans(body: BodyModel, people: Sequence[PersonCloud], config: ScanLossConfig) -> ScanFit:
    """Shape and poses from the points of one capture or several.

    Args:
        body: an SMPL model.
        people: points of each capture.
        config: how they are believed.
    """
    surface = Surface(body.require(SMPL, "the fit of scans"))
    starts = [start_of(surface, person, config).state for person in people]
    state = FitState(
        np.concatenate([start.R for start in starts]),
        np.concatenate([start.transl for start in starts]),
        np.mean([start.betas for start in starts], axis=0),
    )
    points, floors = tuple(p.points_m for p in people), tuple(p.floor_seen for p in people)
    objective = ScanObjective.of(surface, points, floors, config, _START_SCALE_M[1])
    state = minimise(state, objective.linearise, FitState.retract, _ROUGH[1]).state
    objective = dataclasses.replace(objective, start_scale_m=None, dressed=first_dressed(objective, state))
    for _ in PARTS:
        state = minimise(state, objective.linearise, FitState.retract, _FINE).state
        before = objective.dressed
        objective = dataclasses.replace(objective, dressed=also_dressed(objective, state))
        objective = dataclasses.replace(objective, together=erring_together(objective, state))
        if (objective.dressed == before).all():
            break
    return _result(objective, minimise(state, objective.linearise, FitState.retract, _FINE))


def _result(objective: ScanObjective, found: Minimum[FitState]) -> ScanFit:
    """The fit with its covariance."""
    state, matches = found.state, objective.matched(found.state)
    _, _, covariance = marginals(factorise(objective.linearise(state, standoff=True)))
    loss, parts = tuple(objective.losses(m) for m in matches), tuple(objective.parts(m) for m in matches)
    return ScanFit(state, covariance, matches, loss, parts, objective.dressed, objective.together, found.converged)


def first_dressed(objective: ScanObjective, state: FitState) -> Float[np.ndarray, "parts"]:
    """Share of each part's points on clothes to begin with: the person is taken to be bare where that can be told.

    A head with hair looks like a larger one and a shoe like a larger foot; and of a part that was seen from one side
    alone nobody can tell, as pose makes up for thickness.
    """
    bare = objective.seen_around(objective.matched(state))
    bare[[PARTS.index("head"), PARTS.index("feet")]] = False
    bare[0] = True
    return np.where(bare, _BARE, _DRESSED)


def also_dressed(objective: ScanObjective, state: FitState) -> Float[np.ndarray, "parts"]:
    """The same, with the part dressed that is least like skin, if there is one.

    Clothes do not lie evenly: fitted as if they were skin, their distances from the model spread more than those of
    what is bare, whatever the sensor. They spoil the fit of their neighbours too, so it is one part at a time. Who
    wears anything is taken to wear it on trunk, upper arms and thighs: bare parts that are taken for dressed cost
    certainty, dressed ones that are taken for bare cost the truth.
    """
    matches = objective.matched(state)
    part = np.concatenate([objective.parts(m) for m in matches])
    distance = np.concatenate([m.distance_m for m in matches])
    spread = np.array([_spread(distance[part == k]) for k in range(len(PARTS))])
    bare = (objective.dressed < 0.5) & np.isfinite(spread)
    least = max(np.min(spread[bare], initial=np.inf), _LEAST_SPREAD * objective.config.sigma_m)
    bare[0] = False
    worst = np.argmax(np.where(bare, spread, 0.0))
    dressed = objective.dressed.copy()
    if bare[worst] and spread[worst] > _EVEN * least:
        dressed[[int(worst), *map(PARTS.index, _CLOTHES)]] = _DRESSED
    return dressed


def _spread(values: np.ndarray) -> float:
    """Standard deviation that a few others do not touch; of too few points nothing is known."""
    if len(values) < _LEAST_POINTS:
        return np.nan
    return 1.4826 * float(np.median(np.abs(values - np.median(values))))


def erring_together(objective: ScanObjective, state: FitState) -> float:
    """How many points on bare skin count as one: the variance of summed pulls of neighbours, over what it should be.

    For independent points of the stated noise the variance of their summed slopes is the sum of their curvatures (the
    information identity; Huber 1981, section 6.3), of points that err together it is larger. The fit spends its
    unknowns on making those sums small, which enlarges what is left of them.
    """
    total, expected, patches = 0.0, 0.0, 0
    for points, matches in zip(objective.points_m, objective.matched(state), strict=True):
        loss, bare = objective.losses(matches), objective.dressed[objective.parts(matches)] < 0.5
        if not objective.config.one_sided:
            bare = np.ones(len(points), dtype=bool)
        cells = np.floor(points[bare] / _PATCH_M).astype(int)
        _, patch = np.unique(cells, axis=0, return_inverse=True)
        pulls = np.bincount(patch.ravel(), loss.slope[bare])
        total += float((pulls**2).sum())
        expected += float(loss.curvature[bare].sum())
        patches += len(pulls)
    spent = min(len(state.betas) + 25 * len(state.R), patches // 2)
    return max(total / max(expected, 1e-9) * patches / max(patches - spent, 1), 1.0)


def start_of(surface: Surface, person: PersonCloud, config: ScanLossConfig) -> Minimum[FitState]:
    """The heading, of eight, that fits a capture best after a few steps."""
    few = person.points_m[:: max(len(person.points_m) // _FEW, 1)]
    objective = ScanObjective.of(surface, (few,), (person.floor_seen,), config, _START_SCALE_M[0])
    objective = dataclasses.replace(objective, together=_FEW_TOGETHER)
    ends = [
        minimise(_standing(surface.body, few, heading), objective.linearise, FitState.retract, _ROUGH[0])
        for heading in 2 * np.pi / _NUM_HEADINGS * np.arange(_NUM_HEADINGS)
    ]
    return min(ends, key=lambda end: end.costs[-1])


def _standing(body: BodyModel, points_m: np.ndarray, heading: float) -> FitState:
    """The A-pose on the spot, with the most probable betas of this height."""
    R = upright(np.array(A_POSE), heading)
    crown, heel = body.kind.vertex_ids["head_top"], body.kind.vertex_ids["left_heel"]
    by_betas = body.shapedirs[crown, 1, : body.num_betas] - body.shapedirs[heel, 1, : body.num_betas]
    missing = np.quantile(points_m[:, 2], 0.999) - np.ptp(body.v_template[:, 1])
    betas = np.clip(missing * by_betas / (by_betas @ by_betas), -3, 3)
    mesh = body.with_shape(betas).with_rotations(R, np.zeros(3)).mesh()
    low, high = np.quantile(points_m, 0.02, axis=0), np.quantile(points_m, 0.98, axis=0)
    middle = (low + high)[:2] / 2 - (mesh.min(axis=0) + mesh.max(axis=0))[:2] / 2
    return FitState(R[None], np.array([[*middle, -mesh[:, 2].min()]]), betas)
