"""What the documentation shows is what the code reads."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from capture.targets import load_targets
from motifs.cli import COMMANDS

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
