"""Scores of segmentations on sequences worked out by hand, and the protocol on sessions of made people."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stick_person import stick_clip

from core.errors import InputError
from dataset.shards import AmdDataset
from dataset.stitching import StitchConfig
from model.protocols.encoders import SegmentTokens
from model.protocols.probes import standardised
from model.protocols.ridge import RidgePath
from model.protocols.segmentation import (
    PIECE_S,
    Sessions,
    _labels,
    edit_score,
    f1_of_segments,
    frame_vectors,
    load_sessions,
    segmentation_rows,
    segments,
)


def runs(*parts: tuple[int, int]) -> np.ndarray:
    return np.concatenate([np.full(count, name) for name, count in parts])


def test_segments() -> None:
    name, first, stop = segments(runs((2, 3), (0, 1), (2, 4)))
    assert name.tolist() == [2, 0, 2] and first.tolist() == [0, 3, 4] and stop.tolist() == [3, 4, 8]


def test_edit_score_by_hand() -> None:
    truth = runs((0, 10), (1, 10), (2, 10))
    assert edit_score(truth, truth) == 1.0
    assert edit_score(runs((0, 1), (1, 28), (2, 1)), truth) == 1.0  # lengths do not matter
    assert edit_score(runs((0, 15), (2, 15)), truth) == pytest.approx(1 - 1 / 3)
    assert edit_score(runs((0, 5), (1, 1), (0, 4), (1, 10), (2, 10)), truth) == pytest.approx(1 - 2 / 5)
    assert edit_score(runs((3, 30)), truth) == 0.0


def levenshtein(a: list[int], b: list[int]) -> int:
    table = np.zeros((len(a) + 1, len(b) + 1), dtype=int)
    table[:, 0], table[0] = np.arange(len(a) + 1), np.arange(len(b) + 1)
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            table[i + 1, j + 1] = min(table[i, j + 1] + 1, table[i + 1, j] + 1, table[i, j] + (x != y))
    return int(table[-1, -1])


@given(*[st.lists(st.integers(0, 3), min_size=1, max_size=12)] * 2)
def test_edit_score_is_that_of_the_table(a: list[int], b: list[int]) -> None:
    x, y = segments(np.array(a))[0].tolist(), segments(np.array(b))[0].tolist()
    assert edit_score(np.array(a), np.array(b)) == pytest.approx(1 - levenshtein(x, y) / max(len(x), len(y)))


def test_f1_by_hand() -> None:
    truth = runs((0, 10), (1, 10))
    told = runs((0, 14), (1, 6))  # intersections over unions: 10 / 14 and 6 / 10
    assert f1_of_segments([told], [truth], 0.5) == 1.0
    assert f1_of_segments([told], [truth], 0.65) == pytest.approx(0.5)
    # two pieces of one true segment: only one of them may count, and each reaches 4 / 10
    split = runs((0, 4), (2, 2), (0, 4), (1, 10))
    assert f1_of_segments([split], [truth], 0.4) == pytest.approx(2 * 2 / (2 * 2 + 2))
    assert f1_of_segments([split, truth], [truth, truth], 0.5) == pytest.approx(2 * 3 / (2 * 3 + 3 + 1))
    assert f1_of_segments([runs((3, 20))], [truth], 0.1) == 0.0


class Clock:
    """Tokens of half a second that tell when they begin."""

    name = "clock"

    def encode(self, motions, borders_s=(), hidden=None):  # type: ignore[no-untyped-def]
        found = []
        for motion in motions:
            start_s = np.arange(0.0, len(motion) / motion.rate_hz, 0.5)
            found.append(SegmentTokens(start_s[:, None], start_s, start_s + 0.5))
        return {"steps": found}


def test_each_frame_reads_the_token_over_it(people: Path) -> None:
    dataset = AmdDataset(people)
    sessions = load_sessions(dataset, ["p0", "p2", "p3"], StitchConfig(session_s=25.0, min_piece_s=0.5))
    session = max(sessions.sessions, key=lambda s: len(s.label))
    x = frame_vectors(Clock(), session.motion, len(session.label))
    t_s = (np.arange(len(session.label)) + 0.5) / 5.0
    # the last piece may be longer than the others, by less than a second
    piece = np.minimum(t_s // PIECE_S, max((len(session.motion) / session.motion.rate_hz - 1) // PIECE_S, 0))
    assert np.allclose(x[:, 0], np.floor((t_s - piece * PIECE_S) / 0.5 + 1e-6) * 0.5)


def test_people_who_do_what_others_do_are_segmented(people: Path) -> None:
    dataset = AmdDataset(people)
    sessions = load_sessions(dataset, ["p0", "p2", "p3"], StitchConfig(session_s=20.0, min_piece_s=0.5))
    assert {s.group for s in sessions.sessions} == {0, 1, 2} and len(sessions.classes) > 2
    rows = segmentation_rows(None, sessions, 1)
    chance = max(np.mean(np.concatenate([s.label for s in sessions.sessions]) == c) for c in range(4))
    assert rows["frames"]["accuracy"] > chance + 0.1
    assert rows["F1@10"]["accuracy"] >= rows["F1@25"]["accuracy"] >= rows["F1@50"]["accuracy"] > 0
    with pytest.raises(InputError, match="p9"):
        load_sessions(dataset, ["p0", "p9"])


def test_frames_without_an_action_take_no_part(people: Path) -> None:
    sessions = load_sessions(AmdDataset(people), ["p0", "p2", "p3"], StitchConfig(session_s=20.0, min_piece_s=0.5))
    silent = [
        dataclasses.replace(s, label=np.where(np.arange(len(s.label)) % 2, s.label, -1)) for s in sessions.sessions
    ]
    rows = segmentation_rows(None, Sessions(tuple(silent), sessions.classes), 1)
    # the same as sessions that never had these frames
    x = [frame_vectors(None, s.motion, len(s.label))[1::2] for s in sessions.sessions]
    learn, judge = ([i for i, s in enumerate(sessions.sessions) if (s.group == 1) == side] for side in (False, True))
    train, *others = standardised(np.concatenate([x[i] for i in learn]), *(x[i] for i in judge))
    label = np.concatenate([sessions.sessions[i].label[1::2] for i in learn])
    told = [RidgePath(train, np.eye(len(sessions.classes))[label]).predict(y, 100.0).argmax(axis=1) for y in others]
    truth = np.concatenate([sessions.sessions[i].label[1::2] for i in judge])
    assert rows["frames"]["accuracy"] == pytest.approx((np.concatenate(told) == truth).mean())


def test_clips_labelled_in_part_have_frames_without_an_action() -> None:
    clip = stick_clip("p0-000", "p0", ["raise", "squat", "wave"], 0)
    assert clip.actions is not None
    actions = clip.actions.copy()
    actions[: len(clip) // 3] = 0
    label, _ = _labels(dataclasses.replace(clip, actions=actions))
    assert (label[: len(label) // 3 - 1] == -1).all() and (label[len(label) // 3 + 1 :] >= 0).all()
