"""Stage `04_rig`: poses of the room cameras and places of the targets in one world, z up, floor at z = 0.

Two roads: from targets (`calibration.rig_solution`), or imported from a file and, if there are keypoints, refined on
the person (`calibration.rig_import`). Writes `rig.json`, `markers.json` with `marker_covariance.npz`, `clocks.json`
where moving targets refined the clocks, `rig_geometry.json` for carried rigs of markers, and a plan. A result that
cannot be true is refused however small its residuals are (`calibration.rig_health`, `calibration.gates`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from calibration.formats import Up, read_file
from calibration.lens import load_lens_covariances, load_lenses
from calibration.pictures import draw_rig
from calibration.rig_health import RigLimits, rig_facts, rig_health
from calibration.rig_import import (
    ImportedSigma,
    SeenPerson,
    floor_under,
    lens_of,
    measured_on,
    named_rig,
    refined,
    see_person,
    with_clocks,
)
from calibration.rig_keypoints import KeypointRefinement
from calibration.rig_solution import RigSolution, World, on_floor, solve_from_targets
from calibration.rig_targets import Sighting
from capture.markers import load_markers
from capture.session import Session, View
from capture.sync import load_clocks, load_times
from capture.targets import Target, load_targets
from core.cameras import Rig
from core.clock import Clock
from core.errors import InputError
from core.files import read_json, write_json, write_npz
from core.stage import Manifest, Summary, run_stage

STAGE = "04_rig"


@dataclass(frozen=True)
class RigConfig:
    """Settings of the room rig.

    Attributes:
        method: `targets`; `import` takes the reference as it is; `keypoints` refines it on the person; `auto` takes
            targets if the session has any in the room, else the reference, refined where there are keypoints.
        reference: calibration file to import; that of the session where it has one and none is named.
        reference_unit: its unit of length, where it does not keep to its format's (anipose's files have the board's).
        world: what tells where the floor is and what is up: `target` the pose declared of a world target, or the
            reference's own world; `floor_markers` targets that lie on the floor anywhere; `person` the floor that the
            person walks on; `first_camera` nothing, the best connected camera is the world.
        floor_markers: ids of the targets on the floor, for that world.
        world_up: axis of the imported world that points up.
        lenses: whether an imported rig keeps its own lenses or takes those of stage 03; `auto` takes the latter if the
            rig is refined, which lets its poses follow the other principal points, and else keeps the file's.
        imported: uncertainty of a reference that is taken as it is.
        refinement: settings of the refinement on keypoints.
        jitter_ms: how far single frames may be from their times (standard deviation, to start from: it is found from
            what is carried), of views whose frame times a computer wrote down (`frame_times` in `session.json`); 0
            takes their times as exact.
        readout_ms: how long a webcam takes to read out a picture (the same views), and how well that is known
            (standard deviation); 0, 0 takes them as global shutters.
        refine_clocks: with `keypoints`, refine the clocks on the person too, after the cameras.
        limits: what a believable rig keeps to.
    """

    method: Literal["auto", "targets", "import", "keypoints"] = "auto"
    reference: Path | None = None
    reference_unit: Literal["m", "cm", "mm"] = "m"
    world: World = "target"
    floor_markers: tuple[str, ...] = ()
    world_up: Up = "z"
    lenses: Literal["auto", "calibrated", "imported"] = "auto"
    imported: ImportedSigma = dataclasses.field(default_factory=ImportedSigma)
    refinement: KeypointRefinement = dataclasses.field(default_factory=KeypointRefinement)
    jitter_ms: float = 10.0
    readout_ms: tuple[float, float] = (15.0, 15.0)
    refine_clocks: bool = False
    limits: RigLimits = dataclasses.field(default_factory=RigLimits)


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
    if config.reference is None and session.calibration is not None:
        own = session.path(session.calibration)
        config = dataclasses.replace(config, reference=own, reference_unit="m", world_up="z")
    method = _method(session, config)
    lenses = ("imported" if method == "import" else "calibrated") if config.lenses == "auto" else config.lenses
    config = dataclasses.replace(config, method=method, lenses=lenses)
    return run_stage(
        "calibrate rig",
        5,
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


def _method(session: Session, config: RigConfig) -> Literal["targets", "import", "keypoints"]:
    """What `auto` means for this session; refuses a choice that lacks its data."""
    room = _targets(session)
    method = config.method
    if method == "auto":
        method = "targets" if room else "keypoints" if _keypoint_files(session) else "import"
    if config.world == "person" and not _keypoint_files(session):
        raise InputError(session.id, "no room view has keypoints, so no person tells the floor", "run `motifs detect`")
    if method == "targets":
        if not room:
            raise InputError(session.id, "no target hangs in the room or is carried", "declare them in targets.json")
        if config.world == "target" and not any(target.mounting == "world" for target in room.values()):
            raise InputError(
                session.id,
                "no target is mounted as `world`, so nothing says where the floor is",
                "lay a board on the floor and declare its pose, or choose another --world: floor_markers, person, "
                "first_camera",
            )
        return method
    if config.reference is None:
        raise InputError(
            session.id,
            "there are no targets in the room and no calibration file",
            "name a file by `motifs calibrate rig --reference` or `motifs run --rig.reference`",
        )
    if config.world == "floor_markers":
        raise InputError(session.id, "floor markers tell the world of a rig from targets only", "choose --world person")
    return method


def _targets(session: Session) -> dict[str, Target]:
    """Targets of the room: those that hang in it or are carried through it."""
    if not session.targets:
        return {}
    targets = load_targets(session.path(session.targets))
    return {name: target for name, target in targets.items() if target.mounting != "lens"}


def _keypoint_files(session: Session) -> dict[str, Path]:
    """Keypoints of all room views; none if a view lacks them."""
    files = {view.id: session.stage("02_keypoints") / f"{view.id}.npz" for view in session.of_role("room")}
    return files if all(path.is_file() for path in files.values()) else {}


def _inputs(session: Session, config: RigConfig) -> dict[str, Path]:
    inputs = {"session": session.folder / "session.json"}
    room = session.of_role("room")
    if config.method == "targets" or config.lenses == "calibrated":
        inputs["lenses"] = session.stage("03_lenses") / "lenses.json"
    if config.method == "targets":
        inputs["targets"] = session.path(str(session.targets))
        for view in room:
            inputs[f"points of {view.id}"] = session.stage("02_keypoints") / f"{view.id}.markers.npz"
    elif config.reference is not None:
        inputs["reference"] = config.reference
    people = _keypoint_files(session) if config.method != "import" or config.world == "person" else {}
    inputs |= {f"keypoints of {view_id}": path for view_id, path in people.items()}
    if config.method != "import" or people:
        inputs["clocks"] = session.stage("01_sync") / "clocks.json"
        for view in room:
            inputs[f"times of {view.id}"] = session.stage("01_sync") / f"{view.id}.times.npz"
    return inputs


def _process(session_dir: Path, config: RigConfig, item: str, folder: Path) -> Mapping[str, Any]:
    session = Session.load(session_dir)
    solution = _from_targets(session, config) if config.method == "targets" else _from_reference(session, config)
    given = read_json(session.stage("01_sync") / "clocks.json")["clocks"] if solution.clocks else {}
    _write(folder, solution, given)
    sizes = {name: t.size_m for name, t in solution.targets.items() if t.kind != "rig"}
    places, blocks = dict(solution.world_from_target), solution.target_blocks()
    draw_rig(folder / "plan.png", solution.rig, places, sizes, solution.covariance, blocks)
    return solution.facts


def _from_targets(session: Session, config: RigConfig) -> RigSolution:
    lenses, unsure = load_lenses(session.folder), load_lens_covariances(session.folder)
    clocks = load_clocks(session.folder)
    sightings = {
        view.id: Sighting(
            lens_of(lenses, view.id),
            load_markers(session.stage("02_keypoints") / f"{view.id}.markers.npz"),
            load_times(session.folder, view.id),
            clocks[view.id].offset_sigma_s,
            clocks[view.id].rate_sigma,
            lens_covariance=unsure.get(view.id),
            **(_webcam(view, config) if view.frame_times else {}),
        )
        for view in session.of_role("room")
    }
    solution = solve_from_targets(
        sightings,
        _targets(session),
        world=config.world,
        floor_markers=config.floor_markers,
        limits=config.limits,
    )
    if not _keypoint_files(session):
        return solution
    times = {view: load_times(session.folder, view) for view in solution.rig.ids}
    return _with_person(solution, see_person(session, solution.rig, times), config)


def _webcam(view: View, config: RigConfig) -> dict[str, float]:
    """What is expected of a camera whose frames are stamped when a computer reads them; room cameras only."""
    row_time_s, row_time_sigma = (ms / 1e3 / view.size_px[1] for ms in config.readout_ms)
    return {
        "jitter_sigma_s": config.jitter_ms / 1e3,
        "row_time_s": row_time_s,
        "row_time_sigma": row_time_sigma,
    }


def _from_reference(session: Session, config: RigConfig) -> RigSolution:
    assert config.reference is not None  # checked by `_method`
    unit_m = {"m": 1.0, "cm": 0.01, "mm": 0.001}[config.reference_unit]
    own_lenses = config.lenses == "imported"
    rig, notes = named_rig(session, config.reference, config.world_up, own_lenses=own_lenses, unit_m=unit_m)
    solution = _refined_reference(session, rig, config)
    return dataclasses.replace(solution, facts={**solution.facts, "import_notes": list(notes)})


def _refined_reference(session: Session, rig: Rig, config: RigConfig) -> RigSolution:
    covariance = dict.fromkeys(rig.ids, config.imported.covariance)
    solution = RigSolution(rig, covariance, {}, np.zeros((0, 0)), facts=rig_facts(rig, covariance, {}, gravity=True))
    if config.method == "import" and config.world != "person":
        return solution
    times = {view: load_times(session.folder, view) for view in rig.ids}
    person = see_person(session, rig, times)
    if config.method == "keypoints":
        solution = refined(rig, person, config.refinement)
        if config.refine_clocks:
            solution = with_clocks(solution, person, load_clocks(session.folder))
    return _with_person(solution, person, config)


def _with_person(solution: RigSolution, person: SeenPerson, config: RigConfig) -> RigSolution:
    """The solution with what the person says of it, and in the person's world if that is asked for."""
    solution = measured_on(solution, person)
    return on_floor(solution, floor_under(solution.rig, person)) if config.world == "person" else solution


