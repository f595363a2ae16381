"""Triangulation in time: the most probable path of every joint, from all of its keypoints in all frames at once.

A joint's path is smooth: its third differences are noise whose level says how freely the joint moves. With the pixel
errors of all views (`fitting.pixel_forms`) that makes one banded system for each joint, of three unknowns a frame; it
is factored by LAPACK in time linear in the number of frames. A view that sees a joint alone in a frame helps too: it
fixes two of the three.

How freely a joint moves is told by the path itself, by MacKay's fixed point of the evidence ("Bayesian interpolation",
1992, section 4.4): the squared third differences of the neighbourhood in time, over the number of their components that
the keypoints determine. A hand at rest is thus averaged over many frames, a hand in haste over few. That number comes
from the blocks of the inverse inside the band (Takahashi, Fagan and Chin 1973), which also are the covariance.
A detector's errors stay for some frames, though, and what stays does not average out: its share of the variance, which
the residuals' autocorrelation tells, is left at what it is in a single frame.
"""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.linalg.lapack import dpbtrf, dpbtrs

from calibration.smoothing import bridged
from core.arrays import Float
from core.cameras import Rig
from core.errors import InputError
from core.files import read_npz, write_npz
from core.skeletons import Skeleton, skeleton_named
from fitting.pixel_forms import PixelForms
from fitting.points import Points3d
from fitting.rays import Rays, errors, rays_of

_DIFFERENCE = (-1.0, 3.0, -3.0, 1.0)
_REACH = len(_DIFFERENCE) - 1  # frames that it couples a frame with
_WIDE = 8.0  # standard deviations at which Tukey's biweight ends: efficiency 0.99 for errors in two coordinates
_FAR = 5.0  # standard deviations of a frame's own point from the path, beyond which it is not believed
_LEAST_JERK_M = 1e-5  # least standard deviation of third differences
_PRIOR_COUNT = 3.0  # components' worth of belief in the level of the joint over all frames
_MIN_FRAMES = _REACH + 2
_STRETCH, _OVERLAP = 3000, 150  # frames followed at a time, so that memory does not grow, and how far beyond
_LEAST_CORRELATION = 0.05  # below it, residuals count as independent
_FASTEST = 100.0  # by how much a level may change in one pass


@dataclass(frozen=True)
class TrajectoryConfig:
    """Settings of the paths.

    Attributes:
        jerk_sigma_m: standard deviation of third differences to begin with, metres, at 30 frames a second.
        alike_s: time over which a joint is about as lively.
        passes: how often weights and levels follow the path.
        max_gap_s: longest gap without a point of its own that is bridged.
    """

    jerk_sigma_m: float = 0.004
    alike_s: float = 0.5
    passes: int = 4
    max_gap_s: float = 0.5


@dataclass(frozen=True, eq=False)
class Paths:
    """Paths of the joints of one person.

    Attributes:
        t_s: instants on the session clock, (frames,).
        xyz_m: (frames, joints, 3); NaN where neither measured nor bridged.
        covariance: m^2, (frames, joints, 3, 3); NaN there too.
        measured: the joint was triangulated in this frame, (frames, joints).
        valid: measured, or bridged between frames that are, (frames, joints).
        staying: share of the keypoints' variance that stays from frame to frame.
        skeleton: what the joints are.
    """

    t_s: np.ndarray
    xyz_m: np.ndarray
    covariance: np.ndarray
    measured: np.ndarray
    valid: np.ndarray
    staying: float
    skeleton: Skeleton

    def save(self, path: Path) -> None:
        """Writes `paths.npz`."""
        names = ("t_s", "xyz_m", "covariance", "measured", "valid", "staying")
        arrays = {k: np.asarray(getattr(self, k)) for k in names} | {"skeleton": np.array(self.skeleton.name)}
        write_npz(path, arrays, compressed=False)


def load_paths(path: Path) -> Paths:
    """Reads `paths.npz`.

    Raises:
        InputError: if the file is missing, damaged, or lacks an array.
    """
    arrays = read_npz(path)
    try:
        skeleton, staying = skeleton_named(str(arrays.pop("skeleton"))), float(arrays.pop("staying"))
        return Paths(**arrays, staying=staying, skeleton=skeleton)
    except (TypeError, KeyError) as error:
        raise InputError(str(path), f"not a file of paths ({error})", "run `motifs triangulate` again") from error


