"""Puts rectangles, boxes and printed targets together into what the renderer draws."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from capture.prints import target_image
from capture.targets import Target
from core.arrays import Float
from core.transforms import SE3
from simulation.render import Quads
from simulation.textures import Picture

PRINT_PX_PER_M = 400.0  # finer than any camera here sees the boards, but for photographs from very near
PRINT_MARGIN_M = 0.03
Vector = Sequence[float | int] | Float[np.ndarray, "3"]  # ints, as type checkers at run time do not widen them

BOX_NORMALS = np.array([[0, 0, 1], [0, 0, -1], [1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]], float)
BOX_DOWN = np.array([[0, -1, 0], [0, 1, 0], [0, 0, -1], [0, 0, -1], [0, 0, -1], [0, 0, -1]], float)


class Scenery:
    """Collects pictures and rectangles; rectangles refer to pictures by their position in `pictures`."""

    def __init__(self) -> None:
        self.pictures: list[Picture] = []

    def add(self, picture: Picture) -> int:
        """Keeps a picture and returns its position."""
        self.pictures.append(picture)
        return len(self.pictures) - 1

    def rectangle(
        self,
        corner_m: Vector,
        right_m: Vector,
        down_m: Vector,
        picture_idx: int,
        *,
        glows: bool = False,
    ) -> Quads:
        """One rectangle with a picture, from its top-left corner and its upper and left edges."""
        right = np.asarray(right_m, float)
        return Quads(
            corner_m=np.asarray(corner_m, float)[None],
            right_m=right[None],
            down_m=np.asarray(down_m, float)[None],
            picture_idx=np.array([picture_idx]),
            texels_per_m=np.array([self.pictures[picture_idx].shape[1] / np.linalg.norm(right)]),
            glows=np.array([glows]),
        )

    def box(self, centre_m: Vector, size_m: Vector, picture_idx: int) -> Quads:
        """The six faces of a box along the axes."""
        half = np.asarray(size_m, float) / 2
        faces = []
        for normal, down in zip(BOX_NORMALS, BOX_DOWN, strict=True):
            right = np.cross(down, -normal)
            corner = np.asarray(centre_m) + half * (normal - right - down)
            faces.append(self.rectangle(corner, 2 * half * right, 2 * half * down, picture_idx))
        return Quads.concatenate(faces)

    def printed(self, target: Target, world_from_target: SE3, *, px_per_m: float = PRINT_PX_PER_M) -> Quads:
        """A planar target's print with its white margin; z of the target's frame goes into the paper."""
        picture_idx = self.add(np.repeat(target_image(target, px_per_m, margin_m=PRINT_MARGIN_M)[..., None], 3, axis=2))
        # paper is not perfectly white nor ink perfectly black
        self.pictures[picture_idx] = (25 + self.pictures[picture_idx] * (205 / 255)).astype(np.uint8)
        height, width = self.pictures[picture_idx].shape[:2]
        texel = (target.size_m[0] + 2 * PRINT_MARGIN_M) / width
        R = world_from_target.R
        corner = world_from_target.apply(np.array([-PRINT_MARGIN_M, -PRINT_MARGIN_M, 0.0]))
        return self.rectangle(corner, R[:, 0] * width * texel, R[:, 1] * height * texel, picture_idx)


def looking(from_m: Float[np.ndarray, "3"], at_m: Float[np.ndarray, "3"], *, roll_rad: float = 0.0) -> SE3:
    """`world_from_cam` of a camera at one point that looks at another, upright but for `roll_rad`."""
    z = at_m - from_m
    z = z / np.linalg.norm(z)
    up = np.array([0.0, 0, 1]) if abs(z[2]) < 0.98 else np.array([0.0, 1, 0])
    x = np.cross(z, up)
    x /= np.linalg.norm(x)
    upright = np.stack([x, np.cross(z, x), z], axis=1)
    c, s = np.cos(roll_rad), np.sin(roll_rad)
    return SE3(upright @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]), from_m)
