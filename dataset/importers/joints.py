"""From joints that a project states to a sequence of the dataset: a body is fitted, put on the floor, and described."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from core.arrays import Bool, Float, UInt8
from dataset.importers.amass import contacts_from_joints
from dataset.joints_to_smpl import JointFit, fit_joints, height_above_floor
from dataset.schema import NUM_JOINTS, REASONS, Clip, ClipLabels
from fitting.smpl import BodyModel


@dataclass(frozen=True, eq=False)
class SeenJoints:
    """What a source states of one person.

    Attributes:
        item: id for the sequence, unique in the dataset.
        subject: who moves.
        session: the recording.
        rate: frames a second.
        joints_m: SMPL's joints in a world with z up; NaN where the source has none.
        measured: joints that the source itself does not call a guess.
        bone_sigma_m: how well the source's bones have SMPL's lengths.
        provenance: what to remember of the source.
        actions: labels of every frame.
        action_names: their columns.
    """

    item: str
    subject: str
    session: str
    rate: Fraction
    joints_m: Float[np.ndarray, "frames 24 3"]
    measured: Bool[np.ndarray, "frames 24"]
    bone_sigma_m: float
    provenance: Mapping[str, Any]
    actions: UInt8[np.ndarray, "frames actions"] | None = None
    action_names: tuple[str, ...] = ()


def sequence_of_joints(seen: SeenJoints, body: BodyModel) -> Clip:
    """The whole sequence, not yet cut, of a body fitted to the joints and lowered onto the floor.

    Joints are those of the body, so that a clip's joints, rotations and shape say the same; how far they are from
    the joints seen is in the provenance, in millimetres.

    Raises:
        InputError: if the joints do not fix a body.
    """
    fit = fit_joints(body, seen.joints_m, seen.bone_sigma_m)
    drop = np.array([0.0, 0.0, height_above_floor(fit.shaped, fit.joints_m)])
    joints = fit.joints_m - drop
    frames = len(joints)
    missing = ~np.isfinite(joints).all(axis=(1, 2))
    return Clip(
        seen.item,
        _labels(seen, fit, body, float(drop[2])),
        poses=fit.poses.astype(np.float32),
        trans=(fit.trans - drop).astype(np.float32),
        betas=fit.shaped.betas.astype(np.float32),
        joints_m=joints.astype(np.float32),
        joint_covariance=np.full((frames, NUM_JOINTS, 6), np.nan, dtype=np.float32),
        valid=seen.measured & ~missing[:, None],
        reasons=np.where(missing, REASONS["no_keypoints"], 0).astype(np.int32),
        contacts=contacts_from_joints(joints, float(seen.rate)),
        actions=seen.actions,
    )


def _labels(seen: SeenJoints, fit: JointFit, body: BodyModel, lowered_m: float) -> ClipLabels:
    error_mm = 1e3 * fit.error_m[np.isfinite(fit.error_m)]
    return ClipLabels(
        rate=f"{seen.rate.numerator}/{seen.rate.denominator}",
        subject=seen.subject,
        session=seen.session,
        start_s=0.0,
        gender="neutral",
        body_model=body.name,
        body_model_sha256=body.sha256,
        action_names=seen.action_names,
        provenance={
            **seen.provenance,
            "rotations": "from joints, twist of the limbs unknown",
            "joint_error_mm": {
                "median": round(float(np.median(error_mm)), 3),
                "p95": round(float(np.percentile(error_mm, 95)), 3),
            },
            "lowered_m": round(lowered_m, 4),
        },
    )
