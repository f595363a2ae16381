"""Atoms of a stream against those of the whole recording."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from motions import reaches

from core.errors import InputError
from model.atoms import AtomConfig, Rule, cut_times
from model.pauses import PauseConfig
from model.stream import AtomStream


def movement(seed: int, rate_hz: float) -> tuple[np.ndarray, np.ndarray]:
    """Movements and rests of random lengths, some frames missing."""
    rng = np.random.default_rng(seed)
    pieces = [(rng.uniform(0.3, 2.0), float(rng.choice([0.0, 0.4, 0.8]))) for _ in range(8)]
    joints = reaches(pieces, rate_hz) + 0.001 * rng.normal(size=(1, 5, 3))
    valid = np.ones(joints.shape[:2], dtype=bool)
    hole = int(rng.integers(len(joints)))
    valid[hole : hole + int(rng.integers(20))] = False
    return joints, valid


@settings(max_examples=12, deadline=None)
@given(
    st.integers(0, 10_000),
    st.sampled_from([25.0, 30.0, 60.0]),
    st.sampled_from([1, 7, 100]),
    st.sampled_from(["turns", "pauses"]),
)
def test_stream_finds_the_cuts_of_the_whole_in_time(seed: int, rate_hz: float, piece: int, rule: Rule) -> None:
    joints, valid = movement(seed, rate_hz)
    config = AtomConfig(rule=rule)
    stream = AtomStream(rate_hz, 5.0, config)
    found: list[float] = []
    for start in range(0, len(joints), piece):
        part = slice(start, start + piece)
        new = stream.push(joints[part], valid[part])
        if piece == 1:
            assert all(start / rate_hz - t <= stream.delay_s + 1e-9 for t in new)
        found += new
    found += stream.end()
    assert found == cut_times(joints, valid, rate_hz, 5.0, config).tolist()
    assert stream._kept is not None and len(stream._kept[0]) <= 4 * rate_hz + piece


def test_delay_follows_the_settings() -> None:
    # the shortest Atom of the grid takes longer to see than a turn
    assert AtomStream(30.0, 5.0, AtomConfig()).delay_s == pytest.approx(16 / 30)
    assert AtomStream(30.0, 5.0, AtomConfig(rule="pauses")).delay_s == pytest.approx(28 / 30)
    quick = AtomConfig(rule="pauses", pauses=PauseConfig(reach_s=0.2, rest_s=0.2))
    assert AtomStream(30.0, 5.0, quick).delay_s < 0.6


def test_a_stream_of_nothing_has_no_atoms() -> None:
    assert AtomStream(30.0, 5.0, AtomConfig()).end() == []
    stream = AtomStream(30.0, 5.0, AtomConfig())
    assert stream.push(np.zeros((1, 3, 3)), np.ones((1, 3), dtype=bool)) == [0.0] and stream.end() == []


def test_rule_of_the_whole_video_is_refused() -> None:
    with pytest.raises(InputError, match="whole recording"):
        AtomStream(30.0, 5.0, AtomConfig(rule="line"))
