"""What the viewer shows: of a session its room, cameras, ways and fit; of a dataset's clip the body alone."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from calibration.egomotion import load_egomotion
from calibration.lens import load_lenses
from calibration.marker_map import load_marker_map, still_targets
from calibration.rig import load_rig
from capture.session import Session
from core.arrays import Bool, Float
from core.cameras import Camera, Lens, Rig
from core.errors import InputError
from core.transforms import SE3
from dataset.exporters.glb import smpl_sequence
from dataset.shards import AmdDataset
from fitting.film import Shot, is_followed, shot_of
from fitting.films import fit_folder
from fitting.fit import load_body
from fitting.observations import Observations
from fitting.playback import Playback
from fitting.sequence import load_smpl
from fitting.smpl import BodyModel

_NEAR_S = 0.1  # to a camera's frame; before its first and after its last one it has no place
_BEYOND_M = 0.5  # that rays go on behind the person


@dataclass(frozen=True, eq=False)
class Way:
    """A foot camera's way.

    Attributes:
        lens: of the camera.
        t_s: times of its frames, session clock.
        world_from_cam: poses, NaN where not valid.
        valid: measured or filled.
        filled: filled between measurements.
    """

    lens: Lens
    t_s: Float[np.ndarray, "frames"]
    world_from_cam: SE3
    valid: Bool[np.ndarray, "frames"]
    filled: Bool[np.ndarray, "frames"]

    def at(self, view_id: str, t_s: float) -> Camera | None:
        """The camera in the frame nearest to a time; None where its place is not known, or it did not record."""
        after = int(np.clip(np.searchsorted(self.t_s, t_s), 1, max(len(self.t_s) - 1, 1)))
        frame = after - 1 if len(self.t_s) == 1 or t_s - self.t_s[after - 1] < self.t_s[after] - t_s else after
        if abs(self.t_s[frame] - t_s) > _NEAR_S or not self.valid[frame]:
            return None
        return Camera(view_id, self.lens, self.world_from_cam[frame].inverse())


@dataclass(frozen=True)
class Segment:
    """A Motif's occurrence: seconds on the recording's clock, and its type's name."""

    start_s: float
    end_s: float
    name: str


@dataclass(frozen=True, eq=False)
class Viewed:
    """One recording or clip.

    Attributes:
        name: of it.
        playback: the body and its motion; None where nothing is fitted yet.
        rig: room cameras; None where there are none.
        targets: corners of boards and markers in the world, by name, (n, 3).
        ways: of the foot cameras.
        motifs: what a trained model found in it.
        note: what is to be said of all of it.
    """

    name: str
    playback: Playback | None
    rig: Rig | None = None
    targets: Mapping[str, Float[np.ndarray, "n 3"]] = field(default_factory=dict)
    ways: Mapping[str, Way] = field(default_factory=dict)
    motifs: tuple[Segment, ...] = ()
    note: str = ""
    _shot: Callable[[str, Observations | None], Shot] | None = None
    _observations: Path | None = None
    _shots: dict[str, Shot | None] = field(default_factory=dict)

    @cached_property
    def t_s(self) -> Float[np.ndarray, "instants"]:
        """Instants that can be shown; one where nothing moves."""
        if self.playback is not None:
            return self.playback.sequence.t_s
        if self.observations is not None:
            return self.observations.timeline.t_s
        return np.zeros(1)

    @cached_property
    def observations(self) -> Observations | None:
        """Keypoints of the room views, read when they are first asked for; None if there are none."""
        if self._observations is None or not self._observations.is_file():
            return None
        return Observations.load(self._observations)

    @property
    def view_ids(self) -> tuple[str, ...]:
        """Views whose pictures can be drawn over."""
        if self._shot is None or self.playback is None:
            return ()
        return (*(self.rig.ids if self.rig else ()), *self.ways)

    def shot(self, view_id: str) -> Shot | None:
        """A view with its pictures; None if it has none. The first time, its video is read through."""
        if view_id not in self._shots:
            try:
                self._shots[view_id] = None if self._shot is None else self._shot(view_id, self.observations)
            except InputError:
                self._shots[view_id] = None
        return self._shots[view_id]

    def camera(self, view_id: str, instant: int) -> Camera | None:
        """A camera at an instant; None where its place is not known."""
        if self.rig is not None and view_id in self.rig.ids:
            return self.rig[view_id]
        way = self.ways.get(view_id)
        return None if way is None else way.at(view_id, float(self.t_s[instant]))

    def rays(self, instant: int, view_id: str | None = None) -> Float[np.ndarray, "rays 2 3"]:
        """From cameras through their keypoints to beside the person, world, metres; of all views if none is named."""
        seen, rig = self.observations, self.rig
        if seen is None or rig is None:
            return np.zeros((0, 2, 3))
        t_s = self.t_s[instant]
        row = int(np.clip(np.searchsorted(seen.timeline.t_s, t_s - 1e-6), 0, len(seen.timeline.t_s) - 1))
        parts = [np.zeros((0, 2, 3))]
        for k, name in enumerate(seen.view_ids):
            if name not in rig.ids or view_id not in (None, name):
                continue
            camera, px = rig[name], seen.xy_px[k, row]
            px = px[np.isfinite(px).all(axis=-1)]
            ways = camera.lens.unproject(px) @ camera.world_from_cam.R.T
            ways = ways / np.linalg.norm(ways, axis=-1, keepdims=True)
            ends = camera.centre + (self.reach_m(name, instant) + _BEYOND_M) * ways
            parts.append(np.stack([np.broadcast_to(camera.centre, ends.shape), ends], axis=1))
        rays = np.concatenate(parts)
        return rays[np.isfinite(rays).all(axis=(1, 2))]

    def reach_m(self, view_id: str, instant: int) -> float:
        """How far the person is from a room camera; five metres where that is not known."""
        assert self.rig is not None
        if self.playback is None:
            return 5.0
        away = self.playback.sequence.joints_m[instant, 0] - self.rig[view_id].centre
        return float(np.linalg.norm(away)) if np.isfinite(away).all() else 5.0


