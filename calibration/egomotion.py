"""Stage `05_egomotion`: the pose of each foot camera in the room at every one of its frames.

Uses the markers that the rig stage located, the camera's own lens, clock and rolling shutter (`calibration.tracking`).
Writes `<view>.npz` and a picture of each way.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from calibration.clocks import clock_inputs, load_times
from calibration.lens import load_lenses
from calibration.pictures import draw_track
from calibration.resection import PointRays
from calibration.rig import load_marker_map, load_marker_sigma
from calibration.tracking import Track, TrackConfig, track_camera
from capture.markers import MarkerPoints, load_markers
from capture.session import Session
from capture.targets import Target, load_targets
from core.arrays import Bool, Float, Int
from core.errors import InputError
from core.files import read_npz, write_npz
from core.stage import Health, Manifest, Summary, run_stage
from core.transforms import SE3

STAGE = "05_egomotion"


@dataclass(frozen=True)
class EgomotionConfig:
    """Settings of the foot cameras' poses.

    Attributes:
        track: settings of the poses and of their smoothing.
        min_measured: share of frames with a pose of their own below which a camera is refused.
        max_reprojection_px: median reprojection error above which it is refused.
        max_below_floor_m: how far under the floor a camera may seem to be.
    """

    track: TrackConfig = dataclasses.field(default_factory=TrackConfig)
    min_measured: float = 0.3
    max_reprojection_px: float = 2.0
    max_below_floor_m: float = 0.05


@dataclass(frozen=True, eq=False)
class Egomotion:
    """A foot camera's way.

    Attributes:
        t_s: (frames,) frame times on the session clock; the pose is that of row 0.
        world_from_cam: (frames,) poses; NaN where not valid.
        covariance: (frames, 6, 6) in (rotation, translation) order; NaN where not valid.
        valid: (frames,) measured or filled.
        filled: (frames,) filled between measurements.
        num_points: (frames,) marker points seen.
    """

    t_s: Float[np.ndarray, "frames"]
    world_from_cam: SE3
    covariance: Float[np.ndarray, "frames 6 6"]
    valid: Bool[np.ndarray, "frames"]
    filled: Bool[np.ndarray, "frames"]
    num_points: Int[np.ndarray, "frames"]

    def save(self, path: Path) -> None:
        """Writes `<view>.npz`."""
        names = ("t_s", "covariance", "valid", "filled")
        arrays = {name: getattr(self, name) for name in names}
        arrays |= {"world_from_cam_R": self.world_from_cam.R, "world_from_cam_t_m": self.world_from_cam.t}
        write_npz(path, {**arrays, "num_points": self.num_points.astype(np.int32)})


def run(session_dir: Path, config: EgomotionConfig | None = None, *, workers: int = 1, redo: bool = False) -> Manifest:
    """Tracks every foot camera of a session.

    Raises:
        InputError: if the session has no foot camera, or a stage before has not been run.
        GateError: if a way is not believable; the result is kept aside to look at.
    """
    config = config or EgomotionConfig()
    session = Session.load(session_dir)
    feet = [view.id for view in session.views if view.is_foot]
    if not feet:
        raise InputError(session.id, "it has no foot camera", "skip this stage, or give a view the role left_foot")
    inputs = {
        "session": session_dir / "session.json",
        **clock_inputs(session_dir, feet),
        "lenses": session.stage("03_lenses") / "lenses.json",
        "markers": session.stage("04_rig") / "markers.json",
    }
    for view_id in feet:
        inputs[f"points of {view_id}"] = session.stage("02_keypoints") / f"{view_id}.markers.npz"
    if session.targets is not None:
        inputs["targets"] = session.path(session.targets)
    return run_stage(
        "calibrate feet",
        1,
        inputs=inputs,
        config=config,
        out=session.stage(STAGE),
        items=feet,
        process=partial(_process, session_dir, config),
        finish=partial(_finish, config),
        workers=workers,
        redo=redo,
    )


def load_egomotion(session_dir: Path, view_id: str) -> Egomotion:
    """Reads a foot camera's way.

    Raises:
        InputError: if the stage has not been run.
    """
    data = read_npz(session_dir / STAGE / f"{view_id}.npz")
    pose = SE3(data["world_from_cam_R"], data["world_from_cam_t_m"])
    return Egomotion(data["t_s"], pose, data["covariance"], data["valid"], data["filled"], data["num_points"])


def room_points(
    markers: MarkerPoints,
    targets: Mapping[str, Target],
    marker_map: Mapping[str, SE3],
    sigma_m: Mapping[str, float],
    num_frames: int,
) -> tuple[PointRays, Float[np.ndarray, "n"]]:
    """The points of located targets that a moving camera saw, in the world and ordered by frame.

    Returns:
        the points, and the standard deviation of each one's place. The points of a target are off together, so each
        carries the target's by the root of their number: all of them then weigh as one.
    """
    located = np.array([name in marker_map and name in targets for name in markers.target_ids], bool)
    seen = markers.where(located[markers.target] & (markers.frame_idx < num_frames))
    order = np.argsort(seen.frame_idx, kind="stable")
    columns = (seen.frame_idx, seen.target, seen.point_idx, seen.xy_px, seen.sigma_px)
    seen = MarkerPoints(seen.target_ids, *(column[order] for column in columns))
    world, place = np.full((len(seen), 3), np.nan), np.zeros(len(seen))
    for index, name in enumerate(markers.target_ids):
        rows = seen.target == index
        if located[index]:
            world[rows] = marker_map[name].apply(targets[name].points_m[seen.point_idx[rows]])
            together = np.bincount(seen.frame_idx[rows], minlength=num_frames)[seen.frame_idx[rows]]
            place[rows] = sigma_m.get(name, 0.0) * np.sqrt(together)
    xy, sigma = seen.xy_px.astype(float), seen.sigma_px.astype(float)
    return PointRays(seen.frame_idx.astype(int), world, xy, sigma), place


def _process(session_dir: Path, config: EgomotionConfig, view_id: str, folder: Path) -> Mapping[str, Any]:
    session = Session.load(session_dir)
    lenses = load_lenses(session_dir)
    if view_id not in lenses:
        raise InputError(view_id, "it has no lens", "give it lens_images and run `motifs calibrate lens`")
    targets = load_targets(session.path(session.targets)) if session.targets else {}
    t_s = load_times(session_dir, view_id)
    markers = load_markers(session.stage("02_keypoints") / f"{view_id}.markers.npz")
    located, sigma_m = load_marker_map(session_dir), load_marker_sigma(session_dir)
    points, place = room_points(markers, targets, located, sigma_m, len(t_s))
    row_time_s = session[view_id].row_time_s
    track = track_camera(lenses[view_id], t_s, points, row_time_s=row_time_s, place_sigma_m=place, config=config.track)
    ego = _egomotion(t_s, track)
    ego.save(folder / f"{view_id}.npz")
    draw_track(folder / f"{view_id}.png", view_id, t_s, ego.world_from_cam.t, ego.filled, ego.valid)
    first, last = session.spans_s.get("motion", (-np.inf, np.inf))
    return _facts(track, ego, (t_s >= first) & (t_s <= last))


def _egomotion(t_s: np.ndarray, track: Track) -> Egomotion:
    """The smoothed way, NaN where it is neither measured nor filled."""
    way = track.way
    nan = np.where(way.valid, 1.0, np.nan)
    pose = SE3(way.world_from_cam.R * nan[:, None, None], way.world_from_cam.t * nan[:, None])
    covariance = np.where(way.valid[:, None, None], way.covariance, np.nan)
    return Egomotion(t_s, pose, covariance, way.valid, way.valid & ~way.used, track.num_points)


def _facts(track: Track, ego: Egomotion, wanted: np.ndarray) -> dict[str, Any]:
    """Figures of a view; shares are of the frames that are to be annotated."""
    sigma = np.sqrt(np.einsum("nii->ni", ego.covariance[ego.valid]))
    some = bool(ego.valid.any())
    return {
        "measured": float(track.way.used[wanted].mean()) if wanted.any() else float("nan"),
        "filled": float(ego.filled[wanted].mean()) if wanted.any() else float("nan"),
        "dropped": int((track.known & ~track.way.used).sum()),
        "reprojection_px": float(np.nanmedian(track.rms_px)) if track.known.any() else float("nan"),
        "median_position_sigma_mm": float(np.median(sigma[:, 3:].max(axis=-1)) * 1000) if some else float("nan"),
        "median_rotation_sigma_deg": float(np.degrees(np.median(sigma[:, :3].max(axis=-1)))) if some else float("nan"),
        "lowest_m": float(np.nanmin(ego.world_from_cam.t[:, 2])) if some else float("nan"),
    }


def _finish(config: EgomotionConfig, folder: Path, facts: Mapping[str, Mapping[str, Any]]) -> Summary:
    health = []
    for view_id, fact in facts.items():
        value = {key: float("nan") if fact[key] is None else float(fact[key]) for key in fact}
        sees = "hang more markers where the foot cameras look, or light the room better"
        fits = "check the camera's lens, its row_time_s and the sizes of the targets"
        floor = "check the pose of the world target: it may be entered upside down"
        health += [
            Health("measured", value["measured"], config.min_measured, "min", sees, view_id),
            Health("reprojection_px", value["reprojection_px"], config.max_reprojection_px, "max", fits, view_id),
            Health("lowest_m", value["lowest_m"], -config.max_below_floor_m, "min", floor, view_id),
        ]
    return Summary({"views": dict(facts)}, health)
