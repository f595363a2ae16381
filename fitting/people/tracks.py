"""Tracks: where a person was, and when."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calibration.person import stature
from core.arrays import Float, Int
from core.skeletons import Skeleton
from fitting.people.alive import Trail
from fitting.people.following import FollowConfig

_TRUSTED = 0.5
_AWAY_S = 1.0  # a shorter absence is no break of a track


@dataclass(frozen=True, eq=False)
class Track:
    """One person as far as they were followed.

    Attributes:
        id: their number, by which users name them.
        t_s: (instants,) increasing times on the session clock at which some view saw them.
        xyz_m: (instants, joints, 3) of the joints of `body_of`, in the world.
        trust: (instants, joints) 0 to 1, how well each joint was known.
        views: (instants,) how many views saw them.
        spans_s: when they were followed without a break, one span for each time they came in.
        body: names of the joints.
    """

    id: int
    t_s: Float[np.ndarray, "instants"]
    xyz_m: Float[np.ndarray, "instants joints 3"]
    trust: Float[np.ndarray, "instants joints"]
    views: Int[np.ndarray, "instants"]
    spans_s: tuple[tuple[float, float], ...]
    body: Skeleton

    @property
    def sure_m(self) -> Float[np.ndarray, "instants joints 3"]:
        """Joints that are known, from instants at which two views saw the person; NaN elsewhere."""
        good = (self.trust > _TRUSTED) & (self.views > 1)[:, None]
        return np.where(good[..., None], self.xyz_m, np.nan)

    @property
    def places_m(self) -> Float[np.ndarray, "instants 3"]:
        """The middle of the person at each instant."""
        weight = self.trust[..., None] + 1e-6
        return np.asarray((self.xyz_m * weight).sum(axis=1) / weight.sum(axis=1))

    @property
    def moved_m(self) -> float:
        """How far the person's joints got about: the median over the joints of the 90 % range about their middle."""
        joints = self.sure_m
        known = np.isfinite(joints[..., 0]).sum(axis=0) >= 3
        if not known.any():
            return 0.0
        away = np.linalg.norm(joints[:, known] - np.nanmedian(joints[:, known], axis=0), axis=-1)
        return float(np.median(np.nanquantile(away, 0.9, axis=0)))

    @property
    def stature_m(self) -> float | None:
        """How tall the person is by the lengths of arms and legs; None where too little was seen."""
        said = stature(self.sure_m, self.body)
        return None if said is None else said.metres

    @property
    def sure(self) -> Int[np.ndarray, "2"]:
        """The first and the last instant at which two views saw the person."""
        return np.flatnonzero(self.views > 1)[[0, -1]]

    def with_(self, other: Track) -> Track:
        """This track and a later one of the same person; what one view alone says gives way to what several do."""
        mine = self.t_s < max(other.t_s[0], self.t_s[self.sure[1]] + 1e-6)
        theirs = other.t_s > self.t_s[mine][-1]
        left_s, back_s = float(self.t_s[mine][-1]), float(other.t_s[theirs][0])
        spans, more = (*self.spans_s[:-1], (self.spans_s[-1][0], left_s)), other.spans_s[1:]
        if back_s - left_s < _AWAY_S:
            spans = (*spans[:-1], (spans[-1][0], other.spans_s[0][1]))
        else:
            spans = (*spans, (back_s, other.spans_s[0][1]))
        names = ("t_s", "xyz_m", "trust", "views")
        pairs = ((getattr(self, name)[mine], getattr(other, name)[theirs]) for name in names)
        t_s, xyz, trust, views = (np.concatenate(pair) for pair in pairs)
        return Track(self.id, t_s, xyz, trust, views, spans + more, self.body)


def tracks_of(trail: Trail, t_s: Float[np.ndarray, "instants"], body: Skeleton, config: FollowConfig) -> list[Track]:
    """The tracks of a trail that several views saw long enough, in the order in which they begin."""
    instant, number, views = (np.array(values, dtype=int) for values in (trail.instant, trail.id, trail.views))
    tracks = []
    for track in np.unique(number):
        rows = np.flatnonzero(number == track)
        rows = rows[np.argsort(instant[rows], kind="stable")]
        if (views[rows] > 1).sum() * config.step_s < config.min_track_s:
            continue
        times = t_s[instant[rows]]
        xyz, trust = (np.stack([values[row] for row in rows]) for values in (trail.xyz_m, trail.trust))
        spans = ((float(times[0]), float(times[-1])),)
        tracks.append(Track(int(track), times, xyz, trust, views[rows], spans, body))
    return sorted(tracks, key=lambda track: (track.t_s[0], track.id))
