"""The SMPL body models in numpy: load, shape, pose, mesh, as immutable steps over any batch.

Loper et al., "SMPL: A Skinned Multi-Person Linear Model" (SIGGRAPH Asia 2015); SMPL-H and SMPL-X are the same
mathematics with more joints (`fitting.body_kinds`). Body frame at rest: y up, x to the subject's left, facing z. It
differs from the `smplx` package in that every step is a value (nothing is stored in a module), joints cost no vertices,
and both share one forward pass; vertices and joints equal smplx's. Poses are full axis-angles, and zero fingers are
flat: smplx does the same with `use_pca=False, flat_hand_mean=True`, and otherwise adds `BodyModel.mean_pose` to what
it is given. As in SMPL, `transl` is added last, so the pelvis stands at `transl + rest pelvis`, which depends on the
betas: `transl_from_root` and `PosedBody.root` are the only places that convert.
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from core.arrays import Float, Int
from core.errors import InputError
from core.files import write_npz
from core.transforms import SE3
from fitting.body_files import joined_shapedirs, read_body_file
from fitting.body_kinds import SMPL, BodyKind
from fitting.safetensors import write_safetensors

# SMPL's own sizes, for what is made for SMPL alone; the classes here have those of their model's kind
NUM_JOINTS, NUM_VERTICES, NUM_POSE_FEATURES = SMPL.num_joints, SMPL.num_vertices, SMPL.num_pose_features
PARENTS = SMPL.parents
_MESH_CHUNK = 32  # frames skinned at a time: 32 x 6890 blended transforms are 21 MB
_HASHED = ("v_template", "shapedirs", "posedirs", "weights", "J_regressor", "faces")


@dataclass(frozen=True, eq=False)
class BodyModel:
    """A body of the SMPL family.

    Attributes:
        v_template: mean rest vertices, metres.
        shapedirs: displacement of every vertex for one unit of every beta and then of every expression, metres.
        posedirs: pose blend shapes, metres for each entry of R - I of all joints but the pelvis, row-major.
        weights: skinning weights.
        J_regressor: rest joints from rest vertices.
        faces: triangles, counter-clockwise seen from outside.
        name: what the model is called in manifests.
        kind: SMPL, SMPL-H or SMPL-X.
        num_expressions: how many of the shape directions are expressions of the face.
        hands_mean: axis-angle of the finger joints of a relaxed hand, radians; no rows where the model states none.
    """

    v_template: Float[np.ndarray, "vertices 3"]
    shapedirs: Float[np.ndarray, "vertices 3 directions"]
    posedirs: Float[np.ndarray, "vertices 3 features"]
    weights: Float[np.ndarray, "vertices joints"]
    J_regressor: Float[np.ndarray, "joints vertices"]
    faces: Int[np.ndarray, "faces 3"]
    name: str
    kind: BodyKind = SMPL
    num_expressions: int = 0
    hands_mean: Float[np.ndarray, "fingers 3"] = dataclasses.field(default_factory=lambda: np.zeros((0, 3)))

    @staticmethod
    def load(path: Path, num_betas: int = 10, num_expressions: int = 10) -> BodyModel:
        """Reads an SMPL, SMPL-H or SMPL-X model from `.npz`, `.safetensors`, or an official `.pkl`; runs no code in it.

        Args:
            path: the model file.
            num_betas: shape directions to keep; official files have 10, 16 or 300.
            num_expressions: expressions to keep where the model has them.

        Raises:
            InputError: if the file is missing, damaged or no body model; it names the entry and its shape.
        """
        return BodyModel(**read_body_file(Path(path), num_betas, num_expressions))

    def require(self, kind: BodyKind, purpose: str) -> BodyModel:
        """Returns the model if it is of this kind.

        Raises:
            InputError: if not.
        """
        if self.kind is not kind:
            problem = f"a model of {self.kind.name} with {self.kind.num_joints} joints, {purpose} takes {kind.name}"
            raise InputError(self.name, problem, f"give a model of {kind.name}, or use `stand-in`")
        return self

    @property
    def parents(self) -> Int[np.ndarray, "joints"]:
        """Parent of each joint, -1 for the pelvis."""
        return self.kind.parents

    @property
    def num_betas(self) -> int:
        """Number of betas."""
        return self.shapedirs.shape[-1] - self.num_expressions

    @cached_property
    def sha256(self) -> str:
        """Hash of the model's numbers, whatever file they came from."""
        digest = hashlib.sha256()
        for name in (*_HASHED, *(("hands_mean",) if self.kind is not SMPL else ())):
            array = getattr(self, name)
            kind = "<i8" if name == "faces" else "<f8"
            digest.update(name.encode() + str(array.shape).encode() + np.ascontiguousarray(array, kind).tobytes())
        if self.num_expressions:
            digest.update(f"expressions {self.num_expressions}".encode())
        return digest.hexdigest()

    @cached_property
    def joint_template(self) -> Float[np.ndarray, "joints 3"]:
        """Rest joints of the mean shape, metres."""
        return self.J_regressor @ self.v_template

    @cached_property
    def joint_shapedirs(self) -> Float[np.ndarray, "joints 3 directions"]:
        """Displacement of the rest joints for one unit of every beta and every expression, metres."""
        return np.einsum("jv,vcb->jcb", self.J_regressor, self.shapedirs)

    @property
    def mean_pose(self) -> Float[np.ndarray, "joints 3"]:
        """The pose that smplx adds unless it is told `flat_hand_mean=True`: zero, but relaxed fingers, radians.

        Raises:
            InputError: if the model has fingers and its file stated no mean pose of them.
        """
        if len(self.hands_mean) != self.kind.num_hand_joints:
            action = "give a model file with 'hands_meanl' and 'hands_meanr'"
            raise InputError(self.name, "its file states no mean pose of the hands", action)
        pose = np.zeros((self.kind.num_joints, 3))
        pose[self.kind.num_joints - self.kind.num_hand_joints :] = self.hands_mean
        return pose

    def arrays(self) -> dict[str, np.ndarray]:
        """The model under the names and in the layout of official files."""
        content = {name: getattr(self, name) for name in _HASHED if name != "faces"}
        betas, expressions = np.split(self.shapedirs, [self.num_betas], axis=-1)
        content["shapedirs"] = joined_shapedirs(self.kind, betas, expressions)
        if len(self.hands_mean):
            left, right = np.split(self.hands_mean.ravel(), 2)
            content |= {"hands_meanl": left, "hands_meanr": right}
        return content | {"f": self.faces, "kintree_table": np.stack([self.parents, np.arange(self.kind.num_joints)])}

    def save_npz(self, path: Path) -> None:
        """Writes the model so that `load` reads it, and for SMPL `smplx` too (through its `data_struct`).

        For SMPL-H and SMPL-X smplx also asks for the principal components of hand poses and the face's landmarks, which
        only the official file has.
        """
        write_npz(path, self.arrays())

    def save_safetensors(self, path: Path) -> None:
        """Writes the model as `.safetensors`: large, for nothing is compressed, and quick to load."""
        write_safetensors(path, self.arrays())

    def with_shape(
        self,
        betas: Float[np.ndarray, "*#batch betas"],
        expression: Float[np.ndarray, "*#batch expressions"] | None = None,
    ) -> ShapedBody:
        """The body of a person; fewer betas or expressions than the model has leave the others at zero."""
        betas = np.asarray(betas, float)
        shape = betas
        if betas.shape[-1] > self.num_betas:
            problem = f"{betas.shape[-1]} betas given, the model has {self.num_betas}"
            raise InputError(self.name, problem, "give fewer betas")
        if expression is not None:
            expression = np.asarray(expression, float)
            if expression.shape[-1] > self.num_expressions:
                problem = f"{expression.shape[-1]} expressions given, the model has {self.num_expressions}"
                raise InputError(self.name, problem, "give fewer expressions, or load more")
            batch = np.broadcast_shapes(betas.shape[:-1], expression.shape[:-1])
            shape = np.zeros((*batch, self.num_betas + expression.shape[-1]))
            shape[..., : betas.shape[-1]], shape[..., self.num_betas :] = betas, expression
        num = shape.shape[-1]
        joints = self.joint_template + np.einsum("jcb,...b->...jc", self.joint_shapedirs[..., :num], shape)
        return ShapedBody(self, betas, shape, joints)


