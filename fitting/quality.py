"""How good a fit is, in figures a laboratory knows: pixels, millimetres, and whether the person is humanly possible."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.arrays import Bool, Float, Int
from core.stage import Health
from fitting.contacts import sole_speeds
from fitting.sequence import Reason
from fitting.smpl import BodyModel


@dataclass(frozen=True)
class QualityConfig:
    """When a fit may be used.

    Attributes:
        max_reprojection_px: largest median reprojection error of a view.
        min_valid: smallest share of valid frames.
        max_penetration_m: largest 95th percentile of the soles' depth under the floor.
        height_m: plausible statures.
        root_height_m: plausible median heights of the pelvis.
        max_joint_sigma_m: joints less certain than this are not valid.
        max_frame_px: frames whose median reprojection error is larger are not valid.
        min_keypoints: frames with fewer keypoints in all views together are not valid.
    """

    max_reprojection_px: float = 14.0
    min_valid: float = 0.5
    max_penetration_m: float = 0.05
    height_m: tuple[float, float] = (1.3, 2.15)
    root_height_m: tuple[float, float] = (0.1, 1.3)
    max_joint_sigma_m: float = 0.08
    max_frame_px: float = 40.0
    min_keypoints: int = 8


def frame_reasons(
    error_px: Float[np.ndarray, "views frames joints"],
    joint_sigma_m: Float[np.ndarray, "frames 24"],
    soles_m: Float[np.ndarray, "frames points 3"],
    bridged: Bool[np.ndarray, "frames"],
    config: QualityConfig,
    *,
    floor: bool = True,
) -> Int[np.ndarray, "frames"]:
    """`Reason` of every frame.

    Args:
        error_px: reprojection errors, NaN where there is no keypoint.
        joint_sigma_m: largest standard deviation of each joint.
        soles_m: points of the soles.
        bridged: frames that a foot camera measured.
        config: thresholds.
        floor: whether the world has a floor at z = 0.
    """
    by_frame = error_px.transpose(1, 0, 2).reshape(error_px.shape[1], -1)
    seen = np.isfinite(by_frame).sum(axis=1)
    few = seen < config.min_keypoints
    typical = np.ma.median(np.ma.masked_invalid(by_frame), axis=1).filled(0.0)
    reasons = np.where(few & ~bridged, int(Reason.NO_KEYPOINTS), 0)
    reasons |= np.where(np.median(joint_sigma_m, axis=1) > config.max_joint_sigma_m, int(Reason.UNCERTAIN), 0)
    reasons |= np.where(~few & (typical > config.max_frame_px), int(Reason.MISFIT), 0)
    if floor:
        reasons |= np.where(soles_m[..., 2].min(axis=1) < -2 * config.max_penetration_m, int(Reason.BELOW_FLOOR), 0)
    return reasons.astype(np.int64)


def penetrations_m(points_m: Float[np.ndarray, "frames points 3"]) -> Float[np.ndarray, "frames"]:
    """How far the lowest of some points lies under the floor z = 0 in every frame, metres; 0 where all are above.

    Args:
        points_m: points of the body in the world, such as those of the soles.
    """
    return np.maximum(-points_m[..., 2].min(axis=1), 0.0)


def skates_m_s(
    resting_m: Float[np.ndarray, "frames points 3"], contacts: Float[np.ndarray, "frames points"], step_s: float
) -> Float[np.ndarray, "frames points"]:
    """How fast points slide over the floor that are said to rest on it, metres a second.

    The horizontal speed (central differences) times the probability of contact: a foot in the air does not skate.

    Args:
        resting_m: points of the soles in the world.
        contacts: probability that each rests on the floor.
        step_s: time between frames.
    """
    return contacts * sole_speeds(np.where([True, True, False], resting_m, 0.0), step_s)


def figures(
    body: BodyModel,
    betas: Float[np.ndarray, "betas"],
    error_px: Float[np.ndarray, "views frames joints"],
    view_ids: tuple[str, ...],
    root_m: Float[np.ndarray, "frames 3"],
    soles_m: Float[np.ndarray, "frames points 3"],
    contacts: Float[np.ndarray, "frames contacts"],
    frame_valid: Bool[np.ndarray, "frames"],
    step_s: float,
) -> dict[str, Any]:
    """Plain figures for the manifest; the first points of the soles are those of the contacts."""
    rest = body.with_shape(betas).rest_vertices
    skates = skates_m_s(soles_m[:, : contacts.shape[1]], contacts, step_s)
    known = [e[np.isfinite(e)] for e in error_px]
    return {
        "num_frames": len(root_m),
        "valid": float(frame_valid.mean()),
        "reprojection_px": {v: float(np.median(e)) if len(e) else None for v, e in zip(view_ids, known, strict=True)},
        "height_m": float(np.ptp(rest[:, 1])),
        "root_height_m": float(np.median(root_m[:, 2])),
        "penetration_p95_m": float(np.percentile(penetrations_m(soles_m), 95)),
        "skate_m_s": float(skates.sum() / max(contacts.sum(), 1e-9)),
        "betas": [float(b) for b in betas],
    }


def health_of(facts: Mapping[str, Any], config: QualityConfig, floor: bool) -> list[Health]:
    """The figures that decide whether the fit may be used."""
    scale = "check the rig's scale: is the board's square size right?"
    world = "check that the rig's world has z up and the floor at z = 0"
    health = [
        Health("valid_share", facts["valid"], config.min_valid, "min", "see the reasons in smpl.npz"),
        Health("height_m", facts["height_m"], config.height_m[0], "min", scale),
        Health("height_m", facts["height_m"], config.height_m[1], "max", scale),
    ]
    if floor:
        health += [
            Health("root_height_m", facts["root_height_m"], config.root_height_m[0], "min", world),
            Health("root_height_m", facts["root_height_m"], config.root_height_m[1], "max", world),
            Health("penetration_p95_m", facts["penetration_p95_m"], config.max_penetration_m, "max", world),
        ]
    for view, error in facts["reprojection_px"].items():
        value = np.inf if error is None else error
        action = "refine the rig on the person's keypoints, or check this view's clock"
        health.append(Health("reprojection_px", value, config.max_reprojection_px, "max", action, view))
    return health
