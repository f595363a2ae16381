"""The time of a recording as one strip: which frames may be used, and the Motifs that were found."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from core.arrays import Float, UInt8
from fitting.sequence import Reason
from motifs.viewed import Segment, Viewed

# Okabe and Ito's colours, told apart by the colour-blind
PALETTE = ((0, 158, 115), (204, 121, 167), (240, 228, 66), (86, 180, 233), (230, 159, 0), (110, 110, 110))
VALID, REJECTED = (0, 114, 178), (213, 94, 0)
_NOTHING, _CURSOR, _PAPER = (235, 235, 235), (0, 0, 0), (255, 255, 255)
_ROW_PX, _GAP_PX = 16, 4
_SEPARATED_PX = 3  # narrower Motifs would be nothing but separators


def colours_of(names: Sequence[str]) -> dict[str, tuple[int, int, int]]:
    """A colour for each name, the same ones in turn; the most frequent first, so that neighbours differ."""
    unique, counts = np.unique(np.asarray(names, dtype=str), return_counts=True)
    ranked = unique[np.argsort(-counts, kind="stable")]
    return {str(name): PALETTE[k % len(PALETTE)] for k, name in enumerate(ranked)}


def strip(viewed: Viewed, width_px: int) -> UInt8[np.ndarray, "h w 3"]:
    """A row of frames (blue: valid, orange: not, light: nothing fitted), under it a row of Motifs if there are any."""
    rows = [_frames(viewed, width_px)]
    if viewed.motifs:
        rows.append(_motifs(viewed.motifs, viewed.t_s, width_px))
    gap = np.full((_GAP_PX, width_px, 3), _PAPER, dtype=np.uint8)
    parts = [gap]
    for row in rows:
        parts += [np.repeat(row[None], _ROW_PX, axis=0), gap]
    return np.concatenate(parts)


def with_cursor(picture: UInt8[np.ndarray, "h w 3"], share: float) -> UInt8[np.ndarray, "h w 3"]:
    """The strip with a line at a share of its width."""
    drawn = picture.copy()
    column = round(share * (picture.shape[1] - 1))
    drawn[:, max(column - 1, 0) : column + 2] = _CURSOR
    return drawn


def _frames(viewed: Viewed, width_px: int) -> UInt8[np.ndarray, "w 3"]:
    if viewed.playback is None:
        return np.full((width_px, 3), _NOTHING, dtype=np.uint8)
    wrong = viewed.playback.sequence.reasons != Reason.OK
    # columns share frames where there are fewer of these
    starts = np.floor(np.linspace(0, len(wrong), width_px, endpoint=False)).astype(int)
    # a column is orange if any of its frames is: one bad frame in an hour is seen
    any_wrong = np.logical_or.reduceat(wrong, starts)
    return np.where(any_wrong[:, None], REJECTED, VALID).astype(np.uint8)


def _motifs(motifs: Sequence[Segment], t_s: Float[np.ndarray, "instants"], width_px: int) -> UInt8[np.ndarray, "w 3"]:
    colours, row = colours_of([m.name for m in motifs]), np.full((width_px, 3), _NOTHING, dtype=np.uint8)
    span = max(float(t_s[-1] - t_s[0]), 1e-9)
    for motif in motifs:
        left, right = (round(width_px * (edge - t_s[0]) / span) for edge in (motif.start_s, motif.end_s))
        row[max(left, 0) : max(right, left + 1, 0)] = colours[motif.name]
        if left > 0 and right - left >= _SEPARATED_PX:  # neighbours of one type are told apart
            row[left] = _PAPER
    return row
