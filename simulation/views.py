"""Films each view of the world: room videos with keypoints and sound, foot videos, photographs, lens boards."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from capture.video_writer import VideoWriter
from core.arrays import Bool, Float, UInt8
from core.cameras import Camera
from core.skeletons import skeleton_named
from core.transforms import SE3, geodesic, interpolate
from fitting.landmarks import landmarks_of
from simulation import sound
from simulation.cameras import lens_board_poses
from simulation.detector import detect
from simulation.picture import Canvas, Grain, develop
from simulation.render import Layer, MeshScene, Quads, QuadScene, Window, lens_samples, quads_block, window_of
from simulation.textures import Atlas
from simulation.time_code import Display, tablets
from simulation.walkthrough import WALKTHROUGH_RATE
from simulation.world import CALIBRATION_S, CODES_S, MOTION_START_S, SOUND_SOURCE_M, World, world_from_marker_rig

Image = UInt8[np.ndarray, "h w 3"]
STILL_SAMPLES = 2  # a pixel's side, wherever one cast serves many frames
_MOVING_SAMPLES = 1  # where every frame is cast: the atlas filters textures, only outlines are jagged
_MESH_CHUNK = 32
_READOUT_KNOTS = 5  # poses a frame, between which rows are interpolated: under 0.1 mm off at 50 m/s2
_CAST_STEP_PX = 1.5  # turn between the casts that make up an exposure
_COVERED_GRAY = 14  # cloth over the lens
_HIDDEN_M = 0.12  # joints lie this deep in the body
_TABLET_M = (0.6, 0.3)  # distance and side of the display
# near enough to be before the shin, small enough for a fisheye to leave the code's modules straight
_NEAR_TABLET_M, _CLEAR_OF_SHIN_RAD = (0.2, 0.105), 0.1
_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 95]


def film_room_view(world: World, view: str, video: Path) -> tuple[Float[np.ndarray, "n j 2"], Float[np.ndarray, "n j"]]:
    """Writes a room camera's video with sound; returns what a detector finds in it (pixels, scores)."""
    config, camera, t_s = world.config, world.rig[view], world.times(view)
    grain = Grain(world.stream(f"grain {view}"), camera.lens.size_px, config.noise)
    rng = world.stream(f"sound {view}")
    signal = sound.source_signal(world.stream("sound"), config.duration_s)
    distance = float(np.linalg.norm(camera.centre - SOUND_SOURCE_M))
    audio = sound.heard(rng, signal, world.clocks[view], distance, len(t_s) / float(Fraction(config.frame_rate)))
    skeleton = skeleton_named(config.skeleton)
    posed = world.person.posed_at(t_s)
    landmarks = landmarks_of(world.person.shaped.body, skeleton).positions(posed)
    hidden, last = np.zeros(landmarks.shape[:2], bool), _LastCodes(world, view, t_s)
    with VideoWriter(
        video, camera.lens.size_px, Fraction(config.frame_rate), crf=config.crf, audio=audio, audio_rate=sound.RATE_HZ
    ) as writer:
        for i, (picture, mesh) in enumerate(_room_frames(world, camera, t_s)):
            writer.write(grain.on(last.on(picture, i), i))
            hidden[i] = mesh.blocked(camera.centre, landmarks[i], _HIDDEN_M)
    flat = landmarks.reshape(-1, 3)
    hidden |= quads_block(world.room.static, camera.centre, flat, 0.02).reshape(hidden.shape)
    true_px = camera.project(landmarks)
    return detect(world.stream(f"detector {view}"), true_px, hidden, skeleton, camera.lens.size_px, config.detector)


def film_foot_view(world: World, view: str, video: Path) -> None:
    """Writes a foot camera's video."""
    config, lens, t_s = world.config, world.feet[view].lens, world.times(view)
    grain = Grain(world.stream(f"grain {view}"), lens.size_px, config.noise)
    last = _LastCodes(world, view, t_s, lens.size_px[1] * config.foot_row_time_s * world.clocks[view].rate)
    with VideoWriter(video, lens.size_px, Fraction(config.frame_rate), crf=config.crf) as writer:
        for i, picture in enumerate(_foot_frames(world, view, t_s)):
            writer.write(grain.on(last.on(picture, i), i))


def take_photos(world: World, folder: Path) -> None:
    """Writes the hand-held stills; the person has left the room."""
    lens = world.photo_lens
    grain = Grain(world.stream("grain photos"), lens.size_px, world.config.noise)
    folder.mkdir(parents=True)
    for i in range(len(world.world_from_photo)):
        layer = world.scene.look(lens_samples(lens, STILL_SAMPLES), world.world_from_photo[i])
        _write_still(folder / f"photo_{i:03d}.jpg", grain.on(develop(layer.colour, STILL_SAMPLES), i))


def film_walkthrough(world: World, video: Path) -> None:
    """Writes the hand-held walk through the room before anybody enters it."""
    lens = world.walkthrough_lens
    grain = Grain(world.stream("grain walkthrough"), lens.size_px, world.config.noise)
    with VideoWriter(video, lens.size_px, WALKTHROUGH_RATE, crf=world.config.crf) as writer:
        for i in range(len(world.world_from_walkthrough)):
            layer = world.scene.look(lens_samples(lens, STILL_SAMPLES), world.world_from_walkthrough[i])
            writer.write(grain.on(develop(layer.colour, STILL_SAMPLES), i))


