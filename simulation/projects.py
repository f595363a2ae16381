"""Small projects as other tools leave them, with a simulated person in them: four synchronised cameras, twelve seconds.

Videos are plain gray: what matters here are cameras and joints. Files are those of the tools' own layouts: Pose2Sim,
EasyMocap, caliscope and FreeMoCap.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from calibration.formats import write_calibration
from capture.detectors import openpose
from capture.keypoints import clean
from capture.video_writer import VideoWriter
from core.arrays import Float
from core.cameras import Camera, Rig
from core.clock import Timeline
from core.errors import InputError
from core.files import write_text
from core.skeletons import HALPE_26, MEDIAPIPE_33, map_joints
from core.transforms import SE3
from fitting.landmarks import landmarks_of
from simulation.world import MOTION_START_S, SimulateConfig, build_world

_RATE, _SECONDS, _NOISE_PX = Fraction(30), 12.0, 1.5


@dataclass(frozen=True, eq=False)
class Filmed:
    """What is true, and what a detector saw.

    Attributes:
        rig: the cameras.
        xy_px: HALPE's joints, (views, frames, joints, 2).
        joints_m: SMPL's joints, (frames, 24, 3).
    """

    rig: Rig
    xy_px: Float[np.ndarray, "views frames joints 2"]
    joints_m: Float[np.ndarray, "frames 24 3"]

    @property
    def num_frames(self) -> int:
        """Of every view."""
        return self.xy_px.shape[1]


def film_person(seed: int) -> Filmed:
    """Somebody who is active in a room with four cameras, joints with noise of 1.5 px."""
    world = build_world(SimulateConfig(seed=seed))
    t_s = Timeline.spanning(MOTION_START_S, MOTION_START_S + _SECONDS, _RATE).t_s
    rig = Rig(tuple(Camera(f"cam_{k}", c.lens, c.cam_from_world) for k, c in enumerate(world.rig)))
    landmarks = landmarks_of(world.person.shaped.body, HALPE_26).positions(world.person.posed_at(t_s))
    noise = world.stream("projects").normal(0.0, _NOISE_PX, (len(rig), *landmarks.shape[:2], 2))
    return Filmed(rig, rig.project(landmarks) + noise, world.person.joints_at(t_s))


def write_project(folder: Path, tool: str, filmed: Filmed) -> None:
    """Writes a project of a tool (`pose2sim`, `easymocap`, `caliscope`, `freemocap`).

    Raises:
        InputError: if there is no such tool.
    """
    if tool not in _WRITERS:
        raise InputError(tool, "no such tool", f"use one of {', '.join(_WRITERS)}")
    _WRITERS[tool](folder, filmed)


def _pose2sim(folder: Path, filmed: Filmed) -> None:
    _videos(folder / "videos", filmed)
    write_calibration(_made(folder / "calibration"), filmed.rig, "pose2sim")
    write_text(folder / "Config.toml", '[pose]\npose_model = "Body_with_feet"\n')
    for camera, xy_px in zip(filmed.rig, filmed.xy_px, strict=True):
        found = clean(xy_px[:, None], np.full((len(xy_px), 1, 26), 0.9), HALPE_26)
        openpose.write(_made(folder / "pose") / f"{camera.id}_json", found, camera.id)


def _easymocap(folder: Path, filmed: Filmed) -> None:
    _videos(folder / "videos", filmed)
    write_calibration(folder, filmed.rig, "easymocap")
    for camera, xy_px in zip(filmed.rig, filmed.xy_px, strict=True):
        for frame, points in enumerate(xy_px):
            keypoints = [[round(float(x), 3), round(float(y), 3), 0.9] for x, y in points]
            people = [{"personID": 0, "bbox": [0, 0, 1, 1, 0.9], "keypoints": keypoints, "isKeyframe": False}]
            width, height = camera.lens.size_px
            data = {"filename": f"{frame:06d}.jpg", "height": height, "width": width, "annots": people}
            write_text(folder / "annots" / camera.id / f"{frame:06d}.json", json.dumps(data))


def _caliscope(folder: Path, filmed: Filmed) -> None:
    recording = folder / "recordings" / "walk"
    _videos(recording, filmed)
    write_calibration(folder, filmed.rig, "caliscope")
    names = ("sync_index", "cam_id", "frame_index", "frame_time")
    with _table(recording / "timestamps.csv", names) as write:
        for frame in range(filmed.num_frames):
            for camera in range(len(filmed.rig)):
                write((frame, camera, frame, round(frame / float(_RATE), 6)))
    ours, joints = map_joints(HALPE_26, MEDIAPIPE_33)
    with _table(recording / "POSE" / "xy_POSE.csv", (*names, "point_id", "img_loc_x", "img_loc_y")) as write:
        for camera, view in enumerate(filmed.xy_px):
            for frame, points in enumerate(view):
                for joint, (x, y) in zip(joints, points[ours], strict=True):
                    write((frame, camera, frame, round(frame / float(_RATE), 6), joint, round(x, 3), round(y, 3)))


def _freemocap(folder: Path, filmed: Filmed) -> None:
    _videos(folder / "synchronized_videos", filmed)
    in_mm = Rig(tuple(_scaled(camera, 1e3) for camera in filmed.rig))
    write_calibration(folder, in_mm, "anipose")
    made = next(folder.glob("*.toml"))
    text = made.read_text().replace("[metadata]", "[metadata]\ngroundplane_calibration = true")
    made.unlink()
    write_text(folder / f"{folder.name}_camera_calibration.toml", text)
    data = np.full((len(filmed.rig), filmed.num_frames, 553, 3), np.nan)
    ours, joints = map_joints(HALPE_26, MEDIAPIPE_33)
    data[:, :, joints, :2], data[:, :, joints, 2] = filmed.xy_px[:, :, ours], 0.9
    path = (
        _made(folder / "output_data" / "raw_data") / "mediapipe_2dData_numCams_numFrames_numTrackedPoints_pixelXY.npy"
    )
    np.save(path, data, allow_pickle=False)


def _scaled(camera: Camera, factor: float) -> Camera:
    pose = camera.cam_from_world
    return Camera(camera.id, camera.lens, SE3(pose.R, factor * pose.t))


def _videos(folder: Path, filmed: Filmed) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for camera in filmed.rig:
        gray = np.full(camera.lens.size_px[::-1], 90, np.uint8)
        with VideoWriter(folder / f"{camera.id}.mp4", camera.lens.size_px, _RATE) as writer:
            for _ in range(filmed.num_frames):
                writer.write(gray)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def _table(path: Path, names: tuple[str, ...]) -> Iterator[Callable[[tuple[object, ...]], object]]:
    """Yields the function that writes a row."""
    _made(path.parent)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(names)
        yield writer.writerow


_WRITERS: Mapping[str, Callable[[Path, Filmed], None]] = {
    "pose2sim": _pose2sim,
    "easymocap": _easymocap,
    "caliscope": _caliscope,
    "freemocap": _freemocap,
}


def main() -> None:
    """`python -m simulation.projects FOLDER TOOL [SEED]`."""
    import sys

    write_project(Path(sys.argv[1]), sys.argv[2], film_person(int(sys.argv[3]) if len(sys.argv) > 3 else 0))


if __name__ == "__main__":
    main()
