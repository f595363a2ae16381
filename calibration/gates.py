"""What else could explain the pictures: tests of a solved rig that a small reprojection error does not pass.

Every gate asks whether one more freedom (a camera that moved at some time, a static target that did, a panel on its
rig, another lens, another clock, another print size) explains what the rig leaves. The answer is a score test: with
residuals r, their derivative c by the freedom and J by what else may give way (`calibration.score`),

    s = -(C^T C)^-1 C^T r,  gain = r^T C (C^T C)^-1 C^T r,  C = c - J (J^T J)^-1 J^T c

whitened (Rao 1948). Errors of neighbouring frames are alike, so what is left over is measured in blocks of time, and
the gain is judged against it by Fisher's F; a freedom counts when it is significant and when what it changes is not
negligible. Of several that count, the one that explains most and leaves least is named.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import fdtri

from calibration.evidence import Evidence
from calibration.score import BLOCKS, POSE_SIGMA, Whitened, camera_score, panel_score, size_score, target_score, whiten
from core.manifest import Health

__all__ = ["Finding", "GateLimits", "find_contradictions", "print_scales", "seen_from_behind", "worst_of"]

Move = Literal["camera_moved_px", "target_moved_px", "panel_moved_px"]
Name = Move | Literal["focal_percent", "clock_ms", "jitter_ms", "scale_percent", "odd_camera"]

_LEAST_FRAMES = 10  # that tell whether times are regular
_LEAST_ROWS = 40  # that a camera or target needs before it says something
_FALSE_ALARM = 1e-6  # of one rig
_MOUNT: dict[Move, str] = {
    "camera_moved_px": "mount it again, and calibrate the session in two parts, before and after",
    "target_moved_px": "give it two names, before and after, or leave it out of the targets",
    "panel_moved_px": "fix it to the rig and carry it again, or leave its place on the rig to be found",
}
_LENS_SIGMA = np.array([0.5, 0.2, 0.2, 0.5])  # of log focal length, principal point over it, first distortion


@dataclass(frozen=True)
class GateLimits:
    """What the gates let pass: changes that do no harm, or that even good lenses and detectors leave.

    Attributes:
        moved_px: shift of a camera's picture, or of a static target or a panel of a rig in the pictures, from one part
            of the session to the other, or of a panel from its place on its rig.
        focal_percent: error of a focal length that the rig itself shows.
        clock_ms: error of a clock that the moving targets show.
        jitter_ms: error of single frames' times (root mean square) that the moving targets show.
        scale_percent: disagreement of two targets about their printed sizes.
    """

    moved_px: float = 1.0
    focal_percent: float = 1.0
    clock_ms: float = 5.0
    jitter_ms: float = 1.5
    scale_percent: float = 1.0


@dataclass(frozen=True)
class Finding:
    """One freedom that would explain the pictures better.

    Attributes:
        name: what it is, with its unit.
        item: the camera or target, or both of two.
        value: by how much.
        limit: what would pass.
        gain: how much of the squared, whitened residuals it explains.
        noise: what it leaves, a degree of freedom: 1 where errors of neighbouring frames are independent.
        text: the finding in words, with when it happened where there is a when.
        action: what to do.
    """

    name: Name
    item: str
    value: float
    limit: float
    gain: float
    noise: float
    text: str
    action: str

    @property
    def health(self) -> Health:
        """The figure for the manifest."""
        return Health(self.name, self.value, self.limit, "max", self.action, self.text)


@dataclass(frozen=True)
class PrintScale:
    """How large a print is.

    Attributes:
        ratio: printed over declared size.
        sigma: standard deviation, residuals beyond the stated noise taken into account.
        information: of the logarithm of the ratio, from the stated noise alone.
    """

    ratio: float
    sigma: float
    information: float


def find_contradictions(evidence: Evidence, limits: GateLimits | None = None) -> list[Finding]:
    """All freedoms that are significant and exceed their limits, the one that explains most first."""
    limits = limits or GateLimits()
    if not len(evidence.t_s):
        return []
    white, alone = whiten(evidence), whiten(evidence, apart=True)
    found: list[Finding | None] = []
    tests = BLOCKS * (len(evidence.cameras) + len(evidence.targets))
    for k, camera in enumerate(evidence.cameras):
        if (evidence.camera == k).sum() < _LEAST_ROWS:
            continue
        A, b = camera_score(evidence, white, k)
        rows = evidence.camera == k
        moved = _moved(A[:, :6, :6], b[:, :6], evidence.by_camera[rows], white.starts_s, tests)
        found.append(_named_move(moved, camera, "camera_moved_px", limits.moved_px))
        found.append(_wrong_lens(A, b, camera, limits.focal_percent, tests))
        found.append(_wrong_clock(A, b, camera, limits.clock_ms, tests))
    for j, target in enumerate(evidence.targets):
        rows = evidence.target == j
        if rows.sum() >= _LEAST_ROWS and not evidence.carried[j]:
            A, b = target_score(evidence, white, j)
            moved = _moved(A, b, evidence.by_target[rows], white.starts_s, tests)
            found.append(_named_move(moved, target, "target_moved_px", limits.moved_px))
        if evidence.carried[j]:
            found += _panels_moved(evidence, alone, j, limits.moved_px, tests)
    found += _frames_jitter(evidence, limits.jitter_ms, tests)
    found.append(_sizes_disagree(evidence, limits.scale_percent, tests))
    findings = [f for f in found if f is not None]
    # a camera that moved sees the targets move, and those that few others see seem to have moved themselves
    shaken = max((f.gain for f in findings if f.name == "camera_moved_px"), default=0.0)
    findings = [f for f in findings if f.name != "target_moved_px" or f.gain > shaken]
    return sorted(findings, key=_rank)


def _rank(finding: Finding) -> float:
    """The right explanation explains much and leaves little; a wrong one may do the first but not the second.

    Times of single frames are as many freedoms as frames and explain something of everything: they must leave nothing.
    """
    return -finding.gain / (finding.noise if finding.name == "jitter_ms" else np.sqrt(finding.noise))


def seen_from_behind(evidence: Evidence) -> dict[str, float]:
    """Share of each target's points that were seen through its print, which only a mirrored reading does."""
    return {
        name: float(evidence.behind[evidence.target == j].mean())
        for j, name in enumerate(evidence.targets)
        if (evidence.target == j).any()
    }


