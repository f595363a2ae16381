"""PKU-MMD's text files: two people a line, actions with their first and last frame.

Liu et al. 2017, arXiv 1703.07475. A skeleton file has a line a frame (30 a second): x y z in metres of 25 joints of one
person and of another, in the camera's frame with y up; a person who is not there is all zeros. A label file has a line
an action: class from 1, first frame, last frame, confidence. Both have the video's name, in folders of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.arrays import Float
from core.errors import InputError
from dataset.importers.foreign import read_text
from dataset.kinect.actors import MAX_PEOPLE, seen_whole
from dataset.kinect.skeleton_files import NUM_NTU_JOINTS

NUM_CLASSES = 51
_NUMBERS = MAX_PEOPLE * NUM_NTU_JOINTS * 3
_AS_DOWNLOADED = "give the file of PKU-MMD as it was downloaded"


@dataclass(frozen=True)
class LabelledAction:
    """An action in a long video.

    Attributes:
        action: class, from 1.
        start: first frame, as the field reads the file: counted from 0.
        stop: one past the last frame.
        confidence: 1 or 2, how sure the labellers were; nothing here depends on it.
    """

    action: int
    start: int
    stop: int
    confidence: int


def read_pku_skeleton(path: Path) -> Float[np.ndarray, "2 frames 25 3"]:
    """Joints (metres, camera's frame, y up) of both people in every frame, NaN where one is not there.

    Raises:
        InputError: if a line has not 150 numbers, or there is none.
    """
    lines = [line.split() for line in read_text(path).splitlines() if line.strip()]
    for number, words in enumerate(lines, 1):
        if len(words) != _NUMBERS:
            raise InputError(str(path), f"line {number} has {len(words)} numbers, not {_NUMBERS}", _AS_DOWNLOADED)
    try:
        flat = np.array(lines, dtype=np.float64)
    except ValueError as error:
        raise InputError(str(path), f"has words that are no numbers ({error})", _AS_DOWNLOADED) from error
    if len(flat) == 0:
        raise InputError(str(path), "has no frames", _AS_DOWNLOADED)
    joints = flat.reshape(-1, MAX_PEOPLE, NUM_NTU_JOINTS, 3).transpose(1, 0, 2, 3)
    return np.where(seen_whole(joints)[..., None, None], joints, np.nan)


def read_pku_labels(path: Path) -> list[LabelledAction]:
    """The actions of a video, in the file's order.

    Raises:
        InputError: if a line is not class, first frame, last frame and confidence.
    """
    actions = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            values = [float(word) for word in line.replace(",", " ").split()]
            action, start, stop, confidence = (int(value) for value in values)
        except (ValueError, OverflowError) as error:
            problem = f"line {number} is {line.strip()[:60]!r}, not class,start,end,confidence ({error})"
            raise InputError(str(path), problem, _AS_DOWNLOADED) from error
        if not 1 <= action <= NUM_CLASSES or not 0 <= start < stop:
            problem = f"line {number} says class {action} from frame {start} to {stop}"
            raise InputError(
                str(path), problem, f"give classes of 1 to {NUM_CLASSES} and frames that follow each other"
            )
        actions.append(LabelledAction(action, start, stop, confidence))
    return actions
