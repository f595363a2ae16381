"""Motion of any mapped skeleton into SMPL rotations and a body shape.

1. Each SMPL joint follows a source joint's rotation by a constant turn between their frames: by axes for trunk, head
   and feet, and for limbs by the smallest turn that brings SMPL's bone onto the source's. So twist is kept, and no
   joint position is needed for a rotation.
2. The source skeleton is put into SMPL's T-pose by these turns. The betas follow in one linear least-squares step from
   its bones there, with the unit-normal prior.
3. The source world is scaled by the ratio of the leg lengths that is left, so that feet neither slide nor float; the
   middle of the hips is where the source has it, and the floor where the feet say.

Skeletons place pelvis, spine and neck joints differently in the same body: what is left of that is in `error_m`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from core.arrays import Bool, Float, Int
from core.errors import InputError
from core.skeletons import SMPL_24
from core.transforms import so3_exp, so3_log
from dataset.importers.articulated import ArticulatedMotion, forward_kinematics
from dataset.importers.skeleton_maps import SkeletonMap
from fitting.smpl import NUM_JOINTS, PARENTS, BodyModel, PosedBody, ShapedBody

_J = {name: j for j, name in enumerate(SMPL_24.joints)}
_SIDES = ("left", "right")
# limb bones, whose directions skeletons agree on
_LIMBS = (("hip", "knee"), ("knee", "ankle"), ("shoulder", "elbow"), ("elbow", "wrist"), ("wrist", "hand"))
# how well a source's bone is a body's, metres: across (x), up (y) and to the front (z) in the T-pose
_LIMB_SIGMA_M, _TRUNK_SIGMA_M, _FOOT_SIGMA_M = (0.005, 0.005, 0.005), (0.005, 0.005, 0.1), (0.1, 0.1, 0.02)
# bones and spans that give the shape: sums of joints over sums of joints
_SPANS: tuple[tuple[tuple[str, ...], tuple[str, ...], tuple[float, float, float]], ...] = (
    *(((f"{s}_{end}",), (f"{s}_{start}",), _LIMB_SIGMA_M) for s in _SIDES for start, end in _LIMBS[:4]),
    *(((f"{s}_foot",), (f"{s}_ankle",), _FOOT_SIGMA_M) for s in _SIDES),
    (("left_hip",), ("right_hip",), _TRUNK_SIGMA_M),
    (("left_shoulder",), ("right_shoulder",), _TRUNK_SIGMA_M),
    (("left_shoulder", "right_shoulder"), ("left_hip", "right_hip"), _TRUNK_SIGMA_M),
    (("head",), ("left_shoulder", "right_shoulder"), _TRUNK_SIGMA_M),
)
_UNITS_M = (1.0, 0.01, 0.0254, 0.001, 0.3048)
_LEG_RANGE_M = (0.6, 1.05)
# z up from y up: x stays, y -> z, z (forward) -> -y
UPRIGHT = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])


@dataclass(frozen=True, eq=False)
class Retargeted:
    """A motion on SMPL's skeleton, in a world with z up and the floor at 0.

    Attributes:
        posed: the body in all frames.
        trans: SMPL's translation, metres.
        measured: joints that the source has.
        error_m: distance of SMPL's joints from the source's, where it has them; NaN elsewhere.
        scale: the source world was multiplied by this, beyond its unit.
        floor_m: height of the floor in the scaled source world.
    """

    posed: PosedBody
    trans: Float[np.ndarray, "frames 3"]
    measured: Bool[np.ndarray, "24"]
    error_m: Float[np.ndarray, "frames 24"]
    scale: float
    floor_m: float


@dataclass(frozen=True, eq=False)
class Alignment:
    """How a source skeleton lies in SMPL's.

    Attributes:
        turn_idx: source joint that each SMPL joint follows, -1 for none.
        points: weights of source joints that give each SMPL joint's place; rows of NaN where it has none.
        source_from_smpl: rotation from each SMPL joint's frame to that of the source joint.
        shaped: the person.
        unit_m: metres of the source's unit.
        scale: leg length of the person over the source's.
    """

    turn_idx: Int[np.ndarray, "24"]
    points: Float[np.ndarray, "24 joints"]
    source_from_smpl: Float[np.ndarray, "24 3 3"]
    shaped: ShapedBody
    unit_m: float
    scale: float


def retarget(motion: ArticulatedMotion, skeleton: SkeletonMap, body: BodyModel, item: str) -> Retargeted:
    """Puts a motion on SMPL's skeleton.

    Args:
        motion: with y up.
        skeleton: its map.
        body: the model that is shaped and posed.
        item: name for errors.

    Raises:
        InputError: if the skeleton is of no human size or mirrored.
    """
    motion = motion.with_bones(skeleton.bones)
    found = align(motion, skeleton, body, item)
    world = UPRIGHT @ smpl_rotations(motion, found)
    local = np.concatenate([world[:, :1], np.swapaxes(world[:, PARENTS[1:]], -1, -2) @ world[:, 1:]], axis=1)
    points = found.unit_m * found.scale * np.einsum("jk,tka->tja", found.points, motion.positions) @ UPRIGHT.T
    posed = found.shaped.with_rotations(local)
    hips = [_J["left_hip"], _J["right_hip"]]
    trans = (points[:, hips] - posed.joints[:, hips]).mean(axis=1)
    error_m = np.linalg.norm(posed.joints + trans[:, None] - points, axis=-1)
    floor_m = floor_height(posed, trans)
    trans = trans - [0.0, 0.0, floor_m]
    measured = np.array([joint in skeleton.points for joint in SMPL_24.joints])
    return Retargeted(found.shaped.with_rotations(local, trans), trans, measured, error_m, found.scale, floor_m)


def align(motion: ArticulatedMotion, skeleton: SkeletonMap, body: BodyModel, item: str) -> Alignment:
    """Frames, shape and size of a source skeleton; see the module."""
    turn_idx = np.array(
        [motion.names.index(skeleton.turns[j]) if j in skeleton.turns else -1 for j in SMPL_24.joints], dtype=np.int64
    )
    points = _points(motion, skeleton)
    offsets = _steady_offsets(motion)
    axes = np.stack([skeleton.joint_from_smpl(joint) for joint in SMPL_24.joints])
    unit_m = skeleton.unit_m or _unit(points, offsets, motion, item)
    # limbs are brought onto the mean body's first, then onto that of the person whose shape this gives
    shaped = body.with_shape(np.zeros(body.num_betas))
    for _ in range(2):
        frames = _aligned(axes, shaped.rest_joints, offsets, points, turn_idx, motion)
        tee = unit_m * points @ _tee_pose(motion, offsets, turn_idx, frames)
        shaped = body.with_shape(_betas(body, tee))
    if not tee[_J["left_hip"], 0] > tee[_J["right_hip"], 0] + 0.05:
        raise InputError(item, "its left hip is not to the left", "give a skeleton with y up whose map is right")
    scale = _leg(shaped.rest_joints) / _leg(tee)
    return Alignment(turn_idx, points, frames, shaped, unit_m, scale)


def smpl_rotations(motion: ArticulatedMotion, found: Alignment) -> Float[np.ndarray, "frames 24 3 3"]:
    """world_from_joint of SMPL's joints, in the source's world."""
    world = np.empty((len(motion), NUM_JOINTS, 3, 3))
    followed = found.turn_idx >= 0
    world[:, followed] = motion.rotations[:, found.turn_idx[followed]] @ found.source_from_smpl[followed]
    spine2 = _J["spine2"]
    for j in np.flatnonzero(~followed).tolist():
        if j != spine2:
            world[:, j] = world[:, PARENTS[j]]
    if not followed[spine2]:  # bends by half of what lies between its neighbours
        below, above = world[:, _J["spine1"]], world[:, _J["spine3"]]
        world[:, spine2] = below @ so3_exp(0.5 * so3_log(np.swapaxes(below, -1, -2) @ above))
    return world


def floor_height(posed: PosedBody, trans: Float[np.ndarray, "frames 3"]) -> float:
    """Where the lowest foot stands, metres: the 2nd percentile, so that a bad frame does not lift the person.

    A foot's joints are as high above the sole as at rest.
    """
    feet = [_J[f"{side}_{joint}"] for side in _SIDES for joint in ("ankle", "foot")]
    rest = posed.shaped.rest_joints[feet, 1] - posed.shaped.rest_vertices[:, 1].min()
    soles = posed.joints[:, feet, 2] + trans[:, None, 2] - rest
    return float(np.percentile(soles.min(axis=1), 2.0))


def _points(motion: ArticulatedMotion, skeleton: SkeletonMap) -> Float[np.ndarray, "24 joints"]:
    """Which source joint gives each SMPL joint's place, as rows of weights; NaN where none does."""
    points = np.full((NUM_JOINTS, len(motion.names)), np.nan)
    for joint, name in skeleton.points.items():
        points[_J[joint]] = np.eye(len(motion.names))[motion.names.index(name)]
    return points


