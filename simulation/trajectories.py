"""Movement as smooth functions of time: channels of quintic pieces, and footsteps that stay where they are planted.

A channel is one number that varies (a foot's x, a trunk's flexion). Between knots it is the quintic that matches value
and velocity and has no acceleration at the knots: with zero velocities that is the minimum-jerk movement of Flash and
Hogan (1985). So every channel is twice continuously differentiable and exact at any time.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from core.arrays import Float

SIDES = ("left", "right")
SIGN: Mapping[str, int] = {"left": 1, "right": -1}  # SMPL's x points to the subject's left


@dataclass(frozen=True, eq=False)
class Track:
    """One channel.

    Attributes:
        t_s: times of the knots, increasing, seconds.
        value: values at the knots.
        velocity: slopes at the knots, a second.
    """

    t_s: Float[np.ndarray, "knots"]
    value: Float[np.ndarray, "knots"]
    velocity: Float[np.ndarray, "knots"]

    def at(self, t_s: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
        """Values at any times; held before the first and after the last knot."""
        if len(self.t_s) == 1:
            return np.full(t_s.shape, self.value[0])
        t = np.clip(t_s, self.t_s[0], self.t_s[-1])
        i = np.clip(np.searchsorted(self.t_s, t, side="right") - 1, 0, len(self.t_s) - 2)
        h = self.t_s[i + 1] - self.t_s[i]
        s, rise = (t - self.t_s[i]) / h, self.value[i + 1] - self.value[i]
        v0, v1 = self.velocity[i] * h, self.velocity[i + 1] * h
        c3, c4, c5 = 10 * rise - 6 * v0 - 4 * v1, -15 * rise + 8 * v0 + 7 * v1, 6 * rise - 3 * (v0 + v1)
        return self.value[i] + s * (v0 + s * s * (c3 + s * (c4 + s * c5)))


class Score:
    """Collects the knots of all channels and the names of the activities while a motion is being composed."""

    def __init__(self, t_s: float, initial: Mapping[str, float]) -> None:
        self.t_s = t_s
        self._knots: dict[str, list[tuple[float, float, float]]] = {n: [(t_s, v, 0.0)] for n, v in initial.items()}
        self._labels: list[tuple[float, str]] = []

    def copy(self) -> Score:
        """The score as it is now, to come back to; knots are immutable, so their lists alone are copied."""
        copied = copy.copy(self)
        copied._knots = {name: list(knots) for name, knots in self._knots.items()}
        copied._labels = list(self._labels)
        return copied

    def value(self, channel: str) -> float:
        """The last value given to a channel."""
        return self._knots[channel][-1][1]

    def label(self, t_s: float, activity: str) -> None:
        """Names what begins at a time."""
        self._labels.append((t_s, activity))

    def knot(self, channel: str, t_s: float, value: float, velocity: float = 0.0) -> None:
        """Adds a knot after the last one; at the time of the last one it replaces it."""
        knots = self._knots[channel]
        if t_s < knots[-1][0] + 1e-9:
            knots.pop()
        knots.append((t_s, value, velocity))

    def move(self, start_s: float, end_s: float, **targets: float) -> None:
        """Minimum-jerk movements of channels from their last values to the targets."""
        for channel, target in targets.items():
            last_s, last, _ = self._knots[channel][-1]
            if last_s < start_s - 1e-9:
                self.knot(channel, start_s, last)
            self.knot(channel, end_s, target)

    def tracks(self) -> dict[str, Track]:
        """The finished channels."""
        return {name: Track(*np.array(knots, dtype=float).T) for name, knots in self._knots.items()}

    def labels(self) -> tuple[Float[np.ndarray, "n"], tuple[str, ...]]:
        """Times at which activities begin, and their names."""
        return np.array([t for t, _ in self._labels]), tuple(name for _, name in self._labels)


@dataclass(frozen=True)
class Gait:
    """How somebody walks.

    Attributes:
        step_m: longest step.
        period_s: time of one step.
        width_m: distance between the feet across.
        toe_out: outward turn of each foot, radians.
        lift_m: height of the swinging foot.
        heel_strike: toes-up pitch of the foot when it lands after a full step, radians.
        toe_off: heel-up pitch of the foot when it leaves the ground for a full step, radians.
        arm_swing: forward swing of the arms for a full step, radians.
    """

    step_m: float = 0.52
    period_s: float = 0.56
    width_m: float = 0.18
    toe_out: float = 0.10
    lift_m: float = 0.045
    heel_strike: float = 0.20
    toe_off: float = 0.42
    arm_swing: float = 0.32


@dataclass(frozen=True)
class Stance:
    """Where the middle between the feet stands and looks: x, y (metres), heading (radians, world x to y)."""

    x: float
    y: float
    heading: float

    def foot(self, side: str, gait: Gait) -> tuple[float, float, float]:
        """Place and direction of one foot standing here."""
        across = SIGN[side] * gait.width_m / 2
        return (
            self.x - across * np.sin(self.heading),
            self.y + across * np.cos(self.heading),
            self.heading + SIGN[side] * gait.toe_out,
        )


_TURN_A_PAIR = 1.2  # radians that a pair of steps turns on the spot; hips open about 45 degrees
_TURN_A_STEP = 0.7  # radians that one step turns while walking round a corner


def turn_steps(start: Stance, heading: float) -> list[tuple[str, Stance]]:
    """Footsteps that turn on the spot: the foot on the inner side opens, the other closes."""
    angle = heading - start.heading
    pairs = max(1, int(np.ceil(abs(angle) / _TURN_A_PAIR)))
    first, second = SIDES if angle > 0 else SIDES[::-1]
    stances = [Stance(start.x, start.y, start.heading + angle * (k + 1) / pairs) for k in range(pairs)]
    return [(side, stance) for stance in stances for side in (first, second)]


def walk_steps(
    start: Stance, corners: Float[np.ndarray, "corners 2"], first: str, step_m: float
) -> list[tuple[str, Stance]]:
    """Footsteps along a path whose corners are cut; the last one brings the feet together.

    Args:
        start: where the person stands.
        corners: places to pass, the last one to stop at, metres.
        first: the foot that starts.
        step_m: longest step.
    """
    path = _cut_corners(np.concatenate([[[start.x, start.y]], corners]))
    pieces = np.diff(path, axis=0)
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*pieces.T))])
    count = max(1, int(np.ceil(along[-1] / step_m)))
    progress = along[-1] * np.arange(1, count + 1) / count
    x, y = (np.interp(progress, along, path[:, c]) for c in (0, 1))
    piece = np.clip(np.searchsorted(along, progress - 1e-9, side="right") - 1, 0, len(pieces) - 1)
    stances, heading = [], start.heading
    for k in range(count):
        turn = wrap(float(np.arctan2(pieces[piece[k], 1], pieces[piece[k], 0])) - heading)
        heading += float(np.clip(turn, -_TURN_A_STEP, _TURN_A_STEP))
        stances.append(Stance(float(x[k]), float(y[k]), heading))
    other = SIDES[1 - SIDES.index(first)]
    order = [first, other] * (count // 2 + 1)
    return [*zip(order, stances, strict=False), (order[count], stances[-1])]


def _cut_corners(path: np.ndarray) -> np.ndarray:
    """Chaikin's corner cutting, twice; the ends stay."""
    for _ in range(2 if len(path) > 2 else 0):
        quarter, three = 0.75 * path[:-1] + 0.25 * path[1:], 0.25 * path[:-1] + 0.75 * path[1:]
        inner = np.stack([quarter, three], axis=1).reshape(-1, 2)
        path = np.concatenate([path[:1], inner[1:-1], path[-1:]])
    return path


