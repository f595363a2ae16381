from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
from synthetic_scenes import FISHEYE, RADTAN, Room, foot_way, make_room, see, table_of

from calibration import egomotion, rig
from calibration.align import pose_errors, rig_errors
from calibration.lens import load_lenses
from calibration.marker_map import load_marker_map
from calibration.rig_health import RigLimits
from capture.session import Session, View
from capture.targets import save_targets
from core.cameras import Lens
from core.errors import GateError, InputError, StageError
from core.files import write_json, write_npz

T_S = np.arange(0, 2.0, 1 / 30)


def write_session(folder: Path, rng: np.random.Generator) -> Room:
    """A session folder as the stages before leave it: four room cameras, photographs, and a foot camera."""
    room = make_room(rng, seconds=2.0)
    views = [View(c.id, "room", RADTAN.size_px, num_frames=90) for c in room.rig]
    views.append(View("photos", "handheld", RADTAN.size_px))
    views.append(View("left", "left_foot", FISHEYE.size_px, num_frames=len(T_S), lens_model="fisheye"))
    Session(folder, "s", "anna", tuple(views), targets="targets.json").save()
    save_targets(folder / "targets.json", list(room.targets.values()))
    times = {view_id: s.t_s for view_id, s in room.sightings.items() if s.t_s is not None} | {"left": T_S}
    write_json(folder / "01_sync" / "clocks.json", {"clocks": {v: {"offset_s": 0.0, "rate": 1.0} for v in times}})
    for view_id, t_s in times.items():
        write_npz(folder / "01_sync" / f"{view_id}.times.npz", {"t_local_s": t_s})
    for view_id, sighting in room.sightings.items():
        sighting.points.save(folder / "02_keypoints" / f"{view_id}.markers.npz")
    way = foot_way(T_S)
    ids = tuple(room.world_from_target)
    rows = [
        (frame, index, *see(way[frame], FISHEYE, room.targets[name], room.world_from_target[name], rng, 0.2))
        for frame in range(len(T_S))
        for index, name in enumerate(ids)
    ]
    table_of(ids, rows).save(folder / "02_keypoints" / "left.markers.npz")
    lenses: dict[str, Lens] = {view.id: RADTAN for view in views} | {"left": FISHEYE}
    write_json(folder / "03_lenses" / "lenses.json", {"lenses": {k: lens.to_json() for k, lens in lenses.items()}})
    return room


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Room]:
    folder = tmp_path_factory.mktemp("made")
    return folder, write_session(folder, np.random.default_rng(5))


@pytest.fixture
def session_dir(made: tuple[Path, Room], tmp_path: Path) -> Path:
    shutil.copytree(made[0], tmp_path / "s")
    return tmp_path / "s"


def test_rig_and_feet_from_a_session_folder(session_dir: Path, made: tuple[Path, Room]) -> None:
    room = made[1]
    assert load_lenses(session_dir)["left"] == FISHEYE
    manifest = rig.run(session_dir)
    assert rig.run(session_dir).data == manifest.data
    assert rig_errors(rig.load_rig(session_dir), room.rig).centre_m.max() < 0.015
    assert rig.load_rig_covariance(session_dir)["cam0"].shape == (6, 6)
    assert set(load_marker_map(session_dir)) == set(room.world_from_target) - {"table"}  # which no room camera sees
    assert (session_dir / "04_rig" / "plan.png").stat().st_size > 5000

    feet = egomotion.run(session_dir)
    ego = egomotion.load_egomotion(session_dir, "left")
    np.testing.assert_array_equal(ego.t_s, T_S)
    assert feet.metrics["views"]["left"]["measured"] > 0.8
    errors = pose_errors(ego.world_from_cam, foot_way(T_S))
    # the ceiling boards' own places are known to a few millimetres
    assert errors.median_mm < 20 and errors.median_deg < 0.5
    assert np.isnan(ego.world_from_cam.t[~ego.valid]).all()


def test_a_session_that_cannot_have_a_rig_is_refused(session_dir: Path) -> None:
    session = Session.load(session_dir)
    dataclasses.replace(session, targets=None).save()
    with pytest.raises(InputError, match="--reference"):
        rig.run(session_dir)
    room_only = tuple(view for view in session.views if view.role == "room")
    dataclasses.replace(session, views=room_only).save()
    with pytest.raises(InputError, match="no foot camera"):
        egomotion.run(session_dir)


def test_disconnected_cameras_fail_the_stage_by_name(session_dir: Path, made: tuple[Path, Room]) -> None:
    points = made[1].sightings["cam1"].points
    points.where(points.target == -1).save(session_dir / "02_keypoints" / "cam1.markers.npz")
    with pytest.raises(StageError, match="cam1"):
        rig.run(session_dir)
    assert not (session_dir / "04_rig").exists()


def test_an_absurd_rig_is_kept_aside(session_dir: Path) -> None:
    with pytest.raises(GateError, match="height_m"):
        rig.run(session_dir, rig.RigConfig(limits=RigLimits(height_m=2.0)))
    assert (session_dir / "04_rig.refused" / "plan.png").exists() and not (session_dir / "04_rig").exists()
