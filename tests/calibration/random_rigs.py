"""Cameras for the tests of calibration files: some that stand in a room, and random ones.

Strategies draw plain numbers, and `rig_of` makes cameras of them in the test: the shape checks of the annotations throw
dice of their own, which hypothesis does not allow while it draws.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from core.cameras import NUM_DISTORTIONS, Camera, Lens, LensModel, Rig
from core.transforms import SE3

PINHOLE = Lens("pinhole", (640, 480), (500.0, 501.0), (320.5, 239.0))
RADTAN = Lens("radtan", (800, 600), (436.0, 437.0), (401.5, 297.0), (-0.12, 0.03, 0.0004, -0.0003, 0.0))
RATIONAL = Lens("rational", (640, 480), (500.0, 501.0), (320.5, 239.0), (0.1, 0.2, 0.001, 0.002, 0.3, 0.1, 0.05, 0.01))
FISHEYE = Lens("fisheye", (512, 512), (195.0, 195.0), (256.5, 254.0), (-0.02, 0.004, -0.001, 0.0))


def mixed_rig(*lenses: Lens) -> Rig:
    """Cameras cam_0, cam_1, ... that look past the world's origin, about three metres away."""
    turns = np.random.default_rng(5).normal(0, 0.7, (len(lenses), 3))
    places = np.array([0, 0, 3]) + np.random.default_rng(6).normal(0, 0.3, (len(lenses), 3))
    return Rig(tuple(Camera(f"cam_{k}", lens, SE3.from_rotvec(turns[k], places[k])) for k, lens in enumerate(lenses)))


def _floats(low: float, high: float, count: int) -> st.SearchStrategy[tuple[float, ...]]:
    return st.tuples(*[st.floats(low, high, allow_nan=False, allow_infinity=False)] * count)


def _camera(model: LensModel) -> st.SearchStrategy[tuple[Any, ...]]:
    # coefficients other than zero: where a format has no name for a model, it is told from those that are
    size = st.tuples(st.integers(1, 8000), st.integers(1, 8000))
    coefficients = _floats(1e-6, 0.5, NUM_DISTORTIONS[model])
    return st.tuples(
        st.just(model), size, _floats(1.0, 1e5, 2), _floats(-1e4, 1e4, 2), coefficients,
        _floats(-3.0, 3.0, 3), _floats(-50.0, 50.0, 3),
    )  # fmt: skip


def cameras(models: tuple[LensModel, ...]) -> st.SearchStrategy[list[tuple[Any, ...]]]:
    """Numbers of one to four cameras anywhere, turned anyhow; for `rig_of`."""
    return st.lists(st.sampled_from(models).flatmap(_camera), min_size=1, max_size=4)


def rig_of(drawn: list[tuple[Any, ...]]) -> Rig:
    """Cameras cam_0, cam_1, ..."""
    return Rig(
        tuple(
            Camera(f"cam_{k}", Lens(*lens), SE3.from_rotvec(np.array(turn), np.array(t_m)))
            for k, (*lens, turn, t_m) in enumerate(drawn)
        )
    )
