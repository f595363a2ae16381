"""Pictures of what was discovered: where Motifs occur, and what their occurrences look like."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from core.files import atomic_path
from core.skeletons import SMPL_24
from dataset.features import NUM_FEATURE_JOINTS
from dataset.schema import ClipInfo
from dataset.shards import AmdDataset

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from model.discover import MotifUse, Segment

# Okabe and Ito's colours, told apart by colour-blind readers too; what is not among the most used is grey.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")
_OTHER, _INK, _LEFT, _RIGHT = "#C8C8C8", "#222222", "#0072B2", "#D55E00"
_MAX_CLIPS, _MAX_OCCURRENCES, _NUM_POSES = 12, 4, 7
_ROW_S = 60.0  # longest stretch of time in one row
_BONES = [(a, b) for a, b in SMPL_24.bones_idx.tolist() if max(a, b) < NUM_FEATURE_JOINTS]
# seen from half right in front: both arms and both legs show
_AZIMUTH_RAD = np.deg2rad(35)


def _new_figure(width_in: float, height_in: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_in, height_in), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, path: Path) -> None:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")


def draw_timeline(
    path: Path,
    clips: Sequence[ClipInfo],
    atoms: Sequence[Segment],
    motifs: Sequence[Segment],
    uses: Sequence[MotifUse],
) -> None:
    """One row for each clip (for each minute of a long one): Motifs as bars named after their codes, Atoms below."""
    rows = [
        (clip, first, min(first + _ROW_S, clip.start_s + clip.duration_s))
        for clip in clips[:_MAX_CLIPS]
        for first in np.arange(clip.start_s, clip.start_s + clip.duration_s - 1e-6, _ROW_S)
    ][: 2 * _MAX_CLIPS]
    colours = dict(zip((use.type for use in uses), _COLOURS, strict=False))
    figure = _new_figure(12.0, 0.9 + 1.15 * len(rows))
    panels = figure.subplots(len(rows), 1, squeeze=False)[:, 0]
    span_s = max(last - first for _, first, last in rows)
    for panel, (clip, first, last) in zip(panels, rows, strict=True):
        _bars(panel, [m for m in motifs if m.clip == clip.id], first, last, span_s, 1.0, 0.9, colours)
        _bars(panel, [a for a in atoms if a.clip == clip.id], first, last, span_s, 0.35, 0.5, None)
        panel.set(xlim=(first, first + span_s), ylim=(0.05, 1.5), yticks=(0.35, 1.0))
        panel.set_yticklabels(["Atoms\n(code)", "Motifs\n(codes)"], fontsize=8)
        panel.set_title(f"{clip.id} · {clip.subject}", fontsize=9, loc="left")
        panel.spines[["top", "right", "left"]].set_visible(False)
    panels[-1].set_xlabel("time on the recording's clock (s)")
    hidden = len(clips) - len({clip.id for clip, _, _ in rows})
    note = f" (first {_MAX_CLIPS} of {len(clips)} clips)" if hidden else ""
    figure.suptitle(f"Action Motifs and Action Atoms{note}; grey: not among the most used", fontsize=10)
    _save(figure, path)


def _bars(
    panel: Any,
    segments: Sequence[Segment],
    first: float,
    last: float,
    span_s: float,
    centre: float,
    height: float,
    colours: dict[int, str] | None,
) -> None:
    """Bars of the segments that begin before `last` and end after `first`, with their codes where they fit."""
    from model.discover import type_name

    for s in segments:
        start, end = max(s.start_s, first), min(s.end_s, last)
        if end <= start:
            continue
        colour = "white" if colours is None else colours.get(s.type, _OTHER)
        panel.barh(centre, end - start, height, start, color=colour, edgecolor=_INK, linewidth=0.6)
        text = type_name(s.codes)
        # about 140 letters of this size fit in the width of the panel
        if len(text) <= 140 * (end - start) / span_s:
            ink = "white" if colour in ("#0072B2", "#D55E00", "#009E73") else _INK
            panel.text((start + end) / 2, centre, text, ha="center", va="center", fontsize=7, color=ink)


def draw_strip(path: Path, dataset: AmdDataset, occurrences: Sequence[Segment], use: MotifUse) -> None:
    """Occurrences of a Motif as rows of stick figures, evenly spaced in time, all at one scale."""
    chosen = [occurrences[i] for i in np.unique(np.linspace(0, len(occurrences) - 1, _MAX_OCCURRENCES).astype(int))]
    figure = _new_figure(10.0, 0.7 + 1.9 * len(chosen))
    panels = figure.subplots(len(chosen), 1, squeeze=False)[:, 0]
    for panel, occurrence in zip(panels, chosen, strict=True):
        _figures(panel, dataset, occurrence)
    actions = ", ".join(f"{name} {share:.0%}" for name, share in list(use.actions.items())[:3])
    people = f"{use.subjects} {'person' if use.subjects == 1 else 'people'}"
    times = "once" if use.occurrences == 1 else f"{use.occurrences} times"
    figure.suptitle(
        f"Motif {use.name}: {times}, {use.total_s:.1f} s in all, {people}"
        + (f"; {actions}" if actions else "")
        + "\nblue: left limbs, orange: right limbs, black: trunk; heights in m of the body scaled to a 0.8 m leg",
        fontsize=9,
    )
    _save(figure, path)


def _figures(panel: Any, dataset: AmdDataset, occurrence: Segment) -> None:
    """Poses of one occurrence in a row."""
    info = dataset[occurrence.clip]
    rate = float(info.frame_rate)
    first = int(np.clip(round((occurrence.start_s - info.start_s) * rate), 0, info.num_frames - 1))
    last = int(np.clip(round((occurrence.end_s - info.start_s) * rate), first + 1, info.num_frames))
    motion = dataset.motion(info.id, first, last)
    joints = motion.local_joints()
    frames = np.linspace(0, len(joints) - 1, _NUM_POSES).round().astype(int)
    # heading frame: x forward, y left, z up; seen from the front, the left hand is on the right
    across = joints[..., 1] * np.cos(_AZIMUTH_RAD) + joints[..., 0] * np.sin(_AZIMUTH_RAD)
    ticks = np.arange(_NUM_POSES) * 1.25
    for place, frame in zip(ticks, frames, strict=True):
        if not motion.frame_valid[frame]:
            panel.text(place, 0.8, "no data", ha="center", fontsize=7, color=_INK)
            continue
        for a, b in _BONES:
            panel.plot(place + across[frame, [a, b]], joints[frame, [a, b], 2], color=_bone_colour(a, b), linewidth=1.6)
        head = SMPL_24.idx("head")
        panel.plot(place + across[frame, head], joints[frame, head, 2], "o", color=_INK, markersize=5)
    panel.set(xlim=(-0.8, ticks[-1] + 0.8), xticks=ticks, aspect="equal")
    panel.set_ylim(-0.05, max(1.75, float(np.nanmax(joints[..., 2])) + 0.1))
    panel.set_xticklabels([f"{occurrence.start_s + f / rate:.2f} s" for f in frames], fontsize=7)
    panel.set_ylabel("height (m)", fontsize=8)
    panel.tick_params(axis="y", labelsize=7)
    panel.axhline(0, color=_OTHER, linewidth=0.8, zorder=0)
    panel.set_title(f"{occurrence.clip} · {occurrence.subject}", fontsize=8, loc="left")
    panel.spines[["top", "right"]].set_visible(False)


def _bone_colour(a: int, b: int) -> str:
    child = SMPL_24.joints[b]
    if child.startswith("left_"):
        return _LEFT
    return _RIGHT if child.startswith("right_") else _INK
