"""MMPose's layout: one JSON file, a list of frames (or `{"instance_info": [...]}`), each
`{"frame_id", "instances": [{"keypoints": [[x, y], ...], "keypoint_scores": [...]}]}`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from capture.detectors.stacking import check_count, first_number, stack_people
from capture.keypoints import Keypoints2d
from core.errors import InputError
from core.files import read_json
from core.skeletons import Skeleton


def read(path: Path, skeleton: Skeleton) -> Keypoints2d:
    """All frames of a file, in its order or by its frame numbers (MMPose counts from 1 or 0)."""
    frames = _frames(read_json(path))
    if frames is None:
        raise InputError(str(path), "it is no MMPose prediction file", "check the layout")
    numbers = [frame.get("frame_id", index) for index, frame in enumerate(frames)]
    if not all(isinstance(n, int) for n in numbers) or len(set(numbers)) != len(numbers):
        raise InputError(str(path), "its frame_id are not different whole numbers", "export the predictions again")
    first = first_number(min(numbers, default=0), str(path))
    people = {
        number - first: [_person(person, skeleton, path) for person in frame["instances"]]
        for number, frame in zip(numbers, frames, strict=True)
    }
    return stack_people(people, max(people, default=-1) + 1, skeleton, str(path))


def matches(path: Path) -> bool:
    """Whether a JSON file is of this layout."""
    return _frames(read_json(path)) is not None


def _frames(data: Any) -> list[dict[str, Any]] | None:
    frames = data.get("instance_info") if isinstance(data, dict) else data
    if not isinstance(frames, list) or not frames:
        return None
    return frames if all(isinstance(f, dict) and isinstance(f.get("instances"), list) for f in frames) else None


def _person(person: Any, skeleton: Skeleton, path: Path) -> np.ndarray:
    try:
        xy = np.asarray(person["keypoints"], dtype=np.float64)
        score = np.asarray(person["keypoint_scores"], dtype=np.float64)
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        raise InputError(
            str(path), f"a person's joints cannot be read ({error})", "export the predictions again"
        ) from error
    check_count(len(score) if score.ndim == 1 else 0, skeleton, str(path))
    if xy.shape != (len(skeleton), 2):
        raise InputError(str(path), f"joints of shape {xy.shape} are not one (x, y) each", "export 2D predictions")
    return np.concatenate([xy, score[:, None]], axis=-1)
