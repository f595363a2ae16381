"""NTU RGB+D `.skeleton` files: 25 joints of Kinect v2, at 30 Hz, in the camera's frame, of everybody it saw.

Layout (Shahroudy et al., CVPR 2016, and the reader published with the data): the number of frames; for each frame the
number of bodies; for each body its tracking id and nine more numbers, the number of joints, and twelve numbers a joint:
x y z (metres), its place in the depth and colour pictures, a quaternion, and 2 tracked, 1 inferred, 0 not tracked.

The camera's frame is x to its left, y up, z away from it: a world with y up as far as the camera was level, which it
does not say. NTU gives no SMPL; `dataset.importers.joints` fits one. Kinect's head is the middle of the head and its
hand the palm; its neck and fingers have no counterpart among SMPL's joints and are left out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from core.arrays import Float, Int
from core.errors import InputError
from core.files import sha256_of_file
from core.skeletons import SMPL_24
from dataset.importers.foreign import read_text
from dataset.importers.joints import SeenJoints, sequence_of_joints, z_up
from dataset.schema import NUM_JOINTS, Clip
from fitting.smpl import BodyModel

NUM_NTU_JOINTS = 25
# NTU-60 has the first 60
ACTIONS = tuple(f"A{number:03d}" for number in range(1, 121))
_RATE = Fraction(30)
_BODY_NUMBERS, _JOINT_NUMBERS = 10, 12
_TRACKED = 2
_MAX_BODIES = 6  # what Kinect v2 follows at once
_BONE_SIGMA_M = 0.02
# SMPL joint: Kinect joint, from 0
_KINECT = {
    "pelvis": 0, "spine2": 1, "neck": 20, "head": 3, "left_shoulder": 4, "left_elbow": 5, "left_wrist": 6,
    "left_hand": 7, "right_shoulder": 8, "right_elbow": 9, "right_wrist": 10, "right_hand": 11, "left_hip": 12,
    "left_knee": 13, "left_ankle": 14, "left_foot": 15, "right_hip": 16, "right_knee": 17, "right_ankle": 18,
    "right_foot": 19,
}  # fmt: skip
_SMPL_IDX = [SMPL_24.idx(name) for name in _KINECT]
_KINECT_IDX = list(_KINECT.values())
_NAME = re.compile(r"S(\d{3})C(\d{3})P(\d{3})R(\d{3})A(\d{3})", re.IGNORECASE)


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


def read_ntu(path: Path, item: str, subject: str, body: BodyModel) -> list[Clip]:
    """A sequence for each body in the file, in the order in which they appear, not yet cut.

    Args:
        path: the file; a name such as S001C002P003R002A013 states subject and action.
        item: id for the sequences, which get `-body0` and so on.
        subject: who moves, where the name does not say. All bodies of a file get its subject, since nobody says who
            the others are; so no file is divided between splits.
        body: model to fit.

    Raises:
        InputError: if the file cannot be read, or nobody is in it.
    """
    named = _NAME.search(path.stem)
    label = int(named[5]) if named else 0
    people = read_skeleton(path)
    if not people:
        raise InputError(str(path), "nobody is in any of its frames", "leave this file out")
    sequences = []
    for number, (joints, states) in enumerate(people.values()):
        actions = np.zeros((len(joints), len(ACTIONS)), dtype=np.uint8) if 1 <= label <= len(ACTIONS) else None
        if actions is not None:
            actions[:, label - 1] = 1
        seen = SeenJoints(
            item=f"{item}-body{number}",
            subject=f"P{named[3]}" if named else subject,
            session=item,
            rate=_RATE,
            joints_m=_in_smpl_order(z_up(joints), np.nan),
            measured=_in_smpl_order(states == _TRACKED, False),
            bone_sigma_m=_BONE_SIGMA_M,
            provenance={"source": "ntu", "body": number, "file_sha256": sha256_of_file(path)},
            actions=actions,
            action_names=() if actions is None else ACTIONS,
        )
        sequences.append(sequence_of_joints(seen, body))
    return sequences


def _in_smpl_order(values: np.ndarray, otherwise: float | bool) -> np.ndarray:
    """(frames, 25, ...) as (frames, 24, ...)."""
    ordered = np.full((len(values), NUM_JOINTS, *values.shape[2:]), otherwise, dtype=values.dtype)
    ordered[:, _SMPL_IDX] = values[:, _KINECT_IDX]
    return ordered


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
    return {body: _along_time(entries, num_frames) for body, entries in found.items()}


def _along_time(entries: Sequence[tuple[int, Sequence[str]]], num_frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Joints and tracking states in every frame."""
    numbers = np.array([words for _, words in entries], dtype=np.float64).reshape(-1, NUM_NTU_JOINTS, _JOINT_NUMBERS)
    frames = [frame for frame, _ in entries]
    joints, states = np.full((num_frames, NUM_NTU_JOINTS, 3), np.nan), np.zeros((num_frames, NUM_NTU_JOINTS), np.int64)
    joints[frames] = np.where(np.isfinite(numbers[..., :3]), numbers[..., :3], np.nan)
    states[frames] = np.nan_to_num(numbers[..., -1]).astype(np.int64)
    return joints, states
