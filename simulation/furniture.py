"""The furniture that a simulated person walks round, sits on and reaches over."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from core.arrays import Bool, Float


@dataclass(frozen=True)
class Furniture:
    """A table and a chair; positions in the world, metres, the room's middle at the origin.

    The person stands up in front of the chair, so the seat's middle needs about 0.7 m to the edge of the table.

    Attributes:
        table_centre: x, y of the table top.
        table_size: its extent along x and y.
        table_height: height of its upper side.
        chair_seat_height: height of the seat.
        chair_xy: middle of the seat.
        chair_heading: where somebody on the chair looks, radians from world x to y.
    """

    table_centre: tuple[float, float] = (1.15, 0.0)
    table_size: tuple[float, float] = (0.8, 1.4)
    table_height: float = 0.72
    chair_seat_height: float = 0.45
    chair_xy: tuple[float, float] = (0.03, 0.0)
    chair_heading: float = 0.0

    @property
    def chair_forward(self) -> Float[np.ndarray, "2"]:
        """Unit vector of the direction in which the chair looks."""
        return np.array([np.cos(self.chair_heading), np.sin(self.chair_heading)])

    def is_free(
        self, points: Float[np.ndarray, "*n 2"], room_size: tuple[float, float], wall_m: float = 0.45
    ) -> Bool[np.ndarray, "*n"]:
        """Whether somebody can stand at points: clear of walls (by `wall_m`), table and chair."""
        free = (np.abs(points) < np.array(room_size) / 2 - wall_m).all(axis=-1)
        to_table = np.abs(points - self.table_centre) - np.array(self.table_size) / 2
        free &= np.linalg.norm(np.maximum(to_table, 0), axis=-1) > _TABLE_M
        free &= np.linalg.norm(points - self.chair_xy, axis=-1) > _CHAIR_M
        return np.asarray(free)


_TABLE_M = 0.30  # half a body and some air
_CHAIR_M = 0.48  # half a seat's diagonal and half a body
