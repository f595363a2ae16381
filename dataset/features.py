"""The paper's frame vector, and the heading-aligned local joints that action atoms are found on.

One frame is `(c, yaw rate, root velocity, joint positions, joint velocities, 6D rotations)`: 4 + 1 + 2 + 12 J values,
271 for J = 22 (SMPL without its hands, which no keypoint drives; the paper leaves J open). Choices where it is silent:

- *Heading frame*: x forward, y left, z up; forward is `left x up`, left being the sum of the right-to-left hip and
  shoulder lines, made horizontal (HumanML3D's rule). Its origin is the floor below the pelvis, which keeps its height.
- *Velocities* are per second, so that they mean the same at any rate, and are forward differences of world positions
  turned into the heading frame of their frame: the root's whole path can be added up again. The last frame repeats.
- *Body shape* is normalised by one scale for a clip that brings hip-knee-ankle to `REFERENCE_LEG_M`. A uniform scale
  needs no body model, keeps feet on the floor and rotations as they are; proportions remain the subject's.
- *Rotations*: the root's in the heading frame, the others relative to their parents.

`dataset.inverse` leads back to SMPL's parameters.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from core.arrays import Float, Int
from core.skeletons import SMPL_24
from dataset.rotations import matrix_from_rotvec, sixd_from_matrix, yaw_matrix

NUM_FEATURE_JOINTS = 22
# hip-knee-ankle of the mean SMPL body is close to this
REFERENCE_LEG_M = 0.8
# a left-right line flatter than this (metres, sum of hips and shoulders: about 0.5 m upright) gives no heading
_MIN_LATERAL_M = 0.05

_LEFT_HIP, _RIGHT_HIP, _LEFT_SHOULDER, _RIGHT_SHOULDER = (
    SMPL_24.idx(name) for name in ("left_hip", "right_hip", "left_shoulder", "right_shoulder")
)
_LEGS = [[SMPL_24.idx(f"{side}_{part}") for part in ("hip", "knee", "ankle")] for side in ("left", "right")]


@dataclass(frozen=True)
class FeatureLayout:
    """Where each part of the frame vector lies.

    Attributes:
        num_joints: J.
    """

    num_joints: int = NUM_FEATURE_JOINTS

    @property
    def contacts(self) -> slice:
        """Left heel, left toe, right heel, right toe."""
        return slice(0, 4)

    @property
    def yaw_rate(self) -> slice:
        """Turn of the heading about world z, rad/s."""
        return slice(4, 5)

    @property
    def root_velocity(self) -> slice:
        """Forward and leftward velocity of the pelvis, m/s."""
        return slice(5, 7)

    @property
    def positions(self) -> slice:
        """Joints in the heading frame, metres, joint by joint."""
        return slice(7, 7 + 3 * self.num_joints)

    @property
    def velocities(self) -> slice:
        """World velocities of the joints, turned into the heading frame, m/s."""
        return slice(7 + 3 * self.num_joints, 7 + 6 * self.num_joints)

    @property
    def rotations(self) -> slice:
        """6D rotations, joint by joint, the root's relative to the heading frame."""
        return slice(7 + 6 * self.num_joints, 7 + 12 * self.num_joints)

    @property
    def size(self) -> int:
        """Length of the vector."""
        return 7 + 12 * self.num_joints

    @property
    def parts(self) -> Mapping[str, slice]:
        """All parts by name, in order."""
        names = ("contacts", "yaw_rate", "root_velocity", "positions", "velocities", "rotations")
        return {name: getattr(self, name) for name in names}


LAYOUT = FeatureLayout()
# signs of the axes in a mirror that exchanges left and right: of the heading frame (y is left), of SMPL's rest pose (x)
_MIRROR, _MIRROR_AT_REST = np.array([1.0, -1.0, 1.0]), np.array([-1.0, 1.0, 1.0])
# Floors of the standard deviations used for normalising: a foot clamped to the floor varies by micrometres in one
# recording and by centimetres in the next, and would otherwise dominate every distance.
SD_FLOORS: Mapping[str, float] = {
    "contacts": 0.1, "yaw_rate": 0.05, "root_velocity": 0.05, "positions": 0.01, "velocities": 0.05, "rotations": 0.01,
}  # fmt: skip
# a deviation beside which nothing counts: of channels that a network does not see
SILENT = 1e9


