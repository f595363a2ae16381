"""Humans in Kitchens in: rotations as they are, a shape from the bones, labels as they are or regrouped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from core.errors import InputError
from core.files import write_npz
from dataset.build import BuildConfig, build
from dataset.importers.hik import read_hik
from dataset.importers.hik_labels import ACTIVITIES, CLASSES, regroup
from dataset.shards import AmdDataset
from dataset.splits import SplitConfig
from fitting.smpl import BodyModel
from fitting.stand_in import stand_in_body


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return stand_in_body()


def labelled(frames: int, **spans: tuple[int, int]) -> np.ndarray:
    """Activities that hold from a frame to another; `_` stands for a blank."""
    act = np.zeros((frames, len(ACTIVITIES)), dtype=np.float32)
    for name, (start, stop) in spans.items():
        act[start:stop, ACTIVITIES.index(name.replace("_", " "))] = 1
    return act


def hik_file(path: Path, walk: dict[str, np.ndarray], body: BodyModel, **changes: object) -> Path:
    """A file of somebody taller than the mean; his translation is another body's, as SMPL-X's is."""
    frames = len(walk["poses"])
    joints = body.with_shape(np.array([1.0])).with_pose(walk["poses"], walk["pelvis"]).joints
    arrays = {
        "transforms": np.concatenate([walk["pelvis"] - [9.0, 9.0, 9.0], walk["poses"][:, 0]], axis=1),
        "smpl": walk["poses"][:, 1:22],
        "poses3d": np.concatenate([joints, np.zeros((frames, 5, 3))], axis=1),
        "frames": np.arange(1000, 1000 + frames),
        "act": labelled(frames, walking=(0, frames)),
        "betas": np.ones(10),
        **changes,
    }
    write_npz(path, {name: value for name, value in arrays.items() if value is not None})
    return path


def test_a_person_comes_in(tmp_path: Path, walker, body: BodyModel) -> None:
    walk = walker(100, 25.0)
    (clip,) = read_hik(hik_file(tmp_path / "B_7_2.npz", walk, body), "x", "?", body, "original")
    assert (clip.labels.subject, clip.labels.session, clip.rate) == ("B-p07", "kitchen-B", 25)
    assert clip.labels.start_s == 40.0
    np.testing.assert_array_equal(clip.poses[:, :22], walk["poses"][:, :22].astype(np.float32))
    truth = body.with_shape(np.array([1.0])).with_pose(walk["poses"], walk["pelvis"]).joints
    np.testing.assert_allclose(clip.joints_m[:, :22], truth[:, :22], atol=2e-3)
    assert clip.labels.provenance["joint_error_mm"]["p95"] < 2.0
    assert clip.actions is not None and clip.actions[:, ACTIVITIES.index("walking")].all()


def test_frames_that_are_no_neighbours_become_sequences_of_their_own(tmp_path: Path, walker, body: BodyModel) -> None:
    frames = np.concatenate([np.arange(60), np.arange(500, 540)])
    path = hik_file(tmp_path / "A_1_0.npz", walker(100, 25.0), body, frames=frames)
    clips = read_hik(path, "x", "?", body, "original")
    assert [(clip.id, len(clip), clip.labels.start_s) for clip in clips] == [("x", 60, 0.0), ("x-001", 40, 20.0)]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"act": None}, "it has no act"),
        ({"frames": None, "act": None}, "it has no act, frames"),
        ({"smpl": np.zeros((100, 24, 3))}, "smpl is"),
        ({"act": np.zeros((100, 81))}, "act is"),
        ({"frames": np.zeros((0,), int)}, "is "),
        ({"poses3d": np.full((100, 29, 3), np.nan)}, "whole in no frame"),
        ({"transforms": np.array(["x"] * 100)}, "transforms is"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, walker, body: BodyModel, changes: dict, says: str) -> None:
    path = hik_file(tmp_path / "A_1_0.npz", walker(100, 25.0), body, **changes)
    with pytest.raises(InputError, match=says):
        read_hik(path, "x", "?", body, "original")


def test_kitchen_d_is_for_testing(tmp_path: Path, walker, body: BodyModel) -> None:
    for number, kitchen in enumerate("ABCD"):
        hik_file(tmp_path / "poses" / f"{kitchen}_1_0.npz", walker(100, 25.0, seed=number), body)
    split = SplitConfig("session", test_share=0.0, pinned_splits={"kitchen-D": "test"})
    build([tmp_path / "poses"], tmp_path / "amd", BuildConfig(split=split, hik_labels="regrouped"))
    dataset = AmdDataset(tmp_path / "amd")
    assert [clip.session for clip in dataset.of_split("test")] == ["kitchen-D"]
    assert dataset.info.action_names == CLASSES and len(dataset.of_split("val")) == 1


def test_regrouping_follows_the_papers_rule() -> None:
    act = labelled(
        100,
        drink=(20, 30),
        carry_cup=(10, 40),  # goes on around drinking
        washing_hands=(50, 55),
        take_water_from_sink=(55, 60),
        sitting_down=(38, 45),  # behind carrying, before which the class holds
        standing=(0, 100),
        walking=(70, 100),
    )
    act[85:90, ACTIVITIES.index("carry cup")] = 1  # touches no drinking
    found = regroup(act.astype(np.uint8))
    assert len(CLASSES) == 36 and found.shape == (100, 36) and (found.sum(axis=1) <= 1).all()
    names = [CLASSES[row.argmax()] if row.any() else "" for row in found]
    assert set(names[10:40]) == {"drink"} and set(names[40:45]) == {"sitting down"}
    assert set(names[50:60]) == {"washing hands"}
    assert not any(names[:10] + names[45:50] + names[60:])


def test_every_activity_of_a_class_exists() -> None:
    assert len(ACTIVITIES) == 82 and list(ACTIVITIES) == sorted(set(ACTIVITIES))
