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

from core.errors import InputError
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


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 2), min_size=4, max_size=40), st.integers(2, 9))
def test_settling_keeps_the_sequence_whole_and_the_rest_at_its_best(told: list[int], every: int) -> None:
    codes = np.array(told)
    patterns = find_patterns([codes], 3, CONFIG)
    stream, parts = CoverStream(patterns, CONFIG), []
    for number, code in enumerate(told):
        parts.append(stream.push(code))
        if number % every == every - 1:
            parts.append(stream.settle())
    done = stream.waiting_from
    starts, _ = joined(parts)
    assert starts == sorted(set(starts)) and (not starts or starts[0] == 0)
    rest, best = stream.end(), cover(codes[done:], patterns, CONFIG)
    assert (rest.starts - done).tolist() == best.starts.tolist() and rest.types.tolist() == best.types.tolist()
    assert len(stream.end().starts) == 0


@pytest.mark.parametrize("size", [1, 2, 3])
def test_motifs_of_a_fixed_size_come_one_by_one(size: int) -> None:
    codes, config = np.array([4, 4, 1, 2, 2, 0, 3]), dataclasses.replace(CONFIG, fixed_atoms=size)
    patterns = find_patterns([codes], 5, CONFIG)
    stream = CoverStream(patterns, config)
    parts = [stream.push(code) for code in codes.tolist()]
    whole = cover(codes, patterns, config)
    assert joined([*parts, stream.end()]) == (whole.starts.tolist(), whole.types.tolist())


def fed(run: TrainedRun, motion: Motion, piece: int, wait_s: float = 3.0) -> tuple[list[StreamAtom], list[StreamMotif]]:
    """Everything that a stream tells; frame by frame, nothing may come later than it promises."""
    stream = MotifStream(run, wait_s=wait_s)
    atoms: list[StreamAtom] = []
    motifs: list[StreamMotif] = []
    for start in range(0, len(motion), piece):
        found = stream.push(motion.part(start, min(start + piece, len(motion))))
        atoms += found.atoms
        motifs += found.motifs
        if piece == 1:
            now_s = start / motion.rate_hz
            assert all(now_s - atom.end_s <= stream.delay_s + 1e-9 for atom in found.atoms)
            for motif in found.motifs:
                assert now_s - atoms[motif.atoms[0]].end_s <= stream.motif_delay_s + 1e-9
    found = stream.end()
    return [*atoms, *found.atoms], [*motifs, *found.motifs]


@pytest.fixture(scope="module")
def trained(tiny_run: Path) -> TrainedRun:
    return load_run(tiny_run, torch.device("cpu"))


def test_a_stream_of_a_clip(people: Path, trained: TrainedRun) -> None:
    dataset = AmdDataset(people)
    clip = dataset.clips[0]
    motion = dataset.motion(clip.id)
    atoms, motifs = fed(trained, motion, 1)
    # in pieces of any size it is the same
    for piece in (13, len(motion)):
        assert fed(trained, motion, piece) == (atoms, motifs)
    # Atoms are those of the whole recording
    whole = trained.segment(dataset, (clip,))
    assert [atom.start_s for atom in atoms] == pytest.approx(whole.cuts_s[clip.id].tolist())
    assert all(a.end_s == b.start_s for a, b in itertools.pairwise(atoms))
    # Motifs lie end to end over all Atoms
    assert [m.atoms[0] for m in motifs] == [0, *(m.atoms[1] for m in motifs)][:-1]
    assert motifs[-1].atoms[1] == len(atoms)
    assert all(m.start_s == atoms[m.atoms[0]].start_s and m.end_s == atoms[m.atoms[1] - 1].end_s for m in motifs)
    # with time to wait they are the fewest patterns over the codes
    patient = fed(trained, motion, 50, wait_s=1e9)[1]
    best = cover(np.array([atom.code for atom in atoms]), trained.lexicon.patterns, trained.recipe.mining)
    assert [(m.atoms[0], m.type) for m in patient] == list(zip(best.starts.tolist(), best.types.tolist(), strict=True))


def test_who_stands_still_does_not_hold_back_what_was_before(people: Path, trained: TrainedRun) -> None:
    """After a movement nothing more happens for twenty seconds: its Motifs come when they must."""
    dataset = AmdDataset(people)
    motion = dataset.motion(dataset.clips[0].id).part(0, 240)
    last = motion.part(len(motion) - 1, len(motion))
    names = ("poses", "joints_m", "contacts", "joint_valid", "joint_sigma_m", "frame_valid")
    still = {n: np.concatenate([getattr(motion, n), np.repeat(getattr(last, n), 600, axis=0)]) for n in names}
    stream = MotifStream(trained, wait_s=2.0)
    told = 0
    longer = Motion(motion.rate_hz, motion.scale, **still)
    atoms: list[StreamAtom] = []
    for start in range(0, len(longer), 10):
        found = stream.push(longer.part(start, start + 10))
        atoms += found.atoms
        told = max([told, *(m.atoms[1] for m in found.motifs)])
    assert len(atoms) > 3 and told == len(atoms)


def test_pieces_of_another_rate_are_refused(people: Path, trained: TrainedRun) -> None:
    dataset = AmdDataset(people)
    motion = dataset.motion(dataset.clips[0].id)
    with pytest.raises(InputError, match=r"60 frames a second.*at 30.*resample"):
        MotifStream(trained).push(dataclasses.replace(motion, rate_hz=60.0))


def test_a_stream_of_nothing(trained: TrainedRun) -> None:
    assert MotifStream(trained).end() == Happened((), ())
