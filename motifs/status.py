"""Where a session stands: which stages are done, refused or waiting, their health, and the next command."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from capture.session import Session
from core.files import read_json
from motifs.pipeline import Step, steps_of

State = Literal["done", "refused", "interrupted", "waiting"]


@dataclass(frozen=True)
class StepStatus:
    """State of one stage.

    Attributes:
        step: the stage.
        state: done; refused (a health figure does not hold); interrupted (begun, will go on); waiting.
        health: the health figures of its manifest.
        failed: items that failed, with their reasons.
        seconds: wall time of the run that completed it, NaN if none did.
    """

    step: Step
    state: State
    health: tuple[dict[str, Any], ...] = ()
    failed: dict[str, dict[str, str]] | None = None
    seconds: float = float("nan")


def step_status(session: Session, step: Step) -> StepStatus:
    """State of one stage of a session."""
    folder = session.stage(step.folder)
    for place, state in ((folder, "done"), (folder.with_name(f"{folder.name}.refused"), "refused")):
        if (place / "manifest.json").is_file():
            data = read_json(place / "manifest.json")
            return StepStatus(step, state, tuple(data["health"]), data["failed"], float(data["timing"]["seconds"]))  # type: ignore[arg-type]
    begun = folder.with_name(f".{folder.name}.partial").is_dir()
    return StepStatus(step, "interrupted" if begun else "waiting")


def session_status(folder: Path) -> list[StepStatus]:
    """State of every stage that applies to a session, in running order."""
    session = Session.load(folder)
    return [step_status(session, step) for step in steps_of(session)]


def next_action(folder: Path, statuses: list[StepStatus]) -> str:
    """What to do next, as a command."""
    for status in statuses:
        if status.state == "refused":
            worst = next(h for h in status.health if not h["ok"])
            subject = f"{worst['item']}: " if worst["item"] else ""
            return f"{subject}{worst['action']} (see {folder / status.step.folder}.refused)"
        if status.state != "done":
            return f"motifs run {folder}"
    return f"motifs report {folder}"


def describe(status: StepStatus) -> str:
    """Health and failures of a stage in one line."""
    parts = [
        f"{h['item'] + ' ' if h['item'] else ''}{h['name']} {_number(h['value'])} "
        f"({'at most' if h['kind'] == 'max' else 'at least'} {h['limit']:g})"
        for h in status.health
        if not h["ok"] or not h["item"]
    ]
    parts += [f"{item} failed: {why['problem']}" for item, why in (status.failed or {}).items()]
    return "; ".join(parts)


def _number(value: float | None) -> str:
    return "missing" if value is None else f"{value:.4g}"
