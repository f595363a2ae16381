"""Start values for a bundle: poses of images and targets that share one frame, found along the graph of who sees what.

Every (image, target) pair offers one or two relative poses (`resection.pose_candidates`). Images are registered one by
one, the best connected first; each takes the candidate that agrees with all registered targets it sees, and targets
then choose again among the candidates of all registered images. A planar flip explains one picture but not the others,
so the graph decides it. Errors are chords between directions, so that any lens can take part.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calibration.resection import pose_candidates, ray_errors
from calibration.scene import Observations
from core.arrays import Bool, Float, Int
from core.cameras import Lens
from core.transforms import SE3

_CAP_RAD = 0.03  # error at which a point says only "wrong": about 30 px of a camera with a focal length of 1000 px
_MAX_CANDIDATES = 60
_MIN_POINTS = 4  # that fix a pose


@dataclass(frozen=True, eq=False)
class Pair:
    """What one image saw of one target.

    Attributes:
        image: index of the image.
        target: index of the target.
        rows: its observations.
        cam_from_target: candidates, best first.
        trust: number of points, less where the candidates explain them about equally well.
    """

    image: int
    target: int
    rows: Int[np.ndarray, "n"]
    cam_from_target: SE3
    trust: float


@dataclass(frozen=True, eq=False)
class Registration:
    """Start poses; those of unregistered nodes are NaN.

    Attributes:
        world_from_cam: (images,).
        world_from_target: (targets,).
        image_known: (images,) registered.
        target_known: (targets,) registered.
    """

    world_from_cam: SE3
    world_from_target: SE3
    image_known: Bool[np.ndarray, "images"]
    target_known: Bool[np.ndarray, "targets"]


def observed_rays(lenses: tuple[Lens, ...], lens_idx: np.ndarray, observations: Observations) -> np.ndarray:
    """Unit rays (n, 3) of observations in their cameras."""
    rays = np.full((len(observations), 3), np.nan)
    lens_of_row = lens_idx[observations.image_idx]
    for k, lens in enumerate(lenses):
        rows = lens_of_row == k
        rays[rows] = lens.unproject(observations.xy_px[rows])
    return rays


def find_pairs(observations: Observations, rays: Float[np.ndarray, "n 3"]) -> list[Pair]:
    """All (image, target) pairs that fix a relative pose, with its candidates."""
    o = observations
    order = np.lexsort((o.target_idx, o.image_idx))
    order = order[np.isfinite(rays[order, 0])]
    key = o.image_idx[order] * (o.target_idx.max(initial=0) + 1) + o.target_idx[order]
    pairs = []
    for rows in np.split(order, np.flatnonzero(np.diff(key)) + 1):
        if len(rows) < _MIN_POINTS:
            continue
        candidates = pose_candidates(o.points_m[rows], rays[rows])
        if not candidates:
            continue
        poses = SE3.stack(candidates)
        errors = _errors(poses, o, rays, rows)
        ambiguity = errors[0] / max(errors[1], 1e-9) if len(errors) > 1 else 0.0
        trust = len(rows) * (1 - 0.9 * min(ambiguity, 1.0))
        pairs.append(Pair(int(o.image_idx[rows[0]]), int(o.target_idx[rows[0]]), rows, poses, trust))
    return pairs


def register(
    observations: Observations,
    rays: Float[np.ndarray, "n 3"],
    pairs: list[Pair],
    num_images: int,
    known_targets: dict[int, SE3],
) -> Registration:
    """Poses of all images and targets connected to the known targets, or, without any, to the best connected image.

    Args:
        observations: what was seen.
        rays: their unit rays.
        pairs: relative poses (`find_pairs`).
        num_images: number of images.
        known_targets: world poses of targets that define the world; empty to put it into the first image.
    """
    return _Registrar(observations, rays, pairs, num_images, known_targets).run()


def connected_groups(pairs: list[Pair], num_images: int) -> list[list[int]]:
    """Images that see common targets, directly or through others, as groups; the largest first."""
    label = np.arange(num_images)
    by_target: dict[int, int] = {}
    for pair in pairs:
        other = by_target.setdefault(pair.target, pair.image)
        label[label == label[pair.image]] = label[other]
    groups = [np.flatnonzero(label == value).tolist() for value in np.unique(label)]
    return sorted(groups, key=lambda group: (-len(group), group[0]))


def _errors(cam_from_target: SE3, o: Observations, rays: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Root mean square chord of each candidate (candidates,)."""
    points = np.einsum("cij,nj->cni", cam_from_target.R, o.points_m[rows]) + cam_from_target.t[:, None]
    return np.sqrt((ray_errors(points, rays[rows][None]) ** 2).mean(axis=-1))


def _each(poses: SE3) -> list[SE3]:
    return [poses[k] for k in range(len(poses))]


