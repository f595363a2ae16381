"""AMASS motions (`fitting.amass`) into the dataset: an SMPL body of any layout, its joints and contacts.

Fingers and face are left out and SMPL's two hand joints are kept only where the file has them. SMPL-X shape
coefficients mean something else to an SMPL body: they are replaced by the mean shape, and the provenance says so.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from core.arrays import Bool, Float
from core.files import read_npz, sha256_of_file
from core.skeletons import SMPL_24
from dataset.importers.foreign import require_bounded
from dataset.schema import NUM_JOINTS, Clip, ClipLabels
from fitting.amass import read_amass as read_motion
from fitting.body_kinds import NUM_BODY_JOINTS, SMPL, SMPL_X
from fitting.smpl import BodyModel

_NUM_BETAS = 10
_OWN = ("valid", "reasons", "contacts")
_READ = ("poses", "trans", "betas", "dmpls", *_OWN)
# A foot joint stands when it is this close to the lowest it gets in the sequence and hardly moves.
_CONTACT_HEIGHT_M, _CONTACT_SPEED_M_S = 0.05, 0.25
_FEET = [SMPL_24.idx(name) for name in ("left_ankle", "left_foot", "right_ankle", "right_foot")]


def read_amass(path: Path, item: str, subject: str, body: BodyModel) -> Clip:
    """A whole AMASS sequence, not yet cut.

    Args:
        path: the file.
        item: id for the sequence, unique in the dataset.
        subject: who moves; AMASS files do not say.
        body: model that the joints are computed with.

    Raises:
        InputError: if the file is damaged, holds Python objects, or lacks poses, trans or the rate.
    """
    require_bounded(path, _READ)
    found = read_motion(path)
    motion = found.to_kind(SMPL)
    betas = np.zeros(_NUM_BETAS)
    betas[: len(motion.betas)] = motion.betas[:_NUM_BETAS]
    # the joints of the stored float32 numbers, so that exporting and importing again changes nothing
    poses, trans, betas = (a.astype(np.float32).astype(np.float64) for a in (motion.poses, motion.trans, betas))
    joints = body.with_shape(betas[: body.num_betas]).with_pose(poses, trans).joints
    frames = len(poses)
    labels = ClipLabels(
        rate=f"{motion.rate.numerator}/{motion.rate.denominator}",
        subject=subject,
        session=item,
        start_s=0.0,
        gender=motion.gender,
        body_model=body.name,
        body_model_sha256=body.sha256,
        provenance={
            "source": "amass",
            "layout": found.kind.model_type,
            "shape": "mean" if found.kind is SMPL_X else "file",
            "file_sha256": sha256_of_file(path),
        },
    )
    data = read_npz(path, _OWN)
    measured: Bool[np.ndarray, "frames 24"] = np.ones((frames, NUM_JOINTS), dtype=bool)
    measured[:, NUM_BODY_JOINTS:] = found.kind is SMPL
    return Clip(
        item,
        labels,
        poses=poses.astype(np.float32),
        trans=trans.astype(np.float32),
        betas=betas.astype(np.float32),
        joints_m=joints.astype(np.float32),
        joint_covariance=np.full((frames, NUM_JOINTS, 6), np.nan, dtype=np.float32),
        valid=data["valid"].astype(bool) if _has(data, "valid", (frames, NUM_JOINTS)) else measured,
        reasons=data["reasons"].astype(np.int32) if _has(data, "reasons", (frames,)) else np.zeros(frames, np.int32),
        contacts=data["contacts"].astype(np.float32)
        if _has(data, "contacts", (frames, 4))
        else contacts_from_joints(joints, float(motion.rate)),
    )


def contacts_from_joints(joints_m: Float[np.ndarray, "frames 24 3"], rate_hz: float) -> Float[np.ndarray, "frames 4"]:
    """Contacts of left heel, left toe, right heel, right toe: 1 where ankle or toe joint is low and slow, else 0."""
    feet = joints_m[:, _FEET]
    if np.isfinite(feet).all(axis=(1, 2)).sum() < 2:
        return np.zeros((len(feet), 4), dtype=np.float32)
    # the 2nd percentile, not the minimum: one bad frame must not lift the floor
    low = feet[..., 2] < np.nanpercentile(feet[..., 2], 2.0, axis=0) + _CONTACT_HEIGHT_M
    slow = np.linalg.norm(np.gradient(feet, axis=0), axis=-1) * rate_hz < _CONTACT_SPEED_M_S
    return (low & slow).astype(np.float32)


def _has(data: dict[str, np.ndarray], name: str, shape: tuple[int, ...]) -> bool:
    """Whether the file carries one of this project's own extra arrays."""
    return name in data and data[name].shape == shape
