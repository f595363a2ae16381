"""Motion capture files of the stand-in body, whose retargeting has an exact truth."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from core.skeletons import SMPL_24
from dataset.importers.articulated import ArticulatedMotion
from dataset.importers.skeleton_maps import SkeletonMap
from dataset.retarget import UPRIGHT
from fitting.smpl import PARENTS, PosedBody
from fitting.stand_in import stand_in_body


def posed_body(frames: int, rng: np.random.Generator, betas: np.ndarray | None = None) -> PosedBody:
    """The stand-in in smooth random poses, upright, feet about the floor; joints without a turn keep still."""
    poses = 0.4 * np.sin(np.linspace(0, 6, frames)[:, None, None] + rng.uniform(0, 6, (24, 3)))
    poses[:, [10, 11, 22, 23]] = 0.0
    poses[:, 6] = poses[:, 9]  # what a source without spine2 leaves open
    poses[:, 0] *= 0.3
    poses[:, 0] = (Rotation.from_matrix(UPRIGHT) * Rotation.from_rotvec(poses[:, 0])).as_rotvec()
    shaped = stand_in_body().with_shape(np.zeros(10) if betas is None else betas)
    return shaped.with_pose(poses, np.stack([np.linspace(0, 1, frames), np.zeros(frames), np.ones(frames)], axis=1))


def as_source(posed: PosedBody, skeleton: SkeletonMap, unit_m: float = 0.01) -> ArticulatedMotion:
    """The body as a file of another skeleton would have it: y up, its own unit, joint frames and names."""
    names, parents, joints = [], [], []
    for j, joint in enumerate(SMPL_24.joints):
        if joint in skeleton.points:
            names.append(skeleton.points[joint])
            joints.append(j)
            parent = int(PARENTS[j])
            while parent >= 0 and parent not in joints:
                parent = int(PARENTS[parent])
            parents.append(joints.index(parent) if parent >= 0 else -1)
    frames = np.stack([skeleton.joint_from_smpl(SMPL_24.joints[j]).T for j in joints])
    rotations = UPRIGHT.T @ posed.world_rotations[:, joints] @ frames
    positions = posed.joints[:, joints] @ UPRIGHT / unit_m
    return ArticulatedMotion(
        tuple(names), np.array(parents), np.zeros((len(names), 3)), positions, rotations, Fraction(30)
    )


def write_bvh(path: Path, motion: ArticulatedMotion, *, first_at_rest: bool = False) -> Path:
    """Writes a motion with six channels a joint, so that any offsets can be stated."""
    lines: list[str] = ["HIERARCHY"]
    order: list[int] = []

    def add(j: int, depth: int) -> None:
        order.append(j)
        lines.extend([f"{'ROOT' if depth == 0 else 'JOINT'} {motion.names[j]}", "{", "OFFSET 0 0 0"])
        lines.append("CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation")
        children = np.flatnonzero(motion.parents == j).tolist()
        for child in children:
            add(child, depth + 1)
        lines.extend([] if children else ["End Site", "{", "OFFSET 0 1 0", "}"])
        lines.append("}")

    add(0, 0)
    up = np.maximum(motion.parents, 0)
    back = np.swapaxes(motion.rotations[:, up], -1, -2)
    local, offsets = back @ motion.rotations, (back @ (motion.positions - motion.positions[:, up])[..., None])[..., 0]
    local[:, 0], offsets[:, 0] = motion.rotations[:, 0], motion.positions[:, 0]
    angles = Rotation.from_matrix(local.reshape(-1, 3, 3)).as_euler("ZXY", degrees=True).reshape(offsets.shape)
    if first_at_rest:
        angles[0] = 0.0
    rows = np.concatenate([offsets, angles], axis=-1)[:, order].reshape(len(motion), -1)
    lines += ["MOTION", f"Frames: {len(rows)}", f"Frame Time: {float(1 / motion.rate):.7f}"]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*lines, *(" ".join(f"{v:.9f}" for v in row) for row in rows)]) + "\n")
    return path