def smooth_paths(
    rig: Rig,
    xy_px: Float[np.ndarray, "views frames joints 2"],
    score: Float[np.ndarray, "views frames joints"],
    points: Points3d,
    min_score: float,
    config: TrajectoryConfig | None = None,
    pool: Executor | None = None,
) -> Paths:
    """Paths through keypoints whose points are known frame by frame.

    Args:
        rig: cameras in the order of the first axis.
        xy_px: keypoints with left and right in order (`Points3d.swapped`), NaN where missing.
        score: detector scores.
        points: what `triangulate_points` made of them; its instants are evenly spaced.
        min_score: keypoints below it are not used.
        config: settings.
        pool: processes that do the stretches of a long recording; this one does them where not given.
    """
    config = config or TrajectoryConfig()
    T, J = points.valid.shape
    jobs, kept, inside = [], [], []
    for begin in range(0, T, _STRETCH):
        end = min(T, begin + _STRETCH)
        around = slice(max(0, begin - _OVERLAP), min(T, end + _OVERLAP))
        jobs.append((rig, xy_px[:, around], score[:, around], points.frames(around), min_score, config))
        kept.append(slice(begin, end))
        inside.append(slice(begin - around.start, end - around.start))
    path, covariance, own = points.xyz_m.copy(), points.covariance.copy(), points.valid.copy()
    shares = []
    for at, part, found in zip(kept, inside, (map if pool is None else pool.map)(_do, jobs), strict=True):
        path[at], covariance[at], own[at] = (array[part] for array in found[:3])
        shares.append(found[3])
    valid = own | np.stack([bridged(points.t_s, own[:, j], config.max_gap_s) for j in range(J)], axis=1)
    valid &= np.isfinite(path[..., 0])
    gone = ~valid[..., None]
    return Paths(
        t_s=points.t_s,
        xyz_m=np.where(gone, np.nan, path),
        covariance=np.where(gone[..., None], np.nan, covariance),
        measured=own,
        valid=valid,
        staying=float(np.mean(shares)),
        skeleton=points.skeleton,
    )


