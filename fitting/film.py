"""Pictures of a session with the fitted body drawn over them: a few stills, or every frame as a video.

Everything streams: pictures are read, drawn and written one at a time, so memory does not grow with the recording.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np

from calibration.clocks import load_times
from calibration.egomotion import STAGE as FEET
from calibration.egomotion import load_egomotion
from calibration.lens import load_lenses
from capture.pictures import read_pictures
from capture.session import Session, View
from capture.video import VideoInfo, probe
from capture.video_writer import VideoWriter
from core.arrays import Bool, Float, Int, UInt8
from core.cameras import Camera, Rig
from core.clock import resample
from core.errors import InputError
from core.files import atomic_path
from core.progress import progress
from fitting.observations import MAX_GAP_FRAMES, Observations
from fitting.overlay import Image, paint_moment
from fitting.playback import Playback

_TICKS_HZ = 90000  # of video times; the first is kept to a millisecond by the file, the steps to this
_CRF = 23


@dataclass(frozen=True, eq=False)
class Shot:
    """One view of a session, and what is drawn over its pictures.

    Attributes:
        session: tells where the pictures are.
        view: the camera.
        playback: the fitted body.
        t_s: times of the view's frames on the session clock.
        camera_at: the camera in a frame; None where its place is not known.
        filled: frames in which that place was not seen but filled in.
        seen: keypoints of the room views, None to draw none.
        note: what is to be said of every picture.
    """

    session: Session
    view: View
    playback: Playback
    t_s: Float[np.ndarray, "frames"]
    camera_at: Callable[[int], Camera | None]
    filled: Bool[np.ndarray, "frames"]
    seen: Observations | None = None
    note: str = ""

    def fitted_frames(self, every: int = 1) -> Int[np.ndarray, "n"]:
        """Frames within the time of the fit, every so many."""
        return np.flatnonzero(self.playback.covers(self.t_s))[::every]

    def frames_at(self, t_s: Float[np.ndarray, "n"]) -> Int[np.ndarray, "n"]:
        """The frame nearest to each time."""
        right = np.clip(np.searchsorted(self.t_s, t_s), 1, max(len(self.t_s) - 1, 1))
        return np.where(
            t_s - self.t_s[right - 1] < self.t_s[np.minimum(right, len(self.t_s) - 1)] - t_s, right - 1, right
        )

    def draw(self, frames: Int[np.ndarray, "n"], max_height_px: int | None = None) -> Iterator[tuple[int, Image]]:
        """Yields (frame, picture with the body over it) of frames in increasing order.

        Args:
            frames: which.
            max_height_px: taller pictures are reduced to this height before they are drawn on; None for none.
        """
        body, (scale, dx, dy) = self.playback.shaped.body, self.view.picture_from_px
        moments, keypoints = self.playback.moments(self.t_s[frames]), self._keypoints(frames)
        for i, ((frame, whole), moment) in enumerate(zip(self.plain(frames), moments, strict=True)):
            picture = reduced(whole, max_height_px)
            factor = picture.shape[0] / whole.shape[0]
            placed = (scale * factor, (dx + 0.5) * factor - 0.5, (dy + 0.5) * factor - 0.5)
            filled = ("the camera's place is filled in",) if self.filled[frame] else ()
            title = "   ".join([self.view.id, f"frame {frame}", f"{moment.t_s:.3f} s", *filled, self.note])
            found = None if self.seen is None or keypoints is None else (keypoints[i], self.seen.skeleton.bones_idx)
            paint_moment(picture, self.camera_at(frame), body, moment, placed, title=title, keypoints=found)
            yield frame, picture

    def plain(self, frames: Int[np.ndarray, "n"]) -> Iterator[tuple[int, Image]]:
        """Yields (frame, picture) of frames in increasing order."""
        return read_pictures(self.session, self.view, frames.tolist(), color="bgr", info=self._video)

    @cached_property
    def _video(self) -> VideoInfo | None:
        """Where the frames lie in the video, which takes reading it through once."""
        return None if self.view.video is None else probe(self.session.path(self.view.video))

    def _keypoints(self, frames: np.ndarray) -> np.ndarray | None:
        """Keypoints at the times of frames, None if the view has none."""
        if self.seen is None or self.view.id not in self.seen.view_ids:
            return None
        timeline, at = self.seen.timeline, self.seen.view_ids.index(self.view.id)
        max_gap_s = MAX_GAP_FRAMES / float(timeline.rate)
        return resample(self.seen.xy_px[at], timeline.t_s, self.t_s[frames], max_gap_s=max_gap_s)


def reduced(picture: Image, max_height_px: int | None) -> UInt8[np.ndarray, "height width 3"]:
    """The picture at most so high; as it is where None is given."""
    if max_height_px is None or picture.shape[0] <= max_height_px:
        return picture
    factor = max_height_px / picture.shape[0]
    return np.asarray(cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA))


def shot_of(session: Session, view: View, rig: Rig, playback: Playback, seen: Observations | None = None) -> Shot:
    """A shot of a room camera, or of a foot camera where it was followed.

    Raises:
        InputError: if the view has no pictures, or neither a place in the rig nor a way.
    """
    if not view.has_pictures:
        raise InputError(view.id, "it has no pictures to draw on", "leave it out of --views")
    if view.id in rig.ids:
        camera, t_s = rig[view.id], load_times(session.folder, view.id)
        return Shot(session, view, playback, t_s, lambda frame: camera, np.zeros(len(t_s), dtype=bool), seen)
    if not is_followed(session, view):
        raise InputError(view.id, "its place is not known", "leave it out of --views, or calibrate it first")
    lens, way = load_lenses(session.folder)[view.id], load_egomotion(session.folder, view.id)

    def on_foot(frame: int) -> Camera | None:
        return Camera(view.id, lens, way.world_from_cam[frame].inverse()) if way.valid[frame] else None

    # its times are those of the clock as the way refined it
    return Shot(session, view, playback, way.t_s, on_foot, way.filled)


def is_followed(session: Session, view: View) -> bool:
    """Whether the view is a foot camera with a way."""
    return view.is_foot and (session.stage(FEET) / f"{view.id}.npz").is_file()


def write_video(path: Path, shot: Shot, every: int = 1, max_height_px: int | None = None) -> int:
    """Films a shot: the body over every so many frames, each shown at its time since the first instant of the fit.

    Videos of several views therefore run together when they are started together.

    Returns:
        The number of frames.

    Raises:
        InputError: if no frame lies within the time of the fit.
    """
    frames = shot.fitted_frames(every)
    if not len(frames):
        raise InputError(shot.view.id, "none of its frames lies within the time of the fit", "check its clock")
    begin_s, rate = shot.playback.sequence.t_s[0], shot.view.rate / every
    drawn = shot.draw(frames, max_height_px)
    with progress(shot.view.id, len(frames)) as advance:
        frame, image = next(drawn)
        height, width = (side // 2 * 2 for side in image.shape[:2])  # H.264 takes even sides
        with VideoWriter(path, (width, height), rate, crf=_CRF, time_base=Fraction(1, _TICKS_HZ)) as writer:
            while True:
                writer.write(image[:height, :width], round(float(shot.t_s[frame] - begin_s) * _TICKS_HZ))
                advance()
                if (following := next(drawn, None)) is None:
                    return len(frames)
                frame, image = following


def write_stills(
    session: Session,
    rig: Rig,
    playback: Playback,
    seen: Observations,
    error_px: Float[np.ndarray, "views frames joints"],
    folder: Path,
    num_frames: int,
) -> list[Path]:
    """Writes pictures of the best, the worst and evenly spread instants of every view that has a video.

    They are called `<view>_<instant>_best.jpg`, `<view>_<instant>_worst.jpg` and `<view>_<instant>.jpg`.

    Args:
        session: tells where the pictures are.
        rig: cameras in the order of `seen`.
        playback: the fitted body.
        seen: keypoints to draw beside the body.
        error_px: tells which instants fit best and worst.
        folder: where to.
        num_frames: pictures for each view.
    """
    named, written = instants_to_draw(error_px, num_frames), []
    instants = np.array(sorted(named))
    for view in (session[view_id] for view_id in seen.view_ids):
        if not view.has_pictures:
            continue
        shot = shot_of(session, view, rig, playback, seen)
        by_frame = dict(zip(shot.frames_at(playback.sequence.t_s[instants]).tolist(), instants.tolist(), strict=True))
        for frame, image in shot.draw(np.array(sorted(by_frame))):
            path = folder / f"{view.id}_{by_frame[frame]:06d}{named[by_frame[frame]]}.jpg"
            with atomic_path(path) as temporary:
                cv2.imwrite(str(temporary), image, [cv2.IMWRITE_JPEG_QUALITY, 88])
            written.append(path)
    return written


def instants_to_draw(error_px: Float[np.ndarray, "views frames joints"], num_frames: int) -> dict[int, str]:
    """The worst, the best, and evenly spread frames, so many at most, with what their files' names say of them."""
    by_frame = error_px.transpose(1, 0, 2).reshape(error_px.shape[1], -1)
    typical = np.ma.median(np.ma.masked_invalid(by_frame), axis=1)
    spread = np.linspace(0, len(by_frame) - 1, max(num_frames - 2, 0) + 2).round().astype(int)[1:-1]
    named = {int(typical.argmax()): "_worst", int(typical.argmin()): "_best"}
    named |= {instant: "" for instant in spread.tolist() if instant not in named}
    return dict(list(named.items())[:num_frames])
