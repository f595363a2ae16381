"""The stand-in body: an SMPL-format human made from formulas, for everyone who has no licensed SMPL file at hand.

It has SMPL's counts, joint tree, rest pose and vertex numbers for the face, hands and feet, shape directions of SMPL's
size, and a J_regressor under which joints follow the shape. It is nobody's scan: use it for demos, tests and
benchmarks, and a real SMPL model for measurements of people.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np
from scipy.optimize import nnls
from scipy.sparse import csr_array

from core.arrays import Float, Int
from core.files import write_bytes
from core.skeletons import SMPL_24
from fitting.smpl import NUM_JOINTS, NUM_POSE_FEATURES, NUM_VERTICES, PARENTS, BodyModel
from fitting.stand_in_surface import mirrored_mesh

NAME = "stand-in"

# Rest joints of the middle and the left, metres; close to those of SMPL's neutral mean body.
_JOINTS: Mapping[str, tuple[float, float, float]] = {
    "pelvis": (0.000, -0.223, 0.025), "left_hip": (0.066, -0.315, 0.018), "spine1": (0.000, -0.114, 0.002),
    "left_knee": (0.101, -0.690, 0.014), "spine2": (0.000, 0.021, 0.004), "left_ankle": (0.088, -1.088, -0.027),
    "spine3": (0.000, 0.074, 0.026), "left_foot": (0.115, -1.142, 0.088), "neck": (0.000, 0.288, -0.015),
    "left_collar": (0.080, 0.195, -0.006), "head": (0.000, 0.360, 0.030), "left_shoulder": (0.172, 0.226, -0.018),
    "left_elbow": (0.432, 0.213, -0.042), "left_wrist": (0.681, 0.222, -0.043), "left_hand": (0.765, 0.214, -0.052),
}  # fmt: skip

# Where smplx expects which vertex: number on the left, number on the right (None on the middle line), and a point just
# outside the skin there.
_NAMED_VERTICES: tuple[tuple[int, int | None, tuple[float, float, float]], ...] = (
    (332, None, (0.000, 0.404, 0.140)), (411, None, (0.000, 0.560, 0.010)), (2800, 6260, (0.032, 0.440, 0.112)),
    (583, 4071, (0.095, 0.424, 0.012)), (2746, 6191, (0.762, 0.205, 0.050)), (2319, 5782, (0.890, 0.211, -0.030)),
    (2445, 5905, (0.900, 0.211, -0.050)), (2556, 6016, (0.895, 0.211, -0.068)), (2673, 6133, (0.880, 0.211, -0.088)),
    (3216, 6617, (0.099, -1.150, 0.190)), (3226, 6624, (0.160, -1.152, 0.118)), (3387, 6787, (0.087, -1.140, -0.100)),
)  # fmt: skip

_SKIN_STEPS, _SHAPE_STEPS = 14, 60  # diffusion of the skinning and of the shape directions over the mesh

_LEAST_WEIGHT = 0.004  # smaller skinning weights are dropped

# Ten shape directions. Each stretches bones along themselves ("long") and across ("wide"), as a fraction for beta = 1.
# The order follows SMPL's: stature first, then mass, then proportions.
_LEGS, _ARMS = ("hip", "knee"), ("shoulder", "elbow", "wrist", "hand")
_TRUNK, _NECK, _FEET = ("pelvis", "spine1", "spine2", "spine3"), ("neck", "head"), ("ankle", "foot")
_DIRECTIONS: tuple[Mapping[tuple[str, ...], tuple[float, float]], ...] = (
    {_LEGS: (0.034, 0.016), _TRUNK: (0.028, 0.020), _ARMS: (0.034, 0.014), _NECK: (0.014, 0.012),
     _FEET: (0.028, 0.020), ("collar",): (0.026, 0.020)},
    {_LEGS: (0.0, 0.055), _TRUNK: (0.004, 0.065), _ARMS[:3]: (0.0, 0.045), _NECK: (0.0, 0.012),
     ("collar",): (0.010, 0.050)},
    {_LEGS: (0.024, 0.0), _TRUNK: (-0.030, 0.0), ("collar",): (0.0, -0.004)},
    {_ARMS: (0.024, -0.004), ("collar",): (0.004, 0.0)},
    {("collar",): (0.055, 0.010), ("spine3",): (0.0, 0.026), ("shoulder",): (0.0, 0.030)},
    {("pelvis",): (0.0, 0.040), ("hip",): (0.0, 0.030), ("spine1",): (0.0, 0.015)},
    {_FEET: (0.020, 0.026), ("wrist", "hand"): (0.030, 0.022)},
    {("head",): (0.022, 0.024), ("neck",): (0.030, -0.008)},
    {("spine1", "spine2"): (0.0, 0.045), ("pelvis",): (0.0, 0.016), ("spine3",): (0.0, -0.010)},
    {("hip",): (-0.012, 0.034), ("knee",): (0.012, -0.020), ("elbow",): (0.010, -0.016)},
)  # fmt: skip


@lru_cache(maxsize=1)
def stand_in_body() -> BodyModel:
    """The stand-in; the same numbers at every call, made in about a second."""
    vertices, faces, mirror = mirrored_mesh(NUM_VERTICES)
    order = _vertex_order(vertices, mirror)
    vertices, mirror = np.round(vertices[order], 6), np.argsort(order)[mirror[order]]
    faces = np.argsort(order)[faces]
    joints = _both_sides()
    spread = _diffusion(faces)
    labels = _bone_of_vertex(vertices, joints)
    weights = _skinning(labels, spread, mirror, _SKIN_STEPS, most=4)
    return BodyModel(
        v_template=vertices,
        shapedirs=_shape_directions(vertices, joints, _skinning(labels, spread, mirror, _SHAPE_STEPS, most=NUM_JOINTS)),
        posedirs=_pose_blend_shapes(vertices, faces, joints, weights),
        weights=weights,
        J_regressor=_joint_regressor(vertices, mirror, joints),
        faces=faces,
        name=NAME,
    )


def save_pkl(body: BodyModel, path: Path) -> None:
    """Writes a body model as a pickle of plain numpy arrays, which `smplx.SMPL(path)` reads."""
    write_bytes(path, pickle.dumps(body.arrays(), protocol=2))


def _both_sides() -> Float[np.ndarray, "24 3"]:
    """Rest joints in SMPL's order."""
    joints = np.array([_JOINTS[name.replace("right_", "left_")] for name in SMPL_24.joints])
    right = [name.startswith("right_") for name in SMPL_24.joints]
    joints[right, 0] *= -1
    return joints