def _do(
    job: tuple[Rig, np.ndarray, np.ndarray, Points3d, float, TrajectoryConfig],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Paths of one stretch, their covariances, which frames' points were believed, and the share that stays."""
    rig, xy_px, score, points, min_score, config = job
    path, covariance, own = points.xyz_m.copy(), points.covariance.copy(), points.valid.copy()
    often = np.flatnonzero(points.valid.sum(axis=0) >= _MIN_FRAMES)
    if not len(often):
        return path, covariance, own, 0.0
    xy, trust = (a[:, :, often].reshape(len(rig), -1, *a.shape[3:]) for a in (xy_px, score))
    rays = rays_of(rig, xy, trust, min_score)
    path[:, often], blocks, own[:, often] = _follow(PixelForms.of(rays), points, often, config)
    staying = _staying_share(rays, path[:, often], points.noise_px**2)
    covariance[:, often] = _with_staying(blocks, points.covariance[:, often], own[:, often], staying)
    return path, covariance, own, staying


def _follow(
    forms: PixelForms, points: Points3d, joints: np.ndarray, config: TrajectoryConfig
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Paths (T, J, 3), their covariances (T, J, 3, 3), and which frames' own points were believed (T, J)."""
    xyz, valid = points.xyz_m[:, joints], points.valid[:, joints]
    noise2, step_s = points.noise_px**2, float(np.mean(np.diff(points.t_s)))
    # of a motion driven by white jerk, third differences grow with step^2.5
    level = np.full((len(xyz) - _REACH, len(joints)), (config.jerk_sigma_m * (30 * step_s) ** 2.5) ** 2)
    reach = max(1, round(config.alike_s / step_s / 2))
    information = np.linalg.inv(np.where(valid[..., None, None], points.covariance[:, joints], np.eye(3)))
    own, path = valid, _start(xyz, valid)
    blocks = np.zeros(0)
    for round_ in range(config.passes + 1):
        # weights at the frame's own point, which does not depend on how stiff the path is for now
        path, blocks = _solve(*_pull(forms, np.where(own[..., None], xyz, path), noise2), 1 / level)
        if round_ < config.passes:
            level = _levels(path, blocks, level, reach)
            off = np.where(valid[..., None], path - xyz, 0.0)
            own = valid & (np.einsum("tji,tjik,tjk->tj", off, information, off) < 3 * _FAR**2)
    return path, blocks[:, 0], own


def _start(xyz: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Points with straight lines through what is missing."""
    frames, path = np.arange(len(xyz)), xyz.copy()
    for j in range(xyz.shape[1]):
        known = valid[:, j]
        for axis in range(3):
            path[:, j, axis] = np.interp(frames, frames[known], xyz[known, j, axis])
    return path


def _pull(forms: PixelForms, at: np.ndarray, noise2: float) -> tuple[np.ndarray, np.ndarray]:
    """Normal matrices (6, T, J), packed, and right sides (3, T, J) of points near (T, J, 3)."""
    xyz = at.reshape(-1, 3).T
    depth = forms.depths(xyz)
    share = np.maximum(1 - forms.errors2(xyz, depth) / (_WIDE**2 * noise2), 0.0)
    weight = forms.weight * np.nan_to_num((share / depth) ** 2) / noise2
    upper = np.einsum("kvn,vn->kn", forms.form[:6], weight)
    right = -np.einsum("kvn,vn->kn", forms.form[6:9], weight)
    return upper.reshape(6, *at.shape[:2]), right.reshape(3, *at.shape[:2])


def _solve(
    upper: Float[np.ndarray, "6 frames joints"],
    right: Float[np.ndarray, "3 frames joints"],
    stiffness: Float[np.ndarray, "m joints"],
) -> tuple[Float[np.ndarray, "frames joints 3"], Float[np.ndarray, "frames k joints 3 3"]]:
    """Paths, and blocks [t + k, t] of the inverse of each joint's system."""
    _, T, J = upper.shape
    blocks = np.zeros((J, 3 * _REACH + 3, T, 3))  # LAPACK's lower storage: [i - j, j]
    for a in range(_REACH + 1):
        for b in range(a, _REACH + 1):
            pull = _DIFFERENCE[a] * _DIFFERENCE[b] * stiffness.T
            blocks[:, 3 * (b - a), a : a + T - _REACH] += pull[..., None]
    own = upper.transpose(2, 1, 0)
    blocks[:, 0] += own[..., [0, 3, 5]]
    blocks[:, 1, :, :2] += own[..., [1, 4]]
    blocks[:, 2, :, 0] += own[..., 2]
    band = blocks.reshape(J, -1, 3 * T)
    path = np.empty((J, 3 * T))
    for j in range(J):
        band[j], info = dpbtrf(band[j], lower=1)
        if info:
            raise InputError("paths", f"frame {(info - 1) // 3} of joint {j} is not determined", "report this")
        path[j] = dpbtrs(band[j], right[:, :, j].T.reshape(-1, 1), lower=1)[0][:, 0]
    return path.reshape(J, T, 3).transpose(1, 0, 2), _inverse_blocks(band)


def _inverse_blocks(factors: Float[np.ndarray, "joints bands n"]) -> Float[np.ndarray, "frames k joints 3 3"]:
    """Blocks [t + k, t] of the inverses, from banded Cholesky factors; from the last frame to the first."""
    J, bands, n = factors.shape
    T = n // 3
    rows = factors.reshape(J, bands, T, 3)
    L = np.zeros((T, _REACH + 1, J, 3, 3))  # blocks [t + k, t]
    for k in range(_REACH + 1):
        for r in range(3):
            for c in range(3):
                if 0 <= 3 * k + r - c < bands:
                    L[:, k, :, r, c] = rows[:, 3 * k + r - c, :, c].T
    inverse = np.linalg.inv(L[:, 0])
    own = np.swapaxes(inverse, -1, -2) @ inverse
    # what the frame's own unknowns take from the three that follow, one above the other
    gain = (L[:, 1:] @ inverse[:, None]).transpose(0, 2, 1, 3, 4).reshape(T, J, 3 * _REACH, 3)
    Z = np.empty((T, _REACH + 1, J, 3, 3))
    ahead = np.zeros((J, 3 * _REACH, 3 * _REACH))
    for t in reversed(range(T)):
        below = -ahead @ gain[t]
        block = own[t] - np.swapaxes(gain[t], -1, -2) @ below
        Z[t, 0] = (block + np.swapaxes(block, -1, -2)) / 2  # rounding that is not symmetric would grow without bound
        Z[t, 1:] = below.reshape(J, _REACH, 3, 3).transpose(1, 0, 2, 3)
        ahead[:, 3:, 3:] = ahead[:, :-3, :-3].copy()
        ahead[:, :3, :3], ahead[:, 3:, :3] = Z[t, 0], below[:, :-3]
        ahead[:, :3, 3:] = np.swapaxes(below[:, :-3], -1, -2)
    return Z


def _levels(path: np.ndarray, blocks: np.ndarray, level: np.ndarray, reach: int) -> np.ndarray:
    """Variances of third differences (m, joints), each from its neighbourhood in time and a little from all of it."""
    m = len(level)
    change = np.asarray(sum(c * path[k : k + m] for k, c in enumerate(_DIFFERENCE)))
    traces, unknown = np.trace(blocks, axis1=-2, axis2=-1), np.zeros_like(level)
    for a in range(_REACH + 1):
        for b in range(a, _REACH + 1):
            times = (1 if a == b else 2) * _DIFFERENCE[a] * _DIFFERENCE[b]
            unknown += times * traces[a : a + m, b - a]
    shown, counted = (change**2).sum(axis=-1), np.maximum(3 - unknown / level, 0.0)
    whole = shown.sum(axis=0) / np.maximum(counted.sum(axis=0), 1e-9)
    near, number = _over_neighbours(shown, reach), _over_neighbours(counted, reach)
    local = (near + _PRIOR_COUNT * whole) / (number + _PRIOR_COUNT)
    return np.maximum(level * np.clip(local / level, 1 / _FASTEST, _FASTEST), _LEAST_JERK_M**2)


def _over_neighbours(values: Float[np.ndarray, "m joints"], reach: int) -> Float[np.ndarray, "m joints"]:
    """Sums over so many frames to either side."""
    total = np.cumsum(np.pad(values, ((reach + 1, reach), (0, 0))), axis=0)
    return total[2 * reach + 1 :] - total[: -2 * reach - 1]


def _staying_share(rays: Rays, path: np.ndarray, noise2: float) -> float:
    """Share of the keypoints' variance that is the same in the frames around: autocorrelation at a lag of no frames.

    Residuals have it at lags of one frame and two; a geometric series through both leads back to none.
    """
    T, J = path.shape[:2]
    error2, residual = errors(rays, path.reshape(-1, 3).T)[:2]
    with np.errstate(invalid="ignore"):
        fits = rays.seen & (error2 < _WIDE**2 * noise2)
    offset = np.where(fits, residual, 0.0).reshape(2, -1, T, J)
    fits = fits.reshape(-1, T, J)
    variance = (offset**2).sum() / max(2 * fits.sum(), 1)

    def correlation(lag: int) -> float:
        both = 2 * (fits[:, lag:] & fits[:, :-lag]).sum()
        return float((offset[:, :, lag:] * offset[:, :, :-lag]).sum() / max(both, 1) / max(variance, 1e-12))

    one, two = correlation(1), correlation(2)
    return float(np.clip(one * one / two, 0.0, 1.0)) if one > two > _LEAST_CORRELATION else 0.0


def _with_staying(blocks: np.ndarray, alone: np.ndarray, own: np.ndarray, staying: float) -> np.ndarray:
    """Covariances of the paths, where a share of the noise has not been averaged out: it is that of a frame alone.

    Args:
        blocks: covariances if all noise were new in every frame (T, J, 3, 3).
        alone: of the frames' own points.
        own: which of these were believed; elsewhere the joint's median is what a frame alone would have known.
        staying: the share.
    """
    if not staying:
        return blocks
    typical = np.stack([np.median(alone[own[:, j], j], axis=0) for j in range(own.shape[1])])
    return (1 - staying) * blocks + staying * np.where(own[..., None, None], alone, typical)
