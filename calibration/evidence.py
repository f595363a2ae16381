"""Every point that fixed cameras saw of the targets, laid against a solved rig: what the gates judge it by.

A bundle's own residuals are pooled, thinned and robustly weighted, and so may look well where the rig is wrong. Here
all raw points count again, each at its own time, with the derivatives by everything that could have been otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from calibration.scene import Observations, Scene, reproject
from capture.markers import MarkerPoints
from capture.targets import Target
from core.arrays import Bool, Float, Int
from core.cameras import Rig
from core.transforms import SE3

_MAX_ROWS = 6000  # of one camera and target: evenly thinned in time beyond it
_SYSTEMATIC_PX = 0.08  # detector error that differs from place to place, not from frame to frame
_TIME_STEP_S = 1e-3  # of the numeric derivative by time, over which nobody's hand accelerates


@runtime_checkable
class Way(Protocol):
    """A carried target's way: its pose at any time."""

    def at(self, t_s: Float[np.ndarray, "n"]) -> SE3:
        """`world_from_target` (n,)."""
        ...


@dataclass(frozen=True, eq=False)
class Evidence:
    """Residuals of raw points under a rig, and their derivatives.

    Attributes:
        cameras: names.
        targets: names.
        camera: (n,) index of the camera.
        target: (n,) index of the target.
        frame: (n,) frame of the camera's video.
        panel: (n,) index of the panel on its rig; 0 of other targets.
        t_s: (n,) session time.
        residual_px: (n, 2) predicted minus seen; all finite.
        sigma_px: (n,) standard deviation of a coordinate.
        by_camera: (n, 2, 6) derivative by `world_from_cam`.
        by_target: (n, 2, 6) by `world_from_target`.
        by_panel: (n, 2, 6) by the place of the point's panel on its rig: the same with the shift in the target's frame.
        by_lens: (n, 2, 4) by the logarithm of the focal length, the principal point over the focal length (x, y), and
            the first coefficient of the distortion.
        by_time: (n, 2) by the camera's clock: velocity of the picture, px/s; 0 where the target hangs still.
        by_scale: (n, 2) by the logarithm of the print's size.
        behind: (n,) whether the camera stands on the far side of the point's print, which an opaque print forbids.
        carried: (targets,) whether each is carried.
        held: (targets,) whether each defines the world.
    """

    cameras: tuple[str, ...]
    targets: tuple[str, ...]
    camera: Int[np.ndarray, "n"]
    target: Int[np.ndarray, "n"]
    frame: Int[np.ndarray, "n"]
    panel: Int[np.ndarray, "n"]
    t_s: Float[np.ndarray, "n"]
    residual_px: Float[np.ndarray, "n 2"]
    sigma_px: Float[np.ndarray, "n"]
    by_camera: Float[np.ndarray, "n 2 6"]
    by_target: Float[np.ndarray, "n 2 6"]
    by_panel: Float[np.ndarray, "n 2 6"]
    by_lens: Float[np.ndarray, "n 2 4"]
    by_time: Float[np.ndarray, "n 2"]
    by_scale: Float[np.ndarray, "n 2"]
    behind: Bool[np.ndarray, "n"]
    carried: Bool[np.ndarray, "targets"]
    held: Bool[np.ndarray, "targets"]


def gather_evidence(
    rig: Rig,
    points: Mapping[str, MarkerPoints],
    t_s: Mapping[str, Float[np.ndarray, "frames"]],
    targets: Mapping[str, Target],
    world_from_target: Mapping[str, SE3],
    carried: Mapping[str, Way],
    row_time_s: Mapping[str, float] | None = None,
) -> Evidence:
    """Lays all raw points of located targets against a rig.

    Args:
        rig: solved cameras.
        points: table of each camera's points.
        t_s: frame times of each camera on the session clock, refined where they were.
        targets: by id.
        world_from_target: places of those that hang still.
        carried: ways of those that are carried.
        row_time_s: readout time of a row of each camera with a rolling shutter.
    """
    names = tuple(name for name in targets if name in world_from_target or name in carried)
    rows: list[tuple[np.ndarray, ...]] = []
    poses: list[SE3] = []
    late: list[SE3] = []
    for k, view in enumerate(rig.ids):
        for j, name in enumerate(names):
            seen = _thinned(points[view].of_target(name), len(t_s[view]))
            if not len(seen):
                continue
            time = t_s[view][seen.frame_idx] + (row_time_s or {}).get(view, 0.0) * seen.xy_px[:, 1].astype(float)
            at = carried[name].at(time) if name in carried else _repeat(world_from_target[name], len(seen))
            poses.append(at)
            late.append(carried[name].at(time + _TIME_STEP_S) if name in carried else at)
            point = seen.point_idx.astype(int)
            frame, panel = seen.frame_idx.astype(int), _panels(targets[name])[point]
            index = np.full(len(seen), k), np.full(len(seen), j), frame, panel
            normals = _normals(targets[name])[point]
            places = targets[name].points_m[point]
            rows.append((*index, time, places, seen.xy_px.astype(float), seen.sigma_px.astype(float), normals))
    columns = (np.concatenate(column) for column in zip(*rows, strict=True))
    camera, target, frame, panel, time, X, xy, sigma, normal = columns
    at = SE3(np.concatenate([p.R for p in poses]), np.concatenate([p.t for p in poses]))
    after = SE3(np.concatenate([p.R for p in late]), np.concatenate([p.t for p in late]))
    sigma = np.hypot(sigma, _SYSTEMATIC_PX)
    seen_from = _directions(rig, camera, at, X)
    table = (camera, target, frame, panel, time, X, xy, sigma)
    behind = np.einsum("ni,ni->n", normal, seen_from) > 0
    moving = np.array([name in carried for name in names])
    held = np.array([targets[name].mounting == "world" for name in names])
    return _linearise(rig, names, table, at, after, behind, moving, held)


