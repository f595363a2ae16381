"""A body and the points of it that a fit looks at, made ready once and small enough to be sent to other processes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from core.arrays import Float, Int
from fitting.chains import Chain, chains_of
from fitting.held import on_solved, solved_joints
from fitting.landmarks import Landmarks
from fitting.mount_geometry import ANKLES, FootShape, foot_shape
from fitting.pose_density import PoseDensity
from fitting.sequence import CONTACTS
from fitting.smpl import BodyModel

SOLES = (*CONTACTS, "left_small_toe", "right_small_toe")


@dataclass(frozen=True, eq=False)
class FitModel:
    """What the objective needs of a body.

    Attributes:
        body: a body whose mesh is its joints, those that are solved: shape, pose and joints are those of the whole one.
        keypoints: where the detector's joints lie on it.
        landmarks: keypoints first, then points of the soles that are none.
        sole_idx: landmarks that are kept above the floor.
        joints: SMPL's 24 joints, or what stands for them.
        chains: of the landmarks.
        feet: by their ankle's joint, where the whole body has some.
        density: how likely poses are, where more is known than each joint's spread (`fitting.prior`).
    """

    body: BodyModel
    keypoints: Landmarks
    landmarks: Landmarks
    sole_idx: Int[np.ndarray, "s"]
    joints: Landmarks
    chains: tuple[Chain, ...]
    feet: Mapping[int, FootShape]
    density: PoseDensity | None = None

    @staticmethod
    def of(body: BodyModel, keypoints: Landmarks, density: PoseDensity | None = None) -> FitModel:
        """From a whole body."""
        return dataclasses.replace(_made(body, keypoints), density=density)

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
    keypoints = on_solved(body, keypoints)
    landmarks = keypoints
    if missing:
        landmarks = _joined(keypoints, on_solved(body, points_of_soles(body, tuple(missing))))
    return FitModel(
        body=solved_joints(body),
        keypoints=keypoints,
        landmarks=landmarks,
        sole_idx=np.array([landmarks.names.index(name) for name in SOLES]),
        joints=on_solved(body, Landmarks.of_vertices(body, (), body.kind.joint_of_smpl)),
        chains=chains_of(landmarks, body.kind.solved),
        feet={idx: shape for idx in ANKLES.values() if (shape := foot_shape(body, idx)) is not None},
    )


def points_of_soles(body: BodyModel, names: tuple[str, ...] = SOLES) -> Landmarks:
    """Points of both soles, those of the contacts first."""
    on_mesh = Landmarks.of_vertices(body, [body.kind.vertex_ids[name] for name in names])
    return dataclasses.replace(on_mesh, names=names)


def _joined(first: Landmarks, second: Landmarks) -> Landmarks:
    arrays = {
        name: np.concatenate([getattr(first, name), getattr(second, name)])
        for name in ("bone_idx", "weight", "rest", "shapedirs", "posedirs")
    }
    landmark_idx = np.concatenate([first.landmark_idx, second.landmark_idx + len(first)])
    return Landmarks(first.names + second.names, landmark_idx, **arrays)
