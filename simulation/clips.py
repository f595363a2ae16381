"""Clips of simulated people, as an importer would hand them over: for building datasets of any size from a seed."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from core.arrays import Float
from dataset.schema import NUM_JOINTS, Clip, ClipLabels
from fitting.stand_in import stand_in_body
from simulation.activities import ACTIVITIES
from simulation.person import simulate_motion

_POSE_SIGMA_RAD, _SIGMA_M = 0.004, 0.008  # what is left of a fit's error from frame to frame, and its joints' deviation


def simulated_clip(item: str, seed: int, subject: str, duration_s: float, rate: Fraction = Fraction(30)) -> Clip:
    """A labelled sequence of a simulated person with a fit's small errors; the same arguments give the same numbers.

    Args:
        item: id of the sequence.
        seed: of body, motion and errors.
        subject: who it is said to be.
        duration_s: length, at least 3 s.
        rate: frames a second.
    """
    rng = np.random.default_rng([seed, 17])
    motion = simulate_motion(rng, duration_s, rate)
    poses = motion["poses"] + _POSE_SIGMA_RAD * rng.normal(size=motion["poses"].shape)
    posed = stand_in_body().with_shape(motion["betas"]).with_pose(poses, motion["trans"])
    labels = ClipLabels(
        rate=f"{rate.numerator}/{rate.denominator}",
        subject=subject,
        session=item,
        start_s=0.0,
        gender="neutral",
        body_model="stand-in",
        body_model_sha256=stand_in_body().sha256,
        action_names=ACTIVITIES,
        provenance={"source": "simulation", "seed": seed},
    )
    frames = len(poses)
    return Clip(
        item,
        labels,
        poses=poses.astype(np.float32),
        trans=motion["trans"].astype(np.float32),
        betas=motion["betas"].astype(np.float32),
        joints_m=posed.joints.astype(np.float32),
        joint_covariance=_covariance(rng, frames),
        valid=np.ones((frames, NUM_JOINTS), dtype=bool),
        reasons=np.zeros(frames, dtype=np.int32),
        contacts=motion["contacts"].astype(np.float32),
        actions=(motion["labels"][:, None] == np.array(ACTIVITIES)).astype(np.uint8),
    )


def _covariance(rng: np.random.Generator, frames: int) -> Float[np.ndarray, "frames 24 6"]:
    """Symmetric positive matrices that differ in every frame, upper triangles."""
    factor = _SIGMA_M * (np.eye(3) + 0.3 * rng.normal(size=(frames, NUM_JOINTS, 3, 3)))
    upper = np.triu_indices(3)
    return (factor @ np.swapaxes(factor, -1, -2))[..., upper[0], upper[1]].astype(np.float32)
