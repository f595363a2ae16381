"""Derivatives chain by chain against those by all joints."""

from __future__ import annotations

import numpy as np

from core.skeletons import HALPE_26
from fitting.chains import chains_of
from fitting.landmarks import Landmarks
from fitting.stand_in import stand_in_body


def test_chains_hold_every_landmark_once_and_its_derivatives(rng: np.random.Generator) -> None:
    body = stand_in_body()
    landmarks = Landmarks.of(body, HALPE_26)
    posed = body.with_shape(rng.normal(size=10)).with_pose(0.4 * rng.normal(size=(5, 24, 3)), rng.normal(size=(5, 3)))
    chains = chains_of(landmarks, body.kind)
    assert sorted(np.concatenate([chain.landmark_idx for chain in chains])) == list(range(len(landmarks)))
    assert sum(chain.joint_idx.size * chain.landmark_idx.size for chain in chains) < len(landmarks) * 24 / 2
    every = landmarks.linearise(posed).by_pose.reshape(5, len(landmarks), 3, 24, 3)
    carried = landmarks.carried(posed)
    for chain in chains:
        by_pose = chain.by_pose(landmarks, posed, carried)
        rows, joints = chain.landmark_idx, chain.joint_idx
        np.testing.assert_allclose(by_pose, every[:, rows][..., joints, :], atol=1e-12)
        others = np.setdiff1d(np.arange(24), joints)
        # what is left out reaches a landmark through blend shapes alone
        assert np.abs(every[:, rows][..., others, :]).max(initial=0.0) < 2e-4
