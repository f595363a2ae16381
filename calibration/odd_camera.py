"""Which camera it is, where a rig contradicts itself so much that no single change explains it.

A clock that is off by most of a second, or another camera's video, drags every other camera along, and what is left
points anywhere. So suspects are left out in turn: the odd one is that without which the others agree. Laid against
their rig over all shifts of its clock, its points then say whether it is the clock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from calibration.resection import PointRays, pose_candidates, refine_poses
from calibration.rig_problem import Sighting
from calibration.rig_targets import TargetRig, solve_target_rig
from capture.targets import Target
from core.errors import GateError
from core.transforms import SE3

_MOST_SUSPECTS = 6
_MOST_POINTS = 400  # of the odd camera, spread over its frames
_REACH_S, _STEP_S = 3.0, 0.02
_FITS_PX = 3.0  # median error at a shift at which the clock explains all
_BETTER = 5.0  # times as good as without a shift


@dataclass(frozen=True)
class OddCamera:
    """A camera without which the others agree.

    Attributes:
        view: the camera.
        late_s: by how much its frames were exposed later than its clock says; NaN where no shift makes it fit.
    """

    view: str
    late_s: float

    def describe(self) -> tuple[str, str]:
        """What is wrong in words, and what to do."""
        if np.isfinite(self.late_s):
            sense = "slow" if self.late_s > 0 else "fast"
            words = f"{self.view}'s clock seems {1000 * abs(self.late_s):.0f} ms {sense}"
            return words, "synchronise it again: show a time code to it, or clap, or give its offset"
        action = "check that its video, lens and clock are its own and that nobody moved it, or leave it out"
        return f"{self.view} contradicts all other cameras, which agree without it", action


def find_odd_camera(
    sightings: Mapping[str, Sighting],
    targets: Mapping[str, Target],
    suspects: Sequence[str],
    agree: Callable[[TargetRig, Mapping[str, Sighting]], bool],
) -> OddCamera | None:
    """The first suspect without which the others agree; None if there is none.

    Args:
        sightings: of all cameras.
        targets: by id.
        suspects: cameras, the likeliest first.
        agree: whether a rig of some of the cameras is free of contradictions.
    """
    for view in [view for view in suspects if view in sightings][:_MOST_SUSPECTS]:
        others = {name: sighting for name, sighting in sightings.items() if name != view}
        try:
            rig = solve_target_rig(others, targets)
        except GateError:  # it is what connects the others
            continue
        if agree(rig, others):
            return OddCamera(view, _lateness(sightings[view], targets, rig))
    return None


def _lateness(sighting: Sighting, targets: Mapping[str, Target], rig: TargetRig) -> float:
    """The shift of a camera's clock at which it fits a rig that it is not part of; NaN if none does much better."""
    seen = sighting.points
    rows = np.flatnonzero([seen.target_ids[k] in rig.carried for k in seen.target])
    rows = rows[np.linspace(0, len(rows) - 1, min(_MOST_POINTS, len(rows))).astype(int)]
    if len(rows) < 8:
        return float("nan")
    shifts = np.arange(-_REACH_S, _REACH_S + _STEP_S / 2, _STEP_S)
    given_s = sighting.t_s[seen.frame_idx[rows]] + sighting.row_time_s * seen.xy_px[rows, 1].astype(float)
    world = np.full((len(shifts), len(rows), 3), np.nan)
    for name, way in rig.carried.items():
        own = np.flatnonzero(seen.target[rows] == seen.target_ids.index(name))
        points = targets[name].points_m if name not in rig.panels else _placed(targets[name], rig.panels[name])
        poses = way.at((given_s[own] + shifts[:, None]).ravel())
        at = poses.apply(np.tile(points[seen.point_idx[rows[own]]], (len(shifts), 1)))
        world[:, own] = at.reshape(len(shifts), len(own), 3)
    error = np.array([_misfit(sighting, seen.xy_px[rows].astype(float), points) for points in world])
    if not np.isfinite(error).any():
        return float("nan")
    best, none = int(np.nanargmin(error)), error[len(shifts) // 2]
    fits = error[best] < _FITS_PX and not none < _BETTER * error[best]
    return float(shifts[best]) if fits else float("nan")


def _placed(target: Target, panels: tuple[SE3, ...]) -> np.ndarray:
    parts = zip(target.parts, panels, strict=True)
    return np.concatenate([pose.apply(part.points_m) for (part, _), pose in parts])


def _misfit(sighting: Sighting, xy: np.ndarray, world: np.ndarray) -> float:
    """Median error (pixels) of the best pose of a camera that saw points (n, 3) at (n, 2); NaN without one."""
    known = np.isfinite(world[:, 0])
    if known.sum() < 8:
        return float("nan")
    world, xy = world[known], xy[known]
    candidates = pose_candidates(world, sighting.lens.unproject(xy))
    if not candidates:
        return float("nan")
    m, n = len(candidates), len(world)
    data = PointRays(np.repeat(np.arange(m), n), np.tile(world, (m, 1)), np.tile(xy, (m, 1)), np.full(m * n, 1.0))
    start = SE3.stack([candidate.inverse() for candidate in candidates])
    solved = refine_poses(sighting.lens, start, data, iterations=8)
    error = np.linalg.norm(np.nan_to_num(solved.residual_px, nan=1e3), axis=-1).reshape(m, n)
    return float(np.median(error, axis=1).min())
