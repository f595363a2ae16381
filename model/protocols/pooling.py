"""From the tokens of a clip to one vector: what a probe reads.

A *view* is a choice of levels and of a pooling. Which view a representation is judged by is chosen on the training
groups alone (`model.protocols.recognition`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from core.arrays import Float
from model.protocols.encoders import SegmentTokens

POOLINGS = ("mean", "mean+sd", "mean+max", "thirds")


@dataclass(frozen=True)
class View:
    """Which tokens are read, and how they are pooled.

    Attributes:
        levels: names of levels, whose vectors are put one after the other.
        pooling: one of `POOLINGS`.
    """

    levels: tuple[str, ...]
    pooling: str

    def __str__(self) -> str:
        return f"{'+'.join(self.levels)} {self.pooling}"


def views(levels: Sequence[str]) -> tuple[View, ...]:
    """Every single level, those above the finest, and all together, by every pooling; one token a clip needs none.

    Args:
        levels: of the tokens, finest first.
    """
    if tuple(levels) == ("clip",):
        return (View(("clip",), "mean"),)
    chosen = [(level,) for level in levels] + [tuple(levels[k:]) for k in (0, 1) if len(levels) > k + 1]
    return tuple(View(names, pooling) for names in chosen for pooling in POOLINGS)


def standard_view(levels: Sequence[str]) -> View:
    """The view that needs no choice: mean and deviation of the tokens of all levels."""
    return View(tuple(levels), "mean" if tuple(levels) == ("clip",) else "mean+sd")


def vectors(tokens: Mapping[str, Sequence[SegmentTokens]], view: View) -> Float[np.ndarray, "clips width"]:
    """One vector for each motion."""
    parts = [np.stack([pool(clip, view.pooling) for clip in tokens[level]]) for level in view.levels]
    return np.concatenate(parts, axis=1)


def pool(tokens: SegmentTokens, how: str) -> Float[np.ndarray, "width"]:
    """Pools tokens, each weighing as long as its segment lasts; zeros without tokens.

    `thirds` is the mean over all, followed by those of the three thirds of the time that the tokens span.
    """
    z, weight = tokens.z.astype(np.float64), tokens.stop_s - tokens.start_s
    if len(z) == 0:
        return np.zeros(z.shape[1] * {"mean": 1, "mean+sd": 2, "mean+max": 2, "thirds": 4}[how])
    mean = _mean(z, weight)
    if how == "mean":
        return mean
    if how == "mean+sd":
        return np.concatenate([mean, np.sqrt(_mean((z - mean) ** 2, weight))])
    if how == "mean+max":
        return np.concatenate([mean, z.max(axis=0)])
    edges = np.linspace(tokens.start_s[0], tokens.stop_s[-1], 4)
    overlap = np.minimum(tokens.stop_s, edges[1:, None]) - np.maximum(tokens.start_s, edges[:-1, None])
    thirds = [_mean(z, part) if part.sum() > 0 else mean for part in np.maximum(overlap, 0.0)]
    return np.concatenate([mean, *thirds])


def _mean(z: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return np.asarray(weight @ z / weight.sum())
