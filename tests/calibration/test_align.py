from __future__ import annotations

import numpy as np
import pytest

from calibration.align import align_poses
from core.transforms import SE3


def test_alignment_of_cameras_in_a_line_uses_their_orientations() -> None:
    turns = np.array([[0.3, -0.2, 1.0], [-0.5, 0.4, 0.1]])
    source = SE3.from_rotvec(turns, np.array([[0.0, 0.5, 2.0], [1.0, 0.2, 1.5]]))
    move = SE3.from_rotvec(np.array([0.3, -0.2, 1.0]), np.array([1.0, 2.0, 3.0]))
    found, scale = align_poses(source, move @ source, with_scale=True)
    np.testing.assert_allclose(found.matrix, move.matrix, atol=1e-9)
    assert scale == pytest.approx(1.0)
