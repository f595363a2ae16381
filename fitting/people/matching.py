"""Which detection is which person, and where the person then is.

A person stands in the room as joints; a detection is a bundle of rays. They fit by the score-weighted mean of their
joints' distances, each capped, which outliers move little and which needs no sorting. A detector that mixes up left and
right may do so joint by joint, at a price: people who embrace are each other's mirror image.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from core.arrays import Bool, Float, Int
from fitting.people.sightings import Sight

CAP_M = 0.6  # a joint farther off than this is wrong by whatever amount
_MIRROR_M = 0.1  # what a joint must gain by being taken from the other side
_SCALE_M = 0.15  # of Cauchy's loss: limbs are predicted to within so much
_HOLD = 0.02  # weight of a joint's predicted place among rays of weight 1; it decides only along what nobody sees
_HOLD_WHOLE = 0.1  # the same of the whole body: a picture's size says too little of the depth to follow it at once
_ROUNDS = 3
_REACH_M, _FAR_BETTER = 1.5, 0.7  # people so far apart do not take each other's; share of the misfit that is left
_STAY = 0.1  # what being a metre from where somebody was expected counts beside a metre of misfit


def misfit_m(
    xyz_m: Float[np.ndarray, "b1 tracks joints 3"],
    trust: Float[np.ndarray, "b2 tracks joints"],
    centre: Float[np.ndarray, "b3 t3 3"],
    sight: Sight,
    swap: Int[np.ndarray, "joints"],
) -> Float[np.ndarray, "batch tracks people"]:
    """How far detections are from people, metres, at most `CAP_M`; infinite where they share no joint.

    Args:
        xyz_m: joints of people, for each of the batch or for all; NaN for people who are not there.
        trust: 0 to 1, how well each joint is known, the same for both sides of the body.
        centre: where the rays begin, for all people or for each: the same camera moves against one who has moved since.
        sight: the detections.
        swap: the permutation that exchanges left and right.
    """
    away = xyz_m - centre[:, :, None]
    towards = np.ascontiguousarray(away.transpose(0, 2, 3, 1))  # b joints 3 tracks
    length2 = (towards * towards).sum(axis=2)[:, :, None]
    direction = np.ascontiguousarray(sight.direction.transpose(0, 2, 1, 3))  # batch joints people 3
    weight = sight.weight.transpose(0, 2, 1)[..., None]
    known = trust.transpose(0, 2, 1)[:, :, None]
    own = _capped(direction, towards, length2)
    other = _capped(direction[:, swap], towards, length2) + _MIRROR_M
    own_cost, other_cost = weight * known * own, weight[:, swap] * known * other
    cost = np.minimum(own_cost + own_cost[:, swap], other_cost + other_cost[:, swap]).sum(axis=1) / 2
    total = (weight * known).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        misfit = cost / total
    return np.where((total > 0.1) & np.isfinite(misfit), misfit, np.inf).transpose(0, 2, 1)


def _capped(direction: np.ndarray, towards: np.ndarray, length2: np.ndarray) -> np.ndarray:
    """Distances (b, joints, people, tracks) of points from rays; the cap where the ray leads away from the point."""
    along = np.matmul(direction, towards)
    off = np.sqrt(np.maximum(length2 - along * along, 0.0))
    return np.where(along > 0, np.minimum(off, CAP_M), np.where(np.isnan(along), np.nan, CAP_M))


def assign(
    misfit: Float[np.ndarray, "batch tracks people"], gate_m: Float[np.ndarray, "tracks"] | float
) -> Int[np.ndarray, "batch tracks"]:
    """The detection of each person: none for two, and the least misfit in all; -1 where none passes the gate."""
    if not misfit.shape[2]:
        return np.full(misfit.shape[:2], -1)
    gate = np.broadcast_to(np.asarray(gate_m, float), misfit.shape[1:2])[:, None]
    good = misfit < gate
    best = np.where(good, misfit, np.inf).argmin(axis=2)
    who = np.where(good.any(axis=2), best, -1)
    # most instants leave no choice; only the others need solving
    contested = (good.sum(axis=1) > 1).any(axis=1) | (good.sum(axis=2) > 1).any(axis=1)
    for b in np.flatnonzero(contested):
        # what does not fit costs the gate, so that a bad pair never displaces a good one
        track, person = linear_sum_assignment(np.where(good[b], misfit[b], gate))
        fits = good[b, track, person]
        who[b] = -1
        who[b, track[fits]] = person[fits]
    return who


class Met(NamedTuple):
    """Where people's rays meet.

    Attributes:
        xyz_m: (tracks, joints, 3) the joints.
        views: (tracks, joints) how many views saw each.
        misfit_m: (tracks,) mean distance of the rays from the joints, each capped; 0 where there are none.
        misfits_m: (views, tracks) the same of each view.
    """

    xyz_m: np.ndarray
    views: np.ndarray
    misfit_m: np.ndarray
    misfits_m: np.ndarray


def meet(
    xyz_m: Float[np.ndarray, "tracks joints 3"],
    trust: Float[np.ndarray, "tracks joints"],
    centre: Float[np.ndarray, "views t 3"],
    sight: Sight,
    who: Int[np.ndarray, "views tracks"],
    swap: Int[np.ndarray, "joints"],
) -> Met:
    """Moves people to where the rays of their detections meet.

    First each person moves as a whole, then every joint by itself, by reweighted least squares under Cauchy's loss. A
    predicted joint counts a little, so that one view moves a person across its rays, and hardly in depth.

    Args:
        xyz_m: predicted joints.
        trust: 0 to 1, how well each joint was known.
        centre: where the rays begin, as in `misfit_m`.
        sight: the detections of one instant.
        who: the detection of each person in each view; -1 where there is none.
        swap: the permutation that exchanges left and right.
    """
    view = np.arange(len(who))[:, None]
    found = who >= 0
    pick = np.where(found, who, 0)
    direction, weight = sight.direction[view, pick], sight.weight[view, pick] * found[..., None]
    direction, weight = _sides_set_right(xyz_m, trust, centre, direction, weight, swap)
    hold = (_HOLD * trust + 1e-4)[..., None, None] * np.eye(3)
    here = xyz_m
    for number in range(_ROUNDS):
        away = centre[:, :, None] - here
        off = away - direction * (away * direction).sum(axis=-1, keepdims=True)
        # a joint that nobody knew yet may come from anywhere
        loss = (off * off).sum(axis=-1) * trust / _SCALE_M**2
        w = weight / (1 + loss)
        rays = direction.reshape(len(who), -1, 3)
        outer = np.einsum("vn,vna,vnb->nab", w.reshape(len(who), -1), rays, rays).reshape(*here.shape, 3)
        A = w.sum(axis=0)[..., None, None] * np.eye(3) - outer
        b = (w[..., None] * off).sum(axis=0)
        if number == 0:
            whole = A.sum(axis=1) + (1e-6 + _HOLD_WHOLE * w.sum(axis=(0, 2)))[:, None, None] * np.eye(3)
            here = here + np.linalg.solve(whole, b.sum(axis=1)[..., None])[:, None, :, 0]
            held = here
        else:
            here = here + np.linalg.solve(A + hold, (b + hold[..., 0, :1] * (held - here))[..., None])[..., 0]
    away = centre[:, :, None] - here
    off = away - direction * (away * direction).sum(axis=-1, keepdims=True)
    capped = np.minimum(np.sqrt((off * off).sum(axis=-1)), CAP_M)
    total, misfit = (weight * trust).sum(axis=-1), (weight * trust * capped).sum(axis=-1)
    return Met(
        here,
        (weight > 0).sum(axis=0),
        misfit.sum(axis=0) / np.maximum(total.sum(axis=0), 1e-9),
        misfit / np.maximum(total, 1e-9),
    )


def disentangled(
    met: Met,
    xyz_m: Float[np.ndarray, "tracks joints 3"],
    trust: Float[np.ndarray, "tracks joints"],
    centre: Float[np.ndarray, "views tracks 3"],
    sight: Sight,
    who: Int[np.ndarray, "views tracks"],
    swap: Int[np.ndarray, "joints"],
    doubt_m: float,
) -> tuple[Met, Int[np.ndarray, "views tracks"]]:
    """Gives two people back what they took from each other in a view, where the rays then meet far better.

    Once a person was moved by another's detection that one fits, so it stays wrong until two are judged together.

    Args:
        met: where the rays of `who` meet.
        doubt_m: only people of a larger misfit are looked at.
        xyz_m, trust, centre, sight, who, swap: as in `meet`.
    """
    met, who = Met(*(values.copy() for values in met)), who.copy()
    for pair in itertools.combinations(np.flatnonzero(met.misfit_m > doubt_m), 2):
        two = np.array(pair)
        if np.linalg.norm(met.xyz_m[two[0]] - met.xyz_m[two[1]], axis=-1).min() > _REACH_M:
            continue
        odd = (who[:, two] >= 0).all(axis=1) & (met.misfits_m[:, two].mean(axis=1) > doubt_m)
        tries: list[tuple[float, np.ndarray, Met]] = []
        for view in np.flatnonzero(odd):
            other = who[:, two].copy()
            other[view] = other[view, ::-1]
            tried = meet(xyz_m[two], trust[two], centre[:, two], sight, other, swap)
            if tried.misfit_m.sum() < _FAR_BETTER * met.misfit_m[two].sum():
                # of two views it makes no difference which is turned, but for who then is where
                moved = float(np.linalg.norm(tried.xyz_m - xyz_m[two], axis=-1).mean())
                tries.append((float(tried.misfit_m.sum()) + _STAY * moved, other, tried))
        if tries:
            _, who[:, two], best = min(tries, key=lambda each: each[0])
            met.misfits_m[:, two] = best.misfits_m
            for values, new in zip(met[:3], best[:3], strict=True):
                values[two] = new
    return met, who


def _sides_set_right(
    xyz_m: np.ndarray, trust: np.ndarray, centre: np.ndarray, direction: np.ndarray, weight: np.ndarray,
    swap: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Rays (views, tracks, joints, 3) and weights with pairs exchanged that fit the other way round."""
    away = centre[:, :, None] - xyz_m

    def cost(direction: np.ndarray, weight: np.ndarray) -> np.ndarray:
        off = away - direction * (away * direction).sum(axis=-1, keepdims=True)
        each = weight * trust * np.minimum(np.sqrt((off * off).sum(axis=-1)), CAP_M)
        return np.asarray(each + each[..., swap])

    mirrored, mirrored_weight = direction[:, :, swap], weight[:, :, swap]
    price = _MIRROR_M * trust * (weight + mirrored_weight)
    exchanged = cost(mirrored, mirrored_weight) + price < cost(direction, weight)
    return np.where(exchanged[..., None], mirrored, direction), np.where(exchanged, mirrored_weight, weight)


def mirrored_trust(known: Bool[np.ndarray, "*n joints"], swap: Int[np.ndarray, "joints"]) -> np.ndarray:
    """Trust of joints, 1 where both sides are known: left and right are only ever judged together."""
    return np.asarray((known & known[..., swap]).astype(float))
