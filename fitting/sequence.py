"""The annotation of one sequence, as `smpl.npz` holds it: AMASS's arrays, and how far they may be trusted."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import IntFlag
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import InputError
from core.files import read_npz, write_npz
from fitting.body_kinds import BodyKind, kind_of_poses

CONTACTS = ("left_heel", "left_big_toe", "right_heel", "right_big_toe")


class Reason(IntFlag):
    """Why a frame is not valid; several may hold."""

    OK = 0
    NO_KEYPOINTS = 1
    """Too few keypoints in the room views, and no foot camera to bridge them."""
    UNCERTAIN = 2
    """The joints' covariance is too large."""
    MISFIT = 4
    """The body does not reach the keypoints."""
    BELOW_FLOOR = 8
    """A sole lies well below the floor."""


def spoken(reasons: Reason) -> str:
    """Reasons in words, such as "no keypoints, uncertain"; bits that mean nothing here are "unspecified"."""
    names = [reason.name.lower().replace("_", " ") for reason in Reason if reason.name and reason in reasons]
    return ", ".join(names if names or not reasons else ["unspecified"])


@dataclass(frozen=True, eq=False)
class SmplSequence:
    """SMPL parameters of every frame, world z up, floor at z = 0.

    Attributes:
        t_s: instants on the session clock, (frames,).
        rate: instants a second, a rational ("30/1").
        poses: axis-angle of the root and of all other joints of the body, radians: (frames, 72) of SMPL, 156 of SMPL-H,
            165 of SMPL-X.
        trans: SMPL's translation, metres, (frames, 3).
        betas: shape, (betas,).
        gender: of the body model.
        body_model: name of the body model.
        body_sha256: hash of its numbers.
        joints_m: SMPL's joints in the world, or what stands for them (`BodyKind.joint_of_smpl`), (frames, 24, 3).
        joint_covariance: of the joints, m^2, (frames, 24, 3, 3).
        joint_valid: whether a joint is determined well enough, (frames, 24).
        frame_valid: whether the frame may be used, (frames,).
        reasons: `Reason` of every frame, (frames,).
        contacts: probability that left heel, left toe, right heel, right toe rest on the floor, (frames, 4).
    """

    t_s: np.ndarray
    rate: str
    poses: np.ndarray
    trans: np.ndarray
    betas: np.ndarray
    gender: str
    body_model: str
    body_sha256: str
    joints_m: np.ndarray
    joint_covariance: np.ndarray
    joint_valid: np.ndarray
    frame_valid: np.ndarray
    reasons: np.ndarray
    contacts: np.ndarray

    def __len__(self) -> int:
        return len(self.t_s)

    @property
    def kind(self) -> BodyKind:
        """The body whose joints the poses are of."""
        return kind_of_poses(self.poses.shape[1], self.body_model)

    def save(self, path: Path) -> None:
        """Writes `smpl.npz`."""
        write_npz(path, {f.name: np.asarray(getattr(self, f.name)) for f in dataclasses.fields(self)})


_TEXT = ("rate", "gender", "body_model", "body_sha256")


def load_smpl(path: Path) -> SmplSequence:
    """Reads `smpl.npz`.

    Raises:
        InputError: if the file is missing, damaged, lacks an array, or its lengths differ.
    """
    arrays = read_npz(path)
    names = {f.name for f in dataclasses.fields(SmplSequence)}
    if missing := names - arrays.keys():
        raise InputError(str(path), f"it lacks {', '.join(sorted(missing))}", "run `motifs fit` again")
    values: dict[str, Any] = {name: str(arrays[name]) if name in _TEXT else arrays[name] for name in names}
    sequence = SmplSequence(**values)
    per_frame = names - {*_TEXT, "betas"}
    lengths = {name: len(arrays[name]) for name in per_frame}
    if len(set(lengths.values())) > 1:
        raise InputError(str(path), f"its arrays differ in length: {lengths}", "run `motifs fit` again")
    if sequence.poses.ndim != 2:
        raise InputError(str(path), f"its poses are {sequence.poses.shape}", "run `motifs fit` again")
    kind_of_poses(sequence.poses.shape[1], str(path))
    return sequence
