"""Errors that a laboratory can act on: what failed, the value that shows it, and what to do next."""

from __future__ import annotations


class MotifsError(Exception):
    """A failure with its cause and its cure; the command prints it without a traceback and exits with status 1.

    Args:
        item: what failed (a camera, a clip, a file, a stage), as its user knows it.
        problem: what is wrong, with the offending value in it.
        action: what the user can do next.
    """

    def __init__(self, item: str, problem: str, action: str) -> None:
        super().__init__(item, problem, action)
        self.item = item
        self.problem = problem
        self.action = action

    def __str__(self) -> str:
        return f"{self.item}: {self.problem}. Next: {self.action}"


class InputError(MotifsError):
    """Something given by the user cannot be used: missing, damaged, or of another kind than declared."""


class GateError(MotifsError):
    """A result was computed and is not believable: a health figure lies past its threshold."""


class StageError(MotifsError):
    """A stage cannot run or be reused as asked: inputs missing, settings changed, too many items failed."""


class BusyError(StageError):
    """Another process is at work on the stage."""
