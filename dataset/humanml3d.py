"""HumanML3D's motion vectors, both ways: 22 joints, y up, 20 frames a second, 263 numbers a frame.

Guo et al., "Generating Diverse and Natural 3D Human Motions from Text" (CVPR 2022), and the code published with it. A
frame is (yaw step, root step x z, root height, 21 joints about the root, 21 rotations as 6D, 22 joint steps, contacts):
1 + 2 + 1 + 63 + 126 + 66 + 4. Steps are per frame, not per second, and in the frame's own heading; the last frame of a
motion has no step and is dropped. Facing +z, left is +x.

Conventions of the published code that a reader of the paper would not guess, kept so that vectors mean the same:
- The yaw step is *half* the angle, the arc sine of a quaternion's part.
- Heading comes from shoulders right to left *less* hips right to left (one pair is exchanged there), smoothed over time
  with a Gaussian of 20 frames; only the first pose is turned to +z by the sum of both, without smoothing.
- Rotations turn an idealised skeleton's bones, arms hanging, and start in every chain from the inverse of the heading.
- A foot touches where its joint moves less than sqrt(0.002) m in a frame.
One thing is done otherwise: where the heading passes from +180 to -180 degrees, that code gets the sign of the yaw step
wrong, and everything after is turned; here the step is right, so the joints come back.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from scipy.ndimage import gaussian_filter1d

from core.arrays import Float
from core.transforms import matrix_to_rot6d
from fitting.initialise import smallest_turn
from fitting.smpl import PARENTS, rodrigues

NUM_JOINTS, NUM_VALUES, RATE_HZ = 22, 263, 20
_PARENTS = PARENTS[:NUM_JOINTS]
_PLACES, _TURNS, _STEPS, _CONTACTS = slice(4, 67), slice(67, 193), slice(193, 259), slice(259, 263)
_LEFT_HIP, _RIGHT_HIP, _LEFT_SHOULDER, _RIGHT_SHOULDER = 1, 2, 16, 17
_FEET = [7, 10, 8, 11]
_CONTACT_STEP_M2 = 0.002
_SMOOTHING_FRAMES = 20
_CHAINS = ((0, 2, 5, 8, 11), (0, 1, 4, 7, 10), (0, 3, 6, 9, 12, 15), (9, 14, 17, 19, 21), (9, 13, 16, 18, 20))
# direction of each joint from its parent in the idealised skeleton: left, right, up, down, forward
_AXES = {"l": (1, 0, 0), "r": (-1, 0, 0), "u": (0, 1, 0), "d": (0, -1, 0), "f": (0, 0, 1), "-": (0, 0, 0)}
_BONES = np.array([_AXES[letter] for letter in "-lruddudduffulrfdddddd"], dtype=float)


def vectors_from_joints(joints_m: Float[np.ndarray, "frames 22 3"]) -> Float[np.ndarray, "frames-1 263"]:
    """Vectors of a motion, y up; it is first put on the floor, at the origin, facing +z (`canonical`)."""
    joints = canonical(joints_m)
    yaw = _smooth_yaw(joints)
    into_heading = _about_y(-yaw)
    steps = np.diff(joints, axis=0)
    root_steps = _apply(into_heading[1:], steps[:, :1])[:, 0]
    about_root = joints - joints[:, :1] * np.array([1.0, 0.0, 1.0])
    parts = [
        -0.5 * _wrapped(np.diff(yaw))[:, None],
        root_steps[:, [0, 2]],
        joints[:-1, 0, 1:2],
        _apply(into_heading, about_root)[:-1, 1:].reshape(len(steps), -1),
        matrix_to_rot6d(_rotations(joints, into_heading))[:-1, 1:].reshape(len(steps), -1),
        _apply(into_heading[:-1], steps).reshape(len(steps), -1),
        ((steps[:, _FEET] ** 2).sum(axis=-1) < _CONTACT_STEP_M2).astype(float),
    ]
    return np.concatenate(parts, axis=1)


def joints_from_vectors(vectors: Float[np.ndarray, "frames 263"]) -> Float[np.ndarray, "frames 22 3"]:
    """Joints, metres, y up: the way from the steps of the root, the pose from the joints about it.

    They begin above the origin, in the heading of the first frame.
    """
    vectors = np.asarray(vectors, float)
    yaw = np.concatenate([[0.0], -2.0 * np.cumsum(vectors[:-1, 0])])
    out_of_heading = _about_y(yaw)
    steps = np.zeros((len(vectors), 1, 3))
    steps[1:, 0, 0], steps[1:, 0, 2] = vectors[:-1, 1], vectors[:-1, 2]
    root = np.cumsum(_apply(out_of_heading, steps), axis=0)
    about_root = vectors[:, _PLACES].reshape(len(vectors), NUM_JOINTS - 1, 3)
    joints = np.concatenate([root, root + _apply(out_of_heading, about_root)], axis=1)
    joints[:, 0, 1] = vectors[:, 3]
    return joints


def canonical(joints_m: Float[np.ndarray, "frames 22 3"]) -> Float[np.ndarray, "frames 22 3"]:
    """The motion with its lowest joint at y = 0, its first pelvis above the origin, and its first pose facing +z."""
    origin = joints_m[0, 0] * np.array([1.0, 0.0, 1.0])
    origin[1] = joints_m[..., 1].min()
    return (joints_m - origin) @ _about_y(-_yaw(joints_m[:1], 1.0))[0].T


def with_bones(
    joints_m: Float[np.ndarray, "frames 22 3"], skeleton: Float[np.ndarray, "22 3"]
) -> Float[np.ndarray, "frames 22 3"]:
    """The motion with the lengths of another skeleton's bones, its way scaled as its legs are (by the right one)."""
    old, new = (_lengths(pose) for pose in (joints_m[0], skeleton))
    moved = np.empty(joints_m.shape)
    moved[:, 0] = joints_m[:, 0] * (new[[5, 8]].sum() / old[[5, 8]].sum())
    for joint, parent in enumerate(_PARENTS[1:].tolist(), start=1):
        bone = joints_m[:, joint] - joints_m[:, parent]
        length = np.linalg.norm(bone, axis=-1, keepdims=True)
        moved[:, joint] = moved[:, parent] + bone * (new[joint] / np.maximum(length, 1e-9))
    return moved


