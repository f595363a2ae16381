"""Batches made ahead by other processes: the same ones, in the same order, however many there are.

`for step, batch in prefetch(sampler, step, end, workers=4)` gives what `sampler.batch(step)` would, so a run that is
killed resumes in the middle of an epoch, with other processes than before if need be.
"""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import numpy as np

from core.errors import StageError
from dataset.loader import WindowSampler

Batch = dict[str, np.ndarray]
# batches that wait for the model, for each process: more only takes memory
_AHEAD = 2

_sampler: WindowSampler | None = None


def prefetch(
    sampler: WindowSampler, start: int, end: int, workers: int = 0
) -> Generator[tuple[int, Batch], None, None]:
    """(step, batch) of the steps from `start` up to `end`.

    Args:
        sampler: which windows; its memory for decoded clips is divided among the processes.
        start: first step.
        end: step to stop before.
        workers: processes that read; 0 to read in this one.

    Raises:
        StageError: if one of the processes is ended from outside.
        InputError: from reading, in the step that it belongs to.
    """
    if workers == 0:
        yield from ((step, sampler.batch(step)) for step in range(start, end))
        return
    # spawn, not fork: torch and HDF5 hold locks that do not survive a fork
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _begin, (sampler, workers)) as pool:
        waiting: deque[tuple[int, Future[Batch]]] = deque()
        steps = iter(range(start, end))
        try:
            for step in steps:
                waiting.append((step, pool.submit(_batch, step)))
                if len(waiting) > _AHEAD * workers:
                    yield _next(waiting)
            while waiting:
                yield _next(waiting)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _next(waiting: deque[tuple[int, Future[Batch]]]) -> tuple[int, Batch]:
    step, future = waiting.popleft()
    try:
        return step, future.result()
    except BrokenProcessPool as error:
        problem = "one of the processes that read windows was ended from outside"
        raise StageError(f"step {step}", problem, "free memory, or use fewer processes") from error


def _begin(sampler: WindowSampler, workers: int) -> None:
    """In each process, once."""
    global _sampler
    sampler.reader.share_memory(workers)
    _sampler = sampler


def _batch(step: int) -> Batch:
    assert _sampler is not None
    return _sampler.batch(step)
