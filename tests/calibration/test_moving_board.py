from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from core.clock import Clock

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
    taken, together = moving_board.simultaneous(recording)
    at_once = moving_board.residuals(taken, together)
    out = moving_board.rejected(at_once)
    late = np.concatenate([at_once[name][~out[name]] for name in at_once])
    assert np.sqrt((late**2).mean()) > 2 * np.sqrt((r**2).mean()), "one webcam's frames are 85 ms old"
    for name, clock in rig.clocks.items():
        assert abs(clock.offset_s) < 0.15, name
        assert -0.005 < clock.row_time_s * 720 < 0.05, "a webcam reads a picture out in 0 to 30 ms"
    old = rig.clocks["cam1"]
    assert old.observable and -0.11 < old.offset_s < -0.06, "this webcam hands out old frames, whatever its times say"


@pytest.mark.slow
def test_shifted_times_come_back(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import moving_board

    recording = moving_board.load(shared / "data" / "caliscope_charuco_4cam")
    shifts = {"cam1": Clock(0.021, 1 - 1.5e-4), "cam2": Clock(-0.013, 1 + 0.8e-4), "cam3": Clock(0.007, 1 + 1.9e-4)}
    plain = moving_board.estimate_clocks(recording)
    found = moving_board.estimate_clocks(recording, shifts)
    for name, shift in shifts.items():
        middle = recording.t_s[name].mean(keepdims=True)
        late_s = found[name].to_session(shift.to_local(middle)) - plain[name].to_session(middle)
        # the solution is the same one but for where the solver stops: a few hundredths of its uncertainty
        assert abs(late_s[0]) < 0.1 * plain[name].offset_sigma_s
        assert abs(found[name].rate / shift.rate - plain[name].rate) < 20e-6
