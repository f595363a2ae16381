"""COCO's layout: one JSON file, a list of `{"image_id", "keypoints": [x, y, v, ...], "score"}`, or a whole data set's
`{"annotations": [...], "images": [...]}`. The third number of a joint is a visibility flag (0, 1, 2) in annotations and
a confidence in results; flags count as 0, 0.5 and 1.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from capture.detectors.stacking import first_number, stack_people, triples
from capture.keypoints import Keypoints2d
from core.errors import InputError
from core.files import read_json
from core.skeletons import Skeleton


def read(path: Path, skeleton: Skeleton) -> Keypoints2d:
    """All frames of a file: the images in the order of their numbers, or of the list of images where there is one."""
    data = read_json(path)
    entries = _entries(data)
    if entries is None:
        raise InputError(str(path), "it is no list of COCO annotations", "check the layout")
    images = data.get("images") if isinstance(data, dict) else None
    frames = _frame_of_image(entries, images, path)
    people: dict[int, list[np.ndarray]] = defaultdict(list)
    for entry in entries:
        if entry.get("keypoints"):
            people[frames[_image_id(entry)]].append(triples(entry["keypoints"], skeleton, str(path)))
    if isinstance(data, dict):  # annotations: flags in place of scores
        people = defaultdict(list, {f: [p * [1, 1, 0.5] for p in group] for f, group in people.items()})
    return stack_people(people, max(frames.values(), default=-1) + 1, skeleton, str(path))


def matches(path: Path) -> bool:
    """Whether a JSON file is of this layout."""
    return _entries(read_json(path)) is not None


def _entries(data: Any) -> list[dict[str, Any]] | None:
    entries = data.get("annotations") if isinstance(data, dict) else data
    if not isinstance(entries, list) or not entries:
        return None
    return entries if all(isinstance(e, dict) and "image_id" in e for e in entries) else None


def _image_id(entry: dict[str, Any]) -> str:
    return str(entry.get("image_id", entry.get("id")))


def _frame_of_image(entries: list[dict[str, Any]], images: Any, path: Path) -> dict[str, int]:
    """Frame of each image: its place in the list of images; without one, its number, counted from 0 or 1."""
    if isinstance(images, list) and images:
        ids = [str(image.get("id")) if isinstance(image, dict) else "" for image in images]
        frames = {image: frame for frame, image in enumerate(ids)}
        if any(_image_id(entry) not in frames for entry in entries):
            raise InputError(str(path), "an annotation is of an image that is not listed", "export the file again")
        return frames
    names = {_image_id(entry) for entry in entries}
    digits = {name: "".join(c for c in Path(name).stem if c.isdecimal()) for name in names}
    if not all(0 < len(d) <= 18 for d in digits.values()):
        raise InputError(str(path), "an image_id holds no number", "number the images by their frames")
    first = first_number(min(int(d) for d in digits.values()), str(path))
    return {name: int(d) - first for name, d in digits.items()}
