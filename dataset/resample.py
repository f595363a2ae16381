"""Motion at any rate from any rate or from real times: positions by straight lines, rotations on SO(3).

Nothing is bridged: an instant between two frames is valid only where both are, and frames far apart bound a gap.

A lower rate takes instants and no means (the paper keeps every sixth frame of 30): every frame stays a pose that was
taken, bones keep their length, a masked frame taints no other, and Atoms cut at 30 Hz lie on the same frames. The price
is aliasing: in 66 takes of the CMU motion capture database at 120 fps, what lies above 2.5 Hz, which 5 frames a second
fold back, is 0.4 % of the power of the joints about the pelvis, or 10 mm on average.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from core.arrays import Bool, Float, Int
from core.errors import InputError
from dataset.features import frame_features, local_joints
from dataset.rotations import slerp
from dataset.schema import REASON_OK

# positions in frames that differ from an integer by less than this lie on the frame
_ON_FRAME = 1e-6


@dataclass(frozen=True)
class Motion:
    """What features are made of, at equally spaced instants.

    Attributes:
        rate_hz: instants a second.
        scale: body normalisation of the features.
        poses: (T, 24, 3) axis-angle.
        joints_m: (T, 24, 3).
        contacts: (T, 4).
        joint_valid: (T, 24) measured joints.
        joint_sigma_m: (T, 24) standard deviation of a joint's position, root mean square over the axes; NaN unknown.
        frame_valid: (T,) frames that may be used.
    """

    rate_hz: float
    scale: float
    poses: Float[np.ndarray, "frames 24 3"]
    joints_m: Float[np.ndarray, "frames 24 3"]
    contacts: Float[np.ndarray, "frames 4"]
    joint_valid: Bool[np.ndarray, "frames 24"]
    joint_sigma_m: Float[np.ndarray, "frames 24"]
    frame_valid: Bool[np.ndarray, "frames"]

    def __len__(self) -> int:
        return len(self.poses)

    def features(self) -> Float[np.ndarray, "frames 271"]:
        """The paper's frame vectors of the normalised body; NaN in frames that may not be used.

        What stands in such a frame may be finite and wrong, so the velocities of the frame before, which look at it,
        are NaN too.
        """
        joints_m = self.joints_m
        if not self.frame_valid.all():
            joints_m = np.where(self.frame_valid[:, None, None], joints_m, np.nan)
        return frame_features(self.poses, joints_m, self.contacts, self.rate_hz, self.scale)

    def local_joints(self) -> Float[np.ndarray, "frames 22 3"]:
        """Heading-aligned joints of the normalised body, for finding action atoms."""
        return local_joints(self.joints_m, self.scale)

    def part(self, start: int, stop: int) -> Motion:
        """Frames `start` to `stop`."""
        names = ("poses", "joints_m", "contacts", "joint_valid", "joint_sigma_m", "frame_valid")
        return Motion(self.rate_hz, self.scale, **{name: getattr(self, name)[start:stop] for name in names})


def motion_of(arrays: Mapping[str, np.ndarray], rate_hz: float, scale: float) -> Motion:
    """A clip's motion at its own rate, from its arrays by field name."""
    poses, joints_m = arrays["poses"], arrays["joints_m"]
    variance = arrays["joint_covariance"][..., [0, 3, 5]].mean(axis=-1)
    finite = np.isfinite(joints_m).all(axis=(1, 2)) & np.isfinite(poses).all(axis=(1, 2))
    return Motion(
        rate_hz,
        scale,
        poses,
        joints_m,
        arrays["contacts"],
        arrays["valid"],
        np.sqrt(np.maximum(variance, 0.0)),
        finite & (arrays["reasons"] == REASON_OK),
    )


def num_instants(num_frames: int, rate: Fraction, rate_hz: float) -> int:
    """How many instants of a grid at `rate_hz`, beginning on the first frame, lie within the frames."""
    return int((num_frames - 1) / float(rate) * rate_hz + _ON_FRAME) + 1


