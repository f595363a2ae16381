"""The SMPL body model in numpy: load, shape, pose, mesh, as immutable steps over any batch.

Loper et al., "SMPL: A Skinned Multi-Person Linear Model" (SIGGRAPH Asia 2015). Body frame at rest: y up, x to the
subject's left, facing z. It differs from the `smplx` package in that every step is a value (nothing is stored in a
module), joints cost no vertices, and both share one forward pass; vertices and joints equal smplx's. As in SMPL,
`transl` is added last, so the pelvis stands at `transl + rest pelvis`, which depends on the betas: `transl_from_root`
and `PosedBody.root` are the only places that convert.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from core.arrays import Float, Int
from core.errors import InputError
from core.files import read_npz, write_npz
from core.skeletons import SMPL_24
from core.transforms import SE3
from fitting.unpickle import read_pickle_arrays

NUM_JOINTS, NUM_VERTICES, NUM_POSE_FEATURES = 24, 6890, 207
PARENTS = np.array(SMPL_24.parents)
_MESH_CHUNK = 32  # frames skinned at a time: 32 x 6890 blended transforms are 21 MB
_ARRAYS = ("v_template", "shapedirs", "posedirs", "weights", "J_regressor", "faces")


@dataclass(frozen=True, eq=False)
class BodyModel:
    """An SMPL body.

    Attributes:
        v_template: mean rest vertices, metres.
        shapedirs: displacement of every vertex for one unit of every beta, metres.
        posedirs: pose blend shapes, metres for each entry of R - I of joints 1 to 23, row-major.
        weights: skinning weights.
        J_regressor: rest joints from rest vertices.
        faces: triangles, counter-clockwise seen from outside.
        parents: parent of each joint, -1 for the pelvis.
        name: what the model is called in manifests.
    """

    v_template: Float[np.ndarray, "6890 3"]
    shapedirs: Float[np.ndarray, "6890 3 betas"]
    posedirs: Float[np.ndarray, "6890 3 207"]
    weights: Float[np.ndarray, "6890 24"]
    J_regressor: Float[np.ndarray, "24 6890"]
    faces: Int[np.ndarray, "faces 3"]
    parents: Int[np.ndarray, "24"]
    name: str

    @staticmethod
    def load(path: Path, num_betas: int = 10) -> BodyModel:
        """Reads an SMPL model from `.npz`, or from an official `.pkl` without running code in it.

        Args:
            path: the model file.
            num_betas: shape directions to keep; official files have 10 or 300.

        Raises:
            InputError: if the file is missing, damaged or no SMPL body; it names the entry and its shape.
        """
        path = Path(path)
        if path.suffix not in (".npz", ".pkl"):
            raise InputError(str(path), f"a body model is .npz or .pkl, not {path.suffix!r}", "give an SMPL model file")
        data = read_npz(path) if path.suffix == ".npz" else read_pickle_arrays(path)
        return _checked_body(data, path, num_betas)

    @property
    def num_betas(self) -> int:
        """Number of shape directions."""
        return self.shapedirs.shape[-1]

    @cached_property
    def sha256(self) -> str:
        """Hash of the model's numbers, whatever file they came from."""
        digest = hashlib.sha256()
        for name in _ARRAYS:
            array = getattr(self, name)
            kind = "<i8" if name == "faces" else "<f8"
            digest.update(name.encode() + str(array.shape).encode() + np.ascontiguousarray(array, kind).tobytes())
        return digest.hexdigest()

    @cached_property
    def joint_template(self) -> Float[np.ndarray, "24 3"]:
        """Rest joints of the mean shape, metres."""
        return self.J_regressor @ self.v_template

    @cached_property
    def joint_shapedirs(self) -> Float[np.ndarray, "24 3 betas"]:
        """Displacement of the rest joints for one unit of every beta, metres."""
        return np.einsum("jv,vcb->jcb", self.J_regressor, self.shapedirs)

    def arrays(self) -> dict[str, np.ndarray]:
        """The model under the names of SMPL's own files."""
        content = {name: getattr(self, name) for name in _ARRAYS if name != "faces"}
        return content | {"f": self.faces, "kintree_table": np.stack([self.parents, np.arange(NUM_JOINTS)])}

    def save_npz(self, path: Path) -> None:
        """Writes the model so that `load` and `smplx` (through its `data_struct`) read it."""
        write_npz(path, self.arrays())

    def with_shape(self, betas: Float[np.ndarray, "*batch betas"]) -> ShapedBody:
        """The body of a person; fewer betas than the model has leave the others at zero."""
        betas = np.asarray(betas, float)
        num = betas.shape[-1]
        if num > self.num_betas:
            raise InputError(self.name, f"{num} betas given, the model has {self.num_betas}", "give fewer betas")
        joints = self.joint_template + np.einsum("jcb,...b->...jc", self.joint_shapedirs[..., :num], betas)
        return ShapedBody(self, betas, joints)


