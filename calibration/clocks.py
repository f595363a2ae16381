"""The clocks of a session as calibration left them: those the rig refined, over those of synchronisation.

Whatever runs after the rig takes its times from here, and declares `clock_inputs` as inputs. The rig itself takes them
from `capture.sync`, because it may not read its own result.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from capture import sync
from core.arrays import Float
from core.clock import Clock
from core.errors import InputError
from core.files import read_json, read_npz

REFINED = Path("04_rig") / "clocks.json"


def load_clocks(session_dir: Path) -> dict[str, Clock]:
    """Clock of every view: the refined one where the rig refined it (`04_rig/clocks.json`), else synchronisation's.

    Raises:
        InputError: if the views are not synchronised yet.
    """
    clocks = sync.load_clocks(session_dir)
    path = session_dir / REFINED
    if path.is_file():
        clocks |= {view_id: Clock.from_json(clock) for view_id, clock in read_json(path)["clocks"].items()}
    return clocks


def load_times(session_dir: Path, view_id: str) -> Float[np.ndarray, "frames"]:
    """Times of a view's frames on the session clock, seconds (of row 0, for a rolling shutter).

    Raises:
        InputError: if the view has no clock.
    """
    clocks = load_clocks(session_dir)
    if view_id not in clocks:
        raise InputError(view_id, "it has no clock", "run `motifs sync` again with this view in session.json")
    return clocks[view_id].to_session(read_npz(session_dir / sync.STAGE / f"{view_id}.times.npz")["t_local_s"])


def clock_inputs(session_dir: Path, views: Iterable[str]) -> dict[str, Path]:
    """The files behind the clocks of some views, to be declared as inputs of a stage that uses them."""
    folder = session_dir / sync.STAGE
    inputs = {"clocks": folder / "clocks.json"}
    if (session_dir / REFINED).is_file():
        inputs["refined clocks"] = session_dir / REFINED
    return inputs | {f"times of {view_id}": folder / f"{view_id}.times.npz" for view_id in views}
