"""Places of all targets that do not move, from hand-held photographs on top of what room videos located.

Each photograph is an image of its own, placed by the located targets that it shows (`calibration.readings` keeps both
planar poses of each until the graph decides), then all photographs and targets are adjusted together under the joint
uncertainty of the located ones (`calibration.joint_bundle`). What contradicts the rest, or is not told by the pictures,
is left out and named with its reason: a map may lack a target, but holds none that is wrong.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from calibration.bundle import BundleConfig
from calibration.initial import find_pairs, observed_rays
from calibration.joint_bundle import JointPrior, JointResult, inverse_covariance
from calibration.readings import MARGIN, Pictures, Reading, Readings, Rival, adjust, read_pictures
from calibration.robust import variance_factor
from calibration.scene import LensPrior, Observations, PosePrior
from capture.markers import MarkerPoints
from capture.targets import Target
from core.arrays import Bool, Float, Int
from core.cameras import Lens
from core.transforms import SE3

_MIN_POINTS = 4  # that fix a pose
_MIN_FRAMES = 3  # in which a point of the room must be seen by a video
_SYSTEMATIC_PX = 0.08  # detector error that many frames or corners do not average out
_BIAS_PX = 0.5  # of corners of a print seen at a slant from afar, in every frame alike (rendered rooms: up to 0.45)
_DUPLICATE_PX = 1e-3  # photographs whose points all differ by less are one, copied
_EXACT = 1e-12  # variance below which a target's place is the world's definition
_SOFT = BundleConfig(loss_sigmas=30.0)  # at first, located targets may be off by much more than corners are
_SHARP = BundleConfig()
_DIFFERENT = 0.02  # metres and radians by which readings put a thing in different places
_NOISY = 2.0  # times the usual variance from which a photograph is weighed by its own
_CONTRADICTS = 0.1  # median weight of a target's points in a photograph: 9 standard deviations off


@dataclass(frozen=True, eq=False)
class Located:
    """Targets that room videos located.

    Attributes:
        world_from_target: by id.
        covariance: (6k, 6k) of all of them together in that order; zero rows for those that define the world.
    """

    world_from_target: Mapping[str, SE3]
    covariance: Float[np.ndarray, "d d"]

    def without(self, names: Collection[str]) -> Located:
        """The others."""
        rows = np.repeat(np.array([name not in names for name in self.world_from_target], bool), 6)
        kept = {name: pose for name, pose in self.world_from_target.items() if name not in names}
        return Located(kept, self.covariance[np.ix_(rows, rows)])


@dataclass(frozen=True, eq=False)
class Stills:
    """Photographs of one camera, or the room video of a camera whose pose is known.

    Attributes:
        lens: its lens.
        points: its table of points.
        names: of its photographs, by frame of the table; a video has one.
        world_from_cam: pose of a room camera; None for photographs.
        covariance: (6, 6) of that pose.
        lens_covariance: (p, p) of the lens's parameters; None to take it as exact.
    """

    lens: Lens
    points: MarkerPoints
    names: tuple[str, ...]
    world_from_cam: SE3 | None = None
    covariance: Float[np.ndarray, "6 6"] | None = None
    lens_covariance: Float[np.ndarray, "p p"] | None = None


@dataclass(frozen=True, eq=False)
class Network:
    """Everything that was seen, with names.

    Attributes:
        pictures: observations and what is known beforehand.
        start: poses known beforehand.
        image_ids: name of each image.
        target_ids: name of each target.
        is_photo: (images,) photographs; the others are room cameras.
        copy_of: images that repeat another one.
    """

    pictures: Pictures
    start: Reading
    image_ids: tuple[str, ...]
    target_ids: tuple[str, ...]
    is_photo: Bool[np.ndarray, "images"]
    copy_of: Mapping[int, int]

    def without(self, images: Sequence[int], targets: Sequence[int]) -> Pictures:
        """What takes part when some images and targets do not, nor photographs that show one target alone."""
        p = self.pictures
        o = p.observations
        gone = np.isin(o.image_idx, list(images)) | np.isin(o.target_idx, list(targets))
        count = np.bincount([q.image for q in p.pairs if not gone[q.rows[0]]], minlength=len(self.image_ids))
        return p.without(gone | (self.is_photo & (count < 2))[o.image_idx])


@dataclass(frozen=True, eq=False)
class Solution:
    """All images and targets that are connected, adjusted together.

    Attributes:
        pictures: what took part.
        readings: how they were read.
        reading: poses of everything, located targets included.
        result: the adjustment.
        images: image of each image of the result.
        targets: target of each target of the result.
        rows: observation of each row of the result.
        noise: variance of the observations over the stated one, for all and by image.
    """

    pictures: Pictures
    readings: Readings
    reading: Reading
    result: JointResult
    images: Int[np.ndarray, "i"]
    targets: Int[np.ndarray, "t"]
    rows: Int[np.ndarray, "r"]
    noise: Float[np.ndarray, "images"]

    def rivals(self) -> list[Rival]:
        """Readings that the pictures do not tell from this one, at the noise that they show."""
        usual = float(np.median(self.noise[self.images])) if len(self.images) else 1.0
        scaled = [Rival(rival.reading, rival.excess / usual) for rival in self.readings.rivals]
        return [rival for rival in scaled if rival.excess < MARGIN]

    def target_covariance(self) -> Float[np.ndarray, "d d"]:
        """Of all its targets together; what rivals leave open is part of it, each weighing by its likelihood."""
        covariance = self.result.covariance.copy()
        mine = self.readings.best.world_from_target
        for rival in self.rivals():
            off = _offsets(mine, rival.reading.world_from_target)[self.targets].ravel()
            odds = float(np.exp(-max(rival.excess, 0.0) / 2))
            covariance += odds / (1 + odds) ** 2 * np.outer(off, off)  # of two places with these odds
        return covariance

    def pulled(self) -> dict[int, float]:
        """How far photographs pull located targets from where room videos saw them: squared, in standard deviations.

        Only those that are pulled by more than readings may differ.
        """
        prior = self.pictures.prior
        if prior is None:
            return {}
        off = prior.off(self.reading.world_from_target)
        blocks = np.linalg.inv(prior.information).reshape(len(off), 6, len(off), 6)
        squared = [float(d @ np.linalg.solve(blocks[k, :, k], d)) for k, d in enumerate(off)]
        far = np.abs(off).max(axis=-1) > _DIFFERENT
        return {int(t): value for t, value, it in zip(prior.target_idx, squared, far, strict=True) if it}

    def undecided(self) -> tuple[set[int], set[int]]:
        """Images and targets that a rival puts elsewhere."""
        images, targets = set(self.readings.skipped), set[int]()
        for rival in self.rivals():
            other, mine = rival.reading, self.readings.best
            images |= _elsewhere(mine.world_from_cam, other.world_from_cam)
            targets |= _elsewhere(mine.world_from_target, other.world_from_target)
        return images, targets


@dataclass(frozen=True, eq=False)
class PairErrors:
    """How well each photograph's view of each target fits.

    Attributes:
        image: (pairs,) image.
        target: (pairs,) target.
        error_px: (pairs,) median reprojection error.
        contradicts: (pairs,) most of its points are outliers.
    """

    image: Int[np.ndarray, "p"]
    target: Int[np.ndarray, "p"]
    error_px: Float[np.ndarray, "p"]
    contradicts: Bool[np.ndarray, "p"]

    @staticmethod
    def of(solution: Solution) -> PairErrors:
        """Of a solution."""
        o = solution.pictures.observations[solution.rows]
        keys, pair = np.unique(np.stack([o.image_idx, o.target_idx]), axis=1, return_inverse=True)
        error, weight = solution.result.error_px, solution.result.weight
        groups = [np.flatnonzero(pair.ravel() == k) for k in range(keys.shape[1])]
        # a point that the lens cannot see is off by more than any other
        median = [float(np.median(np.nan_to_num(error[rows], nan=np.inf))) for rows in groups]
        contradicts = [bool(np.median(weight[rows]) < _CONTRADICTS) for rows in groups]
        return PairErrors(keys[0], keys[1], np.array(median, float), np.array(contradicts, bool))

    def where(self, mask: Bool[np.ndarray, "p"]) -> PairErrors:
        """Some of them."""
        return PairErrors(self.image[mask], self.target[mask], self.error_px[mask], self.contradicts[mask])

    def by_image(self) -> dict[int, float]:
        """Median over its targets of each image's errors."""
        return {int(k): float(np.median(self.error_px[self.image == k])) for k in np.unique(self.image)}

    def by_target(self) -> dict[int, float]:
        """Median over its images of each target's errors."""
        return {int(k): float(np.median(self.error_px[self.target == k])) for k in np.unique(self.target)}


