"""What the documentation shows is what the code reads."""

from __future__ import annotations

import ast
import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple, get_args

import pytest

from calibration.gates import Name
from capture.targets import load_targets
from dataset.build import BuildConfig
from motifs.cli import COMMANDS
from motifs.pipeline import RunConfig

ROOT = Path(__file__).resolve().parent.parent


def test_the_example_of_a_targets_file_is_one(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    example = re.search(r"```json\n(.*?)```", text, re.DOTALL)
    assert example is not None
    (tmp_path / "targets.json").write_text(example[1])
    assert set(load_targets(tmp_path / "targets.json")) == {"floor", "lens", "door"}


def test_the_readme_is_short_and_names_commands_that_exist() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    named = {match[1] for match in re.finditer(r"motifs ([a-z]+)", text)}
    assert named - {"from", "of"} <= {command.split()[0] for command in COMMANDS}


def test_the_site_is_built_and_no_link_is_broken(tmp_path: Path) -> None:
    call = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    answer = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=False, env=quiet)
    assert answer.returncode == 0, answer.stderr
    fitting = (tmp_path / "site/reference/fitting/index.html").read_text()
    assert "Fit SMPL" in fitting or "Fits SMPL" in fitting
    assert not list((ROOT / "site").glob("*"))


def test_every_page_is_in_the_site() -> None:
    named = set(re.findall(r"([\w/-]+\.md)", (ROOT / "mkdocs.yml").read_text()))
    assert named == {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}


def test_code_that_the_pages_name_is_there() -> None:
    named = set()
    for page in (ROOT / "docs").rglob("*.md"):
        for path, names in re.findall(r"`([\w/]+/\w+\.py)`((?:,? `\w+`)*)", page.read_text(encoding="utf-8")):
            code = ROOT / path
            assert code.is_file(), f"{page.name}: {path}"
            for name in re.findall(r"\w+", names):
                named.add(name)
                assert re.search(rf"^(def|class) {name}\b", code.read_text(), re.MULTILINE), (
                    f"{page.name}: {path} {name}"
                )
    assert {"jepa_sum", "floor_term", "find_patterns"} <= named


class Stage(NamedTuple):
    """A stage's page, where its gates are made, and its settings."""

    modules: tuple[str, ...]
    settings: object


_RUN = RunConfig()
STAGES = {
    "sync": Stage(("capture/sync_health.py",), _RUN.sync),
    "detect": Stage(("capture/detect.py",), _RUN.detect),
    "lens": Stage(("calibration/lens.py",), _RUN.lens),
    "rig": Stage(("calibration/rig_health.py", "calibration/gates.py"), _RUN.rig),
    "markers": Stage(("calibration/marker_map.py",), _RUN.markers),
    "scene": Stage(("calibration/scene_map.py",), _RUN.scene),
    "feet": Stage(("calibration/foot_gates.py", "calibration/egomotion.py"), _RUN.feet),
    "triangulate": Stage(("fitting/triangulate.py", "fitting/people/subject.py"), _RUN.triangulate),
    "fit": Stage(("fitting/quality.py",), _RUN.fit),
    "export": Stage(("dataset/assemble.py",), BuildConfig()),
}


def gates_made(path: Path) -> set[str]:
    """Patterns of the names of the gates that a module makes; what is filled into a name matches anything."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and node.args and ast.unparse(node.func) in ("Health", "worst_of", "Finding"):
            name = node.args[0]
        elif (
            isinstance(node, ast.Tuple)
            and len(node.elts) == 4
            and ast.unparse(node.elts[-1])
            in (
                "'max'",
                "'min'",
            )
        ):  # a row of a list of gates
            name = node.elts[0]
        else:
            continue
        if isinstance(name, ast.Constant):
            found.add(re.escape(str(name.value)))
        elif isinstance(name, ast.JoinedStr):
            found.add("".join(re.escape(str(v.value)) if isinstance(v, ast.Constant) else ".*" for v in name.values))
    return found


def options_of(settings: Any, prefix: str = "--") -> dict[str, Any]:
    """Every option of a command's settings with its default."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(settings):
        name, value = prefix + field.name.replace("_", "-"), getattr(settings, field.name)
        found |= options_of(value, name + ".") if dataclasses.is_dataclass(value) else {name: value}
    return found


@pytest.mark.parametrize("name", STAGES)
def test_the_page_of_a_stage_tells_all_gates_and_no_others(name: str) -> None:
    stage, page = STAGES[name], (ROOT / f"docs/stages/{name}.md").read_text(encoding="utf-8")
    told = set(re.findall(r"^\| `(\w+)` \| [^|]*\|[^|]*\|$", page.split("## Gates")[1], re.MULTILINE))
    made = set().union(*(gates_made(ROOT / module) for module in stage.modules))
    if name == "rig":
        made |= {finding for part in get_args(Name) for finding in (get_args(part) or (part,))}
    assert made and {gate for gate in made if not any(re.fullmatch(gate, said) for said in told)} == set()
    assert {said for said in told if not any(re.fullmatch(gate, said) for gate in made)} == set()


@pytest.mark.parametrize("name", STAGES)
def test_limits_and_options_on_the_page_of_a_stage_are_those_of_the_code(name: str) -> None:
    options, page = options_of(STAGES[name].settings), (ROOT / f"docs/stages/{name}.md").read_text(encoding="utf-8")
    assert set(re.findall(r"`(--[\w.-]+)", page)) <= set(options)
    for told, option, metres in re.findall(r"(-?[\d.]+)(?: px| m)? \(`(--[\w.-]+)`(, metres)?\)", page):
        default = options[option] if isinstance(options[option], tuple) else (options[option],)
        limit = abs(float(told)) / (1000 if metres else 1)
        assert any(limit == pytest.approx(value) for value in default), f"{option} is {options[option]}, not {told}"


def test_every_gate_is_of_a_stage_with_a_page() -> None:
    elsewhere = {"motifs/demo.py"}  # which judges the demo against its truth
    for package in ("capture", "calibration", "fitting", "dataset", "model", "motifs"):
        for path in (ROOT / package).rglob("*.py"):
            if " Health(" in path.read_text(encoding="utf-8"):
                module = path.relative_to(ROOT).as_posix()
                assert module in elsewhere or any(module in stage.modules for stage in STAGES.values()), module
