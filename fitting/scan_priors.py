"""What is known of somebody who stands for a scan, besides its points: the A-pose, and soles on the floor."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from core.arrays import Float
from fitting.fit_model import SOLES, points_of_soles
from fitting.landmarks import Landmarks
from fitting.objective import FitState
from fitting.prior import pose_prior
from fitting.residuals import limit_term, rest_term
from fitting.scan_pose import A_POSE, a_pose_spread
from fitting.smpl import BodyModel, PosedBody
from fitting.solver import ArrowSystem

_LIMIT_SIGMA_RAD = 0.05
# Soles are on the floor or up to two centimetres of shoe above it, and one foot may be lifted a little
_SOLE_M, _SOLE_SIGMA_M = 0.01, 0.014


def add_pose_prior(system: ArrowSystem, state: FitState) -> float:
    """People stand as they were asked to, within the ranges of their joints; returns the cost."""
    prior = pose_prior()
    term = rest_term(state.R[:, 1:], A_POSE[1:], a_pose_spread())
    term = term + limit_term(state.R[:, 1:], prior.low[1:], prior.high[1:], _LIMIT_SIGMA_RAD)
    for joint in range(1, state.R.shape[1]):
        at = slice(3 + 3 * joint, 6 + 3 * joint)
        system.diagonal[:, at, at] += term.hessian[:, joint - 1]
        system.gradient[:, at] += term.gradient[:, joint - 1]
    return term.cost


def sole_residuals(posed: PosedBody) -> tuple[Float[np.ndarray, "2"], Float[np.ndarray, "2 unknowns"]]:
    """How far both soles are from where soles stand on a floor at z = 0, in standard deviations, and derivatives.

    Args:
        posed: the body in one pose; unknowns are its translation, its turns and its betas.
    """
    linear = _soles(posed.shaped.body).linearise(posed)
    up = np.broadcast_to([0.0, 0.0, 1.0], (len(SOLES), 3))
    slopes = np.concatenate([up, linear.by_pose[:, 2], linear.by_betas[:, 2]], axis=1)
    left = np.array([name.startswith("left") for name in SOLES])
    height = np.stack([linear.positions[side, 2].mean() for side in (left, ~left)])
    J = np.stack([slopes[side].mean(axis=0) for side in (left, ~left)])
    return (height - _SOLE_M) / _SOLE_SIGMA_M, J / _SOLE_SIGMA_M


@lru_cache(maxsize=4)
def _soles(body: BodyModel) -> Landmarks:
    return points_of_soles(body)
