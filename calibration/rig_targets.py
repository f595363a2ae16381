"""The room rig from targets: boards that hang in the room, a rig of markers carried through it, photographs of both.

Room cameras do not expose at the same time, so the carried target has one pose at each of some chosen instants, and
every camera's track of each of its points is interpolated to these instants. Targets that do not move are seen once a
camera: the median over all its frames. Photographs are images of their own. All of it is solved in one bundle, which
also gives the places of targets that only photographs see.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from calibration.boards import bundle_registered
from calibration.bundle import BundleResult
from calibration.initial import Pair, Registration, connected_groups, find_pairs, observed_rays, register
from calibration.scene import Observations
from capture.markers import MarkerPoints
from capture.targets import Target
from core.arrays import Float
from core.cameras import Camera, Lens, Rig
from core.clock import resample
from core.errors import GateError
from core.transforms import SE3

_GRID_HZ = 30.0  # instants to choose from
_MIN_POINTS = 4  # that fix a pose
_MIN_FRAMES = 3  # in which a point of the room must be seen by a video
_SYSTEMATIC_PX = 0.08  # detector error that averaging over frames does not lower
_CLOCK_SIGMA_S = 0.001  # error of a camera's clock: a fast point is where it is only within speed times this
_MAX_FRAME_GAP = 1.5  # frames between which a track may be interpolated


@dataclass(frozen=True, eq=False)
class Sighting:
    """What one view saw of the targets.

    Attributes:
        lens: its lens.
        points: its table of points.
        t_s: frame times on the session clock; None for photographs.
    """

    lens: Lens
    points: MarkerPoints
    t_s: Float[np.ndarray, "frames"] | None


@dataclass(frozen=True, eq=False)
class TargetRig:
    """A rig solved from targets.

    Attributes:
        rig: room cameras in the world.
        covariance: of each camera's `world_from_cam`, (rotation, translation).
        world_from_target: located targets that do not move.
        target_sigma_m: standard deviation of each one's place, the worst axis.
        reprojection_px: median error by camera.
        outliers: share of observations that do not fit.
        behind: share of views of each target that saw its print from behind, which only a mirrored reading does.
        num_photos: photographs that were placed.
        unplaced: targets that no placed image saw well enough.
    """

    rig: Rig
    covariance: Mapping[str, np.ndarray]
    world_from_target: Mapping[str, SE3]
    target_sigma_m: Mapping[str, float]
    reprojection_px: Mapping[str, float]
    outliers: float
    behind: Mapping[str, float]
    num_photos: int
    unplaced: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Nodes:
    """Names of the bundle's images and targets."""

    views: list[str]  # view of each image
    lenses: tuple[Lens, ...]
    lens_idx: np.ndarray
    targets: list[tuple[str, int]]  # target id and instant; -1 for targets that do not move


def solve_target_rig(
    sightings: Mapping[str, Sighting], targets: Mapping[str, Target], *, max_instants: int = 80
) -> TargetRig:
    """Solves the room rig and the places of all targets.

    Args:
        sightings: by view; those with times are room cameras, the others photographs.
        targets: by id. Those mounted as `world` fix the frame; without any it is the best connected camera's.
        max_instants: poses of each carried target at most.

    Raises:
        GateError: if cameras share no view, naming the groups, or if nothing connects them to the world target.
    """
    nodes, observations = _observe(sightings, targets, max_instants)
    rays = observed_rays(nodes.lenses, nodes.lens_idx, observations)
    pairs = find_pairs(observations, rays)
    known: dict[int, SE3] = {}
    for k, (name, _) in enumerate(nodes.targets):
        pose = targets[name].world_from_target
        if targets[name].mounting == "world" and pose is not None and (observations.target_idx == k).any():
            known[k] = pose
    start = register(observations, rays, pairs, len(nodes.views), known)
    _require_connected(nodes, sightings, pairs, start, [targets_name for targets_name, _ in _names(nodes, known)])
    held = np.array(sorted(known), int) if known else None
    result = bundle_registered(observations, nodes.lenses, nodes.lens_idx, start, held_targets=held)
    return _describe(nodes, sightings, targets, observations, start, result)


def _names(nodes: _Nodes, known: Mapping[int, SE3]) -> list[tuple[str, int]]:
    return [nodes.targets[k] for k in known]


