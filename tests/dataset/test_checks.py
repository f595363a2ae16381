"""What cannot be stored with one meaning is refused before it is written, by name."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from core.errors import InputError
from dataset.checks import require_whole
from dataset.shards import AmdDataset, new_shard, write_clip


@pytest.fixture
def clip(dataset: AmdDataset):
    return dataset.read(dataset.clips[0].id)


def changed(array: np.ndarray, place: Any, value: float) -> np.ndarray:
    other = array.copy()
    other[place] = value
    return other


@pytest.mark.parametrize(
    ("field", "change", "message"),
    [
        ("poses", lambda a: changed(a, (7, 3, 1), np.nan), "poses is not finite in frame 7, which carries no reason"),
        ("trans", lambda a: changed(a, (9, 0), np.inf), "trans is not finite in frame 9"),
        ("betas", lambda a: changed(a, 2, np.nan), "betas are not finite"),
        ("contacts", lambda a: changed(a, (0, 0), 1.5), "contacts reach from 0 to 1.5"),
        ("joint_covariance", lambda a: changed(a, (4, 4, 3), -1e-4), "a variance is -0.0001"),
        ("reasons", lambda a: changed(a, 3, 1 << 20), "bit 0x100000"),
        ("valid", lambda a: a[:-1], r"valid is \(299, 24\), not \(300, 24\)"),
        ("id", lambda a: "../evil", "its id is no file name"),
    ],
)
def test_contradictions_are_named(clip, tmp_path, field: str, change: Any, message: str) -> None:
    broken = dataclasses.replace(clip)
    object.__setattr__(broken, field, change(getattr(clip, field)))  # past the type checks of the tests
    with new_shard(tmp_path / "shard.h5") as file, pytest.raises(InputError, match=f"clip {broken.id}: .*{message}"):
        write_clip(file, broken, "auto")


def test_labels_and_their_names_go_together(clip) -> None:
    def labelled(names: tuple[str, ...], actions: np.ndarray | None):
        labels = dataclasses.replace(clip.labels, action_names=names)
        return dataclasses.replace(clip, labels=labels, actions=actions)

    ones = np.ones((300, 2), dtype=np.uint8)
    require_whole(labelled(("a", "b"), ones))
    for names, actions, message in [
        (("a",), ones, r"actions is \(300, 2\), not \(300, 1\)"),
        (("a", "a"), ones, "action 'a' has two columns"),
        (("a", "b"), 2 * ones, "actions hold 2"),
        (("a",), None, "names 1 actions and has no labels"),
    ]:
        with pytest.raises(InputError, match=message):
            require_whole(labelled(names, actions))


def test_missing_numbers_with_a_reason_and_unknown_covariance_pass(clip) -> None:
    poses, reasons = changed(clip.poses, 7, np.nan), changed(clip.reasons, 7, 1 << 16)
    nothing = np.full_like(clip.joint_covariance, np.nan)
    require_whole(dataclasses.replace(clip, poses=poses, reasons=reasons, joint_covariance=nothing))