@dataclass(frozen=True, eq=False)
class ShapedBody:
    """A person at rest.

    Attributes:
        body: the model.
        betas: shape coefficients.
        rest_joints: joints of the rest pose, metres.
    """

    body: BodyModel
    betas: Float[np.ndarray, "*batch num_betas"]
    rest_joints: Float[np.ndarray, "*batch 24 3"]

    @property
    def rest_vertices(self) -> Float[np.ndarray, "*batch 6890 3"]:
        """Vertices of the rest pose without pose blend shapes, metres."""
        dirs = self.body.shapedirs[..., : self.betas.shape[-1]]
        return self.body.v_template + np.einsum("vcb,...b->...vc", dirs, self.betas)

    def transl_from_root(self, root: Float[np.ndarray, "*points 3"]) -> Float[np.ndarray, "*points 3"]:
        """SMPL's `transl` that puts the pelvis joint at `root` (metres)."""
        return root - self.rest_joints[..., 0, :]

    def with_pose(
        self, poses: Float[np.ndarray, "*frames 24 3"], transl: Float[np.ndarray, "*frames 3"] | None = None
    ) -> PosedBody:
        """Poses the person.

        Args:
            poses: axis-angle of the root (in the world) and of the 23 body joints (relative to their parents), radians.
            transl: SMPL's translation, metres; zero if left out.
        """
        return self.with_rotations(rodrigues(np.asarray(poses, float)), transl)

    def with_rotations(
        self, rotations: Float[np.ndarray, "*frames 24 3 3"], transl: Float[np.ndarray, "*frames 3"] | None = None
    ) -> PosedBody:
        """`with_pose` for rotation matrices, parent_from_joint."""
        rest = self.rest_joints
        offsets = rest - rest[..., np.maximum(self.body.parents, 0), :]
        batch = np.broadcast_shapes(rotations.shape[:-3], rest.shape[:-2])
        world, joints = np.empty((*batch, NUM_JOINTS, 3, 3)), np.empty((*batch, NUM_JOINTS, 3))
        world[..., 0, :, :] = rotations[..., 0, :, :]
        joints[..., 0, :] = rest[..., 0, :] if transl is None else rest[..., 0, :] + transl
        for j, parent in enumerate(self.body.parents[1:].tolist(), start=1):
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
    rotations: Float[np.ndarray, "*batch 24 3 3"]
    world_rotations: Float[np.ndarray, "*batch 24 3 3"]
    joints: Float[np.ndarray, "*batch 24 3"]

    @property
    def root(self) -> SE3:
        """`world_from_root`: the frame of the pelvis joint."""
        return self.world_from_joint(0)

    def world_from_joint(self, joint: int) -> SE3:
        """The frame of one joint: its global rotation and position."""
        return SE3(self.world_rotations[..., joint, :, :], self.joints[..., joint, :])

    @property
    def pose_features(self) -> Float[np.ndarray, "*batch 207"]:
        """R - I of joints 1 to 23, what the pose blend shapes multiply."""
        local = self.rotations[..., 1:, :, :] - np.eye(3)
        return local.reshape(*local.shape[:-3], NUM_POSE_FEATURES)

    def mesh(self) -> Float[np.ndarray, "*batch 6890 3"]:
        """Skinned vertices in the world, metres."""
        body, batch = self.shaped.body, self.joints.shape[:-2]
        rest = np.broadcast_to(self.shaped.rest_vertices, (*batch, NUM_VERTICES, 3)).reshape(-1, NUM_VERTICES, 3)
        shifts = self.joints - np.einsum("...jab,...jb->...ja", self.world_rotations, self.shaped.rest_joints)
        world = np.concatenate([self.world_rotations, shifts[..., None]], axis=-1).reshape(-1, NUM_JOINTS, 12)
        features = self.pose_features.reshape(-1, NUM_POSE_FEATURES)
        blend = body.posedirs.reshape(-1, NUM_POSE_FEATURES).T
        vertices = np.empty(rest.shape)
        for start in range(0, len(vertices), _MESH_CHUNK):
            part = slice(start, start + _MESH_CHUNK)
            corrected = rest[part] + (features[part] @ blend).reshape(-1, NUM_VERTICES, 3)
            transforms = (body.weights @ world[part]).reshape(-1, NUM_VERTICES, 3, 4)
            vertices[part] = np.einsum("tvab,tvb->tva", transforms[..., :3], corrected) + transforms[..., 3]
        return vertices.reshape(*batch, NUM_VERTICES, 3)


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


