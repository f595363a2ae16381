"""`motifs triangulate`: keypoints of the room views -> `06_points3d`, 3D points and paths with covariance and validity.

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
from calibration.rig import load_rig
from capture.session import Session
from core.errors import InputError
from core.stage import Health, Manifest, Summary, run_stage
from fitting.observations import Observations, load_observations
from fitting.points import Points3d, TriangulationConfig, load_points3d, reprojection_px, triangulate_points
from fitting.shape import bone_lengths
from fitting.trajectories import TrajectoryConfig, smooth_paths

__all__ = ["Points3d", "TriangulateConfig", "TriangulationConfig", "load_points3d", "run", "triangulate_points"]

STAGE_VERSION = 2
OUT = "06_points3d"
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
        points: how a single point is triangulated.
        paths: how points are joined in time.
        max_reprojection_px: largest median reprojection error of a view.
        min_valid: smallest share of joints that must be found.
        min_inliers: smallest share of a view's keypoints that must agree with the other views.
        max_asymmetry: largest difference between a left and a right bone, relative.
    """

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
        GateError: if the points do not fit the pictures or are no human's.
        StageError: if it was run before with other settings.
    """
    config = config or TriangulateConfig()
    session = Session.load(session_dir)

    def process(item: str, folder: Path) -> Mapping[str, Any]:
        rig = load_rig(session_dir)
        seen = load_observations(session, rig, config.points)
        rig = rig.subset(seen.view_ids)
        points = triangulate_points(rig, seen.xy_px, seen.score, seen.skeleton, config.points, seen.timeline.t_s)
        points.save(folder / "points3d.npz")
        used = seen.swapped(points.swapped)
        used.save(folder / "observations.npz")
        paths = smooth_paths(rig, used.xy_px, used.score, points, config.points.min_score, config.paths)
        paths.save(folder / "paths.npz")
        error_px = np.where(
            used.score >= config.points.min_score, reprojection_px(rig, points.xyz_m, used.xy_px), np.nan
        )
        facts = _facts(points, used, error_px, config.points.outlier_px)
        return {**facts, "paths": {"valid": float(paths.valid.mean()), "staying_noise": paths.staying}}

    return run_stage(
        "triangulate", STAGE_VERSION, inputs=stage_inputs(session), config=config, out=session.stage(OUT),
        items=["subject"], process=process, workers=workers, redo=redo,
        finish=lambda folder, facts: Summary(facts["subject"], health_of(facts["subject"], config)),
    )  # fmt: skip


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


def _facts(points: Points3d, used: Observations, error_px: np.ndarray, outlier_px: float) -> dict[str, Any]:
    views = {}
    for v, view_id in enumerate(used.view_ids):
        known = error_px[v][np.isfinite(error_px[v])]
        inlier = known < outlier_px
        views[view_id] = {
            "reprojection_px": float(np.median(known)) if len(known) else None,
            "inliers": float(inlier.mean()) if len(known) else 0.0,
            "swapped": int(points.swapped[v].sum()),
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