def observe(targets: Mapping[str, Target], located: Located, stills: Sequence[Stills]) -> Network:
    """Puts sightings and prior knowledge together.

    Args:
        targets: those that are expected (`world` and `static`), by id.
        located: what room videos know of them.
        stills: photographs; where nothing is located, also the room cameras' sightings of the targets.
    """
    image_ids = tuple(name for s in stills for name in s.names)
    lens_idx = np.repeat(np.arange(len(stills)), [len(s.names) for s in stills]).astype(int)
    is_photo = np.array([s.world_from_cam is None for s in stills for _ in s.names], bool)
    parts, seen, copy_of = [_none()], dict[bytes, int](), dict[int, int]()
    for image, (k, frame) in enumerate((k, f) for k, s in enumerate(stills) for f in range(len(s.names))):
        table = stills[k].points
        if is_photo[image]:
            table = table.where(table.frame_idx == frame)
            twin = seen.setdefault(_fingerprint(k, table), image) if len(table) else image
            if twin != image:
                copy_of[image] = twin
                continue
        for index, (name, target) in enumerate(targets.items()):
            parts.append(_points_of(image, index, target, table.of_target(name), video=not is_photo[image]))
    observations = Observations.concatenate(parts)
    lenses = tuple(s.lens for s in stills)
    rays = observed_rays(lenses, lens_idx, observations)
    pairs = tuple(find_pairs(observations, rays))
    start, prior, held = _known_targets(list(targets), located, len(image_ids))
    start, pose_prior = _known_cameras(stills, np.flatnonzero(~is_photo), start)
    pictures = Pictures(lenses, lens_idx, observations, rays, pairs, prior, pose_prior, held, _known_lenses(stills))
    useless = ~np.isin(np.arange(len(rays)), np.concatenate([q.rows for q in pairs] or [np.zeros(0, int)]))
    return Network(pictures.without(useless), start, image_ids, tuple(targets), is_photo, copy_of)


