"""A run's logs: lines of JSON, which a resumed run continues digit by digit, and the same figures for TensorBoard."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.files import to_jsonable, write_text

LOSSES, METRICS, TENSORBOARD = "losses.jsonl", "metrics.jsonl", "tensorboard"


class Logs:
    """Writes the lines of a run from a step on; where `tensorboard` is installed, its events too.

    Args:
        folder: the run's.
        step: the first that will be written: events of it and of later ones, left by a killed run, are void.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self._folder = folder
        self._losses = (folder / LOSSES).open("a", encoding="utf-8")
        self._events = _event_writer(folder / TENSORBOARD, step)

    def loss(self, line: Mapping[str, Any]) -> None:
        """A step."""
        self._losses.write(json.dumps(line) + "\n")
        self._losses.flush()
        self._scalars("train", line)

    def metrics(self, line: Mapping[str, Any]) -> None:
        """An evaluation."""
        with (self._folder / METRICS).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(to_jsonable(line)) + "\n")
        self._scalars(str(line["split"]) if line["split"] != "train" else "train_whole", line)

    def mining(self, figures: Mapping[str, Any], step: int) -> None:
        """The figures of the mining, which have a file of their own; for TensorBoard alone."""
        self._scalars("mining", {"step": step, **figures})

    def close(self) -> None:
        """Ends the files."""
        self._losses.close()
        if self._events is not None:
            self._events.close()

    def _scalars(self, group: str, line: Mapping[str, Any]) -> None:
        if self._events is None:
            return
        for name, value in line.items():
            if name != "step" and isinstance(value, (int, float)):
                self._events.add_scalar(f"{group}/{name}", value, line["step"])


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Whole lines of a log; the last may have been torn by a kill."""
    if not path.is_file():
        return []
    text = path.read_text(encoding="utf-8")
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def cut_back(path: Path, step: int) -> None:
    """Drops the lines of steps that will be done again."""
    kept = [line for line in read_lines(path) if line["step"] < step]
    write_text(path, "".join(json.dumps(line) + "\n" for line in kept))


def _event_writer(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:  # a bare GPU machine; the lines of JSON hold the same figures
        return None
    return SummaryWriter(str(folder), purge_step=step)
