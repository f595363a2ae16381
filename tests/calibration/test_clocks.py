"""Clocks downstream of the rig: the refined ones where there are any, and every file behind them declared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from calibration.clocks import clock_inputs, load_clocks, load_times
from core.clock import Clock
from core.errors import InputError
from core.files import write_json, write_npz


@pytest.fixture
def session_dir(tmp_path: Path) -> Path:
    (tmp_path / "01_sync").mkdir()
    clocks = {"cam1": {"offset_s": 0.5, "rate": 1.0}, "left_foot": {"offset_s": 0.25, "rate": 1.0}}
    write_json(tmp_path / "01_sync" / "clocks.json", {"clocks": clocks})
    for view_id in clocks:
        write_npz(tmp_path / "01_sync" / f"{view_id}.times.npz", {"t_local_s": np.arange(4) / 2})
    return tmp_path


def test_synchronisation_stands_where_the_rig_refined_nothing(session_dir: Path) -> None:
    assert load_clocks(session_dir)["cam1"] == Clock(0.5)
    assert set(clock_inputs(session_dir, ["cam1"])) == {"clocks", "times of cam1"}


def test_refined_clocks_replace_those_of_their_views_only(session_dir: Path) -> None:
    (session_dir / "04_rig").mkdir()
    refined = {"cam1": {"offset_s": 0.51, "rate": 1.00002, "offset_sigma_s": 1e-4, "methods": ["markers"]}}
    write_json(session_dir / "04_rig" / "clocks.json", {"clocks": refined})
    assert load_clocks(session_dir) == {"cam1": Clock(0.51, 1.00002, 1e-4), "left_foot": Clock(0.25)}
    np.testing.assert_allclose(load_times(session_dir, "cam1"), 0.51 + 1.00002 * np.arange(4) / 2)
    inputs = clock_inputs(session_dir, ["cam1", "left_foot"])
    assert session_dir / "04_rig" / "clocks.json" in inputs.values()
    assert all(path.is_file() for path in inputs.values())


def test_a_view_without_a_clock_is_named(session_dir: Path) -> None:
    with pytest.raises(InputError, match="cam9: it has no clock"):
        load_times(session_dir, "cam9")
