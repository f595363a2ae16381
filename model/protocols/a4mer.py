"""A4Mer as an encoder: segments are found in what may be seen, so that nothing hidden speaks through their borders.

Each part of a motion (see `Encoder.encode`) is cut into Atoms and Motifs by itself, and the velocities of its last
frame repeat their predecessors' instead of looking into the next part. Hidden parts keep their length alone: frames
behind them stand at their own times.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from core.arrays import Float, Int
from dataset.resample import Motion, resample
from model.a4mer import A4Mer, MotionBatch, Tokens
from model.atoms import atom_of_frames, cut_times
from model.codes import nearest_code
from model.covering import cover
from model.loading import TrainedRun
from model.masking import group_of_members
from model.protocols.encoders import SegmentTokens, part_edges


@dataclass(frozen=True, eq=False)
class _Grid:
    """A motion on the model's grid: features, and Atom and part of each frame (-1 where there is none)."""

    x: Float[np.ndarray, "frames features"]
    atom: Int[np.ndarray, "frames"]
    part: Int[np.ndarray, "frames"]


class A4MerEncoder:
    """The teacher of a run.

    Args:
        run: a training run past its mining.
        name: as tables call it.
        untrained: with first weights instead of the run's, but the same segments: the control.
        batch_size: motions that are encoded together.
    """

    def __init__(self, run: TrainedRun, name: str = "A4Mer", *, untrained: bool = False, batch_size: int = 64) -> None:
        self.name, self.batch_size = name, batch_size
        self.run, self.device = run, run.device
        self.segmenter = run.lexicon.segmenting_model(run.recipe.model).to(run.device)
        self.model = first_weights(run) if untrained else run.model
        self._covers: dict[bytes, np.ndarray] = {}

    @torch.no_grad()
    def encode(
        self, motions: Sequence[Motion], borders_s: tuple[float, ...] = (), hidden: int | None = None
    ) -> Mapping[str, list[SegmentTokens]]:
        """See `Encoder`; levels `frames` (in their Atom), `local` (Atoms by themselves), `atoms` and `motifs`."""
        found: dict[str, list[SegmentTokens]] = {"frames": [], "local": [], "atoms": [], "motifs": []}
        for i in range(0, len(motions), self.batch_size):
            batch = self.batch_of(motions[i : i + self.batch_size], borders_s, hidden)
            atoms, motifs = self.model.encode(batch.to(self.run.device))
            assert motifs is not None and batch.motif is not None
            assert atoms.local is not None and atoms.members is not None
            local = dataclasses.replace(atoms, z=atoms.local)
            motif_BT = group_of_members(batch.motif, batch.atom)
            levels = (("local", local, batch.atom), ("atoms", atoms, batch.atom), ("motifs", motifs, motif_BT))
            rate_hz = self.run.recipe.data.rate_hz
            found["frames"] += _frames(atoms.members, batch.atom.numpy() >= 0, rate_hz)
            for level, tokens, segment_BT in levels:
                found[level] += _rows(tokens, segment_BT.numpy(), rate_hz)
        return found

    @torch.no_grad()
    def batch_of(
        self, motions: Sequence[Motion], borders_s: tuple[float, ...] = (), hidden: int | None = None
    ) -> MotionBatch:
        """Motions as the network takes them, with their Atoms and Motifs; arguments as in `encode`."""
        grids = [self._grid(motion, borders_s, hidden) for motion in motions]
        return self._with_motifs(_padded(grids), grids)

    def _grid(self, motion: Motion, borders_s: tuple[float, ...], hidden: int | None) -> _Grid:
        data = self.run.recipe.data
        x, atom, part = [], [], []
        num_atoms = 0
        for number, edges in enumerate(part_edges(motion, borders_s)):
            seen = resample(motion.part(*edges), data.rate_hz)
            features = seen.features()
            known = seen.frame_valid & np.isfinite(features).all(axis=1) & (number != hidden)
            cuts_s = np.zeros(1) if number == hidden else self._cuts(motion.part(*edges))
            of_frame = num_atoms + atom_of_frames(cuts_s, 0.0, data.rate_hz, len(seen))
            x.append(np.where(known[:, None], features, np.float32(0.0)))
            atom.append(np.where(known, of_frame, -1))
            part.append(np.full(len(seen), number))
            num_atoms = max(num_atoms, int(of_frame[-1]) + 1)
        return _Grid(np.concatenate(x), np.concatenate(atom), np.concatenate(part))

    def _cuts(self, part: Motion) -> np.ndarray:
        data = self.run.recipe.data
        fine = resample(part, data.atom_rate_hz)
        joints_m = np.where(fine.frame_valid[:, None, None], fine.local_joints(), np.nan)
        valid = np.asarray(np.isfinite(joints_m).all(axis=-1))
        return cut_times(joints_m, valid, data.atom_rate_hz, data.rate_hz, self.run.recipe.atoms)

    def _with_motifs(self, batch: MotionBatch, grids: Sequence[_Grid]) -> MotionBatch:
        """The batch with the Motifs of each part, by the run's lexicon."""
        tokens = self.segmenter.encode(batch.to(self.run.device))[0]
        code_BK = np.full(tokens.exists.shape, -1, dtype=np.int64)
        exists = tokens.exists.cpu().numpy()
        code_BK[exists] = nearest_code(tokens.z[tokens.exists].cpu().numpy(), self.run.lexicon.centroids)[0]
        motif_BK = np.stack([self._motifs(code, grid) for code, grid in zip(code_BK, grids, strict=True)])
        return dataclasses.replace(batch, motif=torch.from_numpy(motif_BK))

    def _motifs(self, code_K: np.ndarray, grid: _Grid) -> np.ndarray:
        motif_K = np.full(len(code_K), -1, dtype=np.int64)
        first = 0
        for part in np.unique(grid.part):
            atoms = np.unique(grid.atom[(grid.part == part) & (grid.atom >= 0)])
            if len(atoms):
                starts = self._starts(code_K[atoms])
                motif_K[atoms] = first + np.searchsorted(starts, np.arange(len(atoms)), side="right") - 1
                first += len(starts)
        return motif_K

    def _starts(self, codes: np.ndarray) -> np.ndarray:
        """First Atoms of the Motifs; overlapping windows ask for the same codes again and again."""
        key = codes.tobytes()
        if key not in self._covers:
            self._covers[key] = cover(codes, self.run.lexicon.patterns, self.run.recipe.mining).starts
        return self._covers[key]


