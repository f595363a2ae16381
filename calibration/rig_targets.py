"""The room rig from targets: boards that hang in the room and targets that are carried through it.

Room cameras do not expose at the same time, so what is carried moves on a trajectory in continuous time, and every
frame (and row) sees it where it was then; the cameras' clocks are refined with it. Targets that do not move are seen
once a camera: the median over all its frames. First values come from a bundle at some instants, to which the cameras'
tracks are interpolated. Panels of a marker rig whose places on it are unknown are found first and solved with the rest.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from calibration.boards import bundle_registered
from calibration.initial import Pair, Registration, connected_groups, find_pairs, register
from calibration.moving_bundle import MovingResult
from calibration.moving_scene import from_behind
from calibration.moving_target import KNOT_S, CarriedWay, choose_instants, clusters
from calibration.panels import solve_panels
from calibration.rig_problem import FirstValues, Problem, Seen, Sighting, build_problem, still_points
from calibration.scene import Observations
from capture.targets import Target
from core.arrays import Float
from core.cameras import Camera, Rig
from core.clock import Clock
from core.errors import GateError
from core.transforms import SE3

__all__ = ["ClockCorrection", "Sighting", "TargetRig", "choose_instants", "solve_target_rig", "still_points"]

_FIRST_INSTANTS = 80  # poses of a carried target that the first bundle uses
_OUTLIER_WEIGHT = 0.1  # robust weight below which a point does not fit
_FAR_OFF_S = KNOT_S / 4  # error of a clock beyond which knots were laid at the wrong times
_OBSERVED = 0.25  # share of its variance that the pictures must leave a clock to count as seen by them


@dataclass(frozen=True, eq=False)
class ClockCorrection:
    """What the moving targets say of a camera's clock: `t = t_given + offset_s + drift (t_given - middle_s)`.

    Attributes:
        offset_s: correction at `middle_s`.
        drift: correction of the rate.
        middle_s: session time in the middle of what was seen.
        row_time_s: readout time of a row, refined where it was not known.
        covariance: (2, 2) of offset and drift.
        observable: whether the pictures, not what was known before, tell the offset.
    """

    offset_s: float
    drift: float
    middle_s: float
    row_time_s: float
    covariance: Float[np.ndarray, "2 2"]
    observable: bool

    def times(self, t_s: Float[np.ndarray, "n"], row: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
        """Session times at which rows (pixels) of frames with given times were exposed."""
        return t_s + self.offset_s + self.drift * (t_s - self.middle_s) + self.row_time_s * row

    def corrected(self, clock: Clock) -> Clock:
        """The corrected clock; its offset's deviation holds where the clock was when this one's was `middle_s`."""
        sigma = np.sqrt(np.maximum(np.diag(self.covariance), 0.0))
        stretch = 1 + self.drift
        return Clock(
            stretch * clock.offset_s + self.offset_s - self.drift * self.middle_s,
            stretch * clock.rate,
            float(sigma[0]),
            float(sigma[1]),
            float(clock.to_local(np.array([self.middle_s]))[0]),
        )


@dataclass(frozen=True, eq=False)
class TargetRig:
    """A rig solved from targets.

    Attributes:
        rig: room cameras in the world.
        covariance: of each camera's `world_from_cam`, (rotation, translation).
        world_from_target: located targets that do not move.
        target_covariance: (6k, 6k) of these together, in that order; rows of targets that define the world are zero.
        target_sigma_m: standard deviation of each one's place, the worst axis.
        joint_covariance: (6c + 6k, 6c + 6k) of the cameras, in the rig's order, and these targets.
        reprojection_px: median error by camera.
        outliers: share of observations that do not fit.
        behind: share of views of each target that saw its print from behind, which only a mirrored reading does.
        unplaced: targets that no camera saw well enough.
        clocks: by camera.
        jitter_s: (frames,) by how much each frame of a camera was exposed later than its clock says, by camera; 0
            where frame times are exact or nothing carried was seen.
        jitter_sigma_s: standard deviation of these, as the pictures tell it; 0 where frame times are exact.
        carried: ways of the carried targets.
        panels: where the panels of each carried rig sit on it (`target_from_panel`).
        panel_sigma_m: standard deviation of each panel's place on its rig, the worst axis; 0 where it was given.
        panel_px: median error of the points of each panel; a rig that flexes shows here.
    """

    rig: Rig
    covariance: Mapping[str, np.ndarray]
    world_from_target: Mapping[str, SE3]
    target_covariance: Float[np.ndarray, "d d"]
    target_sigma_m: Mapping[str, float]
    joint_covariance: Float[np.ndarray, "e e"]
    reprojection_px: Mapping[str, float]
    outliers: float
    behind: Mapping[str, float]
    unplaced: tuple[str, ...]
    clocks: Mapping[str, ClockCorrection]
    jitter_s: Mapping[str, Float[np.ndarray, "frames"]]
    jitter_sigma_s: Mapping[str, float]
    carried: Mapping[str, CarriedWay]
    panels: Mapping[str, tuple[SE3, ...]]
    panel_sigma_m: Mapping[str, tuple[float, ...]]
    panel_px: Mapping[str, tuple[float, ...]]


def solve_target_rig(
    sightings: Mapping[str, Sighting], targets: Mapping[str, Target], *, max_instants: int = 240
) -> TargetRig:
    """Solves the room rig, the clocks of its cameras and the places of all targets.

    Args:
        sightings: room videos by view.
        targets: by id. Those mounted as `world` fix the frame; without any it is the best connected camera's.
        max_instants: knots of each carried target's trajectory at most.

    Raises:
        GateError: if cameras share no view, naming the groups, or if nothing connects them to the world target.
    """
    seen = Seen.gather(sightings, targets)
    apart = {
        name: solve_panels(targets[name], seen.lenses, p)
        for name, p in seen.carried.items()
        if not targets[name].is_known
    }
    seen = dataclasses.replace(seen, targets={**targets, **{name: panels.target for name, panels in apart.items()}})
    free = {name: panels.free for name, panels in apart.items()}
    problem = build_problem(seen, _first_values(seen), free, max_instants)
    result = problem.solve()
    if np.abs(result.scene.clocks[:, 0]).max() > _FAR_OFF_S:
        problem = problem.again(result, free, max_instants)
        result = problem.solve()
    return _describe(problem, result)


def _first_values(seen: Seen) -> FirstValues:
    """Cameras and still targets from a bundle at some instants."""
    parts, offset = [seen.still_points], len(seen.still)
    for name, points in seen.carried.items():
        instant_s = clusters(points.t_s)[0]
        frozen = seen.frozen(name, instant_s)
        counts = np.zeros((len(seen.views), len(instant_s)), int)
        np.add.at(counts, (frozen.image_idx, frozen.target_idx), 1)
        instants = choose_instants(counts, _FIRST_INSTANTS)
        if not len(instants):
            continue
        frozen = frozen[np.isin(frozen.target_idx, instants)]
        frozen = dataclasses.replace(frozen, target_idx=np.searchsorted(instants, frozen.target_idx))
        parts.append(dataclasses.replace(frozen, target_idx=frozen.target_idx + offset))
        offset += len(instants)
    observations = Observations.concatenate(parts)
    if not len(observations):
        problem = f"these groups of cameras share no target with each other: {' | '.join(seen.views)}"
        raise GateError(seen.views[0], f"{problem}; none saw any well enough", "look at what `motifs detect` found")
    rays = seen.rays(observations)
    pairs = find_pairs(observations, rays)
    known: dict[int, SE3] = {}
    for k, name in enumerate(seen.still):
        pose = seen.targets[name].world_from_target
        if seen.targets[name].mounting == "world" and pose is not None and (observations.target_idx == k).any():
            known[k] = pose
    start = register(observations, rays, pairs, len(seen.views), known)
    _require_connected(seen.views, pairs, start, [seen.still[k] for k in known])
    held = np.array(sorted(known), int)
    result = bundle_registered(
        observations, seen.lenses, np.arange(len(seen.views)), start, held_targets=held if known else None
    )
    still = np.arange(len(seen.still))
    located = np.isin(still, np.flatnonzero(start.target_known))
    poses = result.scene.world_from_target[np.minimum(still, len(result.scene.world_from_target) - 1)]
    t = np.where(located[:, None], poses.t, np.nan)
    clocks = np.zeros((len(seen.views), 3))
    clocks[:, 2] = [sighting.row_time_s for sighting in seen.sightings]
    return FirstValues(result.scene.world_from_cam, SE3(poses.R, t), held, clocks)


def _require_connected(views: tuple[str, ...], pairs: list[Pair], start: Registration, world: list[str]) -> None:
    """Refuses a rig some of whose cameras no chain of shared targets reaches."""
    lost = [view for view, known in zip(views, start.image_known, strict=True) if not known]
    if not lost:
        return
    groups = [", ".join(views[k] for k in group) for group in connected_groups(pairs, len(views))]
    problem = f"these groups of cameras share no target with each other: {' | '.join(groups)}"
    if len(groups) == 1 or world:
        problem += (
            f"; {', '.join(lost)} {'is' if len(lost) == 1 else 'are'} not connected to {', '.join(world) or 'the rest'}"
        )
    raise GateError(
        lost[0], problem, "carry the marker rig through the space that the groups both see, or hang a board there"
    )


def _describe(problem: Problem, result: MovingResult) -> TargetRig:
    """The solution under its names."""
    scene, seen, points = result.scene, problem.seen, problem.points
    views = seen.views
    cameras = zip(views, scene.lenses, (scene.world_from_cam[k].inverse() for k in range(len(views))), strict=True)
    names = [seen.still[k] for k in problem.located]
    num, first = len(names), sum(scene.dense_sizes[:3])
    rows = np.r_[0 : 6 * len(views), first : first + 6 * num]
    joint = result.covariance[np.ix_(rows, rows)]
    sigma = np.sqrt(np.maximum(np.diag(joint), 0.0))[6 * len(views) :].reshape(num, 6)[:, 3:].max(axis=-1, initial=0)
    error, fits = result.error_px, np.isfinite(result.error_px)
    panels, panel_sigma, panel_px = _describe_panels(problem, result)
    jitter_s, jitter_sigma_s = problem.jitters(result)
    return TargetRig(
        rig=Rig(tuple(Camera(*camera) for camera in cameras)),
        covariance=dict(zip(views, result.camera_covariance, strict=True)),
        world_from_target={name: scene.body_from_part[k] for k, name in enumerate(names)},
        target_covariance=joint[6 * len(views) :, 6 * len(views) :],
        target_sigma_m=dict(zip(names, sigma.tolist(), strict=True)),
        joint_covariance=joint,
        reprojection_px={v: float(np.median(error[fits & (points.camera_idx == k)])) for k, v in enumerate(views)},
        outliers=float((result.weight[fits] < _OUTLIER_WEIGHT).mean()),
        behind=_seen_from_behind(problem, result),
        unplaced=tuple(name for name in seen.still if name not in names),
        clocks=_corrections(problem, result),
        jitter_s=jitter_s,
        jitter_sigma_s=jitter_sigma_s,
        carried={
            name: CarriedWay(motion, middle)
            for name, motion, middle in zip(problem.carried, scene.motions, problem.middles_m, strict=True)
        },
        panels=panels,
        panel_sigma_m=panel_sigma,
        panel_px=panel_px,
    )


def _describe_panels(
    problem: Problem, result: MovingResult
) -> tuple[dict[str, tuple[SE3, ...]], dict[str, tuple[float, ...]], dict[str, tuple[float, ...]]]:
    """Places of the panels on their rigs, their standard deviations and their points' median errors."""
    poses, sigmas, errors = {}, {}, {}
    for name, middle, parts in zip(problem.carried, problem.middles_m, problem.parts, strict=True):
        target = problem.seen.targets[name]
        if target.kind != "rig":
            continue
        poses[name], sigmas[name] = target.placed_panels, (0.0,) * len(target.panels)
        if len(parts) > 1:
            solved = SE3(np.eye(3), middle) @ result.scene.body_from_part[parts]
            poses[name] = tuple(solved[k] for k in range(len(parts)))
            variance = np.einsum("kii->ki", result.part_covariance[parts])[:, 3:].max(axis=-1)
            sigmas[name] = tuple(np.sqrt(variance).tolist())
        panel = problem.panel_of_point(name)
        errors[name] = tuple(
            float(np.median(result.error_px[rows])) if rows.any() else float("nan")
            for rows in (panel == k for k in range(len(target.panels)))
        )
    return poses, sigmas, errors


