"""A rig from another tool's file: its unit, and what it says beside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from random_rigs import PINHOLE

from calibration import rig as rig_stage
from calibration.formats import write_calibration
from calibration.rig import RigConfig, load_rig
from capture.session import Session, View
from core.cameras import Camera, Rig
from core.errors import GateError
from core.manifest import Manifest
from core.transforms import SE3

PLACES = np.array([[1.0, 2.0, 1.5], [-1.0, 0.5, 2.0]])


@pytest.fixture
def millimetres(tmp_path: Path) -> Path:
    """A session of two cameras, and anipose's file of them in millimetres."""
    cameras = (Camera(f"cam{k}", PINHOLE, SE3(np.eye(3), -1000 * place)) for k, place in enumerate(PLACES))
    write_calibration(tmp_path / "file", Rig(tuple(cameras)), "anipose")
    Session(tmp_path / "s", "s", "anna", tuple(View(f"cam{k}", "room", (640, 480)) for k in range(2))).save()
    return tmp_path / "file" / "calibration.toml"


def test_a_file_in_millimetres_is_refused_as_metres_and_taken_as_what_it_is(millimetres: Path) -> None:
    session = millimetres.parents[1] / "s"
    with pytest.raises(GateError, match=r"height_m|baseline_m"):
        rig_stage.run(session, RigConfig(method="import", reference=millimetres))
    rig_stage.run(session, RigConfig(method="import", reference=millimetres, reference_unit="mm"))
    np.testing.assert_allclose(load_rig(session).centres, PLACES, rtol=0, atol=1e-12)


def test_what_an_imported_file_left_out_is_in_the_manifest(millimetres: Path) -> None:
    ignored = millimetres.read_text().replace("[cam_0]", "[cam_9]").split("[cam_1]")[0]
    ignored = ignored.replace('name = "cam0"', 'name = "cam9"\nignore = true')
    millimetres.write_text(millimetres.read_text() + ignored)
    session = millimetres.parents[1] / "s"
    rig_stage.run(session, RigConfig(method="import", reference=millimetres, reference_unit="mm"))
    notes = Manifest.read(session / "04_rig").metrics["import_notes"]
    assert notes == ["camera cam9 is left out: the file marks it as ignored"]
