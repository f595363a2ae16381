"""Codes and Motifs of a stream: what has just been done, and as which known pattern, after a delay that is bounded.

Atoms come from `model.stream`. An Atom's code is known `context_s` after its end: its token is that of a window which
ends then, where the whole recording would have given it as much context on both sides. Motifs are those of the fewest
patterns over the codes (`model.covering`), each as soon as no later code can change it, or `wait_s` after its first
Atom's end in any case.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from core.arrays import Int
from core.errors import InputError
from dataset.resample import Motion, resample
from model.atoms import atom_of_frames
from model.codes import nearest_code
from model.covering import Cover
from model.loading import TrainedRun
from model.mining import MiningConfig, Patterns
from model.segments import MotionBatch
from model.stream import AtomStream


class CoverStream:
    """The cover of a sequence whose codes come one by one; without `settle` it is that of the whole sequence.

    Args:
        patterns: of the lexicon.
        config: how they are matched.
    """

    def __init__(self, patterns: Patterns, config: MiningConfig) -> None:
        self._patterns, self._config = patterns, config
        self._first = 0  # Atom of the sequence that the waiting ones begin with
        self._codes: list[int] = []
        self._restart()

    @property
    def waiting_from(self) -> int:
        """The first Atom whose Motif is not known yet."""
        return self._first

    def push(self, code: int) -> Cover:
        """Takes the next code; returns the Motifs that are now certain."""
        self._extend(code)
        if (fixed := self._config.fixed_atoms) > 0:
            return self._commit(len(self._codes) if len(self._codes) == fixed else 0)
        return self._commit(self._common())

    def settle(self) -> Cover:
        """Decides on the first of the waiting Motifs as things stand; codes to come may have made it another."""
        path = self._path(len(self._codes))
        return self._commit(path[1]) if len(path) > 1 else self._commit(0)

    def end(self) -> Cover:
        """The sequence is over: the Motifs that were still waiting."""
        return self._commit(len(self._codes))

    def _restart(self) -> None:
        self._best, self._previous, self._type = [(0, 0)], [0], [0]
        codes, self._codes = self._codes, []
        for code in codes:
            self._extend(code)

    def _extend(self, code: int) -> None:
        """One step of the dynamic program: the best cover that ends behind this Atom (motifs, then mismatches)."""
        self._codes.append(code)
        end = len(self._codes)
        if self._config.fixed_atoms > 0:
            self._best.append((1, 0))
            self._previous.append(0)
            self._type.append(self._codes[0])
            return
        begin = min(range(self._run_start(), end), key=self._best.__getitem__)
        options = [(_plus(self._best[begin], 0), begin, code)]
        for length, known in self._patterns.by_length.items():
            if length <= end and len(known):
                wrong = (known != np.array(self._codes[end - length :])).sum(axis=1)
                nearest = int(wrong.argmin())
                if wrong[nearest] <= self._config.tolerance(length):
                    motif_type = self._patterns.first_type[length] + nearest
                    options.append((_plus(self._best[end - length], int(wrong[nearest])), end - length, motif_type))
        best, start, motif_type = min(options)
        self._best.append(best)
        self._previous.append(start)
        self._type.append(motif_type)

    def _run_start(self) -> int:
        """First Atom of the run of one code that the last one belongs to."""
        start = len(self._codes) - 1
        while start > 0 and self._codes[start - 1] == self._codes[-1]:
            start -= 1
        return start

    def _path(self, end: int) -> list[int]:
        """Borders of the best cover up to `end`, from 0 on."""
        borders = [end]
        while borders[-1] > 0:
            borders.append(self._previous[borders[-1]])
        return borders[::-1]

    def _common(self) -> int:
        """The last border that is on the way to every place where a later pattern, or this run, may begin."""
        end = len(self._codes)
        longest = max(self._patterns.by_length, default=1)
        places = {*range(max(end - longest + 1, 0), end + 1), *range(self._run_start(), end + 1)}
        return max(set.intersection(*(set(self._path(place)) for place in places)))

    def _commit(self, border: int) -> Cover:
        """The Motifs before a border; what follows waits on."""
        borders = self._path(border)
        found = Cover(
            np.array([self._first + b for b in borders[:-1]], dtype=np.int64),
            np.array([self._type[b] for b in borders[1:]], dtype=np.int64),
        )
        if border > 0:
            self._first += border
            self._codes = self._codes[border:]
            self._restart()
        return found


def _plus(best: tuple[int, int], mismatches: int) -> tuple[int, int]:
    return best[0] + 1, best[1] + mismatches


@dataclass(frozen=True)
class StreamAtom:
    """An Atom of a stream: when it was, seconds from the first frame, and its code."""

    start_s: float
    end_s: float
    code: int


@dataclass(frozen=True)
class StreamMotif:
    """A Motif of a stream: when it was, its type (see `Patterns`), and its first Atom and the one behind its last."""

    start_s: float
    end_s: float
    type: int
    atoms: tuple[int, int]


@dataclass(frozen=True)
class Happened:
    """What has become certain with the last frames."""

    atoms: tuple[StreamAtom, ...]
    motifs: tuple[StreamMotif, ...]


class MotifStream:
    """Atoms, codes and Motifs of a stream of fitted bodies; feed it pieces of any size, and end it.

    Args:
        run: a training run past its mining. Pieces come at its `data.atom_rate_hz` (30 frames a second).
        context_s: how much of what follows an Atom is waited for before its token is taken.
        wait_s: how long after an Atom's end its Motif is decided on at the latest.

    Raises:
        InputError: if the run's Atom rule needs the whole recording.
    """

    def __init__(self, run: TrainedRun, *, context_s: float = 1.0, wait_s: float = 10.0) -> None:
        self._run, self._rate_hz, self._wait_s = run, run.recipe.data.atom_rate_hz, wait_s
        self._cutter = AtomStream(self._rate_hz, run.recipe.data.rate_hz, run.recipe.atoms)
        self._context_s = max(context_s, self._cutter.delay_s)
        self._cover = CoverStream(run.lexicon.patterns, run.recipe.mining)
        self._segmenter = run.lexicon.segmenting_model(run.recipe.model).to(run.device)
        self._kept: Motion | None = None
        self._first = 0  # frame of the stream that the kept ones begin with
        self._cuts: list[float] = []
        self._atoms: list[StreamAtom] = []

    @property
    def delay_s(self) -> float:
        """Longest time from an Atom's end until its code is known."""
        return self._context_s + 1 / self._rate_hz

    @property
    def motif_delay_s(self) -> float:
        """Longest time from the end of an Atom until its Motif is known."""
        return max(self._wait_s, self._context_s) + 1 / self._rate_hz

    def push(self, motion: Motion) -> Happened:
        """Takes the next frames; returns what has become certain.

        Raises:
            InputError: if they are of another rate.
        """
        if abs(motion.rate_hz - self._rate_hz) > 1e-6:
            problem = f"{motion.rate_hz:g} frames a second where the run finds Atoms at {self._rate_hz:g}"
            raise InputError("stream", problem, "resample it first: `dataset.resample.resample`")
        self._kept = motion if self._kept is None else _joined(self._kept, motion)
        valid = motion.frame_valid[:, None] & np.isfinite(motion.local_joints()).all(axis=2)
        self._cuts += self._cutter.push(motion.local_joints(), valid)
        return self._happened(over=False)

    def end(self) -> Happened:
        """The stream is over: what was still uncertain."""
        self._cuts += self._cutter.end()
        return self._happened(over=True)

    def _happened(self, *, over: bool) -> Happened:
        if self._kept is None:
            return Happened((), ())
        seen_s = (self._first + len(self._kept) - 1) / self._rate_hz
        ends = [*self._cuts[1:], seen_s] if over else self._cuts[1:]
        atoms: list[StreamAtom] = []
        motifs: list[StreamMotif] = []
        for number in range(len(self._atoms), len(ends)):
            known_s = ends[number] + self._context_s
            if not over and known_s > seen_s:
                break
            # in the order in which things happen, so that the size of the pieces does not matter
            motifs += self._overdue(min(known_s, seen_s))
            atom = self._coded(number, ends[number], seen_s)
            self._atoms.append(atom)
            atoms.append(atom)
            motifs += self._timed(self._cover.push(atom.code))
        motifs += self._overdue(seen_s)
        if over:
            motifs += self._timed(self._cover.end())
        self._forget(seen_s)
        return Happened(tuple(atoms), tuple(motifs))

    def _overdue(self, now_s: float) -> list[StreamMotif]:
        """Motifs of Atoms that have waited for `wait_s`."""
        motifs: list[StreamMotif] = []
        while (first := self._cover.waiting_from) < len(self._atoms):
            if self._atoms[first].end_s + self._wait_s > now_s:
                break
            motifs += self._timed(self._cover.settle())
        return motifs

    def _coded(self, number: int, end_s: float, seen_s: float) -> StreamAtom:
        """An Atom's code from the window that ends `context_s` after it, with what was certain of Atoms then."""
        assert self._kept is not None
        data, start_s = self._run.recipe.data, self._cuts[number]
        until_s = min(end_s + self._context_s, seen_s)
        last = int(until_s * data.rate_hz + 1e-6)
        first = max(last + 1 - round(data.window_s * data.rate_hz), 0)
        offset = first / data.rate_hz * self._rate_hz - self._first
        seen = resample(self._kept, data.rate_hz, offset, last - first + 1)
        features = seen.features()
        known = seen.frame_valid & np.isfinite(features).all(axis=1)
        certain = [cut for cut in self._cuts if cut <= max(end_s, until_s - self._cutter.delay_s)]
        atom = atom_of_frames(np.array(certain), first / data.rate_hz, data.rate_hz, len(seen))
        atom = np.where(known, atom - atom[0], -1)
        batch = MotionBatch(
            torch.from_numpy(np.where(known[:, None], features, np.float32(0.0)))[None], torch.from_numpy(atom)[None]
        )
        tokens = self._segmenter.encode(batch.to(self._run.device))[0]
        place = number - int(atom_of_frames(np.array(certain), first / data.rate_hz, data.rate_hz, 1)[0])
        # an Atom without a valid frame has no token: zeros stand for it, as in the whole recording
        token = np.zeros((1, tokens.z.shape[-1]), dtype=np.float32)
        if place < tokens.z.shape[1] and tokens.exists[0, place]:
            token[0] = tokens.z[0, place].cpu().numpy()
        code = nearest_code(token, self._run.lexicon.centroids)[0]
        return StreamAtom(start_s, end_s, int(code[0]))

    def _timed(self, found: Cover) -> list[StreamMotif]:
        """Motifs with the times of their Atoms."""
        stops: Int[np.ndarray, "motifs"] = np.append(found.starts[1:], self._cover.waiting_from)[: len(found.starts)]
        return [
            StreamMotif(self._atoms[a].start_s, self._atoms[b - 1].end_s, int(t), (int(a), int(b)))
            for a, b, t in zip(found.starts.tolist(), stops.tolist(), found.types.tolist(), strict=True)
        ]

    def _forget(self, seen_s: float) -> None:
        """Frames before every window to come: those of the next Atom's window begin at most a window before now."""
        assert self._kept is not None
        keep_s = self._run.recipe.data.window_s + self._cutter.delay_s + self._context_s + 1.0
        surplus = int((seen_s - keep_s) * self._rate_hz) - self._first
        if surplus > 0:
            self._kept = self._kept.part(surplus, len(self._kept))
            self._first += surplus


def _joined(first: Motion, second: Motion) -> Motion:
    names = ("poses", "joints_m", "contacts", "joint_valid", "joint_sigma_m", "frame_valid")
    parts = {name: np.concatenate([getattr(first, name), getattr(second, name)]) for name in names}
    return Motion(first.rate_hz, first.scale, **parts)
