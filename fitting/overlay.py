"""The fitted body drawn over a picture: where it is, how sure it is, and what is wrong with it.

The body is blue where its joints are known well and turns orange where they are not; a joint that is not determined
well enough has a ring as large as its standard deviation. A frame that is not valid has a red frame, the reason
written above, and a hatched body. Detected keypoints are green.
"""

from __future__ import annotations

import cv2
import numpy as np

from core.arrays import Float, Int, UInt8
from core.cameras import Camera
from fitting.playback import Moment
from fitting.raster import SAME_PX, PictureFromPx, see
from fitting.sequence import spoken
from fitting.smpl import BodyModel

Image = UInt8[np.ndarray, "h w 3"]

_SURE_BGR, _UNSURE_BGR = np.array([235.0, 170.0, 110.0]), np.array([30.0, 130.0, 250.0])
_SURE_M, _UNSURE_M = 0.02, 0.08  # standard deviations of a joint where the colours begin and end
_FOUND_BGR, _WRONG_BGR, _TEXT_BGR = (60, 220, 60), (30, 30, 200), (255, 255, 255)
_RING_BGR = tuple(_UNSURE_BGR.tolist())
_USED_RADIUS_PX, _FONT = 3, cv2.FONT_HERSHEY_SIMPLEX
_HATCH_PX = 5  # width of a stripe of a body that is not valid
_STRIP = 0.55  # how much a strip behind text darkens the picture
LEGEND = (
    "body: blue where joints are known to 2 cm, orange from 8 cm; rings: joints that are not valid; green: keypoints"
)


def draw_body(
    image_bgr: Image,
    camera: Camera,
    vertices_m: Float[np.ndarray, "v 3"],
    faces: Int[np.ndarray, "f 3"],
    picture_from_px: PictureFromPx = SAME_PX,
    *,
    colours_bgr: Float[np.ndarray, "f 3"] | None = None,
    opacity: float = 0.6,
    hatched: bool = False,
) -> Image:
    """Draws a mesh over a picture, lit from the camera.

    Args:
        image_bgr: the picture.
        camera: where it was taken from.
        vertices_m: mesh in the world.
        faces: triangles, counter-clockwise seen from outside.
        picture_from_px: scale, dx, dy from the camera's pixels to the picture's.
        colours_bgr: of the triangles; all alike if None.
        opacity: of the mesh, 0 to 1.
        hatched: whether only every other stripe is drawn.
    """
    canvas = image_bgr.copy()
    _paint_body(canvas, camera, vertices_m, faces, picture_from_px, colours_bgr, opacity, hatched)
    return canvas


def _paint_body(
    canvas: Image,
    camera: Camera,
    vertices_m: np.ndarray,
    faces: np.ndarray,
    picture_from_px: PictureFromPx,
    colours_bgr: np.ndarray | None = None,
    opacity: float = 0.6,
    hatched: bool = False,
) -> None:
    raster, facing = see(camera, vertices_m, faces, canvas.shape[1::-1], picture_from_px)
    if not raster.face_idx.size:
        return
    shown = raster.covered
    if hatched:
        rows, columns = np.ogrid[: shown.shape[0], : shown.shape[1]]
        shown &= (rows + columns) // _HATCH_PX % 2 == 0
    colours = _SURE_BGR if colours_bgr is None else colours_bgr
    shaded = np.rint(colours * (0.35 + 0.65 * np.maximum(facing, 0)[:, None])).astype(np.uint8)
    part = canvas[raster.window]
    blended = cv2.addWeighted(np.take(shaded, raster.face_idx, axis=0), opacity, part, 1 - opacity, 0.0)
    cv2.copyTo(blended, shown.astype(np.uint8), part)  # into the canvas, of which this is a view


def uncertainty_colours(body: BodyModel, joint_sigma_m: Float[np.ndarray, "24"]) -> Float[np.ndarray, "faces 3"]:
    """Colours of the body's triangles by the standard deviation of the joints that carry them."""
    unsure = np.clip((joint_sigma_m - _SURE_M) / (_UNSURE_M - _SURE_M), 0.0, 1.0)
    by_face = (body.weights @ unsure[body.kind.smpl_of_joint])[body.faces[:, 0]]
    return _SURE_BGR + by_face[:, None] * (_UNSURE_BGR - _SURE_BGR)


