"""Progress of all long work on one display: a line for the work, and a line for each item under way.

Rate and time left on a terminal, silence anywhere else. What runs inside other work adds its line to the same display;
worker processes send theirs through a pipe.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from typing import Any, Protocol

_POLL_S = 0.2  # how often lines of other processes are sent and drawn

_display: Any = None  # the one that is live in this process
_outbox: Connection | None = None  # in a worker process: the pipe to its parent


class Advance(Protocol):
    """Reports that some of the work is done."""

    def __call__(self, amount: int = 1) -> None: ...


@contextmanager
def progress(title: str, total: int | None) -> Iterator[Advance]:
    """Shows a line on standard error while the block runs; yields the function that advances it."""
    if _outbox is not None:
        with _sent(_outbox, title, total) as advance:
            yield advance
    elif _display is not None:
        with _line(_display, title, total) as advance:
            yield advance
    elif sys.stderr.isatty():
        with _shown(), _line(_display, title, total) as advance:
            yield advance
    else:
        yield lambda amount=1: None


@contextmanager
def lines_from_workers(context: BaseContext) -> Iterator[Connection | None]:
    """Draws the lines of worker processes while the block runs; yields what `send_lines_to` needs in each of them."""
    if _display is None:
        yield None
        return
    reader, writer = context.Pipe(duplex=False)
    over = threading.Event()
    drawer = threading.Thread(target=_draw, args=(_display, reader, over), daemon=True)
    drawer.start()
    try:
        yield writer
    finally:
        over.set()
        drawer.join()
        writer.close()
        reader.close()


def send_lines_to(outbox: Connection | None) -> None:
    """Makes this worker process send its lines to its parent."""
    global _outbox
    _outbox = outbox


def _draw(display: Any, reader: Connection, over: threading.Event) -> None:
    """Keeps the lines of other processes up to date: messages are (key, title, total, amount or None at the end)."""
    tasks: dict[str, Any] = {}
    while not over.is_set():
        while reader.poll(_POLL_S):
            key, title, total, amount = reader.recv()
            if amount is None:
                if key in tasks:
                    display.remove_task(tasks.pop(key))
                continue
            if key not in tasks:
                tasks[key] = display.add_task(title, total=total)
            display.advance(tasks[key], amount)


@contextmanager
def _sent(outbox: Connection, title: str, total: int | None) -> Iterator[Advance]:
    """A line in another process. Small messages are written whole, so that workers share a pipe without a lock."""
    key, waiting, sent_s = f"{os.getpid()} {title}", 0, 0.0

    def advance(amount: int = 1) -> None:
        nonlocal waiting, sent_s
        waiting += amount
        if time.monotonic() - sent_s > _POLL_S:
            outbox.send((key, title, total, waiting))
            waiting, sent_s = 0, time.monotonic()

    try:
        yield advance
    finally:
        outbox.send((key, title, total, None))


@contextmanager
def _line(display: Any, title: str, total: int | None) -> Iterator[Advance]:
    task = display.add_task(title, total=total)
    try:
        yield lambda amount=1: display.advance(task, amount)
    finally:
        display.remove_task(task)


@contextmanager
def _shown() -> Iterator[None]:
    """Makes a display live in this process."""
    global _display
    # only where there is a terminal: training runs on machines that have torch, numpy and h5py alone
    from rich import progress as rich

    class Rate(rich.ProgressColumn):
        def render(self, task: rich.Task) -> str:
            speed = task.finished_speed or task.speed
            return "" if speed is None else f"{speed:.1f}/s"

    columns = (rich.TextColumn("{task.description}"), rich.BarColumn(), rich.MofNCompleteColumn(), Rate())
    console = rich.Console(stderr=True)
    with rich.Progress(*columns, rich.TimeRemainingColumn(), console=console, transient=True) as display:
        _display = display
        try:
            yield
        finally:
            _display = None
