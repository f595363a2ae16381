"""How a set of pictures of flat targets can be read: every planar pose is kept until the whole graph decides.

A flat target, and above all a single marker, has two poses that explain one picture almost equally well. Pictures and
targets are therefore placed one after another in several readings at once, a beam search; each reading is scored after
a joint adjustment of all that it holds, and those much worse than the best are given up. What the remaining readings
disagree on, the pictures do not tell. Pictures that only located targets connect do not depend on each other, so each
connected component is read by itself.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from calibration.bundle import BundleConfig
from calibration.initial import Pair
from calibration.joint_bundle import JointPrior, JointResult, solve_joint
from calibration.resection import ray_errors
from calibration.scene import LensPrior, Observations, PosePrior, Scene
from core.arrays import Bool, Float, Int
from core.cameras import Lens
from core.transforms import SE3

MARGIN = 25.0  # score by which a reading must be worse than the best to be given up: odds of 1 to 250,000
_EARLY = 60.0  # the same while pictures are still missing
_VOTE = 200.0  # score at which a pair says only "wrong": many corners of one target weigh no more than a few of another
_ROUGH = BundleConfig(max_iterations=8, tolerance=1e-4)  # of an adjustment that only ranks readings
_WIDTH = 32  # readings kept at once
_BRANCHES = 4  # ways to place one picture or target
_SAME = 0.01  # radians and metres: readings nearer than this are one
_CAP_RAD = 0.03  # error at which a candidate says only "wrong"
_SLACK_RAD = 0.002  # how much worse than the best a candidate may be before the adjustment


@dataclass(frozen=True, eq=False)
class Pictures:
    """What was seen, and what is known beforehand.

    Attributes:
        lenses: distinct lenses.
        lens_idx: (images,) lens of each image.
        observations: image points.
        rays: (n, 3) their unit rays.
        pairs: relative poses of images and targets (`initial.find_pairs`).
        prior: what is known of located targets; None if nothing.
        pose_prior: what is known of images (room cameras), over all images; None if nothing.
        held: (targets,) targets whose poses are exact.
        lens_prior: what is known of the lenses; None to take them as exact.
    """

    lenses: tuple[Lens, ...]
    lens_idx: Int[np.ndarray, "images"]
    observations: Observations
    rays: Float[np.ndarray, "n 3"]
    pairs: tuple[Pair, ...]
    prior: JointPrior | None
    pose_prior: PosePrior | None
    held: Bool[np.ndarray, "targets"]
    lens_prior: LensPrior | None = None

    def without(self, rows: Bool[np.ndarray, "n"]) -> Pictures:
        """The same without some observations and the pairs they belong to."""
        new = np.cumsum(~rows) - 1
        pairs = [dataclasses.replace(p, rows=new[p.rows]) for p in self.pairs if not rows[p.rows].any()]
        return dataclasses.replace(
            self, observations=self.observations[~rows], rays=self.rays[~rows], pairs=tuple(pairs)
        )


@dataclass(frozen=True, eq=False)
class Reading:
    """Poses of images and targets; NaN where unknown."""

    world_from_cam: SE3
    world_from_target: SE3
    score: float = 0.0

    @property
    def image_known(self) -> Bool[np.ndarray, "images"]:
        """Images that have a pose."""
        return np.isfinite(self.world_from_cam.t[:, 0])

    @property
    def target_known(self) -> Bool[np.ndarray, "targets"]:
        """Targets that have a pose."""
        return np.isfinite(self.world_from_target.t[:, 0])

    def with_nodes(self, images: Sequence[int], cams: SE3, targets: Sequence[int], poses: SE3) -> Reading:
        """The same with some poses set."""
        return Reading(_with(self.world_from_cam, images, cams), _with(self.world_from_target, targets, poses))


def _with(poses: SE3, index: Sequence[int], new: SE3) -> SE3:
    R, t = poses.R.copy(), poses.t.copy()
    R[list(index)], t[list(index)] = new.R, new.t
    return SE3(R, t)


@dataclass(frozen=True, eq=False)
class Rival:
    """Another reading of the pictures, complete, that differs from the best in one component or in one target.

    Attributes:
        reading: its poses.
        excess: by how much its score is worse than the best one's.
    """

    reading: Reading
    excess: float


@dataclass(frozen=True, eq=False)
class Readings:
    """All readings of the pictures that stand.

    Attributes:
        best: the best one; its components are adjusted one by one, not together.
        rivals: the others.
        skipped: images given up because they multiplied the readings without deciding anything.
    """

    best: Reading
    rivals: tuple[Rival, ...]
    skipped: tuple[int, ...]


def read_pictures(pictures: Pictures, start: Reading) -> Readings:
    """Places everything that is connected to what `start` knows."""
    best, rivals, skipped = start, list[Rival](), list[int]()
    for images, targets in _components(pictures, start):
        component = _Component(pictures, start, images, targets)
        first, others = component.read()
        skipped += sorted(component.postponed & set(images))
        rivals = [Rival(_merge(r.reading, first, images, targets), r.excess) for r in rivals]
        rivals += [Rival(_merge(best, other.reading, images, targets), other.excess) for other in others]
        best = _merge(best, first, images, targets)
    return Readings(best, tuple(rivals), tuple(skipped))


def adjust(
    pictures: Pictures,
    reading: Reading,
    images: Int[np.ndarray, "i"],
    targets: Int[np.ndarray, "t"],
    *,
    scale: Float[np.ndarray, "n"] | None = None,
    config: BundleConfig | None = None,
    whole: bool = False,
) -> tuple[Reading, JointResult, Int[np.ndarray, "nodes"], Int[np.ndarray, "rows"]]:
    """Adjusts some images and targets of a reading together, with all located targets.

    Args:
        pictures: what was seen.
        reading: start poses, known for all of them.
        images: images to adjust.
        targets: targets to adjust; those of the prior are added.
        scale: (n,) factors of the observations' standard deviations.
        config: settings of the adjustment.
        whole: put located targets too where the solution has them, and let lenses give way as far as they are unsure.

    Returns:
        The adjusted reading with its score, the solution, its targets (`targets` and all located ones, ascending), and
        the observations it used.
    """
    p, o = pictures, pictures.observations
    located = p.prior.target_idx if p.prior is not None else np.zeros(0, int)
    nodes = np.union1d(targets, np.union1d(located, np.flatnonzero(p.held))).astype(int)
    place_i, place_t = _places(images, len(p.lens_idx)), _places(nodes, len(reading.world_from_target))
    rows = np.flatnonzero((place_i[o.image_idx] >= 0) & (place_t[o.target_idx] >= 0))
    seen = o[rows]
    sigma = seen.sigma_px if scale is None else seen.sigma_px * scale[rows]
    seen = dataclasses.replace(
        seen, image_idx=place_i[seen.image_idx], target_idx=place_t[seen.target_idx], sigma_px=sigma
    )
    scene = Scene.fixed_lenses(
        p.lenses,
        p.lens_idx[images],
        reading.world_from_cam[images],
        reading.world_from_target[nodes],
        held_targets=np.flatnonzero(p.held[nodes]),
    )
    if p.pose_prior is not None:
        prior = PosePrior(p.pose_prior.world_from_cam[images], p.pose_prior.information[images])
        scene = dataclasses.replace(scene, pose_prior=prior)
    if whole and p.lens_prior is not None:
        unsure = np.einsum("lpp->lp", p.lens_prior.information) > 0
        scene = dataclasses.replace(scene, lens_prior=p.lens_prior, lens_free=unsure)
    target_prior = None if p.prior is None else dataclasses.replace(p.prior, target_idx=place_t[located])
    result = solve_joint(scene, seen, target_prior, config)
    moved = np.ones(len(nodes), bool) if whole else ~(np.isin(nodes, located) | p.held[nodes])
    solved = reading.with_nodes(
        images.tolist(), result.scene.world_from_cam, nodes[moved].tolist(), result.scene.world_from_target[moved]
    )
    return dataclasses.replace(solved, score=_score(result, seen, target_prior)), result, nodes, rows


def _places(nodes: np.ndarray, size: int) -> np.ndarray:
    place = np.full(size, -1)
    place[nodes] = np.arange(len(nodes))
    return place


def _score(result: JointResult, seen: Observations, prior: JointPrior | None) -> float:
    """Cost of a solution in which every (image, target) pair has one vote, and the prior one."""
    key = seen.image_idx * (seen.target_idx.max(initial=0) + 1) + seen.target_idx
    by_pair = np.bincount(np.unique(key, return_inverse=True)[1], result.cost) if len(key) else np.zeros(0)
    score = float(np.minimum(by_pair, _VOTE).sum())
    if prior is not None:
        off = prior.off(result.scene.world_from_target).ravel()
        score += float(off @ prior.information @ off)
    return score


def _merge(base: Reading, part: Reading, images: Sequence[int], targets: Sequence[int]) -> Reading:
    """`base` with a component's poses of another reading."""
    return base.with_nodes(images, part.world_from_cam[list(images)], targets, part.world_from_target[list(targets)])


