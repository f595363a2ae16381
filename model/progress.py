"""How far a run is: a bar with rate and time left on a terminal, a plain line now and then anywhere else.

Drawn by hand, as training runs on machines without libraries for it.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Protocol, runtime_checkable

_REDRAW_S, _LINE_S = 0.2, 30.0
# the rate is of the last steps: the two phases differ, and evaluations come in between
_RECENT = 200
_BAR_WIDTH = 24


@runtime_checkable
class Stream(Protocol):
    """What the progress needs of a text stream."""

    def write(self, text: str, /) -> int: ...
    def flush(self) -> None: ...
    def isatty(self) -> bool: ...


class Progress:
    """Steps of a run on a stream.

    Args:
        title: what runs.
        done: steps that an earlier start has done.
        total: of the whole run.
        stream: standard error if None.
        clock: seconds.
    """

    def __init__(
        self,
        title: str,
        done: int,
        total: int,
        stream: Stream | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._title, self._total = title, total
        self._stream = sys.stderr if stream is None else stream
        self._clock, self._terminal = clock, self._stream.isatty()
        self._times: deque[tuple[float, int]] = deque([(clock(), done)], maxlen=_RECENT)
        self._said_s = clock()
        self._text = ""

    def advance(self, line: Mapping[str, Any]) -> None:
        """After a step, with its line of the log."""
        now, done = self._clock(), int(line["step"]) + 1
        self._times.append((now, done))
        self._text = f"{line['phase']} loss {line['loss']:.4f}"
        if now - self._said_s >= (_REDRAW_S if self._terminal else _LINE_S) or done == self._total:
            self._said_s = now
            self._say()

    def note(self, text: str) -> None:
        """A line that stays."""
        print(f"{self._erase()}{text}", file=self._stream, flush=True)

    def close(self) -> None:
        """Leaves the last state on a line of its own."""
        if self._terminal and self._text:
            self._say()
            print(file=self._stream, flush=True)

    def rate(self) -> float:
        """Steps a second of late; 0 before the first."""
        (begin_s, first), (end_s, last) = self._times[0], self._times[-1]
        return (last - first) / (end_s - begin_s) if end_s > begin_s else 0.0

    def _say(self) -> None:
        done, rate = self._times[-1][1], self.rate()
        left = f"{timedelta(seconds=round((self._total - done) / rate))} left" if rate > 0 else "time left unknown"
        figures = f"{done}/{self._total}  {rate:.3g} steps/s  {left}  {self._text}"
        if not self._terminal:
            print(f"{self._title}: {figures}", file=self._stream, flush=True)
            return
        filled = round(_BAR_WIDTH * done / max(self._total, 1))
        text = f"{self._title} [{'#' * filled}{'.' * (_BAR_WIDTH - filled)}] {figures}"
        width = shutil.get_terminal_size().columns
        self._stream.write(f"{self._erase()}{text[: width - 1]}")
        self._stream.flush()

    def _erase(self) -> str:
        return "\r\x1b[K" if self._terminal else ""
