"""`motifs run` killed in every stage ends with the files of an undisturbed run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_a_run_killed_in_every_stage_ends_with_the_same_files() -> None:
    call = [sys.executable, "benchmarks/kills.py", "--kills", "9", "--seed", "1"]
    answer = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    found = json.loads(answer.stdout.splitlines()[-1])
    assert found["kills"] >= 9 and len(found["stages_hit"]) >= 7  # a quarter comes at any moment
    assert (found["lost"], found["different"], found["left_over"]) == (0, 0, 0)
