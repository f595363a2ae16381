"""Splits: nobody on two sides, the same names always alike, and no silence about empty ones."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
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


NAMES = st.sets(st.text(min_size=1, max_size=5), min_size=3, max_size=60)


@given(NAMES, st.sampled_from(["a", "b"]))
def test_exact_shares(names: set[str], salt: str) -> None:
    config = SplitConfig(split_salt=salt, split_rule="exact")
    found = divide(names, config)
    assert set(found) == names
    counts = {split: list(found.values()).count(split) for split in SPLITS}
    assert counts["val"] == counts["test"] == max(1, round(0.1 * len(names)))
    assert found == divide(sorted(names, reverse=True), config)


# enough names that no split has to be filled
LARGE = frozenset(f"someone-{i}" for i in range(100))


@settings(max_examples=30)
@given(NAMES)
def test_nobody_moves_when_others_are_added(names: set[str]) -> None:
    before, after = divide(LARGE, SplitConfig()), divide(LARGE | names, SplitConfig())
    assert all(before[name] == after[name] for name in LARGE)
    alone = divide(names, SplitConfig())
    assert set(alone.values()) == set(SPLITS)
    # but for groups that filled a split which nobody's hash had chosen
    assert sum(alone[name] != after[name] for name in names) <= 2


def test_shares_hold_on_average() -> None:
    found = list(divide([f"s{i}" for i in range(5000)], SplitConfig()).values())
    # three standard deviations of a share of 0.1 among 5000
    assert abs(found.count("test") / 5000 - 0.1) < 0.013 and abs(found.count("val") / 5000 - 0.1) < 0.013


def test_fifty_subjects_as_in_the_paper() -> None:
    found = divide([f"s{i}" for i in range(50)], SplitConfig(split_rule="exact"))
    assert [list(found.values()).count(split) for split in SPLITS] == [40, 5, 5]


@pytest.mark.parametrize(("groups", "expected"), [(1, ["train"]), (2, ["test", "train"])])
@pytest.mark.parametrize("rule", ["stable", "exact"])
def test_few_groups(groups: int, expected: list[str], rule: str) -> None:
    for salt in "abcdefgh":
        config = SplitConfig(split_rule=rule, split_salt=salt)
        assert sorted(divide([f"s{i}" for i in range(groups)], config).values()) == expected


@pytest.mark.parametrize("by", ["subject", "session", "clip"])
def test_groups_are_never_divided(by: str) -> None:
    config = SplitConfig(split_by=by)
    divided = put(clips(12), config)
    assert check_disjoint(divided, lambda clip: group_of(clip, config)) == ()
    assert (check_disjoint(divided, lambda clip: clip.subject) == ()) == (by == "subject")


def test_named_groups_stay_together_and_are_pinned_by_name() -> None:
    """Kitchen D is for testing alone, whoever cooks in it."""
    rooms = {f"rec?-{k}": f"kitchen-{k}" for k in range(2)}
    config = SplitConfig(split_by="session", split_groups=rooms, pinned_splits={"kitchen-1": "test"})
    divided = put(clips(5), config)
    assert {(clip.session[-1], clip.split) for clip in divided} == {("0", "train"), ("1", "test")}


def put(everything: list[ClipInfo], config: SplitConfig) -> list[ClipInfo]:
    splits = divide({group_of(c, config) for c in everything}, config)
    return [dataclasses.replace(c, split=splits[group_of(c, config)]) for c in everything]


def test_a_leak_is_found() -> None:
    everything = clips(2)
    leaked = [dataclasses.replace(everything[0], split="test"), *everything[1:]]
    assert check_disjoint(leaked, lambda clip: clip.subject) == ("s0",)


def test_notes_tell_of_empty_splits_and_shared_subjects() -> None:
    assert notes_on(put(clips(60), SplitConfig()), SplitConfig()) == ()
    assert "no clips in val and test" in notes_on(put(clips(1), SplitConfig()), SplitConfig())[0]
    by_clip = SplitConfig(split_by="clip")
    assert "of known people" in notes_on(put(clips(20), by_clip), by_clip)[-1]
    few = put(clips(3), SplitConfig())
    filled = [note for note in notes_on(few, SplitConfig()) if "may leave it when more are added" in note]
    natural = {name: divide({name, *LARGE}, SplitConfig())[name] for name in ("s0", "s1", "s2")}
    assert len(filled) == sum(natural[c.subject] != c.split for c in few[::3]) > 0


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(InputError, match="nothing to train on"):
        SplitConfig(val_share=0.5, test_share=0.5)
    with pytest.raises(InputError, match="there is no such subject"):
        divide(["a", "b"], SplitConfig(pinned_splits={"c": "test"}))
