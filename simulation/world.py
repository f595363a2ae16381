"""The simulated world behind a recording: room, person, cameras, clocks; everything that is true, from one seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property, lru_cache
from typing import Literal

import numpy as np

from core.arrays import Bool, Float
from core.cameras import Lens, Rig
from core.clock import Clock, frame_times
from core.errors import InputError
from core.transforms import SE3, so3_exp
from simulation.cameras import fisheye_lens, perspective_lens, photo_poses, room_rig
from simulation.detector import DetectorConfig
from simulation.figure import Figure, figure_of
from simulation.furniture import Furniture
from simulation.person import Person, make_person
from simulation.render import QuadScene
from simulation.room import Room, build_room, table_box
from simulation.textures import Atlas
from simulation.walkthrough import walkthrough_poses

CODES_S, CALIBRATION_S = (0.0, 1.5), (1.5, 6.5)
_LAST_CODES_S = 1.5
MOTION_START_S = 7.0
SOUND_SOURCE_M = np.array([0.6, 1.5, 1.2])
_STAND_AT = (-1.4, -1.0, 0.6)
_SHORTEST_MOTION_S = 2.0
_MOST_CAMERAS = 24
_MOST_BLIND = 0.8
_ABOVE_INSTEP_M = 0.075  # of the foot camera over the line from ankle to toes
_FORWARD_TILT_RAD = 0.35  # away from the shin, which would else fill the picture's rear


@dataclass(frozen=True)
class SimulateConfig:
    """A simulated recording.

    Attributes:
        seed: another seed is another session: room, lenses, mounts, clocks, person, motion and all noise.
        num_room_cameras: static cameras around the walls, 3 to 24.
        duration_s: length on the session clock; the person moves from 7 s on, and needs 14 s for all activities.
        frame_rate: frames a second of all videos, as a rational.
        room_size_px: picture size of the room cameras.
        foot_size_px: picture size of the foot cameras.
        room_films_motion: whether the room videos show the motion; without, they show the person waiting on, which
            saves most of the time that many cameras take. Keypoints are those of the motion all the same.
        photo_size_px: picture size of the hand-held stills.
        foot_row_time_s: rolling shutter of the foot cameras, readout time of one row.
        foot_exposure_s: how long their rows are exposed, around their times; what moves meanwhile is blurred.
        foot_blind_share: share of their frames during the motion in which something covers them, 0 to 0.8.
        foot_blind_frames: mean length of these stretches, frames; lengths are geometric, places random.
        num_photos: hand-held stills, which tie the boards under the table to those of the ceiling.
        num_lens_stills: stills of the lens board for each camera.
        num_walkthrough: frames of a hand-held walk through the still, empty room; 0 for none.
        walkthrough_size_px: its picture size.
        boards_overhead: whether boards hang from the ceiling and under the table; without, only the floor has one.
        codes_at_end: whether all cameras see the time codes once more in the last 1.5 s, which gives the rates of those
            without sound. The display is held before each camera wherever that goes, over whatever happens behind it.
        display_hz: codes a second on the displays with time codes.
        exposure_s: exposure of a row, in which codes of a display mix; moving things are not blurred.
        noise: standard deviation of the sensor noise, gray levels.
        crf: quality of the H.264 videos, lower is better.
        skeleton: skeleton of the simulated detector.
        detector: errors of the simulated detector.
    """

    seed: int = 0
    num_room_cameras: int = 4
    duration_s: float = 21.0
    frame_rate: str = "30"
    room_size_px: tuple[int, int] = (800, 600)
    foot_size_px: tuple[int, int] = (512, 512)
    room_films_motion: bool = True
    photo_size_px: tuple[int, int] = (1200, 900)
    foot_row_time_s: float = 20e-6
    foot_exposure_s: float = 0.0
    foot_blind_share: float = 0.0
    foot_blind_frames: float = 6.0
    num_photos: int = 18
    num_lens_stills: int = 18
    num_walkthrough: int = 0
    walkthrough_size_px: tuple[int, int] = (960, 720)
    boards_overhead: bool = True
    codes_at_end: bool = False
    display_hz: float = 50.0
    exposure_s: float = 0.008
    noise: float = 2.0
    crf: int = 19
    skeleton: str = "HALPE_26"
    detector: DetectorConfig = field(default_factory=DetectorConfig)

    def __post_init__(self) -> None:
        if not 3 <= self.num_room_cameras <= _MOST_CAMERAS:
            raise InputError(
                "num_room_cameras", f"{self.num_room_cameras} is out of range", f"use 3 to {_MOST_CAMERAS}"
            )
        shortest = MOTION_START_S + _SHORTEST_MOTION_S
        if not self.duration_s >= shortest:
            raise InputError("duration_s", f"{self.duration_s} s leaves no motion", f"use {shortest} s or more")
        if not (0 <= self.foot_blind_share <= _MOST_BLIND and self.foot_blind_frames >= 1):
            blind = f"{self.foot_blind_share} in stretches of {self.foot_blind_frames} frames"
            raise InputError("foot_blind_share", f"{blind} is out of range", f"use 0 to {_MOST_BLIND}, and 1 or more")


@dataclass(frozen=True, eq=False)
class FootCamera:
    """A camera on a shoe.

    Attributes:
        side: whose foot.
        lens: its lens.
        foot_from_cam: its mount on the ankle joint's frame.
    """

    side: Literal["left", "right"]
    lens: Lens
    foot_from_cam: SE3


@dataclass(frozen=True, eq=False)
class World:
    """Everything that is true about a simulated recording.

    Attributes:
        config: what it was made from.
        room: what stands and hangs in it.
        rig: room cameras.
        person: who moves in it.
        figure: what the person looks like.
        feet: foot cameras by view id.
        photo_lens: lens of the hand-held camera.
        world_from_photo: its poses.
        walkthrough_lens: lens of the walk-through's camera.
        world_from_walkthrough: its poses, one a frame; none without a walk-through.
        clocks: of every video's recorder, by view id.
    """

    config: SimulateConfig
    room: Room
    rig: Rig
    person: Person
    figure: Figure
    feet: Mapping[str, FootCamera]
    photo_lens: Lens
    world_from_photo: SE3
    walkthrough_lens: Lens
    world_from_walkthrough: SE3
    clocks: Mapping[str, Clock]

    @cached_property
    def atlas(self) -> Atlas:
        """Pictures of the room, the rig and the lens board."""
        return Atlas(self.room.pictures)

    @cached_property
    def scene(self) -> QuadScene:
        """What does not move."""
        return QuadScene(self.atlas, self.room.static)

    @property
    def lenses(self) -> dict[str, Lens]:
        """Lenses of all views."""
        feet = {view: camera.lens for view, camera in self.feet.items()}
        hand_held = {"photos": self.photo_lens} if len(self.world_from_photo) else {}
        if len(self.world_from_walkthrough):
            hand_held["walkthrough"] = self.walkthrough_lens
        return {camera.id: camera.lens for camera in self.rig} | feet | hand_held

    def local_times(self, view: str) -> Float[np.ndarray, "frames"]:
        """Presentation times of a video's frames: all that fit before the session's end."""
        rate = Fraction(self.config.frame_rate)
        last = float(self.clocks[view].to_local(np.array([self.config.duration_s]))[0])
        return frame_times(int(np.floor(last * rate)) + 1, rate)

    def times(self, view: str) -> Float[np.ndarray, "frames"]:
        """When a video's frames were exposed (their first rows), session clock."""
        return self.clocks[view].to_session(self.local_times(view))

    def world_from_foot_cam(self, view: str, t_s: Float[np.ndarray, "n"]) -> SE3:
        """Poses of a foot camera at any times."""
        camera = self.feet[view]
        return self.person.world_from_foot(t_s, camera.side) @ camera.foot_from_cam

    def covered(self, view: str) -> Bool[np.ndarray, "frames"]:
        """Frames of a foot video in which something covers the camera: stretches at random until the share is met."""
        t_s, rng = self.times(view), self.stream(f"covered {view}")
        moving = np.flatnonzero((t_s > MOTION_START_S) & ~self.sees_last_codes(t_s))
        covered, wanted = np.zeros(len(t_s), bool), round(self.config.foot_blind_share * len(moving))
        while (missing := wanted - int(covered.sum())) > 0:
            start, length = rng.choice(moving), rng.geometric(1 / self.config.foot_blind_frames)
            covered[start : min(start + min(length, missing), moving[-1] + 1)] = True
        return covered

    def sees_last_codes(self, t_s: Float[np.ndarray, "n"]) -> Bool[np.ndarray, "n"]:
        """Whether time codes are shown at the session's end, at some times."""
        return np.asarray((t_s >= self.config.duration_s - _LAST_CODES_S) & self.config.codes_at_end)

    def stream(self, name: str) -> np.random.Generator:
        """A generator of its own for each use, so that one does not shift another."""
        return _stream(self.config.seed, name)


