"""Rigid transforms and rotations, batched over any leading axes.

Names carry the direction: `a_from_b.apply(p_in_b)` gives `p_in_a`, and products cancel (`a_from_b @ b_from_c`).
Small rotations are right-multiplied: `R(w) = R exp(hat(w))`, the convention of every Jacobian in this project.
Formulas follow Sola, Deray and Atchuthan, "A micro Lie theory for state estimation in robotics" (arXiv 1812.01537).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation, Slerp

from core.arrays import Float

_HALF_TURN = 2 * np.cos(2.8)


def hat(v: Float[np.ndarray, "*batch 3"]) -> Float[np.ndarray, "*batch 3 3"]:
    """Cross-product matrix: `hat(v) @ x == cross(v, x)`."""
    zero = np.zeros_like(v[..., 0])
    x, y, z = v[..., 0], v[..., 1], v[..., 2]
    rows = [np.stack(r, axis=-1) for r in ((zero, -z, y), (z, zero, -x), (-y, x, zero))]
    return np.stack(rows, axis=-2)


def so3_exp(w: Float[np.ndarray, "*batch 3"]) -> Float[np.ndarray, "*batch 3 3"]:
    """Rotation matrix of a rotation vector (radians)."""
    return Rotation.from_rotvec(w.reshape(-1, 3)).as_matrix().reshape(*w.shape[:-1], 3, 3)


def so3_log(R: Float[np.ndarray, "*batch 3 3"]) -> Float[np.ndarray, "*batch 3"]:
    """Rotation vector (radians, length at most pi) of a rotation matrix; NaN of one that is not known."""
    v = np.empty(R.shape[:-1])
    np.subtract(R[..., 2, 1], R[..., 1, 2], out=v[..., 0])
    np.subtract(R[..., 0, 2], R[..., 2, 0], out=v[..., 1])
    np.subtract(R[..., 1, 0], R[..., 0, 1], out=v[..., 2])
    sine2 = (v * v).sum(axis=-1)  # of twice the sine
    cosine = R[..., 0, 0] + R[..., 1, 1] + R[..., 2, 2] - 1  # twice
    sine = np.sqrt(sine2)
    small = sine < 1e-4
    with np.errstate(invalid="ignore"):
        turned = ~(cosine > _HALF_TURN)  # by nearly half a turn, where v vanishes though the angle does not
    scale = np.where(small, 0.5 + sine2 / 48, np.arctan2(sine, cosine) / np.where(small, 1.0, sine))
    w: np.ndarray = v * scale[..., None]
    turned &= np.isfinite(sine2) & np.isfinite(cosine)
    if turned.any():  # by way of the quaternion
        w[turned] = Rotation.from_matrix(R[turned]).as_rotvec()
    return w


def right_jacobian(w: Float[np.ndarray, "*batch 3"]) -> Float[np.ndarray, "*batch 3 3"]:
    """`exp(w + d) ~ exp(w) exp(Jr(w) d)` (Sola et al., eq. 143)."""
    angle = np.linalg.norm(w, axis=-1)[..., None, None]
    small = angle < 1e-4
    safe = np.where(small, 1.0, angle)
    first = np.where(small, 0.5 - angle**2 / 24, (1 - np.cos(safe)) / safe**2)
    second = np.where(small, 1 / 6 - angle**2 / 120, (safe - np.sin(safe)) / safe**3)
    W = hat(w)
    return np.eye(3) - first * W + second * (W @ W)


def right_jacobian_inverse(w: Float[np.ndarray, "*batch 3"]) -> Float[np.ndarray, "*batch 3 3"]:
    """`log(exp(w) exp(d)) ~ w + Jr^-1(w) d` (Sola et al., eq. 144)."""
    angle = np.linalg.norm(w, axis=-1)[..., None, None]
    small = angle < 1e-3
    safe = np.where(small, 1.0, angle)
    second = np.where(small, 1 / 12 + angle**2 / 720, 1 / safe**2 - (1 + np.cos(safe)) / (2 * safe * np.sin(safe)))
    W = hat(w)
    return np.eye(3) + 0.5 * W + second * (W @ W)


def nearest_rotation(M: Float[np.ndarray, "*batch 3 3"]) -> Float[np.ndarray, "*batch 3 3"]:
    """The proper rotation closest to a matrix in the Frobenius norm."""
    U, _, Vt = np.linalg.svd(M)
    sign = np.ones(M.shape[:-1])
    sign[..., 2] = np.sign(np.linalg.det(U @ Vt))
    return (U * sign[..., None, :]) @ Vt


def geodesic(Ra: Float[np.ndarray, "*batch 3 3"], Rb: Float[np.ndarray, "*batch 3 3"]) -> Float[np.ndarray, "*batch"]:
    """Angle between rotations, radians."""
    difference = np.swapaxes(Ra, -1, -2) @ Rb
    sine = np.linalg.norm(
        np.stack(
            [
                difference[..., 2, 1] - difference[..., 1, 2],
                difference[..., 0, 2] - difference[..., 2, 0],
                difference[..., 1, 0] - difference[..., 0, 1],
            ],
            axis=-1,
        ),
        axis=-1,
    )
    return np.asarray(np.arctan2(sine, np.trace(difference, axis1=-2, axis2=-1) - 1))


def matrix_to_rot6d(R: Float[np.ndarray, "*batch 3 3"]) -> Float[np.ndarray, "*batch 6"]:
    """First two columns, the continuous representation of Zhou et al. 2019 (arXiv 1812.07035)."""
    return np.concatenate([R[..., :, 0], R[..., :, 1]], axis=-1)


def rot6d_to_matrix(d: Float[np.ndarray, "*batch 6"]) -> Float[np.ndarray, "*batch 3 3"]:
    """Inverse of `matrix_to_rot6d` by Gram-Schmidt."""
    a, b = d[..., :3], d[..., 3:]
    x = a / np.linalg.norm(a, axis=-1, keepdims=True)
    y = b - np.sum(x * b, axis=-1, keepdims=True) * x
    y = y / np.linalg.norm(y, axis=-1, keepdims=True)
    return np.stack([x, y, np.cross(x, y)], axis=-1)


def mean_rotation(
    R: Float[np.ndarray, "n 3 3"], weights: Float[np.ndarray, "n"] | None = None
) -> Float[np.ndarray, "3 3"]:
    """Chordal L2 mean of rotations."""
    w = np.ones(len(R)) if weights is None else weights
    return nearest_rotation(np.einsum("n,nij->ij", w, R))


@dataclass(frozen=True, eq=False)
class SE3:
    """Rigid transforms `a_from_b`; R (*batch, 3, 3) and t (*batch, 3) in metres."""

    R: Float[np.ndarray, "*batch 3 3"]
    t: Float[np.ndarray, "*batch 3"]

    @staticmethod
    def identity(*batch: int) -> SE3:
        """Transforms that change nothing."""
        return SE3(np.broadcast_to(np.eye(3), (*batch, 3, 3)).copy(), np.zeros((*batch, 3)))

    @staticmethod
    def from_rotvec(rotvec: Float[np.ndarray, "*batch 3"], t: Float[np.ndarray, "*batch 3"]) -> SE3:
        """From rotation vectors (radians) and translations (metres)."""
        return SE3(so3_exp(np.asarray(rotvec, float)), np.asarray(t, float))

    @staticmethod
    def from_matrix(M: Float[np.ndarray, "*batch 4 4"]) -> SE3:
        """From homogeneous matrices."""
        return SE3(M[..., :3, :3], M[..., :3, 3])

    @staticmethod
    def stack(transforms: list[SE3]) -> SE3:
        """One batched transform from a list of single ones."""
        return SE3(np.stack([T.R for T in transforms]), np.stack([T.t for T in transforms]))

    @property
    def rotvec(self) -> Float[np.ndarray, "*batch 3"]:
        """Rotation vectors, radians."""
        return so3_log(self.R)

    @property
    def matrix(self) -> Float[np.ndarray, "*batch 4 4"]:
        """Homogeneous matrices."""
        M = np.zeros((*self.t.shape[:-1], 4, 4))
        M[..., :3, :3], M[..., :3, 3], M[..., 3, 3] = self.R, self.t, 1.0
        return M

    def __getitem__(self, index: Any) -> SE3:
        """Indexes the batch axes."""
        return SE3(self.R[index], self.t[index])

    def __len__(self) -> int:
        return len(self.t)

    def __matmul__(self, other: SE3) -> SE3:
        """`a_from_b @ b_from_c == a_from_c`; batch axes broadcast."""
        return SE3(self.R @ other.R, self.apply(other.t))

    def apply(self, points: Float[np.ndarray, "*points 3"]) -> Float[np.ndarray, "*out 3"]:
        """`p_in_a = a_from_b.apply(p_in_b)`; the batch axes broadcast against the points' leading axes."""
        return np.einsum("...ij,...j->...i", self.R, points) + self.t

    def inverse(self) -> SE3:
        """`b_from_a`."""
        Rt = np.swapaxes(self.R, -1, -2)
        return SE3(Rt, -np.einsum("...ij,...j->...i", Rt, self.t))

    def retract(self, delta: Float[np.ndarray, "*batch 6"]) -> SE3:
        """Moves by a small (rotation, translation): R exp(w), t + v. The inverse of `local`."""
        return SE3(self.R @ so3_exp(delta[..., :3]), self.t + delta[..., 3:])

    def local(self, other: SE3) -> Float[np.ndarray, "*batch 6"]:
        """The (rotation, translation) that `retract` needs to get from here to `other`."""
        return np.concatenate([so3_log(np.swapaxes(self.R, -1, -2) @ other.R), other.t - self.t], axis=-1)


