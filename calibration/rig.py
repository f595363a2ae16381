"""Stage `04_rig`: poses of the room cameras and places of the targets in one world, z up, floor at z = 0.

Two roads: from targets (`calibration.rig_targets`), or imported from a file and, if there are keypoints, refined on the
person (`calibration.rig_keypoints`). Writes `rig.json`, `markers.json` and a plan. A result that cannot be true, with
cameras under the floor, prints seen from behind, or an absurd scale, is refused however small its residuals are.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from calibration.formats import Up, read_calibration, turned_up
from calibration.lens import imported_lenses, load_lenses
from calibration.pictures import draw_rig
from calibration.rig_keypoints import KeypointRefinement, refine_on_keypoints
from calibration.rig_targets import Sighting, TargetRig, solve_target_rig
from capture.keypoints import best_person, load_keypoints
from capture.markers import load_markers
from capture.session import Session
from capture.sync import load_times
from capture.targets import Target, load_targets
from core.cameras import Lens, Rig
from core.clock import Timeline, parse_rate, resample
from core.errors import InputError
from core.files import read_json, write_json
from core.stage import Health, Manifest, Summary, run_stage
from core.transforms import SE3

STAGE = "04_rig"
_FLOOR = "check the pose of the world target: a print read mirrored or entered upside down puts cameras underground"
_UP = "the imported world may have another axis up or another unit: see --world-up (`motifs run`: --rig.world-up)"
_MAX_FRAME_GAP = 1.5


@dataclass(frozen=True)
class RigConfig:
    """Settings of the room rig.

    Attributes:
        method: `targets`; `import` takes the reference as it is; `keypoints` refines it on the person; `auto` takes
            targets if the session has any in the room, else the reference, refined where there are keypoints.
        reference: calibration file to import.
        world: whether the world target defines the world, or, without gravity and floor, the best connected camera.
        world_up: axis of the imported world that points up.
        lenses: whether an imported rig keeps its own lenses or takes those of stage 03; `auto` takes the latter if the
            rig is refined, which lets its poses follow the other principal points, and else keeps the file's.
        max_instants: poses of each carried target at most.
        refinement: settings of the refinement on keypoints.
        max_target_px: median reprojection error of a camera above which a rig from targets is refused.
        max_keypoint_px: the same for a rig refined on keypoints.
        max_height_m: height above which no room camera hangs.
        min_baseline_m: distance of the two cameras furthest apart below which the scale is implausible.
        max_baseline_m: the same, above which it is.
        max_sigma_m: standard deviation of a camera's position above which the rig is refused as weak.
    """

    method: Literal["auto", "targets", "import", "keypoints"] = "auto"
    reference: Path | None = None
    world: Literal["target", "first_camera"] = "target"
    world_up: Up = "z"
    lenses: Literal["auto", "calibrated", "imported"] = "auto"
    max_instants: int = 80
    refinement: KeypointRefinement = dataclasses.field(default_factory=KeypointRefinement)
    max_target_px: float = 1.5
    max_keypoint_px: float = 15.0
    max_height_m: float = 10.0
    min_baseline_m: float = 0.05
    max_baseline_m: float = 50.0
    max_sigma_m: float = 0.1


def run(session_dir: Path, config: RigConfig | None = None, *, workers: int = 1, redo: bool = False) -> Manifest:
    """Finds the room rig of a session.

    Raises:
        InputError: if there is neither a target in the room nor a reference.
        StageError: if cameras share no view, naming the groups.
        GateError: if the rig is not believable; the result is kept aside to look at.
    """
    config = config or RigConfig()
    session = Session.load(session_dir)
    if not session.of_role("room"):
        raise InputError(session.id, "it has no room camera", "give at least two views the role room")
    method = _method(session, config)
    lenses = ("imported" if method == "import" else "calibrated") if config.lenses == "auto" else config.lenses
    config = dataclasses.replace(config, method=method, lenses=lenses)
    return run_stage(
        "calibrate rig",
        1,
        inputs=_inputs(session, config),
        config=config,
        out=session.stage(STAGE),
        items=["rig"],
        process=partial(_process, session_dir, config),
        finish=partial(_finish, config),
        workers=workers,
        redo=redo,
    )


def load_rig(session_dir: Path) -> Rig:
    """The room cameras.

    Raises:
        InputError: if the stage has not been run.
    """
    return Rig.from_json(read_json(session_dir / STAGE / "rig.json"))


def load_rig_covariance(session_dir: Path) -> dict[str, np.ndarray]:
    """Covariance (6, 6) of each camera's `world_from_cam`, (rotation, translation)."""
    data = read_json(session_dir / STAGE / "rig.json")
    return {view_id: np.array(value, float) for view_id, value in data["covariance"].items()}


