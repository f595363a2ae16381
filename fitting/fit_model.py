"""A body and the points of it that a fit looks at, made ready once and small enough to be sent to other processes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from core.arrays import Float, Int
from core.skeletons import SMPL_24
from fitting.chains import Chain, chains_of
from fitting.landmarks import Landmarks
from fitting.mount_geometry import ANKLES, FootShape, foot_shape
from fitting.sequence import CONTACTS
from fitting.smpl import NUM_JOINTS, NUM_VERTICES, BodyModel

SOLES = (*CONTACTS, "left_small_toe", "right_small_toe")


@dataclass(frozen=True, eq=False)
class FitModel:
    """What the objective needs of a body.

    Attributes:
        body: a body whose mesh is its joints: shape, pose and joints are those of the whole one.
        keypoints: where the detector's joints lie on it.
        landmarks: keypoints first, then points of the soles that are none.
        sole_idx: landmarks that are kept above the floor.
        joints: the joints themselves.
        chains: of the landmarks.
        feet: by their ankle's joint, where the whole body has some.
    """

    body: BodyModel
    keypoints: Landmarks
    landmarks: Landmarks
    sole_idx: Int[np.ndarray, "s"]
    joints: Landmarks
    chains: tuple[Chain, ...]
    feet: Mapping[int, FootShape]

    @staticmethod
    def of(body: BodyModel, keypoints: Landmarks) -> FitModel:
        """From a whole body."""
        return _made(body, keypoints)

    def with_offsets(self, offsets_m: Float[np.ndarray, "keypoints 3"]) -> FitModel:
        """The same for a detector whose joints lie so far from these (`Landmarks.shifted`)."""
        every = np.zeros((len(self.landmarks), 3))
        every[: self.num_keypoints] = offsets_m
        keypoints, landmarks = self.keypoints.shifted(offsets_m), self.landmarks.shifted(every)
        return dataclasses.replace(self, keypoints=keypoints, landmarks=landmarks)

    @property
    def num_keypoints(self) -> int:
        """How many landmarks are keypoints."""
        return len(self.keypoints)


@lru_cache(maxsize=16)
def _made(body: BodyModel, keypoints: Landmarks) -> FitModel:
    missing = [name for name in SOLES if name not in keypoints.names]
    landmarks = keypoints
    if missing:
        by_vertex = np.zeros((len(missing), NUM_VERTICES))
        by_vertex[np.arange(len(missing)), [body.kind.vertex_ids[name] for name in missing]] = 1.0
        extra = Landmarks.from_regressors(body, tuple(missing), np.zeros((len(missing), NUM_JOINTS)), by_vertex)
        landmarks = _joined(keypoints, extra)
    return FitModel(
        body=_joints_alone(body),
        keypoints=keypoints,
        landmarks=landmarks,
        sole_idx=np.array([landmarks.names.index(name) for name in SOLES]),
        joints=Landmarks.of(body, SMPL_24),
        chains=chains_of(landmarks, body.kind),
        feet={idx: shape for idx in ANKLES.values() if (shape := foot_shape(body, idx)) is not None},
    )


def _joints_alone(body: BodyModel) -> BodyModel:
    """A body with a vertex at every joint and nothing between them."""
    count = body.kind.num_joints
    return dataclasses.replace(
        body,
        v_template=body.joint_template,
        shapedirs=body.joint_shapedirs,
        posedirs=np.zeros((count, 3, body.kind.num_pose_features)),
        weights=np.eye(count),
        J_regressor=np.eye(count),
        faces=np.zeros((0, 3), np.int64),
    )


def _joined(first: Landmarks, second: Landmarks) -> Landmarks:
    arrays = {
        name: np.concatenate([getattr(first, name), getattr(second, name)])
        for name in ("bone_idx", "weight", "rest", "shapedirs", "posedirs")
    }
    landmark_idx = np.concatenate([first.landmark_idx, second.landmark_idx + len(first)])
    return Landmarks(first.names + second.names, landmark_idx, **arrays)