def _lengths(pose: Float[np.ndarray, "22 3"]) -> Float[np.ndarray, "22"]:
    """Of the bone that ends at each joint; 0 for the pelvis."""
    return np.linalg.norm(pose - pose[np.maximum(_PARENTS, 0)], axis=-1)


def _yaw(joints: np.ndarray, hips: float) -> np.ndarray:
    """Angle about y from +z to where the body faces, with the line of the hips counted so much."""
    across = joints[:, _RIGHT_SHOULDER] - joints[:, _LEFT_SHOULDER]
    across = across + hips * (joints[:, _RIGHT_HIP] - joints[:, _LEFT_HIP])
    return np.arctan2(across[:, 2], -across[:, 0])


def _smooth_yaw(joints: np.ndarray) -> np.ndarray:
    """Heading of every frame as the published code smooths it: the horizontal part of a unit line across the body."""
    across = joints[:, _RIGHT_SHOULDER] - joints[:, _LEFT_SHOULDER] - joints[:, _RIGHT_HIP] + joints[:, _LEFT_HIP]
    across = across / np.linalg.norm(across, axis=-1, keepdims=True)
    forward = gaussian_filter1d(across[:, [2, 0]] * [1.0, -1.0], _SMOOTHING_FRAMES, axis=0, mode="nearest")
    return np.arctan2(forward[:, 0], forward[:, 1])


def _rotations(joints: np.ndarray, into_heading: np.ndarray) -> np.ndarray:
    """Rotation (frames, 22, 3, 3) of each bone of the idealised skeleton relative to the one before it in its chain."""
    rotations = np.broadcast_to(np.eye(3), (*joints.shape[:2], 3, 3)).copy()
    for chain in _CHAINS:
        before = into_heading
        for parent, joint in pairwise(chain):
            bone = np.broadcast_to(_BONES[joint], joints[:, joint].shape)
            turned = rodrigues(smallest_turn(bone, joints[:, joint] - joints[:, parent]))
            rotations[:, joint] = np.swapaxes(before, -1, -2) @ turned
            before = turned
    return rotations


def _about_y(angle: np.ndarray) -> np.ndarray:
    """Rotations about y."""
    return rodrigues(angle[:, None] * np.array([0.0, 1.0, 0.0]))


def _apply(rotations: Float[np.ndarray, "frames 3 3"], points: Float[np.ndarray, "frames n 3"]) -> np.ndarray:
    return np.einsum("tij,tkj->tki", rotations, points)


def _wrapped(angle: np.ndarray) -> np.ndarray:
    """Angles between -pi and pi."""
    return (angle + np.pi) % (2 * np.pi) - np.pi