def viewed_session(folder: Path, body_model: str, motifs: Path | None = None) -> Viewed:
    """A session with whatever is calibrated and fitted.

    Args:
        folder: the session.
        body_model: the model that was fitted.
        motifs: what `motifs discover` wrote about a dataset with this session.

    Raises:
        InputError: if there is nothing to show, or it was fitted with another body.
    """
    session = Session.load(folder)
    if not (session.stage("04_rig") / "rig.json").is_file():
        raise InputError(session.id, "no camera is placed yet", f"run `motifs run {folder}` first")
    rig, playback, note = load_rig(folder), None, "nothing is fitted yet"
    try:
        fit = fit_folder(session)
    except InputError:
        pass
    else:
        playback = Playback.of(load_smpl(fit / "smpl.npz"), load_body(body_model))
        note = "of a fit that was refused" if fit.name.endswith(".refused") else ""
    placed = load_marker_map(folder)
    targets = {name: placed[name].apply(t.points_m) for name, t in still_targets(session).items() if name in placed}

    def shot(view_id: str, seen: Observations | None) -> Shot:
        if playback is None:
            raise InputError(view_id, "nothing is fitted yet", "run `motifs fit`")
        return shot_of(session, session[view_id], rig, playback, seen)

    return Viewed(
        session.id,
        playback,
        rig,
        {name: points[np.isfinite(points).all(axis=-1)] for name, points in targets.items()},
        _ways(session),
        _segments(motifs, "session", session.id),
        note,
        shot,
        session.stage("06_points3d") / "observations.npz",
    )


def viewed_clip(dataset: AmdDataset, clip_id: str, body: BodyModel, motifs: Path | None = None) -> Viewed:
    """A clip of a dataset.

    Raises:
        InputError: if there is no such clip, or it was made with another body.
    """
    playback = Playback.of(smpl_sequence(dataset.read(clip_id)), body)
    return Viewed(clip_id, playback, motifs=_segments(motifs, "clip", clip_id))


def _ways(session: Session) -> dict[str, Way]:
    feet = [view.id for view in session.views if is_followed(session, view)]
    lenses = load_lenses(session.folder) if feet else {}
    ways = {}
    for name in feet:
        way = load_egomotion(session.folder, name)
        ways[name] = Way(lenses[name], way.t_s, way.world_from_cam, way.valid, way.filled)
    return ways


def _segments(folder: Path | None, column: str, name: str) -> tuple[Segment, ...]:
    """Motifs in the tables that `motifs discover` wrote, of the rows in which a column has a name."""
    if folder is None:
        return ()
    for table in ("motifs.csv", "types.csv"):
        if not (folder / table).is_file():
            raise InputError(str(folder), f"it holds no {table}", "make it with `motifs discover`")
    names = {row["type"]: row["name"] for row in _rows(folder / "types.csv")}
    rows = [row for row in _rows(folder / "motifs.csv") if row[column] == name]
    return tuple(
        Segment(float(row["start_s"]), float(row["end_s"]), names.get(row["type"], row["type"])) for row in rows
    )


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))