def _fingerprint(camera: int, table: MarkerPoints) -> bytes:
    """Equal for photographs that show the same points in the same places."""
    places = np.round(table.xy_px.astype(float) / _DUPLICATE_PX).astype(np.int64)
    return np.column_stack([np.full(len(table), camera), table.target, table.point_idx, places]).tobytes()


def _none() -> Observations:
    zero = np.zeros(0, int)
    return Observations(zero, zero, np.zeros((0, 3)), np.zeros((0, 2)), np.zeros(0))


def _points_of(image: int, index: int, target: Target, seen: MarkerPoints, *, video: bool) -> Observations:
    """A target in one image; in a video, the median over the frames of each point."""
    order = np.argsort(seen.point_idx, kind="stable")
    point, first, count = np.unique(seen.point_idx[order], return_index=True, return_counts=True)
    enough = count >= (_MIN_FRAMES if video else 1)
    if enough.sum() < _MIN_POINTS:
        return _none()
    groups = [rows for rows, take in zip(np.split(order, first[1:]), enough, strict=True) if take]
    xy = np.array([np.median(seen.xy_px[rows].astype(float), axis=0) for rows in groups])
    # a median's variance is pi/2 times a mean's
    shrunk = np.where(count > 1, np.pi / 2 / count, 1.0)[enough]
    sigma = np.sqrt(np.array([np.median(seen.sigma_px[rows]) for rows in groups]) ** 2 * shrunk + _SYSTEMATIC_PX**2)
    n = len(groups)
    return Observations(np.full(n, image), np.full(n, index), target.points_m[point[enough]], xy, sigma)


def _known_targets(
    ids: list[str], located: Located, num_images: int
) -> tuple[Reading, JointPrior | None, Bool[np.ndarray, "targets"]]:
    """Start poses, the joint prior of those that may move, and which may not."""
    start, held = Reading(_unknown(num_images), _unknown(len(ids))), np.zeros(len(ids), bool)
    if not located.world_from_target:
        return start, None, held
    index = np.array([ids.index(name) for name in located.world_from_target])
    mean = SE3.stack(list(located.world_from_target.values()))
    start = start.with_nodes([], SE3.identity(0), index.tolist(), mean)
    exact = np.diag(located.covariance).reshape(-1, 6).max(axis=-1) < _EXACT
    held[index[exact]] = True
    if exact.all():
        return start, None, held
    rows = np.repeat(~exact, 6)
    return start, JointPrior.of(index[~exact], mean[~exact], located.covariance[np.ix_(rows, rows)]), held