def load_marker_map(session_dir: Path) -> dict[str, SE3]:
    """`world_from_target` of the located targets that do not move.

    Raises:
        InputError: if the stage has not been run.
    """
    data = read_json(session_dir / STAGE / "markers.json")
    poses = data["world_from_target"]
    return {name: SE3.from_rotvec(np.array(p["rotvec"]), np.array(p["t_m"])) for name, p in poses.items()}


def load_marker_sigma(session_dir: Path) -> dict[str, float]:
    """Standard deviation of each located target's place, metres."""
    data = read_json(session_dir / STAGE / "markers.json")
    return {name: float(sigma) for name, sigma in data["sigma_m"].items()}


def _method(session: Session, config: RigConfig) -> Literal["targets", "import", "keypoints"]:
    """What `auto` means for this session; refuses a choice that lacks its data."""
    room = [target for target in _targets(session).values() if target.mounting != "lens"]
    method = config.method
    if method == "auto":
        seen = any((session.stage("02_keypoints") / f"{v.id}.npz").is_file() for v in session.of_role("room"))
        method = "targets" if room else "keypoints" if seen else "import"
    if method == "targets":
        if not room:
            raise InputError(session.id, "no target hangs in the room or is carried", "declare them in targets.json")
        if config.world == "target" and not any(target.mounting == "world" for target in room):
            raise InputError(
                session.id,
                "no target is mounted as `world`, so nothing says where the floor is",
                "lay a board on the floor and declare its pose, or choose --world first_camera",
            )
    elif config.reference is None:
        raise InputError(
            session.id,
            "there are no targets in the room and no calibration file",
            "name a file by `motifs calibrate rig --reference` or `motifs run --rig.reference`",
        )
    return method


def _targets(session: Session) -> dict[str, Target]:
    return load_targets(session.path(session.targets)) if session.targets else {}


def _inputs(session: Session, config: RigConfig) -> dict[str, Path]:
    inputs = {"session": session.folder / "session.json"}
    if config.method == "targets" or config.lenses == "calibrated":
        inputs["lenses"] = session.stage("03_lenses") / "lenses.json"
    if config.method == "targets":
        inputs["targets"] = session.path(str(session.targets))
        for view in session.of_role("room", "handheld"):
            inputs[f"points of {view.id}"] = session.stage("02_keypoints") / f"{view.id}.markers.npz"
    elif config.reference is not None:
        inputs["reference"] = config.reference
    if config.method == "keypoints":
        for view in session.of_role("room"):
            inputs[f"keypoints of {view.id}"] = session.stage("02_keypoints") / f"{view.id}.npz"
    if config.method != "import":
        inputs["clocks"] = session.stage("01_sync") / "clocks.json"
        for view in session.of_role("room"):
            inputs[f"times of {view.id}"] = session.stage("01_sync") / f"{view.id}.times.npz"
    return inputs


def _process(session_dir: Path, config: RigConfig, item: str, folder: Path) -> Mapping[str, Any]:
    session = Session.load(session_dir)
    if config.method == "targets":
        return _from_targets(session, config, folder)
    return _from_reference(session, config, folder)


def _from_targets(session: Session, config: RigConfig, folder: Path) -> Mapping[str, Any]:
    targets = {name: target for name, target in _targets(session).items() if target.mounting != "lens"}
    lenses = load_lenses(session.folder)
    sightings = {}
    for view in session.of_role("room", "handheld"):
        points = load_markers(session.stage("02_keypoints") / f"{view.id}.markers.npz")
        t_s = load_times(session.folder, view.id) if view.role == "room" else None
        sightings[view.id] = Sighting(_lens_of(lenses, view.id), points, t_s)
    if config.world == "first_camera":
        targets = {name: _unheld(target) for name, target in targets.items()}
    solved = solve_target_rig(sightings, targets, max_instants=config.max_instants)
    _write(folder, solved.rig, solved.covariance, solved.world_from_target, solved.target_sigma_m)
    sizes = {name: target.size_m for name, target in targets.items() if target.kind != "rig"}
    draw_rig(folder / "plan.png", solved.rig, solved.world_from_target, sizes)
    return _facts(solved.rig, solved.covariance, solved.reprojection_px) | _target_facts(solved)


