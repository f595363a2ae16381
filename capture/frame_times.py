"""Frame times that a computer wrote down beside a video: webcams keep no clock of their own.

Two layouts are read: plain text with one number a line, a frame each; and a table with a header (comma-separated) in
which a column `frame_time`, `time_s`, `t_s` or `timestamp` holds the times and, where one file is of all cameras, a
column `cam_id`, `port` or `camera` says whose they are: caliscope's `timestamps.csv` and `frame_timestamps.csv`. Times
are seconds on any clock. They tell when a frame was *read*, up to some frames of the sensor after it was exposed, and
not always equally long after: see `Sighting.jitter_sigma_s` in `calibration.rig_problem`.
"""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np

from core.arrays import Float
from core.errors import InputError

TIME_COLUMNS = ("frame_time", "time_s", "t_s", "timestamp")
CAMERA_COLUMNS = ("cam_id", "port", "camera")
ORDER_COLUMN = "sync_index"
_MAX_BYTES = 64 << 20
_ACTION = "give one time in seconds a line, or a table with a column frame_time (and cam_id)"


def read_frame_times(path: Path, view_id: str, num_frames: int) -> Float[np.ndarray, "frames"]:
    """Times of a view's frames on the clock of the computer that read them, seconds.

    Args:
        path: the file.
        view_id: the view, `cam_3` or `cam3` for the camera that a table of several calls `3`.
        num_frames: frames of the view's video; 0 if that is not known.

    Raises:
        InputError: if the file is neither layout, its times do not increase, or there are not as many as frames.
    """
    if not path.is_file():
        raise InputError(str(path), "there is no such file of frame times", "check the path")
    if path.stat().st_size > _MAX_BYTES:
        raise InputError(str(path), f"it is larger than {_MAX_BYTES >> 20} MiB, so it holds no frame times", _ACTION)
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = [row for row in csv.reader(stream) if row]
        times = _times(rows, view_id)
    except (ValueError, IndexError, csv.Error) as error:
        raise InputError(str(path), f"it holds no frame times of {view_id} ({error})", _ACTION) from error
    if num_frames and len(times) != num_frames:
        raise InputError(
            str(path),
            f"it has {len(times)} times of {view_id}, whose video has {num_frames} frames",
            "give all of them",
        )
    if (back := np.flatnonzero(np.diff(times) <= 0)).size:
        at = int(back[0])
        problem = (
            f"frame {at + 1} of {view_id} is not later than the one before ({times[at + 1]} s after {times[at]} s)"
        )
        raise InputError(str(path), problem, "check which camera and which unit the times are of")
    return times


def _times(rows: list[list[str]], view_id: str) -> Float[np.ndarray, "frames"]:
    if not rows:
        raise ValueError("it is empty")
    header = [name.strip().lower() for name in rows[0]]
    column = next((header.index(name) for name in TIME_COLUMNS if name in header), None)
    if column is None:
        if any(len(row) != 1 for row in rows):
            raise ValueError(f"no column is called {' or '.join(TIME_COLUMNS)}")
        return _numbers([row[0] for row in rows])
    chosen = rows[1:]
    camera = next((header.index(name) for name in CAMERA_COLUMNS if name in header), None)
    if camera is not None:
        names = {view_id, *_numbered(view_id)}
        chosen = [row for row in chosen if row[camera].strip() in names]
        if not chosen:
            raise ValueError(f"no row is of {' or '.join(sorted(names))}")
    if ORDER_COLUMN in header:
        order = header.index(ORDER_COLUMN)
        chosen = sorted(chosen, key=lambda row: int(row[order]))
    return _numbers([row[column] for row in chosen])


def _numbered(view_id: str) -> tuple[str, ...]:
    """`3` for `cam3`, `cam_3`, `cam-03` and the like: tables of several cameras have numbers alone."""
    digits = view_id[len(view_id.rstrip("0123456789")) :]
    return (digits, str(int(digits))) if digits else ()


def _numbers(texts: list[str]) -> Float[np.ndarray, "n"]:
    values = [float(text) for text in texts]
    if wrong := next((text for text, value in zip(texts, values, strict=True) if not math.isfinite(value)), None):
        raise ValueError(f"{wrong!r} is no time")
    return np.array(values)
