"""From clips to batches: Atoms of every clip, windows with their segments, tokens of whole clips.

Segments are found once for a clip and are the same in every window; a window's edge cuts the segments that cross it.
Whole clips are encoded in half-overlapping windows, and each segment's token is taken from the window that holds most
of it (the most central one among equals).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from core.arrays import Float, Int
from core.errors import InputError
from dataset.features import LAYOUT, FeatureStats
from dataset.loader import WindowReader, WindowRef, collate, local_joints_at, window_refs
from dataset.resample import num_instants
from dataset.schema import ClipInfo
from dataset.shards import AmdDataset
from model.a4mer import A4Mer
from model.atoms import AtomConfig, atom_of_frames, cut_times
from model.segments import MotionBatch, Tokens

Inputs = Literal["channels", "parts", "motion"]


@dataclass(frozen=True)
class DataConfig:
    """What a training window is.

    Attributes:
        window_s: its length, seconds.
        rate_hz: frames a second that the network sees.
        atom_rate_hz: frames a second that Atoms are found on.
        cache_mb: memory for decoded clips.
        inputs: what the network sees of a frame, and in which units: `channels`, each by its own deviation, as in the
            paper; `parts`, each by that of its part (positions, velocities and so on); `motion`, the same of how the
            body lies and moves alone, without contacts and rotations.
    """

    window_s: float = 30.0
    rate_hz: float = 5.0
    atom_rate_hz: float = 30.0
    cache_mb: int = 512
    inputs: Inputs = "channels"


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Segments of every clip, by clip id.

    Attributes:
        cuts_s: times at which Atoms begin, seconds from the clip's first frame.
        motif: Motif that each Atom belongs to, counted from 0 in its clip; empty before mining.
        types: type number of each Motif (see `mining.Patterns`); empty before mining.
        codes: code of each Atom; empty before mining.
    """

    cuts_s: Mapping[str, np.ndarray]
    motif: Mapping[str, np.ndarray]
    types: Mapping[str, np.ndarray]
    codes: Mapping[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class ClipTokens:
    """Tokens of a whole clip; `motifs` is empty before mining."""

    atoms: Float[np.ndarray, "atoms width"]
    motifs: Float[np.ndarray, "motifs width"]


def input_statistics(dataset: AmdDataset, inputs: Inputs) -> FeatureStats:
    """What frame vectors are normalised by."""
    stats = dataset.stats()
    if inputs == "channels":
        return stats
    kept = ("yaw_rate", "root_velocity", "positions", "velocities") if inputs == "motion" else tuple(LAYOUT.parts)
    return stats.by_part(kept)


def find_atoms(dataset: AmdDataset, clips: Sequence[ClipInfo], data: DataConfig, config: AtomConfig) -> Segmentation:
    """Atoms of clips by Eq. A, on their joints at `atom_rate_hz`.

    Raises:
        InputError: if a clip is too short to be a sequence.
    """
    cuts = {}
    for clip in clips:
        if clip.duration_s * data.rate_hz < 2:
            problem = f"{clip.duration_s:.2f} s is less than two frames at {data.rate_hz} Hz"
            raise InputError(f"clip {clip.id}", problem, "leave it out of the dataset")
        joints_m = local_joints_at(dataset, clip.id, data.atom_rate_hz)
        valid = np.isfinite(joints_m).all(axis=-1)
        cuts[clip.id] = cut_times(joints_m, valid, data.atom_rate_hz, data.rate_hz, config)
    return Segmentation(cuts, {}, {}, {})


def make_batch(
    windows: Mapping[str, np.ndarray], clips: Sequence[ClipInfo], segmentation: Segmentation, rate_hz: float
) -> tuple[MotionBatch, Int[np.ndarray, "windows"]]:
    """A batch of windows with their segments, and the first Atom (of the clip) of each window.

    Args:
        windows: stacked arrays of `dataset.loader.WindowReader.read`.
        clips: the dataset's index, which `clip_idx` points into.
        segmentation: segments of all clips that occur.
        rate_hz: rate of the windows.
    """
    num_frames = windows["valid"].shape[1]
    ids = [clips[int(i)].id for i in windows["clip_idx"]]
    places = zip(ids, windows["start_s"].tolist(), windows["tempo"].tolist(), strict=True)
    frames = [
        atom_of_frames((segmentation.cuts_s[c] - start_s) / tempo, 0.0, rate_hz, num_frames)
        for c, start_s, tempo in places
    ]
    first_B = np.array([row[0] for row in frames])
    # played fast, a window may have no frame of an Atom: those that have one are counted from 0
    found = [np.unique(row, return_inverse=True) for row in frames]
    local_BT = np.where(windows["valid"], np.stack([local for _, local in found]), -1)
    motif = None
    if segmentation.motif:
        motif_BK = np.full((len(ids), max(int(local_BT.max()) + 1, 1)), -1, dtype=np.int64)
        for row, (clip_id, (atoms, _)) in enumerate(zip(ids, found, strict=True)):
            number = int(local_BT[row].max()) + 1
            of_atoms = np.unique(segmentation.motif[clip_id][atoms[:number]], return_inverse=True)[1]
            motif_BK[row, :number] = of_atoms
        motif = torch.from_numpy(motif_BK)
    measured, sigma_m = (torch.from_numpy(windows[name]) for name in ("joint_valid", "joint_sigma_m"))
    x = torch.from_numpy(windows["features"])
    return MotionBatch(x, torch.from_numpy(local_BT), motif, measured, sigma_m), first_B


def iterate_windows(
    dataset: AmdDataset, refs: Sequence[WindowRef], segmentation: Segmentation, data: DataConfig, batch_size: int
) -> Iterator[tuple[Sequence[WindowRef], MotionBatch, Int[np.ndarray, "windows"]]]:
    """Windows in order, in batches."""
    reader = WindowReader(dataset, data.window_s, data.rate_hz, data.cache_mb)
    for i in range(0, len(refs), batch_size):
        part = refs[i : i + batch_size]
        batch, first = make_batch(collate([reader.read(r) for r in part]), dataset.clips, segmentation, data.rate_hz)
        yield part, batch, first


def whole_windows(dataset: AmdDataset, split: str, window_s: float) -> list[WindowRef]:
    """Half-overlapping windows of a split that no clip's end cuts short, as in training; one of a shorter clip."""
    refs = window_refs(dataset, split, window_s, window_s / 2)
    ends_s = [dataset.clips[r.clip_idx].duration_s + 1e-6 for r in refs]
    return [r for r, end_s in zip(refs, ends_s, strict=True) if r.start_s == 0 or r.start_s + window_s <= end_s]


def encode_clips(
    model: A4Mer,
    dataset: AmdDataset,
    clips: Sequence[ClipInfo],
    segmentation: Segmentation,
    data: DataConfig,
    batch_size: int = 16,
) -> dict[str, ClipTokens]:
    """Tokens of every segment of clips, from the teacher."""
    device = model.feature_mean.device
    chosen = {clip.id for clip in clips}
    stride_s = max(round(data.window_s * data.rate_hz / 2), 1) / data.rate_hz
    refs = [r for r in window_refs(dataset, "all", data.window_s, stride_s) if r.clip_id in chosen]
    width = model.config.width
    atoms = {c: _Best(len(segmentation.cuts_s[c]), width) for c in chosen}
    motifs = {c: _Best(len(segmentation.types[c]) if segmentation.types else 0, width) for c in chosen}
    for part, batch, first in iterate_windows(dataset, refs, segmentation, data, batch_size):
        atom_tokens, motif_tokens = model.encode(batch.to(device))
        for row, (ref, first_atom) in enumerate(zip(part, first.tolist(), strict=True)):
            atoms[ref.clip_id].offer(atom_tokens, row, first_atom, batch.x.shape[1])
            if motif_tokens is not None:
                first_motif = int(segmentation.motif[ref.clip_id][first_atom])
                motifs[ref.clip_id].offer(motif_tokens, row, first_motif, batch.x.shape[1])
    return {clip.id: ClipTokens(atoms[clip.id].tokens, motifs[clip.id].tokens) for clip in clips}


class _Best:
    """Keeps, for each segment of a clip, the token of the window that holds most of it."""

    def __init__(self, number: int, width: int) -> None:
        self.tokens = np.zeros((number, width), dtype=np.float32)
        self._score = np.full(number, -np.inf)

    def offer(self, tokens: Tokens, row: int, first: int, num_frames: int) -> None:
        exists = tokens.exists[row].cpu().numpy()
        idx = first + np.flatnonzero(exists)
        off_centre = np.abs(tokens.time[row].cpu().numpy()[exists] - (num_frames - 1) / 2) / num_frames
        score = tokens.length[row].cpu().numpy()[exists] - off_centre
        better = score > self._score[idx]
        self._score[idx[better]] = score[better]
        self.tokens[idx[better]] = tokens.z[row].cpu().numpy()[exists][better]


def segment_frames(
    clip: ClipInfo, segmentation: Segmentation, rate_hz: float
) -> tuple[Int[np.ndarray, "frames"], Int[np.ndarray, "frames"] | None]:
    """Atom and Motif of each frame of a clip on the model's grid; no Motif before mining."""
    num_frames = num_instants(clip.num_frames, clip.frame_rate, rate_hz)
    atom = atom_of_frames(segmentation.cuts_s[clip.id], 0.0, rate_hz, num_frames)
    return atom, segmentation.motif[clip.id][atom] if segmentation.motif else None