def take_steps(score: Score, start: Stance, steps: Sequence[tuple[str, Stance]], gait: Gait) -> Stance:
    """Writes footsteps with the pelvis, trunk and arms that go with them; ends with both feet down.

    Feet move in the middle 86 % of a step and are otherwise still. The pelvis passes over the middle between the feet
    whenever both are down, and leans over the standing foot in between.
    """
    # the last foot to land has rolled flat before the next one rises
    begin, period = score.t_s + 0.35 * gait.period_s, gait.period_s
    feet = {side: np.array([score.value(f"{side}_{axis}") for axis in ("x", "y", "yaw")]) for side in SIDES}
    middles = [_middle(feet)]
    standing = []
    for k, (side, stance) in enumerate(steps):
        target = np.array(stance.foot(side, gait))
        _swing(score, side, feet[side], target, begin + k * period, gait)
        feet[side] = target
        standing.append(feet[SIDES[1 - SIDES.index(side)]][:2])
        middles.append(_middle(feet))
    _carry_pelvis(score, np.array(middles), np.array(standing), begin, period)
    _swing_arms(score, begin, steps, np.diff(np.array(middles)[:, :2], axis=0), gait)
    score.t_s = begin + len(steps) * period
    return steps[-1][1]


def _middle(feet: Mapping[str, np.ndarray]) -> np.ndarray:
    return (feet["left"] + feet["right"]) / 2


