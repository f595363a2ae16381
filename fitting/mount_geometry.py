"""How a foot camera sits on a foot, as far as the lab knows before any frame: AMD's E_u, E_d and E_a.

The camera rides on the dorsum: no part of the foot is above the plane of its width and height axes (E_u), the dorsum
is near that plane (E_d), and the bone from toes to heel runs along one of its axes (E_a). AMD adds the three to every
frame beside E_R and E_t; what they say does not change from frame to frame, so here they speak once, of the mount,
which `fitting.foot_mount` carries into all frames. They are used where the lab names that axis: a camera that was
mounted another way must not be pulled to this one.

Weights, which the paper does not state: holders are 1 to 5 cm high and are clipped on by hand, so 3 cm for the dorsum,
5 mm for parts above the plane, and 10 degrees for the axis; a mount seen in a hundred frames is known ten times better.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from core.arrays import Bool, Float
from core.errors import InputError
from core.skeletons import SMPL_24
from core.transforms import SE3, hat
from fitting.smpl import BodyModel

HeelAxis = Literal["+x", "-x", "+y", "-y", "unknown"]
ANKLES = {"left_foot": SMPL_24.idx("left_ankle"), "right_foot": SMPL_24.idx("right_ankle")}
"""Joint that a foot view's camera rides on, by its role."""
_OWN_SHARE = 0.5  # of a vertex's skinning that the ankle's bone must have
_UPPER_SHARE = 0.35  # of the vertices in front of the ankle that are the dorsum


@dataclass(frozen=True)
class MountGeometryConfig:
    """What is known of the mounts.

    Attributes:
        heel_axis: the camera's axis that points from toes to heel, as OpenCV has them: +x to the picture's right, +y to
            its lower edge. Unknown: the geometry is not used.
        above_sigma_m: how far parts of the foot may lie above the camera's plane.
        dorsum_sigma_m: how far the dorsum may lie from it.
        axis_sigma_deg: how far that axis may be turned from the foot's.
    """

    heel_axis: HeelAxis = "unknown"
    above_sigma_m: float = 0.005
    dorsum_sigma_m: float = 0.03
    axis_sigma_deg: float = 10.0

    @property
    def axis(self) -> Float[np.ndarray, "3"]:
        """The heel axis in the camera's frame."""
        axis = np.zeros(3)
        axis["xy".index(self.heel_axis[1])] = 1.0 if self.heel_axis[0] == "+" else -1.0
        return axis


@dataclass(frozen=True, eq=False)
class FootShape:
    """A foot at rest in its ankle's frame.

    Attributes:
        points_m: its vertices.
        dorsum: which of them are the dorsum.
        heel_from_toes: unit vector along the foot.
    """

    points_m: Float[np.ndarray, "points 3"]
    dorsum: Bool[np.ndarray, "points"]
    heel_from_toes: Float[np.ndarray, "3"]


@dataclass(frozen=True, eq=False)
class MountTerm:
    """A cost of one mount: value, gradient (6,) and Gauss-Newton Hessian (6, 6) by (rotation, translation)."""

    cost: float
    gradient: Float[np.ndarray, "6"]
    hessian: Float[np.ndarray, "6 6"]

    def __add__(self, other: MountTerm) -> MountTerm:
        return MountTerm(self.cost + other.cost, self.gradient + other.gradient, self.hessian + other.hessian)

    @staticmethod
    def of(residual: Float[np.ndarray, "n"], jacobian: Float[np.ndarray, "n 6"]) -> MountTerm:
        """Half the sum of squares of residuals in standard deviations."""
        return MountTerm(0.5 * float(residual @ residual), jacobian.T @ residual, jacobian.T @ jacobian)