def _vertex_order(vertices: np.ndarray, mirror: np.ndarray) -> Int[np.ndarray, "v"]:
    """The permutation that puts the named vertices at SMPL's numbers: `new = old[order]`."""
    order = np.arange(len(vertices))
    taken: set[int] = set()
    for left_id, right_id, place in _NAMED_VERTICES:
        distance = np.linalg.norm(vertices - place, axis=1)
        distance[list(taken)] = np.inf
        if right_id is None:
            distance[mirror != np.arange(len(vertices))] = np.inf
        chosen = int(np.argmin(distance))
        taken |= {chosen, int(mirror[chosen])}
        for wanted, vertex in ((left_id, chosen), (right_id, int(mirror[chosen]))):
            if wanted is not None:
                at = int(np.flatnonzero(order == vertex)[0])
                order[[wanted, at]] = order[[at, wanted]]
    return order


def _diffusion(faces: np.ndarray) -> csr_array:
    """One lazy step of averaging over mesh neighbours."""
    edges = np.unique(np.sort(faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1), axis=0)
    rows, columns = np.concatenate([edges, edges[:, ::-1]]).T
    degree = np.bincount(rows, minlength=NUM_VERTICES)
    own = np.arange(NUM_VERTICES)
    values = np.concatenate([0.5 / degree[rows], np.full(NUM_VERTICES, 0.5)])
    return csr_array((values, (np.concatenate([rows, own]), np.concatenate([columns, own]))))