def interpolate(a_from_b: SE3, t_s: Float[np.ndarray, "n"], query_s: Float[np.ndarray, "m"]) -> SE3:
    """Piecewise slerp and linear interpolation of a trajectory; the ends are held.

    Args:
        a_from_b: n transforms.
        t_s: their times, increasing, seconds.
        query_s: times asked for, seconds.
    """
    inside = np.clip(query_s, t_s[0], t_s[-1])
    R = (
        Slerp(t_s, Rotation.from_matrix(a_from_b.R))(inside).as_matrix()
        if len(t_s) > 1
        else a_from_b.R[[0] * len(inside)]
    )
    t = np.stack([np.interp(inside, t_s, a_from_b.t[:, k]) for k in range(3)], axis=-1)
    return SE3(R, t)


def align_points(
    source: Float[np.ndarray, "n 3"], target: Float[np.ndarray, "n 3"], *, with_scale: bool = False
) -> tuple[SE3, float]:
    """Least-squares `target ~ scale * R source + t` (Umeyama 1991).

    Returns:
        `target_from_source` and the scale (1 unless `with_scale`).
    """
    mean_s, mean_t = source.mean(axis=0), target.mean(axis=0)
    S, T = source - mean_s, target - mean_t
    U, singular, Vt = np.linalg.svd(T.T @ S)
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(U @ Vt))])
    R = (U * sign) @ Vt
    scale = float((singular * sign).sum() / (S**2).sum()) if with_scale else 1.0
    return SE3(R, mean_t - scale * R @ mean_s), scale
