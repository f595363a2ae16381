"""The command from skeleton files to the table of a paper's protocols, with networks that a test can afford."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
from kinect_clips import recipe_of

from core.errors import InputError
from simulation.kinect import write_ntu_files

SCRIPT = Path(__file__).resolve().parents[3] / "benchmarks" / "skeleton_protocols.py"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("skeleton_protocols", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "recipe_for_source", lambda kind, source, classes: recipe_of(kind))
    return module


def run(script: ModuleType, monkeypatch: pytest.MonkeyPatch, *words: object) -> None:
    monkeypatch.setattr(sys, "argv", ["skeleton_protocols.py", *map(str, words)])
    script.main()


def test_from_files_to_a_table_and_again_without_work(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = tmp_path / "skeletons", tmp_path / "out"
    write_ntu_files(data, 0, actions=(1, 5, 50), pairs=(50,), setups=(1,), cameras=(1, 2), frames=(30, 40))
    (data / "S001C001P001R001A002.skeleton").write_text("none")
    words = (data, "--benchmark", "ntu60-xsub", "--system", "mamp", "--protocol", "linear", "semi-10", "--draws", 2)
    words = (*words, "--steps", 3, "--epochs", 2, "--head-batch", 6, "--out", out, "--device", "cpu")
    run(script, monkeypatch, *words)
    said = capsys.readouterr().out
    assert "ntu60-xsub: 12 clips to train on, 12 to test on" in said
    assert "not the whole dataset, which has 40091 and 16487" in said
    told = json.loads(said.splitlines()[-1])
    assert told["protocols"].keys() == {"linear", "semi-10"} and told["protocols"]["linear"]["paper"] == 84.9
    assert told["protocols"]["linear"]["clips"] == 12 and told["skipped"] == 1
    assert "not the text" in json.loads((out / "skipped.json").read_text())["S001C001P001R001A002"]
    # what is there is not computed again
    monkeypatch.setattr(script, "judge", lambda *_: pytest.fail("judged again"))
    run(script, monkeypatch, *words)
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == told
    # transfer: another network's run, and no figure of a paper where none reports it
    monkeypatch.setattr(script, "judge", lambda *_: told["protocols"]["linear"])
    moved = (data, "--benchmark", "ntu60-xview", "--system", "mamp", "--from-run", out / "pretraining")
    run(script, monkeypatch, *moved, "--out", tmp_path / "moved")
    again = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert again["learned_from"] == "ntu60-xsub" and again["protocols"]["linear"]["paper"] is None
    # mistakes are named before anything is read
    monkeypatch.setattr(script, "open_clips", lambda *_, **__: pytest.fail("read"))
    with pytest.raises(InputError, match="fine-tune of gl_transformer: is published for MAMP alone"):
        run(script, monkeypatch, data, "--benchmark", "ntu60-xsub", "--system", "gl_transformer", "--protocol",
            "fine-tune", "--out", tmp_path / "odd")  # fmt: skip
    with pytest.raises(InputError, match="--draws 0"):
        run(script, monkeypatch, *words, "--draws", 0)
    with pytest.raises(InputError, match="is of mamp"):
        run(script, monkeypatch, data, "--benchmark", "ntu60-xview", "--system", "motion_codes", "--from-run",
            out / "pretraining", "--out", tmp_path / "odd")  # fmt: skip
