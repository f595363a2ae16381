"""The fitted body drawn over the pictures it was fitted to."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from calibration.clocks import load_times
from capture.pictures import read_pictures
from capture.session import Session, View
from core.arrays import Float, Int, UInt8
from core.cameras import Camera, Rig
from core.files import atomic_path
from fitting.observations import Observations
from fitting.sequence import SmplSequence
from fitting.smpl import PosedBody

_SKIN_BGR = np.array([235.0, 170.0, 110.0])
_FOUND_BGR, _USED_RADIUS_PX = (60, 220, 60), 3


def draw_overlay(
    image_bgr: UInt8[np.ndarray, "h w 3"],
    camera: Camera,
    vertices_m: Float[np.ndarray, "v 3"],
    faces: Int[np.ndarray, "f 3"],
    picture_from_px: tuple[float, float, float] = (1.0, 0.0, 0.0),
    *,
    opacity: float = 0.6,
) -> UInt8[np.ndarray, "h w 3"]:
    """Draws a shaded mesh over a picture, nearest triangles last (painter's algorithm).

    Args:
        image_bgr: the picture.
        camera: where it was taken from.
        vertices_m: mesh in the world.
        faces: triangles, counter-clockwise seen from outside.
        picture_from_px: scale, dx, dy from the camera's pixels to the picture's.
        opacity: of the mesh, 0 to 1.
    """
    in_cam = camera.cam_from_world.apply(vertices_m)
    px = _picture(camera.lens.project(in_cam), picture_from_px)
    corners = in_cam[faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    centre = corners.mean(axis=1)
    length = np.linalg.norm(normal, axis=-1) * np.linalg.norm(centre, axis=-1)
    facing = -(normal * centre).sum(axis=-1) / np.maximum(length, 1e-12)
    shown = np.flatnonzero((facing > 0) & np.isfinite(px[faces]).all(axis=(1, 2)))
    shown = shown[np.argsort(-centre[shown, 2], kind="stable")]
    layer = image_bgr.copy()
    shades = (_SKIN_BGR * (0.35 + 0.65 * facing[shown, None])).round()
    # sub-pixel corners: 4 fractional bits
    triangles = np.clip(px[faces[shown]] * 16, -1e6, 1e6).round().astype(np.int32)
    for triangle, shade in zip(triangles, shades.tolist(), strict=True):
        cv2.fillConvexPoly(layer, triangle, shade, lineType=cv2.LINE_8, shift=4)
    return np.asarray(cv2.addWeighted(layer, opacity, image_bgr, 1 - opacity, 0.0))


def draw_keypoints(
    image_bgr: UInt8[np.ndarray, "h w 3"],
    xy_px: Float[np.ndarray, "joints 2"],
    bones_idx: Int[np.ndarray, "bones 2"],
    picture_from_px: tuple[float, float, float] = (1.0, 0.0, 0.0),
) -> UInt8[np.ndarray, "h w 3"]:
    """Draws a detector's keypoints and the bones between them; missing ones are left out."""
    canvas = image_bgr.copy()
    picture = _picture(xy_px, picture_from_px)
    known = np.isfinite(picture).all(axis=-1)
    at = np.clip(np.nan_to_num(picture) * 16, -1e6, 1e6).round().astype(int)
    for a, b in bones_idx:
        if known[a] and known[b]:
            cv2.line(canvas, at[a].tolist(), at[b].tolist(), _FOUND_BGR, 1, cv2.LINE_AA, shift=4)
    for point in at[known]:
        cv2.circle(canvas, point.tolist(), _USED_RADIUS_PX * 16, _FOUND_BGR, -1, cv2.LINE_AA, shift=4)
    return canvas


def write_overlays(
    session: Session,
    rig: Rig,
    sequence: SmplSequence,
    posed: PosedBody,
    seen: Observations,
    error_px: Float[np.ndarray, "views frames joints"],
    folder: Path,
    num_frames: int,
) -> list[Path]:
    """Writes `<view>_<frame>.jpg` of the best, the worst and evenly spread instants of every view that has pictures.

    Args:
        session: tells where the pictures are.
        rig: cameras in the order of `seen`.
        sequence: the fit.
        posed: its bodies.
        seen: keypoints to draw beside the body.
        error_px: tells which instants fit best and worst.
        folder: where to.
        num_frames: pictures for each view.
    """
    instants = _instants(error_px, num_frames)
    vertices = posed_at(posed, instants).mesh()
    written = []
    for v, view_id in enumerate(seen.view_ids):
        view = session[view_id]
        if not view.has_pictures:
            continue
        frames = _frames_of(session, view, sequence.t_s[instants])
        pictures = dict(read_pictures(session, view, frames.tolist(), color="bgr"))
        for i, (instant, frame) in enumerate(zip(instants.tolist(), frames.tolist(), strict=True)):
            body = posed.shaped.body
            image = draw_overlay(pictures[frame], rig[view_id], vertices[i], body.faces, view.picture_from_px)
            image = draw_keypoints(image, seen.xy_px[v, instant], seen.skeleton.bones_idx, view.picture_from_px)
            path = folder / f"{view_id}_{instant:06d}.jpg"
            with atomic_path(path) as temporary:
                cv2.imwrite(str(temporary), image, [cv2.IMWRITE_JPEG_QUALITY, 88])
            written.append(path)
    return written


def posed_at(posed: PosedBody, frames: Int[np.ndarray, "n"]) -> PosedBody:
    """Some frames of a posed sequence."""
    return PosedBody(posed.shaped, posed.rotations[frames], posed.world_rotations[frames], posed.joints[frames])


def _instants(error_px: np.ndarray, num_frames: int) -> np.ndarray:
    """The best, the worst, and evenly spread frames, in order."""
    by_frame = error_px.transpose(1, 0, 2).reshape(error_px.shape[1], -1)
    typical = np.ma.median(np.ma.masked_invalid(by_frame), axis=1)
    extremes = [int(typical.argmin()), int(typical.argmax())]
    spread = np.linspace(0, len(by_frame) - 1, max(num_frames - 2, 1) + 2).round().astype(int)[1:-1]
    return np.unique([*extremes, *spread])[: max(num_frames, 1)]


def _frames_of(session: Session, view: View, t_s: np.ndarray) -> np.ndarray:
    """Video frames nearest to instants."""
    times = load_times(session.folder, view.id)
    return np.array([int(np.argmin(np.abs(times - t))) for t in t_s])


def _picture(px: np.ndarray, picture_from_px: tuple[float, float, float]) -> np.ndarray:
    scale, dx, dy = picture_from_px
    return px * scale + np.array([dx, dy])
