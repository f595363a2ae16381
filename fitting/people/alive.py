"""The people who are being followed, as arrays, and what is written down of them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import numpy as np

from core.arrays import Float, Int
from fitting.people.matching import mirrored_trust


@dataclass(frozen=True, eq=False)
class Alive:
    """People as they are followed, a row each.

    Attributes:
        id: which track.
        xyz_m: (people, joints, 3) where they are.
        trust: (people, joints) 0 to 1, how well each joint is known; the same for both sides of the body.
        speed_m_s: (people, 3) of the whole body.
        misfit_m: (people,) how far their detections are from them, the mean over views and joints.
        age: (people,) instants at which two views saw them.
        unseen_s: (people,) time since any view saw them.
        alone_s: (people,) time since two views did.
        doubt_s: (people,) time since two views agreed about them.
    """

    id: Int[np.ndarray, "people"]
    xyz_m: Float[np.ndarray, "people joints 3"]
    trust: Float[np.ndarray, "people joints"]
    speed_m_s: Float[np.ndarray, "people 3"]
    misfit_m: Float[np.ndarray, "people"]
    age: Int[np.ndarray, "people"]
    unseen_s: Float[np.ndarray, "people"]
    alone_s: Float[np.ndarray, "people"]
    doubt_s: Float[np.ndarray, "people"]

    @staticmethod
    def nobody(joints: int) -> Alive:
        """An empty room."""
        zero, none = np.zeros(0), np.zeros(0, dtype=int)
        return Alive(
            none, np.zeros((0, joints, 3)), np.zeros((0, joints)), np.zeros((0, 3)), zero, none, zero, zero, zero
        )

    @staticmethod
    def born(track: int, xyz_m: Float[np.ndarray, "joints 3"], misfit_m: float, swap: np.ndarray) -> Alive:
        """One person, of whom some joints may be NaN."""
        known = np.isfinite(xyz_m[:, 0])
        joints = np.where(known[:, None], xyz_m, xyz_m[known].mean(axis=0))
        zero, one = np.zeros(1), np.ones(1, dtype=int)
        return Alive(
            np.array([track]), joints[None], mirrored_trust(known, swap)[None], np.zeros((1, 3)),
            np.array([misfit_m]), one, zero, zero, zero,
        )  # fmt: skip

    def rows(self, chosen: np.ndarray) -> Alive:
        """Some of them."""
        return Alive(*(getattr(self, f.name)[chosen] for f in dataclasses.fields(self)))

    def joined_by(self, other: Alive) -> Alive:
        """These, then the others."""
        pairs = ((getattr(self, f.name), getattr(other, f.name)) for f in dataclasses.fields(self))
        return Alive(*(np.concatenate(pair) for pair in pairs))

    def with_row(self, row: int, state: Alive) -> Alive:
        """The same people, one of them in another state."""
        changed = {f.name: getattr(self, f.name).copy() for f in dataclasses.fields(self)}
        for name, values in changed.items():
            values[row] = getattr(state, name)[0]
        return Alive(**changed)


@dataclass
class Trail:
    """What is written down of everybody whom a view saw at an instant, an entry each.

    Attributes:
        instant: which instant.
        id: whose entry it is.
        xyz_m: joints (joints, 3).
        trust: of the joints (joints,).
        views: how many views saw the person.
    """

    instant: list[int] = field(default_factory=list)
    id: list[int] = field(default_factory=list)
    xyz_m: list[np.ndarray] = field(default_factory=list)
    trust: list[np.ndarray] = field(default_factory=list)
    views: list[int] = field(default_factory=list)

    def write(self, instant: int, alive: Alive, who: Int[np.ndarray, "views people"]) -> None:
        """Adds whoever was seen: `who` is the detection of each in every view, -1 for none."""
        views = (who >= 0).sum(axis=0)
        for row in np.flatnonzero(views):
            self.instant.append(instant)
            self.id.append(int(alive.id[row]))
            self.xyz_m.append(alive.xyz_m[row])
            self.trust.append(alive.trust[row])
            self.views.append(int(views[row]))
