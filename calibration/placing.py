"""From photographs to a marker map: what takes part, what contradicts, and why something is missing.

Photographs and targets that contradict the rest are left out one after another, until what remains agrees. Every target
that was expected is in the map or has a reason with the next action.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from calibration.photographs import Located, Network, PairErrors, Solution, Stills, observe, solve_network
from calibration.zoom import fitting_zoom
from capture.targets import Target
from core.arrays import Float
from core.transforms import SE3

_RELIABLE = 3  # targets in a photograph, most of which fit, that can testify against one of them
_PULLED = 50.0  # squared standard deviations of six numbers: once in 200 million times by chance
_NAMED = 4  # photographs or targets named in a message


@dataclass(frozen=True)
class MapConfig:
    """What a marker map must keep.

    Attributes:
        max_photo_px: median reprojection error of a photograph above which it is set aside.
        max_sigma_m: standard deviation of a target's place (the worst axis) above which it is left out of the map.
        max_sigma_deg: the same for its orientation.
    """

    max_photo_px: float = 1.5
    max_sigma_m: float = 0.03
    max_sigma_deg: float = 2.0


@dataclass(frozen=True)
class Refusal:
    """Why something takes no part, and what would change that.

    Attributes:
        reason: what is wrong.
        action: what the user can do.
        misfit: whether it contradicts the rest, rather than being too little.
    """

    reason: str
    action: str
    misfit: bool = False


@dataclass(frozen=True, eq=False)
class MarkerMap:
    """Where the targets are.

    Attributes:
        world_from_target: placed targets by id.
        covariance: (6n, 6n) of all of them together, in that order.
        unplaced: targets that are not in it.
        world_from_photo: poses of the photographs that took part.
        set_aside: photographs that did not.
        photo_px: median reprojection error of each photograph that took part.
        target_px: the same of each target in them.
        num_photos: number of them that show each target.
        behind: share of views of each target from the back of its print, which only a mirrored reading has.
    """

    world_from_target: Mapping[str, SE3]
    covariance: Float[np.ndarray, "d d"]
    unplaced: Mapping[str, Refusal] = field(default_factory=dict)
    world_from_photo: Mapping[str, SE3] = field(default_factory=dict)
    set_aside: Mapping[str, Refusal] = field(default_factory=dict)
    photo_px: Mapping[str, float] = field(default_factory=dict)
    target_px: Mapping[str, float] = field(default_factory=dict)
    num_photos: Mapping[str, int] = field(default_factory=dict)
    behind: Mapping[str, float] = field(default_factory=dict)

    def blocks(self) -> dict[str, Float[np.ndarray, "6 6"]]:
        """Covariance of each target by itself."""
        n = len(self.world_from_target)
        diagonal = self.covariance.reshape(n, 6, n, 6)[np.arange(n), :, np.arange(n)]
        return dict(zip(self.world_from_target, diagonal, strict=True))

    def sigma_m(self) -> dict[str, float]:
        """Standard deviation of each target's place, the worst axis."""
        sigma = np.sqrt(np.maximum(np.diag(self.covariance), 0.0)).reshape(-1, 6)[:, 3:].max(axis=-1)
        return dict(zip(self.world_from_target, sigma.tolist(), strict=True))


def place_targets(
    targets: Mapping[str, Target], located: Located, stills: Sequence[Stills], config: MapConfig | None = None
) -> MarkerMap:
    """Places all targets that do not move.

    Args:
        targets: those that are expected (`world` and `static`), by id.
        located: what room videos know of them.
        stills: photographs; where nothing is located, also the room cameras' sightings of the targets.
        config: limits.
    """
    config = config or MapConfig()
    if not stills:
        return _relayed(targets, located, config)
    network = observe(targets, located, stills)
    verdict = _Verdict(network, config)
    while not verdict.settled():
        pass
    return _Map(targets, stills, verdict).made()