def _linearise(
    rig: Rig,
    names: tuple[str, ...],
    table: tuple[np.ndarray, ...],
    at: SE3,
    after: SE3,
    behind: np.ndarray,
    carried: np.ndarray,
    held: np.ndarray,
) -> Evidence:
    camera, target, frame, panel, time, X, xy, sigma = table
    cameras = SE3.stack([c.world_from_cam for c in rig])
    seen = Observations(camera, np.arange(len(camera)), X, xy, sigma)
    scene = Scene.fixed_lenses(tuple(c.lens for c in rig), np.arange(len(rig)), cameras, at)
    residual, by_camera, by_target, by_lens = reproject(scene, seen, jacobians=True)
    moved = reproject(Scene.fixed_lenses(scene.lenses, scene.lens_idx, cameras, after), seen)[0]
    # a point of a larger print lies further from its middle: dX = X - middle, in the target's frame
    middle = np.stack([X[target == j].mean(axis=0) if (target == j).any() else np.zeros(3) for j in range(len(names))])
    offset = np.einsum("nij,nj->ni", at.R, X - middle[target])
    by_scale = np.einsum("nij,nj->ni", by_target[:, :, 3:], offset)
    good = np.isfinite(residual).all(axis=-1) & np.isfinite(moved).all(axis=-1)
    lens = _lens_columns(rig, camera, by_lens)
    speed = (moved - residual) / _TIME_STEP_S
    return Evidence(
        cameras=rig.ids,
        targets=names,
        camera=camera[good],
        target=target[good],
        frame=frame[good],
        panel=panel[good],
        t_s=time[good],
        residual_px=residual[good],
        sigma_px=sigma[good],
        by_camera=by_camera[good],
        by_target=by_target[good],
        by_panel=np.concatenate([by_target[..., :3], by_target[..., 3:] @ at.R], axis=-1)[good],
        by_lens=lens[good],
        by_time=speed[good],
        by_scale=by_scale[good],
        behind=behind[good],
        carried=carried,
        held=held,
    )


def _lens_columns(rig: Rig, camera: np.ndarray, by_lens: np.ndarray) -> np.ndarray:
    """Derivatives by the few numbers of a lens that a wrong one shows first, without unit."""
    focal = np.array([c.lens.focal_px for c in rig])[camera][:, None]
    longer = (by_lens[..., :2] * focal).sum(axis=-1, keepdims=True)
    first = by_lens[..., 4:5] if by_lens.shape[-1] > 4 else np.zeros_like(longer)
    return np.concatenate([longer, by_lens[..., 2:4] * focal, first], axis=-1)


def _thinned(seen: MarkerPoints, num_frames: int) -> MarkerPoints:
    """Whole frames of a table, every so many, that lie within the video."""
    seen = seen.where(seen.frame_idx < num_frames)
    frames = np.unique(seen.frame_idx)
    step = int(np.ceil(len(seen) / _MAX_ROWS))
    return seen if step <= 1 else seen.where(np.isin(seen.frame_idx, frames[::step]))


def _repeat(pose: SE3, n: int) -> SE3:
    return SE3(np.broadcast_to(pose.R, (n, 3, 3)), np.broadcast_to(pose.t, (n, 3)))


def _panels(target: Target) -> np.ndarray:
    """(points,) which panel each point is on."""
    return np.concatenate([np.full(part.num_points, k) for k, (part, _) in enumerate(target.parts)])


def _normals(target: Target) -> np.ndarray:
    """(points, 3) direction into the print at each point, in the target's frame."""
    turns = target.placed_panels if target.kind == "rig" else (SE3.identity(),)
    parts = zip(target.parts, turns, strict=True)
    return np.concatenate([np.tile(turn.R[:, 2], (part.num_points, 1)) for (part, _), turn in parts])


def _directions(rig: Rig, camera: np.ndarray, at: SE3, X: np.ndarray) -> np.ndarray:
    """(n, 3) from each point to the camera that saw it, in the target's frame."""
    world = np.einsum("nij,nj->ni", at.R, X) + at.t
    return np.einsum("nji,nj->ni", at.R, rig.centres[camera] - world)
