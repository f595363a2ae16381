"""caliscope: `camera_array.toml`; in `recordings/NAME/` videos, `timestamps.csv` and a tracker's `xy_TRACKER.csv`."""

from __future__ import annotations

import csv
import re
from array import array
from pathlib import Path

import numpy as np

from capture.keypoints import Keypoints2d
from core.arrays import Float
from core.errors import InputError
from core.skeletons import HALPE_26
from motifs.projects.contents import ImportConfig, Project, folders_in, videos_in
from motifs.projects.mediapipe import NUM_MEDIAPIPE, from_mediapipe

_MAX_CSV_BYTES = 1 << 30
_MAX_CAMERAS, _MAX_FRAMES = 1000, 1 << 22  # frames of all cameras together
_MAX_SPARSE = 100  # frames for each one in which somebody was found
# trackers whose points 0 to 32 are MediaPipe's body; those of hands, faces, boards and other models number otherwise
_BODIES = ("xy_holistic", "xy_pose", "xy_simple_holistic")
_TIMES = ("timestamps.csv", "frame_timestamps.csv", "frame_time_history.csv")


def read_caliscope(source: Path, config: ImportConfig) -> Project:
    """One recording of a project; joints of its MediaPipe trackers.

    Raises:
        InputError: if it has several recordings and none is named, or the table of joints is damaged.
    """
    recordings = folders_in(source / "recordings")
    if config.recording and config.recording not in recordings:
        problem = f"the project has {', '.join(recordings) or 'none'}"
        raise InputError(config.recording, f"there is no such recording: {problem}", "name one: --recording NAME")
    if len(recordings) != 1 and not config.recording:
        problem = f"it has {len(recordings)} recordings: {', '.join(recordings)}"
        raise InputError(str(source), problem, "name one: --recording NAME")
    folder = recordings[config.recording or next(iter(recordings))]
    videos = {_camera_name(name): path for name, path in videos_in(folder).items()}
    tables = [p for p in sorted(folder.rglob("*xy*.csv")) if "xyz" not in p.name.lower()]
    bodies = {p.stem.lower(): p for p in reversed(tables)}
    table = next((bodies[name] for name in _BODIES if name in bodies), None)
    joints: dict[str, Keypoints2d] = {}
    if table is not None:
        joints, notes = _caliscope_joints(table), [f"its joints are those of {table.relative_to(source)}"]
    else:
        others = [f"{p.relative_to(source)} is left out: its points are not MediaPipe's body" for p in tables]
        notes = [*others, "it has no 2D joints: run `motifs detect` with a model"]
    times = next((folder / name for name in _TIMES if (folder / name).is_file()), None)
    return Project(
        videos, joints=joints, frame_times=times, skeleton=HALPE_26.name if joints else "",
        calibration=source / "camera_array.toml", notes=tuple(notes),
    )  # fmt: skip


def _camera_name(stem: str) -> str:
    """A view's name from a video's: caliscope calls them `cam_3`, formerly `port_3`, its cameras 3."""
    number = re.search(r"(\d{1,9})$", stem)
    return f"cam_{int(number.group(1))}" if number else stem


def _caliscope_joints(path: Path) -> dict[str, Keypoints2d]:
    """Joints of all views from a table with a row for each point: `cam_id` or `port`, `frame_index`, `point_id`, ..."""
    if path.stat().st_size > _MAX_CSV_BYTES:
        raise InputError(str(path), "it is larger than 1 GiB", "export one recording at a time")
    rows: dict[str, array[float]] = {}  # frame, joint, x, y and so on: a fifth of what tuples take
    with path.open(newline="", encoding="utf-8", errors="replace") as stream:
        reader = csv.DictReader(line for line in stream if not line.startswith("#"))
        try:
            for row in reader:
                camera = row.get("cam_id") or row["port"]
                frame, joint = int(row["frame_index"]), int(row["point_id"])
                point = (frame, joint, float(row["img_loc_x"]), float(row["img_loc_y"]))
                rows.setdefault(f"cam_{int(float(camera))}", array("d")).extend(point)
                if len(rows) > _MAX_CAMERAS:
                    raise ValueError(f"more than {_MAX_CAMERAS} cameras")
        except (KeyError, TypeError, ValueError, OverflowError, csv.Error) as error:
            problem = f"line {reader.line_num}: {error!r}"
            raise InputError(str(path), problem, "give a table of caliscope's tracker: xy_TRACKER.csv") from error
    if not rows:
        raise InputError(str(path), "it holds no points", "run caliscope's tracker again, or remove the file")
    points = {camera: np.array(values).reshape(-1, 4) for camera, values in rows.items()}
    frames = sum(float(table[:, 0].max()) + 1 for table in points.values())
    if frames > _MAX_FRAMES:
        problem = f"it tells of {frames:.0f} frames of {len(points)} cameras"
        raise InputError(str(path), problem, "run caliscope's tracker again")
    return {camera: _joints(table, path) for camera, table in points.items()}


def _joints(points: Float[np.ndarray, "points 4"], path: Path) -> Keypoints2d:
    """Joints of a view from rows of frame, joint, x, y."""
    frames, joints = points[:, :2].astype(int).T
    if frames.min() < 0 or frames.max() > _MAX_SPARSE * len(np.unique(frames)):
        problem = f"it tells of {len(np.unique(frames))} frames, numbered {frames.min()} to {frames.max()}"
        raise InputError(str(path), problem, "run caliscope's tracker again")
    body = (joints >= 0) & (joints < NUM_MEDIAPIPE)
    data = np.full((int(frames.max()) + 1, 1, NUM_MEDIAPIPE, 3), np.nan)
    data[frames[body], 0, joints[body], :2] = points[body, 2:]
    data[frames[body], 0, joints[body], 2] = 1.0
    return from_mediapipe(data)
