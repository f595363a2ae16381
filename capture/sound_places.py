"""Sound heard by cameras that stand at known places: clocks and sources solved together.

A sound from place p reaches camera v late by |p - x_v| / c. Windows in which all cameras keep their delays share one
source; each source brings three unknowns and a prior of being somewhere in the room, each window one equation a camera.
With five cameras or more, or a source whose place is told, the ways of the sound drop out of the clocks; with fewer
they keep what the prior leaves open. Gauss-Newton with Cauchy weights, from several starts, as a source on the wrong
side of the room is a minimum too; what remains for the clocks is the Schur complement of the sources.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from capture.clock_problem import Evidence
from capture.sound import SPEED_M_S, SoundLine
from core.arrays import Float, Int

_SIGMA_S = 5e-5  # of one delay
_MICROPHONE_S = 1e-4  # its place beside the lens, and the temperature: 3 cm
_SAME_PLACE_S = 2e-4  # delays of one source, four times their own error; who walks is past it in a window
_RATE_SPREAD = 1e-3  # keeps rates in bounds while iterating; no prior
_RECORDER_SPREAD = 60e-6  # holds rates near 1 where a source may have walked
_NUM_STARTS = 12
_DRAWN_S = 5e-3  # about the lines' offsets
_MOST_WINDOWS = 600  # evenly spread over a long recording; more would not tell more than the microphones' places allow
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
    chosen = np.unique(np.linspace(0, len(instants) - 1, min(len(instants), _MOST_WINDOWS)).round().astype(int))
    instants, local_s = instants[chosen], local_s[chosen]
    problem = _Problem(instants, local_s, np.stack([room.camera_m[v] for v in (reference, *views)]), *room.prior())
    x, covariance = _most_likely(problem, _starts(lines))
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
    place, count = np.zeros(len(delay_s), int), 0
    centres = np.full_like(delay_s, np.nan)
    for w, delay in enumerate(delay_s):
        gap = np.abs(delay - centres[:count])
        alike = np.isfinite(gap).any(axis=1) & ~(gap >= _SAME_PLACE_S).any(axis=1)
        i = int(np.argmax(alike)) if alike.any() else count
        place[w], count = i, max(count, i + 1)
        centres[i] = np.where(np.isfinite(centres[i]), centres[i], delay)
    return place


@dataclass(frozen=True, eq=False)
class _Problem:
    """What was heard where: instants of the windows on the reference's clock, local times (windows, views) of the
    others, places of the cameras, the reference first, and the prior of the sources.
    """

    instants: np.ndarray
    local_s: np.ndarray
    camera_m: np.ndarray
    mean_m: np.ndarray
    sigma_m: np.ndarray


@dataclass(frozen=True, eq=False)
class _Fit:
    """Clocks (views, 2) at the middle of the recording, their covariance, and how likely all of it is.

    `cost` is half the sum of squares, and half the logarithm of how much the data narrowed the unknowns: a source more
    has to earn its place. `noise` is the variance of delays, in that expected.
    """

    x: np.ndarray
    covariance: np.ndarray
    cost: float
    noise: float


def _starts(lines: Mapping[str, SoundLine]) -> Iterator[tuple[np.ndarray, float]]:
    """Clocks to start from, (views, 2) offset and rate - 1, and the spread to which rates are held at first.

    The line of a source that stays tells the rates to a part in a million. That of one who walks is off by hundreds,
    and by milliseconds, from where the sources are drawn to a wrong side of the room: there the rates of recorders are
    the better start, from several offsets. These are the same in every run: the same sound gives the same bytes.
    """
    slope = np.array([1 / line.slope for line in lines.values()])
    middle = np.array([[line.reference_s, line.at_s] for line in lines.values()])
    yield np.stack([middle[:, 0] - slope * middle[:, 1], slope - 1], axis=1), _RATE_SPREAD
    plain = np.stack([middle[:, 0] - middle[:, 1], np.zeros(len(lines))], axis=1)
    rng = np.random.default_rng(0)
    for i in range(_NUM_STARTS):
        drawn_s = rng.uniform(-_DRAWN_S, _DRAWN_S, len(lines)) * (i > 0)
        yield plain + np.stack([drawn_s, 0 * drawn_s], axis=1), _RECORDER_SPREAD


def _most_likely(problem: _Problem, starts: Iterator[tuple[np.ndarray, float]]) -> tuple[np.ndarray, np.ndarray]:
    """Clocks of the others against the reference's, (offset, rate - 1) in turn, and their covariance.

    The likeliest of what several starts lead to; others that the delays hardly tell from it widen its covariance.
    """
    middle = float(np.nanmean(problem.local_s))
    fits = []
    for start, spread in starts:
        x = start.copy()
        x[:, 0] += middle * x[:, 1]  # offsets at the middle of the recording, where rates do not touch them
        if spread < _RATE_SPREAD:
            x = _fit(problem, _places(_delays(problem, x, middle)), x, middle, spread).x
        for _ in range(2):  # better clocks tell better which windows share a source
            fits.append(_fit(problem, _places(_delays(problem, x, middle)), x, middle, _RATE_SPREAD))
            x = fits[-1].x
    best = min(fits, key=lambda fit: fit.cost)
    weight = np.exp([(best.cost - fit.cost) / max(best.noise, 1.0) for fit in fits])
    # the same minimum found again is no second opinion
    apart = np.stack([(fit.x - best.x).ravel() for fit in fits])
    distinct = np.einsum("fi,fi->f", apart, np.linalg.solve(best.covariance, apart.T).T) > len(best.covariance)
    weight = np.where(distinct, weight, 0.0)
    covariance = best.covariance + np.einsum("f,fi,fj->ij", weight / (1 + weight.sum()), apart, apart)
    num_clocks = len(covariance)
    back = np.eye(num_clocks)  # to offsets at local time zero
    back[np.arange(0, num_clocks, 2), np.arange(1, num_clocks, 2)] = -middle
    return back @ best.x.ravel(), back @ covariance @ back.T


def _delays(problem: _Problem, x: np.ndarray, middle: float) -> np.ndarray:
    """(windows, views) by how much later each other camera heard each window."""
    local_s = problem.local_s
    return np.asarray(x[:, 0] + local_s + x[:, 1] * (local_s - middle) - problem.instants[:, None])


def _fit(problem: _Problem, place_idx: np.ndarray, start: np.ndarray, middle: float, rate_spread: float) -> _Fit:
    """Clocks and sources by Gauss-Newton; the sources, a block each, are eliminated first."""
    w, v = np.nonzero(np.isfinite(problem.local_s))
    p, lever = place_idx[w], problem.local_s[w, v] - middle
    num_places, num_views = place_idx.max() + 1, len(start)
    places, x = np.tile(problem.mean_m, (num_places, 1)), start.copy()
    prior = np.tile([0.0, 1 / rate_spread**2], num_views)
    place_prior = 1 / problem.sigma_m**2
    by_clock = np.stack([np.ones(len(w)), lever], axis=1)
    for i in range(_ITERATIONS):
        scale = max(3 * _SIGMA_S, _FIRST_SCALE_S * 0.7**i)  # far from the solution, nothing is an outlier yet
        to_camera, to_origin = places[p] - problem.camera_m[1 + v], places[p] - problem.camera_m[0]
        way, way_origin = np.linalg.norm(to_camera, axis=1), np.linalg.norm(to_origin, axis=1)
        residual = _delays(problem, x, middle)[w, v] - (way - way_origin) / SPEED_M_S
        by_place = -(to_camera / way[:, None] - to_origin / way_origin[:, None]) / SPEED_M_S
        weight = 1 / (1 + (residual / scale) ** 2) / _SIGMA_S**2
        gone, off = np.stack([0 * x[:, 0], x[:, 1]], 1).ravel(), places - problem.mean_m
        clocks, cross = np.zeros((num_views, 2, 2)), np.zeros((num_places, num_views, 2, 3))
        sources, pull, drag = np.zeros((num_places, 3, 3)), np.zeros((num_views, 2)), np.zeros((num_places, 3))
        np.add.at(clocks, v, weight[:, None, None] * by_clock[:, :, None] * by_clock[:, None, :])
        np.add.at(cross, (p, v), weight[:, None, None] * by_clock[:, :, None] * by_place[:, None, :])
        np.add.at(sources, p, weight[:, None, None] * by_place[:, :, None] * by_place[:, None, :])
        np.add.at(pull, v, (weight * residual)[:, None] * by_clock)
        np.add.at(drag, p, (weight * residual)[:, None] * by_place)
        sources += np.diag(place_prior)
        wide = cross.reshape(num_places, 2 * num_views, 3)
        gain = np.linalg.solve(sources, wide.transpose(0, 2, 1))  # of the sources by the clocks
        S = np.diag(prior) - np.einsum("pia,paj->ij", wide, gain)
        for view in range(num_views):
            S[2 * view : 2 * view + 2, 2 * view : 2 * view + 2] += clocks[view]
        drag += place_prior * off
        step = -np.linalg.solve(S, pull.ravel() + prior * gone - np.einsum("paj,pa->j", gain, drag))
        own = -np.linalg.solve(sources, drag[:, :, None])[:, :, 0] - gain @ step
        x, places = x + step.reshape(-1, 2), places + np.clip(own, -1.0, 1.0)
    noise = float(np.median(residual**2)) / (0.455 * _SIGMA_S**2)  # of a normal law, the median square is 0.455
    square = (scale / _SIGMA_S) ** 2 * np.log1p((residual / scale) ** 2).sum() + (prior * gone**2).sum()
    square += (place_prior * off**2).sum()
    narrowed = np.linalg.slogdet(sources)[1].sum() - num_places * np.log(place_prior).sum() + np.linalg.slogdet(S)[1]
    return _Fit(x, max(noise, 1.0) * np.linalg.inv(S), float(square + narrowed) / 2, noise)
