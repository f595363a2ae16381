"""The demo: one simulated session through every stage, each compared with the exact truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from core.errors import GateError
from core.files import write_json
from core.stage import Health, Manifest
from motifs.pipeline import RunConfig, Step, run_session
from motifs.truth import compare_with_truth
from simulation.recording import SimulateConfig

T = TypeVar("T")

# What the demo promises for any seed: medians over cameras, frames and joints.
LIMITS = {
    "room_camera_mm": 10.0,
    "room_camera_deg": 0.3,
    "foot_camera_mm": 20.0,
    "foot_camera_deg": 1.0,
    "joints_mm": 40.0,
}


@dataclass(frozen=True)
class DemoConfig:
    """The demo's settings.

    Attributes:
        seed: of the room, the person, the cameras, the noise and the training; another seed is another session.
        simulate: the session; its own seed is replaced by the one above.
        recipe: what is trained.
    """

    seed: int = 0
    simulate: SimulateConfig = field(default_factory=SimulateConfig)
    recipe: str = "debug_cpu"


def run_demo(out: Path, config: DemoConfig, *, workers: int = 1) -> dict[str, Any]:
    """Runs everything under `out`, prints a line a stage and a table, and writes `summary.json`.

    Returns:
        The summary: figures of `LIMITS`, and `seconds` of each stage.

    Raises:
        GateError: if a figure is past its limit; the summary is written all the same.
    """
    from motifs.demo_steps import discover_step, report_step, simulate_step, train_step

    seconds: dict[str, float] = {}
    session, dataset, run, motifs = out / "session", out / "amd", out / "run", out / "motifs"

    def done(name: str, taken: float, note: str) -> None:
        seconds[name] = round(taken, 1)
        print(f"{name:<18}{taken:8.1f} s   {note}", flush=True)

    done("simulate", *simulate_step(session, config.simulate, config.seed, workers))
    run_session(session, RunConfig(), workers=workers, announce=_announcer(session, done))
    done("build", *_build(session, dataset))
    done("train", *train_step(dataset, run, config.recipe, config.seed))
    done("discover", *discover_step(run, dataset, motifs))
    done("report", *report_step(session, motifs))
    summary = {**compare_with_truth(session).summary(), "seconds": seconds}
    write_json(out / "summary.json", summary)
    _print_table(summary)
    _require(summary)
    return summary


def _announcer(session: Path, done: Callable[[str, float, str], None]) -> Callable[[Step, Manifest], None]:
    """Prints each annotation stage with its error against the truth."""
    from motifs.truth import stage_errors

    def announce(step: Step, manifest: Manifest) -> None:
        done(step.command, manifest.seconds, stage_errors(session, step.folder))

    return announce


def _build(session: Path, dataset: Path) -> tuple[float, str]:
    from dataset.build import BuildConfig, build
    from dataset.verify import verify

    manifest = build([session], dataset, BuildConfig())
    found = verify(dataset).require(dataset)
    return manifest.seconds, f"{found.num_clips} clips, {found.num_bytes / 1024:.0f} KiB, checksums hold"


def _print_table(summary: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("median error against the truth", "measured", "limit", box=None)
    for name, limit in LIMITS.items():
        table.add_row(name, f"{summary[name]:.3f}", f"{limit:g}")
    Console().print(table)


def _require(summary: dict[str, Any]) -> None:
    """Refuses a demo whose figures are past their limits."""
    for name, limit in LIMITS.items():
        figure = Health(name, summary[name], limit, "max", "compare the stages above with the report")
        if not figure.ok:
            raise GateError("demo", str(figure), figure.action)
