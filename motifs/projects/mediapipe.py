"""MediaPipe's joints, which caliscope and FreeMoCap use, as HALPE's."""

from __future__ import annotations

import numpy as np

from capture.keypoints import Keypoints2d, clean
from core.arrays import Float
from core.skeletons import HALPE_26, MEDIAPIPE_33, map_joints

NUM_MEDIAPIPE = len(MEDIAPIPE_33)


def from_mediapipe(data: Float[np.ndarray, "frames people 33 3"]) -> Keypoints2d:
    """HALPE's joints from MediaPipe's; midpoints count as sure as the less sure of the two."""
    found = np.full((*data.shape[:2], len(HALPE_26), 3), np.nan)
    source, target = map_joints(MEDIAPIPE_33, HALPE_26)
    found[:, :, target] = data[:, :, source]
    for name, pair in (("mid_shoulder", ("left_shoulder", "right_shoulder")), ("mid_hip", ("left_hip", "right_hip"))):
        a, b = (found[:, :, HALPE_26.idx(joint)] for joint in pair)
        middle = np.concatenate([(a + b)[..., :2] / 2, np.minimum(a, b)[..., 2:]], axis=-1)
        found[:, :, HALPE_26.idx(name)] = middle
    return clean(found[..., :2], found[..., 2], HALPE_26)
