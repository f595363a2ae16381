"""Sequences into clips: cut where the fit failed for longer than a moment, and account for every stretch left out."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from core.arrays import Bool
from dataset.schema import REASON_NON_FINITE, REASON_OK, Clip, Skipped


@dataclass(frozen=True)
class CutConfig:
    """Where sequences are cut.

    Attributes:
        max_gap_s: longest invalid stretch that stays inside a clip, its frames marked; a longer one ends the clip.
        min_clip_s: shorter clips are left out, and listed as skipped.
    """

    max_gap_s: float = 0.2
    min_clip_s: float = 1.0


def runs_of(mask: Bool[np.ndarray, "frames"]) -> list[tuple[int, int]]:
    """(start, stop) of every stretch of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]])))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def mark_non_finite(clip: Clip) -> Clip:
    """The clip with a reason on every frame whose body is not whole numbers, and no joint measured there."""
    finite = np.isfinite(clip.trans).all(axis=1)
    for array in (clip.poses, clip.joints_m):
        finite &= np.isfinite(array).all(axis=(1, 2))
    reasons = clip.reasons | np.where(finite, REASON_OK, REASON_NON_FINITE).astype(clip.reasons.dtype)
    return dataclasses.replace(clip, reasons=reasons, valid=clip.valid & finite[:, None])


def cut(sequence: Clip, config: CutConfig) -> tuple[list[Clip], list[Skipped]]:
    """Clips of a sequence, ids `<sequence>-000` and so on, and what was left out of it."""
    sequence = mark_non_finite(sequence)
    rate = float(sequence.rate)
    clips: list[Clip] = []
    skipped: list[Skipped] = []
    for start, stop in _stretches(sequence.frame_valid, config.max_gap_s * rate):
        if (stop - start) / rate < config.min_clip_s:
            reason = f"shorter than {config.min_clip_s:g} s between invalid frames"
            skipped.append(_skipped(sequence, start, stop, reason))
        else:
            clips.append(part(sequence, start, stop, f"{sequence.id}-{len(clips):03d}"))
    if not clips and not skipped:
        skipped.append(_skipped(sequence, 0, len(sequence), "no valid frame"))
    return clips, skipped


def _stretches(valid: Bool[np.ndarray, "frames"], max_gap: float) -> list[tuple[int, int]]:
    """Stretches that begin and end with a valid frame and hold no gap longer than `max_gap` frames."""
    joined: list[tuple[int, int]] = []
    for start, stop in runs_of(valid):
        if joined and start - joined[-1][1] <= max_gap:
            joined[-1] = (joined[-1][0], stop)
        else:
            joined.append((start, stop))
    return joined


def part(clip: Clip, start: int, stop: int, clip_id: str) -> Clip:
    """Frames `start` to `stop` as a clip of its own."""
    frames = slice(start, stop)
    return dataclasses.replace(
        clip,
        id=clip_id,
        labels=dataclasses.replace(clip.labels, start_s=clip.labels.start_s + start / float(clip.rate)),
        poses=clip.poses[frames],
        trans=clip.trans[frames],
        joints_m=clip.joints_m[frames],
        joint_covariance=clip.joint_covariance[frames],
        valid=clip.valid[frames],
        reasons=clip.reasons[frames],
        contacts=clip.contacts[frames],
        actions=None if clip.actions is None else clip.actions[frames],
    )


def _skipped(sequence: Clip, start: int, stop: int, reason: str) -> Skipped:
    rate = float(sequence.rate)
    return Skipped(sequence.labels.session, sequence.labels.start_s + start / rate, (stop - start) / rate, reason)
