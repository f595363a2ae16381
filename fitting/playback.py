"""A fitted sequence as a motion: the posed body at any time, such as that of a camera's frame.

The fit's instants are those of the session; cameras film between them. At 30 instants a second the nearest is up to
17 ms away, in which a walking person goes 2 cm and a hand 5 cm, so the body is interpolated: every joint's rotation
along the shortest turn, the translation linearly.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from core.arrays import Bool, Float, Int
from core.errors import InputError
from core.transforms import so3_exp, so3_log
from fitting.sequence import Reason, SmplSequence
from fitting.smpl import BodyModel, PosedBody, ShapedBody, rodrigues

CHUNK = 32  # frames posed and skinned at a time, whatever the length of the sequence


@dataclass(frozen=True, eq=False)
class Moment:
    """The body at one time.

    Attributes:
        t_s: the time, session clock.
        vertices_m: its mesh in the world.
        joints_m: SMPL's joints in the world, or what stands for them.
        joint_sigma_m: standard deviation of each joint along its worst direction, at the nearest instant.
        joint_valid: whether each joint is determined well enough, at the nearest instant.
        reasons: what is wrong with either instant beside it; `Reason.OK` if nothing is.
    """

    t_s: float
    vertices_m: Float[np.ndarray, "vertices 3"]
    joints_m: Float[np.ndarray, "24 3"]
    joint_sigma_m: Float[np.ndarray, "24"]
    joint_valid: Bool[np.ndarray, "24"]
    reasons: Reason


@dataclass(frozen=True, eq=False)
class Playback:
    """A sequence and its body.

    Attributes:
        shaped: the person at rest.
        sequence: poses, validity and uncertainty.
    """

    shaped: ShapedBody
    sequence: SmplSequence

    @staticmethod
    def of(sequence: SmplSequence, body: BodyModel) -> Playback:
        """Puts a sequence and its body model together.

        Raises:
            InputError: if the sequence was fitted with another body.
        """
        if body.sha256 != sequence.body_sha256:
            problem = f"it was fitted with the body {sequence.body_model}, not with {body.name} or not with this file"
            raise InputError(
                "body model", problem, f"give the model that was fitted: --body-model {sequence.body_model}"
            )
        return Playback(body.with_shape(sequence.betas), sequence)

    def covers(self, t_s: Float[np.ndarray, "n"]) -> Bool[np.ndarray, "n"]:
        """Whether times lie between the first and the last instant."""
        return (t_s >= self.sequence.t_s[0]) & (t_s <= self.sequence.t_s[-1])

    def instants(self, t_s: Float[np.ndarray, "n"]) -> tuple[Int[np.ndarray, "n"], Float[np.ndarray, "n"]]:
        """The instant before each time, the last but one at most, and how far on it is to the next, 0 to 1."""
        known = self.sequence.t_s
        before = np.clip(np.searchsorted(known, t_s, side="right") - 1, 0, max(len(known) - 2, 0))
        after = np.minimum(before + 1, len(known) - 1)
        span = np.where(after > before, known[after] - known[before], 1.0)
        return before, np.clip((t_s - known[before]) / span, 0.0, 1.0)

    def at(self, t_s: Float[np.ndarray, "n"]) -> PosedBody:
        """The body at any times on the session clock; before the first and after the last instant it stands still."""
        before, share = self.instants(t_s)
        after = np.minimum(before + 1, len(self.sequence) - 1)
        poses, trans = self.sequence.poses.reshape(len(self.sequence), -1, 3), self.sequence.trans
        R = rodrigues(poses[before])
        turn = so3_log(np.swapaxes(R, -1, -2) @ rodrigues(poses[after]))
        R = R @ so3_exp(share[:, None, None] * turn)
        return self.shaped.with_rotations(R, trans[before] + share[:, None] * (trans[after] - trans[before]))

    def moments(self, t_s: Float[np.ndarray, "n"]) -> Iterator[Moment]:
        """The body at each time, in order; a few frames of mesh are in memory at once, however many are asked for."""
        known = self.sequence
        for start in range(0, len(t_s), CHUNK):
            part = t_s[start : start + CHUNK]
            posed, (before, share) = self.at(part), self.instants(part)
            after = np.minimum(before + 1, len(known) - 1)
            nearest = np.where(share > 0.5, after, before)
            # what is wrong with either neighbour is wrong between them
            reasons = (
                known.reasons[np.where(share < 1, before, after)] | known.reasons[np.where(share > 0, after, before)]
            )
            variance = np.linalg.eigvalsh(known.joint_covariance[nearest])[..., -1]
            sigma_m = np.sqrt(np.maximum(variance, 0.0))
            joints = posed.smpl_joints
            for i, vertices in enumerate(posed.mesh()):
                valid = known.joint_valid[nearest[i]]
                yield Moment(float(part[i]), vertices, joints[i], sigma_m[i], valid, Reason(int(reasons[i])))