def _steady_offsets(motion: ArticulatedMotion) -> Float[np.ndarray, "joints 3"]:
    """Joints from their parents in the parents' frames: the median over the frames, as channels may move them."""
    parents = np.maximum(motion.parents, 0)
    steps = (motion.positions - motion.positions[:, parents])[..., None]
    offsets = np.median((np.swapaxes(motion.rotations[:, parents], -1, -2) @ steps)[..., 0], axis=0)
    return np.where(motion.parents[:, None] < 0, 0.0, offsets)


def _unit(
    points: Float[np.ndarray, "24 joints"],
    offsets: Float[np.ndarray, "joints 3"],
    motion: ArticulatedMotion,
    item: str,
) -> float:
    """Metres of the unit in which a leg is a person's."""
    lengths = []
    for start, end in (("left_hip", "left_knee"), ("left_knee", "left_ankle")):
        path = _path(motion, int(np.argmax(points[_J[end]])), int(np.argmax(points[_J[start]])))
        lengths.append(np.linalg.norm(offsets[path].sum(axis=0)))
    leg = float(np.sum(lengths))
    for unit_m in _UNITS_M:
        if _LEG_RANGE_M[0] <= leg * unit_m <= _LEG_RANGE_M[1]:
            return unit_m
    problem = f"its leg is {leg:.3g} units long, no person's in metres, centimetres, inches, millimetres or feet"
    raise InputError(item, problem, "scale the file, or state `unit_m` in its SkeletonMap")


