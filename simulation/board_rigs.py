"""Rigs that see one moving board, as plain arrays with exact truth: the layout of the fixed rig benchmark, other seeds.

Eight cameras stand on a ring of 4 m and look at its middle, 1 m above the floor; a board of 9 x 6 corners of 80 mm is
held in sixty places, upright and leaning. Lenses differ a little from one another, and their principal points are off.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from core.arrays import Float
from core.cameras import Camera, Lens, Rig
from core.transforms import SE3

_SIZE_PX = (1920, 1080)
_FACING = 0.42  # cosine of the angle between board and viewing ray below which detectors find nothing


@dataclass(frozen=True, eq=False)
class BoardRig:
    """What a rig saw of one board, and the truth.

    Attributes:
        rig: the true cameras.
        board_m: (points, 3) of the board.
        world_from_board: (boards,) true places.
        corners_px: (views, boards, points, 2); NaN where not seen.
    """

    rig: Rig
    board_m: Float[np.ndarray, "points 3"]
    world_from_board: SE3
    corners_px: Float[np.ndarray, "views boards points 2"]


def board_rig(rng: np.random.Generator, *, num_boards: int = 60, noise_px: float = 0.3) -> BoardRig:
    """One such rig; every board is seen, whole, by two cameras or more."""
    rig = _ring(rng)
    columns, rows = np.meshgrid(np.arange(9) - 4.0, np.arange(6) - 2.5)
    board = 0.08 * np.stack([columns.ravel(), rows.ravel(), np.zeros(54)], axis=-1)
    places: list[SE3] = []
    pictures: list[np.ndarray] = []
    while len(places) < num_boards:
        place = _held(rng)
        px = rig.project(place.apply(board))
        seen = np.array([camera.lens.contains(p, 1.0).all() for camera, p in zip(rig, px, strict=True)])
        ray = rig.centres - place.t
        seen &= -(ray @ place.R[:, 2]) / np.linalg.norm(ray, axis=-1) > _FACING
        if seen.sum() >= 2:
            places.append(place)
            pictures.append(np.where(seen[:, None, None], px, np.nan))
    corners = np.stack(pictures, axis=1)
    return BoardRig(rig, board, SE3.stack(places), corners + noise_px * rng.standard_normal(corners.shape))


def _ring(rng: np.random.Generator) -> Rig:
    cameras = []
    for k in range(8):
        angle = k * np.pi / 4
        centre = np.array([4 * np.cos(angle), 4 * np.sin(angle), 2.2 + 0.3 * (k % 2)])
        focal = float(1150 * (1 + 0.02 * rng.standard_normal()))
        cx, cy = (np.array(_SIZE_PX) - 1) / 2 + rng.uniform(-12, 12, 2)
        k1 = float(-0.12 + 0.02 * rng.standard_normal())
        lens = Lens("radtan", _SIZE_PX, (focal, focal), (float(cx), float(cy)), (k1, 0.05, 0.0, 0.0, 0.0))
        cameras.append(Camera(f"cam{k}", lens, _look_at(centre, np.array([0.0, 0.0, 1.0])).inverse()))
    return Rig(tuple(cameras))


def _look_at(centre: np.ndarray, aim: np.ndarray) -> SE3:
    z = (aim - centre) / np.linalg.norm(aim - centre)
    x = np.cross(z, np.array([0.0, 0.0, 1.0]))
    x /= np.linalg.norm(x)
    return SE3(np.stack([x, np.cross(z, x), z], axis=-1), centre)


def _held(rng: np.random.Generator) -> SE3:
    """Upright, turned anywhere, leaning back by 17 degrees in the mean and nodding by 20."""
    place = np.append(rng.uniform(-1.6, 1.6, 2), rng.uniform(0.4, 1.7))
    upright = SE3.from_rotvec(np.array([-np.pi / 2, 0.0, 0.0]), np.zeros(3)).R
    turned = SE3.from_rotvec(np.array([0.0, 0.0, rng.uniform(0, 2 * np.pi)]), np.zeros(3)).R
    leaning = SE3.from_rotvec(np.array([-0.3, 0.0, 0.0]) + 0.3 * rng.standard_normal(3), np.zeros(3)).R
    return SE3(turned @ upright @ leaning, place)
