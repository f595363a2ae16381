"""Detected people as rays in the room.

Who is who is decided on a dozen joints of trunk and limbs, which every skeleton has; faces and toes would count the
head and the feet many times. Distances are taken from rays, in metres in the room: a metre is a metre in every lens,
near and far, where a pixel is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from capture.keypoints import Keypoints2d
from core.arrays import Bool, Float, Int
from core.cameras import Camera, Rig
from core.skeletons import Skeleton

_SIDED = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
_PARTS = ("nose", "head", *(f"{side}_{part}" for part in _SIDED for side in ("left", "right")))
MIN_JOINTS = 2  # fewer say nothing about whose they are
_CELLS = 160  # of a table of rays along the picture's longer side: interpolated between, rays err by under 0.1 px
_MARGIN = 0.1  # of the picture's size, by which detectors place joints outside of it


def body_of(skeleton: Skeleton) -> Skeleton:
    """The joints of a skeleton by which people are told apart, as a skeleton of their own."""
    joints = tuple(part for part in _PARTS if part in skeleton.joints)
    return Skeleton(skeleton.name, joints, ())


@dataclass(frozen=True, eq=False)
class Sight:
    """Detections as rays, of all views at one instant or of one view at many.

    Attributes:
        centre: (views, 3) where the rays begin, metres in the world; of one view one place.
        direction: (batch, people, joints, 3) unit vectors in the world; zero where not seen.
        weight: (batch, people, joints) score, 0 to 1; 0 where not seen.
    """

    centre: Float[np.ndarray, "views 3"]
    direction: Float[np.ndarray, "batch people joints 3"]
    weight: Float[np.ndarray, "batch people joints"]


class RayTable:
    """Rays of a camera on a grid of pixels, in the world, interpolated between: a lens is inverted once for all frames.

    Args:
        camera: the camera.
    """

    def __init__(self, camera: Camera) -> None:
        width, height = camera.lens.size_px
        self._step = max(width, height) / _CELLS
        self._low = -_MARGIN * np.array([width, height])
        cells = np.ceil((1 + 2 * _MARGIN) * np.array([width, height]) / self._step).astype(int)
        x, y = (low + self._step * np.arange(n + 1) for low, n in zip(self._low, cells, strict=True))
        px = np.stack(np.meshgrid(x, y), axis=-1)
        self._shape = cells[::-1]
        self._rays = camera.lens.unproject(px) @ camera.world_from_cam.R.T

    def directions(self, px: Float[np.ndarray, "*n 2"]) -> Float[np.ndarray, "*n 3"]:
        """Unit vectors in the world through pixels; NaN outside of what the lens sees, and far off the picture."""
        u = (px - self._low) / self._step
        with np.errstate(invalid="ignore"):
            inside = np.asarray(((u >= 0) & (u < self._shape[::-1])).all(axis=-1))
        u = np.where(inside[..., None], u, 0.0)
        cell = u.astype(np.intp)
        fx, fy = np.moveaxis((u - cell)[..., None, :], -1, 0)
        column, row = cell[..., 0], cell[..., 1]
        upper = (1 - fx) * self._rays[row, column] + fx * self._rays[row, column + 1]
        lower = (1 - fx) * self._rays[row + 1, column] + fx * self._rays[row + 1, column + 1]
        ray = (1 - fy) * upper + fy * lower
        length = np.sqrt((ray * ray).sum(axis=-1, keepdims=True))
        return np.where(inside[..., None], ray / length, np.nan)


@dataclass(frozen=True, eq=False)
class Watcher:
    """One view: its camera, its frame times on the session clock, and whom it saw.

    Attributes:
        camera: in the world.
        table: its rays.
        t_s: (frames,) increasing.
        found: people of each frame.
        joint_idx: positions of the joints of `body_of` in the detector's skeleton.
    """

    camera: Camera
    table: RayTable
    t_s: Float[np.ndarray, "frames"]
    found: Keypoints2d
    joint_idx: Int[np.ndarray, "joints"]

    def sight(self, frames: Int[np.ndarray, "n"]) -> Sight:
        """Rays of some frames; people of too few joints are not seen."""
        xy = self.found.xy_px[frames][:, :, self.joint_idx].astype(float)
        weight = self.found.score[frames][:, :, self.joint_idx].astype(float)
        direction = self.table.directions(xy)
        seen = np.isfinite(direction[..., 0]) & (weight > 0)
        seen &= seen.sum(axis=-1, keepdims=True) >= MIN_JOINTS
        weight = np.where(seen, np.minimum(weight, 1.0), 0.0)
        return Sight(self.camera.centre[None], np.where(seen[..., None], direction, 0.0), weight)

    @property
    def seen(self) -> Bool[np.ndarray, "frames people"]:
        """Where there is a detection of enough joints to say whose it is."""
        return np.asarray(self.found.valid[:, :, self.joint_idx].sum(axis=-1) >= MIN_JOINTS)

    def nearest(self, t_s: Float[np.ndarray, "n"], reach_s: float) -> tuple[Int[np.ndarray, "n"], np.ndarray]:
        """The frame nearest to each instant and how much later it is; NaN where none lies within `reach_s`."""
        right = np.clip(np.searchsorted(self.t_s, t_s), 0, len(self.t_s) - 1)
        left = np.maximum(right - 1, 0)
        frame = np.where(t_s - self.t_s[left] < self.t_s[right] - t_s, left, right)
        late = self.t_s[frame] - t_s
        return frame, np.where(np.abs(late) <= reach_s, late, np.nan)


def watchers_of(rig: Rig, found: Sequence[Keypoints2d], t_s: Sequence[Float[np.ndarray, "_"]]) -> list[Watcher]:
    """The views of a rig with what they saw, in order."""
    body = body_of(found[0].skeleton)
    idx = np.array([found[0].skeleton.idx(joint) for joint in body.joints])
    return [
        Watcher(camera, RayTable(camera), times, keypoints, idx)
        for camera, keypoints, times in zip(rig, found, t_s, strict=True)
    ]


def sights_at(
    watchers: Sequence[Watcher], t_s: Float[np.ndarray, "instants"], step_s: float
) -> tuple[list[Sight], Float[np.ndarray, "instants views"]]:
    """What all views saw at some instants, each in its nearest frame.

    Args:
        watchers: the views.
        t_s: instants.
        step_s: distance of the instants; a frame farther off than half of it, or than half of the view's own frame
            interval, is not taken.

    Returns:
        a sight over the views for each instant, and how much later each view's frame was; NaN where it has none.
    """
    people = max(watcher.found.num_people for watcher in watchers)
    joints = len(watchers[0].joint_idx)
    direction = np.zeros((len(t_s), len(watchers), people, joints, 3))
    weight = np.zeros(direction.shape[:-1])
    late = np.full((len(t_s), len(watchers)), np.nan)
    for v, watcher in enumerate(watchers):
        if not len(watcher.t_s):
            continue
        interval = float(np.median(np.diff(watcher.t_s))) if len(watcher.t_s) > 1 else step_s
        frame, late[:, v] = watcher.nearest(t_s, 0.51 * max(step_s, interval))
        known = np.flatnonzero(np.isfinite(late[:, v]))
        seen = watcher.sight(frame[known])
        direction[known, v, : watcher.found.num_people] = seen.direction
        weight[known, v, : watcher.found.num_people] = seen.weight
    centre = np.stack([watcher.camera.centre for watcher in watchers])
    return [Sight(centre, d, w) for d, w in zip(direction, weight, strict=True)], late
