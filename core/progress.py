"""One progress bar for all long work: rate and time left on a terminal, silence anywhere else."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Advance(Protocol):
    """Reports that some of the work is done."""

    def __call__(self, amount: int = 1) -> None: ...


@contextmanager
def progress(title: str, total: int | None) -> Iterator[Advance]:
    """Shows a bar on standard error while the block runs; yields the function that advances it."""
    if not sys.stderr.isatty():
        yield lambda amount=1: None
        return
    # only where there is a terminal: training runs on machines that have torch, numpy and h5py alone
    from rich import progress as rich

    class Rate(rich.ProgressColumn):
        def render(self, task: rich.Task) -> str:
            speed = task.finished_speed or task.speed
            return "" if speed is None else f"{speed:.1f}/s"

    columns = (rich.TextColumn("{task.description}"), rich.BarColumn(), rich.MofNCompleteColumn(), Rate())
    console = rich.Console(stderr=True)
    with rich.Progress(*columns, rich.TimeRemainingColumn(), console=console, transient=True) as bar:
        task = bar.add_task(title, total=total)
        yield lambda amount=1: bar.advance(task, amount)