class _Verdict:
    """What is left out so far, and the solution of the rest."""

    def __init__(self, network: Network, config: MapConfig) -> None:
        self.network, self.config = network, config
        self.aside: dict[int, Refusal] = {}  # photographs that do not fit
        self.undecided: dict[int, Refusal] = {}  # photographs with several poses
        self.moved: dict[int, Refusal] = {}  # targets that are elsewhere in the photographs

    def settled(self) -> bool:
        """Solves what remains and leaves out what contradicts most; True when nothing does."""
        self.undecided = {}
        while True:
            self.solution = solve_network(
                self.network.without([*self.aside, *self.undecided], list(self.moved)), self.network.start
            )
            self.pairs = PairErrors.of(self.solution)
            unsure = {k for k in self.solution.undecided()[0] if self.network.is_photo[k]}
            if not unsure:
                break
            self.undecided |= {k: self._why_undecided(k) for k in sorted(unsure)}
        if moved := self._moved_target():
            self.moved, self.aside = self.moved | moved, {}  # it may have been the reason why photographs did not fit
            return False
        misfits = self._misfits()
        self.aside |= misfits
        return not misfits

    def _why_undecided(self, image: int) -> Refusal:
        rows = self.pairs.image == image
        names = _listed(self.network.target_ids[k] for k in np.unique(self.pairs.target[rows]))
        if self.pairs.contradicts[rows].any():
            return Refusal(
                f"what it shows ({names}) does not fit together: one of them was moved, has another size, or the "
                "photograph was taken with another zoom",
                "photograph more targets together, with the zoom of the lens pictures",
                misfit=True,
            )
        return Refusal(
            f"two poses explain its view of {names} equally well", "take it from nearer, or with more targets in it"
        )

    def _moved_target(self) -> dict[int, Refusal]:
        """The target that most of the reliable photographs see elsewhere, if there is one."""
        pulled = {k: value for k, value in self.solution.pulled().items() if value > _PULLED}
        if pulled:
            worst = max(pulled, key=lambda k: pulled[k])
            return {worst: self._why_moved(worst, self.pairs.image[self.pairs.target == worst])}
        pairs, shares = self.pairs, dict[int, float]()
        located = self.network.start.target_known
        sound = [k for k in np.unique(pairs.image) if _is_reliable(pairs.contradicts[pairs.image == k])]
        sound_pairs = pairs.where(np.isin(pairs.image, sound))
        for target in np.unique(sound_pairs.target).tolist():
            share = float(sound_pairs.contradicts[sound_pairs.target == target].mean())
            if share > (1 / 2 if located[target] else 1 / 3):
                shares[target] = share
        if not shares:
            return {}
        worst = max(shares, key=lambda k: shares[k])
        against = sound_pairs.image[sound_pairs.contradicts & (sound_pairs.target == worst)]
        return {worst: self._why_moved(worst, against)}

    def _why_moved(self, target: int, against: np.ndarray) -> Refusal:
        names = _listed(self.network.image_ids[k] for k in against)
        where = "than the room videos do" if self.network.start.target_known[target] else "than others"
        return Refusal(
            f"{names} show it elsewhere {where}",
            "it was moved in between, or few room cameras see it, or its size in targets.json is wrong: photograph it "
            "again where it is, or show it to more cameras",
            misfit=True,
        )

    def _misfits(self) -> dict[int, Refusal]:
        """Photographs that do not fit."""
        found = {}
        for image, error_px in self.pairs.by_image().items():
            contradicts = float(self.pairs.contradicts[self.pairs.image == image].mean())
            if contradicts > 1 / 2 or error_px > self.config.max_photo_px:
                off = f"its points are off by {error_px:.1f} px"
                found[image] = Refusal(
                    off, "leave it out if it is blurred or shows targets that were moved, or take it again", misfit=True
                )
        return found


