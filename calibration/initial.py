"""Start values for a bundle: poses of images and targets that share one frame, found along the graph of who sees what.

Every (image, target) pair offers one or two relative poses (`resection.pose_candidates`). A planar flip explains one
picture but not the others, so the graph decides: rotations between images are voted for by all targets they share and
averaged over the graph (`calibration.rotation_averaging`), and candidates that turn their target another way than the
other images do are dropped. Then images are registered one by one, the best connected first; each takes the candidate
that agrees with all registered targets it sees, and targets choose again among the candidates of all registered
images. Errors are chords between directions, so that any lens can take part.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from calibration.resection import pose_candidates, ray_errors
from calibration.rotation_averaging import average_rotations, near_rotation, vote
from calibration.scene import Observations
from core.arrays import Bool, Float, Int
from core.cameras import Lens
from core.transforms import SE3

_CAP_RAD = 0.03  # error at which a point says only "wrong": about 30 px of a camera with a focal length of 1000 px
_MAX_CANDIDATES = 60
_MIN_POINTS = 4  # that fix a pose
_MAX_BALLOTS = 40  # targets that vote for a rotation between two images
_LEAST_LEAD = 1.5  # votes by which a rotation must beat its rivals
_AMBIGUOUS = 0.7  # share of the second pose's error that the first's may be before one picture decides alone
_AGREE_RAD = np.radians(15.0)  # from what a target's images agree on, beyond which a candidate is a flip


@dataclass(frozen=True, eq=False)
class Pair:
    """What one image saw of one target.

    Attributes:
        image: index of the image.
        target: index of the target.
        rows: its observations.
        cam_from_target: candidates, best first.
        weight: (candidates,) how well each explains its picture: 1 for the best.
        trust: number of points, less where the candidates explain them about equally well.
    """

    image: int
    target: int
    rows: Int[np.ndarray, "n"]
    cam_from_target: SE3
    weight: Float[np.ndarray, "candidates"]
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
        weight = np.minimum(errors[0] / np.maximum(errors, 1e-9), 1.0)
        trust = len(rows) * (1 - 0.9 * float(weight[1:].max(initial=0.0)))
        pairs.append(Pair(int(o.image_idx[rows[0]]), int(o.target_idx[rows[0]]), rows, poses, weight, trust))
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
    settled = settle_flips(pairs, num_images)
    return _Registrar(observations, rays, settled, num_images, known_targets).run()


def settle_flips(pairs: list[Pair], num_images: int) -> list[Pair]:
    """The pairs without the candidates that the other images of their target contradict.

    Images are turned into common frames by averaging their voted relative rotations; within each, the images of a
    target vote for its rotation. Where fewer than two images vote, or no rotation wins clearly, all candidates stay.
    """
    R, group = _image_rotations(pairs, num_images)
    kept: list[Pair] = []
    for together in _by(pairs, lambda pair: (pair.target, int(group[pair.image]))):
        if len(together) < 2:
            kept += together
            continue
        turned = np.concatenate([R[pair.image] @ pair.cam_from_target.R for pair in together])
        weight = np.concatenate([pair.weight for pair in together])
        ballot = np.repeat(np.arange(len(together)), [len(pair.weight) for pair in together])
        mean, votes, lead = vote(turned, weight, ballot)
        decided = votes > 1 and lead > 0
        for k, pair in enumerate(together):
            fits = near_rotation(turned[ballot == k], mean, _AGREE_RAD)
            if not decided:
                kept.append(pair)
            elif fits.any():
                some = np.flatnonzero(fits)
                trust = float(len(pair.rows)) if len(some) == 1 else pair.trust
                kept.append(
                    Pair(pair.image, pair.target, pair.rows, pair.cam_from_target[some], pair.weight[some], trust)
                )
    return sorted(kept, key=lambda pair: (pair.image, pair.target))


def _image_rotations(pairs: list[Pair], num_images: int) -> tuple[np.ndarray, np.ndarray]:
    """Rotations of all images, each group that clear votes connect in a frame of its own, and the groups."""
    of_image: list[dict[int, Pair]] = [{} for _ in range(num_images)]
    for pair in pairs:
        of_image[pair.image][pair.target] = pair
    edges, rotations, weights = [], [], []
    for i in range(num_images):
        for j in range(i + 1, num_images):
            common = sorted(of_image[i].keys() & of_image[j].keys())
            if len(common) < 2:
                continue
            step = -(-len(common) // _MAX_BALLOTS)
            R, weight, ballot = _relative_candidates(of_image[i], of_image[j], common[::step])
            mean, _, lead = vote(R, weight, ballot)
            if lead >= _LEAST_LEAD:
                edges.append((i, j))
                rotations.append(mean)
                weights.append(lead)
    return average_rotations(
        num_images, np.array(edges, int).reshape(-1, 2), np.array(rotations).reshape(-1, 3, 3), np.array(weights, float)
    )


def _relative_candidates(
    one: dict[int, Pair], other: dict[int, Pair], common: list[int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rotations `i_from_j` from all candidates of common targets, their weights, and the target that offers each."""
    rotations, weights, ballots = [], [], []
    for ballot, target in enumerate(common):
        a, b = one[target], other[target]
        R = a.cam_from_target.R[:, None] @ np.swapaxes(b.cam_from_target.R, -1, -2)[None]
        rotations.append(R.reshape(-1, 3, 3))
        weights.append((a.weight[:, None] * b.weight).ravel())
        ballots.append(np.full(len(weights[-1]), ballot))
    return np.concatenate(rotations), np.concatenate(weights), np.concatenate(ballots)


