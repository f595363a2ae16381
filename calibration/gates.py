"""What else could explain the pictures: tests of a solved rig that a small reprojection error does not pass.

Every gate asks whether one more freedom (a camera that moved at some time, a static target that did, another lens,
another clock, another print size) explains what the rig leaves. The answer is a score test: with residuals r, their
derivative c by the freedom and J by what the solution may give way in,

    s = (C^T C)^-1 C^T r,  gain = r^T C (C^T C)^-1 C^T r,  C = c - J (J^T J)^-1 J^T c

whitened. Errors of neighbouring frames are alike, so what is left over is measured in blocks of time, and the gain is
judged against it by Fisher's F; a freedom counts when it is significant and when what it changes is not negligible.
Of several that count, the one that explains most is named.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import f as fisher

from calibration.evidence import Evidence
from core.arrays import Float
from core.manifest import Health

__all__ = ["Finding", "GateLimits", "find_contradictions", "print_scales", "seen_from_behind", "worst_of"]

_BLOCKS = 16  # of time, for each camera or target
_LEAST_ROWS = 40  # that a block needs before it says something
_FALSE_ALARM = 1e-6  # of one rig
_POSE_SIGMA = np.repeat([0.5, 1.0], 3)  # radians, metres: how far things may have moved
# of focal length (relative), principal point (relative to the focal length) and the first distortion
_LENS_SIGMA = np.array([0.5, 0.2, 0.2, 0.5])
_HUBER = 4.0  # standard deviations beyond which a point counts less


@dataclass(frozen=True)
class GateLimits:
    """What the gates let pass: changes that do no harm, or that even good lenses and detectors leave.

    Attributes:
        moved_px: shift of a camera's picture, or of a static target in the pictures, from one part of the session to
            the other.
        focal_percent: error of a focal length that the rig itself shows.
        clock_ms: error of a clock that the moving targets show.
        scale_percent: disagreement of two targets about their printed sizes.
    """

    moved_px: float = 1.0
    focal_percent: float = 1.0
    clock_ms: float = 5.0
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
        noise: what a freedom explains where nothing is wrong: 1 if errors of neighbouring frames were independent.
        text: the finding in words, with when it happened where there is a when.
        action: what to do.
    """

    name: Literal["camera_moved_px", "target_moved_px", "focal_percent", "clock_ms", "scale_percent"]
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


def find_contradictions(evidence: Evidence, limits: GateLimits | None = None) -> list[Finding]:
    """All freedoms that are significant and exceed their limits, the one that explains most first."""
    limits = limits or GateLimits()
    found: list[Finding | None] = []
    for k, camera in enumerate(evidence.cameras):
        rows = np.flatnonzero(evidence.camera == k)
        if len(rows) < _LEAST_ROWS:
            continue
        found.append(_moved(evidence, rows, evidence.by_camera, camera, "camera_moved_px", limits.moved_px))
        found.append(_wrong_lens(evidence, rows, k, limits.focal_percent))
        found.append(_wrong_clock(evidence, rows, camera, limits.clock_ms))
    for j, target in enumerate(evidence.targets):
        rows = np.flatnonzero(evidence.target == j)
        if len(rows) >= _LEAST_ROWS and not evidence.carried[j]:
            found.append(_moved(evidence, rows, evidence.by_target, target, "target_moved_px", limits.moved_px))
    found.append(_sizes_disagree(evidence, limits.scale_percent))
    findings = [f for f in found if f is not None]
    # a camera that moved sees the targets move, and those that few others see seem to have moved themselves
    shaken = max((f.gain for f in findings if f.name == "camera_moved_px"), default=0.0)
    findings = [f for f in findings if f.name != "target_moved_px" or f.gain > shaken]
    return sorted(findings, key=lambda f: -f.gain / f.noise)


def seen_from_behind(evidence: Evidence) -> dict[str, float]:
    """Share of each target's points that were seen through its print, which only a mirrored reading does."""
    return {
        name: float(evidence.behind[evidence.target == j].mean())
        for j, name in enumerate(evidence.targets)
        if (evidence.target == j).any()
    }


def print_scales(evidence: Evidence) -> dict[str, tuple[float, float]]:
    """Printed over declared size of each target, as the rig measures it, and its standard deviation.

    Each pose of the target gives way, the cameras stay; targets that no two cameras see at once measure nothing.
    """
    scales = {}
    for j, name in enumerate(evidence.targets):
        rows = np.flatnonzero(evidence.target == j)
        # a carried target has a pose of its own at every time: 1/30 s is a frame of most cameras
        pose = np.floor(evidence.t_s[rows] * 30).astype(int) if evidence.carried[j] else np.zeros(len(rows), int)
        several = _seen_by_several(evidence.camera[rows], pose)
        if several.sum() < _LEAST_ROWS:
            continue
        rows, pose = rows[several], pose[several]
        r, weight = _whitened(evidence, rows)
        c = evidence.by_scale[rows] * weight[:, None]
        J = evidence.by_target[rows] * weight[:, None, None]
        information, score, rest = _eliminated(pose, J, c, r)
        if information <= 0:
            continue
        log_scale = -score / information
        spread = max(rest / max(2 * len(rows) - 6 * len(np.unique(pose)), 1), 1.0)
        scales[name] = float(np.exp(log_scale)), float(np.sqrt(spread / information))
    return scales


