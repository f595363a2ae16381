"""A sudden step of brightness, such as a lamp switched on, seen by several cameras: one instant on all their clocks.

The frame in which the light changes is partly exposed to it: a share f of the exposure e before the change puts the
change at its middle plus (f - 1/2) e. The exposure is unknown, between nothing and the time of a frame, unless parts of
a rolling shutter's picture, exposed one after the other, have different shares. Automatic exposure answers slowly; a
step is judged by the frames next to it alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from capture.clock_problem import Evidence, Tie, evidence
from core.arrays import Float, UInt8

_GAMMA = 2.2
_BANDS = 8
_MIN_STEP = 0.1  # of the logarithm of brightness
_NOISE = 8.0  # a step is that many times what brightness varies from frame to frame
_PURE = 0.03  # a share this near to none or all may be none or all
_SHARE_SIGMA = 0.03
_APART_S = 0.2  # two steps nearer to each other are one
_MATCH_FRAMES = 1.5


@dataclass(frozen=True)
class Step:
    """One change of the light on a camera's local clock: its instant, its deviation, and whether it grew brighter."""

    local_s: float
    sigma_s: float
    brighter: bool


def brightness(
    pictures: Iterable[tuple[int, UInt8[np.ndarray, "h w"]]],
) -> tuple[list[int], Float[np.ndarray, "frames bands"]]:
    """Frame numbers, and mean linear light of `_BANDS` parts of each picture from above."""
    frames, rows = [], []
    for idx, image in pictures:
        light = (image[::4, ::4] / 255.0) ** _GAMMA
        frames.append(idx)
        rows.append([part.mean() for part in np.array_split(light, _BANDS)])
    return frames, np.array(rows).reshape(-1, _BANDS)


def find_steps(
    t_s: Float[np.ndarray, "frames"], light: Float[np.ndarray, "frames bands"], readout_s: float
) -> list[Step]:
    """The changes of light that one camera saw.

    Args:
        t_s: local times of consecutive frames, of row 0.
        light: of `brightness`.
        readout_s: time from the first row to the last, 0 for a global shutter.
    """
    if len(t_s) < 5:
        return []
    log = np.log(np.maximum(light.mean(axis=1), 1e-4))
    change = np.zeros(len(log))
    change[1:-1] = log[2:] - log[:-2]
    limit = max(_MIN_STEP, _NOISE * 1.48 * float(np.median(np.abs(change))))
    steps: list[Step] = []
    for i in np.argsort(-np.abs(change), kind="stable"):
        if abs(change[i]) < limit:
            break
        if all(abs(t_s[i] - step.local_s) > _APART_S for step in steps) and 1 < i < len(t_s) - 2:
            steps.append(_step_at(t_s, light, int(i), readout_s, bool(change[i] > 0)))
    return sorted(steps, key=lambda step: step.local_s)


def _step_at(t_s: np.ndarray, light: np.ndarray, i: int, readout_s: float, brighter: bool) -> Step:
    """The instant of a step in, just before or just after frame i."""
    frame_s = float(t_s[i + 1] - t_s[i - 1]) / 2
    before, after = light[i - 1], light[i + 1]  # the nearest: automatic exposure drifts
    if readout_s <= 0:
        before, after, now = (np.array([x.mean()]) for x in (before, after, light[i]))
    else:
        now = light[i]
    lit = np.clip((now - before) / np.where(np.abs(after - before) > 1e-6, after - before, 1.0), 0.0, 1.0)
    at = t_s[i] + readout_s * (np.arange(len(lit)) + 0.5) / len(lit)
    mixed = (lit > _PURE) & (lit < 1 - _PURE)
    if mixed.sum() >= 3 and np.ptp(at[mixed]) > 0:  # lit = 1/2 + (at - T) / e over the rows that were exposed during it
        slope, level = np.polyfit(at[mixed] - at[mixed].mean(), lit[mixed], 1)
        if slope > 0.5 / frame_s:
            sigma = _SHARE_SIGMA / slope / np.sqrt(mixed.sum()) * 2
            return Step(float(at[mixed].mean() - (level - 0.5) / slope), float(sigma), brighter)
    if readout_s > 0 and lit[0] < 0.5 < lit[-1]:  # the edge lies between two parts of the picture
        j = int(np.argmax(lit > 0.5))
        return Step(float((at[j] + at[j - 1]) / 2), float((at[j] - at[j - 1]) / np.sqrt(12)), brighter)
    share, middle = float(lit.mean()), float(at.mean())
    if _PURE < share < 1 - _PURE:
        return Step(
            middle + (0.5 - share) * frame_s / 2,
            abs(share - 0.5) * frame_s / np.sqrt(12) + _SHARE_SIGMA * frame_s,
            brighter,
        )
    side = -0.5 if share > 0.5 else 0.5
    return Step(middle + side * frame_s, frame_s / np.sqrt(12), brighter)


def flash_evidence(steps: Mapping[str, Sequence[Step]], frame_s: Mapping[str, float]) -> list[Evidence]:
    """Instants that several cameras saw.

    Args:
        steps: what each camera saw.
        frame_s: time from frame to frame of each.

    Returns:
        One piece of evidence a step. A camera whose steps fit those of the others in more than one way is left out.
    """
    seen = {view: found for view, found in steps.items() if found}
    if len(seen) < 2:
        return []
    reference = max(seen, key=lambda view: (len(seen[view]), -list(seen).index(view)))
    ties: dict[int, list[Tie]] = {}
    for view, found in seen.items():
        if view == reference:
            continue
        for i, j in _matches(seen[reference], found, _MATCH_FRAMES * max(frame_s[view], frame_s[reference])):
            one, other = found[j], seen[reference][i]
            ties.setdefault(i, []).append(Tie(view, one.local_s, reference, other.local_s, one.sigma_s))
    return [evidence("flash", ties[i], common_sigma_s=seen[reference][i].sigma_s) for i in sorted(ties)]


def _matches(ours: Sequence[Step], theirs: Sequence[Step], tolerance_s: float) -> list[tuple[int, int]]:
    """Pairs of steps under the one shift that matches most of them; none if two shifts do equally."""
    best: list[tuple[float, list[tuple[int, int]]]] = []
    for a, one in enumerate(ours):
        for b, other in enumerate(theirs):
            shift = other.local_s - one.local_s
            pairs = [
                (i, j)
                for i, x in enumerate(ours)
                for j, y in enumerate(theirs)
                if x.brighter == y.brighter and abs(y.local_s - x.local_s - shift) <= tolerance_s
            ]
            if (a, b) in pairs:
                best.append((shift, pairs))
    most = max((len(pairs) for _, pairs in best), default=0)
    leading = [(shift, pairs) for shift, pairs in best if len(pairs) == most]
    if not leading or max(s for s, _ in leading) - min(s for s, _ in leading) > 2 * tolerance_s:
        return []
    return leading[len(leading) // 2][1]
