"""Progress: silent without a terminal, and lines of worker processes reach the display of their parent."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import pytest

from core import progress
from core.progress import lines_from_workers, send_lines_to


class Display:
    """What the drawing thread needs of a display."""

    def __init__(self) -> None:
        self.done: dict[str, int] = {}
        self.total: dict[str, int | None] = {}
        self.removed: list[str] = []

    def add_task(self, title: str, total: int | None) -> str:
        self.done[title], self.total[title] = 0, total
        return title

    def advance(self, task: str, amount: int) -> None:
        self.done[task] += amount

    def remove_task(self, task: str) -> None:
        self.removed.append(task)


def work(title: str) -> None:
    with progress.progress(title, 5) as advance:
        for _ in range(5):
            advance()


def test_nothing_is_shown_without_a_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    with lines_from_workers(multiprocessing.get_context("spawn")) as outbox:
        assert outbox is None
        work("quiet")
    assert capfd.readouterr().err == ""


def test_work_inside_work_has_a_line_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    display = Display()
    monkeypatch.setattr(progress, "_display", display)
    with progress.progress("outer", 1):
        work("inner")
        assert display.removed == ["inner"]
    assert display.done == {"outer": 0, "inner": 5}


def test_lines_of_worker_processes_are_drawn_by_their_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    display = Display()
    monkeypatch.setattr(progress, "_display", display)
    context = multiprocessing.get_context("spawn")
    with (
        lines_from_workers(context) as outbox,
        ProcessPoolExecutor(2, mp_context=context, initializer=send_lines_to, initargs=(outbox,)) as pool,
    ):
        list(pool.map(work, ["a", "b", "c"]))
    assert sorted(display.removed) == ["a", "b", "c"]
    assert set(display.total.values()) == {5}
    assert all(done >= 1 for done in display.done.values())