def _path(motion: ArticulatedMotion, joint: int, ancestor: int) -> list[int]:
    """Joints from one up to, without it, its ancestor."""
    path = []
    while joint not in (ancestor, -1):
        path.append(joint)
        joint = int(motion.parents[joint])
    return path


def _aligned(
    axes: Float[np.ndarray, "24 3 3"],
    rest: Float[np.ndarray, "24 3"],
    offsets: Float[np.ndarray, "joints 3"],
    points: Float[np.ndarray, "24 joints"],
    turn_idx: Int[np.ndarray, "24"],
    motion: ArticulatedMotion,
) -> Float[np.ndarray, "24 3 3"]:
    """source_from_smpl: `axes`, and for limbs the smallest turn onto the source's bone before it."""
    frames = axes.copy()
    for side in _SIDES:
        for start, end in _LIMBS:
            j, child = _J[f"{side}_{start}"], _J[f"{side}_{end}"]
            if turn_idx[j] < 0 or not np.isfinite(points[child, 0]):
                continue
            bone = offsets[_path(motion, int(np.argmax(points[child])), int(turn_idx[j]))].sum(axis=0)
            frames[j] = _smallest_turn(axes[j] @ (rest[child] - rest[j]), bone) @ axes[j]
    return frames


def _smallest_turn(a: Float[np.ndarray, "3"], b: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3 3"]:
    """The rotation by the smallest angle that brings a's direction onto b's."""
    axis = np.cross(a, b)
    sine = float(np.linalg.norm(axis))
    if sine == 0.0:
        return np.eye(3)
    return so3_exp(axis / sine * np.arctan2(sine, float(a @ b)))


def _tee_pose(
    motion: ArticulatedMotion,
    offsets: Float[np.ndarray, "joints 3"],
    turn_idx: Int[np.ndarray, "24"],
    frames: Float[np.ndarray, "24 3 3"],
) -> Float[np.ndarray, "joints 3"]:
    """The source's joints where SMPL's are in the T-pose: those between two followed ones keep to their parents."""
    world = np.full((len(motion.names), 3, 3), np.nan)
    for j, source in enumerate(turn_idx.tolist()):
        if source >= 0:
            world[source] = frames[j].T
    for k, parent in enumerate(motion.parents.tolist()):
        if np.isnan(world[k, 0, 0]):
            world[k] = world[parent] if parent >= 0 else np.eye(3)
    local = np.where(motion.parents[:, None, None] < 0, world, np.swapaxes(world[motion.parents], -1, -2) @ world)
    return forward_kinematics(motion.parents, offsets[None], local[None])[0][0]


def _betas(body: BodyModel, tee: Float[np.ndarray, "24 3"]) -> Float[np.ndarray, "betas"]:
    """The shape whose spans fit the source's, by linear least squares with the unit-normal prior."""
    spans, sigma = _spans(np.isfinite(tee).all(axis=1))
    rates = np.einsum("sj,jcb->scb", spans, body.joint_shapedirs[..., : body.num_betas]) / sigma[..., None]
    wanted = (spans @ (np.nan_to_num(tee) - body.joint_template)) / sigma
    A = rates.reshape(-1, body.num_betas)
    return np.linalg.solve(A.T @ A + np.eye(body.num_betas), A.T @ wanted.ravel())


def _spans(known: Bool[np.ndarray, "24"]) -> tuple[Float[np.ndarray, "spans 24"], Float[np.ndarray, "spans 3"]]:
    """Differences of joints (or of means of two) that give the shape, and their deviations."""
    rows, sigmas = [], []
    for ends, starts, sigma in _SPANS:
        if known[_idx(ends + starts)].all():
            row = np.zeros(NUM_JOINTS)
            row[_idx(ends)], row[_idx(starts)] = 1 / len(ends), -1 / len(starts)
            rows.append(row)
            sigmas.append(sigma)
    return np.array(rows), np.array(sigmas)


def _idx(joints: Sequence[str]) -> list[int]:
    return [_J[joint] for joint in joints]


def _leg(joints: Float[np.ndarray, "24 3"]) -> float:
    """Length of hip-knee-ankle, mean of both sides, metres."""
    legs = np.array([[joints[_J[f"{side}_{joint}"]] for joint in ("hip", "knee", "ankle")] for side in _SIDES])
    return float(np.linalg.norm(np.diff(legs, axis=1), axis=-1).sum(axis=1).mean())
