"""Long sequences in stretches: each is fitted by itself, a little way into its neighbours, and only its middle is kept.

What a frame says of another fades with their distance, so a stretch that reaches far enough into its neighbours knows
all there is to know about its middle. Cuts are put where the keypoints determine the body well, because there it fades
within some frames; where hidden limbs carry it further, both sides differ at the cut, which is looked at: such seams
are fitted again in a stretch that spans them, until they close.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np

from core.arrays import Float
from core.transforms import geodesic
from fitting.estimate import Estimate, EstimateConfig, Measurements, estimate_poses, joined
from fitting.fit_model import FitModel
from fitting.landmarks import Landmarks
from fitting.smpl import BodyModel
from fitting.subject import Subject, estimate_subject

_SEARCHED = 0.1  # of a stretch's length to either side that a cut may move to a better place
_SEAM_M, _SEAM_RAD = 1e-4, 5e-3  # by which joints and their turns may differ on both sides of a cut
_MOST_MENDINGS = 3


@dataclass(frozen=True)
class Window:
    """A stretch of frames: those fitted, first to last, and those kept of them, begin to end; ends are exclusive."""

    first: int
    begin: int
    end: int
    last: int

    @property
    def fitted(self) -> slice:
        """Frames that are fitted."""
        return slice(self.first, self.last)

    @property
    def kept(self) -> slice:
        """Frames that are kept, among those fitted."""
        return slice(self.begin - self.first, self.end - self.first)


def cut_windows(seen: Float[np.ndarray, "frames"], step_s: float, config: EstimateConfig) -> tuple[Window, ...]:
    """Stretches of about the configured length, cut where most is seen.

    Args:
        seen: how much is known of each frame.
        step_s: time between frames.
        config: length and overlap.
    """
    T, overlap = len(seen), max(2, round(config.overlap_s / step_s))
    length = max(round(config.window_s / step_s), 2 * overlap)
    count = max(1, round(T / length))
    reach = int(_SEARCHED * T / count)
    cuts = [0]
    for k in range(1, count):
        middle = round(k * T / count)
        near = np.arange(middle - reach, middle + reach + 1)
        # of the frames that show as much as any, the one nearest to the middle
        cuts.append(int(near[np.lexsort((np.abs(near - middle), -_around(seen)[near]))[0]]))
    cuts.append(T)
    return tuple(
        Window(max(0, begin - overlap), begin, end, min(T, end + overlap)) for begin, end in itertools.pairwise(cuts)
    )


def _around(seen: np.ndarray) -> np.ndarray:
    """The least that is seen of each frame and its neighbours."""
    padded = np.pad(seen, 2, mode="edge")
    return np.lib.stride_tricks.sliding_window_view(padded, 5).min(axis=-1)


def estimate_body(
    body: BodyModel,
    landmarks: Landmarks,
    measured: Measurements,
    config: EstimateConfig | None = None,
    subject: Subject | None = None,
    pool: Executor | None = None,
) -> Estimate:
    """Fits one person to a whole sequence.

    Args:
        body: the model.
        landmarks: where the keypoints lie on it, in their order.
        measured: keypoints and what else is known.
        config: settings.
        subject: shape and mounts, where they are known; else they are found first.
        pool: processes that do the stretches; this one does them where not given. The result does not depend on it.

    Raises:
        InputError: if the arrays do not fit each other, or the trunk is never seen.
    """
    config = config or EstimateConfig()
    model, measured = FitModel.of(body, landmarks), measured.checked(landmarks)
    subject = subject or estimate_subject(model, measured, config)
    windows = cut_windows(_known(measured), measured.step_s, config)
    jobs = [(model, measured.frames(window.fitted), subject, config) for window in windows]
    parts = list(map(_do, jobs) if pool is None or len(jobs) == 1 else pool.map(_do, jobs))
    return mended(model, measured, subject, config, windows, parts)


def _do(job: tuple[FitModel, Measurements, Subject, EstimateConfig]) -> Estimate:
    return estimate_poses(*job)


def _known(measured: Measurements) -> Float[np.ndarray, "frames"]:
    """How many points are known of each frame."""
    return np.isfinite(measured.points_m).all(axis=-1).sum(axis=1).astype(float)


def mended(
    model: FitModel,
    measured: Measurements,
    subject: Subject,
    config: EstimateConfig,
    windows: Sequence[Window],
    parts: Sequence[Estimate],
) -> Estimate:
    """The stretches joined, with those seams fitted again at which both sides differ.

    Args:
        model: the body.
        measured: of the whole sequence.
        subject: shape and mounts.
        config: settings.
        windows: the stretches.
        parts: what was fitted in each, kept frames and all.
    """
    found = joined([part.frames(window.kept) for window, part in zip(windows, parts, strict=True)])
    pairs = itertools.pairwise(zip(windows, parts, strict=True))
    cuts = [left.end for (left, a), (right, b) in pairs if _seam_gap(model, left, a, right, b) > 1.0]
    half = max(window.end - window.begin for window in windows)
    for cut in cuts:
        for more in range(1, _MOST_MENDINGS + 1):
            ends = [int(np.clip(cut + sign * more * half, 0, len(found))) for sign in (-2, -1, 1, 2)]
            window = Window(*ends)
            before = found.frames(slice(window.begin, window.end))
            start = found.frames(window.fitted).state
            again = estimate_poses(model, measured.frames(window.fitted), subject, config, start)
            found = _replaced(found, again, window)
            if _difference(model, again.frames(window.kept), before)[[0, -1]].max() < 1.0:
                break
    return found


def _seam_gap(model: FitModel, left: Window, of_left: Estimate, right: Window, of_right: Estimate) -> float:
    """How far two neighbours differ in the frames at the cut between them; 1 is what may be."""
    frames = np.arange(max(left.end - 1, right.first), min(left.end + 1, left.last))
    a, b = of_left.frames(frames - left.first), of_right.frames(frames - right.first)
    return float(_difference(model, a, b).max())


def _difference(model: FitModel, a: Estimate, b: Estimate) -> Float[np.ndarray, "frames"]:
    """The largest shift or turn of a joint in every frame, over what may be."""
    joints = [part.state.posed(model.body).joints for part in (a, b)]
    shift = np.linalg.norm(joints[0] - joints[1], axis=-1).max(axis=1)
    return np.maximum(shift / _SEAM_M, geodesic(a.state.R, b.state.R).max(axis=1) / _SEAM_RAD)


def _replaced(found: Estimate, again: Estimate, window: Window) -> Estimate:
    """The whole with the frames kept of a stretch taken from it."""
    R, transl, covariance = found.state.R.copy(), found.state.transl.copy(), found.joint_covariance.copy()
    middle = again.frames(window.kept)
    R[window.begin : window.end], transl[window.begin : window.end] = middle.state.R, middle.state.transl
    covariance[window.begin : window.end] = middle.joint_covariance
    state = dataclasses.replace(found.state, R=R, transl=transl)
    return dataclasses.replace(found, state=state, joint_covariance=covariance)
