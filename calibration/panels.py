"""Where the panels of a marker rig sit on it, from pictures that show several of them at once.

Seen from the rig, its panels hang still and the cameras move: every frame is an image, every panel a target, and the
first panel seen best fixes the frame. So the rig's geometry is found as a room's is: both planar poses kept until the
graph decides, then a bundle adjustment. The scale is that of the panels' own sizes.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from calibration.boards import bundle_registered
from calibration.initial import find_pairs, observed_rays, register
from calibration.moving_target import CarriedPoints
from calibration.scene import Observations
from capture.targets import Target
from core.cameras import Lens
from core.errors import GateError
from core.transforms import SE3

_MAX_IMAGES = 150  # pictures used: those with the most panels, then points
_MIN_POINTS = 4  # of a panel, that fix its pose
_SYSTEMATIC_PX = 0.08  # detector error that differs from corner to corner


@dataclass(frozen=True, eq=False)
class Panels:
    """A rig whose panels have found their places.

    Attributes:
        target: the rig with all `target_from_panel`.
        free: which of these were found out; the others were given or are the frame.
    """

    target: Target
    free: tuple[bool, ...]


def solve_panels(target: Target, lenses: tuple[Lens, ...], seen: CarriedPoints) -> Panels:
    """Places of all panels of a rig; those given, or else the first, are its frame.

    Raises:
        GateError: if no picture shows some panel together with the others.
    """
    panel = np.searchsorted([start for _, start in target.parts], seen.point_idx, side="right") - 1
    local_m = np.concatenate([part.points_m for part, _ in target.parts])
    image = seen.image_idx
    count = np.zeros((int(image.max(initial=0)) + 1, len(target.panels)), int)
    np.add.at(count, (image, panel), 1)
    enough = count >= _MIN_POINTS
    chosen = _richest(enough, count)
    if not len(chosen):
        raise _apart(target, 1)
    place = np.full(len(count), -1)
    place[chosen] = np.arange(len(chosen))
    rows = np.flatnonzero((place[image] >= 0) & enough[image, panel])
    camera = np.zeros(len(count), int)
    camera[image] = seen.camera_idx
    sigma = np.hypot(seen.sigma_px[rows], _SYSTEMATIC_PX)
    o = Observations(place[image[rows]], panel[rows], local_m[seen.point_idx[rows]], seen.xy_px[rows], sigma)
    lens_idx = camera[chosen]
    rays = observed_rays(lenses, lens_idx, o)
    pairs = find_pairs(o, rays)
    known = {k: pose for k, pose in enumerate(target.target_from_panel) if pose is not None} or {0: SE3.identity()}
    start = register(o, rays, pairs, len(chosen), {k: p for k, p in known.items() if (panel[rows] == k).any()})
    lost = [k for k in range(len(target.panels)) if k >= len(start.target_known) or not start.target_known[k]]
    if lost:
        raise _apart(target, lost[0])
    result = bundle_registered(o, lenses, lens_idx, start, held_targets=np.array(sorted(known), int))
    poses = result.scene.world_from_target
    placed = dataclasses.replace(target, target_from_panel=tuple(poses[k] for k in range(len(target.panels))))
    return Panels(placed, tuple(k not in known for k in range(len(target.panels))))


def _apart(target: Target, panel: int) -> GateError:
    return GateError(
        target.panels[panel].id,
        f"no picture shows it together with the other panels of {target.id}, so its place on it is unknown",
        "turn the marker rig slowly before a camera, so that two neighbouring panels are seen at once",
    )


def _richest(enough: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Pictures that show two panels or more; for every panel in turn those that show it best, up to a number."""
    several = np.flatnonzero(enough.sum(axis=1) >= 2)
    best = [
        several[np.argsort(-(count[several, k] * enough[several, k]), kind="stable")] for k in range(count.shape[1])
    ]
    in_turn = np.array(best, int).T.ravel() if len(several) else np.zeros(0, int)
    _, first = np.unique(in_turn, return_index=True)
    return np.sort(in_turn[np.sort(first)][:_MAX_IMAGES])
