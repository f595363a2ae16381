"""`motifs triangulate`: keypoints of the room views -> `06_points3d`, 3D points and paths with covariance and validity.

Everybody whom the views show is told apart and followed first (`fitting.people`); the subject alone is triangulated.
`points3d.npz` holds every frame by itself, `paths.npz` the most probable path of every joint over all frames.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from calibration.clocks import clock_inputs
from calibration.egomotion import STAGE as FEET
from calibration.egomotion import load_egomotion
from calibration.rig import load_rig
from capture.session import Session
from core.errors import InputError
from core.files import to_jsonable
from core.parallel import processes
from core.stage import Health, Manifest, Summary, run_stage
from fitting.observations import Observations, Recording, load_recording
from fitting.people import PeopleConfig, find_people
from fitting.people.report import fits, people_facts, picture_heights, save_people, unseen_notes
from fitting.people.subject import AUTO, FootWay, SubjectConfig, choose_subject, foot_notes, named_ids
from fitting.points import Points3d, TriangulationConfig, load_points3d, reprojection_px, triangulate_points
from fitting.shape import bone_lengths
from fitting.trajectories import TrajectoryConfig, smooth_paths

__all__ = ["Points3d", "TriangulateConfig", "TriangulationConfig", "load_points3d", "run", "triangulate_points"]

STAGE_VERSION = 3
OUT = "06_points3d"
_LONG = 6000  # frames of which it pays to follow them in several processes
# lengths in metres between detector joints of adults and children from about 1.2 m (ANSUR II, 1st to 99th percentile,
# widened by a fifth for detectors' joint definitions)
_PLAUSIBLE_M = {
    ("hip", "knee"): (0.27, 0.60), ("knee", "ankle"): (0.27, 0.56),
    ("shoulder", "elbow"): (0.18, 0.43), ("elbow", "wrist"): (0.15, 0.38),
}  # fmt: skip


@dataclass(frozen=True)
class TriangulateConfig:
    """Settings of `motifs triangulate`.

    Attributes:
        subject: who is annotated: "auto", the one who wears the foot cameras or, without these, is seen most;
            "largest" in the pictures; "longest" seen; or the number of a track in `people.json`, or of several, as in
            "0+2", where one person was followed in pieces.
        people: how people are told apart.
        choice: when the subject is certain.
        points: how a single point is triangulated.
        paths: how points are joined in time.
        max_reprojection_px: largest median reprojection error of a view.
        min_valid: smallest share of joints that must be found.
        min_inliers: smallest share of a view's keypoints that must agree with the other views.
        max_asymmetry: largest difference between a left and a right bone, relative.
    """

    subject: str = AUTO
    people: PeopleConfig = dataclasses.field(default_factory=PeopleConfig)
    choice: SubjectConfig = dataclasses.field(default_factory=SubjectConfig)
    points: TriangulationConfig = dataclasses.field(default_factory=TriangulationConfig)
    paths: TrajectoryConfig = dataclasses.field(default_factory=TrajectoryConfig)
    max_reprojection_px: float = 15.0
    min_valid: float = 0.3
    min_inliers: float = 0.3
    max_asymmetry: float = 0.15


def run(
    session_dir: Path, config: TriangulateConfig | None = None, *, workers: int = 1, redo: bool = False
) -> Manifest:
    """Triangulates the subject of a session.

    Raises:
        InputError: if a stage before has not been run, or the subject is named wrongly.
        GateError: if the subject is not certain, or the points do not fit the pictures or are no human's.
        StageError: if it was run before with other settings.
    """
    config = config or TriangulateConfig()
    session = Session.load(session_dir)
    named_ids(config.subject)
    ways = {f"way of {view_id}": path for view_id, path in _foot_files(session, config).items()}

    def process(item: str, folder: Path) -> Mapping[str, Any]:
        recording = load_recording(session, load_rig(session_dir))
        return _triangulate(session, recording, config, folder, workers)

    def finish(folder: Path, facts: Mapping[str, Mapping[str, Any]]) -> Summary:
        found = dict(facts["subject"])
        certain = Health(**found.pop("certain"))
        return Summary(found, [certain, *(health_of(found, config) if "valid" in found else ())])

    return run_stage(
        "triangulate", STAGE_VERSION, inputs={**stage_inputs(session), **ways}, config=config, out=session.stage(OUT),
        items=["subject"], process=process, finish=finish, workers=workers, redo=redo,
    )  # fmt: skip


def _triangulate(
    session: Session, recording: Recording, config: TriangulateConfig, folder: Path, workers: int
) -> dict[str, Any]:
    """Finds everybody, and triangulates the subject if it is certain who that is."""
    rig = load_rig(session.folder).subset(recording.view_ids)
    span_s = (float(recording.timeline.t_s[0]), float(recording.timeline.t_s[-1]))
    people = find_people(rig, recording.found, recording.t_s, config.people, span_s)
    heights = picture_heights(people, rig, recording.found)
    feet = {view_id: _foot_way(session, view_id) for view_id in _foot_files(session, config)}
    subject = choose_subject(people, config.subject, feet, heights, config.choice)
    facts = people_facts(people, subject, heights, config.people.follow.step_s)
    save_people(folder, people, rig, subject, facts)
    said = {"people": facts, "certain": to_jsonable(subject.health), "notes": list(recording.notes)}
    if config.subject == AUTO and not feet and any(view.is_foot for view in session.views):
        said["notes"].append("its foot cameras are not tracked, and so say nothing about who the subject is")
    if not subject.ids:
        return said
    seen = recording.of_person(people.who(subject.ids))
    points = triangulate_points(rig, seen.xy_px, seen.score, seen.skeleton, config.points, seen.timeline.t_s)
    points.save(folder / "points3d.npz")
    used = seen.swapped(points.swapped)
    used.save(folder / "observations.npz")
    with processes(workers if len(points.t_s) > _LONG else 1) as pool:
        paths = smooth_paths(rig, used.xy_px, used.score, points, config.points.min_score, config.paths, pool)
    paths.save(folder / "paths.npz")
    said["paths"] = {"valid": float(paths.valid.mean()), "staying_noise": paths.staying}
    error_px = np.where(used.score >= config.points.min_score, reprojection_px(rig, points.xyz_m, used.xy_px), np.nan)
    matched = fits(people, rig, subject.ids, config.people)
    said["notes"] += unseen_notes(people, subject.ids)
    said["notes"] += foot_notes(people, subject.ids, feet, config.choice.max_foot_m)
    return {**_facts(points, used, error_px, config.points.outlier_px, matched), **said}


def _foot_files(session: Session, config: TriangulateConfig) -> dict[str, Path]:
    """Ways of the foot cameras that were tracked, by view, where they decide who the subject is."""
    paths = {view.id: session.stage(FEET) / f"{view.id}.npz" for view in session.views if view.is_foot}
    return {view_id: path for view_id, path in paths.items() if config.subject == AUTO and path.is_file()}


def _foot_way(session: Session, view_id: str) -> FootWay:
    ego = load_egomotion(session.folder, view_id)
    centre = np.where(ego.valid[:, None], ego.world_from_cam.t, np.nan)
    return FootWay(session[view_id].role.removesuffix("_foot"), ego.t_s, centre)


def stage_inputs(session: Session) -> dict[str, Path]:
    """What triangulation and fit read: the description, clocks, keypoints of room views, the rig.

    Raises:
        InputError: if a stage before has not been run.
    """
    for stage, command in (("01_sync", "sync"), ("04_rig", "calibrate rig")):
        if not session.stage(stage).exists():
            raise InputError(session.id, f"it has no {stage}", f"run `motifs {command}` first")
    paths = {view.id: session.stage("02_keypoints") / f"{view.id}.npz" for view in session.of_role("room")}
    keypoints = {view_id: path for view_id, path in paths.items() if path.is_file()}
    return {
        "session": session.folder / "session.json",
        "rig": session.stage("04_rig") / "rig.json",
        **clock_inputs(session.folder, keypoints),
        **{f"keypoints {view_id}": path for view_id, path in keypoints.items()},
    }


def _facts(
    points: Points3d,
    used: Observations,
    error_px: np.ndarray,
    outlier_px: float,
    matched: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    views = {}
    for v, view_id in enumerate(used.view_ids):
        known = error_px[v][np.isfinite(error_px[v])]
        # keypoints of frames in which nobody fits the subject are outliers too, all of them
        fit = matched[view_id]["fit"]
        views[view_id] = {
            "reprojection_px": float(np.median(known)) if len(known) else None,
            "inliers": None if fit is None else fit * float((known < outlier_px).mean()) if len(known) else 0.0,
            "swapped": int(points.swapped[v].sum()),
            **matched[view_id],
        }
    lengths = bone_lengths(points.xyz_m, points.skeleton.joints)
    return {
        "num_frames": len(points.t_s),
        "valid": float(points.valid.mean()),
        "noise_px": points.noise_px,
        "views": views,
        "bones_m": {f"{a}-{b}": length for (a, b), length in lengths.items()},
    }


def health_of(facts: Mapping[str, Any], config: TriangulateConfig) -> list[Health]:
    """The figures that decide whether points may be used."""
    health = [
        Health("valid_share", facts["valid"], config.min_valid, "min", "check that the views see the subject together")
    ]
    for view_id, figures in facts["views"].items():
        error = figures["reprojection_px"]
        if figures["inliers"] is None:  # it never shows the subject, and nobody else who could be
            continue
        health += [
            Health("inlier_share", figures["inliers"], config.min_inliers, "min",
                   "its keypoints disagree with the other views: check its clock and its place, or leave it out",
                   view_id),
            Health("reprojection_px", np.inf if error is None else error, config.max_reprojection_px, "max",
                   "refine the rig, or check the lens of this view", view_id),
        ]  # fmt: skip
    bones = facts["bones_m"]
    for (start, end), (low, high) in _PLAUSIBLE_M.items():
        left, right = (bones.get(f"{side}_{start}-{side}_{end}") for side in ("left", "right"))
        if left is None or right is None:
            continue
        name = f"{start}_{end}"
        action = "check the rig's scale (the board's square size), and that the joints are of the declared skeleton"
        health += [
            Health(f"{name}_m", (left + right) / 2, low, "min", action),
            Health(f"{name}_m", (left + right) / 2, high, "max", action),
            Health(f"{name}_asymmetry", abs(left - right) / max(left, right), config.max_asymmetry, "max",
                   "the rig is bent or left and right are mixed up: check calibration and keypoints"),
        ]  # fmt: skip
    return health


def subject_points(session: Session) -> Points3d:
    """The points that `motifs triangulate` left.

    Raises:
        InputError: if it has not been run.
    """
    path = session.stage(OUT) / "points3d.npz"
    if not path.is_file():
        raise InputError(session.id, "its keypoints are not triangulated", "run `motifs triangulate` first")
    return load_points3d(path)