def take_lens_stills(world: World, view: str, folder: Path) -> None:
    """Writes stills of the lens board, held before a view's camera where it stands."""
    lens, rng = world.lenses[view], world.stream(f"lens stills {view}")
    grain = Grain(rng, lens.size_px, world.config.noise)
    samples, pose = lens_samples(lens, STILL_SAMPLES), _resting_pose(world, view)
    canvas = Canvas(world.scene.look(samples, pose), STILL_SAMPLES)
    board_m = world.room.targets["lens_board"].size_m
    folder.mkdir(parents=True)
    cam_from_board = lens_board_poses(rng, lens, world.config.num_lens_stills, board_m)
    for i in range(len(cam_from_board)):
        quads = world.room.lens_board.moved(pose @ cam_from_board[i])
        look = partial(QuadScene(world.atlas, quads).look, samples, pose)
        # the board may fill the picture: no window
        picture = canvas.with_thing(look, (0, 0, *lens.size_px))
        _write_still(folder / f"lens_{i:03d}.jpg", grain.on(picture, i))


def _room_frames(world: World, camera: Camera, t_s: Float[np.ndarray, "n"]) -> Iterator[tuple[Image, MeshScene]]:
    """Pictures of a static camera, each with the person's mesh at that time."""
    samples, pose = lens_samples(camera.lens, STILL_SAMPLES), camera.world_from_cam
    empty = Canvas(world.scene.look(samples, pose), STILL_SAMPLES)
    resting = _mesh_at_rest(world)
    window = window_of(camera.lens, camera.cam_from_world.apply(resting.vertices_m))
    waiting = empty.and_thing(partial(resting.look, samples, pose), window)
    still = t_s <= MOTION_START_S
    for picture in _still_frames(world, camera.id, waiting, pose, t_s[still], 0.0):
        yield picture, resting
    for mesh in _meshes(world, t_s[~still]):
        window = window_of(camera.lens, camera.cam_from_world.apply(mesh.vertices_m))
        filmed = world.config.room_films_motion
        yield empty.with_thing(partial(mesh.look, samples, pose), window) if filmed else waiting.picture, mesh


def _foot_frames(world: World, view: str, t_s: Float[np.ndarray, "n"]) -> Iterator[Image]:
    """Pictures of a foot camera: cached while the foot rests, cast row by row while it moves."""
    lens, height = world.feet[view].lens, world.config.foot_size_px[1]
    readout = height * world.config.foot_row_time_s * world.clocks[view].rate
    still = t_s + readout <= MOTION_START_S
    samples, pose, resting = lens_samples(lens, STILL_SAMPLES), _resting_pose(world, view), _mesh_at_rest(world)
    window = window_of(lens, pose.inverse().apply(resting.vertices_m))
    empty = Canvas(world.scene.look(samples, pose), STILL_SAMPLES)
    waiting = empty.and_thing(partial(resting.look, samples, pose), window)
    yield from _still_frames(world, view, waiting, pose, t_s[still], readout)
    covered = world.covered(view)[~still]
    seen = _moving_foot_frames(world, view, t_s[~still][~covered], readout)
    for dark in covered:
        yield np.full((height, lens.size_px[0], 3), _COVERED_GRAY, np.uint8) if dark else next(seen)