def _unheld(target: Target) -> Target:
    """A world target as one whose place is unknown, for a world that is a camera's."""
    return dataclasses.replace(target, mounting="static") if target.mounting == "world" else target


def _target_facts(solved: TargetRig) -> dict[str, Any]:
    return {
        "num_photos": solved.num_photos,
        "num_targets": len(solved.world_from_target),
        "target_sigma_mm": {name: 1000 * sigma for name, sigma in solved.target_sigma_m.items()},
        "unplaced": list(solved.unplaced),
        "outliers": solved.outliers,
        "behind": dict(solved.behind),
    }


def _from_reference(session: Session, config: RigConfig, folder: Path) -> Mapping[str, Any]:
    rig = imported_rig(session, config)
    more: dict[str, Any] = {}
    if config.method == "keypoints":
        xy_px, score = common_keypoints(session, rig)
        refined = refine_on_keypoints(rig, xy_px, score, config.refinement)
        rig = refined.rig
        covariance = dict(zip(rig.ids, refined.covariance, strict=True))
        error = dict(zip(rig.ids, refined.after_px.tolist(), strict=True))
        more = {
            "before_px": dict(zip(rig.ids, refined.before_px.tolist(), strict=True)),
            "moved_deg": dict(zip(rig.ids, refined.moved_deg.tolist(), strict=True)),
            "moved_mm": dict(zip(rig.ids, (1000 * refined.moved_m).tolist(), strict=True)),
            "num_points": refined.num_points,
        }
    else:
        # an import states no uncertainty: what is assumed of it is what the refinement would assume
        sigma = np.repeat([np.radians(config.refinement.rotation_sigma_deg), config.max_sigma_m / 2], 3)
        covariance, error = dict.fromkeys(rig.ids, np.diag(sigma**2)), {}
    _write(folder, rig, covariance, {}, {})
    draw_rig(folder / "plan.png", rig, {}, {})
    return _facts(rig, covariance, error) | more


def imported_rig(session: Session, config: RigConfig) -> Rig:
    """The reference's cameras under the session's names, z up; matched by id, or by order if no id fits.

    Raises:
        InputError: if they do not match, or a lens is missing.
    """
    assert config.reference is not None  # checked by `_method`
    reference = turned_up(read_calibration(config.reference), config.world_up)
    names = [view.id for view in session.of_role("room")]
    if set(names) <= set(reference.ids):
        cameras = list(reference.subset(names))
    elif not set(names) & set(reference.ids) and len(names) == len(reference):
        cameras = list(reference)
    else:
        raise InputError(
            str(config.reference),
            f"its cameras {', '.join(reference.ids)} are not the session's {', '.join(names)}",
            "name the cameras in the file as the views",
        )
    if config.lenses == "calibrated":
        lenses = load_lenses(session.folder)
    else:
        lenses = imported_lenses(session.of_role("room"), cameras, config.reference)
    renamed = zip(names, cameras, strict=True)
    return Rig(tuple(dataclasses.replace(c, id=name, lens=_lens_of(lenses, name)) for name, c in renamed))


def common_keypoints(session: Session, rig: Rig) -> tuple[np.ndarray, np.ndarray]:
    """One person's keypoints of all views at common instants: (views, instants, joints, 2), scores without the last.

    Where a view shows several people, the most prominent one is followed (`capture.keypoints.select_person`).
    """
    times = [load_times(session.folder, view_id) for view_id in rig.ids]
    timeline = Timeline.spanning(max(t[0] for t in times), min(t[-1] for t in times), parse_rate(session.rate))
    tracks, scores = [], []
    for view_id, t_s in zip(rig.ids, times, strict=True):
        found = best_person(load_keypoints(session.stage("02_keypoints") / f"{view_id}.npz"))
        count = min(found.num_frames, len(t_s))
        xy, score = found.xy_px[:, 0].astype(float), found.score[:, 0].astype(float)
        gap = _MAX_FRAME_GAP * float(np.median(np.diff(t_s)))
        tracks.append(resample(xy[:count], t_s[:count], timeline.t_s, max_gap_s=gap))
        scores.append(np.nan_to_num(resample(score[:count], t_s[:count], timeline.t_s, max_gap_s=gap)))
    return np.stack(tracks), np.stack(scores)