def _heights(mount: SE3, points_m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far points lie above the camera's plane, along its optical axis, and the derivatives by the mount (n, 6)."""
    normal, arm = mount.R[:, 2], points_m - mount.t
    by_turn = -arm @ mount.R @ hat(np.array([0.0, 0.0, 1.0]))
    return arm @ normal, np.concatenate([by_turn, np.tile(-normal, (len(arm), 1))], axis=1)


def above_term(mount: SE3, points_m: Float[np.ndarray, "points 3"], sigma_m: float) -> MountTerm:
    """E_u: parts of the foot above the camera's plane, in the mean over all parts.

    Args:
        mount: `ankle_from_cam`.
        points_m: the foot in the ankle's frame.
        sigma_m: how far they may be.
    """
    height, J = _heights(mount, points_m)
    scale = 1 / (sigma_m * np.sqrt(len(points_m)))
    return MountTerm.of(np.maximum(height, 0.0) * scale, J * (height > 0)[:, None] * scale)


def dorsum_term(mount: SE3, points_m: Float[np.ndarray, "points 3"], sigma_m: float) -> MountTerm:
    """E_d: distance of the dorsum from the camera's plane, in the mean over its points."""
    height, J = _heights(mount, points_m)
    scale = 1 / (sigma_m * np.sqrt(len(points_m)))
    return MountTerm.of(height * scale, J * scale)


def axis_term(
    mount: SE3, heel_from_toes: Float[np.ndarray, "3"], axis: Float[np.ndarray, "3"], sigma_rad: float
) -> MountTerm:
    """E_a: (1 - cos) / sigma^2 of the angle between the foot and the camera's axis.

    Args:
        mount: `ankle_from_cam`.
        heel_from_toes: unit vector in the ankle's frame.
        axis: unit vector in the camera's.
        sigma_rad: how far it may be turned.
    """
    # |a - b|^2 / 2 = 1 - cos for unit vectors
    residual = (mount.R @ axis - heel_from_toes) / sigma_rad
    jacobian = np.concatenate([-mount.R @ hat(axis), np.zeros((3, 3))], axis=1) / sigma_rad
    return MountTerm.of(residual, jacobian)


def mount_term(mount: SE3, foot: FootShape, config: MountGeometryConfig) -> MountTerm:
    """All three."""
    return (
        above_term(mount, foot.points_m, config.above_sigma_m)
        + dorsum_term(mount, foot.points_m[foot.dorsum], config.dorsum_sigma_m)
        + axis_term(mount, foot.heel_from_toes, config.axis, np.deg2rad(config.axis_sigma_deg))
    )


def foot_shape(body: BodyModel, ankle_idx: int) -> FootShape | None:
    """A foot of the mean shape, for people's feet differ by less than what is known of mounts.

    Args:
        body: the whole model.
        ankle_idx: joint of the foot's ankle.

    Returns:
        None for a model with no foot there.
    """
    own = np.flatnonzero(body.weights[:, ankle_idx] > _OWN_SHARE)
    from_ankle = body.v_template[own] - body.joint_template[ankle_idx]
    ahead = from_ankle[:, 2] > 0  # a body at rest looks along z, y up
    if not ahead.any():
        return None
    dorsum = ahead & (from_ankle[:, 1] > np.quantile(from_ankle[ahead, 1], 1 - _UPPER_SHARE))
    side = SMPL_24.joints[ankle_idx].split("_")[0]
    heel = body.v_template[body.kind.vertex_ids[f"{side}_heel"]]
    along = (heel - body.joint_template[SMPL_24.idx(f"{side}_foot")]) * [1.0, 0.0, 1.0]  # as the sole lies
    return FootShape(from_ankle, dorsum, along / np.linalg.norm(along))


def ridden_feet(
    shapes: Mapping[int, FootShape], ankles: Mapping[str, int], config: MountGeometryConfig
) -> dict[str, FootShape]:
    """The feet that cameras ride on, by view; none where the lab has not named the axis.

    Raises:
        InputError: if the model has no such foot.
    """
    if config.heel_axis == "unknown":
        return {}
    for view, ankle_idx in ankles.items():
        if ankle_idx not in shapes:
            problem = f"the body model has no foot at its {SMPL_24.joints[ankle_idx]} that a camera could ride on"
            raise InputError(view, problem, "leave the heel axis unknown, or use another body model")
    return {view: shapes[ankle_idx] for view, ankle_idx in ankles.items()}
