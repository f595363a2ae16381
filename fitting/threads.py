"""Keeps BLAS to one thread where matrices are small.

The normal equations are thousands of 150 x 150 blocks. Two BLAS threads gain nothing on those, and when other processes
hold the cores they wait for each other in a busy loop: the fit was seen to take a hundred times longer. The setting is
asked of the OpenBLAS libraries that numpy and scipy have loaded; where there are none nothing happens.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

_MAPS = Path("/proc/self/maps")
# numpy's and scipy's own builds carry a prefix, and a suffix where their integers have 64 bits
_SYMBOLS = [f"{prefix}openblas_%s_num_threads{suffix}" for prefix in ("scipy_", "") for suffix in ("64_", "")]


@contextmanager
def single_blas_thread() -> Iterator[None]:
    """One BLAS thread inside the block, as many as before after it."""
    controls = _controls()
    before = [get() for get, _ in controls]
    for _, put in controls:
        put(1)
    try:
        yield
    finally:
        for (_, put), count in zip(controls, before, strict=True):
            put(count)


@cache
def _controls() -> list[tuple[Any, Any]]:
    """Getter and setter of the number of threads of every OpenBLAS loaded."""
    if not _MAPS.is_file():
        return []
    lines = _MAPS.read_text().splitlines()
    paths = sorted({line.split(maxsplit=5)[-1] for line in lines if "openblas" in line and ".so" in line})
    controls = []
    for path in paths:
        library = ctypes.CDLL(path)
        for symbol in _SYMBOLS:
            if hasattr(library, symbol % "set"):
                controls.append((getattr(library, symbol % "get"), getattr(library, symbol % "set")))
                break
    return controls
