"""What foot and room cameras saw, in the form in which a foot camera's way and its clock are solved from it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from calibration.clocks import load_times
from calibration.foot_clock import JOINTS, JointRays
from calibration.photographs import Located
from calibration.place_noise import Places
from calibration.resection import PointRays
from calibration.scene_matching import MatchConfig, match_frames
from calibration.scene_points import SceneMap
from capture.keypoints import best_person, load_keypoints
from capture.markers import MarkerPoints
from capture.pictures import read_pictures
from capture.session import Session, View
from capture.targets import Target
from core.arrays import Bool, Int
from core.cameras import Lens, Rig
from core.transforms import SE3

Seen = tuple[PointRays, Places]


def marker_points(markers: MarkerPoints, targets: Mapping[str, Target], placed: Located, num_frames: int) -> Seen:
    """The points of located targets that a moving camera saw, in the world and ordered by frame."""
    marker_map = placed.world_from_target
    located = np.array([name in marker_map and name in targets for name in markers.target_ids], bool)
    seen = markers.where(located[markers.target] & (markers.frame_idx < num_frames))
    order = np.argsort(seen.frame_idx, kind="stable")
    columns = (seen.frame_idx, seen.target, seen.point_idx, seen.xy_px, seen.sigma_px)
    frame, target, point, xy_px, sigma_px = (column[order] for column in columns)
    world = np.full((len(frame), 3), np.nan)
    count, order_of = max(len(located), 1), list(marker_map)
    poses, spread = SE3.identity(count), np.zeros((count, 6, count, 6))
    for index in np.flatnonzero(located):
        name, rows = markers.target_ids[index], target == index
        poses.R[index], poses.t[index] = marker_map[name].R, marker_map[name].t
        world[rows] = marker_map[name].apply(targets[name].points_m[point[rows]])
    known = np.flatnonzero(located)
    rows = np.array([order_of.index(markers.target_ids[k]) for k in known], int)
    joint = placed.covariance.reshape(len(order_of), 6, len(order_of), 6)
    spread[known[:, None], :, known] = joint[rows[:, None], :, rows]
    points = PointRays(frame.astype(int), world, xy_px.astype(float), sigma_px.astype(float))
    return points, Places(target.astype(int), poses, spread.reshape(6 * count, 6 * count), np.zeros(len(frame)))


def scene_points(
    session: Session, view: View, lens: Lens, scene: SceneMap, frames: Int[np.ndarray, "k"], config: MatchConfig
) -> Seen:
    """The points of the scene map that a foot camera saw in some of its frames."""
    if not view.has_pictures or not len(frames):
        none = np.zeros(0)
        return PointRays(np.zeros(0, int), np.zeros((0, 3)), np.zeros((0, 2)), none), Places.none(0)
    pictures = read_pictures(session, view, frames.tolist())
    points, place_m = match_frames(
        scene, lens, pictures, config, row_time_s=view.row_time_s, picture_from_px=view.picture_from_px
    )
    return points, dataclasses.replace(Places.none(len(place_m)), own_sigma_m=place_m)


def together(first: Seen, second: Seen) -> Seen:
    """Points of both, ordered by frame."""
    (a, of_a), (b, of_b) = first, second
    order = np.argsort(np.concatenate([a.pose_idx, b.pose_idx]), kind="stable")
    names = ("pose_idx", "points_m", "xy_px", "sigma_px")
    points = PointRays(*(np.concatenate([getattr(a, name), getattr(b, name)])[order] for name in names))
    target = np.concatenate([of_a.target, np.full(len(of_b.target), -1)])[order]
    own = np.concatenate([of_a.own_sigma_m, of_b.own_sigma_m])[order]
    return points, dataclasses.replace(of_a, target=target, own_sigma_m=own)


def joint_files(session: Session) -> dict[str, Path]:
    """Keypoint files of the room views that have any."""
    paths = {view.id: session.stage("02_keypoints") / f"{view.id}.npz" for view in session.of_role("room")}
    return {view_id: path for view_id, path in paths.items() if path.is_file()}


def joint_rays(
    session: Session, rig: Rig, files: Mapping[str, Path], side: str, min_score: float, sigma_px: float
) -> JointRays:
    """Where the room cameras saw the joints of one foot, ordered by view.

    Args:
        session: the session.
        rig: its room cameras; others are left out.
        files: keypoints by view.
        side: `left` or `right`.
        min_score: keypoints below it are left out.
        sigma_px: standard deviation of a keypoint of score 1.
    """
    parts = [JointRays.none()]
    for view_id, path in files.items():
        if view_id not in rig.ids:
            continue
        camera, found, t_s = rig[view_id], best_person(load_keypoints(path)), load_times(session.folder, view_id)
        for number, joint in enumerate(f"{side}_{name}" for name in JOINTS):
            if joint not in found.skeleton.joints:
                continue
            k = found.skeleton.idx(joint)
            xy, score = found.xy_px[: len(t_s), 0, k].astype(float), found.score[: len(t_s), 0, k].astype(float)
            rows = np.flatnonzero(score >= min_score)
            ray = camera.lens.unproject(xy[rows]) @ camera.world_from_cam.R.T
            known: Bool[np.ndarray, "n"] = np.isfinite(ray).all(axis=-1)
            rows, ray, n = rows[known], ray[known], int(known.sum())
            sigma = sigma_px / np.sqrt(score[rows]) / max(camera.lens.focal_px)
            centre = np.broadcast_to(camera.centre, (n, 3)).copy()
            parts.append(JointRays(t_s[rows], np.full(n, number), centre, ray, sigma))
    return JointRays.concatenate(parts)
