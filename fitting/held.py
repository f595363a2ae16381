"""Joints that a fit holds: keypoints of a body tell nothing of fingers, jaw and eyeballs, which keep the mean pose.

Held joints hang on wrists and head and never turn, so what they carry is carried by those. With bone k below the solved
joint h, turned by R_k and standing at q_k as h stands at its rest joint J_h, a carried point of `fitting.landmarks` is

    G_k (c + Q f - w J_k) + w p_k = G_h (R_k (c + Q f - w J_k) + w q_k - w J_h) + w p_h

which is a carried point of h: linear in the shape, because J and q are, and in the features f of the joints that are
solved. The solver sees joints 0 to 21 alone, and nothing is approximated.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from core.arrays import Float, Int
from fitting.body_kinds import BodyKind
from fitting.landmarks import Landmarks
from fitting.smpl import BodyModel, rodrigues


def held_rotations(body: BodyModel) -> Float[np.ndarray, "joints 3 3"]:
    """Rotations at which joints are held, the identity where they are not; flat fingers if the model states no mean."""
    relaxed = len(body.hands_mean) == body.kind.num_hand_joints
    return rodrigues(body.mean_pose if relaxed else np.zeros((body.kind.num_joints, 3)))


def with_held(body: BodyModel, R: Float[np.ndarray, "*frames solved 3 3"]) -> Float[np.ndarray, "*frames joints 3 3"]:
    """Rotations of all joints of a body from those that are solved, or from all."""
    rest = held_rotations(body)[R.shape[-3] :]
    return np.concatenate([R, np.broadcast_to(rest, (*R.shape[:-3], *rest.shape))], axis=-3)


def solved_joints(body: BodyModel) -> BodyModel:
    """A body with the joints that are solved, a vertex at each of them, and nothing between them."""
    kind = body.kind.solved
    count = kind.num_joints
    return dataclasses.replace(
        body,
        v_template=body.joint_template[:count],
        shapedirs=body.joint_shapedirs[:count],
        posedirs=np.zeros((count, 3, kind.num_pose_features)),
        weights=np.eye(count),
        J_regressor=np.eye(count),
        faces=np.zeros((0, 3), np.int64),
        kind=kind,
        hands_mean=np.zeros((0, 3)),
    )


def on_solved(body: BodyModel, landmarks: Landmarks) -> Landmarks:
    """Landmarks of a body as landmarks of its `solved_joints`; the same where none is held."""
    kind = body.kind
    if kind.solved is kind:
        return landmarks
    bone, weight = landmarks.bone_idx, landmarks.weight
    host, turn, places = _hosts(kind, held_rotations(body), _rest(body))
    features = (held_rotations(body)[1:] - np.eye(3)).reshape(-1)
    # rest points and their derivatives by the shape side by side: all go the same way
    points = np.concatenate([landmarks.rest[..., None], landmarks.shapedirs], axis=-1)
    points[..., 0] += landmarks.posedirs @ features
    shifted = points - weight[:, None, None] * _rest(body)[bone]
    points = turn[bone] @ shifted + weight[:, None, None] * places[bone]
    posedirs = turn[bone] @ landmarks.posedirs[..., : kind.solved.num_pose_features]
    return _summed(landmarks, host[bone], points, posedirs)


def _rest(body: BodyModel) -> Float[np.ndarray, "joints 3 shapes"]:
    """Rest joints of the mean shape, and their derivatives by each direction of the shape."""
    return np.concatenate([body.joint_template[..., None], body.joint_shapedirs], axis=-1)


def _hosts(
    kind: BodyKind, held: np.ndarray, rest: np.ndarray
) -> tuple[Int[np.ndarray, "joints"], Float[np.ndarray, "joints 3 3"], Float[np.ndarray, "joints 3 shapes"]]:
    """The solved joint that carries each joint, its turn against that one, and its place while that one is at rest."""
    host, turn, places = np.arange(kind.num_joints), np.tile(np.eye(3), (kind.num_joints, 1, 1)), rest.copy()
    for joint in range(kind.solved.num_joints, kind.num_joints):
        parent = kind.parents[joint]
        host[joint], turn[joint] = host[parent], turn[parent] @ held[joint]
        places[joint] = places[parent] + turn[parent] @ (rest[joint] - rest[parent])
    return host, turn, places


def _summed(landmarks: Landmarks, bone: np.ndarray, points: np.ndarray, posedirs: np.ndarray) -> Landmarks:
    """Landmarks whose carried points are added up where they have come to the same bone."""
    pairs = np.stack([landmarks.landmark_idx, bone], axis=-1)
    keys, row = np.unique(pairs, axis=0, return_inverse=True)
    parts = []
    for array in (landmarks.weight, points, posedirs):
        total = np.zeros((len(keys), *array.shape[1:]))
        np.add.at(total, row.ravel(), array)
        parts.append(total)
    weight, points, posedirs = parts
    return Landmarks(landmarks.names, keys[:, 0], keys[:, 1], weight, points[..., 0], points[..., 1:], posedirs)
