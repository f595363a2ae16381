"""What the room cameras saw: of everybody at each view's own frame times, and of one person at the session's instants.

Views meet here in time (`core.clock`). Who is who in them is for `fitting.people` to say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from calibration.clocks import load_times
from capture.keypoints import Keypoints2d, clean, load_keypoints
from capture.session import Session, View
from core.arrays import Float, Int
from core.cameras import Rig
from core.clock import Timeline, parse_rate, resample
from core.errors import InputError
from core.files import read_npz, write_npz
from core.skeletons import Skeleton, skeleton_named

MAX_GAP_FRAMES = 1.5  # keypoints are interpolated between neighbouring frames only
_LATE_S = 1.0  # a view that begins or ends so much inside of the others' time is worth a note


@dataclass(frozen=True, eq=False)
class Observations:
    """Keypoints of one person at common instants.

    Attributes:
        timeline: the instants.
        view_ids: names of the views, in the order of the arrays.
        xy_px: (views, frames, joints, 2), NaN where missing.
        score: (views, frames, joints), 0 where missing.
        skeleton: what the joints are.
    """

    timeline: Timeline
    view_ids: tuple[str, ...]
    xy_px: np.ndarray
    score: np.ndarray
    skeleton: Skeleton

    def swapped(self, swapped: np.ndarray) -> Observations:
        """The marked keypoints (views, frames, joints) taken from their mirror joints."""
        mirror = self.skeleton.swap_idx
        xy = np.where(swapped[..., None], self.xy_px[:, :, mirror], self.xy_px)
        score = np.where(swapped, self.score[:, :, mirror], self.score)
        return Observations(self.timeline, self.view_ids, xy, score, self.skeleton)

    def save(self, path: Path) -> None:
        """Writes them for the stages that follow, which so look at the same person with the same sides."""
        timeline = self.timeline
        arrays = {
            "first_s": np.array(timeline.first_s),
            "rate": np.array(str(timeline.rate)),
            "view_ids": np.array(self.view_ids),
            "xy_px": self.xy_px,
            "score": self.score,
            "skeleton": np.array(self.skeleton.name),
        }
        write_npz(path, arrays, compressed=False)

    @staticmethod
    def load(path: Path) -> Observations:
        """Reads what `save` wrote.

        Raises:
            InputError: if the file is missing or damaged.
        """
        data = read_npz(path)
        try:
            timeline = Timeline(float(data["first_s"]), parse_rate(str(data["rate"])), data["xy_px"].shape[1])
            view_ids = tuple(str(view_id) for view_id in data["view_ids"])
            skeleton = skeleton_named(str(data["skeleton"]))
            return Observations(timeline, view_ids, data["xy_px"], data["score"], skeleton)
        except (KeyError, IndexError) as error:
            action = "run `motifs triangulate` with --redo"
            raise InputError(str(path), f"it lacks {error}", action) from error


@dataclass(frozen=True, eq=False)
class Recording:
    """What a detector saw in the room views.

    Attributes:
        timeline: the session's instants.
        views: in the order of all that follows.
        found: people of each view's frames.
        t_s: frame times of each view, session clock, as many as it has frames.
        notes: what is missing, in words.
    """

    timeline: Timeline
    views: tuple[View, ...]
    found: tuple[Keypoints2d, ...]
    t_s: tuple[Float[np.ndarray, "_"], ...]
    notes: tuple[str, ...]

    @property
    def view_ids(self) -> tuple[str, ...]:
        """Names of the views."""
        return tuple(view.id for view in self.views)

    def of_person(self, who: Sequence[Int[np.ndarray, "_"]]) -> Observations:
        """One person at the session's instants.

        Args:
            who: for each view, which of the people of each frame it is; -1 where the person is not seen. Joints are
                interpolated only between neighbouring frames in both of which they are.
        """
        xy, score = [], []
        for view, found, times, person in zip(self.views, self.found, self.t_s, who, strict=True):
            one = found.person(person) if found.num_people else _nobody(found)
            packed = np.concatenate([one.xy_px[:, 0], one.score[:, 0, :, None]], axis=-1).astype(float)
            packed = resample(packed, times, self.timeline.t_s, max_gap_s=MAX_GAP_FRAMES / float(view.rate))
            # a thousandth of a pixel is kept; hours of many views would else fill the memory
            xy.append(packed[..., :2].astype(np.float32))
            score.append(np.where(np.isfinite(packed).all(axis=-1), packed[..., 2], 0.0).astype(np.float32))
        return Observations(self.timeline, self.view_ids, np.stack(xy), np.stack(score), self.found[0].skeleton)


def _nobody(found: Keypoints2d) -> Keypoints2d:
    shape = (found.num_frames, 1, len(found.skeleton))
    return Keypoints2d(np.full((*shape, 2), np.nan, np.float32), np.zeros(shape, np.float32), found.skeleton)


def load_recording(session: Session, rig: Rig) -> Recording:
    """Reads keypoints and clocks of the views that the rig holds, made uniform by `capture.keypoints.clean`.

    Views without frames are left out, and frames without times; both are noted.

    Raises:
        InputError: if fewer than two room views have keypoints, they differ in skeleton, or they share no time.
    """
    folder = session.stage("02_keypoints")
    views, found, times, notes = [], [], [], []
    for view in session.of_role("room"):
        if view.id not in rig.ids or not (folder / f"{view.id}.npz").is_file():
            continue
        keypoints, t_s = load_keypoints(folder / f"{view.id}.npz"), load_times(session.folder, view.id)
        frames = min(keypoints.num_frames, len(t_s))
        if frames < keypoints.num_frames:
            notes.append(f"{view.id}: the last {keypoints.num_frames - frames} frames of its keypoints have no time")
        if not frames:
            notes.append(f"{view.id}: it has no frames and is left out")
            continue
        cleaned = clean(keypoints.xy_px[:frames], keypoints.score[:frames], keypoints.skeleton)
        if not cleaned.valid.any():
            notes.append(f"{view.id}: nobody was detected in it")
        views.append(view)
        found.append(cleaned)
        times.append(t_s[:frames])
    if len(views) < 2:
        raise InputError(
            session.id, f"{len(views)} room views have both keypoints and a place in the rig", "at least two are needed"
        )
    if len(skeletons := {keypoints.skeleton.name for keypoints in found}) > 1:
        raise InputError(session.id, f"views have different skeletons: {sorted(skeletons)}", "detect all views alike")
    timeline = _timeline(session, times)
    first, last = timeline.t_s[[0, -1]]
    for view, t_s in zip(views, times, strict=True):
        if t_s[0] > first + _LATE_S or t_s[-1] < last - _LATE_S:
            notes.append(f"{view.id}: it lasts from {t_s[0]:.1f} to {t_s[-1]:.1f} s only")
    return Recording(timeline, tuple(views), tuple(found), tuple(times), tuple(notes))


def _timeline(session: Session, times: Sequence[np.ndarray]) -> Timeline:
    """Instants of the `motion` span, or of the time that at least two views share."""
    starts, ends = sorted(t[0] for t in times), sorted(t[-1] for t in times)
    first, last = starts[1], ends[-2]
    if "motion" in session.spans_s:
        first, last = max(first, session.spans_s["motion"][0]), min(last, session.spans_s["motion"][1])
    if last <= first:
        raise InputError(session.id, "the views share no time", "check clocks and the `motion` span in session.json")
    return Timeline.spanning(float(first), float(last), parse_rate(session.rate))
