"""Silhouettes of the subject that another tool found: a folder of pictures, one for each frame that has a mask.

`masks/<view>/<frame>.png`: the last number in a file's name is the frame of the view's video, counted from 0; frames
may be left out. A pixel is 0 where the person is not, 128 where nothing is said (another person, a cut, something that
hides the subject), and anything else where the person is. Masks have the size of the view's pictures.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from capture.stills import list_stills, read_still
from core.arrays import Bool
from core.errors import InputError

IGNORED = 128
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True, eq=False)
class Mask:
    """A silhouette.

    Attributes:
        person: where the person is.
        ignored: where nothing is said.
    """

    person: Bool[np.ndarray, "h w"]
    ignored: Bool[np.ndarray, "h w"]


def list_masks(folder: Path, num_frames: int = 0) -> dict[int, Path]:
    """Mask files by frame, in order.

    Args:
        folder: where they lie.
        num_frames: of the view, 0 if not known.

    Raises:
        InputError: if there are none, a name has no number, two have the same, or one is of no frame.
    """
    masks: dict[int, Path] = {}
    for path in list_stills(folder):
        numbers = _NUMBER.findall(path.stem)
        if not numbers:
            raise InputError(str(path), "its name holds no frame number", "name it 000123.png after its frame")
        frame = int(numbers[-1])
        if frame in masks:
            raise InputError(str(path), f"{masks[frame].name} is of frame {frame} too", "keep one of them")
        if 0 < num_frames <= frame:
            problem = f"it is of frame {frame}, the view has {num_frames}"
            raise InputError(str(path), problem, "number masks as the video's frames, from 0")
        masks[frame] = path
    return dict(sorted(masks.items()))


def read_mask(path: Path) -> Mask:
    """Reads one mask.

    Raises:
        InputError: if it is no picture.
    """
    gray = read_still(path)
    return Mask((gray != 0) & (gray != IGNORED), gray == IGNORED)
