"""Humans in Kitchens: one person in one kitchen, `poses/<kitchen>_<person>_<sequence>.npz`, at 25 Hz, z up.

Tanke et al., "Humans in Kitchens" (NeurIPS 2023), version 0.0.1: `transforms` (n, 6) translation and rotation vector of
the root, `smpl` (n, 21, 3) rotation vectors of the body joints, `poses3d` (n, 29, 3) joints (SMPL-X's first 24 and five
points of the face), `frames` (n,) of the kitchen, `act` (n, 82) binary activities, and `betas` (10,) of SMPL-X.

Rotations come as they are, since SMPL and SMPL-X share these joints. SMPL-X's betas and translation mean something else
to SMPL and are not read: the shape is fitted to the lengths of the bones in `poses3d`, and the pelvis put where it is
there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np

from core.arrays import UInt8
from core.errors import InputError
from core.files import sha256_of_file
from dataset.importers.amass import contacts_from_joints
from dataset.importers.foreign import read_bounded_npz
from dataset.importers.hik_labels import ACTIVITIES, CLASSES, regroup
from dataset.joints_to_smpl import shape_of_bones
from dataset.schema import NUM_JOINTS, Clip, ClipLabels
from fitting.body_kinds import NUM_BODY_JOINTS
from fitting.smpl import BodyModel

HikLabels = Literal["original", "regrouped"]
RATE = Fraction(25)
_SHAPES: Mapping[str, tuple[int, ...]] = {
    "transforms": (6,), "smpl": (NUM_BODY_JOINTS - 1, 3), "poses3d": (29, 3), "frames": (), "act": (len(ACTIVITIES),),
}  # fmt: skip
# what tells such a file from an AMASS one
MARKS = frozenset({"transforms", "smpl", "poses3d", "act"})
_BONE_SIGMA_M = 0.002
_NAME = re.compile(r"([A-Za-z]+)_(\d+)_(\d+)")


def read_hik(path: Path, item: str, subject: str, body: BodyModel, labels: HikLabels) -> list[Clip]:
    """A sequence for each stretch of neighbouring frames, not yet cut (the data set promises one).

    Args:
        path: the file; its name states kitchen and person, who is counted within the kitchen.
        item: id for the sequences, which get `-001` and so on from the second.
        subject: who moves, where the name does not say.
        body: model to give the person a shape of.
        labels: the 82 activities, or the paper's 36 classes.

    Raises:
        InputError: if the file is damaged or lacks an array, which it names.
    """
    data = read_bounded_npz(path, _SHAPES)
    _check(data, path)
    named = _NAME.fullmatch(path.stem)
    who, where = (f"{named[1]}-p{int(named[2]):02d}", f"kitchen-{named[1]}") if named else (subject, item)
    together = np.append(True, np.diff(data["frames"].astype(np.int64)) == 1)
    starts = np.flatnonzero(~together).tolist()
    clips = []
    for number, (start, stop) in enumerate(zip([0, *starts], [*starts, len(together)], strict=True)):
        part = {name: data[name][start:stop] for name in _SHAPES}
        name = item if number == 0 else f"{item}-{number:03d}"
        clips.append(_sequence(part, path, (name, who, where), body, labels))
    return clips


def _sequence(
    data: Mapping[str, np.ndarray], path: Path, names: tuple[str, str, str], body: BodyModel, labels: HikLabels
) -> Clip:
    """One stretch of neighbouring frames."""
    frames = len(data["frames"])
    seen = np.full((frames, NUM_JOINTS, 3), np.nan)
    seen[:, :NUM_BODY_JOINTS] = data["poses3d"][:, :NUM_BODY_JOINTS]
    poses = np.zeros((frames, NUM_JOINTS, 3))
    poses[:, 0], poses[:, 1:NUM_BODY_JOINTS] = data["transforms"][:, 3:], data["smpl"]
    shaped = body.with_shape(shape_of_bones(body, seen, _BONE_SIGMA_M))
    trans = shaped.transl_from_root(seen[:, 0])
    joints = shaped.with_pose(poses, trans).joints
    error_mm = 1e3 * np.linalg.norm(joints - seen, axis=-1)[:, :NUM_BODY_JOINTS]
    actions, action_names = _actions(data["act"], labels)
    return Clip(
        names[0],
        ClipLabels(
            rate=f"{RATE.numerator}/{RATE.denominator}",
            subject=names[1],
            session=names[2],
            start_s=float(data["frames"][0] / RATE),
            gender="neutral",
            body_model=body.name,
            body_model_sha256=body.sha256,
            action_names=action_names,
            provenance={
                "source": "hik",
                "shape": "fitted to the bones",
                "joint_error_mm": {
                    "median": round(float(np.nanmedian(error_mm)), 3),
                    "p95": round(float(np.nanpercentile(error_mm, 95)), 3),
                },
                "file_sha256": sha256_of_file(path),
            },
        ),
        poses=poses.astype(np.float32),
        trans=trans.astype(np.float32),
        betas=shaped.betas.astype(np.float32),
        joints_m=joints.astype(np.float32),
        joint_covariance=np.full((frames, NUM_JOINTS, 6), np.nan, dtype=np.float32),
        valid=np.broadcast_to(np.arange(NUM_JOINTS) < NUM_BODY_JOINTS, (frames, NUM_JOINTS)).copy(),
        reasons=np.zeros(frames, np.int32),
        contacts=contacts_from_joints(joints, float(RATE)),
        actions=actions,
    )


def _actions(act: np.ndarray, labels: HikLabels) -> tuple[UInt8[np.ndarray, "frames actions"], tuple[str, ...]]:
    active = (act > 0.5).astype(np.uint8)
    return (active, ACTIVITIES) if labels == "original" else (regroup(active), CLASSES)


def _check(data: Mapping[str, np.ndarray], path: Path) -> None:
    """Refuses a file whose arrays are missing, are no numbers, or do not fit together."""
    if missing := sorted({*_SHAPES} - data.keys()):
        raise InputError(str(path), f"it has no {', '.join(missing)}", "give a file of HiK's poses/ folder")
    frames = len(data["frames"]) if data["frames"].ndim else 0
    for name, shape in _SHAPES.items():
        found = data[name]
        if found.shape != (frames, *shape) or found.dtype.kind not in "fiub" or not frames:
            problem = f"{name} is {found.dtype} {found.shape}, not numbers {(frames or 'n', *shape)}"
            raise InputError(str(path), problem, "give a file of HiK's poses/ folder")
    if not np.isfinite(data["poses3d"]).all(axis=(1, 2)).any() or not np.isfinite(data["frames"]).all():
        raise InputError(str(path), "poses3d is whole in no frame", "give a file of HiK's poses/ folder")
