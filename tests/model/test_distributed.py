"""Several processes give the run of one, end together when one of them is killed, and go on exactly."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from training_processes import beyond_the_paper, kill_at, start, wait

from core.errors import InputError
from model.checkpoint import load_checkpoint
from model.distributed import Hardware, connected
from model.logs import read_lines
from model.recipes import Recipe
from model.train import train


def assert_same_state(first: Path, second: Path) -> None:
    """The same weights and moments of the optimiser, bit for bit."""
    a, b = (load_checkpoint(run / "checkpoint.pt") for run in (first, second))
    assert a.step == b.step and all(torch.equal(a.model[name], b.model[name]) for name in a.model)
    assert a.optimizer is not None and b.optimizer is not None
    moments = [[x for state in c.optimizer["state"].values() for x in state.values()] for c in (a, b)]
    assert len(moments[0]) > 0 and all(torch.equal(x, y) for x, y in zip(*moments, strict=True))


def losses(run: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / "losses.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def pair_run(people: Path, tiny: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny run by two processes."""
    run = tmp_path_factory.mktemp("pair") / "tiny"
    assert [code for code, _ in wait(start(people, tiny, run, 2))] == [0, 0]
    return run


def test_two_processes_give_the_losses_of_one(pair_run: Path, tiny_run: Path) -> None:
    assert len(losses(pair_run)) == 14  # eight steps on Atoms, six on both stages
    assert losses(pair_run) == pytest.approx(losses(tiny_run), abs=1e-5)
    assert json.loads((pair_run / "mining.json").read_text()) == json.loads((tiny_run / "mining.json").read_text())
    a, b = (load_checkpoint(run / "checkpoint.pt").model for run in (pair_run, tiny_run))
    assert all(torch.allclose(a[name], b[name], atol=1e-3) for name in a)
    assert json.loads((pair_run / "starts.jsonl").read_text())["hardware"]["processes"] == 2


def test_two_processes_spread_the_tokens_of_the_whole_batch(people: Path, tiny: Recipe, tmp_path: Path) -> None:
    """The covariance of the tokens is no sum over sequences: processes must add up their moments first."""
    recipe = beyond_the_paper(tiny)
    alone = train(people, recipe, tmp_path / "alone").run
    assert [code for code, _ in wait(start(people, recipe, tmp_path / "pair", 2))] == [0, 0]
    one, two = (read_lines(run / "losses.jsonl") for run in (alone, tmp_path / "pair"))
    assert [set(line) for line in one] == [set(line) for line in two] and "motif_view_spread" in one[-1]
    for mine, shared in zip(one, two, strict=True):
        for name in mine.keys() - {"phase", "seconds"}:
            # rounding, which the steps of the optimiser amplify: 1e-5 after fourteen of them
            assert shared[name] == pytest.approx(mine[name], rel=5e-5, abs=1e-6), name


@pytest.mark.slow
@pytest.mark.parametrize(("victim", "lines"), [(1, 4), (0, 10)])
def test_the_kill_of_one_ends_the_other_and_the_next_start_goes_on_exactly(
    people: Path, tiny: Recipe, pair_run: Path, tmp_path: Path, victim: int, lines: int
) -> None:
    run = tmp_path / "tiny"
    processes = start(people, tiny, run, 2)
    kill_at(processes, victim, run / "losses.jsonl", lines)
    found = wait(processes)
    code, said = found[1 - victim]
    assert found[victim][0] == -9 and code == 1
    assert f"process {1 - victim} of 2: has lost another process" in said and "goes on from the last" in said
    assert [code for code, _ in wait(start(people, tiny, run, 2))] == [0, 0]
    for name in ("losses.jsonl", "metrics.jsonl", "mining.json"):
        assert (run / name).read_bytes() == (pair_run / name).read_bytes(), name
    assert_same_state(run, pair_run)


@pytest.mark.slow
def test_what_the_main_process_refuses_ends_all_and_is_said_once(people: Path, tiny: Recipe, pair_run: Path) -> None:
    before = (pair_run / "checkpoint.pt").read_bytes()
    other = dataclasses.replace(tiny, batch_size=5)
    (code, said), (other_code, nothing) = wait(start(people, other, pair_run, 2))
    assert (code, other_code) == (1, 1) and "recipe.batch_size 4 -> 5" in said and nothing == ""
    assert (pair_run / "checkpoint.pt").read_bytes() == before


def test_hardware_that_is_not_there_is_refused(people: Path, tiny: Recipe, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="4 windows: cannot be divided into 5 parts"):
        train(people, tiny, tmp_path, hardware=Hardware(accumulate=5))
    with pytest.raises(InputError, match="cannot be divided into 0 parts"):
        train(people, tiny, tmp_path, hardware=Hardware(accumulate=0))
    with pytest.raises(InputError, match="no such device"):
        train(people, tiny, tmp_path, hardware=Hardware(device="abacus"))
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="no GPU"), connected(Hardware(device="cuda"), "float32"):
            pass
