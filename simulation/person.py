"""A simulated person: a body, and a motion that can be asked for at any instant.

Exactly still in an A-pose before the motion span, and standing still after it. Foot cameras need `world_from_foot`
at the instant of every row of a rolling shutter, so nothing here is sampled: pose, mesh and contacts are functions of
time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter1d, minimum_filter1d

from core.arrays import Float, Shaped
from core.errors import InputError
from core.skeletons import SMPL_24
from core.transforms import SE3, so3_log
from fitting.smpl import BodyModel, PosedBody, ShapedBody
from fitting.stand_in import stand_in_body
from simulation.activities import ACTIVITIES, Composer
from simulation.furniture import Furniture
from simulation.limbs import Proportions, body_rotations, highest_pelvis
from simulation.trajectories import SIDES, Gait, Stance, Track

__all__ = ["ACTIVITIES", "Furniture", "Person", "make_person", "simulate_motion"]

ROOM_SIZE_M = (5.0, 4.0)
_GRID_S = 1 / 60  # the pelvis' height is planned on this grid
_CALM_FRAMES, _CALM_SIGMA = 7, 3.0  # how far ahead the pelvis sinks before a long step, grid cells
_DOWN_M, _FLAT_RAD = 1e-4, 0.02  # a foot this low and this flat touches the floor


@dataclass(frozen=True, eq=False)
class Person:
    """A body in motion.

    Attributes:
        shaped: the body at rest.
        span_s: begin and end of the motion, session clock.
        tracks: channels of the motion (see `simulation.limbs`).
        pelvis_height: height of the pelvis joint, metres.
        label_t_s: when each activity begins.
        labels: what it is.
    """

    shaped: ShapedBody
    span_s: tuple[float, float]
    tracks: Mapping[str, Track]
    pelvis_height: CubicSpline
    label_t_s: Float[np.ndarray, "activities"]
    labels: tuple[str, ...]

    @property
    def betas(self) -> Float[np.ndarray, "betas"]:
        """Shape of the body."""
        return self.shaped.betas

    def posed_at(self, t_s: Float[np.ndarray, "n"]) -> PosedBody:
        """The posed body at any times, session clock."""
        t = np.clip(np.asarray(t_s, float), *self.span_s)
        channels = {name: track.at(t) for name, track in self.tracks.items()}
        pelvis = np.stack([channels["pelvis_x"], channels["pelvis_y"], self.pelvis_height(t)], axis=-1)
        rotations = body_rotations(channels, pelvis, Proportions.of(self.shaped))
        return self.shaped.with_rotations(rotations, self.shaped.transl_from_root(pelvis))

    def pose_at(self, t_s: Float[np.ndarray, "n"]) -> tuple[Float[np.ndarray, "n 24 3"], Float[np.ndarray, "n 3"]]:
        """SMPL poses (axis-angle, root in the z-up world) and `transl`."""
        posed = self.posed_at(t_s)
        return so3_log(posed.rotations), posed.joints[:, 0] - self.shaped.rest_joints[0]

    def joints_at(self, t_s: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n 24 3"]:
        """Joints in the world, metres."""
        return self.posed_at(t_s).joints

    def mesh_at(self, t_s: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n 6890 3"]:
        """Vertices in the world, metres."""
        return self.posed_at(t_s).mesh()

    def world_from_foot(self, t_s: Float[np.ndarray, "n"], side: str) -> SE3:
        """Frame of an ankle joint; a camera on the shoe is fixed to it.

        Args:
            t_s: times, session clock.
            side: "left" or "right".
        """
        return self.posed_at(t_s).world_from_joint(SMPL_24.idx(f"{side}_ankle"))

    def contacts_at(self, t_s: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n 4"]:
        """1 where left heel, left toe, right heel, right toe touch the floor, else 0."""
        t = np.clip(np.asarray(t_s, float), *self.span_s)
        columns = []
        for side in SIDES:
            down = self.tracks[f"{side}_lift"].at(t) < _DOWN_M
            pitch = self.tracks[f"{side}_pitch"].at(t)
            columns += [down & (pitch > -_FLAT_RAD), down & (pitch < _FLAT_RAD)]
        return np.stack(columns, axis=-1).astype(float)

    def activity_at(self, t_s: Float[np.ndarray, "n"]) -> Shaped[np.ndarray, "n"]:
        """Names of the activities, out of `ACTIVITIES`."""
        i = np.searchsorted(self.label_t_s, np.asarray(t_s, float), side="right") - 1
        return np.array(self.labels)[np.maximum(i, 0)]


def make_person(
    rng: np.random.Generator,
    motion_span_s: tuple[float, float] = (8.0, 20.0),
    stand_at: tuple[float, float, float] = (-1.3, -0.9, 0.1),
    furniture: Furniture | None = None,
    room_size_m: tuple[float, float] = ROOM_SIZE_M,
    body: BodyModel | None = None,
) -> Person:
    """A random person with a random motion; the same generator state gives the same person.

    Args:
        rng: source of shape, gait and activities.
        motion_span_s: when the motion begins and ends, session clock.
        stand_at: where the person waits in an A-pose: x, y (metres), heading (radians from world x to y).
        furniture: table and chair; the default set if left out.
        room_size_m: extent of the floor along x and y; the middle is the origin.
        body: body model; the stand-in if left out.

    Raises:
        InputError: if the person would wait in a wall, the table or the chair, or the span is shorter than 2 s.
    """
    furniture, body = furniture or Furniture(), body or stand_in_body()
    if not bool(furniture.is_free(np.array(stand_at[:2]), room_size_m)):
        raise InputError("stand_at", f"nobody can stand at {stand_at[:2]}", "choose a place off walls and furniture")
    if motion_span_s[1] - motion_span_s[0] < 2.0:
        raise InputError("motion_span_s", f"{motion_span_s} is too short", "give a motion at least 2 s")
    shaped = body.with_shape(np.round(np.clip(rng.normal(size=body.num_betas) * _SHAPE_SPREAD, -2, 2), 6))
    gait = _random_gait(rng, Proportions.of(shaped).leg_m)
    composer = Composer(rng, shaped, Stance(*stand_at), *motion_span_s, furniture, room_size_m, gait)
    score = composer.compose()
    tracks = score.tracks()
    times, labels = score.labels()
    height = _pelvis_height(tracks, Proportions.of(shaped), motion_span_s)
    return Person(shaped, motion_span_s, tracks, height, times, labels)


_SHAPE_SPREAD = 0.9  # of the betas, whose unit is a standard deviation


def simulate_motion(
    rng: np.random.Generator, duration_s: float, rate: float | Fraction, body: BodyModel | None = None
) -> dict[str, np.ndarray]:
    """A motion sampled for a data set: poses (T,24,3), trans (T,3), betas, contacts (T,4), labels (T,), t_s (T,).

    Args:
        rng: source of every choice.
        duration_s: length, at least 3 s.
        rate: frames a second.
        body: body model; the stand-in if left out.
    """
    stand_at = (float(rng.uniform(-1.9, -0.8)), float(rng.uniform(-1.4, 1.4)), float(rng.uniform(-np.pi, np.pi)))
    person = make_person(rng, (0.0, duration_s), stand_at, body=body)
    t_s = np.arange(round(duration_s * rate)) / float(rate)
    poses, trans = person.pose_at(t_s)
    return {
        "t_s": t_s, "poses": poses, "trans": trans, "betas": person.betas,
        "contacts": person.contacts_at(t_s), "labels": person.activity_at(t_s),
    }  # fmt: skip


def _random_gait(rng: np.random.Generator, leg_m: float) -> Gait:
    """A walk that suits the legs: slow to brisk indoor walking, 0.75 to 1.1 m/s."""
    return Gait(
        step_m=float(rng.uniform(0.56, 0.66) * leg_m),
        period_s=float(rng.uniform(0.52, 0.60)),
        width_m=float(rng.uniform(0.17, 0.21)),
        toe_out=float(rng.uniform(0.04, 0.14)),
        lift_m=float(rng.uniform(0.035, 0.055)),
        heel_strike=float(rng.uniform(0.14, 0.24)),
        toe_off=float(rng.uniform(0.34, 0.48)),
        arm_swing=float(rng.uniform(0.22, 0.42)),
    )


def _pelvis_height(tracks: Mapping[str, Track], body: Proportions, span_s: tuple[float, float]) -> CubicSpline:
    """The planned height, lowered wherever a leg would not reach its foot, and smoothed without rising above that."""
    count = max(8, int(np.ceil((span_s[1] - span_s[0]) / _GRID_S)) + 1)
    t = np.linspace(*span_s, count)
    channels = {name: track.at(t) for name, track in tracks.items()}
    allowed = np.minimum(channels["height"], highest_pelvis(channels, body))
    lowest = minimum_filter1d(allowed, 2 * _CALM_FRAMES + 1, mode="nearest")
    calm = gaussian_filter1d(lowest, _CALM_SIGMA, mode="nearest", radius=_CALM_FRAMES)
    return CubicSpline(t, calm, bc_type="clamped")
