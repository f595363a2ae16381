"""Which device computes, and how its sums are kept in one order."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import torch

from core.errors import InputError


def choose_device(device: str) -> torch.device:
    """The device of a name; `auto` takes a GPU where there is one.

    Raises:
        InputError: if there is no such device.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise InputError(device, "no such device", "use cpu, cuda or auto") from error
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise InputError(device, "this machine has no GPU that torch can use", "use cpu or auto")
    return chosen


@contextlib.contextmanager
def reproducible(threads: int) -> Iterator[None]:
    """Fixed threads and deterministic algorithms while the block runs."""
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    # cuBLAS reads it when it starts; without it, deterministic mode refuses matrix products on a GPU
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(before[1])
