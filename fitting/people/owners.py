"""Whose each detection is, in every frame of every view: tracks give everybody's place at any time.

Between the instants at which views were compared people move by centimetres, so their joints are interpolated to the
times of a view's own frames, whatever its rate and clock, and detections are matched anew in each frame: what numbers a
detector gave people in the frame before does not count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from core.arrays import Float, Int
from core.clock import resample
from fitting.people.following import FollowConfig
from fitting.people.matching import assign, misfit_m
from fitting.people.sightings import Watcher
from fitting.people.tracks import Track

_BLOCK = 1024  # frames whose rays are held at once


@dataclass(frozen=True, eq=False)
class Way:
    """A track that can be asked for any time.

    Attributes:
        t_s: (instants,) times.
        joints: (instants, joints, 4) places in metres, and their trust.
        max_gap_s: across longer gaps nothing is said.
    """

    t_s: Float[np.ndarray, "instants"]
    joints: Float[np.ndarray, "instants joints 4"]
    max_gap_s: float

    @staticmethod
    def of(track: Track, config: FollowConfig) -> Way:
        """The way of a track, each span carried on by one step for the frames between its end and the next instant."""
        joints = np.concatenate([track.xyz_m, track.trust[..., None]], axis=-1)
        max_gap_s = config.max_unseen_s + config.step_s
        times, places = [], []
        for piece in np.split(np.arange(len(track.t_s)), np.flatnonzero(np.diff(track.t_s) > max_gap_s) + 1):
            t, j = track.t_s[piece], joints[piece]
            first, last = j[0].copy(), j[-1].copy()
            if len(piece) > 1:
                first[:, :3] -= (j[1] - j[0])[:, :3] * config.step_s / (t[1] - t[0])
                last[:, :3] += (j[-1] - j[-2])[:, :3] * config.step_s / (t[-1] - t[-2])
            times += [t[:1] - config.step_s, t, t[-1:] + config.step_s]
            places += [first[None], j, last[None]]
        return Way(np.concatenate(times), np.concatenate(places), max_gap_s)

    def at(self, t_s: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n joints 4"]:
        """Places and trust of the joints at any times; NaN where the person was not followed."""
        return resample(self.joints, self.t_s, t_s, max_gap_s=self.max_gap_s)


def owners(
    watcher: Watcher, ways: Sequence[Way], swap: Int[np.ndarray, "joints"], max_misfit_m: float
) -> Int[np.ndarray, "frames people"]:
    """Position of the person that each detection of a view belongs to; -1 for nobody's.

    Args:
        watcher: the view.
        ways: everybody's.
        swap: the permutation of the joints that exchanges left and right.
        max_misfit_m: how far a detection may be from its person.
    """
    owner = np.full(watcher.found.xy_px.shape[:2], -1)
    for start in range(0, len(watcher.t_s), _BLOCK):
        frames = np.arange(start, min(start + _BLOCK, len(watcher.t_s)))
        first, last = watcher.t_s[frames[0]], watcher.t_s[frames[-1]]
        here = [number for number, way in enumerate(ways) if way.t_s[0] <= last and first <= way.t_s[-1]]
        if not here:
            continue
        sight = watcher.sight(frames)
        joints = np.stack([ways[number].at(watcher.t_s[frames]) for number in here], axis=1)
        misfit = misfit_m(joints[..., :3], joints[..., 3], sight.centre[:, None], sight, swap)
        who = assign(misfit, max_misfit_m)
        row, track = np.nonzero(who >= 0)
        owner[frames[row], who[row, track]] = np.array(here)[track]
    return owner
