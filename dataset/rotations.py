"""Rotations in numpy alone: axis-angle, matrices, wxyz quaternions, the 6D representation, and slerp.

`core.transforms` does the same through scipy. The features must also run on a bare GPU machine that has numpy, h5py and
torch, so the few maps they need are here.
"""

from __future__ import annotations

import numpy as np

from core.arrays import Float

# below this angle the series of sin(x)/x to second order is exact to float64
_SMALL = 1e-4
# y up, as cameras' and animators' worlds are, to z up: x stays
_Z_UP_FROM_Y_UP = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])


def z_up(points: Float[np.ndarray, "*batch 3"]) -> Float[np.ndarray, "*batch 3"]:
    """Points of a world with y up in one with z up: (x, y, z) becomes (x, -z, y)."""
    return points @ _Z_UP_FROM_Y_UP.T


def quat_from_rotvec(rotvec: Float[np.ndarray, "*batch 3"]) -> Float[np.ndarray, "*batch 4"]:
    """Unit quaternions wxyz of rotation vectors."""
    half = 0.5 * np.linalg.norm(rotvec, axis=-1, keepdims=True)
    safe = np.where(half < _SMALL, 1.0, half)
    sinc = np.where(half < _SMALL, 1.0 - half**2 / 6.0, np.sin(safe) / safe)
    return np.concatenate([np.cos(half), 0.5 * sinc * rotvec], axis=-1)


def rotvec_from_quat(quat: Float[np.ndarray, "*batch 4"]) -> Float[np.ndarray, "*batch 3"]:
    """Rotation vectors of at most pi from unit quaternions wxyz."""
    quat = np.where(quat[..., :1] < 0, -quat, quat)
    sine = np.linalg.norm(quat[..., 1:], axis=-1, keepdims=True)
    half = np.arctan2(sine, quat[..., :1])
    scale = np.where(sine < _SMALL, 2.0, 2.0 * half / np.where(sine < _SMALL, 1.0, sine))
    return scale * quat[..., 1:]


def matrix_from_quat(quat: Float[np.ndarray, "*batch 4"]) -> Float[np.ndarray, "*batch 3 3"]:
    """Rotation matrices of unit quaternions wxyz."""
    w, x, y, z = np.moveaxis(quat, -1, 0)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    matrix = np.empty((*quat.shape[:-1], 3, 3), dtype=quat.dtype)
    for i, row in enumerate(rows):  # nested stacking takes as long as the products
        for j, entry in enumerate(row):
            matrix[..., i, j] = entry
    return matrix


def quat_from_matrix(matrix: Float[np.ndarray, "*batch 3 3"]) -> Float[np.ndarray, "*batch 4"]:
    """Unit quaternions wxyz of rotation matrices, accurate for every angle.

    The four columns of the outer product q q^T are each a multiple of q; the longest is the well-conditioned one
    (Shepperd 1978).
    """
    m = np.moveaxis(matrix, (-2, -1), (0, 1))
    trace = m[0, 0] + m[1, 1] + m[2, 2]
    wx, wy, wz = m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]
    xy, xz, yz = m[1, 0] + m[0, 1], m[2, 0] + m[0, 2], m[2, 1] + m[1, 2]
    outer = np.stack(
        [
            np.stack([1 + trace, wx, wy, wz], axis=-1),
            np.stack([wx, 1 + 2 * m[0, 0] - trace, xy, xz], axis=-1),
            np.stack([wy, xy, 1 + 2 * m[1, 1] - trace, yz], axis=-1),
            np.stack([wz, xz, yz, 1 + 2 * m[2, 2] - trace], axis=-1),
        ],
        axis=-2,
    )
    longest = np.argmax(np.diagonal(outer, axis1=-2, axis2=-1), axis=-1)
    quat = np.take_along_axis(outer, longest[..., None, None], axis=-2)[..., 0, :]
    return quat / np.linalg.norm(quat, axis=-1, keepdims=True)


def matrix_from_rotvec(rotvec: Float[np.ndarray, "*batch 3"]) -> Float[np.ndarray, "*batch 3 3"]:
    """Rotation matrices of rotation vectors."""
    return matrix_from_quat(quat_from_rotvec(rotvec))


def rotvec_from_matrix(matrix: Float[np.ndarray, "*batch 3 3"]) -> Float[np.ndarray, "*batch 3"]:
    """Rotation vectors of at most pi from rotation matrices."""
    return rotvec_from_quat(quat_from_matrix(matrix))


def yaw_matrix(yaw: Float[np.ndarray, "*batch"]) -> Float[np.ndarray, "*batch 3 3"]:
    """Rotations about world z by `yaw` radians."""
    cosine = np.cos(yaw)
    matrix = np.zeros((*np.shape(yaw), 3, 3), dtype=cosine.dtype)
    matrix[..., 0, 0] = matrix[..., 1, 1] = cosine
    matrix[..., 1, 0] = np.sin(yaw)
    matrix[..., 0, 1] = -matrix[..., 1, 0]
    matrix[..., 2, 2] = 1.0
    return matrix


def sixd_from_matrix(matrix: Float[np.ndarray, "*batch 3 3"]) -> Float[np.ndarray, "*batch 6"]:
    """The first two columns, one after the other (Zhou et al., CVPR 2019)."""
    return np.concatenate([matrix[..., :, 0], matrix[..., :, 1]], axis=-1)


def matrix_from_sixd(sixd: Float[np.ndarray, "*batch 6"]) -> Float[np.ndarray, "*batch 3 3"]:
    """Rotation matrices by Gram-Schmidt from two columns, which need not be orthonormal (a network's output)."""
    x = sixd[..., :3] / np.linalg.norm(sixd[..., :3], axis=-1, keepdims=True)
    y = sixd[..., 3:] - (x * sixd[..., 3:]).sum(axis=-1, keepdims=True) * x
    y = y / np.linalg.norm(y, axis=-1, keepdims=True)
    return np.stack([x, y, np.cross(x, y)], axis=-1)


def slerp(
    first: Float[np.ndarray, "*batch 3"], second: Float[np.ndarray, "*batch 3"], weight: Float[np.ndarray, "*weights"]
) -> Float[np.ndarray, "*batch 3"]:
    """Rotation vectors on the shortest way from `first` (weight 0) to `second` (weight 1); weights broadcast."""
    a, b = quat_from_rotvec(first), quat_from_rotvec(second)
    cosine = (a * b).sum(axis=-1, keepdims=True)
    b, cosine = np.where(cosine < 0, -b, b), np.minimum(np.abs(cosine), 1.0)
    angle = np.arccos(cosine)
    sine = np.sin(angle)
    near = sine < _SMALL  # where the two are so close that the straight line is the arc
    safe = np.where(near, 1.0, sine)
    w = weight[..., None]
    mixed = np.where(near, (1 - w) * a + w * b, (np.sin((1 - w) * angle) * a + np.sin(w * angle) * b) / safe)
    return rotvec_from_quat(mixed / np.linalg.norm(mixed, axis=-1, keepdims=True))
