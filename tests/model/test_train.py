"""Runs: they learn, go on after a kill digit by digit, and refuse what does not belong to them."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from stick_person import gestures, stick_clip, write_dataset

from core.errors import InputError, StageError
from dataset.loader import WindowRef
from dataset.shards import AmdDataset
from model.a4mer import A4Mer
from model.atoms import AtomConfig
from model.checkpoint import load_checkpoint
from model.optimiser import learning_rate
from model.recipes import RECIPES, OptimConfig, Recipe, config_from_json, debug_cpu, recipe_named
from model.run import only_process
from model.train import train
from model.windows import DataConfig, encode_clips, find_atoms, iterate_windows

LOGS = ("losses.jsonl", "metrics.jsonl", "mining.json", "result.json")


def assert_same_run(first: Path, second: Path) -> None:
    """The same logs byte for byte, the same weights bit for bit."""
    for name in LOGS:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name
    a, b = (load_checkpoint(run / "checkpoint.pt") for run in (first, second))
    assert a.step == b.step and all(torch.equal(a.model[k], b.model[k]) for k in a.model)
    assert torch.equal(a.rng, b.rng)


# in stage 1, exactly at the mining, just after it, between two checkpoints of the second phase
@pytest.mark.parametrize("stops", [(4,), (8,), (9, 11), pytest.param((6, 13), marks=pytest.mark.slow)])
def test_goes_on_where_it_stopped(
    people: Path, tiny: Recipe, tiny_run: Path, tmp_path: Path, stops: tuple[int, ...]
) -> None:
    run = tmp_path / "tiny"
    for stop in stops:
        train(people, tiny, run, stop_at=stop)
        # steps of a killed run that its checkpoint does not know, and a torn line
        with (run / "losses.jsonl").open("a") as stream:
            stream.write(json.dumps({"step": stop, "phase": "stage1", "loss": 9.0}) + '\n{"step": ')
    train(people, tiny, run)
    assert_same_run(tiny_run, run)


@pytest.mark.slow
def test_goes_on_after_sigkill(people: Path, tiny: Recipe, tiny_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "tiny"
    program = (
        "import sys, pathlib, pickle; from model.train import train; "
        f"train(pathlib.Path({str(people)!r}), pickle.loads({pickle.dumps(tiny)!r}), pathlib.Path({str(run)!r}))"
    )
    for number_of_lines in (3, 7, 11):
        process = subprocess.Popen([sys.executable, "-c", program], env={**os.environ, "OMP_NUM_THREADS": "1"})
        log = run / "losses.jsonl"
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:
            if log.is_file() and log.read_bytes().count(b"\n") >= number_of_lines:
                break
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
    train(people, tiny, run)
    assert_same_run(tiny_run, run)


def test_finished_run_returns_at_once(people: Path, tiny: Recipe, tiny_run: Path) -> None:
    before = {name: (tiny_run / name).stat().st_mtime_ns for name in LOGS}
    result = train(people, tiny, tiny_run)
    assert result.steps == 14 and set(result.losses) == {"stage1", "joint"} and result.last["split"] == "val"
    assert before == {name: (tiny_run / name).stat().st_mtime_ns for name in LOGS}


def test_another_configuration_is_refused(people: Path, one_clip: Path, tiny: Recipe, tiny_run: Path) -> None:
    before = (tiny_run / "checkpoint.pt").read_bytes()
    with pytest.raises(StageError, match=r"recipe\.batch_size 4 -> 5"):
        train(people, dataclasses.replace(tiny, batch_size=5), tiny_run)
    with pytest.raises(StageError, match=r"data\.demo-000"):
        train(one_clip, tiny, tiny_run)
    assert (tiny_run / "checkpoint.pt").read_bytes() == before


def test_replaces_a_run_when_told_so(people: Path, tiny: Recipe, tmp_path: Path) -> None:
    train(people, tiny, tmp_path / "run", stop_at=2)
    other = dataclasses.replace(tiny, batch_size=3)
    assert train(people, other, tmp_path / "run", resume=False, stop_at=1).steps == 1


def test_two_processes_do_not_share_a_run(people: Path, tiny: Recipe, tmp_path: Path) -> None:
    with only_process(tmp_path / "run"), pytest.raises(StageError, match="another process"):
        train(people, tiny, tmp_path / "run")


def test_missing_frames_are_left_out(tmp_path: Path, tiny: Recipe) -> None:
    clip = stick_clip("gap-000", "anna", gestures(7, 3), 3)
    missing = np.zeros(len(clip), dtype=bool)
    missing[100:125] = True
    joints = np.where(missing[:, None, None], np.nan, clip.joints_m).astype(np.float32)
    clip = dataclasses.replace(
        clip, joints_m=joints, reasons=missing.astype(np.int32), valid=clip.valid & ~missing[:, None]
    )
    path = write_dataset(tmp_path / "amd", [(clip, "train")])
    result = train(path, tiny, tmp_path / "run")
    assert result.steps == tiny.total_steps and all(np.isfinite(v) for v in result.losses["joint"].values())
    dataset = AmdDataset(path)
    found = find_atoms(dataset, dataset.clips, tiny.data, tiny.atoms)
    ((_, batch, _),) = iterate_windows(dataset, [WindowRef("gap-000", 0, 0.0)], found, tiny.data, 1)
    # frames 100 to 124 at 30 Hz are instants 17 to 20 at 5 Hz; the velocity of instant 16 would need the 17th
    assert np.flatnonzero(batch.atom[0] < 0).tolist() == [16, 17, 18, 19, 20]


class Bomb:
    """Unpickled, it would leave a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_a_checkpoint_that_runs_code_is_not_run(people: Path, tiny: Recipe, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for write in (lambda p, o: torch.save(o, p), lambda p, o: p.write_bytes(pickle.dumps(o))):
        write(run / "checkpoint.pt", {"format": Bomb(tmp_path / "exploded")})
        with pytest.raises(InputError, match=r"checkpoint\.pt: not a readable checkpoint"):
            train(people, tiny, run)
        assert not (tmp_path / "exploded").exists()


def test_a_damaged_checkpoint_is_named(people: Path, tiny: Recipe, tiny_run: Path, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    whole = (tiny_run / "checkpoint.pt").read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"no checkpoint"):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"checkpoint\.pt"):
            load_checkpoint(path)
    torch.save({"weights": torch.zeros(2)}, path)
    with pytest.raises(InputError, match="format"):
        load_checkpoint(path)


