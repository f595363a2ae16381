"""The demo's steps that are no annotation stage; each returns its seconds and a note on its result."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

from core.errors import StageError
from motifs.report import ReportConfig, write_report
from simulation.recording import SimulateConfig, simulate

Done = tuple[float, str]


def simulate_step(session: Path, config: SimulateConfig, seed: int, workers: int) -> Done:
    """Renders the session."""
    try:
        manifest = simulate(session, dataclasses.replace(config, seed=seed), workers=workers)
    except StageError as error:  # --redo of one stage would not do: all that follows belongs to the other session
        raise StageError(error.item, error.problem, "choose another --out, or remove that folder") from error
    metrics = manifest.metrics
    return manifest.seconds, f"{metrics['views']} views, {metrics['frames']} frames rendered"


def train_step(dataset: Path, run: Path, recipe: str, seed: int) -> Done:
    """Trains A4Mer, or goes on with a run that was stopped."""
    from model.recipes import recipe_named
    from model.train import train

    started = time.perf_counter()
    result = train(dataset, dataclasses.replace(recipe_named(recipe), seed=seed), run)
    phases = [f"{phase} loss {loss['first']:.3f} -> {loss['last']:.3f}" for phase, loss in result.losses.items()]
    return time.perf_counter() - started, ", ".join(phases)


def discover_step(run: Path, dataset: Path, motifs: Path) -> Done:
    """Finds atoms and motifs of the recording."""
    from model.discover import discover

    started = time.perf_counter()
    found = discover(run, dataset, motifs)
    note = f"{len(found.atoms)} atoms, {len(found.motifs)} motifs of {len(found.uses)} types"
    return time.perf_counter() - started, note


def report_step(session: Path, motifs: Path) -> Done:
    """Writes the page."""
    started = time.perf_counter()
    page = write_report(session, ReportConfig(motifs=motifs))
    return time.perf_counter() - started, str(page)
