"""Writes a simulated session: everything a laboratory would hand in, and beside it, in `truth/`, what is true.

The session's folder is the result of one stage: it appears complete, and a killed run goes on with the views that are
not done. The truth is for comparison only; no other stage reads it:

| file              | content                                                                              |
|-------------------|--------------------------------------------------------------------------------------|
| rig.json          | room cameras (`Rig`)                                                                 |
| lenses.json       | lenses of all views                                                                  |
| markers.json      | poses of the boards in the world                                                     |
| clocks.json       | offset and rate of every video's clock                                               |
| <foot view>.npz   | `t_s`, `world_from_cam_R`, `_t_m` when each frame's first row is exposed; the mount; `covered` |
| marker_rig.npz    | path of the carried rig at 30 Hz                                                     |
| photos.npz        | poses of the hand-held stills                                                        |
| walkthrough.npz   | poses of the walk-through's frames, if there is one                                   |
| smpl.npz          | the person in AMASS's fields at the annotation's instants, with joints and contacts  |
| landmarks.npz     | the detector's skeleton in 3D at these instants                                      |
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from capture.detectors import openpose
from capture.keypoints import clean
from capture.session import FOOT_ROLES, Session, View
from capture.targets import save_targets
from core.clock import Timeline
from core.files import write_json, write_npz
from core.skeletons import skeleton_named
from core.stage import Manifest, Summary, run_stage
from fitting.landmarks import landmarks_of
from simulation.views import film_foot_view, film_room_view, film_walkthrough, take_lens_stills, take_photos
from simulation.walkthrough import WALKTHROUGH_RATE
from simulation.world import (
    CALIBRATION_S,
    MOTION_START_S,
    SimulateConfig,
    World,
    build_world,
    world_from_marker_rig,
)

__all__ = ["SimulateConfig", "simulate"]

VERSION = 3
ANNOTATION_RATE = Fraction(30)


def simulate(out: Path, config: SimulateConfig, *, workers: int = 1, redo: bool = False) -> Manifest:
    """Makes a simulated session in the folder `out`.

    Args:
        out: the session's folder.
        config: what to simulate.
        workers: processes; the files are the same for any number.
        redo: replace a session made with other settings.

    Raises:
        StageError: if `out` holds a session of other settings and `redo` is off.
    """
    world = build_world(config)
    videos = [*world.feet, *world.rig.ids]  # the longest first
    by_hand = [name for name in ("photos", "walkthrough") if name in world.lenses]
    items = [*videos, *by_hand, *(f"lens_{view}" for view in world.lenses), "truth"]
    return run_stage(
        "simulate",
        VERSION,
        inputs={},
        config=config,
        out=out,
        items=items,
        process=partial(_process, config),
        finish=partial(_finish, config, out),
        workers=workers,
        redo=redo,
    )


def _process(config: SimulateConfig, item: str, folder: Path) -> Mapping[str, Any]:
    """Makes one view's files."""
    world = build_world(config)
    if item == "photos":
        take_photos(world, folder / "images" / "photos")
    elif item == "truth":
        _write_truth(world, folder / "truth")
    elif item == "walkthrough":
        film_walkthrough(world, folder / "videos" / "walkthrough.mp4")
    elif item.startswith("lens_"):
        view = item.removeprefix("lens_")
        take_lens_stills(world, view, folder / "lens_images" / view)
    elif item in world.feet:
        film_foot_view(world, item, folder / "videos" / f"{item}.mp4")
    else:
        xy_px, score = film_room_view(world, item, folder / "videos" / f"{item}.mp4")
        found = clean(xy_px[:, None], score[:, None], skeleton_named(config.skeleton))
        openpose.write(folder / "keypoints" / item, found, item)
    return {}


def _finish(config: SimulateConfig, out: Path, folder: Path, facts: Mapping[str, Mapping[str, Any]]) -> Summary:
    """Describes the session; it is written where it will live, so paths in it are relative."""
    world = build_world(config)
    save_targets(folder / "targets.json", list(world.room.targets.values()))
    session = Session(
        folder=folder,
        id=out.name,
        subject=f"simulated-{config.seed}",
        views=tuple(_views(world)),
        rate=str(ANNOTATION_RATE),
        targets="targets.json",
        spans_s={"calibration": CALIBRATION_S, "motion": (MOTION_START_S, config.duration_s)},
    )
    session.save()
    frames = {view: len(world.times(view)) for view in world.clocks}
    return Summary(metrics={"views": len(session.views), "frames": sum(frames.values())})