def _observe(
    sightings: Mapping[str, Sighting], targets: Mapping[str, Target], max_instants: int
) -> tuple[_Nodes, Observations]:
    """All observations of the bundle and the names of its nodes."""
    still = [name for name, target in targets.items() if target.mounting in ("world", "static")]
    carried = [name for name, target in targets.items() if target.mounting == "carried"]
    nodes = _Nodes([], tuple(s.lens for s in sightings.values()), np.zeros(0, int), [(name, -1) for name in still])
    lens_idx: list[int] = []
    parts: list[Observations] = []
    for k, (view_id, sighting) in enumerate(sightings.items()):
        frames = np.zeros(1, int) if sighting.t_s is not None else np.unique(sighting.points.frame_idx)
        for frame in frames:
            image = len(nodes.views)
            nodes.views.append(view_id)
            lens_idx.append(k)
            for index, name in enumerate(still):
                seen = sighting.points.of_target(name)
                seen = seen if sighting.t_s is not None else seen.where(seen.frame_idx == frame)
                parts.append(_still_points(image, index, targets[name], seen, video=sighting.t_s is not None))
    images = [nodes.views.index(v) if s.t_s is not None else -1 for v, s in sightings.items()]
    for name in carried:
        parts += _carried_points(name, targets[name], list(sightings.values()), images, nodes, max_instants)
    observations = Observations.concatenate([part for part in parts if len(part)] or [_none()])
    return _Nodes(nodes.views, nodes.lenses, np.array(lens_idx, int), nodes.targets), observations


def _none() -> Observations:
    zero = np.zeros(0, int)
    return Observations(zero, zero, np.zeros((0, 3)), np.zeros((0, 2)), np.zeros(0))


def _still_points(image: int, index: int, target: Target, seen: MarkerPoints, *, video: bool) -> Observations:
    """A target that does not move, in one image: medians over the frames of a video."""
    order = np.argsort(seen.point_idx, kind="stable")
    point, first, count = np.unique(seen.point_idx[order], return_index=True, return_counts=True)
    groups = np.split(seen.xy_px[order].astype(float), first[1:]) if len(point) else []
    xy = np.array([np.median(group, axis=0) for group in groups]).reshape(-1, 2)
    # a median's variance is pi/2 times a mean's
    sigma = np.array([np.median(s) for s in np.split(seen.sigma_px[order], first[1:])]) if len(point) else np.zeros(0)
    sigma = np.sqrt(sigma**2 * np.where(count > 1, np.pi / 2 / count, 1.0) + _SYSTEMATIC_PX**2)
    enough = count >= (_MIN_FRAMES if video else 1)
    if enough.sum() < _MIN_POINTS:
        return _none()
    n = int(enough.sum())
    where = (np.full(n, image), np.full(n, index), target.points_m[point[enough]])
    return Observations(*where, xy[enough], sigma[enough])


def _carried_points(
    name: str, target: Target, sightings: list[Sighting], images: list[int], nodes: _Nodes, max_instants: int
) -> list[Observations]:
    """A carried target at chosen instants; adds these to the nodes."""
    seen = {k: s.points.of_target(name) for k, s in enumerate(sightings) if s.t_s is not None}
    seen = {k: points for k, points in seen.items() if len(points)}
    times = {k: _frame_times(sightings[k]) for k in seen}
    if not seen:
        return []
    first = min(times[k][points.frame_idx.min()] for k, points in seen.items())
    last = max(times[k][points.frame_idx.max()] for k, points in seen.items())
    grid = np.arange(np.ceil(first * _GRID_HZ), np.floor(last * _GRID_HZ) + 1) / _GRID_HZ
    tracks = {k: _resampled(points, target.num_points, times[k], grid) for k, points in seen.items()}
    counts = np.stack([np.isfinite(xy[..., 0]).sum(axis=1) for xy, _ in tracks.values()])
    instants = choose_instants(np.where(counts >= _MIN_POINTS, counts, 0), max_instants)
    parts = []
    for k, (xy, sigma) in tracks.items():
        instant, point = np.nonzero(np.isfinite(xy[instants, :, 0]))
        enough = np.bincount(instant, minlength=len(instants))[instant] >= _MIN_POINTS
        instant, point = instant[enough], point[enough]
        at = instants[instant]
        where = (np.full(len(at), images[k]), len(nodes.targets) + instant, target.points_m[point])
        parts.append(Observations(*where, xy[at, point], sigma[at, point]))
    nodes.targets.extend((name, int(instant)) for instant in instants)
    return parts


def _frame_times(sighting: Sighting) -> np.ndarray:
    assert sighting.t_s is not None  # only room cameras are asked
    return sighting.t_s


