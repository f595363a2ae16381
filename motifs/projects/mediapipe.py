"""MediaPipe's joints, which caliscope and FreeMoCap use, as HALPE's."""

from __future__ import annotations

import numpy as np

from capture.keypoints import Keypoints2d, clean
from core.arrays import Float
from core.skeletons import HALPE_26

# of MediaPipe's 33 joints of the body, by name of HALPE's
_MEDIAPIPE = {
    "nose": 0, "left_eye": 2, "right_eye": 5, "left_ear": 7, "right_ear": 8, "left_shoulder": 11, "right_shoulder": 12,
    "left_elbow": 13, "right_elbow": 14, "left_wrist": 15, "right_wrist": 16, "left_hip": 23, "right_hip": 24,
    "left_knee": 25, "right_knee": 26, "left_ankle": 27, "right_ankle": 28, "left_heel": 29, "right_heel": 30,
    "left_big_toe": 31, "right_big_toe": 32,
}  # fmt: skip
NUM_MEDIAPIPE = 33


def from_mediapipe(data: Float[np.ndarray, "frames people 33 3"]) -> Keypoints2d:
    """HALPE's joints from MediaPipe's; midpoints count as sure as the less sure of the two."""
    found = np.full((*data.shape[:2], len(HALPE_26.joints), 3), np.nan)
    for name, index in _MEDIAPIPE.items():
        found[:, :, HALPE_26.idx(name)] = data[:, :, index]
    for name, pair in (("mid_shoulder", ("left_shoulder", "right_shoulder")), ("mid_hip", ("left_hip", "right_hip"))):
        a, b = (found[:, :, HALPE_26.idx(joint)] for joint in pair)
        middle = np.concatenate([(a + b)[..., :2] / 2, np.minimum(a, b)[..., 2:]], axis=-1)
        found[:, :, HALPE_26.idx(name)] = middle
    return clean(found[..., :2], found[..., 2], HALPE_26)
