"""Windows for the tasks: what is known, what is hidden, and the tokens with and without it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from core.arrays import Bool, Float, Int
from core.errors import StageError
from dataset.features import LAYOUT, NUM_FEATURE_JOINTS
from model.a4mer import A4Mer
from model.masking import group_of_members
from model.segments import MotionBatch, Tokens

# Frames that a prediction has to go by: two seconds at the model's five frames a second.
MIN_PAST = 10


@dataclass(frozen=True, eq=False)
class Scenes:
    """Windows with their tokens: `full` from all frames, `seen` from those that are not hidden.

    Attributes:
        joints: (B, T, J, 3) positions, metres.
        valid: (B, T) frames that exist.
        hidden: (B, T) frames to be told.
        motif: (B, T) Motif of each frame, -1 without.
        full: tokens from everything.
        seen: tokens without the hidden frames; those that exist are the visible Motifs.
    """

    joints: Float[torch.Tensor, "B T J 3"]
    valid: Bool[torch.Tensor, "B T"]
    hidden: Bool[torch.Tensor, "B T"]
    motif: Int[torch.Tensor, "B T"]
    full: Tokens
    seen: Tokens

    def rows(self, index: torch.Tensor) -> Scenes:
        """Some of the windows."""
        parts = [Tokens(t.z[index], t.exists[index], t.time[index], t.length[index]) for t in (self.full, self.seen)]
        return Scenes(self.joints[index], self.valid[index], self.hidden[index], self.motif[index], *parts)

    def to(self, device: torch.device) -> Scenes:
        """The same windows on another device."""
        parts = [
            Tokens(t.z.to(device), t.exists.to(device), t.time.to(device), t.length.to(device))
            for t in (self.full, self.seen)
        ]
        frames = [t.to(device) for t in (self.joints, self.valid, self.hidden, self.motif)]
        return Scenes(frames[0], frames[1], frames[2], frames[3], *parts)

    def __len__(self) -> int:
        return len(self.joints)


# (Motif of each frame, valid frames) -> frames to hide, or None where there is no room for it
Hide = Callable[[np.ndarray, np.ndarray], "np.ndarray | None"]


def hide_nothing(motif: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Leaves every frame visible."""
    return np.zeros(len(motif), dtype=bool)


def hide_future(horizon: int) -> Hide:
    """Hides what follows the last start of a Motif that leaves `horizon` frames, with two seconds of past at least."""

    def hide(motif: np.ndarray, valid: np.ndarray) -> np.ndarray | None:
        starts = np.flatnonzero(np.diff(motif, prepend=motif[0]) != 0)
        end = int(valid.sum())
        fit = starts[(starts + horizon <= end) & (starts >= MIN_PAST)]
        return None if len(fit) == 0 or not valid[:end].all() else np.arange(len(motif)) >= fit[-1]

    return hide


def hide_gap(shortest: int) -> Hide:
    """Hides whole Motifs of `shortest` to twice as many frames in all, as near to the middle as there are any."""

    def hide(motif: np.ndarray, valid: np.ndarray) -> np.ndarray | None:
        end = int(valid.sum())
        if not valid[:end].all():
            return None
        starts = np.flatnonzero(np.diff(motif[:end], prepend=motif[0]) != 0)
        pairs = [(a, b) for a in starts for b in starts if shortest <= b - a <= 2 * shortest]
        if not pairs:
            return None
        a, b = min(pairs, key=lambda p: (abs(p[0] + p[1] - end), p[1] - p[0]))
        frames = np.arange(len(motif))
        return (frames >= a) & (frames < b)

    return hide


def make_scenes(model: A4Mer, batch: MotionBatch, hide: Hide) -> Scenes | None:
    """The windows of a batch that leave room for what is to be hidden; None if none does."""
    if batch.motif is None:
        raise StageError("tasks", "the windows have no Motifs", "segment them with the run's lexicon")
    valid_BT = batch.atom >= 0
    motif_BT = group_of_members(batch.motif, batch.atom)
    hidden = [hide(m, v) for m, v in zip(motif_BT.numpy(), valid_BT.numpy(), strict=True)]
    rows = [i for i, h in enumerate(hidden) if h is not None]
    if not rows:
        return None
    device = model.feature_mean.device
    hidden_BT = (torch.from_numpy(np.stack([h for h in hidden if h is not None])) & valid_BT[rows]).to(device)
    part = MotionBatch(batch.x[rows], batch.atom[rows], batch.motif[rows]).to(device)
    full, seen = model.encode(part)[1], model.encode(part, hidden_BT)[1]
    assert full is not None and seen is not None
    joints = part.x[..., LAYOUT.positions].unflatten(-1, (NUM_FEATURE_JOINTS, 3))
    return Scenes(joints, part.atom >= 0, hidden_BT, motif_BT[rows].to(device), full, seen)


def concatenate(parts: Sequence[Scenes]) -> Scenes:
    """Scenes of several batches, padded to the same number of Motifs."""
    most = max(p.full.z.shape[1] for p in parts)

    def join(tensors: list[torch.Tensor]) -> torch.Tensor:
        pads = [(0, 0) * (t.ndim - 2) + (0, most - t.shape[1]) for t in tensors]
        return torch.cat([F.pad(t, pad) for t, pad in zip(tensors, pads, strict=True)])

    full, seen = (
        Tokens(*(join([getattr(getattr(p, which), name) for p in parts]) for name in ("z", "exists", "time", "length")))
        for which in ("full", "seen")
    )
    frames = [torch.cat([getattr(p, name) for p in parts]) for name in ("joints", "valid", "hidden", "motif")]
    return Scenes(frames[0], frames[1], frames[2], frames[3], full, seen)
