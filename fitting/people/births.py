"""People nobody knew before: groups of detections, one a view, whose rays meet in one plausible body.

Every pair of detections in two views proposes a person where its rays come closest. Each proposal is judged by all
views at once, the best supported one takes its detections, and the rest are judged again: so a group is consistent all
round, not only pair by pair, and a detection that two people claim goes to the one whom more views confirm.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from core.arrays import Bool, Float
from core.skeletons import Skeleton
from fitting.people.matching import CAP_M, meet, mirrored_trust, misfit_m
from fitting.people.sightings import Sight

_MIN_JOINTS = 3  # that several views see of somebody nobody knew
_MAX_PROPOSALS = 80
_MIN_SINE = 0.05  # of the angle between two rays that say where they meet: 3 degrees
_NEAR_M = 0.2  # nobody stands closer to a camera
# typical lengths in metres of an adult of 1.7 m (Drillis and Contini 1966, in Winter 2009, figure 4.1), and what
# children and tall people make of them
_BONES_M = {
    ("hip", "knee"): 0.42, ("knee", "ankle"): 0.42, ("shoulder", "elbow"): 0.32, ("elbow", "wrist"): 0.25,
    ("shoulder", "hip"): 0.49,
}  # fmt: skip
_SIZES = (0.5, 1.4)


class Newcomer(NamedTuple):
    """A group of detections: which in each view (views,), -1 for none; its joints (joints, 3), NaN where unknown.

    `misfit_m` is how far the detections are from these joints, the mean.
    """

    who: np.ndarray
    xyz_m: np.ndarray
    misfit_m: float


def newcomers(
    sight: Sight,
    free: Bool[np.ndarray, "views people"],
    centre: Float[np.ndarray, "views 3"],
    body: Skeleton,
    max_misfit_m: float,
) -> list[Newcomer]:
    """Groups of free detections that are people, the best supported first.

    Args:
        sight: all detections of one instant.
        free: which of them may be taken.
        centre: of each view.
        body: names of the joints.
        max_misfit_m: how far the detections of a group may be from its person.
    """
    proposals = _proposals(sight, free, centre, body, max_misfit_m)
    if not len(proposals):
        return []
    swap = body.swap_idx
    known = np.isfinite(proposals[..., 0])
    trust = mirrored_trust(known, swap)
    filled = np.where(known[..., None], proposals, 0.0)
    misfit = misfit_m(filled[None], trust[None], centre[:, None], sight, swap)
    groups: list[Newcomer] = []
    free = free.copy()
    while True:
        fit = np.where(free[:, None], misfit, np.inf)
        support = np.maximum(1 - fit.min(axis=2, initial=np.inf) / max_misfit_m, 0.0)
        support[:, (support > 0).sum(axis=0) < 2] = 0.0
        best = int(support.sum(axis=0).argmax())
        who = np.where(support[:, best] > 0, fit[:, best].argmin(axis=1), -1)
        if (who >= 0).sum() < 2:
            return groups
        group = _settled(proposals[best], trust[best], sight, who, centre, swap)
        if np.isfinite(group.xyz_m[:, 0]).sum() >= _MIN_JOINTS and is_human(group.xyz_m, body):
            groups.append(group)
        free[np.flatnonzero(who >= 0), who[who >= 0]] = False


def _settled(
    joints: np.ndarray, trust: np.ndarray, sight: Sight, who: np.ndarray, centre: np.ndarray, swap: np.ndarray
) -> Newcomer:
    """A proposal with its joints where the rays of all its views meet; NaN where fewer than two see them."""
    start = np.where(np.isfinite(joints), joints, np.nanmean(joints, axis=0))
    met = meet(start[None], trust[None], centre[:, None], sight, who[:, None], swap)
    return Newcomer(who, np.where(met.views[0, :, None] >= 2, met.xyz_m[0], np.nan), float(met.misfit_m[0]))


def _proposals(
    sight: Sight, free: np.ndarray, centre: np.ndarray, body: Skeleton, max_misfit_m: float
) -> Float[np.ndarray, "proposals joints 3"]:
    """People at the meeting places of all pairs of free detections that agree, the best first; NaN where unknown."""
    view, person = np.nonzero(free & (sight.weight > 0).any(axis=-1))
    one, two = np.triu_indices(len(view), 1)
    across = view[one] != view[two]
    one, two = one[across], two[across]
    if not len(one):
        return np.zeros((0, len(body), 3))
    ray, weight = sight.direction[view, person], sight.weight[view, person]
    r1, r2 = ray[one], ray[two]
    base = (centre[view[two]] - centre[view[one]])[:, None]
    normal = np.cross(r1, r2)
    sine2 = (normal * normal).sum(axis=-1)
    seen = (weight[one] > 0) & (weight[two] > 0) & (sine2 > _MIN_SINE**2)
    sine2 = np.where(seen, sine2, 1.0)
    gap = np.abs((base * normal).sum(axis=-1)) / np.sqrt(sine2)
    depth1 = (np.cross(base, r2) * normal).sum(axis=-1) / sine2
    depth2 = (np.cross(base, r1) * normal).sum(axis=-1) / sine2
    behind = (depth1 < _NEAR_M) | (depth2 < _NEAR_M)
    gap = np.where(behind, CAP_M, np.minimum(gap, CAP_M))
    w = np.where(seen, np.sqrt(weight[one] * weight[two]), 0.0)
    cost = (w * gap).sum(axis=-1) / np.maximum(w.sum(axis=-1), 1e-9)
    middle = (centre[view[one], None] + depth1[..., None] * r1 + centre[view[two], None] + depth2[..., None] * r2) / 2
    middle = np.where((seen & ~behind)[..., None], middle, np.nan)
    good = (cost < max_misfit_m) & (seen.sum(axis=-1) >= _MIN_JOINTS) & is_human(middle, body)
    order = np.flatnonzero(good)[np.argsort(cost[good], kind="stable")[:_MAX_PROPOSALS]]
    return np.asarray(middle[order])


def is_human(xyz_m: Float[np.ndarray, "*n joints 3"], body: Skeleton) -> Bool[np.ndarray, "*n"]:
    """Whether bodies are of a human size by the median of the bones that are known; who shows no bone passes."""
    ratios = []
    for (upper, lower), typical in _BONES_M.items():
        for side in ("left", "right"):
            if f"{side}_{upper}" in body.joints and f"{side}_{lower}" in body.joints:
                bone = xyz_m[..., body.idx(f"{side}_{upper}"), :] - xyz_m[..., body.idx(f"{side}_{lower}"), :]
                ratios.append(np.linalg.norm(bone, axis=-1) / typical)
    ratio = np.stack(ratios, axis=-1)
    known = np.isfinite(ratio).sum(axis=-1, keepdims=True)
    ordered = np.sort(ratio, axis=-1)  # NaN last
    middle = np.take_along_axis(ordered, np.maximum((known - 1) // 2, 0), axis=-1)
    return np.asarray(((middle > _SIZES[0]) & (middle < _SIZES[1]) | (known == 0))[..., 0])