def _bone_of_vertex(vertices: np.ndarray, joints: np.ndarray) -> Int[np.ndarray, "v"]:
    """The bone that mainly carries each vertex, by cuts through the joints."""
    at = {name: joints[SMPL_24.idx(name)] for name in _JOINTS}
    x, y, z = np.abs(vertices[:, 0]), vertices[:, 1], vertices[:, 2]
    left = np.select(
        [
            x > at["left_hand"][0], x > at["left_wrist"][0], x > at["left_elbow"][0],
            (x > at["left_shoulder"][0] + 0.35 * (at["left_shoulder"][1] - y)) & (y > 0.10),
            # the heel turns with the ankle; the cut through the ankle rises towards the heel
            (y < -1.05) & (z > at["left_foot"][2] - 0.010),
            y < at["left_ankle"][1] - 0.25 * (z - at["left_ankle"][2]),
            y < at["left_knee"][1],
            # groin: from the crotch up to the outside of the hip
            y < at["left_hip"][1] - 0.075 + 0.75 * x,
            y + 0.55 * z > at["head"][1] + 0.002, y > at["neck"][1] - 0.010 - 0.25 * x + 0.3 * z,
            (x > 0.050) & (y > 0.145),
            y > at["spine3"][1] - 0.005, y > at["spine2"][1] - 0.020, y > at["spine1"][1] - 0.015,
        ],
        [SMPL_24.idx(name) for name in (
            "left_hand", "left_wrist", "left_elbow", "left_shoulder", "left_foot", "left_ankle", "left_knee",
            "left_hip", "head", "neck", "left_collar", "spine3", "spine2", "spine1",
        )],
        SMPL_24.idx("pelvis"),
    )  # fmt: skip
    return np.where(vertices[:, 0] < 0, SMPL_24.swap_idx[left], left)


def _skinning(
    labels: np.ndarray, spread: csr_array, mirror: np.ndarray, steps: int, most: int
) -> Float[np.ndarray, "v 24"]:
    """Bone weights: the labels, blurred along the skin; at most `most` bones a vertex, as in SMPL."""
    weights = np.eye(NUM_JOINTS)[labels]
    weights = (weights + weights[mirror][:, SMPL_24.swap_idx]) / 2  # the middle line belongs to both sides
    for _ in range(steps):
        weights = spread @ weights
    if most < NUM_JOINTS:
        # equal weights of a left and a right bone go together, so that the body stays symmetric
        weights[weights <= np.sort(weights, axis=1)[:, [-most - 1]] + 1e-12] = 0.0
        weights[weights < _LEAST_WEIGHT] = 0.0
    return weights / weights.sum(axis=1, keepdims=True)


def _joint_regressor(vertices: np.ndarray, mirror: np.ndarray, joints: np.ndarray) -> Float[np.ndarray, "24 v"]:
    """Non-negative weights of the nearest vertices whose mean is the joint, as even as that allows."""
    regressor = np.zeros((NUM_JOINTS, len(vertices)))
    for j in range(NUM_JOINTS):
        if SMPL_24.joints[j].startswith("right_"):
            continue
        near = np.argsort(np.linalg.norm(vertices - joints[j], axis=1), kind="stable")[:140]
        # least squares on evenness (1) under stiff conditions (1e3) that the weights reproduce the joint and sum to 1
        stiff = 1e3 * np.vstack([(vertices[near] - joints[j]).T, np.ones(len(near))])
        wanted = np.concatenate([np.full(len(near), 1 / len(near)), [0.0, 0.0, 0.0, 1e3]])
        weights = nnls(np.vstack([np.eye(len(near)), stiff]), wanted)[0]
        regressor[j, near] = weights / weights.sum()
        twin = SMPL_24.swap_idx[j]
        if twin == j:
            regressor[j] = (regressor[j] + regressor[j][mirror]) / 2
        else:
            regressor[twin] = regressor[j][mirror]
    return regressor


