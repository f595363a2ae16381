"""A room rig from a calibration file: named, turned upright, and if a person is seen, refined on the person.

A file states no uncertainty, so its user does. Views whose cameras the file exchanges are found on the person too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from calibration.camera_names import match_cameras
from calibration.clock_keypoints import Track, refine_clocks
from calibration.formats import Up, read_calibration, turned_up
from calibration.lens import imported_lenses, load_lenses
from calibration.person import person_floor, person_points, same_person, stature, swapped_views
from calibration.rig_health import rig_facts
from calibration.rig_keypoints import KeypointRefinement, refine_on_keypoints
from calibration.rig_solution import RigSolution
from calibration.world_frame import Plane
from capture.keypoints import load_keypoints
from capture.session import Session
from core.arrays import Float
from core.cameras import Lens, Rig
from core.clock import Clock, Timeline, parse_rate, resample
from core.errors import InputError
from core.skeletons import Skeleton

_MAX_FRAME_GAP = 1.5
_MAX_INSTANTS = 1500  # that the person is triangulated at


@dataclass(frozen=True)
class ImportedSigma:
    """What the user says of a calibration file that is taken as it is.

    Attributes:
        rotation_deg: standard deviation of a camera's orientation about each axis.
        position_mm: standard deviation of its place along each axis.
    """

    rotation_deg: float = 0.5
    position_mm: float = 20.0

    @property
    def covariance(self) -> Float[np.ndarray, "6 6"]:
        """Of one camera."""
        return np.diag(np.repeat([np.radians(self.rotation_deg), self.position_mm / 1000], 3) ** 2)


@dataclass(frozen=True, eq=False)
class SeenPerson:
    """One person's keypoints in all views, at common instants.

    Attributes:
        xy_px: (views, instants, joints, 2); NaN where missing.
        score: (views, instants, joints).
        t_s: (instants,) session times.
        skeleton: what the joints are.
        leader: the view whose choice the others follow.
        tracks: the same keypoints frame by frame, at the session times of their frames.
    """

    xy_px: Float[np.ndarray, "views instants joints 2"]
    score: Float[np.ndarray, "views instants joints"]
    t_s: Float[np.ndarray, "instants"]
    skeleton: Skeleton
    leader: str
    tracks: tuple[Track, ...] = ()

    def thinned(self) -> SeenPerson:
        """Stretches of neighbouring instants, so many in all that triangulation stays fast."""
        if len(self.t_s) <= _MAX_INSTANTS:
            return self
        stretch = np.arange(len(self.t_s)) // 15  # half a second, in which a step's stance can be told
        keep = stretch % int(np.ceil(len(self.t_s) / _MAX_INSTANTS)) == 0
        return SeenPerson(self.xy_px[:, keep], self.score[:, keep], self.t_s[keep], self.skeleton, self.leader)


def named_rig(
    session: Session, reference: Path, world_up: Up, *, own_lenses: bool, unit_m: float = 1.0
) -> tuple[Rig, tuple[str, ...]]:
    """The reference's cameras under the session's names, z up; and how they were told where ids do not.

    Args:
        session: whose room views are meant.
        reference: calibration file.
        world_up: axis of its world that points up.
        own_lenses: keep the file's lenses, not those of stage 03.
        unit_m: its unit of length, metres.

    Raises:
        InputError: if they do not match, or a lens is missing.
    """
    found = turned_up(read_calibration(reference, unit_m=unit_m), world_up)
    room = session.of_role("room")
    pairs, notes = match_cameras([view.id for view in room], found.ids, str(reference))
    cameras = list(found.subset(list(pairs.values())))
    lenses = imported_lenses(room, cameras, reference) if own_lenses else load_lenses(session.folder)
    renamed = zip(pairs, cameras, strict=True)
    return Rig(tuple(dataclasses.replace(c, id=name, lens=lens_of(lenses, name)) for name, c in renamed)), notes


def lens_of(lenses: Mapping[str, Lens], view_id: str) -> Lens:
    """A view's lens.

    Raises:
        InputError: if it has none.
    """
    if view_id not in lenses:
        raise InputError(view_id, "it has no lens", "give it lens_images and run `motifs calibrate lens`")
    return lenses[view_id]


def see_person(session: Session, rig: Rig, times: Mapping[str, Float[np.ndarray, "_"]]) -> SeenPerson:
    """One person's keypoints in all views of a rig, at the session's rate.

    Where views show several people, the person that most views agree about is taken (`calibration.person`).
    """
    found = [load_keypoints(session.stage("02_keypoints") / f"{view_id}.npz") for view_id in rig.ids]
    t_s = [times[view_id] for view_id in rig.ids]
    leader, people = same_person(rig, found, t_s)
    timeline = Timeline.spanning(max(t[0] for t in t_s), min(t[-1] for t in t_s), parse_rate(session.rate))
    tracks, scores, own = [], [], []
    for keypoints, index, t in zip(found, people, t_s, strict=True):
        one = keypoints.person(index)
        count = min(one.num_frames, len(t))
        gap = _MAX_FRAME_GAP * float(np.median(np.diff(t)))
        xy, score = one.xy_px[:count, 0].astype(float), one.score[:count, 0].astype(float)
        own.append(Track(t[:count], xy, score))
        tracks.append(resample(xy, t[:count], timeline.t_s, max_gap_s=gap))
        scores.append(np.nan_to_num(resample(score, t[:count], timeline.t_s, max_gap_s=gap)))
    return SeenPerson(np.stack(tracks), np.stack(scores), timeline.t_s, found[0].skeleton, leader, tuple(own))


def measured_on(solution: RigSolution, person: SeenPerson) -> RigSolution:
    """The solution with the person's stature among its figures: what alone knows of a scale that all else agrees on."""
    tall = stature(person_points(solution.rig, person.xy_px, person.score), person.skeleton)
    if tall is None:
        return solution
    facts = {"stature_m": tall.metres, "stature_sigma_m": tall.sigma, "stature_by_segment": dict(tall.segments)}
    return dataclasses.replace(solution, facts={**solution.facts, **facts})


