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
from core.errors import GateError, StageError
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


def imported(folder: Path, views: tuple[str, ...], cameras: tuple[str, ...]) -> tuple[list[float], list[str]]:
    """Where cameras of a file, which stand at x = 1, 2, ... m, are for views; and the stage's notes."""
    places = [np.array([k + 1.0, 0.3 * k * k, 1.5]) for k in range(len(cameras))]
    rig = Rig(tuple(Camera(name, PINHOLE, SE3(np.eye(3), -p)) for name, p in zip(cameras, places, strict=True)))
    write_calibration(folder / "file", rig, "pose2sim")
    Session(folder / "s", "s", "anna", tuple(View(name, "room", (640, 480)) for name in views)).save()
    rig_stage.run(folder / "s", RigConfig(method="import", reference=folder / "file" / "Calib.toml"), redo=True)
    found = load_rig(folder / "s")
    assert found.ids == views
    return found.centres[:, 0].round(9).tolist(), Manifest.read(folder / "s" / "04_rig").metrics["import_notes"]


def test_cameras_named_otherwise_are_told_by_their_numbers(tmp_path: Path) -> None:
    views = tuple(sorted(f"cam{k}" for k in range(1, 11)))
    cameras = tuple(f"int_cam{k}_img" for k in range(1, 11))
    x_m, [note] = imported(tmp_path / "ten", views, cameras)
    assert x_m == [1, 10, 2, 3, 4, 5, 6, 7, 8, 9]
    assert "told by their numbers" in note and "int_cam10_img is cam10" in note
    assert imported(tmp_path / "some", ("cam2", "cam10"), cameras)[0] == [2, 10]
    assert imported(tmp_path / "same", ("cam2", "cam1"), ("cam1", "cam2")) == ([2, 1], [])
    x_m, [note] = imported(tmp_path / "plain", ("east", "west"), ("door", "wall"))
    assert x_m == [1, 2] and "in their order: door is east, wall is west" in note


@pytest.mark.parametrize(
    "cameras",
    [("cam_0", "cam_1"), ("left_1", "right_1"), ("door", "wall"), ("cam1", "cam3")],
)
def test_cameras_that_nothing_tells_apart_are_refused(tmp_path: Path, cameras: tuple[str, ...]) -> None:
    with pytest.raises(StageError, match=r"are not the session's cam1, cam2.*same numbers"):
        imported(tmp_path, ("cam1", "cam2"), cameras)
