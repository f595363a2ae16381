"""The interface between representations and protocols: an encoder maps motions to tokens that span time.

Whatever is judged (hand-made statistics, an untrained or a trained network, a system of another paper) gives tokens
with the times at which their segments begin and end; everything else, from pooling to heads, is the protocols'.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol, runtime_checkable

import numpy as np

from core.arrays import Float
from dataset.resample import Motion


@dataclass(frozen=True, eq=False)
class SegmentTokens:
    """Tokens of one motion, in the order of time.

    Attributes:
        z: a token for each segment.
        start_s: when each segment begins, seconds from the motion's first frame.
        stop_s: when it ends, likewise.
    """

    z: Float[np.ndarray, "segments width"]
    start_s: Float[np.ndarray, "segments"]
    stop_s: Float[np.ndarray, "segments"]

    def __len__(self) -> int:
        return len(self.z)


@runtime_checkable
class Encoder(Protocol):
    """A representation, frozen."""

    @property
    def name(self) -> str:
        """As tables call it."""
        ...

    def encode(
        self, motions: Sequence[Motion], borders_s: tuple[float, ...] = (), hidden: int | None = None
    ) -> Mapping[str, list[SegmentTokens]]:
        """Tokens of motions by level (`atoms`, `motifs`, or whatever the representation has).

        Args:
            motions: stretches of clips at the clips' own rates.
            borders_s: times in every motion at which a segment has to begin; they part the motions.
            hidden: which of those parts no token may know anything of, its length excepted; it gets no tokens.
        """
        ...


def part_edges(motion: Motion, borders_s: Sequence[float]) -> list[tuple[int, int]]:
    """First and one past the last frame of each part of a motion."""
    inner = [round(border * motion.rate_hz) for border in borders_s]
    edges = [0, *inner, len(motion)]
    return list(pairwise(edges))