def floor_under(rig: Rig, person: SeenPerson) -> Plane:
    """The floor that the person walks on, in a rig's frame.

    Raises:
        GateError: if the feet do not tell it.
    """
    some = person.thinned()
    return person_floor(person_points(rig, some.xy_px, some.score), some.skeleton, some.t_s)


def with_clocks(solution: RigSolution, person: SeenPerson, clocks: Mapping[str, Clock]) -> RigSolution:
    """The solution with the clocks refined on the person, weighed against what synchronisation knew of them.

    Raises:
        GateError: if the views share too little of a moving person.
    """
    ids = solution.rig.ids
    known = np.array([[clocks[view].offset_sigma_s, clocks[view].rate_sigma] for view in ids])
    found = refine_clocks(solution.rig, person.tracks, [Clock()] * len(ids), prior=known)
    corrections = found.corrections(solution.rig)
    facts = {"clock_correction_ms": {view: 1000 * c.offset_s for view, c in corrections.items() if c.observable}}
    return dataclasses.replace(solution, clocks=corrections, facts={**solution.facts, **facts})


def refined(rig: Rig, person: SeenPerson, config: KeypointRefinement) -> RigSolution:
    """The rig refined on the person, with figures of it."""
    if swapped := swapped_views(rig, person.xy_px, person.score):
        unknown = dict.fromkeys(rig.ids, np.zeros((6, 6)))
        facts = rig_facts(rig, unknown, {}, gravity=True) | {"swapped": [list(pair) for pair in swapped]}
        return RigSolution(rig, unknown, {}, np.zeros((0, 0)), facts=facts)
    solved = refine_on_keypoints(rig, person.xy_px, person.score, config)
    ids = rig.ids
    covariance = dict(zip(ids, solved.covariance, strict=True))
    error = dict(zip(ids, solved.after_px.tolist(), strict=True))
    facts = rig_facts(solved.rig, covariance, error, gravity=True) | {
        "before_px": dict(zip(ids, solved.before_px.tolist(), strict=True)),
        "moved_deg": dict(zip(ids, solved.moved_deg.tolist(), strict=True)),
        "moved_mm": dict(zip(ids, (1000 * solved.moved_m).tolist(), strict=True)),
        "num_points": solved.num_points,
        "leader": person.leader,
    }
    return RigSolution(solved.rig, covariance, {}, np.zeros((0, 0)), facts=facts)
