"""The scene map as a stage: made from pictures of a simulated room, and refused where it must be."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest

from calibration import scene_map
from calibration.align import pose_errors
from calibration.features import FeatureConfig
from calibration.scene_map import SceneMapConfig, load_scene_map
from calibration.scene_pictures import PictureConfig
from capture.session import Session, View
from core.cameras import Camera, Rig
from core.errors import GateError, InputError
from core.files import read_npz, write_json
from core.transforms import SE3
from simulation.picture import Grain, develop
from simulation.render import lens_samples
from simulation.world import SimulateConfig, World, build_world

CONFIG = SceneMapConfig(pictures=PictureConfig(max_frames=60), features=FeatureConfig(max_features=900))
SIMULATED = SimulateConfig(
    seed=12, num_room_cameras=5, room_size_px=(560, 420), num_walkthrough=44, walkthrough_size_px=(560, 420),
    boards_overhead=False, num_photos=0,
)  # fmt: skip


def take(world: World, lens_view: str, poses: list[SE3], folder: Path) -> None:
    """Pictures of the empty room."""
    lens = world.lenses[lens_view]
    grain, samples = Grain(np.random.default_rng(1), lens.size_px, 2.0), lens_samples(lens, 1)
    folder.mkdir(parents=True)
    for i, pose in enumerate(poses):
        picture = grain.on(develop(world.scene.look(samples, pose).colour, 1), i)
        cv2.imwrite(str(folder / f"{i:04d}.png"), picture)


def write_session(folder: Path, world: World) -> None:
    """A session as the stages before leave it; the rig is true."""
    views = [View(c.id, "room", c.lens.size_px, images=f"images/{c.id}", num_frames=1) for c in world.rig]
    size_px = world.walkthrough_lens.size_px
    walk = world.world_from_walkthrough
    views.append(View("walkthrough", "walkthrough", size_px, images="images/walkthrough", num_frames=len(walk)))
    Session(folder, "s", "anna", tuple(views)).save()
    for camera in world.rig:
        take(world, camera.id, [camera.world_from_cam], folder / "images" / camera.id)
    take(world, "walkthrough", [walk[i] for i in range(len(walk))], folder / "images" / "walkthrough")
    write_json(folder / "03_lenses/lenses.json", {"lenses": {v: lens.to_json() for v, lens in world.lenses.items()}})
    write_json(folder / "04_rig/markers.json", {"world_from_target": {}, "sigma_m": {}, "covariance": {}})
    write_rig(folder, world.rig)


def write_rig(folder: Path, rig: Rig) -> None:
    covariance = np.diag(np.repeat([2e-4, 1e-3], 3) ** 2).tolist()
    write_json(folder / "04_rig/rig.json", {**rig.to_json(), "covariance": dict.fromkeys(rig.ids, covariance)})


def test_a_session_without_a_walk_is_told_to_film_one(tmp_path: Path) -> None:
    Session(tmp_path, "s", "anna", (View("a", "room", (640, 480)),)).save()
    with pytest.raises(InputError, match="walk through the empty room"):
        scene_map.run(tmp_path)


@pytest.mark.slow
def test_the_map_is_in_the_room_and_a_wrong_rig_is_refused(tmp_path: Path) -> None:
    world = build_world(SIMULATED)
    write_session(tmp_path, world)
    manifest = scene_map.run(tmp_path, CONFIG)
    assert manifest.metrics["registered"] > 0.7 and len(load_scene_map(tmp_path)) > 300
    cameras = read_npz(tmp_path / "04_scene" / "cameras.npz")
    walked = cameras["view"] == "walkthrough"
    found = SE3(cameras["world_from_cam_R"], cameras["world_from_cam_t_m"])[walked]
    errors = pose_errors(found, world.world_from_walkthrough[cameras["frame_idx"][walked]])
    assert errors.median_mm < 10 and errors.median_deg < 0.2
    assert {"scene.npz", "cameras.npz"} <= {path.name for path in (tmp_path / "04_scene").iterdir()}

    turned = [
        dataclasses.replace(c, cam_from_world=d.cam_from_world)
        for c, d in zip(world.rig, reversed(list(world.rig)), strict=True)
    ]
    write_rig(tmp_path, Rig(tuple(Camera(c.id, c.lens, c.cam_from_world) for c in turned)))
    with pytest.raises(GateError, match=r"scene map|camera"):
        scene_map.run(tmp_path, CONFIG, redo=True)
