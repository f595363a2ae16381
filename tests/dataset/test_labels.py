"""Labels: several at once, in the right frames, and none lost."""

from __future__ import annotations

import dataclasses
import itertools
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import InputError, StageError
from dataset.build import BuildConfig, build_from
from dataset.labels import Span, actions_from_spans, in_vocabulary, joint_vocabulary
from dataset.schema import Clip
from dataset.shards import AmdDataset
from dataset.verify import verify

NAMES = ("walk", "wave", "sit")


def test_spans_overlap_and_end_before_their_end() -> None:
    spans = [Span("walk", 0.0, 1.0), Span("wave", 0.5, 0.7), Span("walk", 1.9, 99.0), Span("sit", -5.0, 0.1)]
    actions = actions_from_spans(spans, 60, Fraction(30), NAMES, "clip a")
    assert np.flatnonzero(actions[:, 0]).tolist() == [*range(30), 57, 58, 59]
    assert np.flatnonzero(actions[:, 1]).tolist() == [*range(15, 21)]
    assert np.flatnonzero(actions[:, 2]).tolist() == [0, 1, 2]


@given(st.integers(1, 400), st.sampled_from([Fraction(25), Fraction(30000, 1001), Fraction(120)]), st.data())
def test_spans_that_follow_each_other_share_no_frame_and_lose_none(frames: int, rate: Fraction, data) -> None:
    cuts = sorted(data.draw(st.lists(st.floats(0, frames / float(rate)), max_size=4)))
    edges = [0.0, *cuts, frames / float(rate)]
    spans = [Span(NAMES[i % 3], a, b) for i, (a, b) in enumerate(itertools.pairwise(edges))]
    assert (actions_from_spans(spans, frames, rate, NAMES, "clip a").sum(axis=1) == 1).all()


def test_a_label_outside_the_vocabulary_is_named_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"clip a: label 'wafe' at 3\.20 s is not one of the 3 .*write it as 'wave'"):
        actions_from_spans([Span("wafe", 3.2, 4.0)], 60, Fraction(30), NAMES, "clip a")
    with pytest.raises(InputError, match="ends before it begins"):
        actions_from_spans([Span("walk", 2.0, 1.0)], 60, Fraction(30), NAMES, "clip a")


def test_columns_move_with_their_names() -> None:
    actions = np.array([[1, 0], [0, 1]], dtype=np.uint8)
    np.testing.assert_array_equal(in_vocabulary(actions, ("sit", "walk"), NAMES, "a"), [[0, 0, 1], [1, 0, 0]])
    assert joint_vocabulary([("sit", "walk"), (), ("walk", "wave")]) == ("sit", "walk", "wave")


@dataclasses.dataclass(frozen=True)
class Labelled:
    """Reads a clip, labelled as a source of that name would."""

    dataset: AmdDataset
    names: dict[str, tuple[str, ...]]

    def __call__(self, item: str) -> list[Clip]:
        clip = dataclasses.replace(self.dataset.read(self.dataset.clips["abc".index(item)].id, 0, 300), id=item)
        names = self.names[item]
        if not names:
            return [clip]
        actions = np.zeros((len(clip), len(names)), dtype=np.uint8)
        actions[:100, 0] = actions[200:, -1] = 1
        labels = dataclasses.replace(clip.labels, action_names=names, subject=item)
        return [dataclasses.replace(clip, actions=actions, labels=labels)]


def test_sources_with_different_labels_share_one_vocabulary(dataset: AmdDataset, tmp_path: Path) -> None:
    names = {"a": ("walk", "sit"), "b": ("wave", "walk"), "c": ()}
    build_from(list(names), Labelled(dataset, names), tmp_path / "amd")
    built = AmdDataset(tmp_path / "amd")
    assert built.info.action_names == ("walk", "sit", "wave")
    for item, own in names.items():
        clip = built.read(f"{item}-000")
        if not own:
            assert clip.actions is None
            continue
        assert clip.labels.action_names == built.info.action_names and clip.actions is not None
        columns = [built.info.action_names.index(name) for name in own]
        np.testing.assert_array_equal(np.flatnonzero(clip.actions[:, columns[0]]), np.arange(100))
        assert clip.actions[:, columns[1]].sum() == 100 and clip.actions.sum() == 200
    verify(tmp_path / "amd").require(tmp_path / "amd")
    assert any("nobody looked" in note for note in built.info.notes)
    assert "walk, sit, wave" in (tmp_path / "amd" / "README.md").read_text()


def test_a_given_vocabulary_refuses_other_labels_and_names_the_source(dataset: AmdDataset, tmp_path: Path) -> None:
    build = partial(build_from, ["a", "b"], Labelled(dataset, {"a": ("walk",), "b": ("walk", "dance")}))
    with pytest.raises(StageError, match=r"b: label 'dance' is not one of the 2 of the vocabulary"):
        build(tmp_path / "amd", BuildConfig(vocabulary=("sit", "walk")))
    allowed = BuildConfig(vocabulary=("sit", "walk"), max_failed_fraction=0.5)
    manifest = build(tmp_path / "amd", allowed)
    assert list(manifest.data["failed"]) == ["b"]
    assert AmdDataset(tmp_path / "amd").read("a-000").labels.action_names == ("sit", "walk")
