"""The stand-in body once more in SMPL-H's and SMPL-X's format: the same person, with fingers in place of the hands."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from core.skeletons import SMPL_24
from fitting.body_kinds import NUM_BODY_JOINTS, SMPL, SMPL_X, BodyKind
from fitting.smpl import BodyModel
from fitting.stand_in import stand_in_body

NUM_SOLVED_FEATURES = 9 * (NUM_BODY_JOINTS - 1)


def stand_in_with_hands(kind: BodyKind) -> BodyModel:
    """A stand-in of another kind whose first 22 joints, named vertices and shape are those of SMPL's."""
    body, rng = stand_in_body(), np.random.default_rng(11)
    source = _sources(kind)  # of each vertex, SMPL's
    first = np.array([np.flatnonzero(source == v)[0] for v in range(SMPL.num_vertices)])
    num_face = kind.num_joints - NUM_BODY_JOINTS - kind.num_hand_joints
    by_joint = np.zeros((kind.num_joints, SMPL.num_vertices))
    by_joint[:NUM_BODY_JOINTS] = body.J_regressor[:NUM_BODY_JOINTS]
    share = np.zeros((SMPL.num_joints, kind.num_joints))  # of SMPL's skinning weights
    share[np.arange(NUM_BODY_JOINTS), np.arange(NUM_BODY_JOINTS)] = 1.0
    for joint in range(NUM_BODY_JOINTS, kind.num_joints):
        of_smpl = kind.smpl_of_joint[joint]
        tip = body.kind.vertex_ids["nose"]
        if joint >= NUM_BODY_JOINTS + num_face:
            side, finger = kind.skeleton.joints[joint][:-1].split("_")
            tip = body.kind.vertex_ids[f"{side}_{finger}_tip"]
            share[of_smpl, joint] = rng.random()
        beyond = 0.0 if joint in kind.joint_of_smpl else rng.uniform(0.1, 0.9)
        by_joint[joint] = (1 - beyond) * body.J_regressor[of_smpl]
        by_joint[joint, tip] += beyond
    share[NUM_BODY_JOINTS:] /= share[NUM_BODY_JOINTS:].sum(axis=1, keepdims=True)
    regressor = np.zeros((kind.num_joints, kind.num_vertices))
    regressor[:, first] = by_joint
    posedirs = np.zeros((kind.num_vertices, 3, kind.num_pose_features))
    posedirs[..., :NUM_SOLVED_FEATURES] = body.posedirs[source][..., :NUM_SOLVED_FEATURES]
    fingers = body.weights[source][:, NUM_BODY_JOINTS:].sum(axis=1) > 0
    posedirs[fingers, :, NUM_SOLVED_FEATURES:] = 1e-3 * rng.normal(
        size=posedirs[fingers, :, NUM_SOLVED_FEATURES:].shape
    )
    shapedirs = body.shapedirs[source]
    num_expressions = 10 if kind is SMPL_X else 0
    expressions = 0.001 * rng.normal(size=(kind.num_vertices, 3, num_expressions))
    return BodyModel(
        v_template=body.v_template[source],
        shapedirs=np.concatenate([shapedirs, expressions], axis=-1),
        posedirs=posedirs,
        weights=body.weights[source] @ share,
        J_regressor=regressor,
        faces=first[body.faces],
        name=f"stand-in {kind.name}",
        kind=kind,
        num_expressions=num_expressions,
        hands_mean=0.4 * rng.normal(size=(kind.num_hand_joints, 3)),
    )


def save(body: BodyModel, folder: Path) -> Path:
    """A model file; not compressed, which takes long."""
    path = folder / f"{body.kind.model_type.upper()}_STAND_IN.npz"
    np.savez(path, **body.arrays())
    return path


def _sources(kind: BodyKind) -> np.ndarray:
    """SMPL's vertex at each vertex of a kind: named ones at their numbers, all others in order, then some again."""
    source = np.full(kind.num_vertices, -1)
    for name, vertex in kind.vertex_ids.items():
        source[vertex] = SMPL.vertex_ids[name]
    others = np.setdiff1d(np.arange(SMPL.num_vertices), source)
    free = np.flatnonzero(source < 0)
    source[free] = np.resize(others, len(free))
    return source


HANDS = [SMPL_24.idx("left_hand"), SMPL_24.idx("right_hand")]
