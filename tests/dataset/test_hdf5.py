"""HDF5 files that reach outside themselves, or say that they are larger than they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from core.errors import InputError
from core.files import read_json, write_json
from dataset.kinect.clips import ClipFile
from dataset.shards import AmdDataset, copy_clip, new_shard
from dataset.verify import verify

SHAPE = (300, 24, 3)


def _other(folder: Path) -> Path:
    """Another file, that is nobody's business."""
    with h5py.File(folder / "other.h5", "w") as file:
        file["poses"] = np.zeros(SHAPE, np.float32)
    return folder / "other.h5"


def _external_link(group: h5py.Group, folder: Path) -> None:
    group["poses"] = h5py.ExternalLink(str(_other(folder)), "/poses")


def _soft_link(group: h5py.Group, folder: Path) -> None:
    group["poses"] = h5py.SoftLink("joints_m")


def _external_storage(group: h5py.Group, folder: Path) -> None:
    (folder / "secret").write_bytes(bytes(np.zeros(SHAPE, np.float32).nbytes))
    group.create_dataset("poses", SHAPE, np.float32, external=[(str(folder / "secret"), 0, h5py.h5f.UNLIMITED)])


def _virtual(group: h5py.Group, folder: Path) -> None:
    layout = h5py.VirtualLayout(SHAPE, np.float32)
    layout[:] = h5py.VirtualSource(str(_other(folder)), "poses", SHAPE)
    group.create_virtual_dataset("poses", layout)


def _nothing_behind(group: h5py.Group, folder: Path) -> None:
    group.create_dataset("poses", (1 << 40, 24, 3), np.float32, chunks=(256, 24, 3))


def _huge_elements(group: h5py.Group, folder: Path) -> None:
    group.create_dataset("poses", (1 << 14,), "S65536", chunks=(1,))


def _group(group: h5py.Group, folder: Path) -> None:
    group.create_group("poses")


Spoil = Callable[[h5py.Group, Path], None]
SPOILT = [_external_link, _soft_link, _external_storage, _virtual, _nothing_behind, _huge_elements, _group]


def _spoilt(dataset: AmdDataset, spoil: Spoil, folder: Path) -> tuple[AmdDataset, str]:
    """The dataset with one array replaced, and its index brought up to date; and the clip."""
    clip = dataset.clips[0]
    path = dataset.path / "data" / clip.shard
    with h5py.File(path, "r+") as file:
        del file["clips"][clip.id]["poses"]
        spoil(file["clips"][clip.id], folder)
    return _size_told(dataset, path), clip.id


def _size_told(dataset: AmdDataset, shard: Path) -> AmdDataset:
    meta = dataset.path / "meta" / "info.json"
    info = read_json(meta)
    for entry in info["shards"]:
        if entry["name"] == shard.name:
            entry["num_bytes"] = shard.stat().st_size
    write_json(meta, info)
    return AmdDataset(dataset.path)


@pytest.mark.parametrize("spoil", SPOILT)
def test_an_array_that_is_not_in_its_shard_is_refused(dataset_copy: AmdDataset, spoil: Spoil, tmp_path: Path) -> None:
    dataset, clip_id = _spoilt(dataset_copy, spoil, tmp_path)
    with pytest.raises(InputError, match=rf"clip {clip_id} in .*: damaged"):
        dataset.read(clip_id)
    with pytest.raises(InputError, match=rf"clip {clip_id} in .*: damaged"):
        dataset.read_fields(clip_id, ("poses",), 0, 10)
    assert f"clip {clip_id}" in {problem.item for problem in verify(dataset.path).problems}
    assert dataset.read(dataset.clips[1].id).id
    shard = dataset.path / "data" / dataset[clip_id].shard
    with (
        h5py.File(shard) as source,
        new_shard(tmp_path / "new.h5") as target,
        pytest.raises(ValueError, match=r"poses"),
    ):
        copy_clip(source, target, clip_id)


def test_a_clip_that_is_a_link_to_another_file_is_refused(dataset_copy: AmdDataset, tmp_path: Path) -> None:
    clip = dataset_copy.clips[0]
    path = dataset_copy.path / "data" / clip.shard
    other = tmp_path / "other.h5"
    other.write_bytes(path.read_bytes())
    with h5py.File(path, "r+") as file:
        del file["clips"][clip.id]
        file["clips"][clip.id] = h5py.ExternalLink(str(other), f"/clips/{clip.id}")
    dataset = _size_told(dataset_copy, path)
    with pytest.raises(InputError, match="is a link elsewhere"):
        dataset.read(clip.id)
    assert f"clip {clip.id}" in {problem.item for problem in verify(dataset.path).problems}


def test_a_heap_without_end_is_found_before_hdf5_looks_into_it(dataset_copy: AmdDataset) -> None:
    shard = dataset_copy.path / "data" / dataset_copy.clips[0].shard
    content = bytearray(shard.read_bytes())
    at = content.index(b"GCOL") + 16
    while content[at : at + 2] != b"\0\0":
        size = int.from_bytes(content[at + 8 : at + 16], "little")
        at += 16 + size + -size % 8
    content[at + 8 : at + 16] = bytes(8)
    shard.write_bytes(content)
    assert "has no end" in str(verify(dataset_copy.path).problems)


def test_arrays_of_one_number_again_and_again_are_read(tmp_path: Path) -> None:
    from dataset.hdf5 import own_dataset

    with h5py.File(tmp_path / "a.h5", "w") as file:
        options = {"chunks": (256, 24, 6), "compression": "gzip", "compression_opts": 9, "shuffle": True}
        file.create_dataset("a", data=np.full((20_000, 24, 6), np.nan, np.float32), **options)
        assert file["a"].id.get_storage_size() * 300 < file["a"].nbytes
        assert np.isnan(own_dataset(file, "a")[:10]).all()


def test_a_file_of_kinect_clips_with_links_is_refused(tmp_path: Path) -> None:
    from dataset.kinect.clips import SCHEMA

    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs.update(schema=SCHEMA, source="ntu", files_sha256="", content_sha256="")
        file.create_group("clips")
        file["joints_m"] = h5py.ExternalLink(str(_other(tmp_path)), "/poses")
    with pytest.raises(InputError, match=r"not a readable file of clips .*is a link elsewhere"):
        ClipFile(tmp_path / "a.h5")
