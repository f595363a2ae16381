"""Stage `04_scene`: a map of the still room for cameras to find themselves on where no markers hang.

Made of one still picture of every room camera and of a walk-through's frames (`calibration.scene_pictures`), joined by
structure from motion with known lenses (`calibration.sfm`), laid onto the rig and adjusted with it
(`calibration.scene_solver`). Writes `scene.npz` (the map), `cameras.npz` (the pictures' poses), a plan, and the points
of each view's pictures. A map that the rig contradicts is refused however well its pictures agree.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from calibration.features import FeatureConfig, Features, find_features
from calibration.lens import load_lenses
from calibration.marker_map import load_marker_covariance, load_marker_map, map_inputs, still_targets
from calibration.pictures import draw_scene
from calibration.rig import load_rig, load_rig_covariance
from calibration.scene_pictures import PictureConfig, choose_frames, people_in, still_picture
from calibration.scene_points import SceneMap, read_scene_map
from calibration.scene_solver import Anchors, SceneSolverConfig, SolvedScene, solve_scene
from calibration.sfm import SfmConfig, solve_structure
from capture.finder import TargetFinder
from capture.keypoints import Keypoints2d, load_keypoints
from capture.markers import MarkerPoints, load_markers
from capture.pictures import read_pictures
from capture.session import Session, View
from core.arrays import Bool, Int, UInt8
from core.cameras import Lens, Rig
from core.errors import InputError
from core.files import read_npz, write_npz
from core.stage import Health, Manifest, Summary, run_stage
from core.transforms import SE3, hat

__all__ = ["SceneMap", "SceneMapConfig", "load_scene_map", "run"]

STAGE = "04_scene"
_LEAST_MARK_SIGMA_M = 5e-4
_WALK = "walk once more, slower: once at the height of the eyes, once low and looking up, and past every room camera"
_RIG = "check the rig and whether a room camera, or the furniture, was moved; then make the walk-through again"


@dataclass(frozen=True)
class SceneMapConfig:
    """Settings of the scene map.

    Attributes:
        pictures: which pictures it is made of.
        features: points of a picture.
        sfm: settings of the reconstruction.
        solver: settings of the registration and adjustment.
        min_registered: share of the pictures that must be in the map.
        min_agreeing: share of the room cameras that must be in it and agree with the rig.
        max_camera_m: median distance of the room cameras in the map from the rig's, before both are adjusted together.
        max_camera_deg: the same of their angles.
        max_scale_sigma: relative standard deviation of the scale.
        max_scale_difference: by how much the scales from cameras and from markers may differ.
        max_reprojection_px: root mean square of the residuals.
        min_points: points the map must have.
    """

    pictures: PictureConfig = dataclasses.field(default_factory=PictureConfig)
    features: FeatureConfig = dataclasses.field(default_factory=FeatureConfig)
    sfm: SfmConfig = dataclasses.field(default_factory=SfmConfig)
    solver: SceneSolverConfig = dataclasses.field(default_factory=SceneSolverConfig)
    min_registered: float = 0.5
    min_agreeing: float = 0.5
    max_camera_m: float = 0.05
    max_camera_deg: float = 1.0
    max_scale_sigma: float = 0.01
    max_scale_difference: float = 0.02
    max_reprojection_px: float = 1.5
    min_points: int = 300


def run(session_dir: Path, config: SceneMapConfig | None = None, *, workers: int = 1, redo: bool = False) -> Manifest:
    """Maps the room of a session.

    Raises:
        InputError: if the session has no walk-through, or a stage before has not been run.
        StageError: if its pictures do not join into one model.
        GateError: if the map cannot be laid onto the rig, or contradicts it; the result is kept aside to look at.
    """
    config = config or SceneMapConfig()
    session = Session.load(session_dir)
    walks = session.of_role("walkthrough")
    if not walks:
        action = "film a walk through the empty room and ingest it as videos/walkthrough.mp4"
        raise InputError(session.id, "it has no walk-through", action)
    rig = load_rig(session_dir)
    views = [view for view in session.of_role("room") if view.has_pictures and view.id in rig.ids]
    return run_stage(
        "calibrate scene",
        2,
        inputs=_inputs(session, [*views, *walks]),
        config=config,
        out=session.stage(STAGE),
        items=[view.id for view in (*views, *walks)],
        process=partial(_process, session_dir, config),
        finish=partial(_finish, session_dir, config),
        workers=workers,
        redo=redo,
    )


def load_scene_map(session_dir: Path) -> SceneMap:
    """The map.

    Raises:
        InputError: if the stage has not been run.
    """
    return read_scene_map(session_dir / STAGE / "scene.npz")


def _inputs(session: Session, views: Sequence[View]) -> dict[str, Path]:
    inputs = {"session": session.folder / "session.json", "lenses": session.stage("03_lenses") / "lenses.json"}
    inputs |= {"rig": session.stage("04_rig") / "rig.json"} | map_inputs(session.folder)
    if session.targets is not None:
        inputs["targets"] = session.path(session.targets)
    for view in views:
        inputs[f"pictures of {view.id}"] = session.path(str(view.video or view.images))
        if (path := _keypoints_path(session, view)).is_file():
            inputs[f"keypoints of {view.id}"] = path
    return inputs


def _keypoints_path(session: Session, view: View) -> Path:
    return session.stage("02_keypoints") / f"{view.id}.npz"


def _process(session_dir: Path, config: SceneMapConfig, view_id: str, folder: Path) -> Mapping[str, Any]:
    """Points of one view's pictures, in the pixel frame of its lens."""
    session = Session.load(session_dir)
    view, path = session[view_id], _keypoints_path(session, session[view_id])
    keypoints = load_keypoints(path) if path.is_file() else None
    if view.role == "room":
        frames, found = [0], [_still_features(session, view, keypoints, config)]
    else:
        frames = choose_frames(_every(session, view, config.pictures.flow_every), config.pictures).tolist()
        finder, found, tables = TargetFinder(still_targets(session)), [], []
        for idx, gray in read_pictures(session, view, frames):
            people = people_in(keypoints, idx, (gray.shape[1], gray.shape[0]), view.picture_from_px)
            found.append(find_features(gray, config.features, mask=None if people is None else ~people))
            tables.append(finder.find(gray, idx))
        _in_lens_px(MarkerPoints.concatenate(tables, finder.target_ids), view).save(folder / f"{view_id}.markers.npz")
    scale, dx, dy = view.picture_from_px
    arrays = {
        "frame_idx": np.array(frames, np.int64),
        "counts": np.array([len(f) for f in found], np.int64),
        "xy_px": (np.concatenate([f.xy_px for f in found]) - np.array([dx, dy])) / scale,
        "scale_px": np.concatenate([f.scale_px for f in found]) / scale,
        "descriptors": np.concatenate([f.descriptors for f in found]),
    }
    write_npz(folder / f"{view_id}.features.npz", arrays)
    return {"pictures": len(frames), "features": int(arrays["counts"].sum())}


