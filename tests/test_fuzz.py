"""Every reader of foreign files survives what a fuzzer makes of sound ones, for a moment each."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is not installed")
def test_no_reader_crashes() -> None:
    call = [sys.executable, "benchmarks/fuzz.py", "--seconds", "3", "--seed", "7"]
    answer = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=False)
    found = json.loads(answer.stdout.splitlines()[-1])
    assert found["crashes"] == 0, answer.stdout
    assert found["readers"] > 30 and found["inputs"] > 100 * found["readers"]
