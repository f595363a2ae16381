"""The .safetensors reader and writer, against files written byte by byte after the specification."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from core.errors import InputError
from fitting.safetensors import read_safetensors, write_safetensors

DTYPES = [np.float64, np.float32, np.float16, np.int64, np.int32, np.int16, np.int8, np.uint64, np.uint32, np.uint16,
          np.uint8, np.bool_]  # fmt: skip
ARRAYS = st.dictionaries(
    st.text(max_size=8).filter(lambda name: name != "__metadata__"),
    st.sampled_from(DTYPES).flatmap(lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, min_side=0))),
    max_size=4,
)


def _file(path: Path, header: Any, buffer: bytes = b"", length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + buffer)
    return path


def _entry(dtype: str, shape: list, begin: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def test_a_file_written_by_hand_is_read(tmp_path: Path) -> None:
    floats, counts = np.array([[1.5, -2.0]], "<f4"), np.array([3, 2**32 - 1], "<u4")
    header = {
        "__metadata__": {"format": "pt"},
        "counts": _entry("U32", [2], 8, 16),
        "floats": _entry("F32", [1, 2], 0, 8),
        "none": _entry("F64", [0, 7], 16, 16),
    }
    path = _file(tmp_path / "a.safetensors", json.dumps(header).encode() + b"   ", floats.tobytes() + counts.tobytes())
    found = read_safetensors(path)
    assert list(found) == ["counts", "floats", "none"]
    np.testing.assert_array_equal(found["floats"], floats)
    np.testing.assert_array_equal(found["counts"], counts)
    assert found["none"].shape == (0, 7)
    assert list(read_safetensors(path, ["floats", "other"])) == ["floats"]


def test_a_file_is_written_as_the_specification_says(tmp_path: Path) -> None:
    arrays = {"b": np.array([True]), "m": np.arange(6.0).reshape(2, 3).T, "s": np.float32([1.0])}
    write_safetensors(tmp_path / "a.safetensors", arrays)
    content = (tmp_path / "a.safetensors").read_bytes()
    length = int.from_bytes(content[:8], "little")
    assert length % 8 == 0
    assert json.loads(content[8 : 8 + length]) == {
        "m": _entry("F64", [3, 2], 0, 48),
        "s": _entry("F32", [1], 48, 52),
        "b": _entry("BOOL", [1], 52, 53),
    }
    np.testing.assert_array_equal(np.frombuffer(content[8 + length :][:48]), [0, 3, 1, 4, 2, 5])


@given(arrays=ARRAYS)
def test_the_way_round(tmp_path_factory: pytest.TempPathFactory, arrays: dict[str, np.ndarray]) -> None:
    path = tmp_path_factory.mktemp("round") / "a.safetensors"
    write_safetensors(path, arrays)
    found = read_safetensors(path)
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_the_other_byte_order_is_turned(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "a.safetensors", {"x": np.array([1.0, 2.0], ">f8")})
    np.testing.assert_array_equal(read_safetensors(tmp_path / "a.safetensors")["x"], [1.0, 2.0])


def test_what_the_format_has_no_place_for_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'x' is of type complex128"):
        write_safetensors(tmp_path / "a.safetensors", {"x": np.zeros(2, complex)})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"[]", "no JSON object"),
        (b"{]", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b'{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"x":{}}', "twice"),
        (b'{"x":{"dtype":"F32","dtype":"F64","shape":[1],"data_offsets":[0,8]}}', "twice"),
        ({"x": [1]}, "'x' is not described"),
        ({"x": _entry("F32", [2], 0, 8) | {"more": 1}}, "'x' is not described"),
        ({"x": _entry("F32", [3], 0, 8)}, "'x' has the shape"),
        ({"x": _entry("F64", [2], 0, 8)}, "'x' has the shape"),
        ({"x": _entry("F32", [-2], 0, 8)}, "no plain shape"),
        ({"x": _entry("F32", [True, 2], 0, 8)}, "no plain shape"),
        ({"x": _entry("F32", [2.0], 0, 8)}, "no plain shape"),
        ({"x": _entry("F32", [10**30], 0, 8)}, "no plain shape"),
        ({"x": _entry("F32", [1] * 40 + [2], 0, 8)}, "no plain shape"),
        ({"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4, 8]}}, "no plain shape"),
        ({"x": {"dtype": ["F32"], "shape": [2], "data_offsets": [0, 8]}}, "of a type that numpy lacks"),
        ({"x": _entry("BF16", [4], 0, 8)}, "of a type that numpy lacks"),
        ({"x": _entry("F32", [3], 0, 12)}, "take 12 bytes, and it holds 8"),
        ({"x": _entry("F32", [1], 0, 4)}, "take 4 bytes, and it holds 8"),
        ({"x": _entry("F32", [1], 4, 8)}, "where 0 bytes are taken"),
        ({"x": _entry("F32", [2], 0, 8), "y": _entry("F32", [1], 4, 8)}, "where 8 bytes are taken"),
        ({"x": _entry("F32", [2**50, 2**50, 0], 0, 0), "y": _entry("F32", [2], 0, 8)}, "'x' has the shape"),
        ({"x": _entry("F32", [0], 8, 0), "y": _entry("F32", [2], 0, 8)}, "'x'"),
    ],
)
def test_headers_that_lie_are_refused(tmp_path: Path, header: Any, message: str) -> None:
    path = _file(tmp_path / "BAD.safetensors", header, bytes(8))
    with pytest.raises(InputError, match=message) as caught:
        read_safetensors(path)
    assert caught.value.item == str(path)


@pytest.mark.parametrize("length", [0, 1, 11, 2**63, 2**64 - 1])
def test_lengths_beyond_the_file_are_refused(tmp_path: Path, length: int) -> None:
    path = _file(tmp_path / "BAD.safetensors", {}, bytes(8), length)
    with pytest.raises(InputError, match=f"a header of {length} bytes in a file of 18"):
        read_safetensors(path)


def test_a_file_of_a_few_bytes_and_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "short.safetensors").write_bytes(b"\x02\x00")
    with pytest.raises(InputError, match="in a file of 2"):
        read_safetensors(tmp_path / "short.safetensors")
    with pytest.raises(InputError, match="no such file"):
        read_safetensors(tmp_path / "none.safetensors")


@given(data=st.data())
def test_a_damaged_file_never_gives_anything_else_than_a_refusal(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "a.safetensors"
    write_safetensors(path, {"x": np.arange(4.0), "y": np.arange(3, dtype=np.int8)})
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        found = read_safetensors(path)
    except InputError:
        return
    assert sum(array.nbytes for array in found.values()) <= len(content)
