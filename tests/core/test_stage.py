from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from core.errors import GateError, InputError, StageError
from core.files import read_json
from core.stage import Health, Manifest, Summary, changed_inputs, no_items, run_stage

ITEMS = ("a", "b", "c")


@dataclass(frozen=True)
class Config:
    """Settings of the stage under test."""

    factor: int = 1


def write_item(item: str, folder: Path) -> dict[str, Any]:
    (folder / f"{item}.txt").write_text(item)
    return {"length": len(item)}


def run(tmp_path: Path, config: Config = Config(), **options: Any) -> Manifest:
    source = tmp_path / "input"
    if not source.exists():
        source.write_text("data")
    arguments: dict[str, Any] = {
        "inputs": {"source": source},
        "config": config,
        "out": tmp_path / "out",
        "items": ITEMS,
        "process": write_item,
        "finish": no_items,
    }
    return run_stage("test", 1, **{**arguments, **options})


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in folder.rglob("*")
        if p.is_file() and p.name != "manifest.json"
    }


def test_a_stage_publishes_its_files_and_says_what_it_did(tmp_path: Path) -> None:
    manifest = run(tmp_path)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.txt", "b.txt", "c.txt", "manifest.json"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["input", "out"]
    data = manifest.data
    assert data["counts"] == {"ok": 3, "failed": 0}
    assert set(data["outputs"]) == {"a.txt", "b.txt", "c.txt"}
    assert data["config"] == {"factor": 1}
    assert data["libraries"]["numpy"]


def test_the_same_call_returns_at_once(tmp_path: Path) -> None:
    first = run(tmp_path)

    def must_not_run(item: str, folder: Path) -> Mapping[str, Any]:
        raise AssertionError(item)

    assert run(tmp_path, process=must_not_run).data == first.data


def test_other_settings_are_refused_until_redo(tmp_path: Path) -> None:
    run(tmp_path)
    with pytest.raises(StageError, match=r"setting factor 1 -> 2.*--redo"):
        run(tmp_path, Config(2))
    (tmp_path / "input").write_text("other data")
    with pytest.raises(StageError, match="input source has changed"):
        run(tmp_path)
    assert run(tmp_path, Config(2), redo=True).data["config"] == {"factor": 2}


@pytest.mark.parametrize("redo", [False, True])
def test_a_folder_of_somebody_else_is_never_replaced(tmp_path: Path, redo: bool) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "photo.jpg").touch()
    with pytest.raises(StageError, match="no result of a stage"):
        run(tmp_path, redo=redo)
    assert (tmp_path / "out" / "photo.jpg").exists()


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert run(tmp_path).data["counts"]["ok"] == 3


def test_paths_in_settings_do_not_tie_a_result_to_a_place(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Settings:
        """A setting that is a file."""

        file: Path

    first = run(tmp_path, Settings(tmp_path / "a" / "rig.toml"))  # type: ignore[arg-type]
    assert first.data["config"] == {"file": "rig.toml"}
    assert run(tmp_path, Settings(tmp_path / "b" / "rig.toml")).data == first.data  # type: ignore[arg-type]


def test_a_failed_item_is_tried_again(tmp_path: Path) -> None:
    def fails(item: str, folder: Path) -> Mapping[str, Any]:
        if item == "b":
            raise InputError("b", "no driver", "install it")
        return write_item(item, folder)

    with pytest.raises(StageError, match="no driver"):
        run(tmp_path, process=fails)
    assert run(tmp_path).data["counts"] == {"ok": 3, "failed": 0}


def test_a_lost_output_is_noticed(tmp_path: Path) -> None:
    run(tmp_path)
    (tmp_path / "out" / "b.txt").unlink()
    with pytest.raises(StageError, match=r"b\.txt is missing"):
        run(tmp_path)


def test_a_bad_item_is_recorded_and_fatal_only_past_the_limit(tmp_path: Path) -> None:
    def fails_on_b(item: str, folder: Path) -> Mapping[str, Any]:
        if item == "b":
            (folder / "half").touch()
            raise InputError("b", "no frame in it", "record it again")
        return write_item(item, folder)

    with pytest.raises(StageError, match=r"b: no frame in it\. Next: record it again"):
        run(tmp_path, process=fails_on_b)
    assert not (tmp_path / "out").exists()
    manifest = run(tmp_path, process=fails_on_b, max_failed_fraction=0.4)
    assert manifest.data["failed"] == {"b": {"item": "b", "problem": "no frame in it", "action": "record it again"}}
    assert "half" not in content(tmp_path / "out")


def test_a_figure_past_its_threshold_is_a_refusal_that_can_be_looked_at(tmp_path: Path) -> None:
    def finish(folder: Path, facts: Mapping[str, Mapping[str, Any]]) -> Summary:
        (folder / "picture").touch()
        return Summary({"n": len(facts)}, [Health("residual_px", 7.5, 5.0, "max", "look at cam2", item="cam2")])

    with pytest.raises(GateError, match=r"cam2: residual_px 7.5 > 5, see .*out\.refused\. Next: look at cam2"):
        run(tmp_path, finish=finish)
    assert not (tmp_path / "out").exists()
    assert (tmp_path / "out.refused" / "picture").exists()
    assert read_json(tmp_path / "out.refused" / "manifest.json")["health"][0]["ok"] is False
    run(tmp_path)
    assert not (tmp_path / "out.refused").exists()


NAN = float("nan")


@pytest.mark.parametrize(
    ("value", "kind", "ok"),
    [(1.0, "max", True), (3.0, "max", False), (1.0, "min", False), (NAN, "max", False), (NAN, "min", False)],
)
def test_health(value: float, kind: Any, ok: bool) -> None:
    assert Health("x", value, 2.0, kind, "act").ok is ok


def test_two_workers_give_the_files_of_one(tmp_path: Path) -> None:
    run(tmp_path)
    one = content(tmp_path / "out")
    shutil.rmtree(tmp_path / "out")
    script = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[2])\n"
        "from test_stage import run\n"
        "if __name__ == '__main__': run(Path(sys.argv[1]), workers=2)\n"
    )
    (tmp_path / "script.py").write_text(script)
    call = [sys.executable, str(tmp_path / "script.py"), str(tmp_path), str(Path(__file__).parent)]
    subprocess.run(call, check=True)
    assert content(tmp_path / "out") == one