@dataclass(frozen=True, eq=False)
class ShapedBody:
    """A person at rest.

    Attributes:
        body: the model.
        betas: shape coefficients.
        shape: coefficients of the model's first shape directions: the betas, and the expression where one is given.
        rest_joints: joints of the rest pose, metres.
    """

    body: BodyModel
    betas: Float[np.ndarray, "*#batch betas"]
    shape: Float[np.ndarray, "*batch directions"]
    rest_joints: Float[np.ndarray, "*batch joints 3"]

    @property
    def rest_vertices(self) -> Float[np.ndarray, "*batch vertices 3"]:
        """Vertices of the rest pose without pose blend shapes, metres."""
        dirs = self.body.shapedirs[..., : self.shape.shape[-1]]
        return self.body.v_template + np.einsum("vcb,...b->...vc", dirs, self.shape)

    def transl_from_root(self, root: Float[np.ndarray, "*points 3"]) -> Float[np.ndarray, "*points 3"]:
        """SMPL's `transl` that puts the pelvis joint at `root` (metres)."""
        return root - self.rest_joints[..., 0, :]

    def with_pose(
        self, poses: Float[np.ndarray, "*frames joints 3"], transl: Float[np.ndarray, "*frames 3"] | None = None
    ) -> PosedBody:
        """Poses the person.

        Args:
            poses: axis-angle of the root (in the world) and of the other joints (relative to their parents), radians.
            transl: SMPL's translation, metres; zero if left out.

        Raises:
            InputError: if the model has another number of joints.
        """
        return self.with_rotations(rodrigues(np.asarray(poses, float)), transl)

    def with_rotations(
        self, rotations: Float[np.ndarray, "*frames joints 3 3"], transl: Float[np.ndarray, "*frames 3"] | None = None
    ) -> PosedBody:
        """`with_pose` for rotation matrices, parent_from_joint."""
        kind, rest = self.body.kind, self.rest_joints
        num_joints = kind.num_joints
        if rotations.shape[-3] != num_joints:
            problem = f"poses of {rotations.shape[-3]} joints given, {kind.name} has {num_joints}"
            raise InputError(self.body.name, problem, "give poses and a body model of the same kind")
        offsets = rest - rest[..., np.maximum(kind.parents, 0), :]
        batch = np.broadcast_shapes(rotations.shape[:-3], rest.shape[:-2])
        world, joints = np.empty((*batch, num_joints, 3, 3)), np.empty((*batch, num_joints, 3))
        world[..., 0, :, :] = rotations[..., 0, :, :]
        joints[..., 0, :] = rest[..., 0, :] if transl is None else rest[..., 0, :] + transl
        for j, parent in enumerate(kind.parents[1:].tolist(), start=1):
            np.matmul(world[..., parent, :, :], rotations[..., j, :, :], out=world[..., j, :, :])
            moved = np.matmul(world[..., parent, :, :], offsets[..., j, :, None])[..., 0]
            np.add(joints[..., parent, :], moved, out=joints[..., j, :])
        return PosedBody(self, np.broadcast_to(rotations, world.shape), world, joints)