def _every(session: Session, view: View, step: int) -> Any:
    frames = None if step == 1 else range(0, view.num_frames, step)
    return read_pictures(session, view, frames)


def _still_features(session: Session, view: View, keypoints: Keypoints2d | None, config: SceneMapConfig) -> Features:
    """Points of a static camera's still picture."""
    frames = np.unique(np.linspace(0, max(view.num_frames - 1, 0), config.pictures.still_frames).astype(int)).tolist()
    pictures: list[UInt8[np.ndarray, "h w"]] = []
    people: list[Bool[np.ndarray, "h w"] | None] = []
    for idx, gray in read_pictures(session, view, frames):
        pictures.append(gray)
        people.append(people_in(keypoints, idx, (gray.shape[1], gray.shape[0]), view.picture_from_px))
    still, known = still_picture(pictures, people)
    return find_features(still, config.features, mask=known)


def _in_lens_px(points: MarkerPoints, view: View) -> MarkerPoints:
    scale, dx, dy = view.picture_from_px
    xy = ((points.xy_px - np.array([dx, dy])) / scale).astype(np.float32)
    sigma = (points.sigma_px / scale).astype(np.float32)
    return dataclasses.replace(points, xy_px=xy, sigma_px=sigma)


@dataclass(frozen=True, eq=False)
class _Pictures:
    """All pictures of the map: the rig's cameras first, each with its own lens, then those of the walk-throughs."""

    views: tuple[str, ...]  # of each picture
    frame_idx: Int[np.ndarray, "n"]
    features: tuple[Features, ...]
    lenses: tuple[Lens, ...]
    lens_idx: Int[np.ndarray, "n"]


