"""Two short stages for tests of running many sessions: each writes a line to the session's journal for every item."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from capture.session import Session
from core.errors import InputError
from core.stage import Manifest, no_items, run_stage
from motifs.pipeline import Step

ITEMS = ("a", "b", "c")


def _item(session: Path, stage: str, item: str, folder: Path) -> Mapping[str, Any]:
    marker = session / f"{stage}-{item}"
    if marker.is_file():  # what the test wants to happen here, once or always
        told = marker.read_text()
        if told != "always fatal":
            marker.unlink()
        if "fatal" in told:
            os.kill(os.getpid(), signal.SIGKILL)
        if told == "defect":
            raise ZeroDivisionError("of the stage")
        raise InputError(item, told, "look at it")
    (folder / f"{item}.txt").write_text(item)
    with (session / "journal").open("a") as journal:
        journal.write(f"{stage} {item}\n")
    return {}


def run(folder: Path, config: Any, *, workers: int = 1, redo: bool = False, stage: str = "01_sync") -> Manifest:
    """The first stage."""
    return run_stage(
        stage, 1, inputs={"session": folder / "session.json"}, config=config, out=folder / stage, items=ITEMS,
        process=partial(_item, folder, stage), finish=no_items, workers=workers, redo=redo,
    )  # fmt: skip


class _Second(Step):
    def run(self, folder: Path, config: Any, *, workers: int = 1, redo: bool = False) -> Manifest:
        return run(folder, config, workers=workers, redo=redo, stage=self.folder)


def _always(session: Session) -> bool:
    return True


STEPS = (
    Step("sync", "01_sync", "short_stages", "sync", _always),
    _Second("fit", "07_smpl", "short_stages", "fit", _always),
)
