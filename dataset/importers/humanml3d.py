"""HumanML3D: joints (`joints/`, `new_joints/`: T x 22 x 3) or vectors (`new_joint_vecs/`: T x 263), `.npy`, 20 Hz.

Nobody says who moves. A motion and its mirror image (`M` before the name) get one subject of their own, so a split
never has a motion on one side and its mirror on the other. HumanML3D is made from AMASS and HumanAct12 with everybody's
bones made alike: a data set with AMASS and HumanML3D in it holds the same motions twice.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np

from core.errors import InputError
from core.files import sha256_of_file
from dataset.humanml3d import NUM_JOINTS, NUM_VALUES, RATE_HZ, joints_from_vectors
from dataset.importers.foreign import read_npy
from dataset.importers.joints import SeenJoints, sequence_of_joints
from dataset.rotations import z_up
from dataset.schema import NUM_JOINTS as NUM_SMPL_JOINTS
from dataset.schema import Clip
from fitting.smpl import BodyModel

# the joints are SMPL's own
_BONE_SIGMA_M = 0.002


def read_humanml3d(path: Path, item: str, body: BodyModel) -> Clip:
    """The whole motion, not yet cut.

    Args:
        path: the file.
        item: id for the sequence, unique in the dataset.
        body: model to fit.

    Raises:
        InputError: if the file is damaged, or neither joints nor vectors.
    """
    array = read_npy(path)
    if array.ndim == 2 and array.shape[1] == NUM_VALUES and len(array):
        layout, joints = "vectors", joints_from_vectors(array)
    elif array.ndim == 3 and array.shape[1:] == (NUM_JOINTS, 3) and len(array):
        layout, joints = "joints", array.astype(np.float64)
    else:
        problem = f"an array {array.shape} is neither joints (frames, 22, 3) nor vectors (frames, 263) of HumanML3D"
        raise InputError(str(path), problem, "give files of new_joints or new_joint_vecs")
    seen = np.full((len(joints), NUM_SMPL_JOINTS, 3), np.nan)
    seen[:, :NUM_JOINTS] = z_up(joints)
    name = path.stem.removeprefix("M")
    facts = SeenJoints(
        item=item,
        subject=f"humanml3d-{name}",
        session=name,
        rate=Fraction(RATE_HZ),
        joints_m=seen,
        measured=np.isfinite(seen).all(axis=-1),
        bone_sigma_m=_BONE_SIGMA_M,
        provenance={"source": "humanml3d", "layout": layout, "file_sha256": sha256_of_file(path)},
    )
    return sequence_of_joints(facts, body)