def leg_length(joints_m: Float[np.ndarray, "frames joints 3"]) -> float:
    """Hip-knee-ankle length in metres: the median over frames of the mean of both sides; NaN without a whole frame."""
    legs = joints_m[:, _LEGS]
    lengths = np.linalg.norm(np.diff(legs, axis=2), axis=-1).sum(axis=-1).mean(axis=-1)
    lengths = lengths[np.isfinite(lengths)]
    return float(np.median(lengths)) if len(lengths) else float("nan")


def heading(joints_m: Float[np.ndarray, "frames joints 3"]) -> Float[np.ndarray, "frames"]:
    """Yaw of the body about world z, radians, unwrapped; 0 faces along world x.

    Where hips and shoulders give none (the left-right line is vertical, or joints are NaN), it is interpolated.
    """
    j = joints_m.astype(np.float64)
    left = j[:, _LEFT_HIP] - j[:, _RIGHT_HIP] + j[:, _LEFT_SHOULDER] - j[:, _RIGHT_SHOULDER]
    known = np.hypot(left[:, 0], left[:, 1]) > _MIN_LATERAL_M
    if not known.any():
        return np.zeros(len(j))
    # forward = left x up = (left_y, -left_x)
    yaw = np.unwrap(np.arctan2(-left[known, 0], left[known, 1]))
    frames = np.arange(len(j))
    return np.interp(frames, frames[known], yaw)


def _into_heading(yaw: Float[np.ndarray, "frames"], vectors: Float[np.ndarray, "frames n 3"]) -> np.ndarray:
    """World vectors in the heading frame."""
    return vectors @ yaw_matrix(yaw)  # rows: v^T R = (R^T v)^T


def local_joints(
    joints_m: Float[np.ndarray, "frames joints 3"], scale: float = 1.0
) -> Float[np.ndarray, "frames 22 3"]:
    """Joints in the heading frame of their frame: pelvis at x = y = 0, height kept.

    Args:
        joints_m: joints in the world, SMPL order; hands are left out.
        scale: body normalisation, `REFERENCE_LEG_M / leg_m`.
    """
    joints = scale * joints_m[:, :NUM_FEATURE_JOINTS].astype(np.float64)
    return _into_heading(heading(joints_m), joints - _ground(joints))


def _ground(joints: Float[np.ndarray, "frames joints 3"]) -> Float[np.ndarray, "frames 1 3"]:
    """The point of the floor below the pelvis."""
    ground = joints[:, :1].copy()
    ground[..., 2] = 0.0
    return ground


def mirror_map() -> tuple[Int[np.ndarray, "features"], Float[np.ndarray, "features"]]:
    """Which channel becomes which, and by which sign, when left and right are exchanged: `sign * x[..., channel]`."""
    swap = SMPL_24.swap_idx[:NUM_FEATURE_JOINTS]
    channel, sign = np.arange(LAYOUT.size), np.ones(LAYOUT.size)
    channel[LAYOUT.contacts] = LAYOUT.contacts.start + np.array([2, 3, 0, 1])
    sign[LAYOUT.yaw_rate] = -1.0
    sign[LAYOUT.root_velocity] = _MIRROR[:2]
    for part, signs in ((LAYOUT.positions, _MIRROR), (LAYOUT.velocities, _MIRROR)):
        channel[part] = part.start + (3 * swap[:, None] + np.arange(3)).ravel()
        sign[part] = np.tile(signs, NUM_FEATURE_JOINTS)
    # a rotation R becomes M R N with the mirrors of the frames that it leads into and from; its first two columns
    columns = np.outer(_MIRROR_AT_REST[:2], _MIRROR_AT_REST).ravel()
    channel[LAYOUT.rotations] = LAYOUT.rotations.start + (6 * swap[:, None] + np.arange(6)).ravel()
    sign[LAYOUT.rotations] = np.tile(columns, NUM_FEATURE_JOINTS)
    sign[LAYOUT.rotations][:6] = np.outer(_MIRROR_AT_REST[:2], _MIRROR).ravel()
    return channel, sign