def _load_pictures(folder: Path, rig: Rig, lenses: Mapping[str, Lens], views: Sequence[str]) -> _Pictures:
    names: list[str] = []
    frames: list[int] = []
    found: list[Features] = []
    for view_id in views:
        data = read_npz(folder / f"{view_id}.features.npz")
        ends = np.cumsum(data["counts"])
        names += [view_id] * len(ends)
        frames += data["frame_idx"].tolist()
        for end, count in zip(ends, data["counts"], strict=True):
            rows = slice(int(end - count), int(end))
            found.append(Features(data["xy_px"][rows], data["scale_px"][rows], data["descriptors"][rows]))
    own = tuple(rig[view_id].lens if view_id in rig.ids else _lens_of(lenses, view_id) for view_id in views)
    lens_idx = np.array([views.index(name) for name in names])
    return _Pictures(tuple(names), np.array(frames, np.int64), tuple(found), own, lens_idx)


def _lens_of(lenses: Mapping[str, Lens], view_id: str) -> Lens:
    if view_id not in lenses:
        raise InputError(view_id, "it has no lens", "give it lens_images and run `motifs calibrate lens`")
    return lenses[view_id]


def _anchors(session: Session, folder: Path, rig: Rig, pictures: _Pictures) -> Anchors:
    """Room cameras, and the points of located markers that the walk-throughs saw."""
    covariance = load_rig_covariance(session.folder)
    cameras = [i for i, name in enumerate(pictures.views) if name in rig.ids]
    pose = [rig[pictures.views[i]].world_from_cam for i in cameras]
    seen = _marks_seen(session, folder, pictures)
    return Anchors(
        np.array(cameras, np.int64),
        SE3.stack(pose) if pose else SE3.identity(0),
        np.array([covariance[pictures.views[i]] for i in cameras]).reshape(-1, 6, 6),
        *seen,
    )


def _marks_seen(session: Session, folder: Path, pictures: _Pictures) -> tuple[np.ndarray, ...]:
    """Image, number and place of every marker point seen; and the points' places in the world and their sigmas."""
    targets, located = still_targets(session), load_marker_map(session.folder)
    covariance = load_marker_covariance(session.folder)
    first, points, sigmas = {}, [np.zeros((0, 3))], [np.zeros(0)]
    for name in sorted(targets.keys() & located.keys()):
        first[name] = sum(map(len, points))
        own = targets[name].points_m
        points.append(located[name].apply(own))
        J = np.concatenate([-located[name].R @ hat(own), np.broadcast_to(np.eye(3), (len(own), 3, 3))], axis=-1)
        variance = np.einsum("nij,jk,nik->n", J, covariance[name], J) / 3
        # the points of a target are off together: each is given the target's error by the root of their number
        sigmas.append(np.sqrt(len(own) * variance + _LEAST_MARK_SIGMA_M**2))
    images: list[int] = []
    marks: list[int] = []
    places = [np.zeros((0, 2))]
    for view_id in dict.fromkeys(pictures.views):
        if not (folder / f"{view_id}.markers.npz").is_file():
            continue
        found = load_markers(folder / f"{view_id}.markers.npz")
        own_images = {int(pictures.frame_idx[i]): i for i, name in enumerate(pictures.views) if name == view_id}
        known = np.array([found.target_ids[k] in first for k in found.target], bool)
        found = found.where(known)
        images += [own_images[int(frame)] for frame in found.frame_idx]
        marks += [first[found.target_ids[k]] + int(p) for k, p in zip(found.target, found.point_idx, strict=True)]
        places.append(found.xy_px.astype(float))
    seen = (np.array(images, np.int64), np.array(marks, np.int64), np.concatenate(places))
    return *seen, np.concatenate(points), np.concatenate(sigmas)