def _known_cameras(stills: Sequence[Stills], images: np.ndarray, start: Reading) -> tuple[Reading, PosePrior | None]:
    """Room cameras with their poses and uncertainty."""
    known = [(s.world_from_cam, s.covariance) for s in stills if s.world_from_cam is not None]
    if not known:
        return start, None
    poses = SE3.stack([pose for pose, _ in known if pose is not None])
    n = len(start.world_from_cam)
    information = np.zeros((n, 6, 6))
    information[images] = np.stack([inverse_covariance(c) for _, c in known if c is not None])
    mean = Reading(SE3.identity(n), start.world_from_target).with_nodes(images.tolist(), poses, [], SE3.identity(0))
    return start.with_nodes(images.tolist(), poses, [], SE3.identity(0)), PosePrior(mean.world_from_cam, information)


def _known_lenses(stills: Sequence[Stills]) -> LensPrior | None:
    """Lenses as calibrated, with their uncertainty; parameters that calibration held stay held."""
    if all(s.lens_covariance is None for s in stills):
        return None
    p = max(len(s.lens.params) for s in stills)
    mean, information = np.zeros((len(stills), p)), np.zeros((len(stills), p, p))
    for k, s in enumerate(stills):
        mean[k, : len(s.lens.params)] = s.lens.params
        if s.lens_covariance is not None:
            free = np.flatnonzero(np.diag(s.lens_covariance) > 0)
            information[k][np.ix_(free, free)] = inverse_covariance(s.lens_covariance[np.ix_(free, free)])
    return LensPrior(mean, information)


def _unknown(n: int) -> SE3:
    return SE3(np.full((n, 3, 3), np.nan), np.full((n, 3), np.nan))


def ambiguous_targets(targets: Mapping[str, Target], cameras: Sequence[Stills]) -> list[str]:
    """Targets of which room cameras alone do not tell which of two poses they have.

    A target that one camera sees has both its planar poses; the frames of a video do not decide between them, because
    what makes a corner seem off is the same in all of them.
    """
    if not cameras:
        return []
    network = observe(targets, Located({}, np.zeros((0, 0))), cameras)
    seen = network.pictures.observations
    dim = dataclasses.replace(seen, sigma_px=np.maximum(seen.sigma_px, _BIAS_PX))
    pictures = dataclasses.replace(network.pictures, observations=dim)
    return [network.target_ids[k] for k in sorted(solve_network(pictures, network.start).undecided()[1])]


def solve_network(pictures: Pictures, start: Reading) -> Solution:
    """Reads the pictures and adjusts all that is connected; noisy photographs weigh by their own noise."""
    readings = read_pictures(pictures, start)
    reading, noise = readings.best, np.ones(len(pictures.lens_idx))
    images, targets = np.flatnonzero(reading.image_known), np.flatnonzero(reading.target_known)
    for config in (_SOFT, _SHARP, _SHARP):
        scale = np.sqrt(noise)[pictures.observations.image_idx]
        reading, result, nodes, rows = adjust(
            pictures, reading, images, targets, scale=scale, config=config, whole=True
        )
        o = pictures.observations[rows]
        whitened = result.residual_px / o.sigma_px[:, None]
        if config is _SHARP:
            noise = _noise(whitened, result.weight, o.image_idx, len(noise), 6 * (len(images) + len(targets)))
    return Solution(pictures, readings, reading, result, images, nodes, rows, noise)


def _noise(whitened: np.ndarray, weight: np.ndarray, image: np.ndarray, num_images: int, unknowns: int) -> np.ndarray:
    """Variance of the residuals over what was stated, by image; not less than 1.

    A photograph has few points, so it is taken to be as noisy as all of them unless it is much worse.
    """
    usual = max(variance_factor(whitened, weight, min(unknowns, len(whitened))), 1.0)
    own = np.array([variance_factor(whitened[image == k], weight[image == k]) for k in range(num_images)])
    return np.where(own > _NOISY * usual, own, usual)


def _offsets(mine: SE3, other: SE3) -> np.ndarray:
    """How far nodes are apart (nodes, 6); 0 where one of the two is unknown."""
    both = np.isfinite(mine.t[:, 0]) & np.isfinite(other.t[:, 0])
    off = np.zeros((len(both), 6))
    off[both] = mine[both].local(other[both])
    return off


def _elsewhere(mine: SE3, other: SE3) -> set[int]:
    """Nodes that two readings put in different places."""
    return set(np.flatnonzero(np.abs(_offsets(mine, other)).max(axis=-1) > _DIFFERENT).tolist())