def _paint_keypoints(canvas: Image, xy_px: np.ndarray, bones_idx: np.ndarray, picture_from_px: PictureFromPx) -> None:
    """A detector's keypoints and the bones between them; missing ones are left out."""
    known, at = _drawable(xy_px, picture_from_px)
    for a, b in bones_idx:
        if known[a] and known[b]:
            cv2.line(canvas, at[a].tolist(), at[b].tolist(), _FOUND_BGR, 1, cv2.LINE_AA, shift=4)
    for point in at[known]:
        cv2.circle(canvas, point.tolist(), _USED_RADIUS_PX * 16, _FOUND_BGR, -1, cv2.LINE_AA, shift=4)


def _paint_unsure_joints(canvas: Image, camera: Camera, moment: Moment, picture_from_px: PictureFromPx) -> None:
    """A ring of one standard deviation around every joint that is not valid."""
    unsure = ~moment.joint_valid
    in_cam = camera.cam_from_world.apply(moment.joints_m[unsure])
    px = camera.lens.project(in_cam)
    aside_m = moment.joint_sigma_m[unsure, None] * np.array([1.0, 0.0, 0.0])
    radius_px = np.linalg.norm(camera.lens.project(in_cam + aside_m) - px, axis=-1) * picture_from_px[0]
    known, at = _drawable(px, picture_from_px)
    for joint in np.flatnonzero(known & np.isfinite(radius_px)):
        radius = round(16 * float(np.clip(radius_px[joint], 4, max(canvas.shape))))
        cv2.circle(canvas, at[joint].tolist(), radius, _RING_BGR, 2, cv2.LINE_AA, shift=4)


def paint_moment(
    picture_bgr: Image,
    camera: Camera | None,
    body: BodyModel,
    moment: Moment,
    picture_from_px: PictureFromPx = SAME_PX,
    *,
    title: str = "",
    keypoints: tuple[Float[np.ndarray, "joints 2"], Int[np.ndarray, "bones 2"]] | None = None,
) -> None:
    """Draws all that is known of one moment over its picture, in place.

    Args:
        picture_bgr: the picture.
        camera: where it was taken from; None if that is not known, and no body is drawn.
        body: the body model.
        moment: the body at the picture's time.
        picture_from_px: scale, dx, dy from the camera's pixels to the picture's.
        title: what is written above.
        keypoints: detected joints in the camera's pixels, and the bones between them.
    """
    wrong = bool(moment.reasons)
    if camera is not None:
        colours = uncertainty_colours(body, moment.joint_sigma_m)
        _paint_body(picture_bgr, camera, moment.vertices_m, body.faces, picture_from_px, colours, hatched=wrong)
        if keypoints is not None:
            _paint_keypoints(picture_bgr, *keypoints, picture_from_px)
        _paint_unsure_joints(picture_bgr, camera, moment, picture_from_px)
    lines = [title] if camera is not None else [title, "the camera's place is not known here"]
    _paint_labels(picture_bgr, [*lines, *([f"NOT VALID: {spoken(moment.reasons)}"] if wrong else [])], wrong)


def _paint_labels(canvas: Image, lines: list[str], wrong: bool) -> None:
    """Lines of text on a darkened strip above, the legend below, and a red frame around what is wrong."""
    height, width = canvas.shape[:2]
    size = max(height / 1200, 0.35)
    step = round(36 * size)
    for strip in (canvas[: step * len(lines)], canvas[height - step :]):
        np.copyto(strip, strip * _STRIP, casting="unsafe")
    if wrong:
        canvas[step * (len(lines) - 1) : step * len(lines)] = _WRONG_BGR
        cv2.rectangle(canvas, (0, 0), (width - 1, height - 1), _WRONG_BGR, 2 * max(round(4 * size), 2))
    for i, line in enumerate(lines):
        _write(canvas, line, (step // 2, step * (i + 1) - step // 4), size)
    _write(canvas, LEGEND, (step // 2, height - step // 3), 0.75 * size)


def _write(canvas: Image, text: str, at: tuple[int, int], size: float) -> None:
    """Writes a line, smaller where the picture is too narrow for it."""
    thickness = max(round(2 * size), 1)
    (wide, _), _ = cv2.getTextSize(text, _FONT, size, thickness)
    size *= min(1.0, (canvas.shape[1] - 2 * at[0]) / wide)
    cv2.putText(canvas, text, at, _FONT, size, _TEXT_BGR, thickness if size > 0.5 else 1, cv2.LINE_AA)


def _drawable(xy_px: np.ndarray, picture_from_px: PictureFromPx) -> tuple[np.ndarray, np.ndarray]:
    """Which points there are, and where in the picture, in sixteenths of a pixel."""
    scale, dx, dy = picture_from_px
    picture = xy_px * scale + np.array([dx, dy])
    known = np.isfinite(picture).all(axis=-1)
    return known, np.clip(np.nan_to_num(picture) * 16, -1e6, 1e6).round().astype(int)
