"""People followed through the recording: who is known is predicted and matched, newcomers come from what is left.

As in cross-view tracking (Chen et al. 2020), the people of the instant before are the prior of each match: an instant
costs tracks times views times detections, not detections squared, and nobody is mistaken for another because two views
happen to agree. Views are compared at common instants, each in its nearest frame, against where people then were.

Recordings lie complete before us, so everybody is also followed backwards from where enough views first agreed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from core.arrays import Bool, Float, Int
from core.skeletons import Skeleton
from fitting.people.alive import Alive, Trail
from fitting.people.arrivals import doubtful, regrouped
from fitting.people.births import Newcomer
from fitting.people.matching import assign, disentangled, meet, misfit_m
from fitting.people.sightings import Sight, Watcher, sights_at

_BLOCK = 256  # instants whose rays are held at once
_SLACK_M, _SLACK_M_S = 0.1, 0.3  # what a prediction may be off at once, and for each second that nobody saw
_YOUNG, _YOUNG_M = 2, 0.15  # and as long as the speed is not known
_MAX_GATE_M = 0.5
_STEER = 0.6  # share of a prediction's error that the speed takes up
_BRAKE_S = 0.3  # in which the speed of a person whom nobody sees falls to 1/e
_FORGET = 0.9  # share of the trust in a joint that is left after each step in which nobody saw it
_ESTABLISHED_S = 1.0  # two views that agree by chance do not do so for longer
_LEARN = 0.02  # share by which an instant changes what is the usual misfit
_TANGLED = 1.5  # of the usual misfit: who exceeds it may have exchanged a detection with somebody
_SETTLED = 4  # instants after which a speed is known


@dataclass(frozen=True)
class FollowConfig:
    """How people are matched and followed.

    Attributes:
        step_s: distance of the instants at which views are compared.
        max_misfit_m: how far a detection may be from its person, the mean over its joints.
        max_unseen_s: how long a person whom nobody sees is waited for where they were going.
        max_alone_s: how long one view may follow a person alone, in an unsure depth.
        min_track_s: tracks that several views saw for less than this in all are dropped.
    """

    step_s: float = 0.1
    max_misfit_m: float = 0.25
    max_unseen_s: float = 1.0
    max_alone_s: float = 4.0
    min_track_s: float = 0.5


class Follower:
    """Follows people through the instants, forwards and then backwards.

    Args:
        watchers: the views and what they saw.
        t_s: the instants, equally spaced by the settings' step.
        body: names of the joints.
        config: settings.
    """

    def __init__(
        self, watchers: Sequence[Watcher], t_s: Float[np.ndarray, "instants"], body: Skeleton, config: FollowConfig
    ) -> None:
        self.watchers, self.t_s, self.body, self.config = watchers, t_s, body, config
        self.trail = Trail()
        self._swap = body.swap_idx
        people = max(watcher.found.num_people for watcher in watchers)
        self._owned = np.zeros((len(t_s), len(watchers), people), dtype=bool)
        self._usual_m = np.inf
        self._born: dict[int, tuple[int, Alive]] = {}  # instant and state of every birth, by track
        self._speed_m_s: dict[int, np.ndarray] = {}  # a few instants later, when it is known

    def run(self) -> Trail:
        """Follows everybody and returns what was written down."""
        alive = Alive.nobody(len(self.body))
        for instant, sight, late_s in self._instants():
            alive, who = self._step(alive, sight, late_s, self._owned[instant])
            alive, who = self._with_newcomers(instant, alive, sight, late_s, who)
            self._note(instant, alive, who)
            for row in np.flatnonzero(alive.age == _SETTLED):
                self._speed_m_s.setdefault(int(alive.id[row]), alive.speed_m_s[row])
            alive = self._still_followed(alive)
        self._run_backwards()
        return self.trail

    def _run_backwards(self) -> None:
        """Follows everybody back from their birth through detections that are nobody's yet."""
        met = np.bincount(np.array(self.trail.id, dtype=int)[np.array(self.trail.views, dtype=int) > 1])
        waiting: dict[int, list[Alive]] = {}
        for track, (instant, state) in self._born.items():
            back = -self._speed_m_s.get(track, np.zeros(3))
            state = dataclasses.replace(state, speed_m_s=back[None], age=met[track : track + 1])
            waiting.setdefault(instant, []).append(state)
        alive = Alive.nobody(len(self.body))
        for instant in reversed(range(len(self.t_s))):
            if len(alive.id):
                sights, late_s = sights_at(self.watchers, self.t_s[instant : instant + 1], self.config.step_s)
                alive, who = self._step(alive, sights[0], -late_s[0], self._owned[instant])
                self._note(instant, alive, who)
                alive = self._still_followed(alive)
            for state in waiting.pop(instant, ()):
                alive = alive.joined_by(state)

    def _instants(self) -> Iterator[tuple[int, Sight, Float[np.ndarray, "views"]]]:
        for start in range(0, len(self.t_s), _BLOCK):
            sights, late_s = sights_at(self.watchers, self.t_s[start : start + _BLOCK], self.config.step_s)
            for number, sight in enumerate(sights):
                yield start + number, sight, late_s[number]

    def _note(self, instant: int, alive: Alive, who: np.ndarray) -> None:
        view, row = np.nonzero(who >= 0)
        self._owned[instant, view, who[view, row]] = True
        self.trail.write(instant, alive, who)

    def _still_followed(self, alive: Alive) -> Alive:
        """Those who are seen or were lately; of people new to several views one view alone is believed for less."""
        known_s = self.config.step_s * alive.age
        believed_s = np.where(known_s < _ESTABLISHED_S, known_s, self.config.max_alone_s)
        return alive.rows((alive.unseen_s <= self.config.max_unseen_s) & (alive.alone_s <= believed_s + 1e-6))

    def _step(
        self, alive: Alive, sight: Sight, late_s: Float[np.ndarray, "views"], taken: Bool[np.ndarray, "views people"]
    ) -> tuple[Alive, Int[np.ndarray, "views tracks"]]:
        """Everybody one step on, with the detection of each in every view."""
        step_s, swap = self.config.step_s, self._swap
        if not len(alive.id):
            return alive, np.full((len(taken), 0), -1)
        xyz = alive.xyz_m + step_s * alive.speed_m_s[:, None]
        # a view whose frame came later saw them farther on, as if it stood farther back
        centre = sight.centre[:, None] - np.nan_to_num(late_s)[:, None, None] * alive.speed_m_s
        gate = self.config.max_misfit_m + _SLACK_M + _SLACK_M_S * alive.unseen_s + _YOUNG_M * (alive.age < _YOUNG)
        gates: tuple[np.ndarray | float, ...] = (np.minimum(gate, _MAX_GATE_M), self.config.max_misfit_m)
        joints = xyz
        for limit in gates:  # once as predicted, once where the rays of those then meet
            cost = misfit_m(joints[None], alive.trust[None], centre, sight, swap)
            who = assign(np.where(taken[:, None], np.inf, cost), limit)
            met = meet(joints, alive.trust, centre, sight, who, swap)
            joints = met.xyz_m
        met, who = disentangled(met, xyz, alive.trust, centre, sight, who, swap, _TANGLED * self._usual_m)
        joints, joint_views, misfit, _ = met
        views = (who >= 0).sum(axis=0)
        seen = views > 0
        speed = self._steered(alive, joints - xyz, joints, centre, who)
        trust = np.where(joint_views >= 2, 1.0, np.where(joint_views == 1, 1.0, _FORGET) * alive.trust)
        moved = Alive(
            alive.id, joints, np.minimum(trust, trust[:, swap]), speed, misfit, alive.age + (views > 1),
            np.where(seen, 0.0, alive.unseen_s + step_s), np.where(views > 1, 0.0, alive.alone_s + step_s),
            alive.doubt_s + step_s,
        )  # fmt: skip
        if (views > 1).any():  # somebody was born then, and the usual misfit is known
            self._usual_m += _LEARN * (float(np.median(misfit[views > 1])) - self._usual_m)
        agreed = (views > 1) & ~doubtful(moved, who, self._usual_m)
        return dataclasses.replace(moved, doubt_s=np.where(agreed, 0.0, moved.doubt_s)), who

    def _steered(
        self, alive: Alive, error_m: np.ndarray, xyz_m: np.ndarray, centre: np.ndarray, who: np.ndarray
    ) -> Float[np.ndarray, "tracks 3"]:
        """Everybody's speed after the predicted joints turned out to be off by `error_m`."""
        views, step_s = (who >= 0).sum(axis=0), self.config.step_s
        weight = (alive.trust + 1e-6)[..., None]
        error = (error_m * weight).sum(axis=1) / weight.sum(axis=1)
        # what was wrong since two views saw somebody did not become so in the last step
        speed = alive.speed_m_s + _STEER * error / (alive.alone_s + step_s)[:, None]
        brake = 1 - np.exp(-step_s / _BRAKE_S)
        ray = xyz_m.mean(axis=1) - centre[(who >= 0).argmax(axis=0), np.arange(len(views))]
        ray /= np.linalg.norm(ray, axis=-1, keepdims=True)
        # nobody knows how fast somebody goes whom nobody sees, or where to in depth if one view does
        in_depth = brake * (speed * ray).sum(axis=-1, keepdims=True) * ray
        speed = np.where((views == 1)[:, None], speed - in_depth, speed)
        return np.asarray(np.where((views == 0)[:, None], (1 - brake) * alive.speed_m_s, speed))

    def _with_newcomers(
        self, instant: int, alive: Alive, sight: Sight, late_s: np.ndarray, who: np.ndarray
    ) -> tuple[Alive, np.ndarray]:
        """Finds again whom few or no views saw, and adds people whom enough views see and nobody is yet."""
        alive, who, groups = regrouped(alive, who, sight, self.body, self.config.max_misfit_m, self._usual_m)
        if groups and np.isinf(self._usual_m):
            self._usual_m = float(np.median([group.misfit_m for group in groups]))
        for group in groups:
            if (group.who >= 0).sum() >= self._views_needed(group, late_s):
                track = len(self._born)
                new = Alive.born(track, group.xyz_m, group.misfit_m, self._swap)
                self._born[track] = (instant, new)
                alive, who = alive.joined_by(new), np.column_stack([who, group.who])
        return alive, who

    def _views_needed(self, group: Newcomer, late_s: np.ndarray) -> int:
        """Two views agree by chance now and then; where five could see a person, three must."""
        middle = np.nanmean(group.xyz_m, axis=0)
        pictures = [w.camera for w, late in zip(self.watchers, late_s, strict=True) if np.isfinite(late)]
        return 3 if sum(bool(c.lens.contains(c.project(middle))) for c in pictures) > 4 else 2
