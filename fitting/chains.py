"""Derivatives of landmarks by the few joints that move them: what the solver asks for, several times faster.

A toe follows seven of SMPL's joints and a wrist eight; their derivatives by the others are zero, or, through the pose
blend shapes, a tenth of a millimetre. Landmarks that follow nearly the same joints form a chain, whose derivatives are
small dense blocks. `Landmarks.linearise` is the same with all joints.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from core.arrays import Float, Int
from core.transforms import hat
from fitting.body_kinds import BodyKind
from fitting.landmarks import Landmarks
from fitting.smpl import PosedBody

_LEAST_M = 2e-4  # movement by a radian of a joint that reaches a landmark through blend shapes alone and is left out
_OVERHEAD = 4000  # cost of one more chain, in products of its normal matrix


@dataclass(frozen=True, eq=False)
class Chain:
    """Landmarks that follow the same joints.

    Attributes:
        landmark_idx: which landmarks, ascending.
        joint_idx: the joints, ascending.
        point_idx: their carried points.
        owner: row of `landmark_idx` of each carried point.
        gather: (landmarks * joints, points) which points each joint moves of which landmark.
        mass: (landmarks, joints) their weight.
    """

    landmark_idx: Int[np.ndarray, "l"]
    joint_idx: Int[np.ndarray, "k"]
    point_idx: Int[np.ndarray, "n"]
    owner: Int[np.ndarray, "n"]
    gather: Float[np.ndarray, "lk n"]
    mass: Float[np.ndarray, "l k"]

    def by_pose(
        self, landmarks: Landmarks, posed: PosedBody, carried: Float[np.ndarray, "frames n 3"]
    ) -> Float[np.ndarray, "frames l 3 k 3"]:
        """Derivatives by the increments of the joints' rotations, metres a radian.

        Args:
            landmarks: all landmarks.
            posed: the body.
            carried: weighted places of all carried points (`Landmarks.carried`).
        """
        T, shape = len(carried), (len(self.landmark_idx), len(self.joint_idx))
        arms = np.matmul(self.gather, carried[:, self.point_idx]).reshape(T, *shape, 3)
        arms -= self.mass[..., None] * posed.joints[:, None, self.joint_idx]
        # the turn G d moves a point at arm m by (G d) x m: column c of the derivative is g_c x m
        g = np.moveaxis(posed.world_rotations[:, self.joint_idx], -2, 1)[:, None]  # frames 1 row joint column
        m = np.moveaxis(arms, -1, 0)[..., None]
        result = np.empty((T, shape[0], 3, shape[1], 3))
        for a, (b, c) in enumerate(((1, 2), (2, 0), (0, 1))):
            np.multiply(g[:, :, b], m[c], out=result[:, :, a])
            result[:, :, a] -= g[:, :, c] * m[b]
        self._add_blend_shapes(landmarks, posed, result)
        return result

    def _add_blend_shapes(self, landmarks: Landmarks, posed: PosedBody, result: np.ndarray) -> None:
        """Adds the derivative by way of the pose blend shapes."""
        dirs = landmarks.posedirs[self.point_idx].reshape(len(self.point_idx), 3, -1, 9)
        blended = np.flatnonzero(self.joint_idx > 0)
        joints = self.joint_idx[blended]
        turn = np.einsum("tjmk,ckn->tjmnc", posed.rotations[:, joints], hat(np.eye(3)), optimize=True)
        turn = turn.reshape(len(result), len(joints), 9, 3)
        for row in range(len(self.landmark_idx)):
            own = np.flatnonzero((self.owner == row) & dirs.any(axis=(1, 2, 3)))
            if not len(own):
                continue
            G = np.moveaxis(posed.world_rotations[:, landmarks.bone_idx[self.point_idx[own]]], 1, 2)
            Q = dirs[own][:, :, joints - 1].reshape(3 * len(own), -1)
            turned = (G.reshape(len(result) * 3, -1) @ Q).reshape(len(result), 3, len(joints), 9)
            moved = np.matmul(turned.transpose(0, 2, 1, 3), turn)
            result[:, row][:, :, blended] += moved.transpose(0, 2, 1, 3)


@lru_cache(maxsize=64)
def chains_of(landmarks: Landmarks, kind: BodyKind) -> tuple[Chain, ...]:
    """The chains of a set of landmarks on bodies of a kind; every landmark is in one."""
    below = np.eye(kind.num_joints)  # [j, k]: bone k moves when joint j turns
    for joint in range(kind.num_joints - 1, 0, -1):
        below[kind.parents[joint]] += below[joint]
    by_bone = np.zeros((len(landmarks), kind.num_joints))
    np.add.at(by_bone, (landmarks.landmark_idx, landmarks.bone_idx), landmarks.weight)
    mass = by_bone @ below.T
    reach = np.zeros_like(mass)
    for row, dirs in zip(landmarks.landmark_idx, landmarks.posedirs, strict=True):
        reach[row, 1:] += np.sqrt(2) * np.linalg.norm(dirs.reshape(3, -1, 9), axis=(0, 2))
    follows = [
        frozenset(np.flatnonzero((mass[k] != 0) | (reach[k] > _LEAST_M)).tolist()) for k in range(len(landmarks))
    ]
    groups = [([row], joints) for row, joints in enumerate(follows)]
    while (best := _best_merge(groups)) is not None:
        a, b = best
        merged = (groups[a][0] + groups[b][0], groups[a][1] | groups[b][1])
        groups = [group for k, group in enumerate(groups) if k not in best] + [merged]
    return tuple(_chain(landmarks, below, mass, sorted(rows), sorted(joints)) for rows, joints in groups)


def _best_merge(groups: list[tuple[list[int], frozenset[int]]]) -> tuple[int, int] | None:
    """The two groups whose union saves most; None if none saves anything."""
    best, least = None, 0.0
    for b, (rows_b, joints_b) in enumerate(groups):
        for a, (rows_a, joints_a) in enumerate(groups[:b]):
            apart = _cost(len(rows_a), len(joints_a)) + _cost(len(rows_b), len(joints_b))
            change = _cost(len(rows_a) + len(rows_b), len(joints_a | joints_b)) - apart
            if change < least:
                best, least = (a, b), change
    return best


def _cost(num_landmarks: int, num_joints: int) -> float:
    return num_landmarks * 3.0 * (3 * num_joints + 13) ** 2 + _OVERHEAD


def _chain(landmarks: Landmarks, below: np.ndarray, mass: np.ndarray, rows: list[int], joints: list[int]) -> Chain:
    landmark_idx, joint_idx = np.array(rows), np.array(joints, int)
    point_idx = np.flatnonzero(np.isin(landmarks.landmark_idx, landmark_idx))
    owner = np.searchsorted(landmark_idx, landmarks.landmark_idx[point_idx])
    moves = below[joint_idx][:, landmarks.bone_idx[point_idx]]
    gather = (owner[None, None] == np.arange(len(rows))[:, None, None]) * moves[None]
    return Chain(
        landmark_idx,
        joint_idx,
        point_idx,
        owner,
        gather.reshape(-1, len(point_idx)).astype(float),
        mass[np.ix_(landmark_idx, joint_idx)],
    )