def _corrections(problem: Problem, result: MovingResult) -> dict[str, ClockCorrection]:
    """Clock corrections by camera."""
    scene = result.scene
    at = scene.dense_sizes[0] + scene.dense_sizes[1] + 3 * np.arange(len(scene.lenses))
    free = scene.clock_free[:, 0]
    after, before = result.covariance[np.ix_(at, at)], np.diag(np.where(free, scene.clock_sigma[:, 0] ** 2, 0.0))
    centred = np.eye(len(at))  # pictures tell clocks from one another, never all of a group from the session's
    for group in result.clock_groups:
        if free[group].all():
            centred[np.ix_(group, group)] -= 1 / len(group)
    after, before = centred @ after @ centred, centred @ before @ centred
    observable = free & (np.diag(after) < _OBSERVED * np.diag(before))
    return {
        view: ClockCorrection(
            float(scene.clocks[k, 0]),
            float(scene.clocks[k, 1]),
            scene.middle_s,
            float(scene.clocks[k, 2]),
            result.clock_covariance[k, :2, :2],
            bool(observable[k]),
        )
        for k, view in enumerate(problem.seen.views)
    }


def _seen_from_behind(problem: Problem, result: MovingResult) -> dict[str, float]:
    """Share of each target's points that were seen with the camera behind their print (its z points into it)."""
    scene, points = result.scene, problem.points
    behind = from_behind(scene, points)
    names = np.array([*(problem.seen.still[k] for k in problem.located)], dtype=object)
    shares = {str(name): float(behind[points.part_idx == k].mean()) for k, name in enumerate(names)}
    for name, parts in zip(problem.carried, problem.parts, strict=True):
        if problem.seen.targets[name].kind != "rig":
            shares[name] = float(behind[np.isin(points.part_idx, parts)].mean())
    return shares