def _moving_foot_frames(world: World, view: str, t_s: Float[np.ndarray, "n"], readout_s: float) -> Iterator[Image]:
    """Pictures of a foot camera on its way; each row has its own time, and is exposed around it."""
    lens, exposure_s = world.feet[view].lens, world.config.foot_exposure_s
    samples = lens_samples(lens, _MOVING_SAMPLES)
    knots = np.linspace(-exposure_s / 2, readout_s + exposure_s / 2, _READOUT_KNOTS)
    knot_t = (t_s[:, None] + knots).ravel()
    knot_pose = world.world_from_foot_cam(view, knot_t)
    rows = np.linspace(0, readout_s, lens.size_px[1], endpoint=False)
    for i, mesh in enumerate(_meshes(world, t_s + readout_s / 2)):
        cut = slice(i * _READOUT_KNOTS, (i + 1) * _READOUT_KNOTS)
        part = partial(interpolate, knot_pose[cut], knot_t[cut])
        middle = part(t_s[i] + rows[len(rows) // 2 :][:1])[0]
        turned = geodesic(knot_pose.R[cut][0], knot_pose.R[cut][-1]) * exposure_s / max(np.ptp(knots), 1e-9)
        casts = 1 + int(turned * max(lens.focal_px) / _CAST_STEP_PX)
        window = window_of(lens, middle.inverse().apply(mesh.vertices_m))
        leg = None if window is None else mesh.look(samples, middle, window)
        pictures = [
            _with_leg(world.scene.look(samples, part(t_s[i] + rows + late)), leg, window)
            for late in exposure_s * ((np.arange(casts) + 0.5) / casts - 0.5)
        ]
        yield pictures[0] if casts == 1 else np.rint(np.mean(pictures, axis=0)).astype(np.uint8)


def _with_leg(room: Layer, leg: Layer | None, window: Window | None) -> Image:
    """One instant of the exposure; the leg rides with the camera and stays sharp."""
    canvas = Canvas(room, _MOVING_SAMPLES)
    return canvas.picture if leg is None or window is None else canvas.with_thing(lambda _: leg, window)


def _still_frames(
    world: World, view: str, canvas: Canvas, pose: SE3, t_s: Float[np.ndarray, "n"], readout_s: float
) -> Iterator[Image]:
    """Frames while the person waits: first the tablet with time codes, then the marker rig, moves before the camera."""
    lens, canvas = world.lenses[view], canvas.developed()
    samples = lens_samples(lens, _MOVING_SAMPLES)
    coded, carried = _within(t_s, CODES_S), _within(t_s, CALIBRATION_S)
    codes, tablet = _held_tablets(world, view, t_s[coded], readout_s)
    rig_poses = world_from_marker_rig(t_s + readout_s / 2)
    for i in range(len(t_s)):
        if coded[i]:
            quads, pictures = next(tablet).moved(pose), codes
        elif carried[i]:
            quads, pictures = world.room.rig.moved(rig_poses[i]), world.atlas
        else:
            yield canvas.picture
            continue
        look = partial(QuadScene(pictures, quads).look, samples, pose)
        yield canvas.with_thing(look, window_of(lens, pose.inverse().apply(quads.vertices_m)))


def _held_tablets(
    world: World, view: str, t_s: Float[np.ndarray, "n"], readout_s: float
) -> tuple[Atlas, Iterator[Quads]]:
    """The tablet with time codes that a camera sees in some frames, in the camera's frame, and its pictures."""
    lens = world.lenses[view]
    tilt = world.stream(f"tablet {view}").uniform(-0.08, 0.08, 3)
    tilt[0] -= _CLEAR_OF_SHIN_RAD if view in world.feet else 0.0
    distance_m, side_m = _NEAR_TABLET_M if view in world.feet else _TABLET_M
    cam_from_tablet = SE3.from_rotvec(tilt, np.zeros(3))
    across = np.array([[0.0, y * side_m / 2, distance_m] for y in (-1, 0, 1)])
    read_at = readout_s * lens.project(cam_from_tablet.apply(across))[:, 1] / lens.size_px[1]
    display = Display(world.config.display_hz, exposure_s=world.config.exposure_s)
    scenery, held = tablets(t_s + read_at[1], distance_m, side_m, display, float(read_at[2] - read_at[0]))
    return Atlas(scenery.pictures), (tablet.moved(cam_from_tablet) for tablet in held)


class _LastCodes:
    """Draws the tablet over the pictures of the session's end, in the order of their times."""

    def __init__(self, world: World, view: str, t_s: Float[np.ndarray, "n"], readout_s: float = 0.0) -> None:
        self._lens, self._shown = world.lenses[view], world.sees_last_codes(t_s)
        self._samples = lens_samples(self._lens, _MOVING_SAMPLES)
        self._codes, self._held = _held_tablets(world, view, t_s[self._shown], readout_s)

    def on(self, picture: Image, frame_idx: int) -> Image:
        """The picture of a frame as it is, or with the tablet."""
        if not self._shown[frame_idx]:
            return picture
        quads = next(self._held)
        canvas = Canvas(Layer(picture, np.full(picture.shape[:2], np.inf, np.float32)), _MOVING_SAMPLES)
        look = partial(QuadScene(self._codes, quads).look, self._samples, SE3.identity())
        return canvas.with_thing(look, window_of(self._lens, quads.vertices_m))


def _within(t_s: Float[np.ndarray, "n"], span_s: tuple[float, float]) -> Bool[np.ndarray, "n"]:
    return np.asarray((t_s >= span_s[0]) & (t_s < span_s[1]))


def _meshes(world: World, t_s: Float[np.ndarray, "n"]) -> Iterator[MeshScene]:
    """The person at each time; vertices are made for many frames at once."""
    figure = world.figure
    for start in range(0, len(t_s), _MESH_CHUNK):
        for vertices in world.person.mesh_at(t_s[start : start + _MESH_CHUNK])[:, figure.vertex_idx]:
            yield MeshScene(vertices, figure.faces, figure.colours)


def _mesh_at_rest(world: World) -> MeshScene:
    return next(_meshes(world, np.zeros(1)))


def _resting_pose(world: World, view: str) -> SE3:
    """Where a view's camera is before the motion."""
    if view in world.feet:
        return world.world_from_foot_cam(view, np.zeros(1))[0]
    if view in ("photos", "walkthrough"):
        return (world.world_from_photo if view == "photos" else world.world_from_walkthrough)[0]
    return world.rig[view].world_from_cam


def _write_still(path: Path, image: Image) -> None:
    path.write_bytes(cv2.imencode(".jpg", image, _JPEG)[1].tobytes())
