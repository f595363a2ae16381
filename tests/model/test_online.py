"""Codes and Motifs of a stream against those of the whole: covers exactly, cuts exactly, delays kept."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset.resample import Motion
from dataset.shards import AmdDataset
from model.covering import Cover, cover
from model.loading import TrainedRun, load_run
from model.mining import MiningConfig, find_patterns
from model.online import CoverStream, Happened, MotifStream, StreamAtom, StreamMotif

CONFIG = MiningConfig(max_length=6, count_short=2.0, count_long=1.0, max_distance=2.0)


def joined(parts: list[Cover]) -> tuple[list[int], list[int]]:
    return [int(s) for p in parts for s in p.starts], [int(t) for p in parts for t in p.types]


@settings(max_examples=150, deadline=None)
@given(st.integers(2, 5), st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(0, 2**16))
def test_codes_one_by_one_are_covered_as_the_whole(num_codes: int, told: list[int], seed: int) -> None:
    codes = np.array(told) % num_codes
    rng = np.random.default_rng(seed)
    patterns = find_patterns([codes, rng.permutation(codes)], num_codes, CONFIG)
    stream = CoverStream(patterns, CONFIG)
    parts = [stream.push(int(code)) for code in codes]
    assert all(len(p.starts) == 0 or p.starts[-1] <= n for n, p in enumerate(parts))
    whole = cover(codes, patterns, CONFIG)
    assert joined([*parts, stream.end()]) == (whole.starts.tolist(), whole.types.tolist())


def test_a_code_of_no_pattern_makes_certain_what_was_before_it() -> None:
    codes = np.array([*[0, 1, 2] * 4, 3, *[0, 1, 2] * 4])
    exact = dataclasses.replace(CONFIG, max_distance=0.0)
    stream = CoverStream(find_patterns([codes], 4, exact), exact)
    certain = []
    for code in codes.tolist():
        stream.push(code)
        certain.append(stream.waiting_from)
    # a pattern of six could still begin before the code until six others have come
    assert certain[11] == 0 and certain[18] >= 13


def test_settling_decides_on_one_motif_and_keeps_the_sequence_whole() -> None:
    codes = np.array([0, 1, 2, 0, 1, 2, 3, 3])
    stream = CoverStream(find_patterns([codes], 4, CONFIG), CONFIG)
    parts = []
    for code in codes.tolist():
        parts += [stream.push(code), stream.settle()]
    starts, types = joined([*parts, stream.end()])
    assert starts == list(range(8)) and types == codes.tolist()
    assert len(stream.end().starts) == 0


def fed(run: TrainedRun, motion: Motion, piece: int) -> tuple[list[StreamAtom], list[StreamMotif], float]:
    """Everything that a stream tells, and how late a code was at the latest, seconds after the Atom's end."""
    stream = MotifStream(run, motion.rate_hz, wait_s=3.0)
    atoms: list[StreamAtom] = []
    motifs: list[StreamMotif] = []
    latest = 0.0

    def take(found: Happened) -> None:
        atoms.extend(found.atoms)
        motifs.extend(found.motifs)

    for start in range(0, len(motion), piece):
        found = stream.push(motion.part(start, min(start + piece, len(motion))))
        take(found)
        latest = max([latest, *(start / motion.rate_hz - atom.end_s for atom in found.atoms)])
        if piece == 1:
            assert all(atom.end_s + stream.delay_s >= start / motion.rate_hz - 1e-9 for atom in found.atoms)
    take(stream.end())
    return atoms, motifs, latest


def test_a_stream_of_a_clip(people: Path, tiny_run: Path) -> None:
    run, dataset = load_run(tiny_run, torch.device("cpu")), AmdDataset(people)
    clip = dataset.clips[0]
    motion = dataset.motion(clip.id)
    atoms, motifs, _ = fed(run, motion, 1)
    # in pieces of any size it is the same
    for piece in (13, len(motion)):
        assert fed(run, motion, piece)[:2] == (atoms, motifs)
    # Atoms are those of the whole recording
    whole = run.segment(dataset, (clip,))
    assert [atom.start_s for atom in atoms] == pytest.approx(whole.cuts_s[clip.id].tolist())
    assert all(a.end_s == b.start_s for a, b in itertools.pairwise(atoms))
    # Motifs lie end to end over all Atoms
    assert [m.atoms[0] for m in motifs] == [0, *(m.atoms[1] for m in motifs)][:-1]
    assert motifs[-1].atoms[1] == len(atoms)
    assert all(m.start_s == atoms[m.atoms[0]].start_s and m.end_s == atoms[m.atoms[1] - 1].end_s for m in motifs)


def test_a_stream_of_nothing(tiny_run: Path) -> None:
    assert MotifStream(load_run(tiny_run, torch.device("cpu")), 30.0).end() == Happened((), ())
