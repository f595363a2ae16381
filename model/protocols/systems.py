"""Systems beside A4Mer as encoders: each part of a motion is seen by itself, so nothing hidden speaks through it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from core.arrays import Bool, Float
from dataset.features import NUM_FEATURE_JOINTS
from dataset.resample import Motion, resample
from model.baselines.pretraining import TrainedSystem
from model.baselines.skeletons import SkeletonBatch, skeleton_of
from model.baselines.systems import SYSTEMS, longest_frames
from model.protocols.encoders import SegmentTokens, part_edges


@dataclass(frozen=True, eq=False)
class _Piece:
    """A part of a motion at the system's rate: whose it is, when it begins, its joints, and which frames are known."""

    motion: int
    start_s: float
    joints_m: Float[np.ndarray, "frames 22 3"]
    exists: Bool[np.ndarray, "frames"]


class SystemEncoder:
    """A network that has learned, or its first weights.

    Args:
        trained: the network with its recipe. What is longer than it takes is seen in pieces of that length.
        name: as tables call it.
        device: where it computes.
        batch_size: pieces that are encoded together.
    """

    def __init__(self, trained: TrainedSystem, name: str, device: torch.device, *, batch_size: int = 64) -> None:
        self.system, self.name, self.device, self.batch_size = trained.system, name, device, batch_size
        self.rate_hz, self.coordinates = trained.recipe.rate_hz, SYSTEMS[trained.recipe.kind].coordinates
        self.longest = longest_frames(trained.recipe.system)

    def encode(
        self, motions: Sequence[Motion], borders_s: tuple[float, ...] = (), hidden: int | None = None
    ) -> Mapping[str, list[SegmentTokens]]:
        """See `Encoder`; the one level is `steps`."""
        pieces = [p for k, motion in enumerate(motions) for p in self._pieces(k, motion, borders_s, hidden)]
        found: list[list[SegmentTokens]] = [[] for _ in motions]
        # those of like length together: the others would be padded to the longest
        order = sorted(range(len(pieces)), key=lambda i: len(pieces[i].joints_m))
        told: dict[int, SegmentTokens] = {}
        for first in range(0, len(order), self.batch_size):
            rows = order[first : first + self.batch_size]
            told |= dict(zip(rows, self._tokens([pieces[i] for i in rows]), strict=True))
        for i, piece in enumerate(pieces):
            found[piece.motion].append(told[i])
        return {"steps": [_joined(of_motion) for of_motion in found]}

    def _pieces(
        self, number: int, motion: Motion, borders_s: tuple[float, ...], hidden: int | None
    ) -> Iterator[_Piece]:
        for part, (first, stop) in enumerate(part_edges(motion, borders_s)):
            if part != hidden:
                seen = resample(motion.part(first, stop), self.rate_hz)
                size = self.longest or len(seen)
                for at in range(0, len(seen), size):
                    piece = seen.part(at, min(at + size, len(seen)))
                    exists = np.logical_and.accumulate(piece.frame_valid)
                    start_s = first / motion.rate_hz + at / self.rate_hz
                    yield _Piece(number, start_s, skeleton_of(piece, self.coordinates), exists)

    def _tokens(self, pieces: Sequence[_Piece]) -> list[SegmentTokens]:
        longest = max(len(p.joints_m) for p in pieces)
        joints_m = np.zeros((len(pieces), 1, longest, NUM_FEATURE_JOINTS, 3), dtype=np.float32)
        exists = np.zeros((len(pieces), 1, longest), dtype=bool)
        for row, p in enumerate(pieces):
            joints_m[row, 0, : len(p.joints_m)] = np.where(p.exists[:, None, None], p.joints_m, 0.0)
            exists[row, 0, : len(p.exists)] = p.exists
        batch = SkeletonBatch(torch.from_numpy(joints_m), torch.from_numpy(exists)).to(self.device)
        tokens = self.system.encode(batch)
        step_s = tokens.frames / self.rate_hz
        found = []
        for z, there, p in zip(tokens.z.cpu().numpy(), tokens.exists.cpu().numpy(), pieces, strict=True):
            at = np.flatnonzero(there)
            found.append(SegmentTokens(z[at], p.start_s + at * step_s, p.start_s + (at + 1) * step_s))
        return found


def _joined(parts: Sequence[SegmentTokens]) -> SegmentTokens:
    return SegmentTokens(*(np.concatenate([getattr(p, name) for p in parts]) for name in ("z", "start_s", "stop_s")))