def _forward_rate(values: Float[np.ndarray, "frames *rest"], rate_hz: float) -> Float[np.ndarray, "frames *rest"]:
    """Forward differences per second; the last frame repeats its predecessor, one frame alone is at rest."""
    if len(values) < 2:
        return np.zeros_like(values)
    change = np.diff(values, axis=0) * rate_hz
    return np.concatenate([change, change[-1:]])


def frame_features(
    poses: Float[np.ndarray, "frames joints 3"],
    joints_m: Float[np.ndarray, "frames joints 3"],
    contacts: Float[np.ndarray, "frames 4"],
    rate_hz: float,
    scale: float = 1.0,
) -> Float[np.ndarray, "frames 271"]:
    """The frame vectors of a motion.

    Args:
        poses: axis-angle, root in the world (z up).
        joints_m: joints in the world, metres.
        contacts: left heel, left toe, right heel, right toe.
        rate_hz: frames a second.
        scale: body normalisation, `REFERENCE_LEG_M / leg_m`.

    Returns:
        float32 vectors laid out as `LAYOUT`; NaN where the input is.
    """
    joints = scale * joints_m[:, :NUM_FEATURE_JOINTS].astype(np.float64)
    yaw = heading(joints_m)
    velocities = _into_heading(yaw, _forward_rate(joints, rate_hz))
    rotations = matrix_from_rotvec(poses[:, :NUM_FEATURE_JOINTS].astype(np.float64))
    rotations[:, 0] = yaw_matrix(-yaw) @ rotations[:, 0]
    parts = [
        contacts,
        _forward_rate(yaw[:, None], rate_hz),
        velocities[:, 0, :2],
        _into_heading(yaw, joints - _ground(joints)).reshape(-1, 3 * NUM_FEATURE_JOINTS),
        velocities.reshape(-1, 3 * NUM_FEATURE_JOINTS),
        sixd_from_matrix(rotations).reshape(-1, 6 * NUM_FEATURE_JOINTS),
    ]
    return np.concatenate(parts, axis=1).astype(np.float32)


@dataclass(frozen=True)
class FeatureStats:
    """Mean and standard deviation of the frame vector over a dataset's training split.

    Attributes:
        rate_hz: rate the features were computed at; velocities are smoother at low rates.
        mean: (271,).
        sd: (271,), floored (`SD_FLOORS`).
        num_frames: how many frames went in.
    """

    rate_hz: float
    mean: Float[np.ndarray, "features"]
    sd: Float[np.ndarray, "features"]
    num_frames: int

    def normalise(self, features: Float[np.ndarray, "*batch features"]) -> Float[np.ndarray, "*batch features"]:
        """Zero mean, unit variance, float32."""
        return ((features - self.mean) / self.sd).astype(np.float32)

    def denormalise(self, normalised: Float[np.ndarray, "*batch features"]) -> Float[np.ndarray, "*batch features"]:
        """Inverse of `normalise`."""
        return (normalised * self.sd + self.mean).astype(np.float32)

    def by_part(self, kept: Collection[str] = tuple(LAYOUT.parts)) -> FeatureStats:
        """One deviation for all channels of a part, their root mean square, so that still channels stay small.

        Args:
            kept: parts that are to count; the others become nothing.
        """
        sd = np.full(LAYOUT.size, SILENT)
        for name in kept:
            part = LAYOUT.parts[name]
            sd[part] = np.sqrt(np.square(self.sd[part]).mean())
        return FeatureStats(self.rate_hz, self.mean, sd, self.num_frames)

    @staticmethod
    def from_sums(rate_hz: float, count: int, total: np.ndarray, squares: np.ndarray) -> FeatureStats:
        """From the number of frames and the sums of the values and of their squares; identity without frames."""
        if count == 0:
            return FeatureStats(rate_hz, np.zeros(LAYOUT.size), np.ones(LAYOUT.size), 0)
        mean = total / count
        sd = np.sqrt(np.maximum(squares / count - mean**2, 0.0))
        for name, part in LAYOUT.parts.items():
            sd[part] = np.maximum(sd[part], SD_FLOORS[name])
        return FeatureStats(rate_hz, mean, sd, count)
