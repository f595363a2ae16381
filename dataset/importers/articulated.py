"""Motion of a tree of rigid bones, as BVH and ASF/AMC files state it: one local rotation and offset a joint and frame.

The files have no common skeleton, rest pose, unit or up axis; all of that is settled later, in `dataset.retarget`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from core.arrays import Float, Int
from core.errors import InputError

# far above any motion capture file, far below what exhausts a machine
MAX_FILE_BYTES, MAX_JOINTS = 1 << 29, 1000
_MAX_DIGITS = 30  # of a frame time
_TURNED_COLUMNS = {"X": (1, 2), "Y": (2, 0), "Z": (0, 1)}
_BROADCAST_RATES = tuple(Fraction(1000 * rate, 1001) for rate in (24, 30, 60, 120))


@dataclass(frozen=True, eq=False)
class ArticulatedMotion:
    """What a motion capture file says, in the file's own unit and axes.

    Attributes:
        names: of the joints, parents first; the end of a bone without a child is `<name>_end`.
        parents: index of each joint's parent, -1 for the root.
        rest_offsets: joint from its parent in the parent's frame, in the rest pose (all rotations zero).
        positions: joints in the file's world.
        rotations: world_from_joint.
        rate: frames a second.
    """

    names: tuple[str, ...]
    parents: Int[np.ndarray, "joints"]
    rest_offsets: Float[np.ndarray, "joints 3"]
    positions: Float[np.ndarray, "frames joints 3"]
    rotations: Float[np.ndarray, "frames joints 3 3"]
    rate: Fraction

    def __len__(self) -> int:
        return len(self.positions)

    def idx(self, names: Sequence[str]) -> Int[np.ndarray, "picked"]:
        """Positions of joints in the list."""
        return np.array([self.names.index(name) for name in names], dtype=np.int64)

    def from_frame(self, first: int) -> ArticulatedMotion:
        """The motion without its first frames."""
        return dataclasses.replace(self, positions=self.positions[first:], rotations=self.rotations[first:])

    def with_bones(self, directions: Mapping[str, tuple[float, float, float]]) -> ArticulatedMotion:
        """The motion with bones of the same lengths that point elsewhere in their parents' frames."""
        positions = self.positions.copy()
        for j, parent in enumerate(self.parents.tolist()):
            step = self.positions[:, j] - self.positions[:, parent]
            if self.names[j] in directions:
                direction = np.array(directions[self.names[j]])
                unit = direction / np.linalg.norm(direction)
                step = (self.rotations[:, parent] @ unit) * np.linalg.norm(step, axis=-1, keepdims=True)
            if parent >= 0:
                positions[:, j] = positions[:, parent] + step
        return dataclasses.replace(self, positions=positions)


def turned(
    rotations: Float[np.ndarray, "frames 3 3"], axis: str, angle: Float[np.ndarray, "frames"]
) -> Float[np.ndarray, "frames 3 3"]:
    """Rotations multiplied from the right by turns about X, Y or Z, radians: two columns mix."""
    b, c = _TURNED_COLUMNS[axis]
    cosine, sine = np.cos(angle)[:, None], np.sin(angle)[:, None]
    out = rotations.copy()
    out[..., b] = cosine * rotations[..., b] + sine * rotations[..., c]
    out[..., c] = cosine * rotations[..., c] - sine * rotations[..., b]
    return out


def forward_kinematics(
    parents: Int[np.ndarray, "joints"],
    offsets: Float[np.ndarray, "frames joints 3"],
    local: Float[np.ndarray, "frames joints 3 3"],
) -> tuple[Float[np.ndarray, "frames joints 3"], Float[np.ndarray, "frames joints 3 3"]]:
    """Joints and world_from_joint from offsets and rotations relative to the parents."""
    positions, rotations = np.empty_like(offsets), np.empty_like(local)
    for j, parent in enumerate(parents.tolist()):
        if parent < 0:
            positions[:, j], rotations[:, j] = offsets[:, j], local[:, j]
            continue
        np.matmul(rotations[:, parent], local[:, j], out=rotations[:, j])
        moved = np.matmul(rotations[:, parent], offsets[:, j, :, None])[..., 0]
        np.add(positions[:, parent], moved, out=positions[:, j])
    return positions, rotations


def rate_of_frame_time(text: str, item: str) -> Fraction:
    """The rate whose frame time, seconds, a file writes with so many digits: whole if one fits, then broadcast's.

    Raises:
        InputError: if it is no positive time.
    """
    try:
        # as a float first, which refuses exponents that would fill the memory
        if not (1e-5 < float(text) < 100.0 and len(text) <= _MAX_DIGITS):
            raise ValueError(text)
        frame_s, digits = Fraction(text), len(text.lower().partition("e")[0].partition(".")[2])
    except ValueError as error:
        raise InputError(item, f"its frame time is {text!r}", "write it in seconds, as 0.0333333") from error
    slack = min(Fraction(1, 10**digits), frame_s / 10)
    slowest, fastest = 1 / (frame_s + slack), 1 / (frame_s - slack)
    candidates = (Fraction(round(1 / frame_s)), *_BROADCAST_RATES)
    fitting = [rate for rate in candidates if slowest <= rate <= fastest]
    return fitting[0] if fitting else (1 / frame_s).limit_denominator(1001)