def print_scales(evidence: Evidence) -> dict[str, PrintScale]:
    """Printed over declared size of each target, as the rig measures it.

    Each pose of the target gives way, the cameras stay; targets that no two cameras see at once measure nothing.
    """
    scales = {}
    white = whiten(evidence)
    for j, name in enumerate(evidence.targets):
        information, score, rest, freedoms = size_score(evidence, white, j)
        if information > 0 and freedoms >= _LEAST_ROWS:
            spread = max((rest - score**2 / information) / freedoms, 1.0)
            scales[name] = PrintScale(
                float(np.exp(-score / information)), float(np.sqrt(spread / information)), information
            )
    return scales


def worst_of(
    name: str, values: Mapping[str, float | None], limit: float, kind: Literal["max", "min"], action: str
) -> Health:
    """The entry of a table that is furthest past its limit, or nearest to it; a missing value is the worst."""
    numbers = {key: float("nan") if value is None else float(value) for key, value in values.items()}
    sign = 1.0 if kind == "max" else -1.0
    item = max(numbers, key=lambda key: np.inf if np.isnan(numbers[key]) else sign * numbers[key])
    return Health(name, numbers[item], limit, kind, action, item)


@dataclass(frozen=True)
class _Move:
    """The likeliest change of a pose, if it is significant."""

    at_s: float
    jump: np.ndarray
    shift_px: float
    gain: float
    noise: float


