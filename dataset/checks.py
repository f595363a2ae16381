"""What a clip must satisfy before it is written: shapes, ranges, and arrays that agree with each other."""

from __future__ import annotations

import re

import numpy as np

from core.errors import InputError
from dataset.schema import FIELDS, OPTIONAL_FIELDS, REASONS, Clip

_KNOWN_REASONS = sum(REASONS.values())
_GOOD_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")


def require_whole(clip: Clip) -> Clip:
    """Returns the clip if it can be stored and read back with one meaning.

    Raises:
        InputError: naming the clip, the field and the value.
    """
    if problem := _problem(clip):
        raise InputError(f"clip {clip.id}", problem, "correct the source or its importer")
    return clip


def _problem(clip: Clip) -> str:
    """What is wrong with a clip; "" if nothing is."""
    if not _GOOD_ID.fullmatch(clip.id):
        return "its id is no file name of letters, digits, dot, dash and underscore"
    if len(clip) == 0:
        return "it has no frames"
    return _wrong_shape(clip) or _wrong_labels(clip) or _wrong_values(clip)


def _wrong_shape(clip: Clip) -> str:
    sizes = {"T": len(clip), "B": len(clip.betas), "A": len(clip.labels.action_names)}
    for name, (shape, _, _) in FIELDS.items():
        array = getattr(clip, name)
        expected = tuple(sizes.get(n, n) if isinstance(n, str) else n for n in shape)
        if array is None and name in OPTIONAL_FIELDS:
            continue
        if array is None or np.shape(array) != expected:
            return f"{name} is {np.shape(array)}, not {expected}"
    return ""


def _wrong_labels(clip: Clip) -> str:
    names = clip.labels.action_names
    if clip.actions is None:
        return f"it names {len(names)} actions and has no labels" if names else ""
    if len(set(names)) < len(names):
        return f"action {next(n for n in names if names.count(n) > 1)!r} has two columns"
    return f"actions hold {clip.actions.max()}, not 0 and 1" if clip.actions.size and clip.actions.max() > 1 else ""


def _wrong_values(clip: Clip) -> str:
    usable = clip.frame_valid
    for name in ("poses", "trans", "joints_m"):
        finite = np.isfinite(getattr(clip, name)).reshape(len(clip), -1).all(axis=1)
        if (bad := np.flatnonzero(usable & ~finite)).size:
            return f"{name} is not finite in frame {bad[0]}, which carries no reason"
    if unknown := int(np.bitwise_or.reduce(clip.reasons)) & ~_KNOWN_REASONS:
        return f"reasons hold bit {unknown:#x}, which means nothing"
    contacts = clip.contacts[np.isfinite(clip.contacts)]
    if contacts.size and not 0 <= contacts.min() <= contacts.max() <= 1:
        return f"contacts reach from {contacts.min():g} to {contacts.max():g}, not from 0 to 1"
    if not np.isfinite(clip.betas).all():
        return "betas are not finite"
    variance = clip.joint_covariance[..., [0, 3, 5]]
    return f"a variance is {np.nanmin(variance):g} m^2" if (variance < 0).any() else ""
