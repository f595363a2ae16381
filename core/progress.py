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
from typing import Any, Protocol, runtime_checkable

_POLL_S = 0.2  # how often lines of other processes are sent and drawn

# of a line: key, title, total, and how much is done more; None when it has ended
Line = tuple[str, str, int | None, int | None]


@runtime_checkable
class Outbox(Protocol):
    """Takes lines to where they are drawn."""

    def send(self, message: Line, /) -> None: ...


_display: Any = None  # the one that is live in this process
_outbox: Outbox | None = None  # in a worker process: the pipe to its parent


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
    lines = remote_lines()
    if lines is None:
        yield None
        return
    reader, writer = context.Pipe(duplex=False)
    over = threading.Event()
    drawer = threading.Thread(target=_draw, args=(lines, reader, over), daemon=True)
    drawer.start()
    try:
        yield writer
    finally:
        over.set()
        drawer.join()
        writer.close()
        reader.close()


def send_lines_to(outbox: Outbox | None) -> None:
    """Makes this worker process send its lines to its parent."""
    global _outbox
    _outbox = outbox


def remote_lines() -> RemoteLines | None:
    """Lines of other processes on the live display; None if there is none."""
    return None if _display is None else RemoteLines(_display)


class RemoteLines:
    """Lines of other processes.

    Args:
        display: where they are drawn.
    """

    def __init__(self, display: Any) -> None:
        self._display = display
        self._tasks: dict[str, Any] = {}

    def take(self, message: Line) -> None:
        """Brings a line up to date."""
        key, title, total, amount = message
        if amount is None:
            if key in self._tasks:
                self._display.remove_task(self._tasks.pop(key))
            return
        if key not in self._tasks:
            self._tasks[key] = self._display.add_task(title, total=total)
        self._display.advance(self._tasks[key], amount)


def _draw(lines: RemoteLines, reader: Connection, over: threading.Event) -> None:
    """Keeps the lines of other processes up to date."""
    while not over.is_set():
        while reader.poll(_POLL_S):
            lines.take(reader.recv())


@contextmanager
def _sent(outbox: Outbox, title: str, total: int | None) -> Iterator[Advance]:
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