def killed_on(marker: Path, item: str, folder: Path) -> Mapping[str, Any]:
    """Writes half an item and dies the first time it meets `b`."""
    (folder / f"{item}.txt").write_text("ha")
    if item == "b" and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return write_item(item, folder)


def test_a_killed_stage_goes_on_where_it_was(tmp_path: Path) -> None:
    run(tmp_path)
    undisturbed = content(tmp_path / "out")
    shutil.rmtree(tmp_path / "out")
    script = (
        "import sys; from pathlib import Path; from functools import partial; sys.path.insert(0, sys.argv[2])\n"
        "from test_stage import run, killed_on\n"
        "run(Path(sys.argv[1]), process=partial(killed_on, Path(sys.argv[1]) / 'marker'))\n"
    )
    call = [sys.executable, "-c", script, str(tmp_path), str(Path(__file__).parent)]
    assert subprocess.run(call, check=False).returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    done: list[str] = []

    def count(item: str, folder: Path) -> Mapping[str, Any]:
        done.append(item)
        return write_item(item, folder)

    run(tmp_path, process=count)
    assert done == ["b", "c"]
    assert content(tmp_path / "out") == undisturbed
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith(".")) == []


def test_a_missing_input_and_a_damaged_manifest_are_named(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"its input video is missing, .*absent\.mp4\. Next: check the path"):
        run(tmp_path, inputs={"video": tmp_path / "absent.mp4"})
    with pytest.raises(StageError, match=r"its input clocks is missing.*run the stage that makes it"):
        run(tmp_path, inputs={"clocks": tmp_path / "01_sync"})
    with pytest.raises(InputError, match="no such file"):
        Manifest.read(tmp_path / "out")
    run(tmp_path)
    (tmp_path / "out" / "manifest.json").write_text("[]")
    with pytest.raises(InputError, match="not a manifest"):
        run(tmp_path)


def writes_on(log: Path, item: str, folder: Path) -> Mapping[str, Any]:
    """Shows for ten seconds that it is alive."""
    for _ in range(200):
        with (log / item).open("a") as stream:
            stream.write(".")
        time.sleep(0.05)
    return {}


def test_workers_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.mkdir()
    script = (
        "import sys; from pathlib import Path; from functools import partial; sys.path.insert(0, sys.argv[2])\n"
        "from test_stage import run, writes_on\n"
        "path = Path(sys.argv[1])\n"
        "if __name__ == '__main__': run(path, process=partial(writes_on, path / 'log'), workers=2)\n"
    )
    (tmp_path / "script.py").write_text(script)
    call = [sys.executable, str(tmp_path / "script.py"), str(tmp_path), str(Path(__file__).parent)]
    with subprocess.Popen(call) as process:
        deadline = time.monotonic() + 60
        while len(list(log.iterdir())) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        process.kill()
    time.sleep(0.5)
    written = [path.stat().st_size for path in sorted(log.iterdir())]
    assert len(written) == 2
    time.sleep(0.5)
    assert [path.stat().st_size for path in sorted(log.iterdir())] == written


def test_a_result_knows_when_a_neighbour_it_was_made_from_has_changed(tmp_path: Path) -> None:
    rig = tmp_path / "04_rig" / "rig.json"
    rig.parent.mkdir()
    rig.write_text("{}")
    run(tmp_path, inputs={"rig": rig}, out=tmp_path / "06_points3d")
    assert changed_inputs(tmp_path / "06_points3d") == []
    rig.write_text('{"moved": true}')
    assert changed_inputs(tmp_path / "06_points3d") == ["04_rig"]
    rig.unlink()
    assert changed_inputs(tmp_path / "06_points3d") == ["04_rig"]
