"""Several stick figures before the cameras of a room, with the truth of who is who in every detection.

People stand in each other's way: joints behind somebody else are found worse, or not, or on the one in front; whoever
is hidden almost wholly is mostly not found. Detectors list people in any order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import gaussian_filter1d

from capture.keypoints import Keypoints2d
from core.arrays import Float, Int
from core.cameras import Camera, Lens, Rig
from core.skeletons import BODY_25
from core.transforms import SE3
from simulation.detector import DetectorConfig, detect
from simulation.stick_person import Way, person_on_way

_RADIUS_M = 0.18  # of a body that hides others
_HIDDEN_LOST = (0.75, 0.8)  # whoever is hidden to this share is not found, with this probability
_KEEP_M = 0.55  # people keep so far apart where nothing brings them together
_STOLEN = 0.25  # share of hidden joints found on the one in front


@dataclass(frozen=True)
class Walker:
    """Somebody, or the picture of somebody.

    Attributes:
        way: place and direction at any time.
        stature_m: height.
        views: the views that can see them, all if None: a reflection is seen by one.
        still: never moves a limb, as a poster.
        spans_s: when they are there; always if None.
        mirrored: left and right exchanged, as in a mirror.
    """

    way: Way
    stature_m: float = 1.7
    views: tuple[int, ...] | None = None
    still: bool = False
    spans_s: Sequence[Sequence[float | int]] | None = None
    mirrored: bool = False

    def joints_at(self, t_s: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n joints 3"]:
        """Joints of BODY_25, metres in the world; NaN while not there."""
        joints = person_on_way(np.zeros(len(t_s)) if self.still else t_s, self.way, self.stature_m)
        if self.mirrored:
            joints = joints[:, BODY_25.swap_idx]
        if self.spans_s is None:
            return joints
        there = np.zeros(len(t_s), dtype=bool)
        for first, last in self.spans_s:
            there |= (t_s >= first) & (t_s <= last)
        return np.where(there[:, None, None], joints, np.nan)


@dataclass(frozen=True, eq=False)
class Crowd:
    """A recording of several people.

    Attributes:
        rig: the cameras.
        found: detections of each view.
        t_s: frame times of each view.
        truth: for each view (frames, people) the walker that each detection shows; -1 for an empty row.
        walkers: everybody.
    """

    rig: Rig
    found: tuple[Keypoints2d, ...]
    t_s: tuple[Float[np.ndarray, "_"], ...]
    truth: tuple[Int[np.ndarray, "_ _"], ...]
    walkers: tuple[Walker, ...]


def route(knots: Sequence[Sequence[float | int]]) -> Way:
    """A way through (t_s, x, y, heading in radians), held before and after."""
    t, x, y, heading = np.array(knots, dtype=float).T
    place, turn = PchipInterpolator(t, np.stack([x, y], axis=-1)), PchipInterpolator(t, np.unwrap(heading))

    def way(t_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        at = np.clip(t_s, t[0], t[-1])
        xy, angle, none = place(at), turn(at), np.zeros(len(at))
        return np.column_stack([xy, none]), np.stack([np.cos(angle), np.sin(angle), none], axis=-1)

    return way


def wandering(rng: np.random.Generator, duration_s: float, reach_m: float = 1.8, step_s: float = 2.0) -> Way:
    """A random way about the middle of the room, at about 1 m/s."""
    count = int(duration_s / step_s) + 2
    xy = rng.uniform(-reach_m, reach_m, (count, 2))
    for n in range(1, count):
        leg = xy[n] - xy[n - 1]
        xy[n] = xy[n - 1] + leg * min(1.0, 1.2 * step_s / float(np.hypot(*leg)))
    heading = np.arctan2(*np.diff(xy, axis=0, append=xy[:1]).T[::-1])
    return route([(step_s * n, *xy[n], heading[n]) for n in range(count)])


def wandering_together(rng: np.random.Generator, num: int, duration_s: float, reach_m: float = 1.8) -> list[Way]:
    """Random ways of several people who go round each other: nobody walks through anybody."""
    t = np.arange(0, duration_s + 0.2, 0.2)
    place = np.stack([wandering(rng, duration_s, reach_m)(t)[0][:, :2] for _ in range(num)])
    for _ in range(100):
        apart = place[:, None] - place
        distance = np.linalg.norm(apart, axis=-1) + np.eye(num)[..., None]
        push = np.maximum(_KEEP_M - distance, 0.0) / (2 * np.maximum(distance, 0.01))
        place = place + (push[..., None] * apart).sum(axis=1)
        place = gaussian_filter1d(place, 0.5, axis=1, mode="nearest")
    ahead = gaussian_filter1d(np.gradient(place, axis=1), 3.0, axis=1, mode="nearest")  # nobody spins
    heading = np.arctan2(ahead[..., 1], ahead[..., 0])
    return [route(np.column_stack([t, xy, turn]).tolist()) for xy, turn in zip(place, heading, strict=True)]


def ring_of_cameras(num: int, radius_m: float = 4.5, size_px: tuple[int, int] = (1280, 720)) -> Rig:
    """Distorting cameras around the middle of the room, high and low in turn, the whole room in their pictures.

    Two stand at a right angle: opposite each other they would not tell how far anybody between them is.
    """
    cameras = []
    for i, angle in enumerate(0.2 + 2 * np.pi * np.arange(num) / (4 if num == 2 else num)):
        centre = np.array([radius_m * np.cos(angle), radius_m * np.sin(angle), 2.4 if i % 2 else 1.5])
        z = np.array([0, 0, 0.9]) - centre
        z /= np.linalg.norm(z)
        x = np.cross(z, [0, 0, 1.0])
        x /= np.linalg.norm(x)
        R = np.stack([x, np.cross(z, x), z])
        focal, middle = 0.6 * size_px[0], (size_px[0] / 2, size_px[1] / 2)
        lens = Lens("radtan", size_px, (focal, focal), middle, (-0.1, 0.02, 0.001, -0.001, 0.0))
        cameras.append(Camera(f"cam{i}", lens, SE3(R, -R @ centre)))
    return Rig(tuple(cameras))


def record_crowd(
    rng: np.random.Generator,
    rig: Rig,
    walkers: Sequence[Walker],
    t_s: Sequence[Float[np.ndarray, "_"]],
    detector: DetectorConfig | None = None,
    mixing: float = 0.02,
) -> Crowd:
    """What a detector finds of the walkers in every frame of every view.

    Args:
        rng: every error and every order.
        rig: the cameras.
        walkers: everybody.
        t_s: frame times of each view on the session clock.
        detector: its errors.
        mixing: probability that the detector lists people in another order from a frame on.
    """
    found, truth = [], []
    for view, (camera, times) in enumerate(zip(rig, t_s, strict=True)):
        keypoints, who = _detections(rng, view, camera, walkers, times, detector or DetectorConfig(), mixing)
        found.append(keypoints)
        truth.append(who)
    return Crowd(rig, tuple(found), tuple(t_s), tuple(truth), tuple(walkers))


def _detections(
    rng: np.random.Generator, view: int, camera: Camera, walkers: Sequence[Walker], t_s: np.ndarray,
    config: DetectorConfig, mixing: float,
) -> tuple[Keypoints2d, np.ndarray]:  # fmt: skip
    joints = [walker.joints_at(t_s) for walker in walkers]
    true_px = [camera.project(xyz) for xyz in joints]
    xy, score, who = [], [], []
    for number, walker in enumerate(walkers):
        if walker.views is not None and view not in walker.views:
            continue
        px = true_px[number].copy()
        hidden = np.zeros(px.shape[:2], dtype=bool)
        for other, rival in enumerate(walkers):
            if other != number and (rival.views is None or view in rival.views):
                behind = _is_behind(camera.centre, joints[number], joints[other], rival.stature_m)
                stolen = behind & (rng.random(behind.shape) < _STOLEN)
                px[stolen] = true_px[other][stolen]
                hidden |= behind
        one, its = detect(rng, px, hidden, BODY_25, camera.lens.size_px, config)
        share, chance = _HIDDEN_LOST
        lost = (hidden.mean(axis=1) > share) & (rng.random(len(t_s)) < chance)
        lost |= ~np.isfinite(joints[number][:, 0, 0])
        xy.append(np.where(lost[:, None, None], np.nan, one))
        score.append(np.where(lost[:, None], 0.0, its))
        who.append(np.where((score[-1] > 0).any(axis=1), number, -1))
    if not xy:
        shape = (len(t_s), 0, len(BODY_25))
        return Keypoints2d(np.zeros((*shape, 2), np.float32), np.zeros(shape, np.float32), BODY_25), np.zeros(
            shape[:2], dtype=int
        )
    since = np.maximum.accumulate(np.where(rng.random(len(t_s)) < mixing, np.arange(len(t_s)), 0))
    order = rng.permuted(np.tile(np.arange(len(xy)), (len(t_s), 1)), axis=1)[since]
    rows = np.arange(len(t_s))[:, None]
    points = np.stack(xy, axis=1)[rows, order].astype(np.float32)
    scores = np.stack(score, axis=1)[rows, order].astype(np.float32)
    return Keypoints2d(points, scores, BODY_25), np.stack(who, axis=1)[rows, order]


def _is_behind(centre: np.ndarray, joints: np.ndarray, other: np.ndarray, stature_m: float) -> np.ndarray:
    """Which joints (frames, joints) a body, an upright cylinder, hides from a camera."""
    middle = other[:, BODY_25.idx("mid_hip"), None, :2]
    ray = joints - centre
    along = ((middle - centre[:2]) * ray[..., :2]).sum(axis=-1) / (ray[..., :2] ** 2).sum(axis=-1)
    nearest = centre + np.clip(along, 0, 1)[..., None] * ray
    beside = np.linalg.norm(nearest[..., :2] - middle, axis=-1)
    before = along * np.linalg.norm(ray[..., :2], axis=-1) < np.linalg.norm(ray[..., :2], axis=-1) - 0.1
    return np.asarray((beside < _RADIUS_M) & before & (nearest[..., 2] < stature_m))
