"""The stage that writes the marker map, on session folders as the stages before leave them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from marker_scenes import LENS, MarkerScene, joined, make_scene, photograph
from synthetic_scenes import look_at, room_cameras

from calibration import marker_map
from calibration.marker_map import (
    MarkersConfig,
    load_marker_covariance,
    load_marker_map,
    load_marker_sigma,
    map_inputs,
    write_map,
)
from calibration.placing import MarkerMap
from capture.exif import Exposure
from capture.session import Session, View
from capture.targets import save_targets
from core.cameras import Camera, Rig
from core.errors import GateError, InputError
from core.files import read_json, write_json
from core.transforms import SE3

NUM_PHOTOS = 6


def write_rig(folder: Path, rig: Rig, located: MarkerMap) -> None:
    """What the rig stage leaves: cameras known to 1 mrad and 2 mm, and the targets that it located."""
    covariance = np.diag([1e-6] * 3 + [4e-6] * 3).tolist()
    write_json(folder / "rig.json", {**rig.to_json(), "covariance": dict.fromkeys(rig.ids, covariance)})
    write_map(folder, located)
    (folder / "photographs.json").unlink()


def write_session(folder: Path, scene: MarkerScene) -> None:
    views = [View(camera.id, "room", LENS.size_px) for camera in room_cameras()]
    views.append(View("photos", "handheld", LENS.size_px, images="images/photos"))
    Session(folder, "s", "anna", tuple(views), targets="targets.json").save()
    save_targets(folder / "targets.json", list(scene.targets.values()))
    write_json(
        folder / "03_lenses" / "lenses.json", {"lenses": {view.id: LENS.to_json() for view in views}, "quality": {}}
    )
    write_rig(folder / "04_rig", room_cameras(), MarkerMap(scene.located.world_from_target, scene.located.covariance))
    (folder / "images" / "photos").mkdir(parents=True)
    for k in range(NUM_PHOTOS):
        (folder / "images" / "photos" / f"IMG_{k}.jpg").touch()
    scene.stills.points.save(folder / "02_keypoints" / "photos.markers.npz")


@pytest.fixture(scope="module")
def scene() -> MarkerScene:
    return make_scene(np.random.default_rng(11), num_photos=NUM_PHOTOS)


@pytest.fixture
def session_dir(tmp_path: Path, scene: MarkerScene) -> Path:
    write_session(tmp_path / "s", scene)
    return tmp_path / "s"


def test_the_map_holds_what_photographs_show_and_relays_the_rest(session_dir: Path, scene: MarkerScene) -> None:
    assert set(load_marker_map(session_dir)) == set(scene.located.world_from_target), "the rig's until the stage ran"
    manifest = marker_map.run(session_dir)
    assert marker_map.run(session_dir).data == manifest.data
    found, covariance = load_marker_map(session_dir), load_marker_covariance(session_dir)
    assert set(found) == set(scene.targets) == set(covariance)
    for name in ("table0", "ceiling0"):
        off, sigma = found[name].local(scene.truth[name]), np.sqrt(np.diag(covariance[name]))
        assert (np.abs(off) < 4.5 * sigma).all(), name
        assert load_marker_sigma(session_dir)[name] == pytest.approx(sigma[3:].max())
    assert manifest.metrics["source"]["floor"] == "room videos"
    assert manifest.metrics["source"]["table0"].endswith("photographs")
    files = ("markers.json", "marker_covariance.npz")
    assert list(map_inputs(session_dir).values()) == [session_dir / "04_markers" / name for name in files]
    assert set(read_json(session_dir / "04_markers" / "photographs.json")["world_from_photo"]) == {
        f"IMG_{k}.jpg" for k in range(NUM_PHOTOS)
    }
    assert (session_dir / "04_markers" / "plan.png").stat().st_size > 5000


def test_without_photographs_it_relays_and_says_what_is_missing(session_dir: Path, scene: MarkerScene) -> None:
    session = Session.load(session_dir)
    dataclasses.replace(session, views=session.of_role("room")).save()
    manifest = marker_map.run(session_dir)
    assert set(load_marker_map(session_dir)) == set(scene.located.world_from_target)
    assert all(source == "room videos" for source in manifest.metrics["source"].values())
    assert "table0 is not in the map: the room videos do not locate it" in manifest.metrics["notes"][0]


def test_a_session_without_targets_in_the_room_has_no_map(session_dir: Path) -> None:
    dataclasses.replace(Session.load(session_dir), targets=None).save()
    with pytest.raises(InputError, match="no target is mounted"):
        marker_map.run(session_dir)


@pytest.mark.parametrize(("lift_m", "kind"), [(-3.0, "height_m -"), (9.0, "height_m 1")])
def test_targets_outside_the_room_refuse_the_map(
    session_dir: Path, scene: MarkerScene, lift_m: float, kind: str
) -> None:
    located = {name: SE3(p.R, p.t + np.array([0, 0, lift_m])) for name, p in scene.located.world_from_target.items()}
    write_rig(session_dir / "04_rig", room_cameras(), MarkerMap(located, scene.located.covariance))
    session = Session.load(session_dir)
    dataclasses.replace(session, views=session.of_role("room")).save()
    with pytest.raises(GateError, match=kind) as refused:
        marker_map.run(session_dir)
    assert "check the pose of the world target" in str(refused.value)
    assert not (session_dir / "04_markers").exists()


def test_photographs_whose_exif_tells_another_zoom_are_named(
    session_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {f"IMG_{k}.jpg": Exposure("A", 4.2) for k in range(NUM_PHOTOS)}
    said |= {"IMG_1.jpg": Exposure("A", 8.4), "IMG_2.jpg": Exposure("B", 4.2)}
    monkeypatch.setattr(marker_map, "read_exposure", lambda path: said[path.name])
    marker_map.run(session_dir)
    aside = read_json(session_dir / "04_markers" / "photographs.json")["set_aside"]
    assert "2.00 times the focal length" in aside["IMG_1.jpg"]["reason"]
    assert "with a B" in aside["IMG_2.jpg"]["reason"]
    assert set(aside) == {"IMG_1.jpg", "IMG_2.jpg"}


@pytest.mark.slow
def test_a_lens_that_fits_hardly_any_photograph_refuses_the_map(session_dir: Path) -> None:
    wrong = dataclasses.replace(LENS, focal_px=(0.8 * LENS.focal_px[0], 0.8 * LENS.focal_px[1]))
    lenses = read_json(session_dir / "03_lenses" / "lenses.json")["lenses"]
    write_json(
        session_dir / "03_lenses" / "lenses.json", {"lenses": lenses | {"photos": wrong.to_json()}, "quality": {}}
    )
    with pytest.raises(GateError, match="photographs_that_fit 0"):
        marker_map.run(session_dir)


@pytest.mark.slow
def test_under_an_imported_rig_the_room_cameras_locate_the_targets(session_dir: Path, scene: MarkerScene) -> None:
    rng = np.random.default_rng(12)
    corners = [np.array([x, y, 1.2]) for x in (-2.2, 2.2) for y in (-1.7, 1.7)]
    rig = Rig(
        tuple(Camera(f"cam{k}", LENS, look_at(c, np.array([0, 0, 1.6])).inverse()) for k, c in enumerate(corners))
    )
    none = MarkerMap({}, np.zeros((0, 0)))
    write_rig(session_dir / "04_rig", rig, none)
    hidden = [name for name in scene.targets if name.startswith("table")]
    for camera in rig:
        seen = [
            photograph(rng, scene.targets, scene.truth, [camera.world_from_cam], hide={0: hidden}, first=frame)
            for frame in range(3)
        ]
        joined(*seen).save(session_dir / "02_keypoints" / f"{camera.id}.markers.npz")
    manifest = marker_map.run(session_dir)
    assert set(load_marker_map(session_dir)) == set(scene.targets)
    assert manifest.metrics["world_off_m"]["floor"] < 0.02
    # a board that is declared elsewhere than the imported world has it
    floor = scene.targets["floor"]
    assert floor.world_from_target is not None
    elsewhere = SE3(floor.world_from_target.R, floor.world_from_target.t + np.array([0.5, 0, 0]))
    targets = {**scene.targets, "floor": dataclasses.replace(floor, world_from_target=elsewhere)}
    save_targets(session_dir / "targets.json", list(targets.values()))
    with pytest.raises(GateError, match="world_off_m"):
        marker_map.run(session_dir, MarkersConfig(), redo=True)