def _views(world: World) -> list[View]:
    config = world.config
    room = [
        View(
            id=camera.id,
            role="room",
            size_px=camera.lens.size_px,
            video=f"videos/{camera.id}.mp4",
            num_frames=len(world.times(camera.id)),
            frame_rate=config.frame_rate,
            lens_model="radtan",
            lens_images=f"lens_images/{camera.id}",
            keypoints=f"keypoints/{camera.id}",
            keypoints_format="openpose",
            keypoints_skeleton=config.skeleton,
        )
        for camera in world.rig
    ]
    feet = [
        View(
            id=view,
            role=role,
            size_px=config.foot_size_px,
            video=f"videos/{view}.mp4",
            num_frames=len(world.times(view)),
            frame_rate=config.frame_rate,
            lens_model="fisheye",
            lens_images=f"lens_images/{view}",
            row_time_s=config.foot_row_time_s,
        )
        for role, view in zip(FOOT_ROLES, world.feet, strict=True)
    ]
    photos = View("photos", "handheld", config.photo_size_px, images="images/photos", lens_images="lens_images/photos")
    walkthrough = View(
        id="walkthrough",
        role="walkthrough",
        size_px=world.config.walkthrough_size_px,
        video="videos/walkthrough.mp4",
        num_frames=len(world.world_from_walkthrough),
        frame_rate=str(WALKTHROUGH_RATE),
        lens_images="lens_images/walkthrough",
    )
    return [*room, *feet, *(view for view in (photos, walkthrough) if view.id in world.lenses)]


def _write_truth(world: World, folder: Path) -> None:
    write_json(folder / "rig.json", world.rig.to_json())
    write_json(folder / "lenses.json", {"lenses": {view: lens.to_json() for view, lens in world.lenses.items()}})
    poses = {name: {"rotvec": pose.rotvec, "t_m": pose.t} for name, pose in world.room.world_from_target.items()}
    write_json(folder / "markers.json", {"world_from_target": poses})
    clocks = {view: {"offset_s": clock.offset_s, "rate": clock.rate} for view, clock in world.clocks.items()}
    write_json(folder / "clocks.json", {"clocks": clocks})
    for view, camera in world.feet.items():
        t_s = world.times(view)
        pose, mount = world.world_from_foot_cam(view, t_s), camera.foot_from_cam
        arrays = {"t_s": t_s, "world_from_cam_R": pose.R, "world_from_cam_t_m": pose.t}
        arrays |= {"foot_from_cam_R": mount.R, "foot_from_cam_t_m": mount.t, "covered": world.covered(view)}
        write_npz(folder / f"{view}.npz", arrays)
    photos = world.world_from_photo
    write_npz(folder / "photos.npz", {"world_from_cam_R": photos.R, "world_from_cam_t_m": photos.t})
    if len(walk := world.world_from_walkthrough):
        write_npz(folder / "walkthrough.npz", {"world_from_cam_R": walk.R, "world_from_cam_t_m": walk.t})
    t_s = Timeline.spanning(*CALIBRATION_S, ANNOTATION_RATE).t_s
    carried = world_from_marker_rig(t_s)
    arrays = {"t_s": t_s, "world_from_target_R": carried.R, "world_from_target_t_m": carried.t}
    write_npz(folder / "marker_rig.npz", arrays)
    _write_person(world, folder)


def _write_person(world: World, folder: Path) -> None:
    """The person at the annotation's instants."""
    t_s = Timeline.spanning(MOTION_START_S, world.config.duration_s, ANNOTATION_RATE).t_s
    person, body = world.person, world.person.shaped.body
    poses, trans = person.pose_at(t_s)
    arrays = {
        "t_s": t_s,
        "rate": np.array(str(ANNOTATION_RATE)),
        "poses": poses.reshape(len(t_s), -1),
        "trans": trans,
        "betas": person.betas,
        "gender": np.array("neutral"),
        "body_model": np.array(body.name),
        "body_model_sha256": np.array(body.sha256),
        "joints_m": person.joints_at(t_s),
        "contacts": person.contacts_at(t_s),
        "activity": person.activity_at(t_s),
    }
    write_npz(folder / "smpl.npz", arrays)
    skeleton = skeleton_named(world.config.skeleton)
    xyz_m = landmarks_of(body, skeleton).positions(person.posed_at(t_s))
    write_npz(folder / "landmarks.npz", {"t_s": t_s, "xyz_m": xyz_m, "skeleton": np.array(skeleton.name)})
