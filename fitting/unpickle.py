"""Reads the arrays of a pickle without running anything in it.

The official SMPL files are Python-2 pickles of numpy arrays, scipy sparse matrices and chumpy objects. A pickle is a
program: unpickling an untrusted one runs whatever its author wished. Here every global that a pickle names becomes an
inert record which only remembers what it was called with, and any global outside a short list is refused. The records
are turned into arrays afterwards, by this module's own code; neither numpy's, scipy's nor chumpy's is called with the
file's data, so chumpy (which no longer installs) is not needed either.
"""

from __future__ import annotations

import io
import math
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import InputError
from core.files import require_file
from core.pickles import require_plain_keys

# Module paths moved over the years: numpy.core -> numpy._core, scipy.sparse.csc -> scipy.sparse._csc, copy_reg.
_ALLOWED = {
    "reconstruct": re.compile(r"numpy\.(_?core)\.multiarray _reconstruct"),
    "frombuffer": re.compile(r"numpy\.(_?core)\.numeric _frombuffer"),
    "scalar": re.compile(r"numpy\.(_?core)\.multiarray scalar"),
    "ndarray": re.compile(r"numpy ndarray"),
    "dtype": re.compile(r"numpy dtype"),
    "sparse": re.compile(r"scipy\.sparse(\._?(csc|csr|coo))? (csc|csr|coo)_(matrix|array)"),
    "chumpy": re.compile(r"chumpy(\.\w+)* \w+"),
    "dict": re.compile(r"collections OrderedDict"),
    "encode": re.compile(r"_codecs encode"),
    "object": re.compile(r"(copy_reg|copyreg) _reconstructor"),
    "base": re.compile(r"(__builtin__|builtins) object"),
}

# What the unpickler raises on a damaged stream, or on a stream that treats a record as something it is not.
_DAMAGED = (
    pickle.UnpicklingError, EOFError, AttributeError, IndexError, KeyError, TypeError, ValueError, OverflowError,
    MemoryError, RecursionError,
)  # fmt: skip


_MAX_BYTES = 1 << 32  # the largest body models are below 1 GiB


class _Record:
    """Stands where an object would: what it was called with, its state, and its items."""

    kind = ""
    origin = ""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args = args

    def __new__(cls, *args: Any, **kwargs: Any) -> _Record:
        record = super().__new__(cls)
        record.args, record.state, record.items = args, None, {}
        return record

    args: tuple[Any, ...]
    state: Any
    items: dict[Any, Any]
    looked_into = False
    found: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items[key] = value


class _InertUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        for kind, pattern in _ALLOWED.items():
            if pattern.fullmatch(f"{module} {name}"):
                # a class of its own for every mention: nothing that a file does to it outlives the file
                return type("_Record", (_Record,), {"kind": kind, "origin": f"{module}.{name}"})
        raise _ForbiddenGlobal(f"{module}.{name}")


class _ForbiddenGlobal(Exception):
    """A pickle asks for something that a body model has no use for."""


def read_pickle_arrays(path: Path) -> dict[str, Any]:
    """The top-level entries of a pickled dict; arrays, sparse matrices and chumpy leaves as dense numpy arrays.

    Entries that are none of these (strings, dicts, derived chumpy expressions) come back as they are, inert.

    Raises:
        InputError: if the file is missing or damaged, holds no dict, or names a global that is not allowed.
    """
    require_file(path)
    try:
        data = path.read_bytes()
        require_plain_keys(data)
        content = _InertUnpickler(io.BytesIO(data), encoding="latin1").load()
        if isinstance(content, _Record) and content.kind == "dict":
            content = content.items
        if isinstance(content, dict):
            return _resolved(content)
    except _ForbiddenGlobal as error:
        raise InputError(
            str(path),
            f"the pickle asks for {error}, which no SMPL file needs; nothing in it was run",
            "get the file from its publisher again, or convert it to .npz where you trust it",
        ) from error
    except _DAMAGED as error:
        raise InputError(str(path), f"not a readable pickle ({error})", "copy or download the file again") from error
    raise InputError(str(path), f"the pickle holds a {type(content).__name__}, not a dict", "give an SMPL body model")