def _solve(A: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """-A^-1 b and the squared residuals that it explains, b^T A^-1 b."""
    x = np.linalg.solve(A, b[..., None])[..., 0]
    return -x, np.asarray(np.einsum("...i,...i->...", b, x))


def _unexplained(A: np.ndarray, b: np.ndarray, step: np.ndarray, prior: np.ndarray) -> float:
    """Mean squared score of blocks about their steps, per degree of freedom: 1 where errors are independent."""
    left = b + np.einsum("bij,bj->bi", A, step)
    gain = _solve(A + prior, left)[1].sum()
    return max(float(gain) / max(A.shape[-1] * (len(A) - 1), 1), 1.0)


def _critical(freedoms: int, left: int, tests: int) -> float:
    return float(fdtri(freedoms, max(left, 1), 1 - _FALSE_ALARM / tests))


def _moved(A: np.ndarray, b: np.ndarray, derivative: np.ndarray, starts_s: np.ndarray, tests: int) -> _Move | None:
    """Whether something stood elsewhere before some time than after it: two poses for one."""
    prior = np.diag(1 / POSE_SIGMA**2)
    seen = np.flatnonzero(np.einsum("bii->b", A) > 0)
    if len(seen) < 4:
        return None
    A, b = A[seen], b[seen]
    before_A, before_b = np.cumsum(A, axis=0)[:-1], np.cumsum(b, axis=0)[:-1]
    first, first_gain = _solve(before_A + prior, before_b)
    second, second_gain = _solve(A.sum(axis=0) - before_A + prior, b.sum(axis=0) - before_b)
    gain = first_gain + second_gain - _solve(A.sum(axis=0) + prior, b.sum(axis=0))[1]
    split = int(gain.argmax())
    steps = np.where((np.arange(len(A)) <= split)[:, None], first[split], second[split])
    noise = _unexplained(A, b, steps, prior)
    if gain[split] / 6 / noise < _critical(6, 6 * (len(A) - 2), tests):
        return None
    jump = second[split] - first[split]
    shift = float(np.sqrt(((derivative @ jump) ** 2).sum(axis=-1).mean()))
    return _Move(float(starts_s[seen[split] + 1]), jump, shift, float(gain[split]), noise)


def _displaced(A: np.ndarray, b: np.ndarray, derivative: np.ndarray, start_s: float, tests: int) -> _Move | None:
    """Whether something stood elsewhere than where the rig has it, all the time."""
    prior = np.diag(1 / POSE_SIGMA**2)
    seen = np.einsum("bii->b", A) > 0
    A, b = A[seen], b[seen]
    step, gain = _solve(A.sum(axis=0) + prior, b.sum(axis=0))
    noise = _unexplained(A, b, np.tile(step, (len(A), 1)), prior)
    if float(gain) / 6 / noise < _critical(6, 6 * (len(A) - 1), tests):
        return None
    shift = float(np.sqrt(((derivative @ step) ** 2).sum(axis=-1).mean()))
    return _Move(start_s, step, shift, float(gain), noise)


def _panels_moved(evidence: Evidence, white: Whitened, target: int, limit: float, tests: int) -> list[Finding | None]:
    """Panels of a rig that bent during the session, or sit elsewhere than the rig says.

    Cameras that see two panels at once tell, each by itself: what a camera does moves both alike.
    """
    found: list[Finding | None] = []
    own = evidence.target == target
    panels = np.unique(evidence.panel[own])
    for panel in panels if len(panels) > 1 else []:
        rows = np.flatnonzero(own & (evidence.panel == panel))
        if len(rows) < _LEAST_ROWS:
            continue
        (A, b), J = panel_score(evidence, white, rows), evidence.by_panel[rows]
        moved = _moved(A, b, J, white.starts_s, tests) or _displaced(A, b, J, float(white.starts_s[0]), tests)
        found.append(_named_move(moved, f"panel {panel} of {evidence.targets[target]}", "panel_moved_px", limit))
    return found


def _named_move(move: _Move | None, item: str, name: Move, limit: float) -> Finding | None:
    if move is None or move.shift_px <= limit:
        return None
    far, turned = 1000 * float(np.linalg.norm(move.jump[3:])), float(np.degrees(np.linalg.norm(move.jump[:3])))
    words = f"{item} moved at about {move.at_s:.1f} s, by {far:.0f} mm and {turned:.2f} deg"
    return Finding(name, item, move.shift_px, limit, move.gain, move.noise, words, _MOUNT[name])


def _one_more(
    A: np.ndarray, b: np.ndarray, more: slice, sigma: np.ndarray, tests: int
) -> tuple[np.ndarray, float, float] | None:
    """The step in some freedoms beside the pose, what it explains and the noise; None if it is not significant."""
    index = np.r_[0:6, np.arange(11)[more]]
    A, b = A[np.ix_(range(len(A)), index, index)], b[:, index]
    seen = np.einsum("bii->b", A) > 0
    A, b = A[seen], b[seen]
    prior = np.diag(1 / np.concatenate([POSE_SIGMA, sigma]) ** 2)
    total_A, total_b = A.sum(axis=0) + prior, b.sum(axis=0)
    step, explained = _solve(total_A, total_b)
    gain = float(explained - _solve(total_A[:6, :6], total_b[:6])[1])
    noise = _unexplained(A, b, np.tile(step, (len(A), 1)), prior)
    freedoms = len(index) - 6
    if gain / freedoms / noise < _critical(freedoms, len(index) * (len(A) - 1), tests):
        return None
    return step[6:], gain, noise


def _wrong_lens(A: np.ndarray, b: np.ndarray, item: str, limit: float, tests: int) -> Finding | None:
    """Whether another focal length, principal point and first distortion fit the camera's pictures better."""
    found = _one_more(A, b, slice(6, 10), _LENS_SIGMA, tests)
    if found is None or (percent := 100 * float(abs(np.expm1(found[0][0])))) <= limit:
        return None
    sign = "longer" if found[0][0] > 0 else "shorter"
    words = f"{item}'s focal length seems {percent:.1f} % {sign} than its lens says"
    action = "calibrate its lens again at the zoom and picture size of the session, or check that its video is its own"
    return Finding("focal_percent", item, percent, limit, *found[1:], words, action)


def _wrong_clock(A: np.ndarray, b: np.ndarray, item: str, limit: float, tests: int) -> Finding | None:
    """Whether the camera's residuals lie along the picture's motion: then its clock is off."""
    found = _one_more(A, b, slice(10, 11), np.ones(1), tests)
    if found is None or (off := 1000 * abs(float(found[0][0]))) <= limit:
        return None
    words = f"{item}'s clock seems {off:.0f} ms {'slow' if found[0][0] > 0 else 'fast'}"
    action = "synchronise it again: show a time code to it, or clap, or give its offset"
    return Finding("clock_ms", item, off, limit, *found[1:], words, action)


def _frames_jitter(evidence: Evidence, limit: float, tests: int) -> list[Finding | None]:
    """Cameras whose frames, each by itself, seem to have been exposed at other times than they say.

    What another pose, lens or clock of the camera explains is left to these. What is left over is taken across the
    picture's motion too: a way that was not followed well shows there as much as along it.
    """
    found: list[Finding | None] = []
    for k, item in enumerate(evidence.cameras):
        rows = np.flatnonzero((evidence.camera == k) & evidence.carried[evidence.target])
        frame, index = np.unique(evidence.frame[rows], return_inverse=True)
        if len(rows) < _LEAST_ROWS or len(frame) < _LEAST_FRAMES:
            continue
        r, v = (x[rows] / evidence.sigma_px[rows, None] for x in (evidence.residual_px, evidence.by_time))
        whole = [evidence.by_camera[rows], evidence.by_lens[rows], evidence.by_time[rows, :, None]]
        J = (np.concatenate(whole, axis=-1) / evidence.sigma_px[rows, None, None]).reshape(2 * len(rows), -1)
        r = (r.ravel() - J @ np.linalg.lstsq(J, r.ravel(), rcond=None)[0]).reshape(-1, 2)
        a, b = np.bincount(index, (v * v).sum(axis=-1)), np.bincount(index, (v * r).sum(axis=-1))
        gains = b**2 / np.maximum(a, 1e-12)
        gain, left = float(gains.sum()), 2 * len(rows) - len(frame)
        noise = max((float((r**2).sum()) - gain) / left, 1.0)
        late_ms = 1000 * float(np.sqrt(max(gain - len(frame) * noise, 0.0) / max(a.sum(), 1e-12)))
        if gain / len(frame) / noise < _critical(len(frame), left, tests) or late_ms <= limit:
            continue
        words = f"{item}'s frames seem exposed at irregular times, {late_ms:.0f} ms from what they say"
        action = (
            "give the times that were recorded with them (timestamps.csv, see `motifs ingest`); they are solved for"
        )
        found.append(Finding("jitter_ms", item, late_ms, limit, gain - len(frame) * noise, noise, words, action))
    return found


def _sizes_disagree(evidence: Evidence, limit: float, tests: int) -> Finding | None:
    """The two targets whose declared sizes contradict each other most."""
    scales = print_scales(evidence)
    worst: Finding | None = None
    names = list(scales)
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            a, b = scales[one], scales[other]
            off = abs(float(np.log(a.ratio / b.ratio)))
            noise = (a.sigma**2 + b.sigma**2) / (1 / a.information + 1 / b.information)
            gain = off**2 / (1 / a.information + 1 / b.information)
            percent = 100 * float(np.expm1(off))
            if gain / noise < _critical(1, 100, tests) or percent <= limit or (worst and worst.gain >= gain):
                continue
            words = f"the printed sizes of {one} and {other} disagree by {percent:.1f} %"
            action = "measure a square of each with a ruler and correct targets.json"
            worst = Finding("scale_percent", f"{one}, {other}", percent, limit, gain, noise, words, action)
    return worst
