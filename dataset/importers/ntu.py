"""NTU RGB+D `.skeleton` files (`dataset.kinect.skeleton_files`) as sequences of a fitted body, one for each person.

NTU gives no SMPL; `dataset.importers.joints` fits one. Kinect's head is the middle of the head and its hand the palm;
its neck and fingers have no counterpart among SMPL's joints and are left out.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from core.errors import InputError
from core.files import sha256_of_file
from core.skeletons import SMPL_24
from dataset.importers.joints import SeenJoints, sequence_of_joints
from dataset.kinect.joint_map import KINECT_OF_SMPL
from dataset.kinect.skeleton_files import RATE, read_skeleton
from dataset.rotations import z_up
from dataset.schema import NUM_JOINTS, Clip
from fitting.smpl import BodyModel

# NTU-60 has the first 60
ACTIONS = tuple(f"A{number:03d}" for number in range(1, 121))
_TRACKED = 2
_BONE_SIGMA_M = 0.02
_SMPL_IDX = [SMPL_24.idx(name) for name in KINECT_OF_SMPL]
_KINECT_IDX = list(KINECT_OF_SMPL.values())
_NAME = re.compile(r"S(\d{3})C(\d{3})P(\d{3})R(\d{3})A(\d{3})", re.IGNORECASE)


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
            rate=RATE,
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