@lru_cache(maxsize=1)
def build_world(config: SimulateConfig) -> World:
    """The world of a config; cached, as every view of a recording asks for it."""
    seed, furniture = config.seed, Furniture()
    room = build_room(_stream(seed, "room"), furniture, boards_overhead=config.boards_overhead)
    rig = room_rig(_stream(seed, "cameras"), config.num_room_cameras, config.room_size_px)
    motion_span = (MOTION_START_S, config.duration_s)
    person = make_person(_stream(seed, "person"), motion_span, _STAND_AT, furniture)
    rng = _stream(seed, "feet")
    feet = {
        "left_foot": _foot_camera(rng, person, "left", config.foot_size_px),
        "right_foot": _foot_camera(rng, person, "right", config.foot_size_px),
    }
    rng = _stream(seed, "photos")
    photo_lens = perspective_lens(rng, config.photo_size_px, 84.0)
    photos = photo_poses(rng, config.num_photos, table_box(furniture))
    rng = _stream(seed, "walkthrough")
    walk_lens = perspective_lens(rng, config.walkthrough_size_px, 78.0)
    walk = walkthrough_poses(rng, config.num_walkthrough)
    rng = _stream(seed, "clocks")
    clocks = {
        view: Clock(round(rng.uniform(-0.5, 0.5), 6), 1 + round(rng.uniform(-80e-6, 80e-6), 9))
        for view in (*rig.ids, *feet)
    }
    figure = figure_of(_stream(seed, "figure"), person.shaped)
    return World(config, room, rig, person, figure, feet, photo_lens, photos, walk_lens, walk, clocks)


