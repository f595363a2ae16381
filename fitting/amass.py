"""AMASS motion files in and out: SMPL, SMPL-H and SMPL-X layouts, both spellings of the frame rate, no pickles.

AMASS's conventions are this project's own, so no number changes on the way: world z up, metres, axis-angle of the root
in the world and of every other joint relative to its parent, flat hands at zero, and `trans` added last as in SMPL, so
that it differs from the pelvis joint by the rest pelvis. What differs between the kinds of body is the business of
`AmassMotion.to_kind`. (Mahmood et al., "AMASS: Archive of Motion Capture as Surface Shapes", ICCV 2019.)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from core.arrays import Float
from core.clock import parse_rate
from core.errors import InputError
from core.files import read_npz, write_npz
from fitting.body_kinds import KINDS, NUM_BODY_JOINTS, SMPL, SMPL_H, SMPL_X, BodyKind
from fitting.sequence import SmplSequence

_RATES = ("rate", "mocap_frame_rate", "mocap_framerate")
_NAMES = ("poses", "trans", "betas", "gender", "dmpls", "surface_model_type", *_RATES)
_SAME_RATE = 1e-4  # relative: 29.97 passes for 30000/1001, 119.88 does not for 120
_NUM_BETAS = 16  # AMASS states so many


@dataclass(frozen=True, eq=False)
class AmassMotion:
    """A motion as AMASS holds it.

    Attributes:
        kind: the body whose joints the poses are of.
        poses: axis-angle, radians.
        trans: SMPL's translation, metres, world z up.
        betas: shape.
        gender: of the body model.
        rate: frames a second.
        dmpls: soft-tissue coefficients, where the file has them.
    """

    kind: BodyKind
    poses: Float[np.ndarray, "frames joints 3"]
    trans: Float[np.ndarray, "frames 3"]
    betas: Float[np.ndarray, "betas"]
    gender: str
    rate: Fraction
    dmpls: Float[np.ndarray, "frames dmpls"] | None = None

    def __len__(self) -> int:
        return len(self.poses)

    def to_kind(self, kind: BodyKind) -> AmassMotion:
        """The motion for another kind of body.

        Joints 0 to 21 are the same in all. Fingers are kept between SMPL-H and SMPL-X, and the face is at rest where it
        is new. SMPL's joints 22 and 23 turn a whole hand, which no one joint of the others does: they are dropped, and
        at rest on the way back. SMPL and SMPL-H share their betas; those of SMPL-X mean something else, and become the
        mean shape, which also shifts the pelvis by the difference of the rest poses.
        """
        if kind is self.kind:
            return self
        poses = np.zeros((len(self), kind.num_joints, 3))
        poses[:, :NUM_BODY_JOINTS] = self.poses[:, :NUM_BODY_JOINTS]
        if fingers := min(kind.num_hand_joints, self.kind.num_hand_joints):
            poses[:, -fingers:] = self.poses[:, -fingers:]
        other_shapes = SMPL_X in (kind, self.kind)
        betas = np.zeros_like(self.betas) if other_shapes else self.betas
        return dataclasses.replace(
            self, kind=kind, poses=poses, betas=betas, dmpls=None if other_shapes else self.dmpls
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays of an AMASS file: betas filled with zeros up to 16, and an exact `rate` as well."""
        betas = np.zeros(max(_NUM_BETAS, len(self.betas)))
        betas[: len(self.betas)] = self.betas
        content = {
            "poses": self.poses.reshape(len(self), -1).astype(np.float64),
            "trans": self.trans.astype(np.float64),
            "betas": betas,
            "gender": np.array(self.gender),
            "surface_model_type": np.array(self.kind.model_type),
            "mocap_framerate": np.array(float(self.rate)),
            "mocap_frame_rate": np.array(float(self.rate)),
            "rate": np.array(f"{self.rate.numerator}/{self.rate.denominator}"),
        }
        return content if self.dmpls is None else content | {"dmpls": self.dmpls}

    def save(self, path: Path) -> None:
        """Writes an AMASS `.npz`."""
        write_npz(path, self.arrays())


def to_amass(sequence: SmplSequence, kind: BodyKind | None = None) -> dict[str, np.ndarray]:
    """A fitted sequence as the arrays of an AMASS file.

    Args:
        sequence: the fit.
        kind: layout; AMASS has SMPL-H (156 columns) and SMPL-X (165), where fingers are as they were held in the fit.
            SMPL (72) keeps SMPL's two hand joints too. The fit's own if not given, and SMPL-H for fits of SMPL.

    Returns:
        AMASS's arrays, and what AMASS has no place for: `valid` (frames, 24) joints that are well determined, `reasons`
        (frames,) bits of `Reason` of frames that are not to be used, 0 where they are, and `contacts` (frames, 4).
    """
    own, poses = sequence.kind, sequence.poses.reshape(len(sequence), -1, 3)
    motion = AmassMotion(own, poses, sequence.trans, sequence.betas, sequence.gender, parse_rate(sequence.rate))
    return motion.to_kind(kind or (SMPL_H if own is SMPL else own)).arrays() | {
        "valid": sequence.joint_valid.astype(bool),
        "reasons": np.where(sequence.frame_valid, 0, sequence.reasons).astype(np.int32),
        "contacts": sequence.contacts,
    }


