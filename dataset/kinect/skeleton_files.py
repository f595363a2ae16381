"""NTU RGB+D `.skeleton` text: everybody whom a Kinect v2 saw, in the camera's frame.

Layout (Shahroudy et al., CVPR 2016, and the reader published with the data): the number of frames; for each frame the
number of bodies; for each body its tracking id and nine more numbers, the number of joints, and twelve numbers a joint:
x y z (metres), its place in the depth and colour pictures, a quaternion, and 2 tracked, 1 inferred, 0 not tracked.

The camera's frame is x to its left, y up, z away from it: a world with y up as far as the camera was level, which it
does not say.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from core.arrays import Float, Int
from core.errors import InputError
from dataset.importers.foreign import read_text

NUM_NTU_JOINTS = 25
RATE = Fraction(30)
_BODY_NUMBERS, _JOINT_NUMBERS = 10, 12
_MAX_BODIES = 6  # what Kinect v2 follows at once
# frames times bodies: an hour of two people; a small file of many ids would fill any memory otherwise
_MAX_PLACES = 250_000


def read_skeleton(
    path: Path,
) -> dict[str, tuple[Float[np.ndarray, "frames 25 3"], Int[np.ndarray, "frames 25"]]]:
    """Joints (metres, camera's frame, NaN where a body is not seen) and tracking states of every body, by tracking id.

    Raises:
        InputError: if the file is no `.skeleton` text, is cut off, or goes on after its last frame.
    """
    words = read_text(path).split()
    try:
        return _bodies(words)
    except (ValueError, IndexError, OverflowError) as error:
        problem = f"not the text of an NTU skeleton, or cut off ({error})"
        raise InputError(str(path), problem, "give a .skeleton file of NTU RGB+D as it was downloaded") from error


def _bodies(words: Sequence[str]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """What `read_skeleton` gives, from the file's words; ids stay words, for they are larger than a float is exact."""
    size = NUM_NTU_JOINTS * _JOINT_NUMBERS
    num_frames, at = int(words[0]), 1
    if not 0 <= num_frames < len(words):
        raise ValueError(f"{num_frames} frames in {len(words)} words")
    found: dict[str, list[tuple[int, Sequence[str]]]] = {}
    for frame in range(num_frames):
        num_bodies, at = int(words[at]), at + 1
        if not 0 <= num_bodies <= _MAX_BODIES:
            raise ValueError(f"frame {frame} has {num_bodies} bodies")
        for _ in range(num_bodies):
            body, num_joints = words[at], int(words[at + _BODY_NUMBERS])
            at += _BODY_NUMBERS + 1
            if num_joints != NUM_NTU_JOINTS or len(words) < at + size:
                raise ValueError(f"frame {frame} has a body of {num_joints} joints and {len(words) - at} numbers left")
            found.setdefault(body, []).append((frame, words[at : at + size]))
            at += size
    if at != len(words):
        raise ValueError(f"{len(words) - at} words after frame {num_frames - 1}")
    if num_frames * len(found) > _MAX_PLACES:
        raise ValueError(f"{num_frames} frames of {len(found)} bodies")
    return {body: _along_time(entries, num_frames) for body, entries in found.items()}


def _along_time(entries: Sequence[tuple[int, Sequence[str]]], num_frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Joints and tracking states in every frame."""
    numbers = np.array([words for _, words in entries], dtype=np.float64).reshape(-1, NUM_NTU_JOINTS, _JOINT_NUMBERS)
    frames = [frame for frame, _ in entries]
    joints, states = np.full((num_frames, NUM_NTU_JOINTS, 3), np.nan), np.zeros((num_frames, NUM_NTU_JOINTS), np.int64)
    joints[frames] = np.where(np.isfinite(numbers[..., :3]), numbers[..., :3], np.nan)
    states[frames] = np.nan_to_num(numbers[..., -1]).astype(np.int64)
    return joints, states
