"""What is done in each frame of long untrimmed sessions, told by one linear layer on frozen tokens.

Labelled clips of each group of people are stitched to sessions (`dataset.stitching`). A frame reads the tokens that
cover it, one of each level beside the other; ridge regression onto one-hot classes is fitted on the frames of the other
groups. Nothing is smoothed: what a representation does not hold together is seen in the edit score and in F1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.arrays import Float, Int
from core.errors import InputError
from dataset.features import LAYOUT
from dataset.resample import Motion, resample
from dataset.schema import Clip
from dataset.shards import AmdDataset, body_scale, motion_from_clip
from dataset.stitching import StitchConfig, stitch
from model.protocols.encoders import Encoder, SegmentTokens
from model.protocols.groups import subjects_of
from model.protocols.probes import standardised
from model.protocols.ridge import RidgePath

GRID_HZ = 5.0  # frames that are labelled
PIECE_S = 10.0  # a session is encoded in pieces of this length: no system learns from much longer ones
ALPHA = 100.0
OVERLAPS = (0.10, 0.25, 0.50)
Row = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Session:
    """A stitched session.

    Attributes:
        motion: at its own rate.
        label: class of every frame of the grid; -1 where none is told.
        group: position of its people's group.
    """

    motion: Motion
    label: Int[np.ndarray, "frames"]
    group: int


@dataclass(frozen=True, eq=False)
class Sessions:
    """Sessions of several groups, and the names of their classes."""

    sessions: tuple[Session, ...]
    classes: tuple[str, ...]


def load_sessions(dataset: AmdDataset, groups: Sequence[str], config: StitchConfig | None = None) -> Sessions:
    """Sessions stitched from the labelled clips of the subjects of some groups; a frame's class is its first action.

    Frames without any action take no part: they are neither learned from nor judged.

    Raises:
        InputError: if no subject of a group has labelled clips enough for a session of several actions.
    """
    config = StitchConfig() if config is None else config
    found: list[tuple[Motion, np.ndarray, tuple[str, ...], int]] = []
    names: list[str] = []
    for number, group in enumerate(groups):
        before = len(found)
        for subject in subjects_of(group, dataset.info.subjects):
            infos = [info for info in dataset.clips if info.subject == subject]
            clips = [clip for clip in (dataset.read(info.id) for info in infos) if clip.actions is not None]
            scale = float(np.median([body_scale(info) for info in infos]))
            for session in stitch(clips, subject, config) if clips else []:
                if len(session.joins):
                    label, classes = _labels(session.clip)
                    found.append((motion_from_clip(session.clip, scale), label, classes, number))
                    names += [classes[i] for i in np.unique(label) if i >= 0]
        if len(found) == before:
            raise InputError(group, "has too few labelled clips to stitch", "leave segmentation out of the protocols")
    kept = tuple(sorted(set(names)))
    return Sessions(
        tuple(
            Session(motion, np.array([kept.index(classes[i]) if i >= 0 else -1 for i in label]), number)
            for motion, label, classes, number in found
        ),
        kept,
    )


def _labels(clip: Clip) -> tuple[np.ndarray, tuple[str, ...]]:
    assert clip.actions is not None
    rate_hz = float(clip.rate)
    frame = np.minimum(np.round(np.arange(int(len(clip) / rate_hz * GRID_HZ)) * rate_hz / GRID_HZ), len(clip) - 1)
    actions = clip.actions[frame.astype(int)]
    return np.where(actions.any(axis=1), actions.argmax(axis=1), -1), tuple(clip.labels.action_names)


def segmentation_rows(encoder: Encoder | None, sessions: Sessions, test: int) -> dict[str, Row]:
    """Scores on the sessions of a group, each in [0, 1].

    Args:
        encoder: which has learned nothing from the test group; None for poses and velocities themselves.
        sessions: of all groups.
        test: position of the group that is judged.
    """
    told_of = [s.label >= 0 for s in sessions.sessions]
    labels = [s.label[known] for s, known in zip(sessions.sessions, told_of, strict=True)]
    x = [
        frame_vectors(encoder, s.motion, len(s.label))[known]
        for s, known in zip(sessions.sessions, told_of, strict=True)
    ]
    learn = [i for i, s in enumerate(sessions.sessions) if s.group != test]
    judge = [i for i, s in enumerate(sessions.sessions) if s.group == test]
    label = np.concatenate([labels[i] for i in learn])
    train, *others = standardised(np.concatenate([x[i] for i in learn]), *(x[i] for i in judge))
    path = RidgePath(train, np.eye(len(sessions.classes))[label])
    told = [path.predict(other, ALPHA).argmax(axis=1) for other in others]
    truth = [labels[i] for i in judge]
    rows: dict[str, float] = {
        "frames": float(np.mean(np.concatenate(told) == np.concatenate(truth))),
        "edit": float(np.mean([edit_score(a, b) for a, b in zip(told, truth, strict=True)])),
    }
    rows |= {f"F1@{round(100 * k)}": f1_of_segments(told, truth, k) for k in OVERLAPS}
    return {name: {"accuracy": value} for name, value in rows.items()}


def frame_vectors(encoder: Encoder | None, motion: Motion, num_frames: int) -> Float[np.ndarray, "frames width"]:
    """What the linear layer reads of each frame of the grid."""
    if encoder is None:
        seen = slice(LAYOUT.yaw_rate.start, LAYOUT.velocities.stop)
        features = resample(motion, GRID_HZ).features()[:, seen]
        known = np.nan_to_num(features.astype(np.float64))
        return known[np.minimum(np.arange(num_frames), len(known) - 1)]
    size = round(PIECE_S * motion.rate_hz)
    # a last piece of less than a second is seen with the one before it
    starts = [at for at in range(0, len(motion), size) if at == 0 or len(motion) - at >= motion.rate_hz]
    stops = [*starts[1:], len(motion)]
    found = encoder.encode([motion.part(a, b) for a, b in zip(starts, stops, strict=True)])
    t_s = (np.arange(num_frames) + 0.5) / GRID_HZ
    piece = np.searchsorted(np.array(starts) / motion.rate_hz, t_s, side="right") - 1
    parts = []
    for level in found.values():
        parts.append(
            np.concatenate(
                [_covering(level[p], t_s[piece == p] - starts[p] / motion.rate_hz) for p in range(len(starts))]
            )
        )
    return np.concatenate(parts, axis=1).astype(np.float64)


def _covering(tokens: SegmentTokens, t_s: Float[np.ndarray, "frames"]) -> Float[np.ndarray, "frames width"]:
    """The token over each time, or the last before it; zeros where there is none at all."""
    if len(tokens) == 0:
        return np.zeros((len(t_s), tokens.z.shape[1]))
    return tokens.z[np.clip(np.searchsorted(tokens.start_s, t_s + 1e-6, side="right") - 1, 0, None)]


def segments(label: Int[np.ndarray, "frames"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Class, first frame, and one past the last of each stretch of one class."""
    first = np.concatenate([[0], np.flatnonzero(np.diff(label)) + 1])
    return label[first], first, np.append(first[1:], len(label))


