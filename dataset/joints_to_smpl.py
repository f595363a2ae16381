"""SMPL from joints alone: a shape from the lengths of bones, rotations from their directions, in closed form.

For data that state joints and no body (NTU, HumanML3D). A joint that two or more known joints hang from is turned by
Procrustes on their directions (pelvis, upper spine); one that a single joint hangs from by the smallest turn of its
bone; one from which nothing known hangs keeps its parent's direction. Joints that the source lacks are passed over: the
next known ones down the tree count. So bones point where they were seen, and the turn of a limb about its own axis is
not known: it is taken as the smallest, and whoever uses these rotations must not read anything into it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from core.arrays import Bool, Float
from core.errors import InputError
from core.skeletons import SMPL_24
from core.transforms import nearest_rotation, so3_log
from fitting.initialise import smallest_turn
from fitting.smpl import NUM_JOINTS, PARENTS, BodyModel, ShapedBody, rodrigues

_GAUSS_NEWTON_STEPS = 6
# of two singular values: below this share the directions are one line, which fixes no rotation
_MIN_SPREAD = 0.02
_LOW = [SMPL_24.idx(name) for name in ("left_ankle", "right_ankle", "left_foot", "right_foot")]
# the 2nd percentile, not the minimum: one bad frame must not lift the floor
_FLOOR_PERCENTILE = 2.0


@dataclass(frozen=True, eq=False)
class JointFit:
    """A body that moves as joints do.

    Attributes:
        shaped: the person.
        poses: axis-angle, radians; NaN in frames without a pelvis.
        trans: SMPL's translation, metres.
        joints_m: of the body.
        error_m: distance of each joint from where it was seen; NaN for joints that were not.
    """

    shaped: ShapedBody
    poses: Float[np.ndarray, "frames 24 3"]
    trans: Float[np.ndarray, "frames 3"]
    joints_m: Float[np.ndarray, "frames 24 3"]
    error_m: Float[np.ndarray, "frames 24"]


def fit_joints(body: BodyModel, joints_m: Float[np.ndarray, "frames 24 3"], bone_sigma_m: float) -> JointFit:
    """The body for joints in SMPL's order.

    Args:
        body: SMPL model.
        joints_m: joints in a world with z up; NaN where a joint is not known.
        bone_sigma_m: how well the source's bones have SMPL's lengths; against it the shape is held to the mean.

    Raises:
        InputError: if the pelvis, or what hangs from it, is in no frame.
    """
    known = np.isfinite(joints_m).all(axis=-1)
    below = _below(known.any(axis=0))
    if not known[:, 0].any() or len(below[0]) < 2:
        raise InputError("joints", "pelvis, hips and spine are in no frame", "give a file with these joints")
    shaped = body.with_shape(shape_of_bones(body, joints_m, bone_sigma_m))
    rotations = _rotations(shaped.rest_joints, below, joints_m)
    trans = shaped.transl_from_root(joints_m[:, 0])
    joints = shaped.with_rotations(rotations, trans).joints
    poses = np.where(known[:, :1, None], so3_log(rotations), np.nan)
    return JointFit(shaped, poses, trans, joints, np.linalg.norm(joints - joints_m, axis=-1))


def shape_of_bones(
    body: BodyModel, joints_m: Float[np.ndarray, "frames 24 3"], bone_sigma_m: float
) -> Float[np.ndarray, "betas"]:
    """Betas whose bones have the median lengths seen, held to the mean shape by a standard normal prior."""
    below = _below(np.isfinite(joints_m).all(axis=-1).any(axis=0))
    bones = np.array([(j, k) for j, ends in below.items() for k in ends])
    lengths = np.linalg.norm(joints_m[:, bones[:, 1]] - joints_m[:, bones[:, 0]], axis=-1)
    seen = np.isfinite(lengths).any(axis=0)
    bones, target = bones[seen], np.nanmedian(lengths[:, seen], axis=0)
    template, dirs = body.joint_template, body.joint_shapedirs[..., : body.num_betas]
    rest = template[bones[:, 1]] - template[bones[:, 0]]
    change = dirs[bones[:, 1]] - dirs[bones[:, 0]]
    betas = np.zeros(body.num_betas)
    for _ in range(_GAUSS_NEWTON_STEPS):
        vectors = rest + change @ betas
        now = np.linalg.norm(vectors, axis=-1)
        J = np.einsum("bc,bcs->bs", vectors / now[:, None], change) / bone_sigma_m
        gradient = J.T @ ((now - target) / bone_sigma_m) + betas
        betas = betas - np.linalg.solve(J.T @ J + np.eye(len(betas)), gradient)
    return betas


def height_above_floor(shaped: ShapedBody, joints_m: Float[np.ndarray, "frames 24 3"]) -> float:
    """How far the soles of a motion's lowest steps are above z = 0, metres: lower the motion by it to put it down."""
    low = np.nanmin(joints_m[np.isfinite(joints_m[:, _LOW]).all(axis=(1, 2))][:, _LOW, 2], axis=1)
    if not len(low):
        return 0.0
    rest_height = shaped.rest_joints[_LOW, 1].min() - shaped.rest_vertices[:, 1].min()
    return float(np.percentile(low, _FLOOR_PERCENTILE) - rest_height)


def _below(known: Bool[np.ndarray, "24"]) -> dict[int, list[int]]:
    """For each known joint the nearest known ones down the tree."""
    below: dict[int, list[int]] = {int(j): [] for j in np.flatnonzero(known)}
    for joint in np.flatnonzero(known):
        above = int(PARENTS[joint])
        while above >= 0 and not known[above]:
            above = int(PARENTS[above])
        if above >= 0:
            below[above].append(int(joint))
    return below


def _rotations(rest: np.ndarray, below: dict[int, list[int]], joints_m: np.ndarray) -> np.ndarray:
    """parent_from_joint of every joint and frame, from the pelvis outwards."""
    local = np.broadcast_to(np.eye(3), (len(joints_m), NUM_JOINTS, 3, 3)).copy()
    world = local.copy()
    for joint, parent in enumerate(PARENTS.tolist()):
        world_from_parent = world[:, parent] if parent >= 0 else np.broadcast_to(np.eye(3), (len(joints_m), 3, 3))
        if ends := below.get(joint):
            seen = np.einsum("tba,tkb->tka", world_from_parent, joints_m[:, ends] - joints_m[:, [joint]])
            local[:, joint] = _turn(rest[ends] - rest[joint], seen)
        world[:, joint] = world_from_parent @ local[:, joint]
    return local


def _turn(rest: Float[np.ndarray, "ends 3"], seen: Float[np.ndarray, "frames ends 3"]) -> np.ndarray:
    """Rotations (frames, 3, 3) of bones at rest onto the directions seen; identity where none is."""
    finite = np.isfinite(seen).all(axis=-1)
    length = np.linalg.norm(np.nan_to_num(seen), axis=-1)
    finite &= length > 0
    direction = np.where(finite[..., None], np.nan_to_num(seen) / np.where(finite, length, 1.0)[..., None], 0.0)
    first = finite.argmax(axis=1)
    swing = rodrigues(smallest_turn(rest[first], direction[np.arange(len(seen)), first]))
    swing[~finite.any(axis=1)] = np.eye(3)
    if len(rest) == 1:
        return swing
    M = np.einsum("tki,kj->tij", direction, rest)
    singular = np.linalg.svd(M, compute_uv=False)
    fixed = singular[:, 1] > _MIN_SPREAD * np.maximum(singular[:, 0], 1e-9)
    swing[fixed] = nearest_rotation(M[fixed])
    return swing
