"""Several people before several cameras: who is taken for whom, beside the most prominent person in every view.

`python benchmarks/people.py [--seed S] [--repeats N] [--scenes NAME ...]`; the last line is JSON. Stick figures walk
before simulated cameras, hide each other, and are found by a detector with noise, outliers, exchanged sides and lost
frames; every detection's person is known. A detection is right if it is given to the track that is its person's;
tracks and people are paired as well as they can be. Wrong are detections on people's tracks that are somebody else's.
A switch is a change of a person's track from one tenth of a second to the next; "tracks +" are tracks beyond one for
each person. The last column is the share of one subject's detections that the earlier way of taking people gets right:
the most prominent person of every view, then twice the one nearest to the triangulated points.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import linear_sum_assignment

from core.cameras import Rig
from core.clock import resample
from fitting.people import People, find_people
from fitting.points import reprojection_px, triangulate_points
from simulation.crowd import Crowd, Walker, record_crowd, ring_of_cameras, route, wandering, wandering_together
from simulation.detector import DetectorConfig

RATE_HZ = 30
Rng = np.random.Generator


@dataclass(frozen=True)
class Scene:
    """Who walks where, before how many cameras.

    Attributes:
        walkers: everybody, by a random generator.
        num_views: cameras in a ring.
        duration_s: length.
        rates_hz: frame rate of each view in turn.
        ends_s: when views stop, by number.
        mixing: how often the detector changes the order of people.
        detector: its errors.
    """

    walkers: Callable[[Rng], list[Walker]]
    num_views: int = 4
    duration_s: float = 20.0
    rates_hz: tuple[float, ...] = (RATE_HZ,)
    ends_s: dict[int, float] = field(default_factory=dict)
    mixing: float = 0.02
    detector: DetectorConfig = field(default_factory=DetectorConfig)


def two_apart(rng: Rng) -> list[Walker]:
    """Two people, each in a half of the room."""
    return [
        Walker(route([(2 * k, x + rng.uniform(-0.4, 0.4), rng.uniform(-1.5, 1.5), k) for k in range(11)]), h)
        for x, h in ((-1.2, 1.62), (1.2, 1.78))
    ]


def crossing(rng: Rng) -> list[Walker]:
    """Two people of nearly one height who pass each other closely, again and again."""
    beside = rng.uniform(0.3, 0.45)
    times = [(5.0 * k, 5.0 * k + 1.0) for k in range(5)]
    walkers = []
    for sign, height in ((1, 1.70), (-1, 1.73)):
        knots = []
        for k, pair in enumerate(times):
            side = sign if k % 2 == 0 else -sign
            knots += [(t, -2.0 * side, sign * beside / 2, 0.0 if side > 0 else np.pi) for t in pair]
        walkers.append(Walker(route(knots), height))
    return walkers


def hugging(rng: Rng) -> list[Walker]:
    """Two people who meet, stand breast to breast for six seconds, turning, and part."""
    near = rng.uniform(0.13, 0.17)
    knots: list[list[tuple[float, float, float, float]]] = [[], []]
    for t, apart, turn in (
        (0, 1.6, 0.0),
        (4, near, 0.0),
        (7, near, 0.7),
        (10, near, 1.4),
        (14, 1.6, 1.4),
        (20, 1.0, 2.0),
    ):
        for n, sign in enumerate((-1, 1)):
            looks = turn if sign < 0 else turn + np.pi
            knots[n].append((t, sign * apart * np.cos(turn), sign * apart * np.sin(turn), looks))
    return [Walker(route(knots[0]), 1.74), Walker(route(knots[1]), 1.66)]


def out_and_back(rng: Rng) -> list[Walker]:
    """One leaves the room for six seconds and comes back by another door; another stays."""
    leaves = [(0, 0, 0, 0), (4, 2.5, 0, 0), (6, 5, 0, 0), (12, 0, 5, -1.6), (14, 0, 2.5, -1.6), (20, 0, 0, -1.6)]
    return [Walker(route(leaves), 1.80, spans_s=((0, 6), (12, 20))), Walker(wandering(rng, 20, 1.0), 1.62)]


def ghosts(rng: Rng) -> list[Walker]:
    """A person, a poster that three views show, and two mirrors with a reflection that one view shows each."""
    way = wandering(rng, 20, 1.2)

    def reflection(axis: int) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
        flip, wall = np.ones(3), np.zeros(3)
        flip[axis], wall[axis] = -1.0, 5.0

        def reflected(t_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            place, ahead = way(t_s)
            return place * flip + wall, ahead * flip

        return reflected

    poster = Walker(route([(0, -1.5, 2.2, -1.6), (1, -1.5, 2.2, -1.6)]), 1.75, views=(0, 2, 3), still=True)
    mirrors = [Walker(reflection(axis), 1.7, views=(view,), mirrored=True) for axis, view in ((0, 1), (1, 2))]
    return [Walker(way, 1.7), poster, *mirrors]


def four_people(rng: Rng) -> list[Walker]:
    """Four people who wander about one room."""
    heights = (1.58, 1.66, 1.74, 1.82)
    return [Walker(way, height) for way, height in zip(wandering_together(rng, 4, 20), heights, strict=True)]


POOR = DetectorConfig(outlier_fraction=0.08, swap_fraction=0.08, missing_fraction=0.08, lost_fraction=0.05)
SCENES = {
    "two apart": Scene(two_apart),
    "crossing": Scene(crossing),
    "crossing, 2 views": Scene(crossing, num_views=2),
    "hugging": Scene(hugging),
    "out and back": Scene(out_and_back),
    "detector swaps ids": Scene(four_people, mixing=1.0),
    "poor detector": Scene(four_people, detector=POOR),
    "ghosts": Scene(ghosts),
    "a camera stops": Scene(four_people, ends_s={1: 8.0}),
    "rates 30 25 60 15": Scene(four_people, rates_hz=(30, 25, 60, 15)),
    "24 views 4 people": Scene(four_people, num_views=24),
}


def record(rng: Rng, scene: Scene) -> Crowd:
    """Simulates a scene; every view's clock begins at its own time."""
    times = []
    for view in range(scene.num_views):
        rate = scene.rates_hz[view % len(scene.rates_hz)]
        t_s = rng.uniform(0, 1 / rate) + np.arange(int(scene.duration_s * rate)) / rate
        times.append(t_s[t_s < scene.ends_s.get(view, np.inf)])
    rig = ring_of_cameras(scene.num_views)
    return record_crowd(rng, rig, scene.walkers(rng), times, scene.detector, scene.mixing)