def _lens_of(lenses: Mapping[str, Lens], view_id: str) -> Lens:
    if view_id not in lenses:
        raise InputError(view_id, "it has no lens", "give it lens_images and run `motifs calibrate lens`")
    return lenses[view_id]


def _write(
    folder: Path,
    rig: Rig,
    covariance: Mapping[str, np.ndarray],
    world_from_target: Mapping[str, SE3],
    sigma_m: Mapping[str, float],
) -> None:
    write_json(folder / "rig.json", {**rig.to_json(), "covariance": {k: c.tolist() for k, c in covariance.items()}})
    poses = {name: {"rotvec": p.rotvec.tolist(), "t_m": p.t.tolist()} for name, p in world_from_target.items()}
    write_json(folder / "markers.json", {"world_from_target": poses, "sigma_m": dict(sigma_m)})


def _facts(rig: Rig, covariance: Mapping[str, np.ndarray], error_px: Mapping[str, float]) -> dict[str, Any]:
    sigma = {view_id: np.sqrt(np.diag(c)) for view_id, c in covariance.items()}
    distance = np.linalg.norm(rig.centres[:, None] - rig.centres[None], axis=-1)
    return {
        "reprojection_px": dict(error_px),
        "height_m": dict(zip(rig.ids, rig.centres[:, 2].tolist(), strict=True)),
        "position_sigma_mm": {view_id: float(1000 * s[3:].max()) for view_id, s in sigma.items()},
        "rotation_sigma_deg": {view_id: float(np.degrees(s[:3].max())) for view_id, s in sigma.items()},
        "baseline_m": float(distance.max()),
    }


def _finish(config: RigConfig, folder: Path, facts: Mapping[str, Mapping[str, Any]]) -> Summary:
    return Summary(facts["rig"], rig_health(config, facts["rig"]))


def rig_health(config: RigConfig, fact: Mapping[str, Any]) -> list[Health]:
    """The physical checks: for each, the camera or target that comes out worst."""
    health = []
    if behind := fact.get("behind"):
        mirrored = "it is read mirrored: check the print, its dictionary and `legacy`"
        health.append(_worst("seen_from_behind", behind, 0.5, "max", mirrored))
    if not (config.method == "targets" and config.world == "first_camera"):
        world = _FLOOR if config.method == "targets" else _UP
        health.append(_worst("height_m", fact["height_m"], 0.0, "min", world))
        health.append(_worst("height_m", fact["height_m"], config.max_height_m, "max", world))
    limit = config.max_target_px if config.method == "targets" else config.max_keypoint_px
    fits = "check its lens, its clock, and that it did not move"
    if fact["reprojection_px"]:
        health.append(_worst("reprojection_px", fact["reprojection_px"], limit, "max", fits))
    sizes = "check the sizes of the targets or the unit of the imported file"
    if len(fact["height_m"]) > 1:
        health.append(Health("baseline_m", fact["baseline_m"], config.min_baseline_m, "min", sizes))
        health.append(Health("baseline_m", fact["baseline_m"], config.max_baseline_m, "max", sizes))
    if config.method == "import":  # it states no uncertainty: what is assumed of it says nothing
        return health
    weak = "show the carried rig to it from near by, or hang a board that it sees"
    millimetres = 1000 * config.max_sigma_m
    health.append(_worst("position_sigma_mm", fact["position_sigma_mm"], millimetres, "max", weak))
    return health


def _worst(
    name: str, values: Mapping[str, float | None], limit: float, kind: Literal["max", "min"], action: str
) -> Health:
    """The entry of a table that is furthest past its limit, or nearest to it; a missing value is the worst."""
    numbers = {key: float("nan") if value is None else float(value) for key, value in values.items()}
    sign = 1.0 if kind == "max" else -1.0
    item = max(numbers, key=lambda key: np.inf if np.isnan(numbers[key]) else sign * numbers[key])
    return Health(name, numbers[item], limit, kind, action, item)
