"""Sound heard by cameras that stand at known places: clocks and sources solved together.

A sound from place p reaches camera v late by |p - x_v| / c. Windows in which all cameras keep their delays share one
source; each source brings three unknowns and a prior of being somewhere in the room, each window one equation a camera.
With five cameras or more, or a source whose place is told, the ways of the sound drop out of the clocks; with fewer
they keep what the prior leaves open. Gauss-Newton with Cauchy weights; what remains for the clocks is the Schur
complement of the sources.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from capture.clock_problem import Evidence
from capture.sound import SPEED_M_S, SoundLine
from core.arrays import Float, Int

_SIGMA_S = 5e-5  # of one delay
_MICROPHONE_S = 1e-4  # its place beside the lens, and the temperature: 3 cm
_SAME_PLACE_S = 3e-4  # delays of one source, 10 cm of way
_RATE_SPREAD = 1e-3  # keeps rates in bounds while iterating; no prior
_ITERATIONS = 30
_FIRST_SCALE_S = 1e-2  # of delays: metres of way


@dataclass(frozen=True)
class Room:
    """Where cameras stand and sounds come from.

    Attributes:
        camera_m: places of the cameras, world.
        source_m: place of all the sounds, if it is told.
        source_sigma_m: its standard deviation; where it is not told, sounds come from about the middle of the cameras,
            1.2 m over the lowest plausible floor (z = 0), within 2 m sideways and 0.6 m in height.
    """

    camera_m: Mapping[str, Float[np.ndarray, "3"]]
    source_m: tuple[float, float, float] | None = None
    source_sigma_m: float = 0.1

    def prior(self) -> tuple[Float[np.ndarray, "3"], Float[np.ndarray, "3"]]:
        """Where a sound comes from: mean and standard deviation."""
        if self.source_m is not None:
            return np.array(self.source_m), np.full(3, self.source_sigma_m)
        middle = np.mean(list(self.camera_m.values()), axis=0)
        return np.array([middle[0], middle[1], 1.2]), np.array([2.0, 2.0, 0.6])


def located_sound(reference: str, lines: Mapping[str, SoundLine], room: Room) -> Evidence:
    """Clocks of cameras at known places from what they heard.

    Args:
        reference: camera against which the lines are.
        lines: of the others; all at places of `room`.
        room: the places.
    """
    views = tuple(lines)
    instants = np.unique(np.concatenate([line.heard_s[:, 0] for line in lines.values()]))
    local_s = np.full((len(instants), len(views)), np.nan)
    for v, line in enumerate(lines.values()):
        local_s[np.searchsorted(instants, line.heard_s[:, 0]), v] = line.heard_s[:, 1]
    slope = np.array([1 / line.slope for line in lines.values()])
    start = np.stack([[line.reference_s - k * line.at_s, k - 1] for line, k in zip(lines.values(), slope, strict=True)])
    place_idx = _places(local_s * (1 + start[:, 1]) + start[:, 0] - instants[:, None])
    x, covariance = _solve(instants, local_s, place_idx, start, reference, room, views)
    covariance[0::2, 0::2] += _MICROPHONE_S**2 * (np.eye(len(views)) + 1)
    whiten = np.linalg.inv(np.linalg.cholesky(covariance))
    # the relative clocks as functions of all: o - o' - o_v r', r - r'
    relative = np.zeros((2 * len(views), 2 * (len(views) + 1)))
    for v in range(len(views)):
        relative[2 * v, [2 * v + 2, 0, 1]] = 1.0, -1.0, -x[2 * v]
        relative[2 * v + 1, [2 * v + 3, 1]] = 1.0, -1.0
    return Evidence("sound", (reference, *views), whiten @ relative, whiten @ x, False)


def _places(delay_s: Float[np.ndarray, "windows views"]) -> Int[np.ndarray, "windows"]:
    """Which windows heard one and the same source: those with all delays alike."""
    place = np.full(len(delay_s), -1)
    centres: list[np.ndarray] = []
    for w, delay in enumerate(delay_s):
        for i, centre in enumerate(centres):
            both = np.isfinite(delay) & np.isfinite(centre)
            if both.any() and (np.abs(delay - centre)[both] < _SAME_PLACE_S).all():
                place[w], centres[i] = i, np.where(np.isfinite(centre), centre, delay)
                break
        else:
            place[w] = len(centres)
            centres.append(delay)
    return place


def _solve(
    instants: np.ndarray,
    local_s: np.ndarray,
    place_idx: np.ndarray,
    start: np.ndarray,
    reference: str,
    room: Room,
    views: tuple[str, ...],
) -> tuple[np.ndarray, np.ndarray]:
    """Clocks of the others against the reference's, (offset, rate - 1) in turn, and their covariance."""
    mean, sigma = room.prior()
    cameras = np.stack([room.camera_m[view] for view in views])
    origin = room.camera_m[reference]
    places = np.tile(mean, (place_idx.max() + 1, 1))
    w, v = np.nonzero(np.isfinite(local_s))
    p, seen = place_idx[w], local_s[w, v]
    middle = float(seen.mean())
    num_clocks, n = 2 * len(views), 2 * len(views) + 3 * len(places)
    x = start.copy()
    x[:, 0] += middle * x[:, 1]  # offsets at the middle of the recording, where rates do not touch them
    for i in range(_ITERATIONS):
        scale = max(3 * _SIGMA_S, _FIRST_SCALE_S * 0.7**i)  # far from the solution, nothing is an outlier yet
        to_camera, to_origin = places[p] - cameras[v], places[p] - origin
        way, way_origin = np.linalg.norm(to_camera, axis=1), np.linalg.norm(to_origin, axis=1)
        delay = (way - way_origin) / SPEED_M_S
        residual = x[v, 0] + seen + x[v, 1] * (seen - middle) - instants[w] - delay
        J = np.zeros((len(w), n))
        rows = np.arange(len(w))
        J[rows, 2 * v], J[rows, 2 * v + 1] = 1.0, seen - middle
        turn = -(to_camera / way[:, None] - to_origin / way_origin[:, None]) / SPEED_M_S
        J[rows[:, None], num_clocks + 3 * p[:, None] + np.arange(3)] = turn
        weight = 1 / (1 + (residual / scale) ** 2) / _SIGMA_S**2
        prior = np.concatenate([np.tile([0.0, 1 / _RATE_SPREAD**2], len(views)), np.tile(1 / sigma**2, len(places))])
        gone = np.concatenate([np.stack([0 * x[:, 0], x[:, 1]], 1).ravel(), (places - mean).ravel()])
        H = (J.T * weight) @ J + np.diag(prior)
        step = -np.linalg.solve(H, J.T @ (weight * residual) + prior * gone)
        x = x + step[:num_clocks].reshape(-1, 2)
        places = places + np.clip(step[num_clocks:].reshape(-1, 3), -1.0, 1.0)
    noise = float(np.median(residual**2)) / (0.455 * _SIGMA_S**2)  # of a normal law, the median square is 0.455
    covariance = max(noise, 1.0) * np.linalg.inv(H)[:num_clocks, :num_clocks]
    back = np.eye(num_clocks)  # to offsets at local time zero
    back[np.arange(0, num_clocks, 2), np.arange(1, num_clocks, 2)] = -middle
    return back @ x.ravel(), back @ covariance @ back.T
