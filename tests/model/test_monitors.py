"""Collapses made on purpose are flagged, and refused where nothing can follow."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core.errors import StageError
from model.a4mer import A4Mer
from model.metrics import effective_rank, token_spread
from model.monitors import MonitorConfig, mining_flags, refuse_collapse, token_flags
from model.recipes import Recipe
from model.train import train

CONFIG = MonitorConfig()
HEALTHY = {"codes": 100, "codes_used": 90, "code_perplexity": 60.0, "atoms": 900, "motifs": 300, "motif_s": 2.1}


def figures(name: str, tokens: np.ndarray) -> dict[str, float]:
    return {f"{name}_sd": token_spread(tokens), f"{name}_rank": effective_rank(tokens)}


def test_tokens_at_a_point_or_on_a_line_are_flagged(rng: np.random.Generator) -> None:
    healthy = rng.normal(size=(200, 16))
    assert token_flags(figures("atom", healthy), CONFIG) == []
    point = healthy[:1] + 0.01 * healthy
    line = rng.normal(size=(200, 1)) * healthy[:1] + 0.001 * healthy
    (at_point,), (on_line,) = (token_flags(figures("motif", tokens), CONFIG) for tokens in (point, line))
    assert "motif tokens have collapsed to a point" in at_point
    assert "motif tokens have collapsed to a line" in on_line


def test_one_flag_may_pass_and_two_in_a_row_end_the_run() -> None:
    refuse_collapse(100, ["collapsed"], [])
    refuse_collapse(100, [], ["collapsed"])
    with pytest.raises(StageError, match=r"step 100: collapsed\. Next: start another run"):
        refuse_collapse(100, ["collapsed"], ["collapsed"])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({}, None),
        ({"code_perplexity": 5.0}, "few of 100 codes are in use: 5 effectively"),
        ({"motifs": 890}, "hardly any pattern was found: a Motif has 1.01 Atoms"),
        ({"motif_s": 20.0}, "Motifs are 20 s long on average, in windows of 30 s"),
    ],
)
def test_odd_codes_and_motifs_are_flagged(change: dict[str, Any], says: str | None) -> None:
    flags = mining_flags({**HEALTHY, **change}, 30.0, CONFIG)
    assert flags == [] if says is None else (len(flags) == 1 and says in flags[0])


def test_one_code_for_all_ends_the_run() -> None:
    with pytest.raises(StageError, match="all 900 Atoms have one code"):
        mining_flags({**HEALTHY, "codes_used": 1, "code_perplexity": 1.0}, 30.0, CONFIG)


def test_a_run_whose_tokens_collapse_ends_with_the_figure(
    people: Path, tiny: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def collapse(model: A4Mer) -> None:
        with torch.no_grad():
            model.teacher.stage1.latent_former.norm.weight.zero_()

    monkeypatch.setattr(A4Mer, "update_teacher", collapse)
    recipe = dataclasses.replace(tiny, eval_every=2, checkpoint_every=1)
    for _ in range(2):  # the second start finds it collapsed still
        with pytest.raises(StageError, match=r"step 6: atom tokens have collapsed to a point: spread 0 < 0\.05"):
            train(people, recipe, tmp_path / "run")
    assert "step 4: atom tokens have collapsed to a point" in capsys.readouterr().err
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [len(line["flags"]) for line in lines] == [0, 0, 1, 1]
