"""The pictures of a view, whether they lie in a video or in a folder of stills numbered in time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from capture.session import Session, View
from capture.stills import list_stills, read_still
from capture.video import Color, VideoInfo, probe, read_frames
from core.arrays import UInt8
from core.errors import InputError


def read_pictures(
    session: Session,
    view: View,
    frames: Sequence[int] | None = None,
    *,
    color: Color = "gray",
    info: VideoInfo | None = None,
) -> Iterator[tuple[int, UInt8[np.ndarray, "h w *channels"]]]:
    """Yields (index, picture) of the asked frames in increasing order, all of them if None.

    Args:
        session: the session.
        view: whose pictures.
        frames: which; all of them if None.
        color: kind of picture.
        info: what `probe` returned of the view's video, to save reading it through again.

    Raises:
        InputError: if the view has no pictures, or one cannot be read.
    """
    if view.video is not None:
        info = info or probe(session.path(view.video))
        yield from read_frames(info.path, frames, color=color, info=info)
    elif view.images is not None:
        stills = list_stills(session.path(view.images))
        for idx in range(len(stills)) if frames is None else sorted(set(frames)):
            yield idx, read_still(stills[idx], color=color)
    else:
        raise InputError(view.id, "it has neither video nor stills", "ingest it with its pictures")
