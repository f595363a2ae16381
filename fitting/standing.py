"""Feet that stand: a sole that rests on the floor stays where it is from one frame to the next.

AMD raises the temporal weight of the feet in frames in which their cameras are still (the second part of its Lambda);
here the sole itself is held, by the camera's word where there is one and else where the rough fit has it low and slow.
The loss is robust, so that a step that was taken for standing lets go.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from core.arrays import Bool, Float
from core.skeletons import SMPL_24
from core.transforms import geodesic
from fitting.contacts import ContactConfig, foot_contacts
from fitting.fit_model import SOLES
from fitting.foot_mount import FootObservation

_REFERENCE_S = 1 / 30


@dataclass(frozen=True)
class StandingConfig:
    """When a sole is held, and how firmly.

    Attributes:
        contacts: when a sole rests by its own height and speed.
        camera_m_s: a foot whose camera is slower than this is still.
        camera_rad_s: and turns less than this.
        sigma_m: how far a resting sole moves in a thirtieth of a second; soles roll and shoes give.
        scale: of the robust loss, in standard deviations.
    """

    contacts: ContactConfig = dataclasses.field(default_factory=ContactConfig)
    camera_m_s: float = 0.15
    camera_rad_s: float = 0.5
    sigma_m: float = 0.003
    scale: float = 4.0

    def step_sigma_m(self, step_s: float) -> float:
        """The same for another step: rolling is a walk, whose spread grows with the root of time."""
        return self.sigma_m * float(np.sqrt(step_s / _REFERENCE_S))


@dataclass(frozen=True, eq=False)
class StandingTerm:
    """A cost of points in consecutive frames.

    Attributes:
        cost: its value.
        gradient: by the points, (frames, points, 3).
        own: its curvature by each point with itself, times the identity, (frames, points).
        coupling: with the same point one frame on, times minus the identity, (frames - 1, points).
    """

    cost: float
    gradient: Float[np.ndarray, "frames points 3"]
    own: Float[np.ndarray, "frames points"]
    coupling: Float[np.ndarray, "gaps points"]


def standing_term(
    points_m: Float[np.ndarray, "frames points 3"],
    resting: Bool[np.ndarray, "gaps points"],
    sigma_m: float,
    scale: float,
) -> StandingTerm:
    """Robust distance that resting points move from frame to frame.

    Args:
        points_m: points of the soles.
        resting: whether each rests from a frame to the next.
        sigma_m: spread of their movement in one step.
        scale: at which a movement has lost three quarters of its pull, in standard deviations.
    """
    moved = np.diff(points_m, axis=0)
    error2 = (moved**2).sum(axis=-1) / sigma_m**2
    share = scale**2 / (scale**2 + error2)
    weight = np.where(resting, share**2 / sigma_m**2, 0.0)
    pull = weight[..., None] * moved
    gradient, own = np.zeros(points_m.shape), np.zeros(points_m.shape[:2])
    gradient[:-1] -= pull
    gradient[1:] += pull
    own[:-1] += weight
    own[1:] += weight
    return StandingTerm(0.5 * float((error2 * share)[resting].sum()), gradient, own, weight)


def resting_soles(
    soles_m: Float[np.ndarray, "frames soles 3"],
    step_s: float,
    feet: Mapping[str, FootObservation],
    config: StandingConfig,
) -> Bool[np.ndarray, "gaps soles"]:
    """Which sole points (`SOLES`) rest from each frame to the next.

    Args:
        soles_m: a rough fit of them.
        step_s: time between frames.
        feet: foot cameras, whose word counts where both frames were measured.
        config: thresholds.
    """
    likely = foot_contacts(soles_m, step_s, config.contacts) > 0.5
    resting = likely[:-1] & likely[1:]
    for foot in feet.values():
        side = SMPL_24.joints[foot.ankle_idx].split("_")[0]
        own = [k for k, name in enumerate(SOLES) if name.startswith(side)]
        known = (foot.known[:-1] & foot.known[1:])[:, None]
        resting[:, own] = np.where(known, _still(foot, step_s, config)[:, None], resting[:, own])
    return resting


def _still(foot: FootObservation, step_s: float, config: StandingConfig) -> Bool[np.ndarray, "gaps"]:
    pose = foot.world_from_cam
    speed = np.linalg.norm(np.diff(pose.t, axis=0), axis=-1) / step_s
    return np.asarray((speed < config.camera_m_s) & (geodesic(pose.R[:-1], pose.R[1:]) < config.camera_rad_s * step_s))
