"""Where the joints of a 2D detector lie on the body, with analytic derivatives by pose and shape.

Every landmark is a sum of *carried points*: a point fixed to one bone k, with a weight. A joint is carried by its own
bone; a skinned vertex by each bone that has a skinning weight on it, pose blend shapes included. With G_k, p_k the
global rotation and position of bone k, and its rest joint J_k,

    x_l = sum_n G_k (c_n + Q_n f - w_n J_k) + w_n p_k            n over the pairs (landmark l, bone k)

where c_n is the weighted rest point, f = vec(R - I) the pose features and Q_n the weighted pose blend shapes. A small
rotation R_j exp(hat(d)) turns all bones below j about p_j by G_j d, and changes f by R_j hat(d): both derivatives are
exact. Only the vertices asked for are ever touched, so a dozen of them in 300 frames cost milliseconds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from core.arrays import Float, Int
from core.errors import InputError
from core.skeletons import Skeleton
from core.transforms import hat
from fitting.body_kinds import SMPL, BodyKind
from fitting.smpl import BodyModel, PosedBody

VERTEX_IDS: Mapping[str, int] = SMPL.vertex_ids
"""Vertices of named points on SMPL's mesh; those of any body are `body.kind.vertex_ids`."""

# Annotators and detectors put a hip where the thigh meets the trunk on the outline: about 3 cm farther out and 2 cm
# higher than SMPL's joint centre. On SMPL's mean body these weights move the hip from 65 mm to 104 mm from the middle
# and 22 mm up; being linear in the joints, they follow pose and shape.
_HIP_SAME, _HIP_OTHER, _HIP_PELVIS = 1.175, -0.425, 0.25
_COMBINATIONS: Mapping[str, Mapping[str, float]] = {
    "left_hip": {"left_hip": _HIP_SAME, "right_hip": _HIP_OTHER, "pelvis": _HIP_PELVIS},
    "right_hip": {"right_hip": _HIP_SAME, "left_hip": _HIP_OTHER, "pelvis": _HIP_PELVIS},
    "mid_hip": {
        "left_hip": (_HIP_SAME + _HIP_OTHER) / 2,
        "right_hip": (_HIP_SAME + _HIP_OTHER) / 2,
        "pelvis": _HIP_PELVIS,
    },
    "mid_shoulder": {"left_shoulder": 0.5, "right_shoulder": 0.5},
    "upper_neck": {"neck": 0.4, "head": 0.6},
}
_Numbers = Sequence[int] | Int[np.ndarray, "_"]
# One landmark: its weights on joints, and its weights on vertices.
_Weights = tuple[Mapping[int, float], Mapping[int, float]]


@dataclass(frozen=True, eq=False)
class LandmarkJacobian:
    """Landmarks and their derivatives.

    Attributes:
        positions: in the world, metres.
        by_pose: by the increments d of every joint's rotation, R_j exp(hat(d_j)), joint-major, metres a radian.
        by_betas: metres for one unit.
        by_expression: metres for one unit of what expression the body was given.
    """

    positions: Float[np.ndarray, "*batch landmarks 3"]
    by_pose: Float[np.ndarray, "*batch landmarks 3 turns"]
    by_betas: Float[np.ndarray, "*batch landmarks 3 betas"]
    by_expression: Float[np.ndarray, "*batch landmarks 3 expressions"]

    @property
    def by_transl(self) -> Float[np.ndarray, "*batch landmarks 3 3"]:
        """By the translation: the identity."""
        return np.broadcast_to(np.eye(3), (*self.positions.shape, 3))


