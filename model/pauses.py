"""Where a movement pauses: the least speed between two movements, and the edges of rests.

The body's speed is the root mean square over joints in the heading-aligned frame of the pelvis. An Atom begins
- where the speed has a minimum that lies well below what comes before and after it (a hand that turns back, a foot that
  lands: the kinematic zeros of the literature on movement primitives), and
- where the body comes to rest, and where it moves again: a rest is an Atom of its own, however long.

Every threshold is a speed or a time, so a cut depends on the movement around it alone: it is the same in every clip
that holds that stretch, and known after a bounded delay (`PauseReach.future`, see `model.stream`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from core.arrays import Bool, Float
from model.kinematics import kernel_radius, kernel_sigma, largest, root_mean_square, speed_weights


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
        sigma = kernel_sigma(config.smoothing_s, rate_hz)
        reach, rest = (max(1, round(time_s * rate_hz)) for time_s in (config.reach_s, config.rest_s))
        return PauseReach(sigma, kernel_radius(sigma), reach, max(1, round(0.4 * reach)), rest)

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
    """Root mean square speed of the joints, m/s; NaN where no joint is known."""
    return root_mean_square(joints_m, valid, rate_hz * speed_weights(reach.sigma))


def pause_candidates(
    speed_m_s: Float[np.ndarray, "frames"], config: PauseConfig, reach: PauseReach
) -> Bool[np.ndarray, "frames"]:
    """Frames at which an Atom may begin; none where the speed is not known.

    A rest's edges are its first frame and the first frame after it; minima in a rest or near its edges do not count.
    """
    known = np.isfinite(speed_m_s)
    high, low = np.where(known, speed_m_s, -np.inf), np.where(known, speed_m_s, np.inf)
    sides = np.minimum(largest(high, reach.reach, 0), largest(high, 0, reach.reach))
    least = low <= -largest(-low, reach.near, reach.near)
    resting = _in_runs(low < config.rest_m_s, reach.rest)
    edges = np.zeros(len(known), dtype=bool)
    edges[1:] = (resting[1:] != resting[:-1]) & known[1:] & known[:-1]
    free = ~resting & ~largest(edges, reach.near, reach.near)
    with np.errstate(invalid="ignore"):
        deep = sides - speed_m_s >= config.depth_m_s
    return (least & deep & free) | edges


def _in_runs(low: Bool[np.ndarray, "frames"], shortest: int) -> Bool[np.ndarray, "frames"]:
    """The frames that lie in an unbroken run of at least so many."""
    full = -largest(-low.astype(np.float64), 0, shortest - 1) > 0
    full[max(0, len(low) - shortest + 1) :] = False  # a run does not go on beyond the end
    return largest(full, shortest - 1, 0)
