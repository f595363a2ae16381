"""Hand-made statistics of a motion: the bar that any learned representation has to clear.

Root-local joints (heading-aligned, the pelvis's height kept) of 22 joints. `ms` is their mean and standard deviation,
132 values; `full` adds mean, deviation and mean size of their velocities, and mean and deviation of the turn and of the
pelvis's velocity: 336 values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from core.arrays import Float
from dataset.features import LAYOUT
from dataset.resample import Motion
from model.protocols.encoders import SegmentTokens, part_edges

Kind = Literal["ms", "full"]
KINDS: tuple[Kind, ...] = ("ms", "full")


def statistics(motion: Motion, kind: Kind = "full") -> Float[np.ndarray, "features"]:
    """Statistics over the valid frames of a motion, at its own rate; zeros where none is valid."""
    with np.errstate(invalid="ignore"):
        features = motion.features().astype(np.float64)
    positions = features[:, LAYOUT.positions]
    steps = np.diff(positions, axis=0) * motion.rate_hz
    paths = features[:, slice(LAYOUT.yaw_rate.start, LAYOUT.root_velocity.stop)]
    valid = motion.frame_valid & np.isfinite(features).all(axis=1)
    steps = steps[valid[1:] & valid[:-1]]
    parts = [*_mean_sd(positions[valid])]
    if kind == "full":
        parts += [*_mean_sd(steps), _mean(np.abs(steps)), *_mean_sd(paths[valid])]
    return np.concatenate(parts)


def _mean(x: np.ndarray) -> np.ndarray:
    return x.mean(axis=0) if len(x) else np.zeros(x.shape[1])


def _mean_sd(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return _mean(x), x.std(axis=0) if len(x) else np.zeros(x.shape[1])


@dataclass(frozen=True)
class Statistics:
    """`statistics` as an encoder: one token for each part of a motion."""

    kind: Kind = "full"

    @property
    def name(self) -> str:
        """As tables call it."""
        return f"hand-made {self.kind}"

    def encode(
        self, motions: Sequence[Motion], borders_s: tuple[float, ...] = (), hidden: int | None = None
    ) -> Mapping[str, list[SegmentTokens]]:
        """See `Encoder`."""
        return {"clip": [self._tokens(motion, borders_s, hidden) for motion in motions]}

    def _tokens(self, motion: Motion, borders_s: tuple[float, ...], hidden: int | None) -> SegmentTokens:
        seen = [edges for k, edges in enumerate(part_edges(motion, borders_s)) if k != hidden]
        z = np.stack([statistics(motion.part(*edges), self.kind) for edges in seen]).astype(np.float32)
        start_s, stop_s = (np.array(side, float) / motion.rate_hz for side in zip(*seen, strict=True))
        return SegmentTokens(z, start_s, stop_s)
