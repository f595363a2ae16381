"""Where a movement pauses: the least speed between two movements, and the edges of rests.

The body's speed is the root mean square over joints in the heading-aligned frame of the pelvis. An Atom begins
- where the speed has a minimum that lies well below what comes before and after it (a hand that turns back, a foot that
  lands: the kinematic zeros of the literature on movement primitives), and
- where the body comes to rest, and where it moves again: a rest is an Atom of its own, however long.

Every threshold is a speed or a time, so a cut depends on the movement around it alone: it is the same in every clip
that holds that stretch, and known after a bounded delay (`PauseReach.future`, see `model.stream`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from core.arrays import Bool, Float

_LEAST_SMOOTHING = 0.5  # frames; less is no derivative
_KERNEL_SIGMAS = 3


@dataclass(frozen=True)
class PauseConfig:
    """Settings of the rule; chosen on CMU and Bandai Namco's set 1, see docs/a4mer.md.

    Attributes:
        smoothing_s: standard deviation of the Gaussian that joints are smoothed with.
        depth_m_s: how much slower than the movements on both sides a minimum is.
        reach_s: how far to both sides those movements may lie.
        rest_m_s: speed below which a body rests.
        rest_s: how long it must, to rest.
    """

    smoothing_s: float = 1 / 15
    depth_m_s: float = 0.3
    reach_s: float = 0.5
    rest_m_s: float = 0.2
    rest_s: float = 0.5


@dataclass(frozen=True)
class PauseReach:
    """The settings in frames of one rate.

    Attributes:
        sigma: of the Gaussian.
        radius: frames to each side that a smoothed joint needs.
        reach: see `PauseConfig`.
        near: a minimum is the least within so many frames, and no edge of a rest is as near.
        rest: see `PauseConfig`.
    """

    sigma: float
    radius: int
    reach: int
    near: int
    rest: int

    @staticmethod
    def of(config: PauseConfig, rate_hz: float) -> PauseReach:
        """Times become frames, none of them zero."""
        sigma = max(config.smoothing_s * rate_hz, _LEAST_SMOOTHING)
        reach, rest = (max(1, round(time_s * rate_hz)) for time_s in (config.reach_s, config.rest_s))
        return PauseReach(sigma, math.ceil(_KERNEL_SIGMAS * sigma), reach, max(1, round(0.4 * reach)), rest)

    @property
    def future(self) -> int:
        """Frames after one that may decide whether an Atom begins there, and as many before it."""
        return self.radius + max(self.reach, self.near + self.rest)


def body_speed(
    joints_m: Float[np.ndarray, "frames joints 3"],
    valid: Bool[np.ndarray, "frames joints"],
    rate_hz: float,
    reach: PauseReach,
) -> Float[np.ndarray, "frames"]:
    """Root mean square speed of the joints, m/s, by the derivative of a Gaussian; NaN where no joint is known.

    A joint counts where all frames under the kernel are measured. At both ends the movement goes on point-reflected,
    so that its speed is kept.
    """
    if len(joints_m) <= reach.radius:
        return np.full(len(joints_m), np.nan)
    known = np.where(valid[..., None], joints_m.astype(np.float64), np.nan)
    head = 2 * known[:1] - known[reach.radius : 0 : -1]
    tail = 2 * known[-1:] - known[-2 : -reach.radius - 2 : -1]
    padded = np.concatenate([head, known, tail])
    velocity = np.zeros_like(known)
    # tap by tap: the sum of a frame is then the same whatever lies around its window
    for tap, weight in enumerate(_derivative_weights(reach)):
        velocity += weight * rate_hz * padded[tap : tap + len(known)]
    squared = np.square(velocity).sum(axis=-1)
    seen = np.isfinite(squared)
    count = seen.sum(axis=1)
    mean = np.where(seen, squared, 0.0).sum(axis=1) / np.maximum(count, 1)
    return np.where(count > 0, np.sqrt(mean), np.nan)


def _derivative_weights(reach: PauseReach) -> Float[np.ndarray, "taps"]:
    """Weights whose sum with a line of slope 1 a frame is 1."""
    offset = np.arange(-reach.radius, reach.radius + 1)
    weights = offset * np.exp(-0.5 * (offset / reach.sigma) ** 2)
    return weights / (weights @ offset)


def pause_candidates(
    speed_m_s: Float[np.ndarray, "frames"], config: PauseConfig, reach: PauseReach
) -> Bool[np.ndarray, "frames"]:
    """Frames at which an Atom may begin; none where the speed is not known.

    A rest's edges are its first frame and the first frame after it; minima in a rest or near its edges do not count.
    """
    known = np.isfinite(speed_m_s)
    high, low = np.where(known, speed_m_s, -np.inf), np.where(known, speed_m_s, np.inf)
    sides = np.minimum(_largest(high, reach.reach, 0), _largest(high, 0, reach.reach))
    least = low <= -_largest(-low, reach.near, reach.near)
    resting = _in_runs(low < config.rest_m_s, reach.rest)
    edges = np.zeros(len(known), dtype=bool)
    edges[1:] = (resting[1:] != resting[:-1]) & known[1:] & known[:-1]
    free = ~resting & ~_largest(edges, reach.near, reach.near)
    with np.errstate(invalid="ignore"):
        deep = sides - speed_m_s >= config.depth_m_s
    return (least & deep & free) | edges


def _largest(values: np.ndarray, before: int, after: int) -> np.ndarray:
    """Largest value from `before` frames before each frame to `after` frames after it, within the array."""
    lowest = False if values.dtype == bool else -np.inf
    if len(values) == 0:
        return values
    padded = np.pad(values, (before, after), constant_values=lowest)
    return np.lib.stride_tricks.sliding_window_view(padded, before + after + 1).max(axis=1)


def _in_runs(low: Bool[np.ndarray, "frames"], shortest: int) -> Bool[np.ndarray, "frames"]:
    """The frames that lie in an unbroken run of at least so many."""
    full = -_largest(-low.astype(np.float64), 0, shortest - 1) > 0
    full[max(0, len(low) - shortest + 1) :] = False  # a run does not go on beyond the end
    return _largest(full, shortest - 1, 0)
