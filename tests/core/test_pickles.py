"""Pickles that are small and would keep a loader busy for ever, and torch files around them."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core.errors import InputError
from core.pickles import require_plain_keys, require_plain_torch_file
from fitting.pose_density_files import read_pose_density
from fitting.unpickle import read_pickle_arrays
from model.checkpoint import load_checkpoint


def doubled(levels: int) -> Any:
    """A tuple of the same tuple twice, and so on."""
    value: Any = (1.5,)
    for _ in range(levels):
        value = (value, value)
    return value


def as_key(levels: int, protocol: int = 2) -> bytes:
    """A pickle of a dict with such a key, written without ever hashing it."""
    key = pickle.dumps(doubled(levels), protocol)
    return key[:2] + b"}" + key[2:-1] + b"K\x01s."


def torch_file(path: Path, data: bytes) -> Path:
    """An archive like torch's with the given pickle in it."""
    torch.save({"step": 1}, path)
    with zipfile.ZipFile(path) as archive:
        members = {member.filename: archive.read(member) for member in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, data if name.endswith("data.pkl") else content)
    return path


@pytest.mark.parametrize("levels", [1, 40])
@pytest.mark.parametrize("read", [read_pickle_arrays, load_checkpoint, read_pose_density])
def test_a_tuple_of_tuples_as_a_key_does_not_hang(read: Any, levels: int, tmp_path: Path) -> None:
    path = tmp_path / ("a.pkl" if read is read_pickle_arrays else "a.pt")
    if path.suffix == ".pkl":
        path.write_bytes(as_key(levels))
        assert path.stat().st_size < 1000
    else:
        torch_file(path, as_key(levels))
    with pytest.raises(InputError, match=r"a key is no number|too large or too deep|no file of tensors"):
        read(path)


@pytest.mark.parametrize("first", [b"\x80\x04(", b"\x80\x04\x8f("])
def test_sets_and_dicts_of_marked_items_are_looked_through(first: bytes) -> None:
    key = pickle.dumps((1, 2), 4)[11:-1]
    for ending in (b"\x90.", b"\x91.", b"K\x01d."):
        with pytest.raises(ValueError, match=r"no number or text|takes more"):
            require_plain_keys(first + key + ending)


def test_a_key_from_the_memory_of_the_pickle_is_told_by_what_it_was() -> None:
    require_plain_keys(pickle.dumps({"a": {"a": 1}, "b": {"a": 2}}, 2))
    with pytest.raises(ValueError, match="no number or text"):
        require_plain_keys(b"\x80\x02}K\x01\x85q\x000h\x00K\x01s.")


def test_a_list_of_pairs_with_tuples_of_tuples_is_refused() -> None:
    # as the arguments of OrderedDict, which hashes them
    with pytest.raises(ValueError, match="too large or too deep"):
        require_plain_keys(pickle.dumps([(doubled(12), 1)], 2))


def test_records_that_name_each_other_again_and_again_are_looked_into_once(tmp_path: Path) -> None:
    made = b"cchumpy.ch\nCh\n)\x81q\x00}b"
    for level in range(40):
        last = bytes([level])
        state = b"}(" + b"".join(b"U\x01" + name + b"h" + last for name in (b"x", b"r", b"a"))
        state += b"U\x04idxsh" + last + b"u"
        made += b"0cchumpy.ch\nCh\n)\x81q" + bytes([level + 1]) + state + b"b"
    (tmp_path / "a.pkl").write_bytes(b"\x80\x02}U\x01k" + made + b"s.")
    assert list(read_pickle_arrays(tmp_path / "a.pkl")) == ["k"]


def test_a_matrix_that_says_it_is_huge_takes_no_memory(tmp_path: Path) -> None:
    from scipy.sparse import csc_matrix

    data = pickle.dumps({"J_regressor": csc_matrix(np.eye(3))}, 2)
    shape = data.index(b"_shape")
    place = data.index(b"K\x03K\x03\x86", shape)
    huge = b"J" + (1 << 30).to_bytes(4, "little")
    (tmp_path / "a.pkl").write_bytes(data[:place] + huge + huge + b"\x86" + data[place + 5 :])
    with pytest.raises(InputError, match="a matrix of"):
        read_pickle_arrays(tmp_path / "a.pkl")


@pytest.mark.parametrize("new", [True, False])
def test_files_that_torch_writes_pass(tmp_path: Path, new: bool) -> None:
    model = torch.nn.Linear(2, 3)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.zeros(1, 2)).sum().backward()
    optimizer.step()
    content = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "rng": torch.get_rng_state()}
    torch.save(content, tmp_path / "a.pt", _use_new_zipfile_serialization=new)
    require_plain_torch_file(tmp_path / "a.pt")


def test_an_old_torch_file_is_looked_through(tmp_path: Path) -> None:
    stream = io.BytesIO()
    torch.save({"step": 1}, stream, _use_new_zipfile_serialization=False)
    first = stream.getvalue().index(b"}")  # of the third pickle, which tells of the machine
    (tmp_path / "a.pt").write_bytes(stream.getvalue()[: first - 2] + as_key(40))
    with pytest.raises(InputError, match="not a readable checkpoint"):
        load_checkpoint(tmp_path / "a.pt")


def test_an_archive_that_unpacks_to_more_than_it_is_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", pickle.dumps({}, 2))
        archive.writestr("a/data/0", bytes(100_000))
    with pytest.raises(InputError, match="unpacks to"):
        load_checkpoint(tmp_path / "a.pt")