def _swing(score: Score, side: str, start: np.ndarray, target: np.ndarray, begin: float, gait: Gait) -> None:
    """One foot through the air: rolls off over its ball, swings, lands on its heel, rolls flat."""
    effort = min(1.0, float(np.hypot(*(target - start)[:2])) / (2 * gait.step_m))
    leave, land = begin + 0.07 * gait.period_s, begin + 0.93 * gait.period_s
    middle = (leave + land) / 2
    score.move(leave, land, **{f"{side}_{axis}": v for axis, v in zip(("x", "y", "yaw"), target, strict=True)})
    score.move(leave, middle, **{f"{side}_lift": gait.lift_m * (0.4 + 0.6 * effort)})
    score.move(middle, land, **{f"{side}_lift": 0.0})
    score.move(leave - 0.40 * gait.period_s, leave, **{f"{side}_pitch": -gait.toe_off * effort})
    score.move(leave, middle, **{f"{side}_pitch": 0.0})
    score.move(middle, land, **{f"{side}_pitch": gait.heel_strike * effort})
    score.move(land, land + 0.20 * gait.period_s, **{f"{side}_pitch": 0.0})


def _carry_pelvis(score: Score, middles: np.ndarray, standing: np.ndarray, begin: float, period: float) -> None:
    """Knots of the pelvis at the landings and half-way between them."""
    velocity = np.zeros(middles.shape)
    velocity[1:-1] = (middles[2:] - middles[:-2]) / (2 * period)
    between = (middles[1:] + middles[:-1]) / 2
    between_velocity = np.diff(middles, axis=0) / period
    between[:, :2] += 0.30 * (standing - between[:, :2])
    for c, channel in enumerate(("pelvis_x", "pelvis_y", "heading")):
        score.knot(channel, begin, score.value(channel))
        for k in range(len(between)):
            score.knot(channel, begin + (k + 0.5) * period, between[k, c], between_velocity[k, c])
            score.knot(channel, begin + (k + 1) * period, middles[k + 1, c], velocity[k + 1, c])


def _swing_arms(
    score: Score, begin: float, steps: Sequence[tuple[str, Stance]], advance: np.ndarray, gait: Gait
) -> None:
    """Each arm swings with the opposite foot; the trunk turns a little against the pelvis."""
    period = gait.period_s
    for k, (side, _) in enumerate(steps):
        start, end = begin + k * period, begin + (k + 1) * period
        swing = gait.arm_swing * min(1.0, float(np.hypot(*advance[k])) / gait.step_m) * (k < len(steps) - 1)
        other = SIDES[1 - SIDES.index(side)]
        score.move(start, end, **{f"{other}_arm_flex": 0.06 + swing, f"{side}_arm_flex": 0.06 - 0.8 * swing})
        score.move(start, end, **{f"{other}_elbow": 0.28 + 0.5 * swing, f"{side}_elbow": 0.28})
        score.move(start, end, twist=-0.20 * SIGN[other] * swing)


def wrap(angle: float) -> float:
    """An angle in (-pi, pi]."""
    return float(np.pi - (np.pi - angle) % (2 * np.pi))
