"""Windows of poses with an encoder's tokens, as the heads of the paper want them (`model.scenes.Scenes`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from core.arrays import Bool, Float, Int
from model.a4mer import Tokens
from model.protocols.encoders import SegmentTokens
from model.protocols.windows import PoseWindows
from model.scenes import Scenes

# heads of one size for every encoder: wider tokens are brought down to their first principal components
MAX_WIDTH = 256
# rotary positions turn pairs of channels of each of four attention heads
_MULTIPLE = 8


@dataclass(frozen=True, eq=False)
class TokenScale:
    """How the tokens of an encoder are brought to the heads' size: z-scored, turned if too wide, padded with zeros.

    Attributes:
        mean: of training tokens.
        sd: of training tokens.
        basis: principal components of the z-scored tokens; None to leave them.
    """

    mean: Float[np.ndarray, "width"]
    sd: Float[np.ndarray, "width"]
    basis: Float[np.ndarray, "width kept"] | None

    @property
    def width(self) -> int:
        """Channels after it."""
        kept = len(self.mean) if self.basis is None else self.basis.shape[1]
        return -(-kept // _MULTIPLE) * _MULTIPLE

    def apply(self, z: Float[np.ndarray, "tokens width"]) -> Float[np.ndarray, "tokens scaled"]:
        """Tokens for the heads."""
        z = (z - self.mean) / self.sd
        z = z if self.basis is None else z @ self.basis
        return np.pad(z, ((0, 0), (0, self.width - z.shape[1]))).astype(np.float32)


def token_scale(tokens: Sequence[SegmentTokens]) -> TokenScale:
    """The scale of some tokens."""
    z = np.concatenate([part.z for part in tokens])
    mean, sd = z.mean(axis=0), np.maximum(z.std(axis=0), 1e-3)
    if z.shape[1] <= MAX_WIDTH:
        return TokenScale(mean, sd, None)
    z = (z - mean) / sd
    _, vectors = np.linalg.eigh(z.T @ z)
    return TokenScale(mean, sd, vectors[:, ::-1][:, :MAX_WIDTH])


def level_of(level: str, found: Mapping[str, object]) -> str:
    """A level by name; `last` for the highest that an encoder has."""
    return list(found)[-1] if level == "last" else level


def make_scenes(
    windows: PoseWindows, seen: Sequence[SegmentTokens], whole: Sequence[SegmentTokens], scale: TokenScale
) -> Scenes:
    """Scenes whose segments are those of the known parts, as far as seen, and of the asked part, as it really is.

    An encoder may cut the known parts otherwise when it sees the rest; the target of a known segment is then the mean
    of what lies over it.
    """
    task = windows.task
    rows = [_row(s, w, task.borders_s[0], task.rate_hz, task.frames) for s, w in zip(seen, whole, strict=True)]
    most = max(int(row[0].max()) + 1 for row in rows)
    width = scale.width
    motif = np.stack([row[0] for row in rows])
    full, shown = np.zeros((2, len(rows), most, width), dtype=np.float32)
    known = np.zeros((len(rows), most), dtype=bool)
    for k, (_, z_whole, z_seen, is_known) in enumerate(rows):
        full[k, : len(z_whole)] = scale.apply(z_whole)
        shown[k, : len(z_whole)] = np.where(is_known[:, None], scale.apply(z_seen), 0.0)
        known[k, : len(z_whole)] = is_known
    exists, time, length = _layout(motif, most)
    hidden = np.zeros(motif.shape, dtype=bool)
    hidden[:, task.asked_frames] = True
    place = [torch.from_numpy(array) for array in (time, length)]
    return Scenes(
        torch.from_numpy(windows.joints),
        torch.ones(motif.shape, dtype=torch.bool),
        torch.from_numpy(hidden),
        torch.from_numpy(motif),
        Tokens(torch.from_numpy(full), torch.from_numpy(exists), *place),
        Tokens(torch.from_numpy(shown), torch.from_numpy(known), *place),
    )


def _row(
    seen: SegmentTokens, whole: SegmentTokens, begin_s: float, rate_hz: float, frames: int
) -> tuple[Int[np.ndarray, "frames"], np.ndarray, np.ndarray, Bool[np.ndarray, "segments"]]:
    """Segment of each frame, tokens from everything, tokens from the known parts, and which segments are known."""
    later = seen.start_s[seen.start_s >= begin_s]
    end_s = later[0] if len(later) else np.inf
    asked = (whole.start_s >= begin_s - 1e-6) & (whole.start_s < end_s - 1e-6)
    start_s = np.concatenate([seen.start_s, whole.start_s[asked]])
    stop_s = np.concatenate([seen.stop_s, whole.stop_s[asked]])
    order = np.argsort(start_s, kind="stable")
    is_known = (np.arange(len(start_s)) < len(seen))[order]
    z_seen = np.concatenate([seen.z, np.zeros_like(whole.z[asked])])[order]
    start_s, stop_s = start_s[order], stop_s[order]
    overlap = np.minimum(stop_s[:, None], whole.stop_s) - np.maximum(start_s[:, None], whole.start_s)
    overlap = np.maximum(overlap, 1e-9)
    z_whole = overlap / overlap.sum(axis=1, keepdims=True) @ whole.z
    first = np.rint(start_s * rate_hz).astype(np.int64)
    return np.searchsorted(first, np.arange(frames), side="right") - 1, z_whole, z_seen, is_known


def _layout(motif_BT: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Whether each segment exists, its mean frame and its length."""
    member = motif_BT[:, None, :] == np.arange(most)[:, None]
    length = member.sum(axis=2).astype(np.float32)
    time = (member * np.arange(motif_BT.shape[1])).sum(axis=2) / np.maximum(length, 1)
    return length > 0, time.astype(np.float32), length


def flat_tokens(tokens: Sequence[SegmentTokens], windows: PoseWindows) -> Float[np.ndarray, "windows features"]:
    """What a linear head reads of each window: the mean token of every known part and the tokens beside the border."""
    begin_s = windows.task.borders_s[0]
    return np.stack([_flat(row, begin_s, windows.task.after > 0) for row in tokens]).astype(np.float64)


def _flat(tokens: SegmentTokens, begin_s: float, both: bool) -> np.ndarray:
    before = tokens.start_s < begin_s - 1e-6
    parts = _mean_and_one(tokens, before, -1)
    if both:
        parts += _mean_and_one(tokens, ~before, 0)
    return np.concatenate(parts)


def _mean_and_one(tokens: SegmentTokens, part: np.ndarray, one: int) -> list[np.ndarray]:
    """Mean token and the one beside the border; zeros where an encoder tells nothing of a part."""
    if not part.any():
        return [np.zeros(tokens.z.shape[1])] * 2
    length = (tokens.stop_s - tokens.start_s)[part]
    return [np.average(tokens.z[part], axis=0, weights=length), tokens.z[part][one]]


def gridded(tokens: SegmentTokens, rate_hz: float) -> SegmentTokens:
    """Tokens no finer than a rate: means of those whose middle lies in the same interval of it."""
    if len(tokens) == 0 or (tokens.stop_s - tokens.start_s).min() > 1 / rate_hz - 1e-6:
        return tokens
    place = np.floor((tokens.start_s + tokens.stop_s) / 2 * rate_hz + 1e-6)
    at, first = np.unique(place, return_index=True)
    sums = np.add.reduceat(tokens.z.astype(np.float64), first, axis=0)
    means = sums / np.diff(first, append=len(place))[:, None]
    return SegmentTokens(means.astype(np.float32), at / rate_hz, (at + 1) / rate_hz)