@dataclass(frozen=True, eq=False)
class PosedBody:
    """A person in poses.

    Attributes:
        shaped: the person at rest.
        rotations: parent_from_joint, the root's in the world.
        world_rotations: world_from_joint.
        joints: joint positions in the world, metres.
    """

    shaped: ShapedBody
    rotations: Float[np.ndarray, "*batch joints 3 3"]
    world_rotations: Float[np.ndarray, "*batch joints 3 3"]
    joints: Float[np.ndarray, "*batch joints 3"]

    @property
    def root(self) -> SE3:
        """`world_from_root`: the frame of the pelvis joint."""
        return self.world_from_joint(0)

    def world_from_joint(self, joint: int) -> SE3:
        """The frame of one joint: its global rotation and position."""
        return SE3(self.world_rotations[..., joint, :, :], self.joints[..., joint, :])

    @property
    def smpl_joints(self) -> Float[np.ndarray, "*batch 24 3"]:
        """Positions of SMPL's 24 joints, or of what stands for them (`BodyKind.joint_of_smpl`), metres."""
        return self.joints[..., self.shaped.body.kind.joint_of_smpl, :]

    @property
    def pose_features(self) -> Float[np.ndarray, "*batch features"]:
        """R - I of all joints but the pelvis, what the pose blend shapes multiply."""
        local = self.rotations[..., 1:, :, :] - np.eye(3)
        return local.reshape(*local.shape[:-3], self.shaped.body.kind.num_pose_features)

    def mesh(self) -> Float[np.ndarray, "*batch vertices 3"]:
        """Skinned vertices in the world, metres."""
        body, batch = self.shaped.body, self.joints.shape[:-2]
        V, J, F = body.kind.num_vertices, body.kind.num_joints, body.kind.num_pose_features
        rest = np.broadcast_to(self.shaped.rest_vertices, (*batch, V, 3)).reshape(-1, V, 3)
        shifts = self.joints - np.einsum("...jab,...jb->...ja", self.world_rotations, self.shaped.rest_joints)
        world = np.concatenate([self.world_rotations, shifts[..., None]], axis=-1).reshape(-1, J, 12)
        features = self.pose_features.reshape(-1, F)
        blend = body.posedirs.reshape(-1, F).T
        vertices = np.empty(rest.shape)
        for start in range(0, len(vertices), _MESH_CHUNK):
            part = slice(start, start + _MESH_CHUNK)
            corrected = rest[part] + (features[part] @ blend).reshape(-1, V, 3)
            transforms = (body.weights @ world[part]).reshape(-1, V, 3, 4)
            vertices[part] = np.einsum("tvab,tvb->tva", transforms[..., :3], corrected) + transforms[..., 3]
        return vertices.reshape(*batch, V, 3)


def rodrigues(w: Float[np.ndarray, "*batch 3"]) -> Float[np.ndarray, "*batch 3 3"]:
    """Rotation matrices of rotation vectors (radians); several times faster than scipy on arrays of poses."""
    x, y, z = w[..., 0], w[..., 1], w[..., 2]
    squared = x * x + y * y + z * z
    small = squared < 1e-8
    safe = np.where(small, 1.0, squared)
    angle = np.sqrt(safe)
    a = np.where(small, 1 - squared / 6, np.sin(angle) / angle)
    b = np.where(small, 0.5 - squared / 24, (1 - np.cos(angle)) / safe)
    R = np.empty((*w.shape[:-1], 3, 3))
    R[..., 0, 0], R[..., 1, 1], R[..., 2, 2] = 1 - b * (y * y + z * z), 1 - b * (x * x + z * z), 1 - b * (x * x + y * y)
    R[..., 0, 1], R[..., 1, 0] = b * x * y - a * z, b * x * y + a * z
    R[..., 0, 2], R[..., 2, 0] = b * x * z + a * y, b * x * z - a * y
    R[..., 1, 2], R[..., 2, 1] = b * y * z - a * x, b * y * z + a * x
    return R