def test_provenance_is_there_before_the_first_step(people: Path, tiny: Recipe, tmp_path: Path) -> None:
    train(people, tiny, tmp_path / "run", stop_at=0)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["recipe"]["batch_size"] == 4 and config["code_version"] and "torch" in config["libraries"]
    assert config_from_json(Recipe, config["recipe"], "config.json") == tiny


@pytest.mark.slow
def test_debug_cpu_learns_on_one_clip(one_clip: Path, tmp_path: Path) -> None:
    result = train(one_clip, debug_cpu(), tmp_path / "run")
    # squared error over the variance of the targets: 1 is their mean
    assert result.first["atom_error"] > 1 and result.last["atom_error"] < 0.3
    assert result.losses["stage1"]["last"] < 0.5 * result.losses["stage1"]["first"]
    assert result.losses["joint"]["last"] < 0.5 * result.losses["joint"]["first"]
    assert result.last["split"] == "train" and result.last["atom_sd"] > 0.3 and result.last["atom_rank"] > 3


def test_people_who_never_move_are_refused(tiny: Recipe, tmp_path: Path) -> None:
    clip = stick_clip("still-000", "anna", ["raise"], 0)
    still = dataclasses.replace(
        clip, **{k: np.repeat(getattr(clip, k)[:1], len(clip), 0) for k in ("poses", "trans", "joints_m")}
    )
    people = write_dataset(tmp_path / "amd", [(still, "train")])
    with pytest.raises(InputError, match="every training clip is a single Atom"):
        train(people, tiny, tmp_path / "run")


def test_schedule() -> None:
    config = OptimConfig(lr=1.0, lr_end=0.1, warmup_steps=4)
    assert [learning_rate(s, 14, config) for s in (0, 3, 4, 9, 14)] == pytest.approx([0.25, 1.0, 1.0, 0.55, 0.1])


def test_recipes_are_known_by_name() -> None:
    assert set(RECIPES) == {"paper", "gpu_10min", "cpu_10min", "debug_cpu"}
    paper = recipe_named("paper")
    assert (paper.batch_size, paper.optim.lr, paper.data.window_s, paper.mining.max_codes) == (64, 1e-3, 30.0, 512)
    with pytest.raises(InputError, match="cpu_10min"):
        recipe_named("gpu")
    with pytest.raises(InputError, match="'rate'"):
        config_from_json(DataConfig, {**dataclasses.asdict(DataConfig()), "rate": 5}, "config.json")


def test_windows_share_the_segments_of_their_clip(people: Path, tiny: Recipe) -> None:
    dataset = AmdDataset(people)
    found = find_atoms(dataset, dataset.clips, tiny.data, AtomConfig())
    refs = [WindowRef(dataset.clips[0].id, 0, 0.0), WindowRef(dataset.clips[0].id, 0, 2.0)]
    ((_, batch, first),) = iterate_windows(dataset, refs, found, tiny.data, 2)
    atom = batch.atom.numpy() + first[:, None]
    # 2 s are 10 frames of the grid
    assert np.array_equal(atom[0, 10:], atom[1, :20]) and batch.atom[:, 0].tolist() == [0, 0]


def test_every_segment_of_a_clip_gets_a_token(people: Path, tiny: Recipe) -> None:
    dataset = AmdDataset(people)
    found = find_atoms(dataset, dataset.clips, tiny.data, AtomConfig())
    tokens = encode_clips(A4Mer(tiny.model).eval(), dataset, dataset.clips, found, tiny.data, 3)
    for clip in dataset.clips:
        assert tokens[clip.id].atoms.shape == (len(found.cuts_s[clip.id]), 16)
        assert (np.abs(tokens[clip.id].atoms).sum(axis=1) > 0).all() and len(tokens[clip.id].motifs) == 0
