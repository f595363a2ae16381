"""The scene map itself: points of the still room with their uncertainty and descriptors, and its file."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from calibration.features import unit_descriptors
from core.arrays import Float, Int, UInt8
from core.errors import InputError
from core.files import read_npz, write_npz

_SHAPES = {"xyz_m": ("p", 3), "covariance": ("p", 3, 3), "own_sigma_m": ("p",), "shared_sigma_m": ("p",)}


@dataclass(frozen=True, eq=False)
class SceneMap:
    """Points of the room in the world.

    Attributes:
        xyz_m: (p, 3) where they are, metres.
        covariance: (p, 3, 3) of that.
        own_sigma_m: (p,) standard deviation from the point's own rays: independent from point to point.
        shared_sigma_m: (p,) standard deviation from the map's cameras: neighbours are off together by it.
        descriptors: (d, 128) how points look (`Features.descriptors`), a few for each.
        descriptor_point: (d,) whose descriptor it is, ascending; every point has at least one.
    """

    xyz_m: Float[np.ndarray, "p 3"]
    covariance: Float[np.ndarray, "p 3 3"]
    own_sigma_m: Float[np.ndarray, "p"]
    shared_sigma_m: Float[np.ndarray, "p"]
    descriptors: UInt8[np.ndarray, "d 128"]
    descriptor_point: Int[np.ndarray, "d"]

    def __len__(self) -> int:
        return len(self.xyz_m)

    @cached_property
    def unit_descriptors(self) -> Float[np.ndarray, "d 128"]:
        """Descriptors as unit vectors, float32."""
        return unit_descriptors(self.descriptors)

    def save(self, path: Path) -> None:
        """Writes `scene.npz`."""
        names = (*_SHAPES, "descriptors", "descriptor_point")
        write_npz(path, {name: getattr(self, name) for name in names})


def read_scene_map(path: Path) -> SceneMap:
    """Reads what `SceneMap.save` wrote.

    Raises:
        InputError: if the file is missing or its arrays do not fit together.
    """
    data = read_npz(path)
    names = (*_SHAPES, "descriptors", "descriptor_point")
    if missing := [name for name in names if name not in data]:
        raise InputError(str(path), f"it has no array {missing[0]!r}", "run `motifs calibrate scene` with --redo")
    points, owner = len(data["xyz_m"]), data["descriptor_point"]
    fits = all(data[name].shape == (points, *shape[1:]) for name, shape in _SHAPES.items())
    fits = fits and data["descriptors"].shape == (len(owner), 128) and data["descriptors"].dtype == np.uint8
    if not (fits and np.array_equal(np.unique(owner), np.arange(points)) and (np.diff(owner) >= 0).all()):
        raise InputError(str(path), "its arrays do not fit together", "run `motifs calibrate scene` with --redo")
    return SceneMap(**{name: data[name] for name in names})


def few_descriptors(
    descriptors: UInt8[np.ndarray, "d 128"], owner: Int[np.ndarray, "d"], most: int
) -> tuple[UInt8[np.ndarray, "k 128"], Int[np.ndarray, "k"]]:
    """At most `most` descriptors a point, as different as may be: first the one nearest to the mean, then the farthest.

    Args:
        descriptors: all descriptors.
        owner: point of each, ascending.
    """
    unit = unit_descriptors(descriptors)
    kept = []
    first = np.flatnonzero(np.diff(owner, prepend=-1))
    for rows in np.split(np.arange(len(owner)), first[1:]):
        similar = unit[rows] @ unit[rows].T
        chosen = [int(similar.sum(axis=1).argmax())]
        while len(chosen) < min(most, len(rows)):
            chosen.append(int(similar[:, chosen].max(axis=1).argmin()))
        kept.append(rows[np.sort(chosen)])
    index = np.concatenate([*kept, np.zeros(0, np.int64)])
    return descriptors[index], owner[index]
