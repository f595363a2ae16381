"""A step in parts is the step in one, in any precision; compiled it is the same network."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
from training_processes import beyond_the_paper, start, wait

from dataset.shards import AmdDataset
from model.distributed import Hardware, connected
from model.loop import Training
from model.recipes import Recipe
from model.train import train


def losses(run: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / "losses.jsonl").read_text().splitlines()]


def gradients(people: Path, recipe: Recipe, accumulate: int, steps: int) -> tuple[dict[str, torch.Tensor], float]:
    """Gradients of the last of some steps of both stages, and its loss."""
    hardware, kept = Hardware(accumulate=accumulate), {}
    with connected(hardware, recipe.precision) as world:
        training = Training(AmdDataset(people), recipe, world, hardware)
        training.segment()
        lines = []
        training.steps(recipe.stage1_steps, lambda: None, lines.append)
        training.mine()
        training.steps(recipe.stage1_steps + steps, lambda: None, lines.append)
        kept = {n: w.grad.clone() for n, w in training.model.named_parameters() if w.grad is not None}
    return kept, lines[-1]["loss"]


@pytest.mark.parametrize("beyond", [False, True])
@pytest.mark.parametrize("accumulate", [2, 3])
def test_parts_of_a_batch_give_the_gradient_of_the_whole(
    people: Path, tiny: Recipe, accumulate: int, beyond: bool
) -> None:
    tiny = beyond_the_paper(tiny) if beyond else tiny
    # no step before them changes the weights, as rounding would be amplified by the optimiser
    still = dataclasses.replace(tiny, stage1_steps=1, optim=dataclasses.replace(tiny.optim, lr=0.0, lr_end=0.0))
    (whole, loss), (parts, loss_in_parts) = (gradients(people, still, n, 1) for n in (1, accumulate))
    assert loss_in_parts == pytest.approx(loss, rel=1e-6)
    assert whole.keys() == parts.keys() and any("stage2" in name for name in whole)
    length = torch.cat([g.flatten() for g in whole.values()]).norm()
    difference = torch.cat([(whole[n] - parts[n]).flatten() for n in whole]).norm()
    assert difference / length < (5e-6 if beyond else 2e-6)  # sums of float32 in another order


def test_a_run_in_parts_is_the_run_in_one(people: Path, tiny: Recipe, tiny_run: Path, tmp_path: Path) -> None:
    train(people, tiny, tmp_path / "run", hardware=Hardware(accumulate=2, readers=1))
    assert losses(tmp_path / "run") == pytest.approx(losses(tiny_run), abs=1e-5)


def test_a_run_on_other_bodies_goes_on_exactly_in_either_phase(people: Path, tiny: Recipe, tmp_path: Path) -> None:
    recipe = beyond_the_paper(tiny)
    for stop in (5, 11):  # checkpoints are there, at the end of a start that was told to end
        train(people, recipe, tmp_path / "parts", stop_at=stop)
    train(people, recipe, tmp_path / "parts")
    train(people, recipe, tmp_path / "whole")
    for name in ("losses.jsonl", "metrics.jsonl", "mining.json"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_bf16_runs_to_its_end_near_float32(people: Path, tiny: Recipe, tiny_run: Path, tmp_path: Path) -> None:
    recipe = dataclasses.replace(tiny, precision="bf16")
    result = train(people, recipe, tmp_path / "run", stop_at=10)
    again = train(people, recipe, tmp_path / "run")
    assert result.steps == 10 and again.steps == 14
    a, b = losses(tmp_path / "run"), losses(tiny_run)
    assert a[:8] == pytest.approx(b[:8], rel=0.02) and a != b


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a compiler")
def test_compiled_it_is_the_same_network(people: Path, tiny: Recipe, tiny_run: Path, tmp_path: Path) -> None:
    # in a process without the shape checks of the tests, which cannot be compiled
    assert wait(start(people, tiny, tmp_path / "run", 1, Hardware(compile=True)), 900.0)[0][0] == 0
    assert losses(tmp_path / "run") == pytest.approx(losses(tiny_run), abs=1e-5)