def write_amass(path: Path, sequence: SmplSequence, kind: BodyKind | None = None) -> None:
    """Writes `to_amass` as an `.npz`."""
    write_npz(path, to_amass(sequence, kind))


def read_amass(path: Path) -> AmassMotion:
    """Reads an AMASS motion; other entries of the file are never opened.

    Raises:
        InputError: if the file is damaged, holds Python objects where numbers or words are wanted, lacks poses, trans
            or the frame rate, states two rates, or is of no known layout.
    """
    data = read_npz(path, _NAMES)
    kind = _kind(data, path)
    frames = len(data["poses"])
    dmpls = data.get("dmpls")
    if dmpls is not None and (dmpls.ndim != 2 or len(dmpls) != frames or dmpls.dtype.kind not in "fiu"):
        raise InputError(str(path), f"dmpls {dmpls.shape} beside {frames} frames", "dmpls must be (frames, 8)")
    return AmassMotion(
        kind,
        data["poses"].astype(np.float64).reshape(frames, -1, 3),
        data["trans"].astype(np.float64),
        _betas(data, path),
        _text(data.get("gender", np.array("neutral"))).lower(),
        _rate(data, path),
        None if dmpls is None else dmpls.astype(np.float64),
    )


def _kind(data: Mapping[str, np.ndarray], path: Path) -> BodyKind:
    """The body of the file's poses, by their width; what the file says of it must agree."""
    for name in ("poses", "trans"):
        if name not in data:
            raise InputError(str(path), f"it has no {name}", "give an AMASS motion file (not shape.npz)")
    poses, trans = data["poses"], data["trans"]
    kinds = {3 * kind.num_joints: kind for kind in KINDS}
    numbers = poses.dtype.kind in "fiu" and trans.dtype.kind in "fiu"
    if (
        not numbers
        or poses.ndim != 2
        or poses.shape[1] not in kinds
        or trans.shape != (len(poses), 3)
        or not len(poses)
    ):
        raise InputError(
            str(path),
            f"poses {poses.shape} and trans {trans.shape} are of no known layout",
            f"poses must be (frames, {' or '.join(map(str, kinds))}) and trans (frames, 3), numbers",
        )
    kind = kinds[poses.shape[1]]
    if "surface_model_type" in data and (said := _text(data["surface_model_type"]).lower()) != kind.model_type:
        problem = f"surface_model_type is {said!r}, and poses of {poses.shape[1]} columns are {kind.model_type}'s"
        raise InputError(str(path), problem, "correct one of the two")
    return kind


def _betas(data: Mapping[str, np.ndarray], path: Path) -> np.ndarray:
    """The shape, one for the whole motion; zero where the file states none."""
    betas = data.get("betas", np.zeros(_NUM_BETAS))
    rows = betas.reshape(1, -1) if betas.ndim < 2 else betas
    if betas.dtype.kind not in "fiu" or rows.ndim != 2 or not len(rows) or not np.isfinite(rows).all():
        raise InputError(str(path), f"betas {betas.shape} are no shape", "betas must be (16,), finite numbers")
    if (rows != rows[0]).any():
        raise InputError(str(path), "its betas change from frame to frame", "give every person a file")
    return rows[0].astype(np.float64)


def _rate(data: Mapping[str, np.ndarray], path: Path) -> Fraction:
    """Frames a second, whichever way it is spelled."""
    found: dict[str, Fraction] = {}
    for name in _RATES:
        if name in data and data[name].size == 1:
            value: Any = data[name].item()
            try:
                found[name] = parse_rate(value if isinstance(value, (int, float)) else _text(data[name]))
            except InputError as error:
                raise InputError(str(path), f"{name} is {error.item}: {error.problem}", error.action) from error
    if not found:
        raise InputError(str(path), "it states no frame rate", "add mocap_frame_rate (frames a second)")
    rates = list(found.values())
    if any(abs(float(rate / rates[0]) - 1) > _SAME_RATE for rate in rates):
        stated = ", ".join(f"{name} {float(rate):g}" for name, rate in found.items())
        raise InputError(str(path), f"it states two frame rates: {stated}", "keep the one that is true")
    return rates[0]


def _text(array: np.ndarray) -> str:
    """A word, however it is stored: text, bytes, an array of one, or the `b'male'` that printing bytes leaves."""
    value = array.item() if array.size == 1 else ""
    text = value.decode("latin1") if isinstance(value, bytes) else str(value)
    return text[2:-1] if text.startswith(("b'", 'b"')) else text