@dataclass(frozen=True, eq=False)
class Landmarks:
    """A linear map from joints and vertices of one body model to named points.

    Attributes:
        names: landmark names in order.
        landmark_idx: landmark of each carried point, ascending; every landmark has one, and one for a bone at most.
        bone_idx: bone that carries it.
        weight: its weight w_n.
        rest: weighted rest point c_n of the mean shape, metres.
        shapedirs: derivative of c_n by the betas and then by the expressions.
        posedirs: weighted pose blend shapes Q_n.
    """

    names: tuple[str, ...]
    landmark_idx: Int[np.ndarray, "n"]
    bone_idx: Int[np.ndarray, "n"]
    weight: Float[np.ndarray, "n"]
    rest: Float[np.ndarray, "n 3"]
    shapedirs: Float[np.ndarray, "n 3 directions"]
    posedirs: Float[np.ndarray, "n 3 features"]

    @staticmethod
    def of(body: BodyModel, skeleton: Skeleton) -> Landmarks:
        """The landmarks of a skeleton; a body's own (`body.kind.skeleton`) gives the joints themselves.

        Raises:
            InputError: if the body has no such joint.
        """
        on_mesh, joints = body.kind.vertex_ids, body.kind.skeleton
        # a tree is a body's skeleton, whose hips are joints; detectors have theirs where annotators see them
        mixed = {} if skeleton.parents is not None else _COMBINATIONS
        weights: list[_Weights] = []
        for name in skeleton.joints:
            if name in on_mesh:
                weights.append(({}, {on_mesh[name]: 1.0}))
            else:
                weights.append(({joints.idx(j): w for j, w in mixed.get(name, {name: 1.0}).items()}, {}))
        return Landmarks._of_weights(body, skeleton.joints, weights)

    @staticmethod
    def of_vertices(body: BodyModel, vertices: _Numbers, joints: _Numbers = ()) -> Landmarks:
        """Chosen vertices of the mesh by number, then chosen joints; named "vertex 332" and "joint 15".

        Raises:
            InputError: if the body has no such vertex or joint.
        """
        chosen = ("vertex", vertices, body.kind.num_vertices), ("joint", joints, body.kind.num_joints)
        for what, numbers, count in chosen:
            if wrong := [int(n) for n in numbers if not 0 <= n < count]:
                raise InputError(body.name, f"it has no {what} {wrong[0]}", f"choose among 0 to {count - 1}")
        names = tuple(f"{what} {int(n)}" for what, numbers, _ in chosen for n in numbers)
        on_mesh: list[_Weights] = [({}, {int(n): 1.0}) for n in vertices]
        return Landmarks._of_weights(body, names, [*on_mesh, *(({int(n): 1.0}, {}) for n in joints)])

    @staticmethod
    def from_regressors(
        body: BodyModel,
        names: tuple[str, ...],
        by_joint: Float[np.ndarray, "landmarks joints"],
        by_vertex: Float[np.ndarray, "landmarks vertices"],
    ) -> Landmarks:
        """Landmarks as weighted sums of posed joints and posed vertices."""
        weights: list[_Weights] = [
            ({int(n): row[n] for n in np.flatnonzero(row)}, {int(n): line[n] for n in np.flatnonzero(line)})
            for row, line in zip(by_joint, by_vertex, strict=True)
        ]
        return Landmarks._of_weights(body, names, weights)

    @staticmethod
    def _of_weights(body: BodyModel, names: tuple[str, ...], weights: Sequence[_Weights]) -> Landmarks:
        """Collects the carried points of each landmark by bone."""
        if not names:
            raise InputError(body.name, "no landmarks asked for", "choose one at least")
        pairs: dict[tuple[int, int], list[Any]] = {}
        still = np.zeros((3, body.kind.num_pose_features))
        for row, (by_joint, by_vertex) in enumerate(weights):
            for joint, w in by_joint.items():
                pairs[row, joint] = [w, w * body.joint_template[joint], w * body.joint_shapedirs[joint], still]
            v, share = np.array([*by_vertex], dtype=int), np.array([*by_vertex.values()])
            for bone in np.flatnonzero(body.weights[v].any(axis=0)).tolist():
                ws = share * body.weights[v, bone]
                parts = [
                    ws.sum(),
                    *(np.tensordot(ws, a[v], 1) for a in (body.v_template, body.shapedirs, body.posedirs)),
                ]
                old = pairs.get((row, bone))
                pairs[row, bone] = parts if old is None else [a + b for a, b in zip(old, parts, strict=True)]
        keys = sorted(pairs)
        landmark_idx, bone_idx = np.array(keys, dtype=int).reshape(-1, 2).T
        if missing := set(range(len(names))) - set(landmark_idx.tolist()):
            name = names[min(missing)]
            raise InputError(name, "no joint and no skinned vertex carries it", "give it a weight on one")
        weight, rest, shapedirs, posedirs = (np.stack([pairs[k][i] for k in keys]) for i in range(4))
        return Landmarks(tuple(names), landmark_idx, bone_idx, weight, rest, shapedirs, posedirs)

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def _blended(self) -> Int[np.ndarray, "m"]:
        """The carried points that pose blend shapes move."""
        return np.flatnonzero(self.posedirs.any(axis=(1, 2)))

    def summed(self, carried: np.ndarray, axis: int) -> np.ndarray:
        """Adds the carried points of each landmark along an axis."""
        return np.add.reduceat(carried, np.searchsorted(self.landmark_idx, np.arange(len(self))), axis=axis)

    def positions(self, posed: PosedBody) -> Float[np.ndarray, "*batch landmarks 3"]:
        """Landmarks in the world, metres, for any batch."""
        return self.summed(self.carried(posed), axis=-2)

    def carried(self, posed: PosedBody) -> np.ndarray:
        """Weighted world positions of the carried points (*batch, n, 3)."""
        shape = posed.shaped.shape
        rest = self.rest + np.einsum("ncb,...b->...nc", self.shapedirs[..., : shape.shape[-1]], shape)
        rest = rest - self.weight[:, None] * posed.shaped.rest_joints[..., self.bone_idx, :]
        batch = posed.joints.shape[:-2]
        rest = np.broadcast_to(rest, (*batch, *rest.shape[-2:])).copy()
        blend = self.posedirs[self._blended].reshape(-1, self.posedirs.shape[-1])
        rest[..., self._blended, :] += (posed.pose_features @ blend.T).reshape(*batch, -1, 3)
        turned = np.matmul(posed.world_rotations[..., self.bone_idx, :, :], rest[..., None])[..., 0]
        return turned + self.weight[:, None] * posed.joints[..., self.bone_idx, :]

    def linearise(self, posed: PosedBody) -> LandmarkJacobian:
        """Landmarks and their derivatives, for any batch."""
        batch, kind = posed.joints.shape[:-2], posed.shaped.body.kind
        n, L, J = len(self.weight), len(self), kind.num_joints
        carried = self.carried(posed).reshape(-1, n, 3)
        R, G = (a.reshape(-1, J, 3, 3) for a in (posed.rotations, posed.world_rotations))
        by_pose = self._by_turning(kind, G, posed.joints.reshape(-1, J, 3), carried)
        if len(self._blended):
            self._add_blend_shapes(R, G, by_pose)
        by_shape = self._by_shape(posed.shaped.body, G, posed.shaped.shape.shape[-1]).reshape(*batch, L, 3, -1)
        num_betas = posed.shaped.betas.shape[-1]
        return LandmarkJacobian(
            self.summed(carried, axis=1).reshape(*batch, L, 3),
            by_pose.reshape(*batch, L, 3, 3 * J),
            by_shape[..., :num_betas],
            by_shape[..., posed.shaped.body.num_betas :],
        )

    def _by_turning(self, kind: BodyKind, G: np.ndarray, joints: np.ndarray, carried: np.ndarray) -> np.ndarray:
        """Derivative (frames, landmarks, 3, joints, 3) by the turning of all bones below each joint."""
        num_frames, num_joints = joints.shape[:2]
        arms = np.zeros((num_frames, len(self), num_joints, 3))
        arms[:, self.landmark_idx, self.bone_idx] = carried
        mass = np.zeros((len(self), num_joints, 1))
        mass[self.landmark_idx, self.bone_idx, 0] = self.weight
        for of_bone in (arms, mass):
            kind.add_children(of_bone)
        arms -= mass * joints[:, None]
        # the turn G d moves a point at arm m by (G d) x m: column c of the derivative is g_c x m
        g = np.moveaxis(G, -2, 1).reshape(num_frames, 3, 1, -1)  # frames row 1 joint-column
        # every arm three times, once a column, so that numpy's inner loops are long
        m = np.repeat(np.moveaxis(arms, -1, 1), 3, axis=-1)  # frames 3 landmarks joint-column
        by_pose = np.empty((num_frames, len(self), 3, 3 * num_joints))
        for a, (b, c) in enumerate(((1, 2), (2, 0), (0, 1))):
            np.multiply(g[:, b], m[:, c], out=by_pose[:, :, a])
            by_pose[:, :, a] -= g[:, c] * m[:, b]
        return by_pose.reshape(num_frames, len(self), 3, num_joints, 3)

    def _add_blend_shapes(self, R: np.ndarray, G: np.ndarray, by_pose: np.ndarray) -> None:
        """Adds the derivative by way of the pose blend shapes."""
        num_frames, num_joints = R.shape[:2]
        # d vec(R_j) / d d_j, (frames, joints but the first, 9, 3): R_j hat(e_c)
        turn = np.einsum("tjmk,ckn->tjmnc", R[:, 1:], hat(np.eye(3)), optimize=True)
        turn = turn.reshape(num_frames, num_joints - 1, 9, 3)
        landmarks = np.unique(self.landmark_idx[self._blended])
        for landmark in landmarks.tolist():
            n = self._blended[self.landmark_idx[self._blended] == landmark]
            bones = np.moveaxis(G[:, self.bone_idx[n]], 1, 2).reshape(num_frames * 3, -1)
            blend = self.posedirs[n].reshape(3 * len(n), -1, 9)
            used = np.flatnonzero(blend.any(axis=(0, 2)))
            turned = (bones @ blend[:, used].reshape(len(blend), -1)).reshape(num_frames, 3, len(used), 9)
            moved = np.matmul(turned.transpose(0, 2, 1, 3), turn[:, used])
            by_pose[:, landmark][:, :, used + 1] += moved.transpose(0, 2, 1, 3)

    def shifted(self, offsets_m: Float[np.ndarray, "landmarks 3"]) -> Landmarks:
        """The landmarks so far from where they are on the body, in the axes of its rest pose; they turn with it."""
        return dataclasses.replace(self, rest=self.rest + self.weight[:, None] * offsets_m[self.landmark_idx])

    def by_offsets(self, posed: PosedBody) -> Float[np.ndarray, "frames landmarks 3 3"]:
        """Derivatives of a sequence of frames by each landmark's own offset (`shifted`)."""
        G = posed.world_rotations[:, self.bone_idx]
        return self.summed(self.weight[:, None, None] * G, axis=1)

    def by_betas(self, posed: PosedBody) -> Float[np.ndarray, "frames landmarks 3 betas"]:
        """Derivatives of a sequence of frames by the betas alone."""
        return self._by_shape(posed.shaped.body, posed.world_rotations, posed.shaped.betas.shape[-1])

    def _by_shape(self, body: BodyModel, G: np.ndarray, num_directions: int) -> np.ndarray:
        """Derivative (frames, landmarks, 3, directions) by the first shape directions."""
        joint_dirs = body.joint_shapedirs[..., :num_directions]
        joints = np.empty((len(G), *joint_dirs.shape))
        joints[:, 0] = joint_dirs[0]
        for j, parent in enumerate(body.parents[1:].tolist(), start=1):
            joints[:, j] = joints[:, parent] + G[:, parent] @ (joint_dirs[j] - joint_dirs[parent])
        dirs = self.shapedirs[..., :num_directions] - self.weight[:, None, None] * joint_dirs[self.bone_idx]
        carried = np.matmul(G[:, self.bone_idx], dirs) + self.weight[:, None, None] * joints[:, self.bone_idx]
        return self.summed(carried, axis=1)


@lru_cache(maxsize=32)
def landmarks_of(body: BodyModel, skeleton: Skeleton) -> Landmarks:
    """`Landmarks.of`, remembered for each body and skeleton."""
    return Landmarks.of(body, skeleton)


def landmark_positions_and_jacobian(body: BodyModel, skeleton: Skeleton, posed: PosedBody) -> LandmarkJacobian:
    """Landmarks of a skeleton over a sequence of frames, with derivatives by pose and shape."""
    return landmarks_of(body, skeleton).linearise(posed)


def vertices_and_jacobian(posed: PosedBody, vertices: _Numbers, joints: _Numbers = ()) -> LandmarkJacobian:
    """Chosen vertices (by number) and joints of a posed body, with derivatives by pose, shape and translation.

    The positions are those of `PosedBody.mesh` and `PosedBody.joints`, but only what is asked for is computed. Where
    the same vertices are wanted again and again, keep `Landmarks.of_vertices` and call its `positions` or `linearise`.

    Raises:
        InputError: if the body has no such vertex or joint.
    """
    return Landmarks.of_vertices(posed.shaped.body, vertices, joints).linearise(posed)
