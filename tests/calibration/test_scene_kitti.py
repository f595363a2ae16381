"""Structure from motion on real pictures of a forward motion."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_a_path_is_judged_by_its_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from scene_map import path_errors

    share = np.linspace(-1, 1, 51)
    truth = np.stack([30 * share, 0 * share, 4 * np.sin(2 * share)], axis=1)
    assert max(path_errors(0.3 * truth + 5, truth).values()) < 1e-9
    bent = truth + np.stack([0 * share, share**2, 0 * share], axis=1)
    errors = path_errors(0.3 * bent, truth)
    # what no line fits of the bend has a root mean square of sqrt(1/5 - 1/9) m, over 60 m and the turns
    assert errors["kitti_ate_percent"] == pytest.approx(100 * np.sqrt(1 / 5 - 1 / 9) / 61, rel=0.08)
    assert errors["kitti_end_percent"] > 2 * errors["kitti_ate_percent"]


@pytest.mark.slow
def test_a_car_s_path_is_found_within_one_percent(shared: Path) -> None:
    folder = str(shared / "data" / "kitti_excerpt_1")
    call = [sys.executable, "benchmarks/scene_map.py", "--only", "kitti", "--inputs", folder]
    done = subprocess.run(call, capture_output=True, text=True, check=True, cwd=ROOT)
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["kitti_registered"] == 1.0
    assert figures["kitti_ate_percent"] < 0.2 and figures["kitti_segment_percent"] < 1.0
