"""What the room cameras saw of the subject, brought to the session's instants: keypoints of one person in every view.

Views meet here in time (`core.clock`), and where a view shows several people the one is taken that agrees with the
other views: the person seen largest to begin with, then, twice, the one closest to the points triangulated so far.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from calibration.clocks import load_times
from capture.keypoints import load_keypoints
from capture.session import Session
from core.cameras import Rig
from core.clock import Timeline, parse_rate, resample
from core.errors import InputError
from core.files import read_npz, write_npz
from core.skeletons import Skeleton, skeleton_named
from fitting.points import TriangulationConfig, reprojection_px, triangulate_points

MAX_GAP_FRAMES = 1.5  # keypoints are interpolated between neighbouring frames only


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
        write_npz(path, arrays)

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


def load_observations(session: Session, rig: Rig, config: TriangulationConfig) -> Observations:
    """Reads keypoints and clocks of the views that the rig holds.

    Raises:
        InputError: if fewer than two room views have keypoints, they differ in skeleton, or they share no time.
    """
    folder = session.stage("02_keypoints")
    views = [v for v in session.of_role("room") if v.id in rig.ids and (folder / f"{v.id}.npz").is_file()]
    if len(views) < 2:
        raise InputError(
            session.id, f"{len(views)} room views have both keypoints and a place in the rig", "at least two are needed"
        )
    people = {view.id: load_keypoints(folder / f"{view.id}.npz") for view in views}
    skeletons = {keypoints.skeleton.name for keypoints in people.values()}
    if len(skeletons) > 1:
        raise InputError(session.id, f"views have different skeletons: {sorted(skeletons)}", "detect all views alike")
    times = {view.id: load_times(session.folder, view.id)[: len(people[view.id].xy_px)] for view in views}
    timeline = _timeline(session, times)
    ids = tuple(people)
    skeleton = people[ids[0]].skeleton
    chosen = _choose_people(rig.subset(ids), [people[i].xy_px for i in ids], [people[i].score for i in ids],
                            [times[i] for i in ids], timeline.t_s, skeleton, config)  # fmt: skip
    xy, score = [], []
    for view, who in zip(views, chosen, strict=True):
        frames = np.arange(len(who))
        max_gap_s = MAX_GAP_FRAMES / float(view.rate)
        packed = np.concatenate(
            [people[view.id].xy_px[frames, who], people[view.id].score[frames, who][..., None]], axis=-1
        ).astype(float)
        packed = resample(packed, times[view.id], timeline.t_s, max_gap_s=max_gap_s)
        # a thousandth of a pixel is kept; hours of many views would else fill the memory
        xy.append(packed[..., :2].astype(np.float32))
        score.append(np.where(np.isfinite(packed).all(axis=-1), packed[..., 2], 0.0).astype(np.float32))
    return Observations(timeline, ids, np.stack(xy), np.nan_to_num(np.stack(score)), skeleton)


def _timeline(session: Session, times: dict[str, np.ndarray]) -> Timeline:
    """Instants of the `motion` span, or of the time that at least two views share."""
    starts, ends = sorted(t[0] for t in times.values()), sorted(t[-1] for t in times.values())
    first, last = starts[1], ends[-2]
    if "motion" in session.spans_s:
        first, last = max(first, session.spans_s["motion"][0]), min(last, session.spans_s["motion"][1])
    if last <= first:
        raise InputError(session.id, "the views share no time", "check clocks and the `motion` span in session.json")
    return Timeline.spanning(float(first), float(last), parse_rate(session.rate))


def _choose_people(
    rig: Rig,
    xy_px: list[np.ndarray],
    score: list[np.ndarray],
    times: list[np.ndarray],
    t_s: np.ndarray,
    skeleton: Skeleton,
    config: TriangulationConfig,
) -> list[np.ndarray]:
    """Index of the subject among the people of every frame of every view."""
    chosen = [np.argmax(_prominence(xy, s), axis=1) for xy, s in zip(xy_px, score, strict=True)]
    if all(xy.shape[1] == 1 for xy in xy_px):
        return chosen
    nearest = [_nearest(t, t_s) for t in times]
    back = [_nearest(t_s, t) for t in times]
    for _ in range(2):
        seen = [xy[i, who[i]] for xy, who, i in zip(xy_px, chosen, nearest, strict=True)]
        trust = [s[i, who[i]] for s, who, i in zip(score, chosen, nearest, strict=True)]
        points = triangulate_points(rig, np.stack(seen), np.stack(trust), skeleton, config)
        for v, camera in enumerate(rig):
            at = points.xyz_m[back[v]][:, None]
            error = reprojection_px(Rig((camera,)), np.broadcast_to(at, (*xy_px[v].shape[:-1], 3)), xy_px[v][None])[0]
            missing = ~np.isfinite(error)
            # a joint that is missing is no evidence; a person without common joints is no candidate
            typical = np.ma.median(np.ma.array(np.nan_to_num(error), mask=missing), axis=-1).filled(np.inf)
            chosen[v] = np.where(np.isfinite(typical).any(axis=1), np.argmin(typical, axis=1), chosen[v])
    return chosen


def _prominence(xy_px: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Sum of scores times height in the picture, for every person of every frame."""
    y = xy_px[..., 1]
    height = np.where(np.isfinite(y), y, -np.inf).max(axis=-1) - np.where(np.isfinite(y), y, np.inf).min(axis=-1)
    return np.where(np.isfinite(height), height, 0.0) * np.nan_to_num(score).sum(axis=-1)


def _nearest(t_s: np.ndarray, query_s: np.ndarray) -> np.ndarray:
    right = np.clip(np.searchsorted(t_s, query_s), 1, max(len(t_s) - 1, 1))
    left = right - 1
    right = np.minimum(right, len(t_s) - 1)
    return np.where(query_s - t_s[left] <= t_s[right] - query_s, left, right)
