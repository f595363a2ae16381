"""Structure from motion of pictures with known lenses: which pairs to match, and the reconstruction.

Neighbours in a sequence are matched, and every picture with those that resemble it most, which closes loops and joins
what stands elsewhere (static cameras) without matching all with all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from calibration.colmap import Structure, reconstruct
from calibration.features import Features, match_features
from core.arrays import Int
from core.cameras import Lens
from core.threads import one_blas_thread

_MIN_MATCHES = 15


@dataclass(frozen=True)
class SfmConfig:
    """Settings of the reconstruction.

    Attributes:
        neighbours: pictures before and after each one of a sequence that it is matched with.
        partners: pictures most like each one that it is matched with, wherever they are.
        glance: largest points of a picture by which likeness is judged.
        ratio: of the nearest to the second nearest descriptor's distance, at most.
        seed: of the random choices.
    """

    neighbours: int = 4
    partners: int = 12
    glance: int = 250
    ratio: float = 0.8
    seed: int = 0


@one_blas_thread
def solve_structure(
    features: Sequence[Features],
    lenses: Sequence[Lens],
    lens_idx: Int[np.ndarray, "images"],
    sequence_idx: Int[np.ndarray, "images"],
    config: SfmConfig | None = None,
) -> Structure:
    """Structure from motion of pictures.

    Args:
        features: points of each picture.
        lenses: distinct lenses; they are held.
        lens_idx: lens of each picture.
        sequence_idx: the moving camera's number, its pictures in the order of time; -1 for pictures that stand alone.
        config: settings.

    Raises:
        StageError: if the pictures do not join into one model.
    """
    config = config or SfmConfig()
    units = [f.unit for f in features]
    pairs = choose_pairs(features, units, sequence_idx, config)
    matches: dict[tuple[int, int], np.ndarray] = {}
    for a, b in pairs.tolist():
        found = match_features(units[a], units[b], ratio=config.ratio)
        if len(found) >= _MIN_MATCHES:
            matches[a, b] = found
    return reconstruct(lenses, lens_idx, [f.xy_px for f in features], matches, seed=config.seed)


def choose_pairs(
    features: Sequence[Features],
    units: Sequence[np.ndarray],
    sequence_idx: Int[np.ndarray, "images"],
    config: SfmConfig,
) -> Int[np.ndarray, "pairs 2"]:
    """Pairs of pictures worth matching, ascending."""
    n = len(features)
    wanted = np.zeros((n, n), bool)
    for ahead in range(1, config.neighbours + 1):
        near = np.flatnonzero((sequence_idx[:-ahead] == sequence_idx[ahead:]) & (sequence_idx[:-ahead] >= 0))
        wanted[near, near + ahead] = True
    if config.partners == 0:
        return np.argwhere(wanted)
    like = _likeness(features, units, config)
    best = np.argsort(-like, axis=1, kind="stable")[:, : config.partners]
    rows = np.repeat(np.arange(n), best.shape[1])
    some = like[rows, best.ravel()] > 0
    wanted[rows[some], best.ravel()[some]] = True
    return np.argwhere(np.triu(wanted | wanted.T, 1))


def _likeness(features: Sequence[Features], units: Sequence[np.ndarray], config: SfmConfig) -> np.ndarray:
    """Number of matches among the largest points of two pictures, which survive the widest changes of place."""
    n = len(features)
    largest = [np.argsort(-f.scale_px, kind="stable")[: config.glance] for f in features]
    glances = [unit[rows] for unit, rows in zip(units, largest, strict=True)]
    like = np.zeros((n, n))
    for a in range(n):
        for b in range(a + 1, n):
            like[a, b] = like[b, a] = len(match_features(glances[a], glances[b], ratio=config.ratio))
    return like


def observations_by_image(structure: Structure) -> Mapping[int, Int[np.ndarray, "_"]]:
    """Rows of a structure's observations by image."""
    order = np.argsort(structure.image_idx, kind="stable")
    images, first = np.unique(structure.image_idx[order], return_index=True)
    return dict(zip(images.tolist(), np.split(order, first[1:]), strict=True))