def first_weights(run: TrainedRun) -> A4Mer:
    """The run's network before its first step, with the run's statistics of the input."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.recipe.seed)
        model = A4Mer(run.recipe.model).to(run.device).eval()
    model.set_statistics(run.model.feature_mean, run.model.feature_scale)
    return model


def _padded(grids: Sequence[_Grid]) -> MotionBatch:
    longest = max(len(grid.x) for grid in grids)
    x = np.zeros((len(grids), longest, grids[0].x.shape[1]), dtype=np.float32)
    atom = np.full((len(grids), longest), -1, dtype=np.int64)
    for row, grid in enumerate(grids):
        x[row, : len(grid.x)], atom[row, : len(grid.x)] = grid.x, grid.atom
    return MotionBatch(torch.from_numpy(x), torch.from_numpy(atom))


def _frames(z_BTD: torch.Tensor, exists_BT: np.ndarray, rate_hz: float) -> list[SegmentTokens]:
    """Tokens of the frames of each motion that exist, each as long as a frame lasts."""
    found = []
    for z, exists in zip(z_BTD.cpu().numpy(), exists_BT, strict=True):
        at = np.flatnonzero(exists)
        found.append(SegmentTokens(z[at], at / rate_hz, (at + 1) / rate_hz))
    return found


def _rows(tokens: Tokens, segment_BT: np.ndarray, rate_hz: float) -> list[SegmentTokens]:
    """Tokens of each motion that exist, with their times."""
    found = []
    for z, exists, segment in zip(tokens.z.cpu().numpy(), tokens.exists.cpu().numpy(), segment_BT, strict=True):
        at = np.flatnonzero(exists)
        frames = segment == at[:, None]
        stop = frames.shape[1] - frames[:, ::-1].argmax(axis=1)
        found.append(SegmentTokens(z[at], frames.argmax(axis=1) / rate_hz, stop / rate_hz))
    return found