def _write(folder: Path, solution: RigSolution, given: Mapping[str, Any]) -> None:
    """All files of the stage but the picture."""
    covariance = {name: c.tolist() for name, c in solution.covariance.items()}
    write_json(folder / "rig.json", {**solution.rig.to_json(), "covariance": covariance})
    poses = {name: {"rotvec": p.rotvec.tolist(), "t_m": p.t.tolist()} for name, p in solution.world_from_target.items()}
    blocks = solution.target_blocks()
    sigma = {name: float(np.sqrt(max(np.diag(c)[3:].max(), 0.0))) for name, c in blocks.items()}
    matrices = {name: c.tolist() for name, c in blocks.items()}
    write_json(folder / "markers.json", {"world_from_target": poses, "sigma_m": sigma, "covariance": matrices})
    names = np.array(list(solution.world_from_target), dtype=np.str_)
    write_npz(folder / "marker_covariance.npz", {"names": names, "covariance": solution.target_covariance})
    if solution.clocks:
        write_json(folder / "clocks.json", {"clocks": _refined_clocks(solution, given)})
    found = {name: target.to_json() for name, target in solution.targets.items() if target.kind == "rig"}
    if found:
        write_json(folder / "rig_geometry.json", {"rigs": found})


def _refined_clocks(solution: RigSolution, given: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of `01_sync/clocks.json`, corrected where moving targets or the person told the clocks."""
    refined_clocks, method = {}, "markers" if solution.targets else "keypoints"
    for view, correction in solution.clocks.items():
        entry = dict(given[view])
        if correction.observable:
            clock = dataclasses.asdict(correction.corrected(Clock.from_json(entry)))
            entry |= clock | {"methods": [*entry.get("methods", []), method]}
        refined_clocks[view] = entry
    return refined_clocks


def _finish(config: RigConfig, folder: Path, facts: Mapping[str, Mapping[str, Any]]) -> Summary:
    notes = () if config.reference is None or config.method == "targets" else read_file(config.reference).notes
    noted = [*notes, *facts["rig"].get("import_notes", ())]
    return Summary({**facts["rig"], "import_notes": noted}, rig_health(config.limits, facts["rig"], config.method))
