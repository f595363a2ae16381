"""The mathematics of the rig stage, from point tables to a rig that says what it is worth: no files, no session."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from calibration.evidence import Evidence, gather_evidence
from calibration.gates import Finding, find_contradictions, print_scales, seen_from_behind
from calibration.odd_camera import find_odd_camera
from calibration.photographs import Stills, ambiguous_targets
from calibration.rig_health import RigLimits, finding_facts, rig_facts, rig_health
from calibration.rig_targets import ClockCorrection, Sighting, TargetRig, solve_target_rig
from calibration.world_frame import Plane, fit_floor, moved_poses, plane_covariance, world_on
from capture.targets import Target
from core.arrays import Float
from core.cameras import Rig
from core.errors import GateError, InputError
from core.manifest import Health
from core.transforms import SE3

World = Literal["target", "floor_markers", "person", "first_camera"]

_UNSEEN = "no camera saw enough of it"
_UNEXPLAINED = 100.0  # noise that a finding leaves, above which it explains nothing
_TWO_POSES = "two poses explain what the cameras saw of it: show it to another one, or photograph it"


@dataclass(frozen=True, eq=False)
class RigSolution:
    """A rig in its world.

    Attributes:
        rig: room cameras.
        covariance: (6, 6) of each camera's `world_from_cam`.
        world_from_target: located targets that do not move.
        target_covariance: (6k, 6k) of these together.
        clocks: corrections by camera, where targets moved or the person told them.
        targets: as declared, with the panels of rigs where they were found.
        facts: figures for the manifest and the gates.
    """

    rig: Rig
    covariance: Mapping[str, np.ndarray]
    world_from_target: Mapping[str, SE3]
    target_covariance: Float[np.ndarray, "d d"]
    clocks: Mapping[str, ClockCorrection] = dataclasses.field(default_factory=dict)
    targets: Mapping[str, Target] = dataclasses.field(default_factory=dict)
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def target_blocks(self) -> dict[str, np.ndarray]:
        """Covariance (6, 6) of each target."""
        blocks = self.target_covariance.reshape(len(self.world_from_target), 6, len(self.world_from_target), 6)
        return {name: blocks[k, :, k] for k, name in enumerate(self.world_from_target)}

    def health(self, limits: RigLimits, method: str) -> list[Health]:
        """The gates."""
        return rig_health(limits, self.facts, method)


def solve_from_targets(
    sightings: Mapping[str, Sighting],
    targets: Mapping[str, Target],
    *,
    world: World = "target",
    floor_markers: tuple[str, ...] = (),
    limits: RigLimits | None = None,
) -> RigSolution:
    """Solves the rig from targets, asks what contradicts it, and puts it into its world.

    Args:
        sightings: by camera.
        targets: by id.
        world: what tells the world; `person` is left to the caller, who knows the keypoints (`on_floor`).
        floor_markers: ids of the targets on the floor, for the world `floor_markers`.
        limits: of the gates.

    Raises:
        GateError: if cameras are not connected, naming the groups, or the floor markers do not tell the floor.
        InputError: if the floor markers are no targets of the room.
    """
    limits = limits or RigLimits()
    if world == "floor_markers" and not (floor_markers and set(floor_markers) <= set(targets)):
        unknown = ", ".join(set(floor_markers) - set(targets))
        problem = f"floor markers {unknown} are no targets" if unknown else "no target is named as lying on the floor"
        raise InputError("rig", problem, f"name them: --floor-markers, some of {', '.join(targets)}")
    if world != "target":
        targets = {name: _unheld(target) for name, target in targets.items()}
    solved, doubtful = _certain(solve_target_rig(sightings, targets), sightings, targets)
    if world == "target":
        _require_world(targets, solved)
    placed = {name: _with_panels(target, solved.panels) for name, target in targets.items()}
    facts = _judged(solved, sightings, placed, limits)
    facts["unplaced"] = dict.fromkeys(solved.unplaced, _UNSEEN) | dict.fromkeys(doubtful, _TWO_POSES)
    solution = RigSolution(
        solved.rig, solved.covariance, solved.world_from_target, solved.target_covariance, solved.clocks, placed
    )
    if world == "floor_markers":
        solution = _on_markers(solution, solved.joint_covariance, floor_markers)
    gravity = world in ("target", "floor_markers") and (world != "target" or _has_world(targets))
    more = rig_facts(solution.rig, solution.covariance, solved.reprojection_px, gravity=gravity)
    return dataclasses.replace(solution, facts=more | facts)


def on_floor(solution: RigSolution, plane: Plane) -> RigSolution:
    """A solution whose world is that of a floor plane found in its frame; x is where its first camera looks."""
    world = world_on(plane, solution.rig.cameras[0].world_from_cam.R[:, 2])
    cameras = SE3.stack([camera.world_from_cam for camera in solution.rig])
    poses = _together(cameras, solution.world_from_target)
    names = solution.rig.ids
    joint = np.zeros((6 * len(poses), 6 * len(poses)))
    for k, name in enumerate(names):
        joint[6 * k : 6 * k + 6, 6 * k : 6 * k + 6] = solution.covariance[name]
    joint[6 * len(names) :, 6 * len(names) :] = solution.target_covariance
    moved, covariance = moved_poses(poses, joint, lambda _: world, plane_covariance(plane))
    changed = _rearranged(solution, moved, covariance)
    error = solution.facts.get("reprojection_px", {})
    return dataclasses.replace(
        changed, facts={**solution.facts, **rig_facts(changed.rig, changed.covariance, error, gravity=True)}
    )


def _certain(
    solved: TargetRig, sightings: Mapping[str, Sighting], targets: Mapping[str, Target]
) -> tuple[TargetRig, list[str]]:
    """The rig without targets of which its cameras do not tell one planar pose from the other, and their names."""
    still = {name: targets[name] for name in solved.world_from_target if targets[name].mounting != "world"}
    cameras = [
        Stills(camera.lens, sightings[camera.id].points, (camera.id,), camera.world_from_cam, covariance)
        for camera, covariance in ((c, solved.covariance[c.id]) for c in solved.rig)
    ]
    doubtful = ambiguous_targets(still, cameras) if still else []
    kept = {name: pose for name, pose in solved.world_from_target.items() if name not in doubtful}
    own = np.repeat([name in kept for name in solved.world_from_target], 6).astype(bool)
    rows = np.concatenate([np.ones(6 * len(solved.rig), bool), own])
    return dataclasses.replace(
        solved,
        world_from_target=kept,
        target_covariance=solved.target_covariance[np.ix_(own, own)],
        target_sigma_m={name: solved.target_sigma_m[name] for name in kept},
        joint_covariance=solved.joint_covariance[np.ix_(rows, rows)],
    ), doubtful


def _judged(
    solved: TargetRig, sightings: Mapping[str, Sighting], targets: Mapping[str, Target], limits: RigLimits
) -> dict[str, Any]:
    """What the raw points say against a solved rig, and the counts of it."""
    evidence = _evidence(solved, sightings, targets)
    findings = find_contradictions(evidence, limits.contradictions)
    if any(finding.noise > _UNEXPLAINED for finding in findings) or _only_times(findings):
        findings = _with_odd_camera(findings, sightings, targets, limits)
    return {
        "behind": seen_from_behind(evidence),
        "contradictions": finding_facts(findings),
        "print_scale": {name: dataclasses.asdict(scale) for name, scale in print_scales(evidence).items()},
        "num_targets": len(solved.world_from_target),
        "target_sigma_mm": {name: 1000 * sigma for name, sigma in solved.target_sigma_m.items()},
        "outliers": solved.outliers,
        "panel_px": {name: list(values) for name, values in solved.panel_px.items()},
        "jitter_ms": {view: 1000 * sigma for view, sigma in solved.jitter_sigma_s.items() if sigma > 0},
        "readout_ms": {
            view: 1000 * clock.row_time_s * solved.rig[view].lens.size_px[1]
            for view, clock in solved.clocks.items()
            if sightings[view].row_time_sigma > 0
        },
        "clock_correction_ms": {view: 1000 * c.offset_s for view, c in solved.clocks.items() if c.observable},
    }


def _only_times(findings: list[Finding]) -> bool:
    """Whether the times of single frames, which explain something of everything, are the best of several findings."""
    return (
        bool(findings) and findings[0].name == "jitter_ms" and any(finding.name != "jitter_ms" for finding in findings)
    )


def _with_odd_camera(
    findings: list[Finding], sightings: Mapping[str, Sighting], targets: Mapping[str, Target], limits: RigLimits
) -> list[Finding]:
    """Findings of a rig that none of them explains: first the camera without which there is nothing to explain."""

    def agree(rig: TargetRig, others: Mapping[str, Sighting]) -> bool:
        placed = {name: _with_panels(target, rig.panels) for name, target in targets.items()}
        return not find_contradictions(_evidence(rig, others, placed), limits.contradictions)

    named = [finding.item for finding in findings if finding.item in sightings]
    suspects = list(dict.fromkeys([*named, *sightings])) if len(sightings) > 2 else []
    odd = find_odd_camera(sightings, targets, suspects, agree)
    if odd is None:
        return findings
    own = [finding for finding in findings if finding.item == odd.view]
    if own and not np.isfinite(odd.late_s):  # what was found of it says more than that it is odd
        return [*own, *(finding for finding in findings if finding.item != odd.view)]
    words, action = odd.describe()
    name: Literal["clock_ms", "odd_camera"] = "clock_ms" if np.isfinite(odd.late_s) else "odd_camera"
    value, limit = (1000 * abs(odd.late_s), limits.contradictions.clock_ms) if name == "clock_ms" else (1.0, 0.0)
    return [Finding(name, odd.view, value, limit, findings[0].gain, findings[0].noise, words, action), *findings]


def _evidence(solved: TargetRig, sightings: Mapping[str, Sighting], targets: Mapping[str, Target]) -> Evidence:
    """All raw points against a solved rig, at the times that it found."""
    times = {
        view: _corrected(sighting.t_s, solved.clocks.get(view)) + solved.jitter_s[view]
        for view, sighting in sightings.items()
    }
    return gather_evidence(
        solved.rig,
        {view: sighting.points for view, sighting in sightings.items()},
        times,
        targets,
        solved.world_from_target,
        solved.carried,
        {
            view: solved.clocks[view].row_time_s if view in solved.clocks else sighting.row_time_s
            for view, sighting in sightings.items()
        },
    )


def _corrected(t_s: np.ndarray, clock: ClockCorrection | None) -> np.ndarray:
    return t_s if clock is None else t_s + clock.offset_s + clock.drift * (t_s - clock.middle_s)


def _unheld(target: Target) -> Target:
    """A world target as one whose place is unknown, for a world that something else tells."""
    return dataclasses.replace(target, mounting="static") if target.mounting == "world" else target


def _require_world(targets: Mapping[str, Target], solved: TargetRig) -> None:
    """Refuses a rig whose world target was declared and not seen: it would lie in a camera's frame unnoticed."""
    told = [name for name, target in targets.items() if target.mounting == "world"]
    if told and not set(told) & set(solved.world_from_target):
        problem = "it is to tell the world, but no camera saw enough of it"
        raise GateError(told[0], problem, "film it, or choose another --world: floor_markers, person, first_camera")


