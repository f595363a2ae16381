"""Processes for work inside one call: for one piece of work, or started once and used again by later calls.

They are spawned, not forked: torch and OpenCV hold threads that do not survive a fork.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import lru_cache


@lru_cache(maxsize=1)
def process_pool(workers: int) -> ProcessPoolExecutor:
    """A pool of processes that lives as long as this one."""
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))


@contextmanager
def processes(workers: int) -> Iterator[ProcessPoolExecutor | None]:
    """A pool of processes for one piece of work; None where one worker does it itself."""
    if workers <= 1:
        yield None
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool
