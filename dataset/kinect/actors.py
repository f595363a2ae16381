"""Who of the bodies in a `.skeleton` file is kept: the first and the second actor, at most two.

Kinect sees people in tables and chairs, and gives a person another id after it lost them. The rule is that of the
preprocessing which the field shares (published with SGN, CTR-GCN and MAMP; the dataset's FAQ asks for the same), and
looks at no label:

1. A body seen in 11 frames or fewer is noise, unless all are.
2. A frame in which a body is wider than 0.8 of its height is doubtful; a body with 69.754 % of such frames is noise,
   unless it is the only one left.
3. A body's motion is the sum of the variances of x, y and z over all its joints and frames (of those not doubtful, if
   that is less). Bodies are ranked by it.
4. The first is the first actor. Each further one fills up the first actor if both are not there at the same time, else
   the second actor; else it is left out.
   (The shared code counts the second actor as there from frame 0 on; here it is from where it is seen.)
5. Frames in which neither actor is are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from core.arrays import Bool, Float

MAX_PEOPLE = 2
_MIN_FRAMES = 12
_WIDEST = 0.8
_MOST_DOUBTFUL = 0.69754


@dataclass(frozen=True, eq=False)
class Actors:
    """The people of a clip.

    Attributes:
        joints_m: NaN where an actor is not there.
        exists: frames in which an actor is there with every joint.
        left_out: bodies that are none of the actors.
    """

    joints_m: Float[np.ndarray, "people frames 25 3"]
    exists: Bool[np.ndarray, "people frames"]
    left_out: int


def main_actors(bodies: Sequence[Float[np.ndarray, "frames 25 3"]]) -> Actors:
    """The actors of a clip from all bodies in it (metres, y up, NaN where a body is not seen), by the rule above.

    Without anybody, there are no people and no frames.
    """
    joints = [np.where(seen_whole(body)[:, None, None], body, np.nan) for body in bodies]
    present = [body for body in joints if np.isfinite(body).any()]
    long_enough = [body for body in present if seen_whole(body).sum() >= _MIN_FRAMES]
    kept = _upright(long_enough or present)
    ranked = sorted(kept, key=_motion, reverse=True)
    actors: list[np.ndarray] = []
    spans: list[tuple[int, int]] = []
    for body in ranked:
        seen = np.flatnonzero(seen_whole(body))
        begin, end = int(seen[0]), int(seen[-1])
        for i, (first, last) in enumerate(spans):
            if min(last, end) <= max(first, begin):
                gap = ~seen_whole(actors[i])
                actors[i][gap] = body[gap]
                spans[i] = (min(first, begin), max(last, end))
                break
        else:
            if len(actors) < MAX_PEOPLE:
                actors.append(body.copy())
                spans.append((begin, end))
    return _without_empty_frames(actors, len(bodies))


def seen_whole(joints_m: Float[np.ndarray, "*batch frames joints 3"]) -> Bool[np.ndarray, "*batch frames"]:
    """Frames in which every joint is a number, and not all are zero, which is how such files say that nobody is."""
    return np.isfinite(joints_m).all(axis=(-2, -1)) & (joints_m != 0).any(axis=(-2, -1))


def without_empty_frames(joints_m: Float[np.ndarray, "people frames 25 3"], left_out: int = 0) -> Actors:
    """People of a clip without the frames in which none of them is; people who never come are dropped."""
    exists = seen_whole(joints_m)
    there = exists.any(axis=1)
    joints_m = joints_m[there][:, exists.any(axis=0)]
    exists = exists[there][:, exists.any(axis=0)]
    return Actors(np.where(exists[..., None, None], joints_m, np.nan), exists, left_out)


def _without_empty_frames(actors: Sequence[np.ndarray], num_bodies: int) -> Actors:
    if not actors:
        return Actors(np.zeros((0, 0, 25, 3)), np.zeros((0, 0), dtype=bool), num_bodies)
    return without_empty_frames(np.stack(actors), num_bodies - len(actors))


def _doubtful(body: np.ndarray) -> np.ndarray:
    """Of the frames in which a body is seen: those in which it is wider than a person."""
    seen = body[seen_whole(body)]
    width_m, height_m = np.ptp(seen[..., 0], axis=1), np.ptp(seen[..., 1], axis=1)
    return np.asarray(width_m > _WIDEST * height_m)


def _upright(bodies: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Bodies but those that are most often too wide; one stays in any case."""
    kept = list(bodies)
    for body in bodies:
        if len(kept) > 1 and _doubtful(body).mean() >= _MOST_DOUBTFUL:
            kept = [other for other in kept if other is not body]
    return kept


def _motion(body: np.ndarray) -> float:
    seen = body[seen_whole(body)]
    motion = float(seen.reshape(-1, 3).var(axis=0).sum())
    sure = seen[~_doubtful(body)]
    return min(motion, float(sure.reshape(-1, 3).var(axis=0).sum())) if len(sure) else motion
