"""Stage `04_markers`: where all targets that do not move are, those included that only hand-held photographs show.

What the room videos located (`04_rig`) enters with its joint uncertainty, photographs with their points
(`calibration.placing`); but not a target of which too few room cameras tell one planar pose from the other. Under an
imported rig, which located nothing, the room cameras' sightings take part themselves.
Writes `markers.json` and `marker_covariance.npz` (as `04_rig` does), `photographs.json` and a plan. A target that is
expected and not in the map is named with the reason.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from calibration import rig
from calibration.gates import worst_of
from calibration.lens import load_lens_covariances, load_lenses
from calibration.photographs import Located, Stills, ambiguous_targets
from calibration.pictures import draw_rig
from calibration.placing import MapConfig, MarkerMap, Refusal, place_targets
from capture.exif import Exposure, read_exposure
from capture.markers import load_markers
from capture.session import Session, View
from capture.stills import list_stills
from capture.targets import Target, load_targets
from core.arrays import Float
from core.errors import InputError
from core.files import read_json, read_npz, write_json, write_npz
from core.stage import Health, Manifest, Summary, run_stage
from core.transforms import SE3

STAGE = "04_markers"
_OTHER_ZOOM = 0.01  # difference of focal lengths that EXIF tells apart
_ZOOM = "take photographs and lens pictures with one camera, one zoom and one picture size"


@dataclass(frozen=True)
class MarkersConfig:
    """Settings of the marker map.

    Attributes:
        limits: what photographs and targets must keep to be part of it.
        min_fitting: share of the photographs of two targets or more that must fit; with fewer, the map is refused.
        max_below_floor_m: how far under the floor a target may seem to be.
        max_height_m: height above which no target hangs.
        max_world_off_m: distance between where an imported rig sees a `world` target and where it is declared.
    """

    limits: MapConfig = dataclasses.field(default_factory=MapConfig)
    min_fitting: float = 0.5
    max_below_floor_m: float = 0.05
    max_height_m: float = 10.0
    max_world_off_m: float = 0.1


def run(session_dir: Path, config: MarkersConfig | None = None, *, workers: int = 1, redo: bool = False) -> Manifest:
    """Places all targets of a session that do not move.

    Raises:
        InputError: if a stage before has not been run, or no target is mounted in the room.
        GateError: if the map is not believable; the result is kept aside to look at.
    """
    config = config or MarkersConfig()
    session = Session.load(session_dir)
    if not still_targets(session):
        raise InputError(
            session.id, "no target is mounted in the room", "declare boards or markers as `static` in targets.json"
        )
    return run_stage(
        "calibrate markers",
        1,
        inputs=_inputs(session),
        config=config,
        out=session.stage(STAGE),
        items=["map"],
        process=partial(_process, session_dir, config),
        finish=partial(_finish, config),
        workers=workers,
        redo=redo,
    )


def still_targets(session: Session) -> dict[str, Target]:
    """Targets that do not move."""
    if session.targets is None:
        return {}
    targets = load_targets(session.path(session.targets))
    return {name: target for name, target in targets.items() if target.mounting in ("world", "static")}


def map_inputs(session_dir: Path) -> dict[str, Path]:
    """The files behind the marker map, to be declared as inputs of a stage that uses it."""
    inputs, joint = {"markers": _folder(session_dir) / "markers.json"}, _folder(session_dir) / "marker_covariance.npz"
    return inputs | ({"joint covariance of markers": joint} if joint.is_file() else {})


def load_marker_map(session_dir: Path) -> dict[str, SE3]:
    """`world_from_target` of all placed targets; of those that room videos located, where this stage was not run.

    Raises:
        InputError: if the rig stage has not been run either.
    """
    poses = read_json(_folder(session_dir) / "markers.json")["world_from_target"]
    return {name: SE3.from_rotvec(np.array(p["rotvec"]), np.array(p["t_m"])) for name, p in poses.items()}


def load_marker_covariance(session_dir: Path) -> dict[str, Float[np.ndarray, "6 6"]]:
    """Covariance of each placed target's `world_from_target`, (rotation, translation) of `SE3.retract`."""
    data = read_json(_folder(session_dir) / "markers.json")
    return _covariances(data)


