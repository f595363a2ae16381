"""Action labels: spans of time with names into one column a name, frame by frame, several at once.

Columns mean what the vocabulary says, in its order. A name outside it is an error, never a lost label. A clip without
`actions` was not labelled; a frame of zeros was, and shows none of the actions.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from core.arrays import UInt8
from core.errors import InputError

# a frame at the very end of a span, up to rounding of seconds, is outside
_ROUNDING_S = 1e-6


@dataclass(frozen=True)
class Span:
    """An action from `start_s` up to `stop_s`, seconds from the clip's first frame."""

    name: str
    start_s: float
    stop_s: float


def actions_from_spans(
    spans: Iterable[Span], num_frames: int, rate: Fraction, vocabulary: Sequence[str], item: str
) -> UInt8[np.ndarray, "frames actions"]:
    """One column for each name of the vocabulary: 1 in frames whose instant lies in one of its spans.

    Args:
        spans: may overlap; parts outside the clip are ignored.
        num_frames: length of the clip.
        rate: its frames a second.
        vocabulary: meaning and order of the columns.
        item: the clip, for messages.

    Raises:
        InputError: if a name is not in the vocabulary, or a span ends before it begins.
    """
    actions = np.zeros((num_frames, len(vocabulary)), dtype=np.uint8)
    columns = {name: column for column, name in enumerate(vocabulary)}
    for span in spans:
        require_known((span.name,), vocabulary, item, f" at {span.start_s:.2f} s")
        if not span.start_s <= span.stop_s:
            problem = f"label {span.name!r} from {span.start_s} s to {span.stop_s} s ends before it begins"
            raise InputError(item, problem, "correct its times")
        first, stop = (max(int(np.ceil((t - _ROUNDING_S) * float(rate))), 0) for t in (span.start_s, span.stop_s))
        actions[first:stop, columns[span.name]] = 1
    return actions


def require_known(names: Iterable[str], vocabulary: Sequence[str], item: str, where: str = "") -> None:
    """Refuses a label that the vocabulary lacks.

    Raises:
        InputError: naming the label, and the one that is spelt most like it.
    """
    for name in names:
        if name not in vocabulary:
            close = difflib.get_close_matches(name, vocabulary, 1)
            hint = f"write it as {close[0]!r}" if close else "correct it"
            raise InputError(
                item,
                f"label {name!r}{where} is not one of the {len(vocabulary)} of the vocabulary",
                f"{hint}, or add it to the vocabulary",
            )


def joint_vocabulary(vocabularies: Iterable[Sequence[str]]) -> tuple[str, ...]:
    """All names of several vocabularies, in the order in which they are met."""
    return tuple(dict.fromkeys(name for vocabulary in vocabularies for name in vocabulary))


def in_vocabulary(
    actions: UInt8[np.ndarray, "frames actions"], names: Sequence[str], vocabulary: Sequence[str], item: str
) -> UInt8[np.ndarray, "frames all_actions"]:
    """The same labels in the columns of another vocabulary, which has all their names.

    Raises:
        InputError: if it lacks one.
    """
    require_known(names, vocabulary, item)
    moved = np.zeros((len(actions), len(vocabulary)), dtype=np.uint8)
    moved[:, [vocabulary.index(name) for name in names]] = actions
    return moved