def _components(pictures: Pictures, start: Reading) -> list[tuple[list[int], list[int]]]:
    """Unknown images and targets that hang together through unknown ones: (images, targets) of each component."""
    n, m = len(start.world_from_cam), len(start.world_from_target)
    free_image, free_target = ~start.image_known, ~start.target_known
    links = [(p.image, n + p.target) for p in pictures.pairs if free_image[p.image] and free_target[p.target]]
    a, b = np.array(links, int).reshape(-1, 2).T
    label = connected_components(coo_array((np.ones(len(a)), (a, b)), shape=(n + m, n + m)), directed=False)[1]
    seen = np.zeros(n + m, bool)
    for pair in pictures.pairs:
        seen[pair.image] |= free_image[pair.image]
        seen[n + pair.target] |= free_target[pair.target]
    groups = [np.flatnonzero((label == value) & seen) for value in np.unique(label[seen])]
    return [(group[group < n].tolist(), (group[group >= n] - n).tolist()) for group in groups]


class _Component:
    """One component's readings."""

    def __init__(self, pictures: Pictures, start: Reading, images: list[int], targets: list[int]) -> None:
        self.pictures, self.start, self.images, self.targets = pictures, start, images, targets
        inside_i, inside_t = set(images), set(targets)
        self.of_image: dict[int, list[Pair]] = {k: [] for k in images}
        self.of_target: dict[int, list[Pair]] = {k: [] for k in targets}
        for pair in pictures.pairs:
            if pair.image in inside_i:
                self.of_image[pair.image].append(pair)
            if pair.target in inside_t:
                self.of_target[pair.target].append(pair)
        self.leaf = {target for target, pairs in self.of_target.items() if len(pairs) == 1}
        self.postponed: set[int] = set()  # images, and targets counted from the number of images on
        self.offset = len(start.world_from_cam)

    def read(self) -> tuple[Reading, list[Rival]]:
        """The best reading of the component, and its rivals."""
        readings = [self.start]
        while (node := self._next(readings[0])) is not None:
            branches = [branch for reading in readings for branch in self._extend(reading, node)]
            kept = branches if len(branches) == 1 else self._prune([self._adjusted(branch) for branch in branches])
            if len(kept) > _WIDTH:
                self.postponed.add(node)
                continue
            readings = kept
            if len(readings) == 1:
                self.postponed.clear()  # what multiplied the readings may now be decided
        best, rivals = self._with_leaves(readings[0])
        for other in readings[1:]:
            rivals.append(Rival(self._with_leaves(other)[0], other.score - readings[0].score))
        return best, rivals

    def _with_leaves(self, reading: Reading) -> tuple[Reading, list[Rival]]:
        """The reading with its leaves; these decide nothing, so each has rivals of its own."""
        whole, rivals = reading, list[tuple[int, Reading, float]]()
        for target in sorted(self.leaf):
            if reading.image_known[self.of_target[target][0].image]:
                ranked = self._extend(reading, self.offset + target)
                if len(ranked) > 1:
                    ranked = self._prune([self._adjusted(branch) for branch in ranked])
                rivals += [(target, other, other.score - ranked[0].score) for other in ranked[1:]]
                whole = _merge(whole, ranked[0], [], [target])
        return whole, [Rival(_merge(whole, other, [], [target]), excess) for target, other, excess in rivals]

    def _next(self, reading: Reading) -> int | None:
        """The node to place next, targets of placed images first; None when nothing is connected any more."""
        best, most = None, 0.0
        image_known, target_known = reading.image_known, reading.target_known
        for target in self.targets:
            node = self.offset + target
            if not target_known[target] and target not in self.leaf and node not in self.postponed:
                trust = sum(pair.trust for pair in self.of_target[target] if image_known[pair.image])
                best, most = (node, trust) if trust > most else (best, most)
        if best is not None:
            return best
        for image in self.images:
            if not image_known[image] and image not in self.postponed:
                trust = sum(pair.trust for pair in self.of_image[image] if target_known[pair.target])
                best, most = (image, trust) if trust > most else (best, most)
        return best

    def _extend(self, reading: Reading, node: int) -> list[Reading]:
        """The reading with one more node, in every pose that is worth adjusting."""
        if node < self.offset:
            pairs = [pair for pair in self.of_image[node] if reading.target_known[pair.target]]
            known = reading.world_from_target
            poses = [
                known[q.target] @ q.cam_from_target[k].inverse() for q in pairs for k in range(len(q.cam_from_target))
            ]
            chosen = self._screen(SE3.stack(poses), [known[q.target] for q in pairs], pairs, of_image=True)
            return [reading.with_nodes([node], pose, [], SE3.identity(0)) for pose in chosen]
        target = node - self.offset
        pairs = [pair for pair in self.of_target[target] if reading.image_known[pair.image]]
        known = reading.world_from_cam
        poses = [known[q.image] @ q.cam_from_target[k] for q in pairs for k in range(len(q.cam_from_target))]
        chosen = self._screen(SE3.stack(poses), [known[q.image] for q in pairs], pairs, of_image=False)
        return [reading.with_nodes([], SE3.identity(0), [target], pose) for pose in chosen]

    def _screen(self, poses: SE3, others: list[SE3], pairs: list[Pair], *, of_image: bool) -> list[SE3]:
        """The best candidates by their mean error over the pairs, each of which has one vote."""
        p, error = self.pictures, np.zeros((len(pairs), len(poses)))
        for row, (other, pair) in enumerate(zip(others, pairs, strict=True)):
            cam_from_target = poses.inverse() @ other if of_image else other.inverse() @ poses
            points = p.observations.points_m[pair.rows]
            in_cam = np.einsum("cij,nj->cni", cam_from_target.R, points) + cam_from_target.t[:, None]
            error[row] = np.sqrt((ray_errors(in_cam, p.rays[pair.rows][None]) ** 2).mean(axis=-1))
        cost = np.minimum(error, _CAP_RAD).mean(axis=0)
        chosen: list[int] = []
        for k in np.argsort(cost, kind="stable"):
            if len(chosen) == _BRANCHES or cost[k] > 2 * cost.min() + _SLACK_RAD:
                break
            if all(np.abs(poses[int(c)].local(poses[int(k)])).max() > _SAME for c in chosen):
                chosen.append(int(k))
        return [poses[k] for k in chosen]

    def _adjusted(self, reading: Reading) -> Reading:
        image_known, target_known = reading.image_known, reading.target_known
        images = np.array([k for k in self.images if image_known[k]], int)
        targets = np.array([k for k in self.targets if target_known[k]], int)
        cameras = np.flatnonzero(self.start.image_known)
        images = np.concatenate([images, cameras])
        return adjust(self.pictures, reading, images, targets, config=_ROUGH)[0]

    def _prune(self, readings: list[Reading]) -> list[Reading]:
        """Different readings that are not much worse than the best, the best first."""
        ranked = sorted(readings, key=lambda reading: reading.score)
        kept: list[Reading] = []
        for reading in ranked:
            if reading.score > ranked[0].score + _EARLY:
                break
            if all(difference(reading, other) > _SAME for other in kept):
                kept.append(reading)
        return kept


def difference(a: Reading, b: Reading) -> float:
    """Largest difference of any pose that both know, radians or metres."""
    both_i, both_t = a.image_known & b.image_known, a.target_known & b.target_known
    off_i = a.world_from_cam[both_i].local(b.world_from_cam[both_i])
    off_t = a.world_from_target[both_t].local(b.world_from_target[both_t])
    return float(max(np.abs(off_i).max(initial=0.0), np.abs(off_t).max(initial=0.0)))