def _checked_body(data: Mapping[str, Any], path: Path, num_betas: int) -> BodyModel:
    """Builds a body from the entries of an SMPL file, or says which entry is wrong."""
    v_template = _entry(data, path, "v_template", (NUM_VERTICES, 3))
    shapedirs = _entry(data, path, "shapedirs", (NUM_VERTICES, 3, None))
    if shapedirs.shape[-1] < num_betas:
        raise _not_smpl(path, f"'shapedirs' has {shapedirs.shape[-1]} directions, {num_betas} are needed")
    posedirs = _entry(data, path, "posedirs", (NUM_VERTICES, 3, NUM_POSE_FEATURES))
    weights = _entry(data, path, "weights", (NUM_VERTICES, NUM_JOINTS))
    regressor = _entry(data, path, "J_regressor", (NUM_JOINTS, NUM_VERTICES))
    faces = _entry(data, path, "f", (None, 3)).astype(np.int64)
    if faces.min() < 0 or faces.max() >= NUM_VERTICES:
        raise _not_smpl(path, f"'f' names vertex {faces.max()} of {NUM_VERTICES}")
    tree = _entry(data, path, "kintree_table", (2, NUM_JOINTS))
    # the pelvis has no parent; files write -1 or 2^32 - 1 there
    if not np.array_equal(tree[0, 1:].astype(np.int64), PARENTS[1:]):
        raise _not_smpl(path, f"'kintree_table' has parents {tree[0, 1:].tolist()}, not SMPL's tree")
    return BodyModel(
        v_template, shapedirs[..., :num_betas].copy(), posedirs, weights, regressor, faces, PARENTS.copy(), path.stem
    )


def _entry(data: Mapping[str, Any], path: Path, key: str, shape: tuple[int | None, ...]) -> np.ndarray:
    """One entry as float64, its shape checked; None stands for any length."""
    if key not in data:
        raise _not_smpl(path, f"it has no entry {key!r}, only {', '.join(sorted(data))}")
    value = data[key]
    wanted = " x ".join("n" if n is None else str(n) for n in shape)
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiu":
        raise _not_smpl(path, f"{key!r} is no array of numbers (wanted {wanted})")
    if len(value.shape) != len(shape) or any(n not in (None, m) for n, m in zip(shape, value.shape, strict=True)):
        raise _not_smpl(path, f"{key!r} has shape {' x '.join(map(str, value.shape))}, wanted {wanted}")
    if not np.isfinite(value).all():
        raise _not_smpl(path, f"{key!r} holds values that are not finite")
    return value.astype(np.float64)


def _not_smpl(path: Path, problem: str) -> InputError:
    return InputError(str(path), f"not an SMPL body model: {problem}", "give an SMPL .npz or .pkl, or use `stand-in`")
