"""Long sequences in stretches: each is fitted by itself, a little way into its neighbours, and only its middle is kept.

What a frame says of another fades with their distance, so a stretch that reaches far enough into its neighbours knows
all there is to know about its middle. Cuts are put where the keypoints determine the body well, because there it fades
within some frames. What is left at the cut is smoothed out in a short stretch that spans it and is held at its ends;
should its frames move near them even so, as where limbs are hidden for long, it reaches further.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np

from core.arrays import Float
from core.transforms import geodesic
from fitting.backend import CPU
from fitting.estimate import Estimate, EstimateConfig, Measurements, estimate_poses, joined, refine_between
from fitting.fit_model import FitModel
from fitting.landmarks import Landmarks
from fitting.objective import FitState
from fitting.pose_density import PoseDensity
from fitting.smpl import BodyModel
from fitting.subject import Subject, estimate_subject

_SEARCHED = 0.25  # of a stretch's length to either side that a cut may move to a better place
_SEAM_M, _SEAM_RAD = 2e-4, 4e-3  # by which joints and their turns may still move near the ends of such a stretch
_MOST_MENDINGS = 3
_WORTH_TWO = 4  # overlaps that a recording must have for a second stretch to be worth its overlap


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
    count = max(round(T / length), min(2, T // (_WORTH_TWO * overlap)), 1)
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
    device: str = CPU,
    density: PoseDensity | None = None,
) -> Estimate:
    """Fits one person to a whole sequence.

    Args:
        body: the model.
        landmarks: where the keypoints lie on it, in their order.
        measured: keypoints and what else is known.
        config: settings.
        subject: shape and mounts, where they are known; else they are found first.
        pool: processes that do the stretches; this one does them where not given. The result does not depend on it.
        device: where the normal equations are solved (`fitting.backend`).
        density: how likely poses are; each joint by itself (`fitting.prior`) where not given.

    Raises:
        InputError: if the arrays do not fit each other, or the trunk is never seen.
    """
    config = config or EstimateConfig()
    model, measured = FitModel.of(body, landmarks, density), measured.checked(landmarks)
    subject = subject or estimate_subject(model, measured, config, device)
    windows = cut_windows(measured.known, measured.step_s, config)
    jobs = [(model, measured.frames(window.fitted), subject, config, device) for window in windows]
    parts = list(map(_do, jobs) if pool is None or len(jobs) == 1 else pool.map(_do, jobs))
    kept = [part.frames(window.kept) for window, part in zip(windows, parts, strict=True)]

    def mend(seams: Sequence[Seam], states: Sequence[FitState]) -> list[FitState]:
        jobs = [
            (model, measured.frames(seam.span), subject, config, seam, state, device)
            for seam, state in zip(seams, states, strict=True)
        ]
        return list(itertools.starmap(mend_seam, jobs))

    return mended(windows, kept, overlap_frames(measured.step_s, config), mend)


def _do(job: tuple[FitModel, Measurements, Subject, EstimateConfig, str]) -> Estimate:
    return estimate_poses(*job)


@dataclass(frozen=True)
class Seam:
    """Where two stretches meet.

    Attributes:
        span: the frames around it that may be changed.
        cut: the first frame of the second stretch.
        overlap: frames to either side that are smoothed first.
    """

    span: slice
    cut: int
    overlap: int


def mended(
    windows: Sequence[Window],
    parts: Sequence[Estimate],
    overlap: int,
    mend: Callable[[Sequence[Seam], Sequence[FitState]], Iterable[FitState]],
) -> Estimate:
    """The stretches joined, and the seams between them smoothed out.

    Args:
        windows: the stretches.
        parts: what was fitted in each, its kept frames.
        overlap: frames to either side of a seam that are smoothed first.
        mend: does `mend_seam` for seams that have no frame in common, with the states of their spans.
    """
    found = joined(list(parts))
    state = dataclasses.replace(found.state, R=found.state.R.copy(), transl=found.state.transl.copy())
    widest = overlap * 2 ** (_MOST_MENDINGS - 1)
    seams = [
        Seam(slice(max(one.begin, one.end - widest), min(other.end, one.end + widest)), one.end, overlap)
        for one, other in itertools.pairwise(windows)
    ]
    # every other one first: these have no frame in common
    for turn in (seams[0::2], seams[1::2]):
        for seam, after in zip(turn, mend(turn, [state.frames(seam.span) for seam in turn]), strict=True):
            state.R[seam.span], state.transl[seam.span] = after.R, after.transl
    return dataclasses.replace(found, state=state)


def mend_seam(
    model: FitModel,
    measured: Measurements,
    subject: Subject,
    config: EstimateConfig,
    seam: Seam,
    state: FitState,
    device: str = CPU,
) -> FitState:
    """The poses of a seam's span, smoothed out as far from the seam as they move.

    Args:
        model: the body.
        measured: of the span.
        subject: shape and mounts.
        config: settings.
        seam: where the stretches meet.
        state: poses of the span.
        device: where the normal equations are solved.
    """
    state = dataclasses.replace(state, R=state.R.copy(), transl=state.transl.copy())
    cut, num_frames = seam.cut - seam.span.start, len(state.R)
    for reach in seam.overlap * 2 ** np.arange(_MOST_MENDINGS):
        part = slice(max(0, cut - int(reach)), min(num_frames, cut + int(reach)))
        before = dataclasses.replace(state, R=state.R[part].copy(), transl=state.transl[part].copy())
        after = refine_between(model, measured.frames(part), subject, config, before, device)
        state.R[part], state.transl[part] = after.R, after.transl
        if _movement(model, before, after)[[3, -4]].max() < 1.0:
            break
    return state


def overlap_frames(step_s: float, config: EstimateConfig) -> int:
    """Frames to either side of a seam that are smoothed first."""
    return max(3, round(config.overlap_s / step_s))


def _movement(model: FitModel, before: FitState, after: FitState) -> Float[np.ndarray, "frames"]:
    """The largest shift or turn of a joint in every frame, over what may be."""
    shift = np.linalg.norm(before.posed(model.body).joints - after.posed(model.body).joints, axis=-1).max(axis=1)
    return np.maximum(shift / _SEAM_M, geodesic(before.R, after.R).max(axis=1) / _SEAM_RAD)