def load_marker_sigma(session_dir: Path) -> dict[str, float]:
    """Standard deviation of each placed target's place, the worst axis, metres."""
    sigma = read_json(_folder(session_dir) / "markers.json")["sigma_m"]
    return {name: float(value) for name, value in sigma.items()}


def _folder(session_dir: Path) -> Path:
    """The stage's folder, or the rig's where it was not run."""
    made = session_dir / STAGE
    return made if (made / "markers.json").is_file() else session_dir / rig.STAGE


def _covariances(data: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {name: np.array(value, float) for name, value in data["covariance"].items()}


def _inputs(session: Session) -> dict[str, Path]:
    folder = session.stage(rig.STAGE)
    inputs = {
        "session": session.folder / "session.json",
        "targets": session.path(str(session.targets)),
        "lenses": session.stage("03_lenses") / "lenses.json",
        "rig": folder / "rig.json",
        "located targets": folder / "markers.json",
    }
    if (folder / "marker_covariance.npz").is_file():
        inputs["covariance of located targets"] = folder / "marker_covariance.npz"
    for view in session.of_role("handheld"):
        if view.images:
            inputs[f"photographs of {view.id}"] = session.path(view.images)
        if view.lens_images and session.path(view.lens_images).is_dir():
            inputs[f"lens pictures of {view.id}"] = session.path(view.lens_images)
    for view in session.of_role("room", "handheld"):
        points = session.stage("02_keypoints") / f"{view.id}.markers.npz"
        if points.is_file():
            inputs[f"points of {view.id}"] = points
    return inputs


def load_placed(session_dir: Path) -> Located:
    """All placed targets with their joint covariance; of those that room videos located, without this stage."""
    return _load_located(_folder(session_dir))


def _load_located(folder: Path) -> Located:
    """Targets of a stage, with their joint covariance; with blocks alone, errors in common are not known."""
    data = read_json(folder / "markers.json")
    poses = {
        name: SE3.from_rotvec(np.array(p["rotvec"]), np.array(p["t_m"]))
        for name, p in data["world_from_target"].items()
    }
    if (folder / "marker_covariance.npz").is_file():
        arrays = read_npz(folder / "marker_covariance.npz")
        order = [str(name) for name in arrays["names"]]
        return Located({name: poses[name] for name in order}, arrays["covariance"])
    covariance, blocks = np.zeros((6 * len(poses), 6 * len(poses))), _covariances(data)
    for k, name in enumerate(poses):
        covariance[6 * k : 6 * k + 6, 6 * k : 6 * k + 6] = blocks[name]
    return Located(poses, covariance)


def _process(session_dir: Path, config: MarkersConfig, item: str, folder: Path) -> Mapping[str, Any]:
    session = Session.load(session_dir)
    targets, located = still_targets(session), _load_located(session_dir / rig.STAGE)
    lenses, unsure = load_lenses(session_dir), load_lens_covariances(session_dir)
    views = [view for view in session.of_role("handheld") if _points_of(session, view).is_file()]
    odd: dict[str, Refusal] = {}
    stills = []
    for view in views:
        if view.id not in lenses:
            raise InputError(view.id, "it has no lens", "give it lens_images and run `motifs calibrate lens`")
        points, names = load_markers(_points_of(session, view)), _photo_names(session, view, len(views) > 1)
        other = _other_zoom(session, view)
        odd |= {names[frame]: why for frame, why in other.items()}
        points = points.where(~np.isin(points.frame_idx, list(other)))
        stills.append(Stills(lenses[view.id], points, names, lens_covariance=unsure.get(view.id)))
    room, doubtful = _room_sightings(session), list[str]()
    if located.world_from_target:
        exact = [name for name, pose in located.world_from_target.items() if targets[name].mounting == "world"]
        doubtful = [name for name in ambiguous_targets(targets, room) if name not in exact]
        made = place_targets(targets, located.without(doubtful), stills, config.limits)
    else:
        made = place_targets(targets, located, room + stills, config.limits)
    unplaced = {name: _in_videos(why) if name in doubtful else why for name, why in made.unplaced.items()}
    made = dataclasses.replace(made, set_aside={**made.set_aside, **odd}, unplaced=unplaced)
    write_map(folder, made)
    sizes = {name: target.size_m for name, target in targets.items() if target.kind != "rig"}
    draw_rig(
        folder / "plan.png",
        rig.load_rig(session_dir),
        made.world_from_target,
        sizes,
        rig.load_rig_covariance(session_dir),
        made.blocks(),
    )
    return _facts(targets, located, made)


def _in_videos(why: Refusal) -> Refusal:
    return Refusal(f"two poses explain what the room videos show of it, and {why.reason}", why.action, why.misfit)


def _points_of(session: Session, view: View) -> Path:
    return session.stage("02_keypoints") / f"{view.id}.markers.npz"


def _photo_names(session: Session, view: View, several: bool) -> tuple[str, ...]:
    """What a user calls the photographs: their files."""
    found = load_markers(_points_of(session, view)).frame_idx
    numbers = [f"{view.id} {k}" for k in range(int(found.max(initial=-1)) + 1)]
    if view.images is None:
        return tuple(numbers)
    files = [path.name for path in list_stills(session.path(view.images))]
    return tuple(f"{view.id}/{name}" if several else name for name in files)


def _other_zoom(session: Session, view: View) -> dict[int, Refusal]:
    """Photographs whose EXIF says another focal length or camera than the lens pictures, or than most photographs."""
    if view.images is None:
        return {}
    taken = [read_exposure(path) for path in list_stills(session.path(view.images))]
    folder = None if view.lens_images is None else session.path(view.lens_images)
    reference = [read_exposure(path) for path in list_stills(folder)] if folder and folder.is_dir() else taken
    said = [e for e in reference if e.focal_mm is not None]
    if not said:
        return {}
    usual = sorted(said, key=lambda e: (e.focal_mm or 0.0) * e.digital_zoom)[len(said) // 2]
    odd = {frame: _how_other(exposure, usual) for frame, exposure in enumerate(taken)}
    return {frame: Refusal(why, _ZOOM, misfit=True) for frame, why in odd.items() if why}


def _how_other(taken: Exposure, usual: Exposure) -> str:
    if taken.model and usual.model and taken.model != usual.model:
        return f"it was taken with a {taken.model}, the lens was calibrated for a {usual.model}"
    zoom = taken.zoom_over(usual)
    if zoom is None or abs(zoom - 1) <= _OTHER_ZOOM:
        return ""
    return f"it was taken with {zoom:.2f} times the focal length of the lens pictures"


def _room_sightings(session: Session) -> list[Stills]:
    """What room cameras of a known rig saw of the targets, for a rig that was not solved from them."""
    covariance = rig.load_rig_covariance(session.folder)
    found = []
    for camera in rig.load_rig(session.folder):
        path = session.stage("02_keypoints") / f"{camera.id}.markers.npz"
        if path.is_file():
            pose, points = camera.world_from_cam, load_markers(path)
            found.append(Stills(camera.lens, points, (camera.id,), pose, covariance[camera.id]))
    return found


def write_map(folder: Path, made: MarkerMap) -> None:
    """Writes the map and the photographs."""
    sigma = made.sigma_m()
    write_json(
        folder / "markers.json",
        {
            "world_from_target": _poses(made.world_from_target),
            "sigma_m": sigma,
            "covariance": {name: block.tolist() for name, block in made.blocks().items()},
        },
    )
    arrays = {"names": np.array(list(sigma), dtype=np.str_), "covariance": made.covariance}
    write_npz(folder / "marker_covariance.npz", arrays)
    aside = {name: {"reason": why.reason, "action": why.action} for name, why in made.set_aside.items()}
    photos = {
        "world_from_photo": _poses(made.world_from_photo),
        "reprojection_px": dict(made.photo_px),
        "set_aside": aside,
    }
    write_json(folder / "photographs.json", photos)


def _poses(poses: Mapping[str, SE3]) -> dict[str, Any]:
    return {name: {"rotvec": p.rotvec.tolist(), "t_m": p.t.tolist()} for name, p in poses.items()}


def _facts(targets: Mapping[str, Target], located: Located, made: MarkerMap) -> dict[str, Any]:
    """Figures of the map."""
    known = located.world_from_target
    declared = {name: targets[name].world_from_target for name in made.world_from_target if not known}
    misfits = sum(why.misfit for why in made.set_aside.values())
    usable = len(made.world_from_photo) + misfits
    height = {name: _middle(targets[name], pose)[2] for name, pose in made.world_from_target.items()}
    return {
        "num_targets": len(made.world_from_target),
        "num_photos": len(made.world_from_photo),
        "source": {name: _source(name in known, made.num_photos.get(name, 0)) for name in made.world_from_target},
        "target_sigma_mm": {name: 1000 * sigma for name, sigma in made.sigma_m().items()},
        "photo_px": dict(made.photo_px),
        "target_px": dict(made.target_px),
        "fitting": len(made.world_from_photo) / usable if usable else 1.0,
        "behind": dict(made.behind),
        "height_m": {name: float(value) for name, value in height.items()} if _has_floor(located) else {},
        "world_off_m": {
            name: float(np.linalg.norm(pose.t - made.world_from_target[name].t))
            for name, pose in declared.items()
            if pose is not None and targets[name].mounting == "world"
        },
        "notes": _notes(made),
    }


def _middle(target: Target, pose: SE3) -> np.ndarray:
    return np.asarray(pose.apply(target.points_m.mean(axis=0)))


def _source(located: bool, num_photos: int) -> str:
    if located:
        return f"room videos and {num_photos} photographs" if num_photos else "room videos"
    return f"{num_photos} photographs" if num_photos else "room cameras of the given rig"


def _has_floor(located: Located) -> bool:
    """Whether the world has a floor: a target defines it, or it was imported; not if it is a camera's."""
    sigma = np.diag(located.covariance).reshape(-1, 6).max(axis=-1)
    return not len(sigma) or bool((sigma == 0).any())


def _notes(made: MarkerMap) -> list[str]:
    """What a user should know though the map holds: what is missing, and why."""
    lines = [f"{name} is not in the map: {why.reason}; {why.action}" for name, why in made.unplaced.items()]
    return lines + [f"{name} takes no part: {why.reason}; {why.action}" for name, why in made.set_aside.items()]


def _finish(config: MarkersConfig, folder: Path, facts: Mapping[str, Mapping[str, Any]]) -> Summary:
    return Summary(facts["map"], map_health(config, facts["map"]))


def map_health(config: MarkersConfig, fact: Mapping[str, Any]) -> list[Health]:
    """The checks of a map: for each, the photograph or target that comes out worst."""
    first = next(iter(fact["notes"]), "photograph targets together, two or more at a time")
    health = [Health("photographs_that_fit", fact["fitting"], config.min_fitting, "min", f"{_ZOOM} ({first})")]
    fits = "take it again, sharper; check the lens of the photographs"
    size = "check its size in targets.json, and that it did not move"
    mirrored = "it is read mirrored: check the print, its dictionary and `legacy`"
    floor = "check the pose of the world target: it may be entered upside down"
    other = "declare the target as `static`, or import a rig whose world it defines"
    millimetres = 1000 * config.limits.max_sigma_m
    limits: list[tuple[str, str, float, Literal["max", "min"]]] = [
        ("photo_px", fits, config.limits.max_photo_px, "max"),
        ("target_px", size, config.limits.max_photo_px, "max"),
        ("target_sigma_mm", "photograph it from nearer", millimetres, "max"),
        ("behind", mirrored, 0.5, "max"),
        ("height_m", floor, -config.max_below_floor_m, "min"),
        ("height_m", floor, config.max_height_m, "max"),
        ("world_off_m", other, config.max_world_off_m, "max"),
    ]
    return health + [worst_of(key, fact[key], limit, kind, action) for key, action, limit, kind in limits if fact[key]]