class _Map:
    """What the stage reports of a verdict."""

    def __init__(self, targets: Mapping[str, Target], stills: Sequence[Stills], verdict: _Verdict) -> None:
        self.targets, self.stills, self.verdict = targets, stills, verdict
        self.network, self.solution, self.config = verdict.network, verdict.solution, verdict.config
        self.ids = list(targets)
        self.covariance = self.solution.target_covariance()
        self.unsure = self.solution.undecided()[1]

    def made(self) -> MarkerMap:
        solved = {int(k): row for row, k in enumerate(self.solution.targets)}
        placed, unplaced = dict[str, int](), dict[str, Refusal]()
        for k, name in enumerate(self.ids):
            why = self._weakness(k, solved.get(k))
            if why is None:
                placed[name] = solved[k]
            else:
                unplaced[name] = why
        rows = (6 * np.array(list(placed.values()), int)[:, None] + np.arange(6)).ravel()
        poses, pairs, ids = self.solution.reading, self.verdict.pairs, self.network.image_ids
        photos = [int(k) for k in np.unique(pairs.image) if self.network.is_photo[k]]
        of_photos = pairs.where(np.isin(pairs.image, photos))
        px = of_photos.by_image()
        return MarkerMap(
            world_from_target={name: poses.world_from_target[self.ids.index(name)] for name in placed},
            covariance=self.covariance[np.ix_(rows, rows)],
            unplaced=unplaced,
            world_from_photo={ids[k]: poses.world_from_cam[k] for k in photos},
            set_aside=self._set_aside(set(photos)),
            photo_px={ids[k]: px[k] for k in photos},
            target_px={self.ids[k]: value for k, value in pairs.by_target().items()},
            num_photos={name: int((of_photos.target == k).sum()) for k, name in enumerate(self.ids)},
            behind=_seen_from_behind(self.solution, pairs, self.ids, self.targets),
        )

    def _weakness(self, target: int, row: int | None) -> Refusal | None:
        """Why a target cannot be in the map; None if it can."""
        if target in self.verdict.moved:
            return self.verdict.moved[target]
        if row is None:
            return self._why_missing(target)
        if target in self.unsure and not self.network.start.target_known[target]:
            return Refusal(
                f"two poses explain its view in {self._photos_of(target)} equally well",
                "photograph it from another side as well, from nearer and at a slant",
            )
        against = self._against(target)
        if against is not None:
            return against
        return _too_uncertain(np.diag(self.covariance)[6 * row : 6 * row + 6], self.config)

    def _against(self, target: int) -> Refusal | None:
        """A target that only photographs see is not believed when too many of them do not fit the rest."""
        if self.network.start.target_known[target]:
            return None
        shown = {q.image for q in self.network.pictures.pairs if q.target == target}
        odd = {**self.verdict.aside, **self.verdict.undecided}
        against = sorted(k for k in shown if k in odd and odd[k].misfit)
        fits = set(self.verdict.pairs.image[self.verdict.pairs.target == target].tolist())
        if len(against) <= (len(against) + len(fits)) / 3:
            return None
        names = _listed(self.network.image_ids[k] for k in against)
        return Refusal(
            f"{names} do not fit the other photographs that show it",
            "it may have been moved in between, or have another size: photograph it again",
            misfit=True,
        )

    def _why_missing(self, target: int) -> Refusal:
        network, verdict, name = self.network, self.verdict, self.ids[target]
        shown = sorted({q.image for q in network.pictures.pairs if q.target == target})
        if not shown:
            return self._why_unseen(name)
        odd = {**verdict.aside, **verdict.undecided}
        useful = [k for k in shown if k not in odd]
        if not useful:
            first = odd[shown[0]]
            return Refusal(
                f"every photograph of it was set aside; {network.image_ids[shown[0]]}: {first.reason}", first.action
            )
        with_it = {self.ids[q.target] for q in network.pictures.pairs if q.image in useful} - {name}
        located = _listed(self.ids[k] for k in np.flatnonzero(network.start.target_known))
        shows = f"{_listed(network.image_ids[k] for k in useful)} show it"
        beside = f"beside {_listed(sorted(with_it))}" if with_it else "alone"
        action = f"photograph it together with one of {located}" if located else "show a target to the room cameras"
        return Refusal(f"{shows} {beside}, and nothing connects them to a located target", action)

    def _why_unseen(self, name: str) -> Refusal:
        """A target of which no picture shows enough."""
        counts = dict[str, int]()
        for s in self.stills:
            seen = s.points.of_target(name)
            for frame in np.unique(seen.frame_idx):
                label = s.names[min(int(frame), len(s.names) - 1)]
                counts[label] = len(np.unique(seen.point_idx[seen.frame_idx == frame]))
        if not counts:
            return Refusal(
                "no picture shows it",
                "photograph it together with a located target, or check its entry in targets.json",
            )
        best = max(counts, key=lambda label: counts[label])
        return Refusal(
            f"no picture shows enough of it: {counts[best]} points at most, in {best}",
            "photograph the whole of it, from nearer",
        )

    def _photos_of(self, target: int) -> str:
        pairs = self.verdict.pairs
        return _listed(self.network.image_ids[k] for k in pairs.image[pairs.target == target])

    def _set_aside(self, used: set[int]) -> dict[str, Refusal]:
        """Photographs that took no part, each with the reason."""
        network, verdict = self.network, self.verdict
        reasons = dict[int, Refusal]()
        for k in set(np.flatnonzero(network.is_photo).tolist()) - used:
            reasons[k] = self._why_unused(k)
        for k, twin in network.copy_of.items():
            reasons[k] = Refusal(f"it is a copy of {network.image_ids[twin]}", "remove it: a copy says nothing new")
        for k, why in {**verdict.aside, **verdict.undecided}.items():
            reasons[k] = self._with_zoom(k, why) if why.misfit else why
        return {network.image_ids[k]: reasons[k] for k in sorted(reasons)}

    def _why_unused(self, image: int) -> Refusal:
        shown = sorted({self.ids[q.target] for q in self.network.pictures.pairs if q.image == image})
        if not shown:
            return Refusal("it shows no target well enough", "take it from nearer, or in better light")
        if len(shown) == 1:
            return Refusal(f"it shows {shown[0]} alone", "photograph two or more targets together")
        return Refusal(
            f"nothing connects what it shows ({_listed(shown)}) to a located target",
            "photograph these together with a located target",
        )

    def _with_zoom(self, image: int, why: Refusal) -> Refusal:
        """The reason, and whether another focal length is behind it."""
        pictures = self.network.pictures
        known = self.solution.reading.target_known & ~np.isin(np.arange(len(self.ids)), list(self.verdict.moved))
        placed = {int(k): self.solution.reading.world_from_target[k] for k in np.flatnonzero(known)}
        seen = pictures.observations[pictures.observations.image_idx == image]
        scale = fitting_zoom(pictures.lenses[pictures.lens_idx[image]], seen, placed, self.config.max_photo_px)
        if scale is None:
            return why
        return Refusal(
            f"it was taken with {scale:.2f} times the focal length of the lens pictures",
            "take photographs and lens pictures with the same zoom and picture size",
            misfit=True,
        )


