"""OpenPose's layout: a folder with one JSON file a frame, the last number in the file's name being the frame's.

`{"people": [{"pose_keypoints_2d": [x, y, score, ...]}]}`; the joints are those of the declared
skeleton (BODY_25, BODY_25B, COCO_17).
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np

from capture.detectors.stacking import first_number, stack_people, triples
from capture.keypoints import Keypoints2d
from core.errors import InputError
from core.files import atomic_folder, read_json
from core.skeletons import Skeleton

_NUMBER = re.compile(r"\d+")


def read(path: Path, skeleton: Skeleton) -> Keypoints2d:
    """All frames of a folder; numbers count from 0 or 1, a number without a file is a frame without people."""
    files = _numbered(path)
    first = first_number(min(files), str(path))
    people = {number - first: _read_frame(file, skeleton) for number, file in sorted(files.items())}
    return stack_people(people, max(files) - first + 1, skeleton, str(path))


def write(folder: Path, keypoints: Keypoints2d, name: str) -> None:
    """Writes joints as OpenPose would, `<name>_<frame, 12 digits>_keypoints.json`; replaces the folder."""
    data = np.concatenate([keypoints.xy_px, keypoints.score[..., None]], axis=-1)
    data = np.where(keypoints.valid[..., None], data, 0.0).astype(np.float64).round(3)
    with atomic_folder(folder) as temporary:
        for frame, people in enumerate(data):
            entries = [{"person_id": [-1], "pose_keypoints_2d": p.ravel().tolist()} for p in people if p.any()]
            text = json.dumps({"version": 1.3, "people": entries})
            (temporary / f"{name}_{frame:012d}_keypoints.json").write_text(text)


def _numbered(path: Path) -> dict[int, Path]:
    """Files by the last number in their names."""
    if not path.is_dir():
        raise InputError(str(path), "OpenPose's layout is a folder of JSON files, one a frame", "give the folder")
    files: dict[int, Path] = {}
    for file in sorted(path.glob("*.json")):
        numbers = _NUMBER.findall(file.stem)
        if not numbers:
            raise InputError(str(file), "its name holds no frame number", "name the files as OpenPose does")
        if int(numbers[-1]) in files:
            raise InputError(str(file), f"another file has frame number {numbers[-1]}", "keep one view a folder")
        files[int(numbers[-1])] = file
    if not files:
        raise InputError(str(path), "it holds no JSON files", "check the path")
    return files


def _read_frame(file: Path, skeleton: Skeleton) -> list[np.ndarray]:
    data = read_json(file)
    if not isinstance(data, dict) or not isinstance(data.get("people"), list):
        raise InputError(str(file), "it has no list of people", "it is not OpenPose's output; check the layout")
    # Pose2Sim's association writes an empty object for a person who is not in the frame
    present = [p for p in data["people"] if p != {}]
    people = [p.get("pose_keypoints_2d") if isinstance(p, dict) else None for p in present]
    return [triples(values, skeleton, str(file)) for values in people if values != []]
