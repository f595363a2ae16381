"""Whether somebody who walked out is the one who came in later: by size, place and time, if these leave one answer."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from core.arrays import Float
from fitting.people.tracks import Track

_SPREAD = 0.03  # of one person's bones between two tracks: detectors place joints differently in other poses
_INDEPENDENT = 5  # instants a detector's error lasts
_SIZE_LIMIT = 0.06  # largest difference of two sizes that may be one person's
_WALK_M, _WALK_M_S = 0.5, 1.5  # how far somebody gets unseen
_LIMIT, _MARGIN = 6.0, 2.0  # of the cost of a join, and of the next best one above it; chi-squares of two freedoms
_BONES = (
    ("left_hip", "left_knee"), ("left_knee", "left_ankle"), ("left_shoulder", "left_elbow"),
    ("left_elbow", "left_wrist"), ("left_shoulder", "left_hip"), ("left_shoulder", "right_shoulder"),
    ("left_hip", "right_hip"),
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Piece:
    """What of a track tells whether another continues it.

    Attributes:
        span_s: when it begins and ends.
        sure_s: the first and the last time that two views saw the person.
        places_m: (2, 2) where on the floor that was.
        size: (bones,) logarithms of the lengths of bones; NaN where not seen.
        variance: (bones,) of these.
    """

    span_s: tuple[float, float]
    sure_s: tuple[float, float]
    places_m: Float[np.ndarray, "2 2"]
    size: Float[np.ndarray, "bones"]
    variance: Float[np.ndarray, "bones"]

    @staticmethod
    def of(track: Track) -> _Piece:
        first, last = (float(t) for t in track.t_s[track.sure])
        size, variance = _size(track)
        places = track.places_m[track.sure, :2]
        return _Piece((float(track.t_s[0]), float(track.t_s[-1])), (first, last), places, size, variance)

    def cost_of(self, after: _Piece, max_absence_s: float) -> float:
        """How badly a later piece continues this one; infinite where it cannot."""
        away_s = after.sure_s[0] - self.sure_s[1]
        if not 0 < away_s <= max_absence_s:
            return np.inf
        both = np.isfinite(self.size) & np.isfinite(after.size)
        if not both.any():
            return np.inf
        weight = 1 / (self.variance + after.variance)[both]
        differs = float((weight * (self.size - after.size)[both]).sum() / weight.sum())
        gap_m = float(np.linalg.norm(after.places_m[0] - self.places_m[1]))
        reach = _WALK_M + _WALK_M_S * away_s
        if abs(differs) > _SIZE_LIMIT + 2 / np.sqrt(weight.sum()) or gap_m > 2 * reach:
            return np.inf
        return differs**2 / (1 / float(weight.sum()) + _SPREAD**2) + (gap_m / reach) ** 2

    def is_beside(self, other: _Piece) -> bool:
        """Whether both were there at some time."""
        return other.span_s[0] <= self.span_s[1] and other.span_s[1] >= self.span_s[0]


def rejoined(tracks: Sequence[Track], max_absence_s: float) -> list[Track]:
    """Joins tracks of one person who walked out and came back, where size, place and time leave one answer.

    Args:
        tracks: in the order in which they begin.
        max_absence_s: how long somebody may have been away; 0 joins nothing.

    Returns:
        the people, numbered from 0 in the order in which they first appear.
    """
    pieces = [_Piece.of(track) for track in tracks]
    chains: list[list[int]] = []
    for new, piece in enumerate(pieces):
        costs = np.array([pieces[chain[-1]].cost_of(piece, max_absence_s) for chain in chains])
        best = int(costs.argmin()) if len(costs) else -1
        if best < 0 or costs[best] > _LIMIT or _is_contested(pieces, chains[best][-1], new, costs, max_absence_s):
            chains.append([new])
        else:
            chains[best].append(new)
    people = []
    for number, chain in enumerate(chains):
        person = tracks[chain[0]]
        for part in chain[1:]:
            person = person.with_(tracks[part])
        people.append(dataclasses.replace(person, id=number))
    return people


def _is_contested(
    pieces: Sequence[_Piece], left: int, new: int, costs: Float[np.ndarray, "chains"], max_absence_s: float
) -> bool:
    """Whether somebody else may have come back here, or the one who left may have come back as somebody else."""
    limit = min(float(costs.min()) + _MARGIN, _LIMIT)
    if (costs < limit).sum() > 1:
        return True
    rivals = [p for n, p in enumerate(pieces) if n not in (new, left) and p.is_beside(pieces[new])]
    return any(pieces[left].cost_of(rival, max_absence_s) < limit for rival in rivals)


def _size(track: Track) -> tuple[np.ndarray, np.ndarray]:
    """Logarithms of the lengths of a person's bones, both sides together, and their variances; NaN where not seen."""
    body, joints = track.body, track.sure_m
    mean, variance = np.full((2, len(_BONES)), np.nan)
    for number, (a, b) in enumerate(_BONES):
        if a not in body.joints or b not in body.joints:
            continue
        ends = np.array([body.idx(a), body.idx(b)])
        pairs = [ends, body.swap_idx[ends]]
        length = np.concatenate([np.linalg.norm(joints[:, one] - joints[:, two], axis=-1) for one, two in pairs])
        length = np.log(length[np.isfinite(length) & (length > 0)])
        if len(length) >= 3:
            mean[number] = np.median(length)
            spread = 1.4826 * np.median(np.abs(length - mean[number]))
            variance[number] = _SPREAD**2 + spread**2 / max(len(length) / (2 * _INDEPENDENT), 1.0)
    return mean, variance
