"""`motifs verify`: every flipped bit is found, and the clip it belongs to is named."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import h5py
import numpy as np
import pytest

from core.errors import InputError
from core.files import read_json, write_json
from dataset.build import build
from dataset.shards import AmdDataset
from dataset.verify import verify


def flip(path: Path, offset: int, bit: int = 0) -> None:
    """Flips one bit of a file."""
    content = bytearray(path.read_bytes())
    content[offset] ^= 1 << bit
    path.write_bytes(bytes(content))


def chunk_middle(path: Path, clip_id: str, field: str) -> int:
    """Offset in a shard of the middle of the first chunk of a clip's array."""
    with h5py.File(path) as file:
        chunk = file["clips"][clip_id][field].id.get_chunk_info(0)
    return int(chunk.byte_offset + chunk.size // 2)


def test_a_sound_dataset_passes(dataset: AmdDataset) -> None:
    found = verify(dataset.path)
    assert found.require(dataset.path).num_clips == 5 and found.problems == ()


@pytest.mark.parametrize("field", ["poses", "joints_m", "valid", "contacts"])
def test_a_flipped_bit_names_its_clip_and_no_other(dataset_copy: AmdDataset, field: str) -> None:
    clip = dataset_copy.clips[3]
    shard = dataset_copy.path / "data" / clip.shard
    flip(shard, chunk_middle(shard, clip.id, field), bit=3)
    found = verify(dataset_copy.path)
    assert [problem.item for problem in found.problems] == [f"clip {clip.id}"]
    with pytest.raises(InputError, match=f"clip {clip.id}"):
        found.require(dataset_copy.path)


def test_every_flipped_bit_is_found(dataset_copy: AmdDataset, rng: np.random.Generator) -> None:
    shard = dataset_copy.path / "data" / dataset_copy.clips[0].shard
    size = shard.stat().st_size
    # the superblock and the group's headers, then anywhere
    for offset in [3, 20, 60, 300, *rng.integers(0, size, 8).tolist()]:
        flip(shard, offset, bit=5)
        assert verify(dataset_copy.path).problems, f"a bit flipped at {offset} was not found"
        flip(shard, offset, bit=5)
    assert not verify(dataset_copy.path).problems


def test_damage_while_reading_names_the_clip(dataset_copy: AmdDataset) -> None:
    clip = dataset_copy.clips[1]
    shard = dataset_copy.path / "data" / clip.shard
    # the end of a deflated chunk is its own checksum
    with h5py.File(shard) as file:
        chunk = file["clips"][clip.id]["poses"].id.get_chunk_info(0)
    flip(shard, chunk.byte_offset + chunk.size - 1)
    with pytest.raises(InputError, match=f"clip {clip.id} in .*damaged"):
        AmdDataset(dataset_copy.path).read(clip.id)


def test_truncated_and_missing_shards_name_their_clips(dataset_copy: AmdDataset) -> None:
    clip = dataset_copy.clips[-1]
    shard = dataset_copy.path / "data" / clip.shard
    shard.write_bytes(shard.read_bytes()[:-100])
    (problem,) = verify(dataset_copy.path).problems
    assert problem.item == clip.shard and clip.id in problem.problem
    shard.unlink()
    (problem,) = verify(dataset_copy.path).problems
    assert "is missing" in problem.problem and clip.id in problem.problem


def test_a_changed_index_is_found(dataset_copy: AmdDataset) -> None:
    path = dataset_copy.path / "meta" / "clips.json"
    data = read_json(path)
    entry = dataclasses.replace(dataset_copy.clips[0], subject=dataset_copy.clips[1].subject)
    write_json(path, {**data, "clips": [entry, *data["clips"][1:]]})
    items = {problem.item for problem in verify(dataset_copy.path).problems}
    assert {"meta/clips.json", f"clip {entry.id}"} <= items


def test_a_subject_in_two_splits_is_found(dataset_copy: AmdDataset) -> None:
    path = dataset_copy.path / "meta" / "clips.json"
    data = read_json(path)
    twins = [{**clip, "subject": "s0"} for clip in data["clips"]]
    write_json(path, {**data, "clips": twins})
    assert any("more than one split" in problem.problem for problem in verify(dataset_copy.path).problems)


def test_one_motion_under_two_names_in_two_splits_is_found(make_session, tmp_path: Path) -> None:
    build([make_session(name, name, 90, seed=7) for name in ("anna", "bert", "carl")], tmp_path / "amd")
    problems = verify(tmp_path / "amd").problems
    assert len(problems) == 2 and all("the same motion as clip anna-000" in p.problem for p in problems)
