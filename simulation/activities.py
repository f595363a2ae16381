"""What a simulated person does: stand, walk, turn, sit at the table, reach over it, wave, squat, in a random order.

Every activity is written into a `Score`. One that would not end before the span does is taken back and another is
tried, so any span is filled with whole activities and ends standing still.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from scipy.optimize import least_squares

from core.skeletons import SMPL_24
from fitting.smpl import ShapedBody
from simulation.furniture import Furniture
from simulation.limbs import NEUTRAL, Proportions, highest_pelvis, upper_body_rotations
from simulation.trajectories import SIDES, SIGN, Gait, Score, Stance, take_steps, turn_steps, walk_steps, wrap

ACTIVITIES = ("stand", "walk", "turn", "sit_down", "sit", "reach", "stand_up", "wave", "squat")

A_POSE = {"arm_out": 0.80, "arm_flex": 0.0, "elbow": 0.10, "arm_twist": 0.0}
_HANGING = {name: NEUTRAL[f"left_{name}"] for name in A_POSE}
_ON_THIGH = {"arm_out": 0.14, "arm_flex": 0.30, "elbow": 1.15, "arm_twist": 0.15}
_GUARD = {"arm_out": 0.20, "arm_flex": 0.35, "elbow": 1.75, "arm_twist": 0.0}  # hand raised before it crosses the edge
_SEATED_M = 0.200  # pelvis joint over the seat, measured on the skin of the seated stand-in
_FEET_BEFORE_SEAT_M = 0.40
_BESIDE_SEAT_M = 0.78  # from where the last step to the chair is taken
_TURN_PERIOD = 0.80  # of a walking step's time: steps on the spot are quicker
_ARM_M = 0.75  # from a wall where one stands: an arm's length
_WALK_OFF = 1.2  # radians that the first steps of a walk can still turn; beyond that one turns first
_EDGE_M = 0.05  # sampling of a path when it is checked for obstacles


class _TooLateError(Exception):
    """The activity being tried ends after the span."""


class Composer:
    """Writes activities one after another.

    Args:
        rng: source of every choice.
        shaped: the person's body.
        start: where the person stands in an A-pose.
        begin_s: when the motion begins.
        end_s: when it must have ended.
        furniture: what to sit on and to walk round.
        room_size: extent of the floor along x and y, metres.
        gait: how the person walks.
    """

    def __init__(
        self, rng: np.random.Generator, shaped: ShapedBody, start: Stance, begin_s: float, end_s: float,
        furniture: Furniture, room_size: tuple[float, float], gait: Gait,
    ) -> None:  # fmt: skip
        self.rng, self.shaped, self.body, self.gait = rng, shaped, Proportions.of(shaped), gait
        self.furniture, self.room_size, self.end_s = furniture, room_size, end_s
        self.stance, self.pace = start, 1.0
        self.way_out: np.ndarray | None = None  # between chair and table, where to step before anything else
        channels = {**NEUTRAL, **_both_arms(A_POSE)}
        feet = {side: start.foot(side, gait) for side in SIDES}
        channels |= {f"{s}_{a}": v for s in SIDES for a, v in zip(("x", "y", "yaw"), feet[s], strict=True)}
        channels |= {"pelvis_x": start.x, "pelvis_y": start.y, "heading": start.heading}
        channels["height"] = float(highest_pelvis({k: np.array([v]) for k, v in channels.items()}, self.body)[0])
        self.standing_m = channels["height"]
        self.score = Score(begin_s, channels)

    def compose(self) -> Score:
        """Fills the span: sitting at the table first if there is time for it, then anything."""
        self._label("stand")
        self._wait(0.25)
        self.score.move(self.score.t_s, self.score.t_s + 0.8, **_both_arms(_HANGING))
        self._wait(0.5)
        sat = False
        for pace in (float(self.rng.uniform(0.95, 1.10)), 0.88, 0.80):
            self.pace = pace
            sat = sat or self._attempt(self._sit_at_table)
        if sat:
            self._attempt(self._walk_about)
        misses = 0
        while misses < 6 and self.end_s - self.score.t_s > 1.0:
            self.pace = float(self.rng.uniform(0.9, 1.15))
            choices: list[tuple[Callable[[], bool], float]] = [
                (self._walk_about, 0.42), (self._turn_about, 0.13), (self._wave, 0.12), (self._squat, 0.09),
                (self._sit_at_table, 0.14), (self._look_round, 0.10),
            ]  # fmt: skip
            pick = int(self.rng.choice(len(choices), p=[weight for _, weight in choices]))
            misses = 0 if self._attempt(choices[pick][0]) else misses + 1
        self._label("stand")
        return self.score

    def _attempt(self, activity: Callable[[], bool]) -> bool:
        """Runs an activity and takes it back if it is impossible or ends too late."""
        before = self.score.copy(), self.stance, self.way_out
        try:
            if activity() and self.score.t_s + 0.2 <= self.end_s:
                return True
        except _TooLateError:
            pass
        self.score, self.stance, self.way_out = before
        return False

    # -- standing, walking, turning

    def _label(self, activity: str) -> None:
        """Begins an activity, if there is still time for any."""
        if self.score.t_s > self.end_s:
            raise _TooLateError(activity)
        self.score.label(self.score.t_s, activity)

    def _wait(self, duration_s: float) -> None:
        self.score.t_s += duration_s * self.pace

    def _move(self, duration_s: float, **targets: float) -> None:
        """Moves channels from now on; the clock goes on to the end of the movement."""
        end = self.score.t_s + duration_s * self.pace
        self.score.move(self.score.t_s, end, **targets)
        self.score.t_s = end

    def _arms(self, side: str, posture: dict[str, float], duration_s: float) -> None:
        self._move(duration_s, **{f"{side}_{name}": v for name, v in posture.items()})

    def _turn_to(self, heading: float) -> None:
        angle = wrap(heading - self.stance.heading)
        if abs(angle) < 0.03:
            return
        self._label("turn")
        gait = dataclasses.replace(self.gait, period_s=self.gait.period_s * self.pace * _TURN_PERIOD)
        self.stance = take_steps(self.score, self.stance, turn_steps(self.stance, self.stance.heading + angle), gait)

    def _walk(self, *corners: np.ndarray) -> None:
        """Along a path, turning first if it begins aside."""
        away = corners[0] - [self.stance.x, self.stance.y]
        heading = float(np.arctan2(away[1], away[0]))
        if abs(wrap(heading - self.stance.heading)) > _WALK_OFF:
            self._turn_to(heading)
        self._label("walk")
        gait = dataclasses.replace(self.gait, period_s=self.gait.period_s * self.pace)
        steps = walk_steps(self.stance, np.array(corners), str(self.rng.choice(SIDES)), gait.step_m)
        self.stance, self.way_out = take_steps(self.score, self.stance, steps, gait), None

    def _is_clear(self, start: np.ndarray, end: np.ndarray) -> bool:
        count = 2 + int(np.hypot(*(end - start)) / _EDGE_M)
        path = start + np.linspace(0, 1, count)[:, None] * (end - start)
        return bool(self._is_free(path).all())

    def _is_free(self, points: np.ndarray) -> np.ndarray:
        return self.furniture.is_free(points, self.room_size)

    def _path_to(self, xy: np.ndarray) -> list[np.ndarray] | None:
        """Places to pass on the way to another, one at most where the furniture is in between; None if none will do."""
        leave = [] if self.way_out is None else [self.way_out]
        here = np.array([self.stance.x, self.stance.y]) if self.way_out is None else self.way_out
        if self._is_clear(here, xy):
            return [*leave, xy]
        via = self.rng.uniform(-0.5, 0.5, (80, 2)) * self.room_size
        length = np.linalg.norm(via - here, axis=1) + np.linalg.norm(via - xy, axis=1)
        for point in via[np.argsort(length)]:
            if self._is_clear(here, point) and self._is_clear(point, xy):
                return [*leave, point, xy]
        return None

    def _walk_about(self) -> bool:
        here = np.array([self.stance.x, self.stance.y])
        for target in self.rng.uniform(-0.5, 0.5, (20, 2)) * self.room_size:
            if np.hypot(*(target - here)) > 0.7 and self.furniture.is_free(target, self.room_size, _ARM_M):
                path = self._path_to(target)
                if path is not None:
                    self._walk(*path)
                    return True
        return False

    def _turn_about(self) -> bool:
        self._turn_to(self.stance.heading + float(self.rng.choice([-1, 1]) * self.rng.uniform(0.6, 2.6)))
        return True

    def _look_round(self) -> bool:
        self._label("stand")
        yaw = float(self.rng.uniform(0.3, 0.8) * self.rng.choice([-1, 1]))
        self._move(0.6, gaze_yaw=yaw, twist=0.3 * yaw, gaze_pitch=float(self.rng.uniform(-0.1, 0.2)))
        self._wait(float(self.rng.uniform(0.2, 0.8)))
        self._move(0.6, gaze_yaw=0.0, twist=0.0, gaze_pitch=0.0)
        return True

    # -- gestures

    def _wave(self) -> bool:
        if self.way_out is not None:  # no room for it between chair and table
            return False
        self._label("wave")
        side = str(self.rng.choice(SIDES))
        out = float(self.rng.uniform(1.3, 1.6))
        self._arms(side, {"arm_out": out, "arm_flex": 0.1, "elbow": 1.3, "arm_twist": -1.3}, 0.8)
        for _ in range(int(self.rng.integers(2, 4))):
            self._arms(side, {"elbow": 0.8}, 0.30)
            self._arms(side, {"elbow": 1.5}, 0.30)
        self._arms(side, _HANGING, 0.9)
        return True

    def _squat(self) -> bool:
        if self.way_out is not None:
            return False
        self._label("squat")
        depth, forward = float(self.rng.uniform(0.20, 0.36)), 0.10 * np.array(_direction(self.stance.heading))
        x, y = self.score.value("pelvis_x"), self.score.value("pelvis_y")
        arms = {f"{side}_{name}": v for side in SIDES for name, v in (("arm_flex", 0.9), ("elbow", 0.5))}
        self._move(1.0, height=self.standing_m - depth, pitch=0.45, flex=0.3,
                   pelvis_x=x - forward[0], pelvis_y=y - forward[1], **arms)  # fmt: skip
        self._wait(0.2)
        rest = {f"{side}_{name}": _HANGING[name] for side in SIDES for name in ("arm_flex", "elbow")}
        self._move(1.0, height=self.standing_m, pitch=NEUTRAL["pitch"], flex=0.0, pelvis_x=x, pelvis_y=y, **rest)
        return True

    # -- at the table

    def _sit_at_table(self) -> bool:
        """Walks to the chair, sits down, reaches over the table, stands up."""
        seat, forward = np.array(self.furniture.chair_xy), self.furniture.chair_forward
        before, across = seat + _FEET_BEFORE_SEAT_M * forward, np.array([-forward[1], forward[0]])
        here = np.array([self.stance.x, self.stance.y])
        if self.way_out is None:
            sides = [before + sign * _BESIDE_SEAT_M * across for sign in (1, -1)]
            sides = sorted(filter(self._is_free, sides), key=lambda side: float(np.hypot(*(side - here))))
            paths = [(side, self._path_to(side)) for side in sides]
            entry, path = next(((side, path) for side, path in paths if path is not None), (before, None))
            if path is None:
                return False
            self._walk(*path, before)
            self.way_out = entry
        self._turn_to(self.furniture.chair_heading)
        self._sit_down(seat)
        for _ in range(int(self.rng.integers(1, 3)) if self.pace > 0.9 else 1):
            self._reach(forward, across)
        self._stand_up(before)
        return True

    def _sit_down(self, seat: np.ndarray) -> None:
        self._label("sit_down")
        begin = self.score.t_s + 0.25 * self.pace
        end = begin + 1.35 * self.pace
        height = self.furniture.chair_seat_height + _SEATED_M
        self.score.move(begin, end, pelvis_x=float(seat[0]), pelvis_y=float(seat[1]), height=height)
        half = (begin + end) / 2
        self.score.move(begin, half, pitch=0.50, flex=0.30)
        self.score.move(half, end, pitch=0.0, flex=0.12)
        self.score.move(begin, end, **_both_arms(_ON_THIGH))
        self.score.t_s = end
        self._label("sit")
        self._wait(float(self.rng.uniform(0.3, 0.7)))

    def _stand_up(self, before: np.ndarray) -> None:
        self._label("stand_up")
        begin, end = self.score.t_s, self.score.t_s + 1.45 * self.pace
        half = begin + 0.45 * (end - begin)
        self.score.move(begin, half, pitch=0.55, flex=0.30)
        self.score.move(half, end, pitch=NEUTRAL["pitch"], flex=0.0)
        late = begin + 0.15 * (end - begin)
        self.score.move(late, end, pelvis_x=float(before[0]), pelvis_y=float(before[1]), height=self.standing_m)
        self.score.move(late, end, **_both_arms(_HANGING))
        self.score.t_s = end

    def _reach(self, forward: np.ndarray, across: np.ndarray) -> None:
        """Leads one hand over the table's edge to a place on it, and back to the thigh."""
        self._label("reach")
        side = str(self.rng.choice(SIDES))
        target = self._place_on_table(side, forward, across)
        posture = self._reaching_posture(side, target)
        trunk = {name: posture.pop(name) for name in ("pitch", "flex", "twist")}
        self._arms(side, _GUARD, 0.55)
        gaze = {"gaze_pitch": 0.25, "gaze_yaw": float(-0.3 * SIGN[side])}
        self._move(0.75, **trunk, **gaze, **{f"{side}_{name}": v for name, v in posture.items()})
        self._wait(float(self.rng.uniform(0.15, 0.5)))
        back = {f"{side}_{name}": v for name, v in _GUARD.items()}
        self._move(0.75, pitch=0.0, flex=0.12, twist=0.0, gaze_pitch=0.0, gaze_yaw=0.0, **back)
        self._arms(side, _ON_THIGH, 0.55)
        self._label("sit")
        self._wait(float(self.rng.uniform(0.1, 0.4)))

    def _place_on_table(self, side: str, forward: np.ndarray, across: np.ndarray) -> np.ndarray:
        """A point that the wrist can reach, a hand's height over the table's near edge."""
        centre, size = np.array(self.furniture.table_centre), np.array(self.furniture.table_size)
        seat = np.array(self.furniture.chair_xy)
        edge = float((centre - seat) @ forward - np.abs(forward) @ size / 2)
        deep = edge + float(self.rng.uniform(0.0, 0.12))
        aside = SIGN[side] * float(self.rng.uniform(0.05, 0.30))
        return np.array([*(seat + deep * forward + aside * across), self.furniture.table_height + 0.09])

    def _reaching_posture(self, side: str, wrist_m: np.ndarray) -> dict[str, float]:
        """Trunk and arm angles that bring the wrist nearest to a place, close to a relaxed reach."""
        names = ("pitch", "flex", "twist", "arm_flex", "arm_out", "arm_twist", "elbow")
        usual = np.array([0.10, 0.30, -0.15 * SIGN[side], 1.10, 0.20, 0.0, 0.55])
        low = np.array([0.0, 0.0, -0.45, 0.3, 0.05, -0.5, 0.15])
        high = np.array([0.45, 0.75, 0.45, 1.6, 0.80, 0.5, 1.60])
        score_now = {name: np.array([self.score.value(name)]) for name in NEUTRAL}
        pelvis = np.stack([score_now[name] for name in ("pelvis_x", "pelvis_y", "height")], axis=-1)
        joint = SMPL_24.idx(f"{side}_wrist")

        def errors(x: np.ndarray) -> np.ndarray:
            """Of many postures (k, 7) at once, so that a numeric Jacobian is one call."""
            count = len(x)
            c = {name: np.repeat(value, count) for name, value in score_now.items()}
            c |= dict(zip((*names[:3], *(f"{side}_{n}" for n in names[3:])), x.T, strict=True))
            root = np.repeat(pelvis, count, axis=0)
            posed = self.shaped.with_rotations(upper_body_rotations(c), self.shaped.transl_from_root(root))
            # 1 cm off counts as much as half a radian away from the usual angle
            return np.concatenate([(posed.joints[:, joint] - wrist_m) / 0.01, (x - usual) / 0.5], axis=1)

        def jacobian(x: np.ndarray) -> np.ndarray:
            step = 1e-5
            moved = errors(np.concatenate([x[None], x + step * np.eye(len(x))]))
            return (moved[1:] - moved[0]).T / step

        solved = least_squares(lambda x: errors(x[None])[0], usual, jac=jacobian, bounds=(low, high), max_nfev=20)
        return {name: float(round(v, 6)) for name, v in zip(names, solved.x, strict=True)}


def _both_arms(posture: dict[str, float]) -> dict[str, float]:
    return {f"{side}_{name}": v for side in SIDES for name, v in posture.items()}


def _direction(heading: float) -> tuple[float, float]:
    return float(np.cos(heading)), float(np.sin(heading))
