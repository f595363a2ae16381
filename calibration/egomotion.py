"""Stage `05_egomotion`: the pose of each foot camera in the room at every one of its frames, and its clock.

Uses the located markers or the scene map or both, the camera's own lens and rolling shutter (`calibration.tracking`),
and the room cameras' view of the foot for its clock (`calibration.foot_clock`). Writes `<view>.npz`, a picture of each
way, and `clocks.json`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from calibration.clocks import clock_inputs, load_clocks
from calibration.foot_bridge import BridgeConfig, bridge
from calibration.foot_clock import FootClock, FootClockConfig, JointRays, refine_clock
from calibration.foot_gates import FootGates, feet_distance, figures, view_health
from calibration.foot_points import Seen, joint_files, joint_rays, marker_points, scene_points, together
from calibration.foot_targets import TargetCheck, check_targets
from calibration.gap_filling import GapConfig, finish_way
from calibration.lens import load_lens_covariances, load_lenses
from calibration.marker_map import load_placed, map_inputs
from calibration.photographs import Located
from calibration.pictures import draw_track
from calibration.rig import load_rig
from calibration.scene_map import STAGE as SCENE_STAGE
from calibration.scene_map import load_scene_map
from calibration.scene_matching import MatchConfig
from calibration.smoothing import shifted
from calibration.tracking import Track, TrackConfig, better_row_time, bridged_way, track_camera
from capture.markers import MarkerPoints, load_markers
from capture.session import Session, View
from capture.sync import STAGE as SYNC_STAGE
from capture.targets import load_targets
from core.arrays import Bool, Float, Int
from core.cameras import Lens
from core.clock import Clock
from core.errors import InputError
from core.files import read_npz, write_json, write_npz
from core.stage import Health, Manifest, Summary, run_stage
from core.transforms import SE3

STAGE = "05_egomotion"
_FEW_POINTS = 8  # marker points under which `auto` looks at a frame's scene too
_BRIDGE_PASSES = 2
Source = Literal["auto", "markers", "scene", "both"]


@dataclass(frozen=True)
class EgomotionConfig:
    """Settings of the foot cameras' poses.

    Attributes:
        on: what the poses are solved on: located `markers`; the `scene` map by features; `both` in one estimate; `auto`
            takes markers, and the scene map, where there is one, for the frames that show few or none.
        track: settings of the poses and of their smoothing.
        match: settings of the search for points of the scene map.
        clock: settings of the clocks, and of the room cameras' keypoints.
        bridge: settings of frames that see nothing.
        targets: settings of the search for targets that were moved.
        gaps: how gaps are filled, and averages taken.
        gates: limits of what is believable.
    """

    on: Source = "auto"
    track: TrackConfig = dataclasses.field(default_factory=TrackConfig)
    match: MatchConfig = dataclasses.field(default_factory=MatchConfig)
    clock: FootClockConfig = dataclasses.field(default_factory=FootClockConfig)
    bridge: BridgeConfig = dataclasses.field(default_factory=BridgeConfig)
    targets: TargetCheck = dataclasses.field(default_factory=TargetCheck)
    gaps: GapConfig = dataclasses.field(default_factory=GapConfig)
    gates: FootGates = dataclasses.field(default_factory=FootGates)


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
    feet = [view for view in session.views if view.is_foot]
    if not feet:
        raise InputError(session.id, "it has no foot camera", "skip this stage, or give a view the role left_foot")
    return run_stage(
        "calibrate feet",
        4,
        inputs=_inputs(session, config, feet),
        config=config,
        out=session.stage(STAGE),
        items=[view.id for view in feet],
        process=partial(_process, session_dir, config),
        finish=partial(_finish, config),
        workers=workers,
        redo=redo,
    )


def _inputs(session: Session, config: EgomotionConfig, feet: list[View]) -> dict[str, Path]:
    """Every file that the stage reads."""
    joints = joint_files(session) if _sees_joints(config) else {}
    inputs = {
        "session": session.folder / "session.json",
        "lenses": session.stage("03_lenses") / "lenses.json",
        "rig": session.stage("04_rig") / "rig.json",
        **clock_inputs(session.folder, [*(view.id for view in feet), *joints]),
        **{f"keypoints of {view_id}": path for view_id, path in joints.items()},
    }
    if _sees_markers(session, config.on):
        inputs |= {**map_inputs(session.folder), "targets": session.path(str(session.targets))}
        inputs |= {f"points of {view.id}": _points_path(session, view.id) for view in feet}
    if _sees_scene(session, config.on):
        inputs["scene map"] = session.stage(SCENE_STAGE) / "scene.npz"
        inputs |= {f"video of {v.id}": session.path(str(v.video or v.images)) for v in feet if v.has_pictures}
    return inputs


def _points_path(session: Session, view_id: str) -> Path:
    return session.stage("02_keypoints") / f"{view_id}.markers.npz"


def _sees_markers(session: Session, on: Source) -> bool:
    """Whether markers are used.

    Raises:
        InputError: if they are asked for and there are none.
    """
    if on == "scene":
        return False
    if session.targets is None and on != "auto":
        raise InputError(
            session.id, "it has no targets to follow the feet on", "use `--on scene`, or give targets.json"
        )
    return session.targets is not None


def _sees_scene(session: Session, on: Source) -> bool:
    """Whether the scene map is used.

    Raises:
        InputError: if it is needed and there is none.
    """
    there = (session.stage(SCENE_STAGE) / "scene.npz").is_file()
    if not there and (on in ("scene", "both") or (on == "auto" and session.targets is None)):
        raise InputError(session.id, "it has no scene map", "run `motifs calibrate scene` first, or use `--on markers`")
    return there and on != "markers"


def load_egomotion(session_dir: Path, view_id: str) -> Egomotion:
    """Reads a foot camera's way.

    Raises:
        InputError: if the stage has not been run.
    """
    return load_way(session_dir / STAGE / f"{view_id}.npz")


def load_way(path: Path) -> Egomotion:
    """Reads what `Egomotion.save` wrote."""
    data = read_npz(path)
    pose = SE3(data["world_from_cam_R"], data["world_from_cam_t_m"])
    return Egomotion(data["t_s"], pose, data["covariance"], data["valid"], data["filled"], data["num_points"])


def _process(session_dir: Path, config: EgomotionConfig, view_id: str, folder: Path) -> Mapping[str, Any]:
    session = Session.load(session_dir)
    view, lenses, clocks = session[view_id], load_lenses(session_dir), load_clocks(session_dir)
    for known, problem, action in (
        (lenses, "it has no lens", "give it lens_images and run `motifs calibrate lens`"),
        (clocks, "it has no clock", "run `motifs sync` again with this view in session.json"),
    ):
        if view_id not in known:
            raise InputError(view_id, problem, action)
    local_s = read_npz(session.stage(SYNC_STAGE) / f"{view_id}.times.npz")["t_local_s"]
    prior, lens = clocks[view_id], lenses[view_id]
    t_s = prior.to_session(local_s)
    first, last = session.spans_s.get("motion", (-np.inf, np.inf))
    wanted = (t_s >= first) & (t_s <= last)
    points, places, names = _seen(session, view, lens, config, wanted)
    lens_covariance = load_lens_covariances(session_dir).get(view_id)
    track = track_camera(
        lens,
        t_s,
        points,
        row_time_s=view.row_time_s,
        places=places,
        lens_covariance=lens_covariance,
        config=config.track,
    )
    targets = check_targets(
        lens,
        t_s,
        points,
        track,
        places,
        names,
        row_time_s=view.row_time_s,
        lens_covariance=lens_covariance,
        config=config.track,
        check=config.targets,
    )
    ratio, better = better_row_time(lens, t_s, points, track, view.row_time_s, config.track)
    rays = _joint_rays(session, view, config)
    clock = refine_clock(track.way, rays if config.clock.refine else JointRays.none(), prior, config.clock)
    t_s = clock.clock.to_session(local_s)
    for _ in range(_BRIDGE_PASSES):  # the joints' own times want the motion in the gap, which the joints tell
        filling = bridge(shifted(dataclasses.replace(track.way, t_s=t_s), track.delay_s), rays, config.bridge)
        way = bridged_way(track, t_s, filling.world_from_cam, filling.covariance, filling.known, config.track)
        track = dataclasses.replace(track, way=way)
    track = dataclasses.replace(track, way=finish_way(track.way, config.gaps))
    ego = _egomotion(t_s, track)
    ego.save(folder / f"{view_id}.npz")
    sigma_m = np.sqrt(np.einsum("nii->ni", ego.covariance)[:, 3:])
    draw_track(folder / f"{view_id}.png", view_id, ego.t_s, ego.world_from_cam.t, ego.filled, ego.valid, sigma_m)
    return {
        **figures(track, wanted),
        "shutter_ratio": ratio,
        "better_row_time_s": better,
        **targets.to_json(),
        "joint_inflation": filling.inflation,
        "clock": _clock_entry(clock, prior),
    }


def _seen(
    session: Session, view: View, lens: Lens, config: EgomotionConfig, wanted: np.ndarray
) -> tuple[*Seen, tuple[str, ...]]:
    """The points of the room that a foot camera saw, their places, and the names of the targets.

    Features are looked for in the frames that are to be annotated (wanted) alone: that takes a fifth of a second each.
    """
    names: tuple[str, ...] = ()
    num_frames = len(wanted)
    seen = marker_points(MarkerPoints.empty(()), {}, Located({}, np.zeros((0, 0))), num_frames)
    if _sees_markers(session, config.on):
        markers = load_markers(_points_path(session, view.id))
        targets = load_targets(session.path(str(session.targets)))
        names, seen = markers.target_ids, marker_points(markers, targets, load_placed(session.folder), num_frames)
    if _sees_scene(session, config.on):
        count = np.bincount(seen[0].pose_idx, minlength=num_frames)
        frames = np.flatnonzero(wanted & (count < _FEW_POINTS if config.on == "auto" else True))
        found = scene_points(session, view, lens, load_scene_map(session.folder), frames, config.match)
        seen = together(seen, found)
    return (*seen, names)


def _sees_joints(config: EgomotionConfig) -> bool:
    """Whether what room cameras saw of the feet is used, for the clock or for frames that see nothing."""
    return config.clock.refine or config.bridge.joints


def _joint_rays(session: Session, view: View, config: EgomotionConfig) -> JointRays:
    """What the room cameras saw of the foot that a view rides on."""
    files = joint_files(session) if _sees_joints(config) else {}
    side = view.role.removesuffix("_foot")
    return joint_rays(session, load_rig(session.folder), files, side, config.clock.min_score, config.clock.sigma_px)


def _clock_entry(found: FootClock, prior: Clock) -> dict[str, Any]:
    """A clock as in `01_sync/clocks.json`, and what refined it."""
    return {
        "offset_s": found.clock.offset_s,
        "rate": found.clock.rate,
        "offset_sigma_s": found.clock.offset_sigma_s,
        "rate_sigma": found.clock.rate_sigma,
        "measured_at_s": found.clock.measured_at_s,
        "residual_ms": 1e3 * found.shift_s,
        "methods": ["sync", "feet"] if found.refined else ["sync"],
        "shift_sigma_ms": 1e3 * found.shift_sigma_s,
        "sync_sigma_ms": 1e3 * prior.offset_sigma_s,
        "disagreement": found.disagreement,
        "joints_in_cam_m": found.lever_m,
    }


def _egomotion(t_s: np.ndarray, track: Track) -> Egomotion:
    """The smoothed way, NaN where it is neither measured nor filled."""
    way = track.way
    nan = np.where(way.valid, 1.0, np.nan)
    pose = SE3(way.world_from_cam.R * nan[:, None, None], way.world_from_cam.t * nan[:, None])
    covariance = np.where(way.valid[:, None, None], way.covariance, np.nan)
    return Egomotion(t_s, pose, covariance, way.valid, way.valid & ~way.used, track.num_points)


def _finish(config: EgomotionConfig, folder: Path, facts: Mapping[str, Mapping[str, Any]]) -> Summary:
    health = []
    for view_id, fact in facts.items():
        health += view_health(view_id, fact, config.gates, config.targets.max_sigmas)
        disagreement = fact["clock"]["disagreement"]
        if disagreement is not None and np.isfinite(disagreement):
            shift = f"{fact['clock']['residual_ms']:.1f} ms"
            action = f"its motion says that its clock is off by {shift}: check its time codes, and which foot it is on"
            limit = config.clock.max_disagreement_sigmas
            health.append(Health("clock_disagreement", disagreement, limit, "max", action, view_id))
    write_json(folder / "clocks.json", {"clocks": {view_id: fact["clock"] for view_id, fact in facts.items()}})
    ways = [load_way(folder / f"{view_id}.npz") for view_id in facts]
    used = [way.valid & ~way.filled for way in ways]
    distance, at_s = feet_distance([way.t_s for way in ways], [way.world_from_cam for way in ways], used)
    if np.isfinite(distance):
        action = f"look at {at_s:.2f} s; check that both views are of one person, and the marker map"
        limit = config.gates.max_feet_distance_m
        health.append(Health("feet_distance_m", distance, limit, "max", action, " and ".join(facts)))
    return Summary({"views": dict(facts)}, health)
