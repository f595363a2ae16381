"""Body shape from triangulated points: the betas whose bones are as long as the bones seen."""

from __future__ import annotations

import numpy as np

from core.arrays import Float
from fitting.landmarks import Landmarks
from fitting.smpl import BodyModel

_SIDED = (("hip", "knee"), ("knee", "ankle"), ("shoulder", "elbow"), ("elbow", "wrist"))
# distances that hardly depend on the pose, limbs of both sides and the widths and height of the trunk
BONES = (
    *((f"{side}_{a}", f"{side}_{b}") for side in ("left", "right") for a, b in _SIDED),
    ("left_hip", "right_hip"), ("left_shoulder", "right_shoulder"),
)  # fmt: skip
_LENGTH_SIGMA_M = 0.01  # detectors place joints a centimetre or so from the model's


def bone_lengths(xyz_m: Float[np.ndarray, "*frames points 3"], names: tuple[str, ...]) -> dict[tuple[str, str], float]:
    """Median length in metres of every bone of `BONES` that is seen at all."""
    lengths = {}
    for a, b in BONES:
        if a in names and b in names:
            length = np.linalg.norm(xyz_m[..., names.index(a), :] - xyz_m[..., names.index(b), :], axis=-1)
            if np.isfinite(length).any():
                lengths[a, b] = float(np.nanmedian(length))
    return lengths


def betas_from_bones(
    body: BodyModel, landmarks: Landmarks, xyz_m: Float[np.ndarray, "frames points 3"]
) -> Float[np.ndarray, "betas"]:
    """Most probable betas given the median bone lengths, under SMPL's standard normal prior.

    Args:
        body: the model.
        landmarks: where the points lie on it, in the order of the points.
        xyz_m: triangulated points, NaN where not valid.
    """
    lengths = bone_lengths(xyz_m, landmarks.names)
    betas = np.zeros(body.num_betas)
    if not lengths:
        return betas
    first, second = np.array([[landmarks.names.index(a), landmarks.names.index(b)] for a, b in lengths]).T
    seen = np.array(list(lengths.values()))
    for _ in range(4):
        rest = body.with_shape(betas).with_pose(np.zeros((1, body.kind.num_joints, 3)), np.zeros((1, 3)))
        linear = landmarks.linearise(rest)
        vector = linear.positions[0, first] - linear.positions[0, second]
        length = np.linalg.norm(vector, axis=-1)
        by_betas = linear.by_betas[0, first] - linear.by_betas[0, second]
        J = np.einsum("nc,ncb->nb", vector / length[:, None], by_betas) / _LENGTH_SIGMA_M
        residual = (length - seen) / _LENGTH_SIGMA_M
        betas = betas - np.linalg.solve(J.T @ J + np.eye(len(betas)), J.T @ residual + betas)
    return betas