def _resampled(seen: MarkerPoints, num_points: int, t_s: np.ndarray, grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A view's tracks of a target at the grid's instants (instants, points, 2), and their standard deviations."""
    inside = seen.where(seen.frame_idx < len(t_s))
    xy = np.full((len(t_s), num_points, 2), np.nan)
    xy[inside.frame_idx, inside.point_idx] = inside.xy_px
    gap = _MAX_FRAME_GAP * float(np.median(np.diff(t_s)))
    # points come and go one by one, so each one's neighbours are looked up by itself
    at = resample(xy, t_s, grid, max_gap_s=gap)
    speed = np.linalg.norm(np.gradient(at, axis=0), axis=-1) * _GRID_HZ if len(grid) > 1 else np.zeros(at.shape[:2])
    detector = float(np.median(inside.sigma_px)) if len(inside) else 1.0
    return at, np.sqrt(detector**2 + _SYSTEMATIC_PX**2 + (np.nan_to_num(speed) * _CLOCK_SIGMA_S) ** 2)


def choose_instants(counts: np.ndarray, max_instants: int) -> np.ndarray:
    """Of (views, instants) point counts, at most `max_instants` instants spread in time: each the best of its stretch.

    An instant is better the more views see the target, and then the more points.
    """
    views = (counts > 0).sum(axis=0)
    score = views + counts.sum(axis=0) / (counts.sum(axis=0).max(initial=0) + 1.0)
    useful = np.flatnonzero(views >= 2)
    stretches = np.array_split(useful, min(max_instants, len(useful))) if len(useful) else []
    return np.array([stretch[score[stretch].argmax()] for stretch in stretches], int)


def _require_connected(
    nodes: _Nodes, sightings: Mapping[str, Sighting], pairs: list[Pair], start: Registration, world: list[str]
) -> None:
    """Refuses a rig some of whose cameras no chain of shared targets reaches."""
    room = {view_id for view_id, sighting in sightings.items() if sighting.t_s is not None}
    lost = [view for view, known in zip(nodes.views, start.image_known, strict=True) if view in room and not known]
    if not lost:
        return
    groups = []
    for group in connected_groups(pairs, len(nodes.views)):
        names = [nodes.views[k] for k in group if nodes.views[k] in room]
        if names:
            groups.append(", ".join(names))
    problem = f"these groups of cameras share no target with each other: {' | '.join(groups)}"
    if len(groups) == 1 or world:
        problem += (
            f"; {', '.join(lost)} {'is' if len(lost) == 1 else 'are'} not connected to {', '.join(world) or 'the rest'}"
        )
    raise GateError(
        lost[0], problem, "carry the marker rig through the space that the groups both see, or hang a board there"
    )


def _describe(
    nodes: _Nodes,
    sightings: Mapping[str, Sighting],
    targets: Mapping[str, Target],
    observations: Observations,
    start: Registration,
    result: BundleResult,
) -> TargetRig:
    room = [k for k, view in enumerate(nodes.views) if sightings[view].t_s is not None]
    poses = result.scene.world_from_cam
    cameras = [Camera(nodes.views[k], sightings[nodes.views[k]].lens, poses[k].inverse()) for k in room]
    still = [k for k, (_, instant) in enumerate(nodes.targets) if instant < 0]
    placed = [k for k in still if start.target_known[k]]
    error = result.error_px
    of_image = observations.image_idx
    used = np.isfinite(error)
    sigma = np.sqrt(np.einsum("nii->ni", result.target_covariance)[:, 3:].max(axis=-1))
    return TargetRig(
        rig=Rig(tuple(cameras)),
        covariance={nodes.views[k]: result.image_covariance[k] for k in room},
        world_from_target={nodes.targets[k][0]: result.scene.world_from_target[k] for k in placed},
        target_sigma_m={nodes.targets[k][0]: float(sigma[k]) for k in placed},
        reprojection_px={nodes.views[k]: float(np.median(error[used & (of_image == k)])) for k in room},
        outliers=float((result.weight[used] < 0.1).mean()),
        behind=_seen_from_behind(nodes, targets, observations, start, result),
        num_photos=int(start.image_known.sum()) - len(room),
        unplaced=tuple(nodes.targets[k][0] for k in still if not start.target_known[k]),
    )


def _seen_from_behind(
    nodes: _Nodes,
    targets: Mapping[str, Target],
    observations: Observations,
    start: Registration,
    result: BundleResult,
) -> dict[str, float]:
    """Share of (image, target) views that have the camera on the far side of a flat print (its z points into it)."""
    count: dict[str, list[bool]] = {}
    pairs = np.unique(np.stack([observations.image_idx, observations.target_idx], axis=-1), axis=0)
    for image, target in pairs:
        name = nodes.targets[target][0]
        if targets[name].kind == "rig" or not (start.image_known[image] and start.target_known[target]):
            continue
        target_from_world = result.scene.world_from_target[target].inverse()
        centre = target_from_world.apply(result.scene.world_from_cam.t[image])
        count.setdefault(name, []).append(bool(centre[2] > 0))
    return {name: float(np.mean(values)) for name, values in count.items()}