def _by(pairs: list[Pair], key: Callable[[Pair], tuple[int, int]]) -> list[list[Pair]]:
    groups: dict[tuple[int, int], list[Pair]] = {}
    for pair in pairs:
        groups.setdefault(key(pair), []).append(pair)
    return list(groups.values())


def place_targets(
    observations: Observations,
    rays: Float[np.ndarray, "n 3"],
    pairs: list[Pair],
    world_from_cam: SE3,
    num_targets: int,
) -> tuple[SE3, Float[np.ndarray, "targets"]]:
    """Poses of targets that known images see, and the median chord of each: the candidate that agrees best with all.

    Images with NaN poses do not count. A target without candidates, or one that a single image sees so that both its
    poses explain the picture, is NaN.
    """
    R, t = np.full((num_targets, 3, 3), np.nan), np.full((num_targets, 3), np.nan)
    error = np.full(num_targets, np.nan)
    known = np.isfinite(world_from_cam.t[:, 0])
    for together in _by([pair for pair in pairs if known[pair.image]], lambda pair: (pair.target, 0)):
        if len(together) == 1 and together[0].weight[1:].max(initial=0.0) > _AMBIGUOUS:
            continue
        pose, chord = _agreeing(observations, rays, together, world_from_cam)
        target = together[0].target
        R[target], t[target], error[target] = pose.R, pose.t, float(np.median(chord))
    return SE3(R, t), error


def _agreeing(
    o: Observations, rays: np.ndarray, pairs: list[Pair], world_from_cam: SE3
) -> tuple[SE3, Float[np.ndarray, "n"]]:
    """The candidate pose of one target that agrees best with all images, and its chords."""
    poses = SE3.stack([world_from_cam[pair.image] @ pose for pair in pairs for pose in _each(pair.cam_from_target)])
    rows = np.concatenate([pair.rows for pair in pairs])
    camera = world_from_cam[o.image_idx[rows]]
    world = np.einsum("cij,nj->cni", poses.R, o.points_m[rows]) + poses.t[:, None]
    points = np.einsum("nji,cnj->cni", camera.R, world - camera.t)
    chord = ray_errors(points, rays[rows][None])
    best = int(np.minimum(chord, _CAP_RAD).mean(axis=-1).argmin())
    return poses[best], chord[best]


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
        return _agreeing(self.o, self.rays, pairs, SE3(self.image_R, self.image_t))[0]
