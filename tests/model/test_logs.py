"""TensorBoard shows what the lines of JSON say, after a resume too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from model.recipes import Recipe
from model.train import train

events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


def test_tensorboard_shows_the_lines(people: Path, tiny: Recipe, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(people, tiny, run, stop_at=5)
    train(people, tiny, run, stop_at=9)
    shown = events.EventAccumulator(str(run / "tensorboard"))
    shown.Reload()
    lines = [json.loads(line) for line in (run / "losses.jsonl").read_text().splitlines()]
    scalars = {event.step: event.value for event in shown.Scalars("train/loss")}
    assert scalars == pytest.approx({line["step"]: line["loss"] for line in lines}, rel=1e-6)
    assert {"val/loss", "val/atom_sd", "mining/motif_frames", "mining/code_perplexity"} <= set(shown.Tags()["scalars"])
