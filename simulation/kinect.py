"""People as Kinect v2 would see them, in NTU RGB+D's text files: to try the road from such files to a benchmark.

A stick person of 25 joints with rigid bones moves one limb or several, each action in its own way; of the last actions
two people take part, face to face. Subjects differ in size, tempo and how they stand, cameras in their place. Nobody is
meant to take this for people: it has the layout, the units and the splits of the data, and classes that can be told.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np

from core.arrays import Float
from core.files import write_text
from dataset.kinect.benchmarks import NtuName
from dataset.kinect.joint_map import KINECT_25
from dataset.rotations import matrix_from_rotvec

RATE_HZ = 30.0
# where the joints of a person of 1.7 m stand: x to the person's left, y up, z ahead; metres above the floor
_REST = {
    "pelvis": (0, 0.95, 0), "spine2": (0, 1.2, 0), "neck": (0, 1.42, 0), "kinect_neck": (0, 1.5, 0.01),
    "head": (0, 1.62, 0.02),
    **{
        f"{side}_{joint}": (sign * x, y, z)
        for side, sign in (("left", 1), ("right", -1))
        for joint, (x, y, z) in {
            "shoulder": (0.18, 1.38, 0), "elbow": (0.2, 1.1, 0), "wrist": (0.21, 0.86, 0.02),
            "hand": (0.21, 0.78, 0.03),
            "tip": (0.21, 0.7, 0.03), "thumb": (0.19, 0.77, 0.07), "hip": (0.09, 0.9, 0), "knee": (0.1, 0.49, 0.01),
            "ankle": (0.1, 0.08, 0), "foot": (0.1, 0.03, 0.12),
        }.items()
    },
}  # fmt: skip
_ARM, _LEG = ("elbow", "wrist", "hand", "tip", "thumb"), ("knee", "ankle", "foot")
# what turns about which joint: both arms, each arm, each leg, the body above the hips
_LIMBS = (
    *((f"{side}_shoulder", tuple(f"{side}_{j}" for j in _ARM)) for side in ("left", "right")),
    *((f"{side}_hip", tuple(f"{side}_{j}" for j in _LEG)) for side in ("left", "right")),
    ("pelvis", tuple(j for j in KINECT_25.joints if not j.endswith(("hip", *_LEG)) and j != "pelvis")),
)  # fmt: skip
# forwards and backwards, and sideways
_AXES = ((-1.0, 0.0, 0.0), (0.0, 0.0, 1.0))
_HZ = (0.6, 1.2)
NUM_ACTIONS = len(_LIMBS) * len(_AXES) * len(_HZ)
_NOISE_M = 0.004


def moving_person(
    action: int, frames: int, rng: np.random.Generator, size: float = 1.0, tempo: float = 1.0
) -> Float[np.ndarray, "frames 25 3"]:
    """A person who stands at the origin, faces +z and does an action: metres, y up, floor at y = 0.

    Args:
        action: from 0; those past `NUM_ACTIONS` move as those before do, farther.
        frames: at 30 a second.
        rng: of phase, reach and noise.
        size: of the body; 1 is 1.7 m.
        tempo: how much faster than usual.
    """
    joints = np.tile(np.array([_REST[name] for name in KINECT_25.joints], dtype=np.float64), (frames, 1, 1))
    which, further = action % NUM_ACTIONS, action // NUM_ACTIONS
    (about, moved), axis, hz = tuple(product(_LIMBS, _AXES, _HZ))[which]
    t_s = np.arange(frames) / RATE_HZ
    reach_rad = (0.5 if about == "pelvis" else 0.9) * (1 + 0.4 * further) * rng.uniform(0.85, 1.15)
    angle = 0.5 * reach_rad * (1 - np.cos(2 * np.pi * hz * tempo * t_s + rng.uniform(0, 0.5)))
    outward = np.sign(_REST[moved[0]][0]) or 1.0
    turn = matrix_from_rotvec(angle[:, None] * np.array(axis) * (1.0 if axis[0] else outward))
    centre, idx = KINECT_25.idx(about), [KINECT_25.idx(name) for name in moved]
    joints[:, idx] = np.einsum("tij,tkj->tki", turn, joints[:, idx] - joints[:, centre, None]) + joints[:, centre, None]
    sway = 0.02 * np.sin(2 * np.pi * 0.3 * t_s + rng.uniform(0, 2 * np.pi))
    joints[..., 0] += sway[:, None]
    return size * joints + rng.normal(scale=_NOISE_M, size=joints.shape)


def skeleton_text(bodies: Sequence[Float[np.ndarray, "frames 25 3"]]) -> str:
    """The text of a `.skeleton` file; a body is not in frames in which it is NaN."""
    rest = "250.1 200.2 1000.3 500.4 0.1 0.2 0.3 0.4 2"
    lines = [str(len(bodies[0]))]
    for frame in range(len(bodies[0])):
        seen = [(i, body[frame]) for i, body in enumerate(bodies) if np.isfinite(body[frame]).all()]
        lines.append(str(len(seen)))
        for i, joints in seen:
            lines += [f"{72057594037931101 + i} 0 1 1 1 1 0 0.02 -0.1 2", str(len(joints))]
            lines += [f"{x:.5f} {y:.5f} {z:.5f} {rest}" for x, y, z in joints]
    return "\n".join(lines) + "\n"


def write_ntu_files(
    folder: Path,
    seed: int,
    *,
    actions: Sequence[int] = range(1, 11),
    subjects: Sequence[int] = (1, 2, 3, 6),
    cameras: Sequence[int] = (1, 2, 3),
    setups: Sequence[int] = (1, 2),
    replications: int = 1,
    frames: tuple[int, int] = (60, 120),
    pairs: Sequence[int] = (),
) -> list[NtuName]:
    """Writes a file for every action, subject, camera, setup and replication; the same seed gives the same files.

    Args:
        folder: where they go.
        seed: of everything that is drawn.
        actions: from 1.
        subjects: performers.
        cameras: 1 to 3.
        setups: of the cameras.
        replications: how often each is done.
        frames: fewest and most frames of a file.
        pairs: actions in which two people take part.
    """
    names = []
    for setup, subject, repeat, action in product(setups, subjects, range(1, replications + 1), actions):
        rng = np.random.default_rng([seed, setup, subject, repeat, action])
        size, tempo = np.random.default_rng([seed, subject]).uniform([0.9, 0.85], [1.1, 1.15])
        number = int(rng.integers(frames[0], frames[1] + 1))
        people = [_placed(moving_person(action - 1, number, rng, size, tempo), rng.uniform(-0.3, 0.3), 0.0)]
        if action in pairs:
            other = moving_person(action - 1, number, rng, 2 - size, tempo)
            people = [_placed(people[0], 0.5 * np.pi, -0.5), _placed(other, -0.5 * np.pi, 0.5)]
        for camera in cameras:
            name = NtuName(setup, camera, subject, repeat, action)
            seen = [_before_camera(person, camera, setup) for person in people]
            write_text(folder / f"{name}.skeleton", skeleton_text(seen))
            names.append(name)
    return names


def _about_y(points: np.ndarray, yaw_rad: float) -> np.ndarray:
    return points @ matrix_from_rotvec(np.array([0.0, yaw_rad, 0.0])).T


def _placed(joints: np.ndarray, yaw_rad: float, x_m: float) -> np.ndarray:
    return _about_y(joints, yaw_rad) + np.array([x_m, 0.0, 0.0])


def _before_camera(joints: np.ndarray, camera: int, setup: int) -> np.ndarray:
    """As a camera sees it, at one side or the other: z is away from it, and people look at it."""
    side = {1: 0.0, 2: -np.pi / 4, 3: np.pi / 4}[camera]
    return _about_y(joints, np.pi + side) + np.array([0.0, -1.0 - 0.05 * setup, 3.0 + 0.1 * setup])
