"""The way of a hand-held camera through the still, empty room: once at the height of the eyes, once low and looking up.

The low round sees what a camera on a foot sees, from nearly where it sees it.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from core.transforms import SE3
from simulation.scenery import looking

WALKTHROUGH_RATE = Fraction(5)
_HIGH_M, _LOW_M = 1.5, 0.32
_REACH_M = (1.75, 1.3)  # half axes of the rounds; the low one must pass outside the table
_LOW_SHARE = 0.5
_PITCH_RAD = np.deg2rad(62.0)  # of the low round, upwards
_SHAKE_M, _SHAKE_RAD = 0.02, 0.03


def walkthrough_poses(rng: np.random.Generator, num_frames: int) -> SE3:
    """`world_from_cam` (num_frames,) of the frames, in order.

    The camera looks across the room while it goes round at the height of the eyes, panning up and down, and then, going
    round again, up to the ceiling.
    """
    low = round(num_frames * _LOW_SHARE)
    poses = [_pose(rng, i / max(num_frames - low, 1), False) for i in range(num_frames - low)]
    poses += [_pose(rng, i / low, True) for i in range(low)]
    return SE3.stack(poses) if poses else SE3.identity(0)


def _pose(rng: np.random.Generator, share: float, low: bool) -> SE3:
    """One frame: `share` of a round and a quarter is done."""
    bearing = -2.6 + 2.5 * np.pi * share
    ray = np.array([np.cos(bearing), np.sin(bearing)])
    reach = np.array(_REACH_M) * (1.12 if low else 0.85 + 0.15 * np.sin(3 * bearing))
    height = (_LOW_M if low else _HIGH_M) + 0.08 * np.sin(2 * bearing)
    place = np.array([*(reach * ray), height]) + _SHAKE_M * rng.standard_normal(3)
    # across the room, swinging from side to side by half a turn so that the walls pass too
    heading = bearing + np.pi + 1.1 * np.sin(2.3 * bearing)
    pitch = _PITCH_RAD + 0.25 * np.sin(4 * bearing) if low else 0.12 + 0.38 * np.sin(3.3 * bearing)
    shaken = np.array([heading, pitch]) + _SHAKE_RAD * rng.standard_normal(2)
    aim = np.array([*(np.cos(shaken[1]) * np.array([np.cos(shaken[0]), np.sin(shaken[0])])), np.sin(shaken[1])])
    return looking(place, place + aim, roll_rad=_SHAKE_RAD * float(rng.standard_normal()))
