"""Points that can be found again from elsewhere: SIFT with RootSIFT descriptors, and their matches.

SIFT after Lowe 2004; the square root of its normalised histogram (RootSIFT, Arandjelovic and Zisserman 2012) makes dot
products the Hellinger kernel. Points are spread over the picture by taking the strongest of each cell first: a bookcase
must not use up what the ceiling needs.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from core.arrays import Bool, Float, Int, UInt8

_CELLS = 8  # along the picture's longer side
_TO_BYTE = 512.0  # RootSIFT's largest entries are near 0.5
_CLAHE_TILES = 8


@dataclass(frozen=True)
class FeatureConfig:
    """What counts as a point.

    Attributes:
        max_features: points a picture at most.
        contrast: SIFT's contrast threshold; lower finds fainter points.
        clahe: limit of the local contrast stretch before the search, 0 for none.
    """

    max_features: int = 1500
    contrast: float = 0.015
    clahe: float = 0.0


@dataclass(frozen=True, eq=False)
class Features:
    """Points of one picture.

    Attributes:
        xy_px: (n, 2) where they are.
        scale_px: (n,) diameter of the neighbourhood that each describes.
        descriptors: (n, 128) RootSIFT, bytes; divided by 512 they have length 1.
    """

    xy_px: Float[np.ndarray, "n 2"]
    scale_px: Float[np.ndarray, "n"]
    descriptors: UInt8[np.ndarray, "n 128"]

    def __len__(self) -> int:
        return len(self.xy_px)

    def where(self, rows: Int[np.ndarray, "m"] | Bool[np.ndarray, "n"]) -> Features:
        """Some of them."""
        return Features(*(getattr(self, f.name)[rows] for f in dataclasses.fields(self)))

    @property
    def unit(self) -> Float[np.ndarray, "n 128"]:
        """Descriptors as unit vectors, float32."""
        return unit_descriptors(self.descriptors)


def unit_descriptors(descriptors: UInt8[np.ndarray, "n 128"]) -> Float[np.ndarray, "n 128"]:
    """Bytes as unit vectors, float32."""
    values = descriptors.astype(np.float32)
    return values / np.maximum(np.linalg.norm(values, axis=-1, keepdims=True), 1e-6)


def find_features(
    gray: UInt8[np.ndarray, "h w"], config: FeatureConfig, *, mask: Bool[np.ndarray, "h w"] | None = None
) -> Features:
    """Points of a picture, pixel centres at integers.

    Args:
        gray: the picture.
        config: settings.
        mask: where points may lie; everywhere if None.
    """
    import cv2

    if config.clahe > 0:
        gray = cv2.createCLAHE(config.clahe, (_CLAHE_TILES, _CLAHE_TILES)).apply(gray)
    # `enable_precise_upscale`: without it, points lie a quarter of a pixel off
    sift = cv2.SIFT.create(0, 3, config.contrast, 10.0, 1.6, cv2.CV_32F, True)
    allowed = None if mask is None else mask.astype(np.uint8) * 255
    points, values = sift.detectAndCompute(gray, allowed)
    if not points:
        return Features(np.zeros((0, 2)), np.zeros(0), np.zeros((0, 128), np.uint8))
    xy = np.array([point.pt for point in points], float)
    response = np.array([point.response for point in points])
    kept = _spread(xy, response, max(gray.shape) / _CELLS)[: config.max_features]
    histogram = values[kept] / np.maximum(values[kept].sum(axis=-1, keepdims=True), 1e-6)
    descriptors = np.clip(np.rint(np.sqrt(histogram) * _TO_BYTE), 0, 255).astype(np.uint8)
    return Features(xy[kept], np.array([points[i].size for i in kept], float), descriptors)


def _spread(xy: np.ndarray, response: np.ndarray, cell_px: float) -> np.ndarray:
    """Order of points: the strongest of every cell, then the second of every cell, and so on."""
    cell = np.floor(xy / cell_px).astype(np.int64) @ np.array([1, 10_000])
    order = np.lexsort((xy[:, 1], xy[:, 0], -response, cell))
    first = np.r_[True, np.diff(cell[order]) != 0]
    rank = np.arange(len(order)) - np.maximum.accumulate(np.where(first, np.arange(len(order)), 0))
    return order[np.lexsort((-response[order], rank))]


def match_features(
    a: Float[np.ndarray, "n 128"], b: Float[np.ndarray, "m 128"], *, ratio: float = 0.8
) -> Int[np.ndarray, "k 2"]:
    """Pairs of points that are each other's nearest, and clearly nearer than the second (Lowe's ratio test).

    Args:
        a: unit descriptors of one picture.
        b: of the other.
        ratio: of the nearest distance to the second nearest, at most.
    """
    if min(len(a), len(b)) < 2:
        return np.zeros((0, 2), np.int64)
    similar = a @ b.T
    best = similar.argmax(axis=1)
    rows = np.arange(len(a))
    top = similar[rows, best]
    mutual = similar.argmax(axis=0)[best] == rows
    similar[rows, best] = -1.0
    second = similar.max(axis=1)
    distinct = (1 - top) <= ratio**2 * (1 - second)
    kept = np.flatnonzero(mutual & distinct)
    return np.stack([kept, best[kept]], axis=-1)
