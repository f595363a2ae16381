"""Several people: who is who in all views at all times, and which of them is the subject.

`find_people` matches detections across views and follows everybody through the recording (`following`), gives those
who come back their number again (`returns`), and says of every detection in every frame whose it is (`owners`).
`choose_subject` names the one who wears the foot cameras, or the one asked for (`subject`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from capture.keypoints import Keypoints2d
from core.arrays import Bool, Float, Int
from core.cameras import Rig
from core.errors import InputError
from core.skeletons import Skeleton
from fitting.people.following import FollowConfig, Follower
from fitting.people.owners import Way, owners
from fitting.people.returns import rejoined
from fitting.people.sightings import body_of, watchers_of
from fitting.people.tracks import Track, tracks_of

__all__ = ["FollowConfig", "People", "PeopleConfig", "Track", "find_people"]


@dataclass(frozen=True)
class PeopleConfig:
    """How people are told apart.

    Attributes:
        follow: how they are matched and followed.
        max_absence_s: how long somebody may be away and is still known again by size and place; 0 for never.
    """

    follow: FollowConfig = field(default_factory=FollowConfig)
    max_absence_s: float = 60.0


@dataclass(frozen=True, eq=False)
class People:
    """Everybody in a recording.

    Attributes:
        tracks: a track each; `tracks[n].id` is n.
        owner: for each view (frames, people) the id of each detection's person; -1 for nobody's.
        seen: for each view (frames, people) whether there is a detection.
        t_s: for each view (frames,) its frame times.
        span_s: begin and end of what was looked at.
        body: names of the tracks' joints.
    """

    tracks: tuple[Track, ...]
    owner: tuple[Int[np.ndarray, "_ _"], ...]
    seen: tuple[Bool[np.ndarray, "_ _"], ...]
    t_s: tuple[Float[np.ndarray, "_"], ...]
    span_s: tuple[float, float]
    body: Skeleton

    def who(self, ids: Sequence[int]) -> list[Int[np.ndarray, "_"]]:
        """Which of the people of each frame of each view is the person with these ids; -1 where not seen.

        Several ids are parts of one person who was followed in pieces; where two are seen at once, the first is meant.
        """
        chosen = []
        for owner in self.owner:
            who = np.full(len(owner), -1)
            for number in reversed(ids):
                frame, person = np.nonzero(owner == number)
                who[frame] = person
            chosen.append(who)
        return chosen


def find_people(
    rig: Rig,
    found: Sequence[Keypoints2d],
    t_s: Sequence[Float[np.ndarray, "_"]],
    config: PeopleConfig | None = None,
    span_s: tuple[float, float] | None = None,
) -> People:
    """Tells people apart and follows them through a recording.

    Args:
        rig: cameras, one for each view.
        found: what a detector saw in each view, in any order of people; of one skeleton.
        t_s: frame times of each view, increasing, as many as it has frames.
        config: settings.
        span_s: begin and end of what is wanted; all that two views share if left out.

    Raises:
        InputError: if the views do not fit the rig, their times or each other, or fewer than two are given.
    """
    config = config or PeopleConfig()
    _check(rig, found, t_s)
    first, last = span_s or (sorted(t[0] for t in t_s if len(t))[1], sorted(t[-1] for t in t_s if len(t))[-2])
    watchers = watchers_of(rig, found, t_s)
    body = body_of(found[0].skeleton)
    step_s = config.follow.step_s
    instants = first + step_s * np.arange(max(int((last - first) / step_s + 1e-6) + 1, 1))
    trail = Follower(watchers, instants, body, config.follow).run()
    tracks = rejoined(tracks_of(trail, instants, body, config.follow), config.max_absence_s)
    ways = [Way.of(track, config.follow) for track in tracks]
    owner = [owners(watcher, ways, body.swap_idx, config.follow.max_misfit_m) for watcher in watchers]
    seen = tuple(watcher.seen for watcher in watchers)
    return People(tuple(tracks), tuple(owner), seen, tuple(t_s), (first, last), body)


def _check(rig: Rig, found: Sequence[Keypoints2d], t_s: Sequence[np.ndarray]) -> None:
    if not len(rig) == len(found) == len(t_s) >= 2:
        raise InputError(
            "people", f"{len(rig)} cameras, {len(found)} views and {len(t_s)} clocks", "give two or more, one of each"
        )
    for camera, keypoints, times in zip(rig, found, t_s, strict=True):
        if keypoints.skeleton.name != found[0].skeleton.name:
            raise InputError(camera.id, f"its joints are {keypoints.skeleton.name}", "detect all views alike")
        if len(times) != keypoints.num_frames or not np.all(np.diff(times) > 0):
            problem = f"{keypoints.num_frames} frames of keypoints and {len(times)} frame times that must increase"
            raise InputError(camera.id, problem, "run `motifs sync` and `motifs detect` of this view again")
    if sum(len(times) > 0 for times in t_s) < 2:
        raise InputError("people", "fewer than two views have frames", "check the views' keypoints")
