"""Datasets without a group, cells that are computed once, and tables."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from core.errors import InputError
from dataset.features import LAYOUT
from dataset.resample import num_instants
from dataset.shards import AmdDataset
from model.protocols.cells import Cells
from model.protocols.groups import leave_out
from model.protocols.motions import load_motions, of_shared_classes
from model.protocols.report import accuracy_summary, accuracy_table, error_summary, error_table
from model.windows import input_statistics


def test_a_group_left_out(people: Path, one_clip: Path, tmp_path: Path) -> None:
    datasets = [AmdDataset(people), AmdDataset(one_clip)]
    view = AmdDataset(leave_out(datasets, "p1", tmp_path / "view", rate_hz=5.0))
    assert {clip.subject for clip in view.of_split("test")} == {"p1"}
    assert {clip.subject for clip in view.of_split("train")} == {"anna", "p0", "p2", "p3"}
    for clip in view.clips:
        source = datasets[1 if clip.subject == "anna" else 0]
        assert np.array_equal(view.read(clip.id).joints_m, source.read(clip.id).joints_m)
    # the statistics are of the others' frames alone
    frames = [num_instants(c.num_frames, c.frame_rate, 5.0) for c in view.of_split("train")]
    assert view.stats().num_frames == sum(frames)
    motion = input_statistics(view, "motion")
    normalised = motion.normalise(view.stats().mean + view.stats().sd)
    assert np.abs(normalised[LAYOUT.rotations]).max() < 1e-6
    assert np.square(normalised[LAYOUT.positions]).mean() == pytest.approx(1.0)
    assert leave_out(datasets, "p1", tmp_path / "view", rate_hz=5.0) == view.path
    with pytest.raises(InputError, match="no clip is of this subject"):
        leave_out(datasets, "nobody", tmp_path / "other", rate_hz=5.0)
    with pytest.raises(InputError, match="two datasets"):
        leave_out([datasets[0], datasets[0]], "p1", tmp_path / "other", rate_hz=5.0)
    assert not (tmp_path / "other").exists()


def test_labelled_motions(people: Path) -> None:
    motions = load_motions(AmdDataset(people), ["p3", "p0"])
    assert motions.groups == ("p3", "p0") and sorted(motions.group.tolist()) == [0, 0, 1, 1]
    assert [motions.ids[i][:2] for i in np.flatnonzero(motions.group == 0)] == ["p3", "p3"]
    assert set(motions.classes) <= {"stand", "raise", "wave", "squat"}
    with pytest.raises(InputError, match="p9: no clip is of this subject"):
        load_motions(AmdDataset(people), ["p0", "p9"])
    joined = load_motions(AmdDataset(people), ["p0+p3", "p1"])
    assert sorted(joined.group.tolist()) == [0, 0, 0, 0, 1, 1] and joined.groups == ("p0+p3", "p1")
    with pytest.raises(InputError, match="p3: this subject is in two groups"):
        load_motions(AmdDataset(people), ["p0+p3", "p3"])


def test_actions_of_one_group_alone_are_left_out(people: Path) -> None:
    few = load_motions(AmdDataset(people), ["p0", "p1", "p2"])
    label, group = np.array([0, 1, 1, 2, 2, 3]), np.array([0, 0, 1, 1, 2, 2])
    motions = dataclasses.replace(few, label=label, group=group, classes=("a", "b", "c", "d"))
    shared = of_shared_classes(motions)
    assert shared.classes == ("b", "c") and shared.ids == few.ids[1:5]
    assert shared.label.tolist() == [0, 0, 1, 1] and shared.group.tolist() == [0, 1, 1, 2]
    with pytest.raises(InputError, match=r"p0: shows none of the actions .*a\+b"):
        of_shared_classes(dataclasses.replace(motions, label=np.array([0, 0, 1, 1, 1, 1])))


def test_several_people_are_left_out_together_or_nobody(people: Path, tmp_path: Path) -> None:
    datasets = [AmdDataset(people)]
    view = AmdDataset(leave_out(datasets, "p1+p2", tmp_path / "two", rate_hz=5.0))
    assert {clip.subject for clip in view.clips if clip.split == "test"} == {"p1", "p2"}
    fewer = AmdDataset(leave_out(datasets, "p1", tmp_path / "fewer", rate_hz=5.0, without=("p2",)))
    assert {clip.subject for clip in fewer.clips} == {"p0", "p1", "p3"} and fewer.info.num_clips == 6
    everybody = AmdDataset(leave_out(datasets, None, tmp_path / "all", rate_hz=5.0))
    assert {clip.split for clip in everybody.clips} == {"train"}
    with pytest.raises(InputError, match="p9"):
        leave_out(datasets, "p1+p9", tmp_path / "wrong", rate_hz=5.0)


def test_cells_are_computed_once(tmp_path: Path) -> None:
    calls = []

    def compute() -> dict[str, float]:
        calls.append(1)
        return {"a": 0.5}

    first = Cells(tmp_path, {"version": 1})
    assert first.get("recognition/simple/p0/0", compute) == {"a": 0.5} == first.get("recognition/simple/p0/0", compute)
    assert len(calls) == 1
    assert Cells(tmp_path, {"version": 2}).get("recognition/simple/p0/0", compute) == {"a": 0.5} and len(calls) == 2
    assert Cells(None, {}).get("x", compute) == {"a": 0.5} and len(calls) == 3


def test_tables() -> None:
    rows = {
        "k-NN": {"a": {0: {"accuracy": 0.5}, 1: {"accuracy": 0.7}}, "b": {0: {"accuracy": 0.8}, 1: {"accuracy": 1.0}}}
    }
    found = accuracy_summary(rows["k-NN"], ["a", "b"])
    assert found["groups"] == pytest.approx({"a": 0.6, "b": 0.9}) and found["mean"] == pytest.approx(0.75)
    assert found["sd"] == pytest.approx(np.std([0.65, 0.85], ddof=1)) and found["seeds"] == 2
    assert "0.750" in accuracy_table(rows, ["a", "b"])[1]
    assert (
        accuracy_summary(rows["k-NN"], ["a", "b", "c"])["mean"] is None and "nan" in accuracy_table(rows, ["a", "c"])[1]
    )


def test_errors_are_pooled_over_windows() -> None:
    def row(mm: float, windows: int, moving: int) -> dict[str, object]:
        return {
            "mm": mm,
            "moving_mm": 2 * mm if moving else None,
            "at": {"1 s": mm},
            "windows": windows,
            "moving": moving,
        }

    cells = {"a": {0: row(10.0, 100, 50)}, "b": {0: row(40.0, 200, 0)}}
    found = error_summary(cells)
    assert found["mm"] == pytest.approx(30.0) and found["moving_mm"] == pytest.approx(20.0)
    assert found["at"] == {"1 s": pytest.approx(30.0)} and found["windows"] == 300 and found["sd"] is None
    assert "30.0" in error_table({"linear": cells}, ["a", "b"])[1]
