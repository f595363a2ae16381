"""Where a session stands: which stages are done, refused or waiting, their health, and the next command."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from capture.session import Session
from core.errors import InputError, MotifsError
from core.files import read_json
from core.stage import Manifest, changed_inputs, failure_of
from motifs.pipeline import Step, steps_of

State = Literal["done", "stale", "refused", "failed", "interrupted", "waiting"]


@dataclass(frozen=True)
class StepStatus:
    """State of one stage.

    Attributes:
        step: the stage.
        state: done; stale (a stage it was made from has changed since); refused (a health figure does not hold);
            failed (it ended with an error, see `why`); interrupted (begun, will go on); waiting.
        health: the health figures of its manifest.
        failed: items that failed, with their reasons.
        seconds: wall time of the run that completed it, NaN if none did.
        notes: what the stage has to say though its figures hold.
        why: `item`, `problem` and `action` of the error that it ended with.
    """

    step: Step
    state: State
    health: tuple[dict[str, Any], ...] = ()
    failed: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    seconds: float = float("nan")
    notes: tuple[str, ...] = ()
    why: Mapping[str, str] | None = None


def step_status(session: Session, step: Step) -> StepStatus:
    """State of one stage of a session."""
    folder = session.stage(step.folder)
    # a failure is newer than a refusal, whose files were those of the try that failed
    if not folder.is_dir() and (why := failure_of(folder)) is not None:
        return StepStatus(step, "failed", why=why)
    # a refusal goes when the stage succeeds, so where there is one it is the newer
    places: tuple[tuple[Path, State], ...] = ((folder.with_name(f"{folder.name}.refused"), "refused"), (folder, "done"))
    for place, state in places:
        if (place / "manifest.json").is_file():
            manifest = Manifest.read(place)
            if state == "done" and changed_inputs(place):
                state = "stale"
            notes = tuple(manifest.metrics.get("notes", ()))
            return StepStatus(step, state, manifest.health, manifest.failed, manifest.seconds, notes)
    begun = folder.with_name(f".{folder.name}.partial").is_dir()
    return StepStatus(step, "interrupted" if begun else "waiting")


def session_status(folder: Path) -> list[StepStatus]:
    """State of every stage that applies to a session, in running order."""
    session = Session.load(folder)
    return [step_status(session, step) for step in steps_of(session)]


def next_action(folder: Path, statuses: list[StepStatus], *, reported: bool, name: str = "") -> str:
    """What to do next, as a command.

    Args:
        folder: the session, as the user names it.
        statuses: of its stages.
        reported: whether its report is written.
        name: what the session is called in the command; as the user named it if empty.
    """
    called = Path(name) if name else folder
    for status in statuses:
        if status.state == "refused":
            worst = next(h for h in status.health if not h["ok"])
            subject = f"{worst['item']}: " if worst["item"] else ""
            return f"{subject}{worst['action']} (see {called / status.step.folder}.refused)"
        if status.why is not None:
            return f"{status.why['item']}: {status.why['action']}, then `motifs run {called}`"
        if status.state == "stale":
            changed = ", ".join(changed_inputs(folder / status.step.folder))
            return f"motifs {status.step.command} {called} --redo ({changed} changed since)"
        if status.state != "done":
            return f"motifs run {called}"
    return f"motifs build {called} --out DATASET" if reported else f"motifs report {called}"


def result_of(session: Session, stage: str) -> Path:
    """The folder of a stage's result; of one that was refused where there is no other, for that is to be looked at."""
    folder = session.stage(stage)
    refused = folder.with_name(f"{folder.name}.refused")
    return refused if refused.is_dir() and not folder.is_dir() else folder


def metrics_of(folder: Path) -> dict[str, Any]:
    """What a result's manifest says of it; nothing where there is none."""
    manifest = folder / "manifest.json"
    return dict((read_json(manifest).get("metrics") or {}) if manifest.is_file() else {})


def said_of(folder: Path) -> str:
    """What is to be said of a result before it is shown: whether it was refused, and for what."""
    if not folder.name.endswith(".refused") or not (folder / "manifest.json").is_file():
        return ""
    worst = next((h for h in Manifest.read(folder).health if not h["ok"]), None)
    if worst is None:
        return "This result was refused."
    subject = f" {worst['item']}" if worst["item"] else ""
    limits = {worst["kind"]: worst["limit"]}
    return f"This result was refused: {worst['name']}{subject} is {_number(worst['value'])}, {_range(limits)}."


def describe(status: StepStatus) -> list[str]:
    """Health, failures and notes of a stage, a line for each figure: its worst item and the range it must keep."""
    lines = []
    for name in dict.fromkeys(h["name"] for h in status.health):
        figures = [h for h in status.health if h["name"] == name]
        worst = min(figures, key=lambda h: (h["ok"], _room_left(h)))
        limits = {h["kind"]: h["limit"] for h in figures if h["item"] == worst["item"] or h["kind"] != worst["kind"]}
        items = {h["item"] for h in figures if h["kind"] == worst["kind"]}
        subject = f" ({worst['item']}, worst of {len(items)})" if len(items) > 1 else f" {worst['item']}".rstrip()
        holds = "" if worst["ok"] else " - does not hold"
        lines.append(f"{name}{subject} {_number(worst['value'])}, {_range(limits)}{holds}")
    if status.why is not None:
        lines.append(f"{status.why['item']}: {status.why['problem']}")
    return [*lines, *(f"{item} failed: {why['problem']}" for item, why in status.failed.items()), *status.notes]


def _room_left(figure: dict[str, Any]) -> float:
    """How far a figure is from its limit, as a share of the limit; none if it is missing."""
    if figure["value"] is None:
        return float("-inf")
    room = figure["limit"] - figure["value"] if figure["kind"] == "max" else figure["value"] - figure["limit"]
    return float(room / max(abs(figure["limit"]), 1e-12))


def _range(limits: dict[str, float]) -> str:
    if len(limits) == 2:
        return f"{limits['min']:g} to {limits['max']:g}"
    return f"at most {limits['max']:g}" if "max" in limits else f"at least {limits['min']:g}"


def _number(value: float | None) -> str:
    return "missing" if value is None else f"{value:.3g}"


def print_status(folders: Sequence[Path]) -> None:
    """Prints where sessions stand: of one every stage with its health, of many a line each.

    Raises:
        InputError: if none is named, or the only one cannot be read.
    """
    if not folders:
        raise InputError("SESSIONS", "none was named", "give one folder or more that `motifs ingest` made")
    from rich.console import Console
    from rich.markup import escape  # names and reasons are text, whatever brackets are in them
    from rich.table import Table

    if len(folders) == 1:
        statuses = session_status(folders[0])
        table = Table("stage", "state", "health", box=None)
        for found in statuses:
            table.add_row(found.step.command, found.state, escape("\n".join(describe(found))))
        Console().print(table)
        print(f"next: {_next(folders[0], statuses)}")
        return
    table = Table("session", "done", "state", "next", box=None)
    for folder in folders:
        try:
            statuses = session_status(folder)
        except MotifsError as error:
            table.add_row(escape(str(folder)), "", "unreadable", escape(str(error)))
            continue
        done = sum(status.state == "done" for status in statuses)
        stopped = next((f"{s.state}: {s.step.command}" for s in statuses if s.state != "done"), "done")
        table.add_row(escape(str(folder)), f"{done}/{len(statuses)}", stopped, escape(_next(folder, statuses)))
    Console().print(table)


def _next(folder: Path, statuses: list[StepStatus]) -> str:
    return next_action(folder, statuses, reported=(folder / "report" / "report.html").is_file())
