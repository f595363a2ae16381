"""Systems beside A4Mer as encoders: each part of a motion is seen by itself, so nothing hidden speaks through it.

A part is divided where frames are not valid, and what is longer than a network takes into pieces of that length: each
piece begins a path of its own. A network that has learned from Kinect's joints sees SMPL's mapped to them.
"""

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
from model.baselines.systems import SYSTEMS, longest_frames, num_joints
from model.baselines.views import as_kinect_sees, batch_of_clips
from model.protocols.encoders import SegmentTokens, part_edges


@dataclass(frozen=True, eq=False)
class _Piece:
    """Valid frames of a motion at the system's rate: whose they are, when they begin, and their joints."""

    motion: int
    start_s: float
    joints_m: Float[np.ndarray, "frames joints 3"]


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
        self.config = trained.recipe.system
        self.longest = longest_frames(self.config)

    @torch.no_grad()
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
        width = next((tokens.z.shape[1] for tokens in told.values()), 1)
        return {"steps": [_joined(of_motion, width) for of_motion in found]}

    def _pieces(
        self, number: int, motion: Motion, borders_s: tuple[float, ...], hidden: int | None
    ) -> Iterator[_Piece]:
        for part, (first, stop) in enumerate(part_edges(motion, borders_s)):
            if part != hidden:
                seen = resample(motion.part(first, stop), self.rate_hz)
                for at, end in _runs(seen.frame_valid, self.longest):
                    start_s = first / motion.rate_hz + at / self.rate_hz
                    joints_m = skeleton_of(seen.part(at, end), self.coordinates)
                    if num_joints(self.config) != NUM_FEATURE_JOINTS:
                        joints_m = as_kinect_sees(joints_m, self.config)
                    yield _Piece(number, start_s, joints_m)

    def batch_of(self, motions: Sequence[Motion]) -> SkeletonBatch:
        """Motions as the network takes them, of each the longest piece; nobody is there in one without valid frames."""
        pieces = [list(self._pieces(k, motion, (), None)) for k, motion in enumerate(motions)]
        nothing = np.zeros((0, num_joints(self.config), 3), dtype=np.float32)
        return self._batch([max((p.joints_m for p in of), key=len, default=nothing) for of in pieces])

    def _batch(self, joints_m: Sequence[np.ndarray]) -> SkeletonBatch:
        return batch_of_clips([of_piece[None] for of_piece in joints_m], self.config).to(self.device)

    def _tokens(self, pieces: Sequence[_Piece]) -> list[SegmentTokens]:
        tokens = self.system.encode(self._batch([p.joints_m for p in pieces]))
        step_s = tokens.frames / self.rate_hz
        found = []
        for z, there, p in zip(tokens.z.cpu().numpy(), tokens.exists.cpu().numpy(), pieces, strict=True):
            at = np.flatnonzero(there)
            found.append(SegmentTokens(z[at], p.start_s + at * step_s, p.start_s + (at + 1) * step_s))
        return found


def _runs(valid: Bool[np.ndarray, "frames"], longest: int | None) -> Iterator[tuple[int, int]]:
    """First and one past the last frame of the stretches of valid frames, no stretch longer than allowed."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], valid, [False]]).astype(int)))
    for first, stop in edges.reshape(-1, 2).tolist():
        size = longest or stop - first
        yield from ((at, min(at + size, stop)) for at in range(first, stop, size))


def _joined(parts: Sequence[SegmentTokens], width: int) -> SegmentTokens:
    if not parts:
        return SegmentTokens(np.zeros((0, width), dtype=np.float32), np.zeros(0), np.zeros(0))
    return SegmentTokens(*(np.concatenate([getattr(p, name) for p in parts]) for name in ("z", "start_s", "stop_s")))
