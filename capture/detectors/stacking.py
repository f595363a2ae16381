"""From people listed frame by frame to arrays, with every number checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from capture.keypoints import Keypoints2d, clean, skeletons_with
from core.arrays import Float
from core.errors import InputError
from core.skeletons import Skeleton

MAX_FRAMES = 1_000_000  # nine hours at 30 Hz; a larger number in a file is damage, and would exhaust the memory
_MAX_PEOPLE = 100
# places for joints: an hour of a crowd, or so many for each joint that is there
_ALWAYS_JOINTS, _MAX_SPARSE = 1 << 25, 100


def triples(values: Any, skeleton: Skeleton, item: str) -> Float[np.ndarray, "joints 3"]:
    """[x, y, score, x, y, score, ...] as rows.

    Raises:
        InputError: if the list is not numbers, or not one triple for each joint of the skeleton.
    """
    try:
        flat = np.asarray(values, dtype=np.float64).reshape(-1)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(item, "its joints are not a list of numbers", "export the detections again") from error
    check_count(flat.size / 3, skeleton, item)
    return flat.reshape(-1, 3)


def check_count(found: float | int, skeleton: Skeleton, item: str) -> None:
    """Refuses another number of joints than the skeleton's.

    Raises:
        InputError: naming the file, both numbers and the skeletons that would fit.
    """
    if found != len(skeleton):
        raise InputError(
            item,
            f"it has {found:g} joints a person, {skeleton.name} has {len(skeleton)}",
            f"declare the skeleton it was made with ({found:g} joints: {skeletons_with(int(found))})",
        )


def first_number(lowest: int, item: str) -> int:
    """The number of frame 0: tools count from 0 or from 1.

    Raises:
        InputError: if the lowest number is another; nothing then tells which frame of the video it belongs to, and a
            guess would shift the person in time without a trace.
    """
    if lowest not in (0, 1):
        raise InputError(
            item,
            f"its frames begin at number {lowest}, so frame 0 is not known",
            "number the frames from 0 or 1, as the video's, with empty entries where nobody is seen",
        )
    return lowest


def stack_people(
    people: Mapping[int, Sequence[Float[np.ndarray, "joints 3"]]], num_frames: int, skeleton: Skeleton, item: str
) -> Keypoints2d:
    """Arrays of people listed by frame; frames that are not in the mapping hold nobody.

    Raises:
        InputError: if there are too many frames or people, or so few of them that one of the numbers is wrong.
    """
    if num_frames > MAX_FRAMES or any(not 0 <= frame < MAX_FRAMES for frame in people):
        raise InputError(item, f"frame numbers beyond {MAX_FRAMES} or negative", "check the file names or image ids")
    most = max((len(entries) for entries in people.values()), default=0)
    if most > _MAX_PEOPLE:
        raise InputError(item, f"{most} people in one frame", f"filter the detections to at most {_MAX_PEOPLE}")
    places, given = num_frames * max(most, 1), sum(map(len, people.values()))
    if places * len(skeleton) > max(_ALWAYS_JOINTS, _MAX_SPARSE * given * len(skeleton)):
        problem = f"{given} people in {num_frames} frames, up to {most} in one"
        raise InputError(item, problem, "check the numbers in the file names or image ids")
    data = np.zeros((num_frames, max(most, 1), len(skeleton), 3))
    for frame, entries in people.items():
        for index, person in enumerate(entries):
            data[frame, index] = person
    return clean(data[..., :2], data[..., 2], skeleton)
