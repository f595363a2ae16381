"""The folder of a run: who may write into it, what it began with, where it stands, and how it ended.

`config.json` (recipe, data, code and library versions; written before the first step), `starts.jsonl` (what each start
computed on), `losses.jsonl` (a line a step), `metrics.jsonl` (a line an evaluation), `mining.json`, `checkpoint.pt`,
`tensorboard/`, and `result.json` at the end. The main process alone touches it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import StageError
from core.files import read_json, sha256_of_file, to_jsonable, write_json
from dataset.shards import AmdDataset
from model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from model.logs import LOSSES, METRICS, TENSORBOARD, cut_back, read_lines

CHECKPOINT, CONFIG, MINING, RESULT, STARTS = (
    "checkpoint.pt", "config.json", "mining.json", "result.json", "starts.jsonl"
)  # fmt: skip
_OWN_FILES = (CHECKPOINT, LOSSES, METRICS, CONFIG, MINING, RESULT, STARTS)


@dataclass(frozen=True)
class TrainResult:
    """How a run ended.

    Attributes:
        run: its folder.
        steps: steps done.
        losses: for each phase, the mean loss of its first and of its last tenth.
        first: evaluation of the untrained network.
        last: evaluation at the end; `split` says on which clips.
    """

    run: Path
    steps: int
    losses: Mapping[str, Mapping[str, float]]
    first: Mapping[str, Any]
    last: Mapping[str, Any]


@contextlib.contextmanager
def only_process(out: Path) -> Iterator[None]:
    """Holds the run's folder while the block runs; two runs would write into each other's logs.

    Raises:
        StageError: if another process holds it.
    """
    out.mkdir(parents=True, exist_ok=True)
    with (out / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StageError(str(out), "another process is training in it", "wait for it, or use another") from error
        yield


def run_identity(recipe: Any, dataset: AmdDataset) -> Mapping[str, Any]:
    """What makes a run this one: its recipe, and hashes of every clip with its split and of the statistics."""
    identity: Mapping[str, Any] = to_jsonable({"recipe": recipe, "data": data_identity(dataset)})
    return identity


def data_identity(dataset: AmdDataset) -> Mapping[str, str]:
    """Hashes of every clip with its split, and of the statistics."""
    clips = {clip.id: f"{clip.sha256} {clip.split}" for clip in dataset.clips}
    return {**clips, "meta/stats.json": sha256_of_file(dataset.path / "meta" / "stats.json")}


class RunFolder:
    """Reads and writes a run's folder.

    Args:
        path: the folder.
        identity: of the run, see `run_identity`.
        total_steps: of its recipe.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any], total_steps: int) -> None:
        self.path, self._identity, self._total_steps = path, identity, total_steps

    def begin(self, resume: bool) -> Checkpoint | None:
        """The checkpoint to go on from, if there is one; without `resume`, all that is there is removed.

        Raises:
            InputError: if the checkpoint cannot be read.
            StageError: if it belongs to another run.
        """
        if not resume:
            for name in _OWN_FILES:
                (self.path / name).unlink(missing_ok=True)
            shutil.rmtree(self.path / TENSORBOARD, ignore_errors=True)
        path = self.path / CHECKPOINT
        return load_checkpoint(path, self._identity) if path.is_file() else None

    def finished(self, step: int) -> TrainResult | None:
        """The result that is already there, if the run has come to its end."""
        if step < self._total_steps or not (self.path / RESULT).is_file():
            return None
        return TrainResult(**{**read_json(self.path / RESULT), "run": self.path})

    def open_at(self, step: int, dataset: str, hardware: Mapping[str, Any]) -> None:
        """Before the first step of this start: writes down what it is, and cuts the logs back to where it begins.

        A resumed run keeps the `config.json` that it began with.

        Args:
            step: where it begins.
            dataset: name of what it learns from.
            hardware: what it computes on.
        """
        from core.versions import code_version, library_versions

        about = {"code_version": code_version(), "libraries": library_versions()}
        if step == 0 or not (self.path / CONFIG).is_file():
            begun = {"recipe": self._identity["recipe"], "dataset": dataset, "data": self._identity["data"]}
            write_json(self.path / CONFIG, {"schema": "action-motifs/run/1", **begun, **about})
        with (self.path / STARTS).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(to_jsonable({"step": step, "hardware": hardware, **about})) + "\n")
        for name in (LOSSES, METRICS):
            cut_back(self.path / name, step)

    def save(self, step: int, state: Mapping[str, Any]) -> None:
        """Writes a checkpoint, complete or not at all."""
        save_checkpoint(self.path / CHECKPOINT, Checkpoint(self._identity, step, **state))

    def result(self, step: int) -> TrainResult:
        """Sums up the logs; at the run's end it is kept as `result.json`."""
        lines, metrics = (read_lines(self.path / name) for name in (LOSSES, METRICS))
        losses = {}
        for phase in dict.fromkeys(line["phase"] for line in lines):
            values = [line["loss"] for line in lines if line["phase"] == phase]
            tenth = max(len(values) // 10, 1)
            losses[phase] = {"first": float(np.mean(values[:tenth])), "last": float(np.mean(values[-tenth:]))}
        found = TrainResult(self.path, step, losses, metrics[0] if metrics else {}, metrics[-1] if metrics else {})
        if step == self._total_steps:
            write_json(self.path / RESULT, {**to_jsonable(found), "run": self.path.name})
        return found