def resample(motion: Motion, rate_hz: float, start: float = 0.0, count: int | None = None) -> Motion:
    """The motion at `rate_hz`.

    Args:
        rate_hz: instants a second wanted.
        start: where the first instant lies, in frames of `motion` (a fraction is allowed).
        count: number of instants; None for as many as there are. Instants past the last frame are left out.
    """
    step = motion.rate_hz / rate_hz
    available = max(int(np.floor((len(motion) - 1 - start) / step + _ON_FRAME)) + 1, 0)
    return _at(motion, start + step * np.arange(available if count is None else min(count, available)), rate_hz)


def resample_times(
    motion: Motion, t_s: Float[np.ndarray, "frames"], rate_hz: float, max_gap_s: float | None = None
) -> Motion:
    """The motion at `rate_hz` from its first frame on, where its frames were taken at times of their own.

    Args:
        t_s: when each frame was taken.
        rate_hz: instants a second wanted.
        max_gap_s: frames further apart have no valid instant between them; None for 1.5 times their median distance.

    Raises:
        InputError: if the times do not rise.
    """
    steps = np.diff(t_s)
    if len(t_s) < 2 or len(t_s) != len(motion) or not (np.isfinite(t_s).all() and (steps > 0).all()):
        raise InputError("times", f"{len(t_s)} times of {len(motion)} frames do not rise", "sort the frames by time")
    longest = 1.5 * float(np.median(steps)) if max_gap_s is None else max_gap_s
    count = int((t_s[-1] - t_s[0]) * rate_hz + _ON_FRAME) + 1
    place = np.interp(t_s[0] + np.arange(count) / rate_hz, t_s, np.arange(len(t_s)))
    left, right, _ = neighbours(place, len(t_s))
    in_gap = (left != right) & (steps[np.minimum(left, len(steps) - 1)] > longest)
    found = _at(motion, place, rate_hz)
    return replace(found, frame_valid=found.frame_valid & ~in_gap)


def neighbours(
    place: Float[np.ndarray, "instants"], num_frames: int
) -> tuple[Int[np.ndarray, "instants"], Int[np.ndarray, "instants"], Float[np.ndarray, "instants"]]:
    """The frames before and after each place (the same one where it is a frame), and the weight of the one after."""
    nearest = np.rint(place)
    place = np.where(np.abs(place - nearest) < _ON_FRAME, nearest, place)
    left = np.clip(np.floor(place).astype(int), 0, num_frames - 1)
    return left, np.clip(np.ceil(place).astype(int), 0, num_frames - 1), place - left


def _at(motion: Motion, place: Float[np.ndarray, "instants"], rate_hz: float) -> Motion:
    """The motion at places given in frames."""
    left, right, weight = neighbours(place, len(motion))
    if not weight.any():  # every instant is a frame
        return _with_rate(motion, rate_hz, left)
    w1, w2 = weight[:, None], weight[:, None, None]
    return Motion(
        rate_hz,
        motion.scale,
        slerp(motion.poses[left].astype(np.float64), motion.poses[right].astype(np.float64), w1),
        (1 - w2) * motion.joints_m[left] + w2 * motion.joints_m[right],
        (1 - w1) * motion.contacts[left] + w1 * motion.contacts[right],
        motion.joint_valid[left] & motion.joint_valid[right],
        np.maximum(motion.joint_sigma_m[left], motion.joint_sigma_m[right]),
        motion.frame_valid[left] & motion.frame_valid[right],
    )


def _with_rate(motion: Motion, rate_hz: float, frames: np.ndarray) -> Motion:
    """The motion at some of its own frames."""
    return Motion(
        rate_hz,
        motion.scale,
        motion.poses[frames],
        motion.joints_m[frames],
        motion.contacts[frames],
        motion.joint_valid[frames],
        motion.joint_sigma_m[frames],
        motion.frame_valid[frames],
    )