def world_from_marker_rig(t_s: Float[np.ndarray, "n"]) -> SE3:
    """Path of the carried rig: most of a round through the room, turning and nodding."""
    share = (t_s - CALIBRATION_S[0]) / (CALIBRATION_S[1] - CALIBRATION_S[0])
    around = -1.9 + 5.4 * share
    # high where it passes over the table, wide of the person who waits
    x, y, z = 0.3 + 1.25 * np.cos(around), 0.3 + 1.05 * np.sin(around), 1.3 + 0.35 * np.cos(around + 0.3)
    turn = so3_exp(np.stack([0 * share, 0 * share, 5.0 * share], axis=-1))
    nod = so3_exp(0.45 * np.stack([np.sin(9 * share), np.cos(7 * share), 0 * share], axis=-1))
    return SE3(turn @ nod, np.stack([x, y, z], axis=-1))


def _foot_camera(
    rng: np.random.Generator, person: Person, side: Literal["left", "right"], size_px: tuple[int, int]
) -> FootCamera:
    """A camera on the instep: it looks up, a little forward, mounted by hand and so never quite alike."""
    lens = fisheye_lens(rng, size_px)
    start = np.zeros(1)
    i = {"left": (7, 10), "right": (8, 11)}[side]
    ankle, toes = person.joints_at(start)[0, list(i)]
    forward = (toes - ankle) * [1, 1, 0]
    forward /= np.linalg.norm(forward)
    up = np.array([0.0, 0.0, 1.0])
    z = np.cos(_FORWARD_TILT_RAD) * up + np.sin(_FORWARD_TILT_RAD) * forward
    x = np.cross(forward, up)  # to the wearer's right; the picture's lower edge is towards the shin
    upright = np.stack([x, np.cross(z, x), z], axis=1) @ so3_exp(rng.uniform(-0.07, 0.07, 3))
    place = 0.4 * ankle + 0.6 * toes
    place = place + _ABOVE_INSTEP_M * up + rng.uniform(-0.006, 0.006, 3)
    foot_from_world = person.world_from_foot(start, side)[0].inverse()
    return FootCamera(side, lens, foot_from_world @ SE3(upright, place))


def _stream(seed: int, name: str) -> np.random.Generator:
    return np.random.default_rng([seed, *name.encode()])