def measure(crowd: Crowd, people: People, seconds: float) -> dict[str, float]:
    """Shares of right and wrong detections, switches of identity, and frames a second."""
    truth = np.concatenate([t.ravel() for t in crowd.truth])
    owner = np.concatenate([o.ravel() for o in people.owner])
    real = [n for n, walker in enumerate(crowd.walkers) if walker.views is None or len(walker.views) > 1]
    both = np.array([[((truth == n) & (owner == k)).sum() for k in range(len(people.tracks))] for n in real])
    row, column = linear_sum_assignment(-both)
    right = both[row, column].sum()
    return {
        "right": right / np.isin(truth, real).sum(),
        "wrong": 1 - right / max(np.isin(owner, column).sum(), 1),
        "switches": sum(_switches(crowd, people, n) for n in real),
        "tracks": len(people.tracks) - len(real),
        "frames_s": max(len(t) for t in crowd.t_s) / seconds,
    }


def _switches(crowd: Crowd, people: People, walker: int) -> int:
    """How often the track that most views give a walker changes."""
    votes = np.zeros((int(max(t[-1] for t in crowd.t_s) * 10) + 1, len(people.tracks)))
    for truth, owner, t_s in zip(crowd.truth, people.owner, crowd.t_s, strict=True):
        frame, person = np.nonzero((truth == walker) & (owner >= 0))
        np.add.at(votes, ((t_s[frame] * 10).astype(int), owner[frame, person]), 1)
    chosen = votes.argmax(axis=1)[votes.any(axis=1)] if votes.shape[1] else np.zeros(0)
    return int((np.diff(chosen) != 0).sum())