def _has_world(targets: Mapping[str, Target]) -> bool:
    return any(target.mounting == "world" for target in targets.values())


def _with_panels(target: Target, panels: Mapping[str, tuple[SE3, ...]]) -> Target:
    """A rig with the places of its panels as they were found."""
    return dataclasses.replace(target, target_from_panel=panels[target.id]) if target.id in panels else target


def _on_markers(solution: RigSolution, joint: np.ndarray, names: tuple[str, ...]) -> RigSolution:
    """The world of targets that lie on the floor: a plane through their corners, x along the first one's top edge."""
    located = list(solution.world_from_target)
    if missing := [name for name in names if name not in located]:
        raise GateError(
            missing[0], "it is to tell the floor, but no two cameras located it", "show it to a camera that sees others"
        )
    first = len(solution.rig) + located.index(names[0])
    index = np.array([len(solution.rig) + located.index(name) for name in names])
    corners = [solution.targets[name].points_m for name in names]

    def world_of(poses: SE3) -> SE3:
        points = np.concatenate([poses[int(k)].apply(X) for k, X in zip(index, corners, strict=True)])
        plane = fit_floor(points, poses.t[: len(solution.rig)].mean(axis=0), ", ".join(names))
        return world_on(plane, poses.R[first][:, 0])

    cameras = SE3.stack([camera.world_from_cam for camera in solution.rig])
    moved, covariance = moved_poses(_together(cameras, solution.world_from_target), joint, world_of)
    return _rearranged(solution, moved, covariance)


def _together(cameras: SE3, targets: Mapping[str, SE3]) -> SE3:
    poses = [cameras[k] for k in range(len(cameras))] + list(targets.values())
    return SE3.stack(poses)


def _rearranged(solution: RigSolution, poses: SE3, covariance: np.ndarray) -> RigSolution:
    """The solution with other poses: cameras first, then targets."""
    c = len(solution.rig)
    cameras = tuple(
        dataclasses.replace(camera, cam_from_world=poses[k].inverse()) for k, camera in enumerate(solution.rig)
    )
    blocks = {name: covariance[6 * k : 6 * k + 6, 6 * k : 6 * k + 6] for k, name in enumerate(solution.rig.ids)}
    targets = {name: poses[c + k] for k, name in enumerate(solution.world_from_target)}
    return dataclasses.replace(
        solution,
        rig=Rig(cameras),
        covariance=blocks,
        world_from_target=targets,
        target_covariance=covariance[6 * c :, 6 * c :],
    )
