"""Reads and writes `.safetensors`: named arrays without code, after the format's specification.

A file is the header's length (8 bytes, little-endian), a JSON header `{name: {dtype, shape, data_offsets}}`, and one
buffer that the arrays fill without gap or overlap (github.com/huggingface/safetensors). A header is foreign data: every
length, offset and shape in it is checked before anything is read by it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from core.errors import InputError
from core.files import atomic_path, require_file

_DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?",
}  # fmt: skip
_LENGTH_BYTES = 8
_MAX_HEADER_BYTES = 100_000_000  # the specification's own limit
_MAX_DIMENSIONS, _MAX_SIZE = 32, 2**56


def write_safetensors(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays of numbers atomically; the same arrays give the same bytes.

    Raises:
        InputError: if an array is of no type that the format knows.
    """
    codes = {np.dtype(dtype): code for code, dtype in _DTYPES.items()}
    header: dict[str, Any] = {}
    # widest first, so that every array lies at a multiple of its own width
    order = sorted(arrays, key=lambda name: (-arrays[name].dtype.itemsize, name))
    end = 0
    for name in order:
        array = arrays[name]
        code = codes.get(array.dtype.newbyteorder("<"))
        if code is None:
            raise InputError(str(path), f"{name!r} is of type {array.dtype}", "write arrays of numbers")
        header[name] = {"dtype": code, "shape": list(array.shape), "data_offsets": [end, end + array.nbytes]}
        end += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        stream.write(len(text).to_bytes(_LENGTH_BYTES, "little") + text)
        for name in order:
            array = arrays[name]
            stream.write(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes())


def read_safetensors(path: Path, names: Iterable[str] | None = None) -> dict[str, np.ndarray]:
    """Reads the arrays of a `.safetensors` file.

    Args:
        path: the file.
        names: read these alone, as far as the file has them; every array if None.

    Raises:
        InputError: if the file is missing, damaged, or its header does not describe its buffer exactly.
    """
    size = require_file(path).stat().st_size
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(_LENGTH_BYTES), "little")
        if not 2 <= length <= min(size - _LENGTH_BYTES, _MAX_HEADER_BYTES):
            _refuse(path, f"a header of {length} bytes in a file of {size}")
        entries = _entries(path, stream.read(length))
        buffer = _LENGTH_BYTES + length
        _check_layout(path, entries, size - buffer)
        wanted = set(entries if names is None else names)
        arrays = {}
        for name, (dtype, shape, begin, end) in entries.items():
            if name in wanted:
                if dtype is None:
                    _refuse(path, f"{name!r} is of a type that numpy lacks")
                stream.seek(buffer + begin)
                arrays[name] = np.frombuffer(stream.read(end - begin), dtype).reshape(shape).copy()
    return arrays


_Entry = tuple[np.dtype[Any] | None, tuple[int, ...], int, int]


def _entries(path: Path, text: bytes) -> dict[str, _Entry]:
    """The header: dtype (None where numpy has none), shape, and first and last byte of every array."""
    try:
        header = json.loads(text, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        _refuse(path, f"its header is no JSON ({error})")
    if not isinstance(header, dict):
        _refuse(path, "its header is no JSON object")
    header.pop("__metadata__", None)
    entries: dict[str, _Entry] = {}
    for name, entry in header.items():
        if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
            _refuse(path, f"{name!r} is not described by dtype, shape and data_offsets")
        shape, offsets = entry["shape"], entry["data_offsets"]
        if not _are_counts(shape) or len(shape) > _MAX_DIMENSIONS or not _are_counts(offsets) or len(offsets) != 2:
            _refuse(path, f"{name!r} has no plain shape and offsets")
        begin, end = offsets
        code = _DTYPES.get(entry["dtype"]) if isinstance(entry["dtype"], str) else None
        dtype = None if code is None else np.dtype(code)
        # beside an empty dimension the others may be any size, but not more than numpy can index
        if dtype is not None and (
            math.prod(shape) * dtype.itemsize != end - begin or math.prod(n for n in shape if n) > _MAX_SIZE
        ):
            _refuse(path, f"{name!r} has the shape {shape} in {end - begin} bytes of {entry['dtype']}")
        entries[name] = (dtype, tuple(shape), begin, end)
    return entries


def _check_layout(path: Path, entries: Mapping[str, _Entry], num_bytes: int) -> None:
    """Refuses arrays that overlap, leave gaps, or reach beyond the buffer."""
    at = 0
    for name, (_, _, begin, end) in sorted(entries.items(), key=lambda item: item[1][2:]):
        if begin != at or end < begin:
            _refuse(path, f"{name!r} lies at {begin} to {end}, where {at} bytes are taken")
        at = end
    if at != num_bytes:
        _refuse(path, f"its arrays take {at} bytes, and it holds {num_bytes}")


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("a name stands in it twice")
    return content


def _are_counts(values: Any) -> bool:
    """Whether this is a list of sizes that numpy can index; JSON's true is no size."""
    return isinstance(values, list) and all(type(n) is int and 0 <= n <= _MAX_SIZE for n in values)


def _refuse(path: Path, problem: str) -> NoReturn:
    raise InputError(str(path), f"not a readable .safetensors file: {problem}", "copy or download the file again")