class _Registrar:
    """Grows the registered part of the graph until nothing connects to it any more."""

    def __init__(
        self,
        observations: Observations,
        rays: np.ndarray,
        pairs: list[Pair],
        num_images: int,
        known_targets: dict[int, SE3],
    ) -> None:
        self.o, self.rays = observations, rays
        num_targets = int(observations.target_idx.max(initial=-1)) + 1
        self.image_R, self.image_t = np.full((num_images, 3, 3), np.nan), np.full((num_images, 3), np.nan)
        self.target_R, self.target_t = np.full((num_targets, 3, 3), np.nan), np.full((num_targets, 3), np.nan)
        self.image_known, self.target_known = np.zeros(num_images, bool), np.zeros(num_targets, bool)
        self.held = set(known_targets)
        self.of_image: list[list[Pair]] = [[] for _ in range(num_images)]
        self.of_target: list[list[Pair]] = [[] for _ in range(num_targets)]
        for pair in pairs:
            self.of_image[pair.image].append(pair)
            self.of_target[pair.target].append(pair)
        for target, pose in known_targets.items():
            self._set_target(target, pose)

    def run(self) -> Registration:
        first = -1
        if not self.held:
            first = int(np.argmax([sum(pair.trust for pair in pairs) for pairs in self.of_image]))
            self._set_image(first, SE3.identity())
            self._choose_targets(first)
        while (image := self._best_connected()) is not None:
            self._set_image(image, self._choose_image(image))
            self._choose_targets(image)
        known = [int(k) for k in np.flatnonzero(self.image_known)]
        for k in known:  # everything is known now: each may reconsider once, except the image that holds the frame
            if self.held or k != first:
                self._set_image(k, self._choose_image(k))
            self._choose_targets(k)
        return Registration(
            SE3(self.image_R, self.image_t), SE3(self.target_R, self.target_t), self.image_known, self.target_known
        )

    def _set_image(self, image: int, world_from_cam: SE3) -> None:
        self.image_R[image], self.image_t[image], self.image_known[image] = world_from_cam.R, world_from_cam.t, True

    def _set_target(self, target: int, world_from_target: SE3) -> None:
        self.target_R[target], self.target_t[target] = world_from_target.R, world_from_target.t
        self.target_known[target] = True

    def _best_connected(self) -> int | None:
        """The unregistered image with the most trust in registered targets."""
        trust = np.zeros(len(self.of_image))
        for image in np.flatnonzero(~self.image_known):
            trust[image] = sum(pair.trust for pair in self.of_image[image] if self.target_known[pair.target])
        return int(trust.argmax()) if trust.max(initial=0) > 0 else None

    def _choose_image(self, image: int) -> SE3:
        """The candidate pose of an image that agrees best with all registered targets it sees."""
        pairs = [pair for pair in self.of_image[image] if self.target_known[pair.target]]
        pairs = sorted(pairs, key=lambda pair: -pair.trust)[:_MAX_CANDIDATES]
        candidates = [
            SE3(self.target_R[pair.target], self.target_t[pair.target]) @ pose.inverse()
            for pair in pairs
            for pose in _each(pair.cam_from_target)
        ]
        rows = np.concatenate([pair.rows for pair in pairs])
        target = self.o.target_idx[rows]
        world = np.einsum("nij,nj->ni", self.target_R[target], self.o.points_m[rows]) + self.target_t[target]
        poses = SE3.stack(candidates)
        points = np.einsum("cji,cnj->cni", poses.R, world[None] - poses.t[:, None])
        cost = np.minimum(ray_errors(points, self.rays[rows][None]), _CAP_RAD).mean(axis=-1)
        return candidates[int(cost.argmin())]

    def _choose_targets(self, image: int) -> None:
        """Lets the targets seen by an image choose among the candidates of all registered images."""
        for pair in self.of_image[image]:
            if pair.target not in self.held:
                self._set_target(pair.target, self._choose_target(pair.target))

    def _choose_target(self, target: int) -> SE3:
        pairs = [pair for pair in self.of_target[target] if self.image_known[pair.image]]
        pairs = sorted(pairs, key=lambda pair: -pair.trust)[:_MAX_CANDIDATES]
        candidates = [
            SE3(self.image_R[pair.image], self.image_t[pair.image]) @ pose
            for pair in pairs
            for pose in _each(pair.cam_from_target)
        ]
        rows = np.concatenate([pair.rows for pair in pairs])
        poses, image = SE3.stack(candidates), self.o.image_idx[rows]
        world = np.einsum("cij,nj->cni", poses.R, self.o.points_m[rows]) + poses.t[:, None]
        points = np.einsum("nji,cnj->cni", self.image_R[image], world - self.image_t[image])
        cost = np.minimum(ray_errors(points, self.rays[rows][None]), _CAP_RAD).mean(axis=-1)
        return candidates[int(cost.argmin())]