def _too_uncertain(variance: np.ndarray, config: MapConfig) -> Refusal | None:
    """Refuses a pose whose variances (6,) are too large."""
    sigma = np.sqrt(variance)
    place_m, turn_deg = float(sigma[3:].max()), float(np.degrees(sigma[:3].max()))
    if place_m <= config.max_sigma_m and turn_deg <= config.max_sigma_deg:
        return None
    return Refusal(
        f"its place is known to {1000 * place_m:.0f} mm and {turn_deg:.1f} deg only",
        "photograph it more often, from nearer, together with located targets",
    )


def _relayed(targets: Mapping[str, Target], located: Located, config: MapConfig) -> MarkerMap:
    """The map of room videos alone."""
    variance = np.diag(located.covariance).reshape(-1, 6)
    weak = {name: _too_uncertain(v, config) for name, v in zip(located.world_from_target, variance, strict=True)}
    kept = np.array([why is None for why in weak.values()], bool)
    rows = np.repeat(kept, 6)
    unseen = Refusal(
        "the room videos do not locate it", "photograph it together with a located target, as views of role handheld"
    )
    return MarkerMap(
        {name: located.world_from_target[name] for name, why in weak.items() if why is None},
        located.covariance[np.ix_(rows, rows)],
        {name: why for name in targets if (why := weak.get(name, unseen)) is not None},
    )


def _seen_from_behind(
    solution: Solution, pairs: PairErrors, ids: Sequence[str], targets: Mapping[str, Target]
) -> dict[str, float]:
    """Share of views of each flat target that have the camera behind the print (its z points into it)."""
    found = {}
    for k in np.unique(pairs.target).tolist():
        if targets[ids[k]].kind != "rig":
            target_from_world = solution.reading.world_from_target[k].inverse()
            centres = solution.reading.world_from_cam.t[pairs.image[pairs.target == k]]
            found[ids[k]] = float((target_from_world.apply(centres)[:, 2] > 0).mean())
    return found


def _is_reliable(contradicts: np.ndarray) -> bool:
    """Whether a photograph shows enough targets, of which most agree, to testify against the others."""
    return len(contradicts) >= _RELIABLE and float(contradicts.mean()) < 1 / 2


def _listed(names: Iterable[str]) -> str:
    """Some names, and how many more there are."""
    known = list(names)
    more = f" and {len(known) - _NAMED} more" if len(known) > _NAMED else ""
    return ", ".join(known[:_NAMED]) + more
