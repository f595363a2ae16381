"""Processes for work inside one call: started once, by spawning, and used again by later calls."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache


@lru_cache(maxsize=1)
def process_pool(workers: int) -> ProcessPoolExecutor:
    """A pool of processes that lives as long as this one.

    They are spawned, not forked: torch and OpenCV hold threads that do not survive a fork.
    """
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
