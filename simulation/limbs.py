"""From a movement's channels to SMPL's rotations: a leg by closed-form inverse kinematics, the rest by joint angles.

Angles are in radians and in SMPL's rest frame (x to the subject's left, y up, z forward). A foot is given by where it
stands flat, its direction, lift and pitch; pitched it rolls over a pivot on the ground, the heel (toes up) or the ball
(heel up), so that what touches the floor stays where it is: toes bend at their own joint and do not move at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from core.arrays import Float
from core.skeletons import SMPL_24
from fitting.smpl import ShapedBody, rodrigues
from simulation.trajectories import SIDES, SIGN

MAX_REACH = 0.990  # share of a leg's length that a standing person uses; the knee stays a little bent
_HEEL_FRONT = -0.048  # the heel's pivot under the mean foot, metres in front of the ankle
_X, _Y, _Z = np.eye(3)
WORLD_FROM_SMPL = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])  # at heading 0: z forward becomes x

# Channels of a person who stands upright with hanging arms.
NEUTRAL: Mapping[str, float] = {
    "pelvis_x": 0.0, "pelvis_y": 0.0, "height": 0.0, "heading": 0.0, "pitch": 0.03, "flex": 0.0, "twist": 0.0,
    "gaze_pitch": 0.0, "gaze_yaw": 0.0,
    **{f"{side}_{name}": 0.0 for side in SIDES for name in ("x", "y", "yaw", "lift", "pitch")},
    **{f"{side}_{name}": value for side in SIDES for name, value in (
        ("arm_flex", 0.06), ("arm_out", 0.16), ("arm_twist", 0.0), ("elbow", 0.28))},
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Proportions:
    """What inverse kinematics needs to know of a body.

    Attributes:
        offsets: each joint from its parent at rest, metres.
        ankle_height: ankle joint over the sole.
        foot_scale: foot length relative to the mean body's.
    """

    offsets: Float[np.ndarray, "24 3"]
    ankle_height: float
    foot_scale: float

    @staticmethod
    def of(shaped: ShapedBody) -> Proportions:
        """Measures a shaped body at rest."""
        rest = shaped.rest_joints
        offsets = rest - rest[np.maximum(shaped.body.parents, 0)]
        ankle, toes = SMPL_24.idx("left_ankle"), SMPL_24.idx("left_foot")
        mean = shaped.body.joint_template
        return Proportions(
            offsets,
            float(rest[ankle, 1] - shaped.rest_vertices[:, 1].min()),
            float((rest[toes, 2] - rest[ankle, 2]) / (mean[toes, 2] - mean[ankle, 2])),
        )

    def leg(self, side: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Offsets pelvis to hip, hip to knee, knee to ankle."""
        hip, knee, ankle = (self.offsets[SMPL_24.idx(f"{side}_{joint}")] for joint in ("hip", "knee", "ankle"))
        return hip, knee, ankle

    @property
    def leg_m(self) -> float:
        """Length of the straight leg."""
        return float(sum(np.linalg.norm(bone) for bone in self.leg("left")[1:]))


Channels = Mapping[str, np.ndarray]


def about(axis: Float[np.ndarray, "3"], angle: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n 3 3"]:
    """Rotations about a fixed axis."""
    return rodrigues(angle[..., None] * axis)


def heading_rotation(heading: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n 3 3"]:
    """`world_from_body` of an upright body that looks along a heading."""
    return about(_Z, heading) @ WORLD_FROM_SMPL


def pelvis_rotation(c: Channels) -> Float[np.ndarray, "n 3 3"]:
    """`world_from_pelvis` rotations."""
    return heading_rotation(c["heading"]) @ about(_X, c["pitch"])


def foot_pose(c: Channels, side: str, body: Proportions) -> tuple[np.ndarray, np.ndarray]:
    """Ankle frame of one foot: rotations (n, 3, 3) and ankle positions (n, 3), world."""
    flat = heading_rotation(c[f"{side}_yaw"])
    pitch = c[f"{side}_pitch"]
    rolled = about(_X, -pitch)
    heel = np.array([0.0, -body.ankle_height, _HEEL_FRONT * body.foot_scale])
    pivot = np.where(pitch[:, None] > 0, heel, body.offsets[SMPL_24.idx(f"{side}_foot")])
    shift = pivot - np.einsum("nab,nb->na", rolled, pivot)
    ankle = np.stack([c[f"{side}_x"], c[f"{side}_y"], body.ankle_height + c[f"{side}_lift"]], axis=-1)
    return flat @ rolled, ankle + np.einsum("nab,nb->na", flat, shift)


def highest_pelvis(c: Channels, body: Proportions) -> Float[np.ndarray, "n"]:
    """Greatest height of the pelvis at which both legs reach their feet, metres."""
    pelvis, heights = pelvis_rotation(c), []
    for side in SIDES:
        _, ankle = foot_pose(c, side, body)
        hip = np.einsum("nab,b->na", pelvis, body.leg(side)[0])
        across = np.hypot(c["pelvis_x"] + hip[:, 0] - ankle[:, 0], c["pelvis_y"] + hip[:, 1] - ankle[:, 1])
        reach = MAX_REACH * body.leg_m
        heights.append(ankle[:, 2] - hip[:, 2] + np.sqrt(np.maximum(reach**2 - across**2, 0.01)))
    return np.minimum(*heights)


def body_rotations(c: Channels, pelvis_m: Float[np.ndarray, "n 3"], body: Proportions) -> Float[np.ndarray, "n 24 3 3"]:
    """SMPL's 24 rotations (root in the world, others relative to their parents) of n instants."""
    R = upper_body_rotations(c)
    for side in SIDES:
        for joint, rotation in _leg(c, side, R[:, 0], pelvis_m, body).items():
            R[:, SMPL_24.idx(f"{side}_{joint}")] = rotation
    return R


def upper_body_rotations(c: Channels) -> Float[np.ndarray, "n 24 3 3"]:
    """Rotations of pelvis, trunk, head and arms; the legs are left at rest."""
    R = np.broadcast_to(np.eye(3), (len(c["heading"]), 24, 3, 3)).copy()
    R[:, 0] = pelvis_rotation(c)
    spine = about(_Y, c["twist"] / 3) @ about(_X, c["flex"] / 3)
    for joint in ("spine1", "spine2", "spine3"):
        R[:, SMPL_24.idx(joint)] = spine
    # head and neck keep the gaze level against half of what the trunk bends, and turn it
    nod = c["gaze_pitch"] - 0.5 * (c["pitch"] + c["flex"])
    gaze = about(_Y, c["gaze_yaw"] / 2) @ about(_X, nod / 2)
    for joint in ("neck", "head"):
        R[:, SMPL_24.idx(joint)] = gaze
    for side in SIDES:
        for joint, rotation in _arm(c, side).items():
            R[:, SMPL_24.idx(f"{side}_{joint}")] = rotation
    return R


def _arm(c: Channels, side: str) -> dict[str, np.ndarray]:
    """Collar, shoulder and elbow: the arm hangs, is led outward and forward, and turned about itself."""
    sign = SIGN[side]
    out = c[f"{side}_arm_out"]
    raised = np.maximum(np.hypot(out, c[f"{side}_arm_flex"]), 1e-9)
    shrug = 0.12 * raised**2 / (1 + raised)  # the collar bone follows a raised arm
    hang = -(np.pi / 2 - out + shrug)
    shoulder = about(_X, -c[f"{side}_arm_flex"]) @ about(_Z, sign * hang) @ about(_X, c[f"{side}_arm_twist"])
    return {
        "collar": about(_Z, sign * shrug),
        "shoulder": shoulder,
        "elbow": about(_Y, -sign * c[f"{side}_elbow"]),
    }


def _leg(c: Channels, side: str, pelvis: np.ndarray, pelvis_m: np.ndarray, body: Proportions) -> dict[str, np.ndarray]:
    """Hip, knee, ankle and toes that put the foot where its channels want it."""
    to_hip, thigh, shank = body.leg(side)
    foot, ankle_m = foot_pose(c, side, body)
    wanted = ankle_m - pelvis_m - np.einsum("nab,b->na", pelvis, to_hip)
    knee = about(_X, _knee_angle(np.linalg.norm(wanted, axis=1), thigh, shank))
    rest = thigh + np.einsum("nab,b->na", knee, shank)
    # the knee's hinge stays level and square to where the middle between pelvis and foot looks
    left = heading_rotation((c["heading"] + c[f"{side}_yaw"]) / 2)[:, :, 0]
    hip = _frame(wanted, left) @ np.swapaxes(_frame(rest, np.broadcast_to(_X, rest.shape)), -1, -2)
    return {
        "hip": np.swapaxes(pelvis, -1, -2) @ hip,
        "knee": knee,
        "ankle": np.swapaxes(hip @ knee, -1, -2) @ foot,
        # toes stay flat while the heel rises
        "foot": about(_X, np.minimum(c[f"{side}_pitch"], 0.0)),
    }


def _knee_angle(distance: np.ndarray, thigh: np.ndarray, shank: np.ndarray) -> np.ndarray:
    """Flexion at which hip and ankle lie a distance apart: |thigh + Rx(k) shank| = distance, k as small as allowed."""
    cosine = thigh[1:] @ shank[1:]
    sine = thigh[2] * shank[1] - thigh[1] * shank[2]
    constant = (distance**2 - thigh @ thigh - shank @ shank) / 2 - thigh[0] * shank[0]
    return np.arctan2(sine, cosine) + np.arccos(np.clip(constant / np.hypot(cosine, sine), -1.0, 1.0))


def _frame(along: np.ndarray, left: np.ndarray) -> np.ndarray:
    """Orthonormal frames (n, 3, 3) with the first axis along a vector and the second as near to `left` as possible."""
    a = along / np.linalg.norm(along, axis=-1, keepdims=True)
    b = left - np.sum(a * left, axis=-1, keepdims=True) * a
    b = b / np.linalg.norm(b, axis=-1, keepdims=True)
    return np.stack([a, b, np.cross(a, b)], axis=-1)