def _finish(session_dir: Path, config: SceneMapConfig, folder: Path, facts: Mapping[str, Mapping[str, Any]]) -> Summary:
    session, rig = Session.load(session_dir), load_rig(session_dir)
    pictures = _load_pictures(folder, rig, load_lenses(session_dir), list(facts))
    sequence = np.array([-1 if name in rig.ids else list(facts).index(name) for name in pictures.views])
    structure = solve_structure(pictures.features, pictures.lenses, pictures.lens_idx, sequence, config.sfm)
    anchors = _anchors(session, folder, rig, pictures)
    solved = solve_scene(structure, pictures.features, pictures.lenses, pictures.lens_idx, anchors, config.solver)
    solved.scene.save(folder / "scene.npz")
    arrays = {
        "view": np.array(pictures.views),
        "frame_idx": pictures.frame_idx,
        "world_from_cam_R": solved.world_from_cam.R,
        "world_from_cam_t_m": solved.world_from_cam.t,
        "covariance": solved.pose_covariance,
    }
    write_npz(folder / "cameras.npz", arrays)
    walked = np.array([name not in rig.ids for name in pictures.views])
    draw_scene(folder / "plan.png", rig, solved.scene, solved.world_from_cam[walked])
    return Summary(_metrics(solved, pictures, anchors, facts), _health(config, solved, session.id))


def _metrics(
    solved: SolvedScene, pictures: _Pictures, anchors: Anchors, facts: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    names = [pictures.views[i] for i in anchors.camera_image]
    sigma = np.hypot(solved.scene.own_sigma_m, solved.scene.shared_sigma_m)
    return {
        "views": dict(facts),
        "points": len(solved.scene),
        "pictures": len(pictures.views),
        "registered": float(np.isfinite(solved.world_from_cam.t[:, 0]).mean()),
        "camera_mm": dict(zip(names, (1000 * solved.camera_m).tolist(), strict=True)),
        "camera_deg": dict(zip(names, np.degrees(solved.camera_rad).tolist(), strict=True)),
        "marker_points": int(solved.num_marks),
        "scale": solved.similarity.scale,
        "scale_sigma": solved.similarity.scale_sigma,
        "scale_by_source": dict(solved.scale_by_source),
        "reprojection_px": solved.rms_px,
        "median_point_sigma_mm": float(1000 * np.median(sigma)) if len(sigma) else float("nan"),
    }


def _health(config: SceneMapConfig, solved: SolvedScene, session_id: str) -> list[Health]:
    registered = float(np.isfinite(solved.world_from_cam.t[:, 0]).mean())
    scales = list(solved.scale_by_source.values())
    difference = abs(scales[0] / scales[-1] - 1) if scales else 0.0
    health = [
        Health("registered", registered, config.min_registered, "min", _WALK),
        Health("points", float(len(solved.scene)), float(config.min_points), "min", _WALK),
        Health("scale_sigma", solved.similarity.scale_sigma, config.max_scale_sigma, "max", _WALK),
        Health("scale_difference", difference, config.max_scale_difference, "max", _RIG),
        Health("reprojection_px", solved.rms_px, config.max_reprojection_px, "max", _RIG),
    ]
    if len(solved.camera_registered):  # a rig without pictures has no say
        near = (solved.camera_m < 2 * config.max_camera_m) & (np.degrees(solved.camera_rad) < 2 * config.max_camera_deg)
        health.append(Health("cameras_agreeing", float(near.mean()), config.min_agreeing, "min", _WALK))
    if solved.camera_registered.any():
        middle_m, middle_rad = np.nanmedian(solved.camera_m), np.nanmedian(solved.camera_rad)
        health += [
            Health("camera_m", float(middle_m), config.max_camera_m, "max", _RIG),
            Health("camera_deg", float(np.degrees(middle_rad)), config.max_camera_deg, "max", _RIG),
        ]
    return health
