"""The bar on a terminal and the plain lines elsewhere, with rate and time left from a clock that the test moves."""

from __future__ import annotations

import io
from typing import Any

from model.progress import Progress


class Terminal(io.StringIO):
    """A stream that says it is one."""

    def isatty(self) -> bool:
        return True


class Clock:
    """Seconds that move when told."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def step(number: int) -> dict[str, Any]:
    return {"step": number, "phase": "stage1", "loss": 0.25, "lr": 1e-3}


def run(stream: io.StringIO, first: int, last: int, total: int) -> Progress:
    """Two steps a second."""
    clock = Clock()
    progress = Progress("train tiny", first, total, stream, clock)
    for number in range(first, last):
        clock.now_s += 0.5
        progress.advance(step(number))
    return progress


def test_a_file_gets_a_line_now_and_then() -> None:
    stream = io.StringIO()
    run(stream, 100, 240, 1000).close()
    lines = stream.getvalue().splitlines()
    # every thirty seconds: steps 160 and 220
    assert lines == [
        "train tiny: 160/1000  2 steps/s  0:07:00 left  stage1 loss 0.2500",
        "train tiny: 220/1000  2 steps/s  0:06:30 left  stage1 loss 0.2500",
    ]


def test_the_last_step_is_always_said() -> None:
    stream = io.StringIO()
    run(stream, 0, 4, 4).close()
    assert stream.getvalue() == "train tiny: 4/4  2 steps/s  0:00:00 left  stage1 loss 0.2500\n"


def test_a_terminal_gets_a_bar_and_notes_stay() -> None:
    stream = Terminal()
    progress = run(stream, 0, 500, 1000)
    progress.note("step 500: look here")
    progress.close()
    drawn = stream.getvalue().split("\r\x1b[K")
    assert "[############............] 500/1000" in drawn[-1] and drawn[-2] == "step 500: look here\n"
    assert all(len(text.rstrip("\n")) < 80 for text in drawn) and drawn[-1].endswith("\n")


def test_the_rate_forgets_what_was_long_ago() -> None:
    clock = Clock()
    progress = Progress("train tiny", 0, 10_000, io.StringIO(), clock)
    for number in range(1000):
        clock.now_s += 10.0 if number < 500 else 0.1
        progress.advance(step(number))
    assert abs(progress.rate() - 10.0) < 1e-6
