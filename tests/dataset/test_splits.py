"""Splits: nobody on two sides, the same names always alike, and no silence about empty ones."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import InputError
from dataset.schema import SPLITS, ClipInfo
from dataset.splits import SplitConfig, check_disjoint, divide, group_of, notes_on


def clips(subjects: int, each: int = 3) -> list[ClipInfo]:
    return [
        ClipInfo(f"c{s}-{k}", "x", 30, "30/1", f"s{s}", f"rec{s}-{k // 2}", "train", 0.0, 0.8, 1.0, "")
        for s in range(subjects)
        for k in range(each)
    ]


@given(st.sets(st.text(min_size=1, max_size=5), min_size=3, max_size=60), st.sampled_from(["a", "b"]))
def test_every_split_gets_its_share(names: set[str], salt: str) -> None:
    found = divide(names, SplitConfig(split_salt=salt))
    assert set(found) == names
    counts = {split: list(found.values()).count(split) for split in SPLITS}
    assert counts["val"] == counts["test"] == max(1, round(0.1 * len(names)))
    assert found == divide(sorted(names, reverse=True), SplitConfig(split_salt=salt))


def test_fifty_subjects_as_in_the_paper() -> None:
    found = divide([f"s{i}" for i in range(50)], SplitConfig())
    assert [list(found.values()).count(split) for split in SPLITS] == [40, 5, 5]


@pytest.mark.parametrize(("groups", "expected"), [(1, ["train"]), (2, ["test", "train"])])
def test_few_groups(groups: int, expected: list[str]) -> None:
    assert sorted(divide([f"s{i}" for i in range(groups)], SplitConfig()).values()) == expected


@pytest.mark.parametrize("by", ["subject", "session", "clip"])
def test_groups_are_never_divided(by: str) -> None:
    everything = clips(12)
    splits = divide({group_of(c, by) for c in everything}, SplitConfig())
    divided = [dataclasses.replace(c, split=splits[group_of(c, by)]) for c in everything]
    assert check_disjoint(divided, by) == ()
    assert (check_disjoint(divided, "subject") == ()) == (by == "subject")


def test_a_leak_is_found() -> None:
    everything = clips(2)
    leaked = [dataclasses.replace(everything[0], split="test"), *everything[1:]]
    assert check_disjoint(leaked, "subject") == ("s0",)


def test_notes_tell_of_empty_splits_and_shared_subjects() -> None:
    assert notes_on({"train": 3, "val": 1, "test": 1}, 5, "subject") == ()
    assert "no clips in val and test" in notes_on({"train": 3}, 1, "subject")[0]
    assert "of known people" in notes_on({"train": 3, "val": 1, "test": 1}, 5, "clip")[0]


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(InputError, match="nothing to train on"):
        SplitConfig(val_share=0.5, test_share=0.5)
    with pytest.raises(InputError, match="there is no such subject"):
        divide(["a", "b"], SplitConfig(pinned_splits={"c": "test"}))