def edit_score(told: Int[np.ndarray, "told"], truth: Int[np.ndarray, "true"]) -> float:
    """1 less the edit distance of the two orders of segments, over the longer of them (Lea et al., CVPR 2017)."""
    a, b = segments(told)[0], segments(truth)[0]
    distance = np.arange(len(b) + 1)
    for i, name in enumerate(a, start=1):
        # insertions run along the row: the least of each place over all before it
        cost = np.minimum(distance[1:] + 1, distance[:-1] + (b != name))
        row = np.concatenate([[i], cost]) - np.arange(len(b) + 1)
        distance = np.minimum.accumulate(row) + np.arange(len(b) + 1)
    return 1 - float(distance[-1]) / max(len(a), len(b))


def f1_of_segments(told: Sequence[np.ndarray], truth: Sequence[np.ndarray], overlap: float) -> float:
    """F1 of segments that overlap a true one of their class, intersection over union at least `overlap`, each once.

    As in Lea et al. (CVPR 2017): a segment is held against the true one of its class that it overlaps most.
    """
    right = wrong = missed = 0
    for found, real in zip(told, truth, strict=True):
        name, first, stop = segments(found)
        true_name, true_first, true_stop = segments(real)
        both = np.minimum(stop[:, None], true_stop) - np.maximum(first[:, None], true_first)
        either = np.maximum(stop[:, None], true_stop) - np.minimum(first[:, None], true_first)
        iou = np.where(name[:, None] == true_name, np.maximum(both, 0) / either, 0.0)
        best = iou.argmax(axis=1)
        enough = iou[np.arange(len(name)), best] >= overlap
        hit = len(np.unique(best[enough]))
        right, wrong, missed = right + hit, wrong + len(name) - hit, missed + len(true_name) - hit
    return 2 * right / max(2 * right + wrong + missed, 1)
