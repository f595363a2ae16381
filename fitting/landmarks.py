"""Where the joints of a 2D detector lie on the body, with analytic derivatives by pose and shape.

Every landmark is a sum of *carried points*: a point fixed to one bone k, with a weight. A joint is carried by its own
bone; a skinned vertex by each bone that has a skinning weight on it, pose blend shapes included. With G_k, p_k the
global rotation and position of bone k, and its rest joint J_k,

    x_l = sum_n G_k (c_n + Q_n f - w_n J_k) + w_n p_k            n over the pairs (landmark l, bone k)

where c_n is the weighted rest point, f = vec(R - I) the pose features and Q_n the weighted pose blend shapes. A small
rotation R_j exp(hat(d)) turns all bones below j about p_j by G_j d, and changes f by R_j hat(d): both derivatives are
exact. Only a dozen vertices are ever touched, so 300 frames cost milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from core.arrays import Float, Int
from core.skeletons import SMPL_24, Skeleton
from core.transforms import hat
from fitting.smpl import NUM_JOINTS, NUM_POSE_FEATURES, NUM_VERTICES, PARENTS, BodyModel, PosedBody

# Vertices of the SMPL mesh, as in the table of the smplx package; the top of the head is SMPL's own vertex there.
VERTEX_IDS: Mapping[str, int] = {
    "nose": 332, "right_eye": 6260, "left_eye": 2800, "right_ear": 4071, "left_ear": 583, "head_top": 411,
    "left_big_toe": 3216, "left_small_toe": 3226, "left_heel": 3387,
    "right_big_toe": 6617, "right_small_toe": 6624, "right_heel": 6787,
}  # fmt: skip

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
# below[j, k]: bone k moves when joint j turns
_BELOW = np.eye(NUM_JOINTS)
for _joint in range(NUM_JOINTS - 1, 0, -1):
    _BELOW[PARENTS[_joint]] += _BELOW[_joint]


@dataclass(frozen=True, eq=False)
class LandmarkJacobian:
    """Landmarks and their derivatives; the derivative by `transl` is the identity.

    Attributes:
        positions: in the world, metres.
        by_pose: by the increments d of every joint's rotation, R_j exp(hat(d_j)), joint-major, metres a radian.
        by_betas: metres for one unit.
    """

    positions: Float[np.ndarray, "frames landmarks 3"]
    by_pose: Float[np.ndarray, "frames landmarks 3 72"]
    by_betas: Float[np.ndarray, "frames landmarks 3 betas"]


@dataclass(frozen=True, eq=False)
class Landmarks:
    """A linear map from joints and vertices of one body model to named points.

    Attributes:
        names: landmark names in order.
        landmark_idx: landmark of each carried point, ascending.
        bone_idx: bone that carries it.
        weight: its weight w_n.
        rest: weighted rest point c_n of the mean shape, metres.
        shapedirs: derivative of c_n by the betas.
        posedirs: weighted pose blend shapes Q_n.
    """

    names: tuple[str, ...]
    landmark_idx: Int[np.ndarray, "n"]
    bone_idx: Int[np.ndarray, "n"]
    weight: Float[np.ndarray, "n"]
    rest: Float[np.ndarray, "n 3"]
    shapedirs: Float[np.ndarray, "n 3 betas"]
    posedirs: Float[np.ndarray, "n 3 207"]

    @staticmethod
    def of(body: BodyModel, skeleton: Skeleton) -> Landmarks:
        """The landmarks of a skeleton; SMPL_24 gives the joints themselves."""
        by_joint, by_vertex = np.zeros((len(skeleton), NUM_JOINTS)), np.zeros((len(skeleton), NUM_VERTICES))
        for row, name in enumerate(skeleton.joints):
            if name in VERTEX_IDS:
                by_vertex[row, VERTEX_IDS[name]] = 1.0
                continue
            plain = skeleton is SMPL_24 or name not in _COMBINATIONS
            for joint, weight in ({name: 1.0} if plain else _COMBINATIONS[name]).items():
                by_joint[row, SMPL_24.idx(joint)] = weight
        return Landmarks.from_regressors(body, skeleton.joints, by_joint, by_vertex)

    @staticmethod
    def from_regressors(
        body: BodyModel,
        names: tuple[str, ...],
        by_joint: Float[np.ndarray, "landmarks 24"],
        by_vertex: Float[np.ndarray, "landmarks 6890"],
    ) -> Landmarks:
        """Landmarks as weighted sums of posed joints and posed vertices."""
        pairs: dict[tuple[int, int], list[np.ndarray]] = {}
        for row, joint in np.argwhere(by_joint != 0).tolist():
            w = by_joint[row, joint]
            still = np.zeros((3, NUM_POSE_FEATURES))
            pairs[row, joint] = [w, w * body.joint_template[joint], w * body.joint_shapedirs[joint], still]
        for row in np.flatnonzero(by_vertex.any(axis=1)).tolist():
            v = np.flatnonzero(by_vertex[row])
            for bone in np.flatnonzero(body.weights[v].any(axis=0)).tolist():
                w = by_vertex[row, v] * body.weights[v, bone]
                parts = [w.sum(), *(np.tensordot(w, a[v], 1) for a in (body.v_template, body.shapedirs, body.posedirs))]
                old = pairs.get((row, bone))
                pairs[row, bone] = parts if old is None else [a + b for a, b in zip(old, parts, strict=True)]
        keys = sorted(pairs)
        weight, rest, shapedirs, posedirs = (np.stack([pairs[k][i] for k in keys]) for i in range(4))
        landmark_idx, bone_idx = np.array(keys).T
        return Landmarks(tuple(names), landmark_idx, bone_idx, weight, rest, shapedirs, posedirs)

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def total(self) -> Float[np.ndarray, "landmarks n"]:
        """Adds the carried points of each landmark."""
        return (np.arange(len(self))[:, None] == self.landmark_idx).astype(float)

    @cached_property
    def mass(self) -> Float[np.ndarray, "landmarks 24"]:
        """Weight of each landmark that moves with each joint's rotation."""
        by_bone = np.zeros((len(self), NUM_JOINTS))
        np.add.at(by_bone, (self.landmark_idx, self.bone_idx), self.weight)
        return by_bone @ _BELOW.T

    @cached_property
    def _blended(self) -> Int[np.ndarray, "m"]:
        """The carried points that pose blend shapes move."""
        return np.flatnonzero(self.posedirs.any(axis=(1, 2)))

    def positions(self, posed: PosedBody) -> Float[np.ndarray, "*batch landmarks 3"]:
        """Landmarks in the world, metres, for any batch."""
        return np.einsum("ln,...nc->...lc", self.total, self.carried(posed))

    def carried(self, posed: PosedBody) -> np.ndarray:
        """Weighted world positions of the carried points (*batch, n, 3)."""
        betas = posed.shaped.betas
        rest = self.rest + np.einsum("ncb,...b->...nc", self.shapedirs[..., : betas.shape[-1]], betas)
        rest = rest - self.weight[:, None] * posed.shaped.rest_joints[..., self.bone_idx, :]
        batch = posed.joints.shape[:-2]
        rest = np.broadcast_to(rest, (*batch, *rest.shape[-2:])).copy()
        blend = self.posedirs[self._blended].reshape(-1, NUM_POSE_FEATURES)
        rest[..., self._blended, :] += (posed.pose_features @ blend.T).reshape(*batch, -1, 3)
        turned = np.matmul(posed.world_rotations[..., self.bone_idx, :, :], rest[..., None])[..., 0]
        return turned + self.weight[:, None] * posed.joints[..., self.bone_idx, :]

    def linearise(self, posed: PosedBody) -> LandmarkJacobian:
        """Landmarks of a sequence of frames and their derivatives."""
        carried = self.carried(posed)
        by_pose = self._by_turning(posed, carried)
        if len(self._blended):
            self._add_blend_shapes(posed, by_pose)
        num_frames = len(carried)
        return LandmarkJacobian(
            np.matmul(self.total, carried), by_pose.reshape(num_frames, len(self), 3, 72), self.by_betas(posed)
        )

    def _by_turning(self, posed: PosedBody, carried: np.ndarray) -> np.ndarray:
        """Derivative (frames, landmarks, 3, 24, 3) by the turning of all bones below each joint."""
        num_frames = len(carried)
        gather = np.zeros((len(self) * NUM_JOINTS, len(self.weight)))
        for n, (row, bone) in enumerate(zip(self.landmark_idx, self.bone_idx, strict=True)):
            gather[row * NUM_JOINTS : (row + 1) * NUM_JOINTS, n] = _BELOW[:, bone]
        arms = np.matmul(gather, carried).reshape(num_frames, len(self), NUM_JOINTS, 3)
        arms -= self.mass[:, :, None] * posed.joints[:, None]
        # the turn G d moves a point at arm m by (G d) x m: column c of the derivative is g_c x m
        g = np.moveaxis(posed.world_rotations, -2, 1)[:, None]  # frames 1 row joint column
        m = np.moveaxis(arms, -1, 0)[..., None]  # 3 frames landmarks joint 1
        by_pose = np.empty((num_frames, len(self), 3, NUM_JOINTS, 3))
        for a, (b, c) in enumerate(((1, 2), (2, 0), (0, 1))):
            np.multiply(g[:, :, b], m[c], out=by_pose[:, :, a])
            by_pose[:, :, a] -= g[:, :, c] * m[b]
        return by_pose

    def _add_blend_shapes(self, posed: PosedBody, by_pose: np.ndarray) -> None:
        """Adds the derivative by way of the pose blend shapes."""
        num_frames = len(by_pose)
        # d vec(R_j) / d d_j, (frames, 23, 9, 3): R_j hat(e_c)
        turn = np.einsum("tjmk,ckn->tjmnc", posed.rotations[:, 1:], hat(np.eye(3)), optimize=True)
        turn = turn.reshape(num_frames, NUM_JOINTS - 1, 9, 3)
        landmarks = np.unique(self.landmark_idx[self._blended])
        for landmark in landmarks.tolist():
            n = self._blended[self.landmark_idx[self._blended] == landmark]
            G = np.moveaxis(posed.world_rotations[:, self.bone_idx[n]], 1, 2).reshape(num_frames * 3, -1)
            blend = self.posedirs[n].reshape(-1, NUM_POSE_FEATURES)
            used = np.flatnonzero(blend.reshape(len(blend), -1, 9).any(axis=(0, 2)))
            blend = blend.reshape(len(blend), -1, 9)[:, used].reshape(len(blend), -1)
            turned = (G @ blend).reshape(num_frames, 3, len(used), 9)
            moved = np.matmul(turned.transpose(0, 2, 1, 3), turn[:, used])
            by_pose[:, landmark][:, :, used + 1] += moved.transpose(0, 2, 1, 3)

    def by_betas(self, posed: PosedBody) -> np.ndarray:
        """Derivative (frames, landmarks, 3, betas) by the shape."""
        G, num_betas = posed.world_rotations, posed.shaped.betas.shape[-1]
        joint_dirs = posed.shaped.body.joint_shapedirs[..., :num_betas]
        joints = np.empty((len(G), NUM_JOINTS, 3, num_betas))
        joints[:, 0] = joint_dirs[0]
        for j, parent in enumerate(PARENTS[1:].tolist(), start=1):
            joints[:, j] = joints[:, parent] + G[:, parent] @ (joint_dirs[j] - joint_dirs[parent])
        dirs = self.shapedirs[..., :num_betas] - self.weight[:, None, None] * joint_dirs[self.bone_idx]
        carried = np.matmul(G[:, self.bone_idx], dirs) + self.weight[:, None, None] * joints[:, self.bone_idx]
        shape = (len(G), len(self), 3, num_betas)
        return np.matmul(self.total, carried.reshape(len(G), len(self.weight), -1)).reshape(shape)


@lru_cache(maxsize=32)
def landmarks_of(body: BodyModel, skeleton: Skeleton) -> Landmarks:
    """`Landmarks.of`, remembered for each body and skeleton."""
    return Landmarks.of(body, skeleton)


def landmark_positions_and_jacobian(body: BodyModel, skeleton: Skeleton, posed: PosedBody) -> LandmarkJacobian:
    """Landmarks of a skeleton over a sequence of frames, with derivatives by pose and shape."""
    return landmarks_of(body, skeleton).linearise(posed)