def share_before(crowd: Crowd) -> float:
    """Share of one person's detections that the project's earlier choice of the subject gets right."""
    chosen = prominent_person(crowd.rig, crowd)
    shown = [truth[np.arange(len(who)), who] for truth, who in zip(crowd.truth, chosen, strict=True)]
    counts = np.bincount(np.concatenate(shown)[np.concatenate(shown) >= 0])
    subject = int(counts.argmax())
    return float(counts[subject] / sum((truth == subject).sum() for truth in crowd.truth))


def prominent_person(rig: Rig, crowd: Crowd) -> list[np.ndarray]:
    """The earlier choice: the most prominent person of every view, then twice the one nearest to the points."""
    chosen = []
    for found in crowd.found:
        y = np.where(found.valid, found.xy_px[..., 1], np.nan)
        high, low = (
            np.nan_to_num(f(y, axis=-1, initial=i, where=found.valid)) for f, i in ((np.max, -1e4), (np.min, 1e4))
        )
        chosen.append(np.argmax(np.maximum(high - low, 0) * found.score.sum(axis=-1), axis=1))
    t_s = crowd.t_s[0]
    nearest = [np.abs(t[:, None] - t_s).argmin(axis=0) for t in crowd.t_s]
    for _ in range(2):
        seen = np.stack([k.xy_px[i, who[i]] for k, who, i in zip(crowd.found, chosen, nearest, strict=True)])
        score = np.stack([k.score[i, who[i]] for k, who, i in zip(crowd.found, chosen, nearest, strict=True)])
        points = triangulate_points(rig, seen.astype(float), score.astype(float), crowd.found[0].skeleton)
        for v, camera in enumerate(rig):
            at = resample(points.xyz_m, t_s, np.clip(crowd.t_s[v], t_s[0], t_s[-1]), max_gap_s=1.0)[:, None]
            xy_px = crowd.found[v].xy_px
            error = reprojection_px(Rig((camera,)), np.broadcast_to(at, (*xy_px.shape[:-1], 3)), xy_px[None])[0]
            typical = np.ma.median(np.ma.masked_invalid(error), axis=-1).filled(np.inf)
            chosen[v] = np.where(np.isfinite(typical).any(axis=1), np.argmin(typical, axis=1), chosen[v])
    return chosen


def main() -> None:
    """Prints a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=3, help="recordings of each scene")
    parser.add_argument("--scenes", nargs="*", default=list(SCENES), choices=list(SCENES))
    given = parser.parse_args()
    print(f"{'scene':20} {'right':>7} {'wrong':>7} {'switches':>8} {'tracks +':>8} {'frames/s':>8} {'before':>7}")
    result = {}
    for name in given.scenes:
        rows, before = [], []
        for repeat in range(given.repeats):
            crowd = record(np.random.default_rng((given.seed, list(SCENES).index(name), repeat)), SCENES[name])
            start = time.perf_counter()
            people = find_people(crowd.rig, crowd.found, crowd.t_s)
            rows.append(measure(crowd, people, time.perf_counter() - start))
            before.append(share_before(crowd))
        row = {key: float(np.mean([r[key] for r in rows])) for key in rows[0]} | {"before": float(np.mean(before))}
        print(f"{name:20} {row['right']:7.4f} {row['wrong']:7.4f} {row['switches']:8.1f} {row['tracks']:8.1f} "
              f"{row['frames_s']:8.0f} {row['before']:7.4f}", flush=True)  # fmt: skip
        result[name] = {key: round(value, 4) for key, value in row.items()}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