def _shape_directions(
    vertices: np.ndarray, joints: np.ndarray, weights: np.ndarray
) -> Float[np.ndarray, "v 3 directions"]:
    """Displacements from bones that stretch linearly about their joints, blended by smooth weights.

    Bone k moves a point p by d_k + S_k (p - J_k), where the symmetric S_k stretches along and across the bone, and a
    child's d follows its parent's field at the child's joint.
    """
    directions = np.zeros((len(vertices), 3, len(_DIRECTIONS)))
    for index, rates in enumerate(_DIRECTIONS):
        shift = np.zeros((NUM_JOINTS, 3))
        stretch = np.stack([_stretch(j, joints, rates) for j in range(NUM_JOINTS)])
        for j in range(1, NUM_JOINTS):
            shift[j] = shift[PARENTS[j]] + stretch[PARENTS[j]] @ (joints[j] - joints[PARENTS[j]])
        fields = shift + np.einsum("jab,vjb->vja", stretch, vertices[:, None] - joints)
        directions[..., index] = np.einsum("vj,vja->va", weights, fields)
    return np.round(directions, 7)


def _stretch(joint: int, joints: np.ndarray, rates: Mapping[tuple[str, ...], tuple[float, float]]) -> np.ndarray:
    name = SMPL_24.joints[joint].removeprefix("left_").removeprefix("right_")
    long, wide = next((rate for names, rate in rates.items() if name in names), (0.0, 0.0))
    if name in _FEET:
        return np.diag([wide, wide, long])  # upright and along the ground, so that the sole stays flat
    if name in (*_TRUNK, *_NECK):
        axis = np.array([0.0, 1.0, 0.0])
    else:
        child = int(np.flatnonzero(joint == PARENTS)[0]) if joint in PARENTS else joint
        start = joints[joint] if child != joint else joints[PARENTS[joint]]
        axis = (joints[child] - start) / np.linalg.norm(joints[child] - start)
    return wide * np.eye(3) + (long - wide) * np.outer(axis, axis)


def _pose_blend_shapes(
    vertices: np.ndarray, faces: np.ndarray, joints: np.ndarray, weights: np.ndarray
) -> Float[np.ndarray, "v 3 207"]:
    """Skin that swells around a bent joint, where linear blending would make it collapse.

    The trace of R - I is 2 (cos angle - 1): weighted by -2.5 mm it lifts the skin by 5 mm at a right angle. The
    antisymmetric part, sin(angle) of the axis, shifts it towards the inside of the bend by up to 2 mm.
    """
    normals = _vertex_normals(vertices, faces)
    below = np.eye(NUM_JOINTS)
    for j in range(NUM_JOINTS - 1, 0, -1):
        below[PARENTS[j]] += below[j]
    blend = np.zeros((len(vertices), 3, NUM_JOINTS - 1, 3, 3))
    for j in range(1, NUM_JOINTS):
        moved = weights @ below[j]
        bump = 4 * moved * (1 - moved)  # 1 where the joint's two sides share the skin evenly, 0 away from it
        lift = -0.0025 * bump[:, None] * normals
        for m in range(3):
            blend[:, :, j - 1, m, m] = lift
        shift = 0.002 * bump[:, None] * np.cross(np.eye(3)[:, None], vertices - joints[j]) / 0.05
        shift = np.clip(shift, -0.002, 0.002)
        for axis, (m, n) in enumerate(((2, 1), (0, 2), (1, 0))):
            blend[:, :, j - 1, m, n], blend[:, :, j - 1, n, m] = shift[axis] / 2, -shift[axis] / 2
    return np.round(blend.reshape(len(vertices), 3, NUM_POSE_FEATURES), 7)


def _vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    corners = vertices[faces]
    area = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros(vertices.shape)
    for k in range(3):
        np.add.at(normals, faces[:, k], area)
    return normals / np.linalg.norm(normals, axis=1, keepdims=True)
