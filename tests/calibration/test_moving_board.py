from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_four_webcams_and_a_waved_board(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import moving_board

    recording = moving_board.load(shared / "data" / "caliscope_charuco_4cam")
    rig = moving_board.solve(recording)
    found = moving_board.residuals(recording, rig)
    out = moving_board.rejected(found)
    r = np.concatenate([found[name][~out[name]] for name in found])
    # the detector's noise is 0.2 to 0.3 px in the sharp cameras and 0.8 px in the dim one
    assert np.sqrt((r**2).mean()) < 0.6
    assert np.concatenate(list(out.values())).mean() < 0.03
    for name, clock in rig.clocks.items():
        assert abs(clock.offset_s) < 0.15, name
        assert -0.005 < clock.row_time_s * 720 < 0.05, "a webcam reads a picture out in 0 to 30 ms"
    late = rig.clocks["cam1"]
    assert late.observable and -0.11 < late.offset_s < -0.06, "this webcam hands out old frames, whatever its times say"
