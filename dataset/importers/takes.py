"""What is known of a motion capture file beside its motion: who moves, and what is said about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Take:
    """One motion capture file's labels.

    Attributes:
        subject: who moves.
        action: what the whole of it shows, "" where nothing is said.
        vocabulary: all actions that its dataset is labelled with, in the order of the columns; `action` is one of them.
        lead_in: frames at the beginning that a converter added or blended with a T-pose; left out where the first of
            them is near the rest pose.
        details: what else is said (a style, a description), for the clip's provenance.
    """

    subject: str
    action: str = ""
    vocabulary: tuple[str, ...] = ()
    lead_in: int = 0
    details: Mapping[str, str] = field(default_factory=dict)
