"""Whom a group of detections shows: somebody new, somebody lost, or somebody who was mistaken for another.

People who are followed keep their detections only as long as these are beyond doubt. What one view alone says, or
several that hardly agree, is grouped afresh with what is nobody's; so a track that took another's detection while two
people passed each other, or whose depth drifted while one view saw it, is set right as soon as views agree again.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from core.arrays import Bool, Int
from core.skeletons import Skeleton
from fitting.people.alive import Alive
from fitting.people.births import Newcomer, newcomers
from fitting.people.sightings import Sight

_DOUBT, _NOBODY = 2.0, 4.0  # of the usual misfit: views that agree no better may show two people; do show nobody
_LEAST_M = 0.02  # the usual misfit is taken for no less
_BETTER = 0.6  # of the misfit in doubt: what a group must not exceed to take its detections
_SAME_M = 0.2  # two people are never closer than this, joint by joint
_AGAIN_M, _AGAIN_M_S = 0.4, 1.2  # how near somebody must be who is found again, and for each second since


def doubtful(alive: Alive, who: Int[np.ndarray, "views people"], usual_m: float) -> Bool[np.ndarray, "people"]:
    """About whom several views agree far worse than they usually do."""
    return np.asarray(((who >= 0).sum(axis=0) > 1) & (alive.misfit_m > _DOUBT * max(usual_m, _LEAST_M)))


def regrouped(
    alive: Alive,
    who: Int[np.ndarray, "views people"],
    sight: Sight,
    body: Skeleton,
    max_misfit_m: float,
    usual_m: float,
) -> tuple[Alive, Int[np.ndarray, "views people"], list[Newcomer]]:
    """Groups afresh what is nobody's or in doubt, and finds people again by that.

    Args:
        alive: everybody who is followed, at this instant.
        who: the detection of each in every view; -1 for none.
        sight: the detections.
        body: names of the joints.
        max_misfit_m: how far a detection may be from its person.
        usual_m: how far the detections of one person usually are from it; infinite where that is not known yet.

    Returns:
        everybody, their detections, and the groups that show nobody known.
    """
    seen_by, doubted = (who >= 0).sum(axis=0), doubtful(alive, who, usual_m)
    present = np.asarray((sight.weight > 0).any(axis=-1))
    nobodys, free = (_without(present, who[:, rows]) for rows in (seen_by > 0, (seen_by > 1) & ~doubted))
    new: list[Newcomer] = []
    if free.any(axis=1).sum() < 2:
        return alive, who, new
    for group in newcomers(sight, free, sight.centre, body, max_misfit_m):
        claimed = (who == group.who[:, None]) & (who >= 0)
        claimants = claimed.any(axis=0)
        size = (group.who >= 0).sum()
        if group.misfit_m > (_DOUBT if claimants.any() else _NOBODY) * max(usual_m, _LEAST_M):
            continue
        robbed = claimants & doubted
        if (group.misfit_m > _BETTER * alive.misfit_m[robbed]).any() or (size < seen_by[robbed] - 1).any():
            continue
        distance = _distance_m(alive, group)
        if ((distance < _SAME_M) & ~claimants & ((who >= 0).sum(axis=0) > 1)).any():
            continue  # a second detection of somebody
        nearness = distance / (_AGAIN_M + _AGAIN_M_S * np.maximum(alive.alone_s, alive.doubt_s))
        nearness[~claimants & (who >= 0).any(axis=0)] = np.inf
        if nearness.min(initial=np.inf) < 1:
            known = int(nearness.argmin())
            alive = alive.with_row(known, _found(alive, known, group, body))
            who = np.where(claimed, -1, who)
            who[:, known] = group.who
            doubted[known] = False
        elif nobodys[np.flatnonzero(group.who >= 0), group.who[group.who >= 0]].sum() > 1:
            who = np.where(claimed, -1, who)
            new.append(group)
    return alive, who, new


def _without(present: np.ndarray, who: np.ndarray) -> np.ndarray:
    """The detections (views, people) that none of these people (views, k) has."""
    view, row = np.nonzero(who >= 0)
    rest = present.copy()
    rest[view, who[view, row]] = False
    return rest


def _distance_m(alive: Alive, group: Newcomer) -> np.ndarray:
    """Mean distance of everybody's joints from a group's."""
    known = np.isfinite(group.xyz_m[:, 0])
    weight = (alive.trust + 1e-6) * known
    off = np.linalg.norm(alive.xyz_m - np.where(known[:, None], group.xyz_m, 0.0), axis=-1)
    return np.asarray((weight * off).sum(axis=1) / weight.sum(axis=1))


def _found(alive: Alive, row: int, group: Newcomer, body: Skeleton) -> Alive:
    """The state of somebody found again in a group; the speed stays if the place was not wrong."""
    state = Alive.born(int(alive.id[row]), group.xyz_m, group.misfit_m, body.swap_idx)
    near = _distance_m(alive, group)[row] < _SAME_M
    speed = alive.speed_m_s[row] if near else np.zeros(3)
    return dataclasses.replace(state, age=alive.age[row : row + 1] + 1, speed_m_s=speed[None])
