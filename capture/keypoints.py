"""2D joints of people in the frames of one view."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.arrays import Bool, Float, Int
from core.errors import InputError
from core.files import read_npz, write_npz
from core.skeletons import SKELETONS, Skeleton, skeleton_named

_MAX_PX = 1e6  # no picture is that large


@dataclass(frozen=True, eq=False)
class Keypoints2d:
    """Joints of people, frame by frame.

    Attributes:
        xy_px: (frames, people, joints, 2) float32 in the view's pixel frame; NaN where missing. People are in the
            detector's order, which may change from frame to frame.
        score: (frames, people, joints) float32, the detector's confidence between 0 and 1; 0 where missing.
        skeleton: what the joints are.
    """

    xy_px: Float[np.ndarray, "frames people joints 2"]
    score: Float[np.ndarray, "frames people joints"]
    skeleton: Skeleton

    @property
    def num_frames(self) -> int:
        """Number of frames."""
        return len(self.xy_px)

    @property
    def num_people(self) -> int:
        """Largest number of people in one frame."""
        return self.xy_px.shape[1]

    @property
    def valid(self) -> Bool[np.ndarray, "frames people joints"]:
        """Which joints were found."""
        return self.score > 0

    def person(self, person_idx: Int[np.ndarray, "frames"]) -> Keypoints2d:
        """The sequence of one person a frame.

        Args:
            person_idx: which of the people is meant in each frame; -1 for nobody.
        """
        rows = np.arange(self.num_frames)
        nobody = person_idx < 0
        xy = self.xy_px[rows, np.maximum(person_idx, 0)].copy()
        score = self.score[rows, np.maximum(person_idx, 0)].copy()
        xy[nobody], score[nobody] = np.nan, 0
        return Keypoints2d(xy[:, None], score[:, None], self.skeleton)

    def save(self, path: Path) -> None:
        """Writes the joints as `.npz`."""
        write_npz(
            path,
            {
                "xy_px": self.xy_px.astype(np.float32),
                "score": self.score.astype(np.float32),
                "skeleton": np.array(self.skeleton.name),
            },
        )


def load_keypoints(path: Path) -> Keypoints2d:
    """Reads what `Keypoints2d.save` wrote.

    Raises:
        InputError: if the file is damaged or its arrays do not fit together.
    """
    data = read_npz(path)
    missing = {"xy_px", "score", "skeleton"} - data.keys()
    if missing:
        raise InputError(str(path), f"it has no array {sorted(missing)[0]!r}", "run `motifs detect` with --redo")
    skeleton = skeleton_named(str(data["skeleton"]))
    xy, score = data["xy_px"], data["score"]
    if xy.ndim != 4 or xy.shape[2:] != (len(skeleton), 2) or score.shape != xy.shape[:3]:
        raise InputError(
            str(path),
            f"arrays of shape {xy.shape} and {score.shape} are no {skeleton.name} joints",
            "run `motifs detect` with --redo",
        )
    return Keypoints2d(xy, score, skeleton)


def clean(
    xy_px: Float[np.ndarray, "frames people joints 2"],
    score: Float[np.ndarray, "frames people joints"],
    skeleton: Skeleton,
) -> Keypoints2d:
    """Joints as a detector wrote them, made uniform: one way to be missing, scores between 0 and 1.

    A joint is missing if a number of it is not finite or far outside any picture, its score is not positive, or it lies
    at the very (0, 0) that detectors write for none. Scores above 1 (heat map peaks) count as 1.
    """
    score = np.clip(np.nan_to_num(score, posinf=0.0), 0.0, 1.0).astype(np.float32)
    near = (np.abs(np.nan_to_num(xy_px, nan=np.inf)) < _MAX_PX).all(axis=-1)
    found = near & (score > 0) & (xy_px != 0).any(axis=-1)
    xy = np.where(found[..., None], xy_px, np.nan).astype(np.float32)
    return Keypoints2d(xy, np.where(found, score, np.float32(0)), skeleton)


def select_person(keypoints: Keypoints2d, *, max_step: float = 0.5, min_joints: int = 3) -> Int[np.ndarray, "frames"]:
    """The most prominent person, followed through the frames by overlap.

    The track starts, and starts again after a loss, at the largest sum of score times extent; from then on the person
    nearest to the last position is taken if the joints' median step is below `max_step` times the body's extent.

    Returns:
        which of the people it is in each frame; -1 where nobody fits.
    """
    extent = _extent_px(keypoints, min_joints)
    prominence = np.where(np.isfinite(extent), np.nan_to_num(extent) * keypoints.score.sum(axis=-1), -1.0)
    chosen = np.full(keypoints.num_frames, -1)
    last: np.ndarray | None = None
    for frame in range(keypoints.num_frames):
        if not (prominence[frame] > 0).any():
            continue
        if last is not None:
            step = _median_step(keypoints.xy_px[frame], last)
            step = np.where(prominence[frame] > 0, step / extent[frame], np.inf)
            if np.nanmin(np.nan_to_num(step, nan=np.inf)) < max_step:
                chosen[frame] = int(np.nanargmin(step))
                last = keypoints.xy_px[frame, chosen[frame]]
                continue
        chosen[frame] = int(np.argmax(prominence[frame]))
        last = keypoints.xy_px[frame, chosen[frame]]
    return chosen


def best_person(keypoints: Keypoints2d) -> Keypoints2d:
    """The sequence of the person that `select_person` follows; (frames, 1, joints)."""
    if keypoints.num_people == 1:
        return keypoints
    return keypoints.person(select_person(keypoints))


def skeletons_with(num_joints: int) -> str:
    """Names of the skeletons with this number of joints, for messages."""
    return " or ".join(s.name for s in SKELETONS.values() if len(s) == num_joints) or "none that is known"


def _extent_px(keypoints: Keypoints2d, min_joints: int) -> np.ndarray:
    """Diagonal of each person's box; NaN for people of fewer joints."""
    found = keypoints.valid[..., None]
    high = np.where(found, keypoints.xy_px, -np.inf).max(axis=2)
    low = np.where(found, keypoints.xy_px, np.inf).min(axis=2)
    enough = keypoints.valid.sum(axis=-1) >= min_joints
    size = np.where(enough[..., None], high - np.where(enough[..., None], low, 0), np.nan)
    return np.maximum(np.linalg.norm(size, axis=-1), 1.0)


def _median_step(people_xy: np.ndarray, last_xy: np.ndarray) -> np.ndarray:
    """Median distance of each person's joints from the last position; infinite without common joints."""
    distance = np.linalg.norm(people_xy - last_xy, axis=-1)
    common = np.isfinite(distance).any(axis=-1)
    return np.array([np.nanmedian(d) if ok else np.inf for d, ok in zip(distance, common, strict=True)])