def worst_of(
    name: str, values: Mapping[str, float | None], limit: float, kind: Literal["max", "min"], action: str
) -> Health:
    """The entry of a table that is furthest past its limit, or nearest to it; a missing value is the worst."""
    numbers = {key: float("nan") if value is None else float(value) for key, value in values.items()}
    sign = 1.0 if kind == "max" else -1.0
    item = max(numbers, key=lambda key: np.inf if np.isnan(numbers[key]) else sign * numbers[key])
    return Health(name, numbers[item], limit, kind, action, item)


def _whitened(evidence: Evidence, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Residuals over their standard deviations, limited by Huber's weights, and what derivatives are multiplied by."""
    r = evidence.residual_px[rows] / evidence.sigma_px[rows, None]
    norm = np.linalg.norm(r, axis=-1)
    weight = np.sqrt(_HUBER / np.maximum(norm, _HUBER))
    return r * weight[:, None], weight / evidence.sigma_px[rows]


def _blocks(t_s: np.ndarray) -> np.ndarray:
    """(n,) index of the stretch of time that each row lies in; stretches hold about as many rows each."""
    times, inverse, count = np.unique(t_s, return_inverse=True, return_counts=True)
    blocks = int(np.clip(len(t_s) // _LEAST_ROWS, 2, min(_BLOCKS, max(len(times), 2))))
    share = (np.cumsum(count) - count / 2) / len(t_s)
    return np.minimum((share * blocks).astype(int), blocks - 1)[inverse]


def _by_block(block: np.ndarray, J: np.ndarray, r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """J^T J and J^T r of every block."""
    num, p = int(block.max()) + 1, J.shape[-1]
    A, b = np.zeros((num, p, p)), np.zeros((num, p))
    np.add.at(A, block, np.einsum("nki,nkj->nij", J, J))
    np.add.at(b, block, np.einsum("nki,nk->ni", J, r))
    return A, b


def _solve(A: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """-A^-1 b and the squared residuals that it explains, b^T A^-1 b."""
    x = np.linalg.solve(A, b[..., None])[..., 0]
    return -x, np.einsum("...i,...i->...", b, x)


def _unexplained(A: np.ndarray, b: np.ndarray, step: np.ndarray, prior: np.ndarray) -> float:
    """Mean squared score of blocks about a common step, per degree of freedom: 1 where errors are independent."""
    left = b + np.einsum("bij,bj->bi", A, step)
    gain = _solve(A + prior, left)[1].sum()
    return max(float(gain) / max(A.shape[-1] * (len(A) - 1), 1), 1.0)


def _critical(freedoms: int, left: int, tests: int) -> float:
    return float(fisher.isf(_FALSE_ALARM / tests, freedoms, max(left, 1)))


def _moved(
    evidence: Evidence,
    rows: np.ndarray,
    derivative: np.ndarray,
    item: str,
    name: Literal["camera_moved_px", "target_moved_px"],
    limit: float,
) -> Finding | None:
    """Whether something stood elsewhere before some time than after it: two poses for one."""
    r, weight = _whitened(evidence, rows)
    block = _blocks(evidence.t_s[rows])
    J = derivative[rows] * weight[:, None, None]
    A, b = _by_block(block, J, r)
    if len(A) < 4:
        return None
    prior = np.diag(1 / _POSE_SIGMA**2)
    before_A, before_b = np.cumsum(A, axis=0)[:-1], np.cumsum(b, axis=0)[:-1]
    total_A, total_b = A.sum(axis=0), b.sum(axis=0)
    first, first_gain = _solve(before_A + prior, before_b)
    second, second_gain = _solve(total_A - before_A + prior, total_b - before_b)
    gain = first_gain + second_gain - _solve(total_A + prior, total_b)[1]
    split = int(gain.argmax())
    left = np.where((np.arange(len(A)) <= split)[:, None], first[split], second[split])
    noise = _unexplained(A, b, left, prior)
    jump = second[split] - first[split]
    shift = np.sqrt(((derivative[rows] @ jump) ** 2).sum(axis=-1).mean())
    tests = len(A) * (len(evidence.cameras) + len(evidence.targets))
    if gain[split] / 6 / noise < _critical(6, 6 * (len(A) - 2), tests) or shift <= limit:
        return None
    when = evidence.t_s[rows]
    at = (when[block <= split].max() + when[block > split].min()) / 2
    far, turned = 1000 * float(np.linalg.norm(jump[3:])), float(np.degrees(np.linalg.norm(jump[:3])))
    words = f"{item} moved at about {at:.1f} s, by {far:.0f} mm and {turned:.2f} deg"
    action = (
        "mount it again, and calibrate the session in two parts, before and after"
        if name == "camera_moved_px"
        else "give it two names, before and after, or leave it out of the targets"
    )
    return Finding(name, item, float(shift), limit, float(gain[split]), noise, words, action)


def _wrong_lens(evidence: Evidence, rows: np.ndarray, camera: int, limit: float) -> Finding | None:
    """Whether another focal length, principal point and first distortion fit the camera's pictures better."""
    r, weight = _whitened(evidence, rows)
    J = np.concatenate([evidence.by_camera[rows], evidence.by_lens[rows]], axis=-1) * weight[:, None, None]
    A, b = _by_block(_blocks(evidence.t_s[rows]), J, r)
    prior = np.diag(1 / np.concatenate([_POSE_SIGMA, _LENS_SIGMA]) ** 2)
    total_A, total_b = A.sum(axis=0) + prior, b.sum(axis=0)
    step, explained = _solve(total_A, total_b)
    gain = float(explained - _solve(total_A[:6, :6], total_b[:6])[1])
    noise = _unexplained(A, b, np.tile(step, (len(A), 1)), prior)
    percent = 100 * float(abs(np.expm1(step[6])))
    if gain / 4 / noise < _critical(4, 10 * (len(A) - 1), len(evidence.cameras)) or percent <= limit:
        return None
    item = evidence.cameras[camera]
    sign = "longer" if step[6] > 0 else "shorter"
    words = f"{item}'s focal length seems {percent:.1f} % {sign} than its lens says"
    action = "calibrate its lens again at the zoom and picture size of the session, or check that its video is its own"
    return Finding("focal_percent", item, percent, limit, gain, noise, words, action)


def _wrong_clock(evidence: Evidence, rows: np.ndarray, item: str, limit: float) -> Finding | None:
    """Whether the camera's residuals lie along the picture's motion: then its clock is off."""
    r, weight = _whitened(evidence, rows)
    J = np.concatenate([evidence.by_camera[rows], evidence.by_time[rows][..., None]], axis=-1) * weight[:, None, None]
    A, b = _by_block(_blocks(evidence.t_s[rows]), J, r)
    prior = np.diag(1 / np.append(_POSE_SIGMA, 1.0) ** 2)
    total_A, total_b = A.sum(axis=0) + prior, b.sum(axis=0)
    step, explained = _solve(total_A, total_b)
    gain = float(explained - _solve(total_A[:6, :6], total_b[:6])[1])
    noise = _unexplained(A, b, np.tile(step, (len(A), 1)), prior)
    off = 1000 * float(step[6])
    if gain / noise < _critical(1, 7 * (len(A) - 1), len(evidence.cameras)) or abs(off) <= limit:
        return None
    words = f"{item}'s clock seems {abs(off):.0f} ms {'slow' if off > 0 else 'fast'}"
    action = "synchronise it again: show a time code to it, or clap, or give its offset"
    return Finding("clock_ms", item, abs(off), limit, gain, noise, words, action)


def _sizes_disagree(evidence: Evidence, limit: float) -> Finding | None:
    """The two targets whose declared sizes contradict each other most."""
    scales = print_scales(evidence)
    worst: Finding | None = None
    names = list(scales)
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            (a, sa), (b, sb) = scales[one], scales[other]
            off = abs(np.log(a / b))
            z = (off / np.hypot(sa, sb)) ** 2
            percent = 100 * float(np.expm1(off))
            if z < _critical(1, 100, len(names) ** 2) or percent <= limit or (worst and worst.gain >= z):
                continue
            words = f"the printed sizes of {one} and {other} disagree by {percent:.1f} %"
            action = "measure a square of each with a ruler and correct targets.json"
            worst = Finding("scale_percent", f"{one}, {other}", percent, limit, float(z), 1.0, words, action)
    return worst


def _seen_by_several(camera: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """Rows whose pose at least two cameras see."""
    pairs = np.unique(np.stack([pose, camera], axis=-1), axis=0)
    poses, count = np.unique(pairs[:, 0], return_counts=True)
    return np.isin(pose, poses[count >= 2])


def _eliminated(
    group: np.ndarray, J: np.ndarray, c: np.ndarray, r: Float[np.ndarray, "n 2"]
) -> tuple[float, float, float]:
    """c^T c, c^T r and r^T r after every group's own pose has taken what it can."""
    index = np.unique(group, return_inverse=True)[1]
    everything = np.concatenate([J, c[..., None], r[..., None]], axis=-1)
    M = np.zeros((int(index.max()) + 1, 8, 8))
    np.add.at(M, index, np.einsum("nki,nkj->nij", everything, everything))
    prior = np.diag(1 / _POSE_SIGMA**2)
    left = M[:, 6:, 6:] - M[:, 6:, :6] @ np.linalg.solve(M[:, :6, :6] + prior, M[:, :6, 6:])
    total = left.sum(axis=0)
    return float(total[0, 0]), float(total[0, 1]), float(total[1, 1])