def _resolved(content: dict[Any, Any]) -> dict[str, Any]:
    """All entries, as long as memory may be asked for them: many arrays can be made of the same bytes.

    Raises:
        ValueError: if they are too many.
    """
    arrays: dict[str, Any] = {}
    num_bytes = 0
    for key, value in content.items():
        arrays[str(key)] = found = _resolve(value)
        num_bytes += found.nbytes if isinstance(found, np.ndarray) else 0
        if num_bytes > _MAX_BYTES:
            raise ValueError(f"its arrays are more than {_MAX_BYTES >> 30} GiB")
    return arrays


def _resolve(value: Any) -> Any:
    """A record as the array it describes; anything else as it is. Each is looked into once."""
    if not isinstance(value, _Record):
        return value
    if not value.looked_into:
        value.found = _array_of(value)
        value.looked_into = True
    return value.found


def _array_of(value: _Record) -> Any:
    if value.kind in ("reconstruct", "frombuffer", "scalar"):
        return _array(value)
    if value.kind == "sparse":
        return _dense(value)
    if value.kind == "chumpy" or (value.kind == "object" and _is_chumpy(value)):
        return _chumpy_value(value)
    return value


def _is_chumpy(record: _Record) -> bool:
    made = record.args[0] if record.args else None
    return isinstance(made, type) and issubclass(made, _Record) and made.kind == "chumpy"


def _array(record: _Record) -> Any:
    """Rebuilds an array from numpy's pickle state; object arrays stay records."""
    if record.kind == "reconstruct":
        if record.state is None:
            return record
        _, shape, dtype, fortran, raw = record.state
        order = "F" if fortran else "C"
    elif record.kind == "frombuffer":
        raw, dtype, shape, order = record.args
    else:
        (dtype, raw), shape, order = record.args, (), "C"
    described = _dtype(dtype)
    if described is None:
        return record
    flat = np.frombuffer(_bytes(raw), dtype=described)
    return flat.reshape(shape, order="F" if order == "F" else "C").copy()


def _dtype(record: Any) -> np.dtype[Any] | None:
    """A plain number dtype; None for objects, strings and structures."""
    code = record.args[0] if isinstance(record, _Record) and record.args else ""
    match = re.fullmatch(r"([biuf])(\d{1,2})", code) if isinstance(code, str) else None
    if match is None:
        return None
    byte_order = record.state[1] if isinstance(record.state, tuple) and len(record.state) > 1 else "<"
    return np.dtype(f"{byte_order if byte_order in '<>|=' else '<'}{code}")


def _bytes(raw: Any) -> bytes:
    """Raw array content: bytes, or text that stands for latin-1 bytes in Python-2 and protocol-2 pickles."""
    if isinstance(raw, _Record) and raw.kind == "encode" and raw.args[1:2] == ("latin1",):
        raw = raw.args[0]
    if isinstance(raw, str):
        return raw.encode("latin1")
    return bytes(memoryview(raw))


def _dense(record: _Record) -> np.ndarray:
    """A compressed or coordinate scipy matrix as a dense array."""
    state = {key: _resolve(item) for key, item in record.state.items()}
    shape = tuple(int(_resolve(n)) for n in (state["_shape"] if "_shape" in state else state["shape"]))
    data = state["data"]
    if math.prod(shape) * data.dtype.itemsize > _MAX_BYTES:
        raise ValueError(f"a matrix of {shape}")
    dense = np.zeros(shape, dtype=data.dtype)
    if "indptr" in state:
        by_column = "csc" in record.origin
        major = np.repeat(np.arange(len(state["indptr"]) - 1), np.diff(state["indptr"]))
        rows, columns = (state["indices"], major) if by_column else (major, state["indices"])
    elif "coords" in state:
        rows, columns = (_resolve(axis) for axis in state["coords"])
    else:
        rows, columns = state["row"], state["col"]
    np.add.at(dense, (rows, columns), data)
    return dense


def _chumpy_value(record: _Record) -> Any:
    """The value of a chumpy leaf (`x`), a cached result (`r`) or a selection of a leaf; else the record itself."""
    state = record.state if isinstance(record.state, dict) else {}
    for name in ("x", "r"):
        value = _resolve(state.get(name))
        if isinstance(value, np.ndarray):
            return value
    source, chosen = _resolve(state.get("a")), _resolve(state.get("idxs"))
    if isinstance(source, np.ndarray) and isinstance(chosen, np.ndarray):
        # chumpy.reordering.Select: what slicing a chumpy array leaves behind
        shape = _resolve(state.get("preferred_shape", chosen.shape))
        return source.ravel()[chosen].reshape(tuple(int(_resolve(n)) for n in shape))
    return record
