"""The fitted body against silhouettes that another tool found: intersection over union, frame by frame.

The check of the Action Motif Dataset (arXiv 2604.28173, appendix C): the body is drawn as a silhouette and compared
with a segmenter's mask, which is made narrower first because clothes and hair stand off the body. Where furniture hides
the person, they fill the mask with the intersection of the two fits that they compare, which favours both; with one fit
that would be to mark one's own work, so here such pixels are to be marked as ignored and count for neither side.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from calibration.clocks import load_times
from capture.masks import Mask, list_masks, read_mask
from capture.session import Session, View
from core.arrays import Bool, Float
from core.cameras import Camera, Rig
from core.errors import InputError
from core.progress import progress
from fitting.playback import Playback
from fitting.raster import SAME_PX, PictureFromPx, see


@dataclass(frozen=True)
class MaskConfig:
    """How the body is compared with masks, where a session has them.

    Attributes:
        erode_px: masks are made this much narrower first, in pixels of the picture; an exact mask needs none.
        max_frames: masks of a view that are compared, evenly spread over the fit; 0 for none.
    """

    erode_px: int = 0
    max_frames: int = 200


def silhouette(
    camera: Camera,
    vertices_m: Float[np.ndarray, "v 3"],
    faces: np.ndarray,
    size_px: tuple[int, int],
    picture_from_px: PictureFromPx = SAME_PX,
) -> Bool[np.ndarray, "h w"]:
    """Where a closed mesh is in a picture; a pixel belongs to it if its centre does.

    Args:
        camera: where it is seen from.
        vertices_m: the mesh in the world.
        faces: its triangles, counter-clockwise from outside.
        size_px: the picture's width and height.
        picture_from_px: scale, dx, dy from the camera's pixels to the picture's.
    """
    return see(camera, vertices_m, faces, size_px, picture_from_px)[0].mask(size_px)


def mask_iou(drawn: Bool[np.ndarray, "h w"], mask: Mask, erode_px: int = 0) -> float:
    """Intersection over union of a drawn silhouette and a mask; NaN where both are empty.

    Args:
        drawn: where the body is.
        mask: where the person is; pixels that it ignores are left out of both.
        erode_px: by how much the mask is made narrower first.
    """
    person = mask.person
    if erode_px:
        # what is ignored has no edge of its own to be worn away: the person may well go on there
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * erode_px + 1, 2 * erode_px + 1))
        person = person & (cv2.erode((person | mask.ignored).astype(np.uint8), disc) > 0)
    counted = ~mask.ignored
    union = ((drawn | person) & counted).sum()
    return float((drawn & person & counted).sum() / union) if union else float("nan")


def compare_with_masks(
    session: Session, rig: Rig, playback: Playback, config: MaskConfig
) -> dict[str, dict[str, float | int | None]]:
    """Figures of every room view that has masks: median and 5th percentile of the IoU, and how many frames they are of.

    Only valid frames are compared: the figures are of what is handed on.

    Raises:
        InputError: if a mask cannot be read, is of no frame, or has another size than the view's pictures.
    """
    found = {}
    for view in session.of_role("room"):
        if view.masks is None or view.id not in rig.ids or not config.max_frames:
            continue
        values = view_ious(session, view, rig[view.id], playback, config)
        known = np.array([value for value in values.values() if np.isfinite(value)])
        figures: dict[str, float | int | None] = {"median": None, "p5": None, "num_frames": len(known)}
        if len(known):
            figures |= {"median": float(np.median(known)), "p5": float(np.percentile(known, 5))}
        found[view.id] = figures
    return found


def view_ious(
    session: Session, view: View, camera: Camera, playback: Playback, config: MaskConfig
) -> Mapping[int, float]:
    """IoU by frame of a view that has masks, as `compare_with_masks` summarises it."""
    paths = list_masks(session.path(str(view.masks)), view.num_frames)
    t_s = load_times(session.folder, view.id)
    frames = np.array([frame for frame in paths if frame < len(t_s)], dtype=np.int64)
    frames = frames[playback.covers(t_s[frames])]
    frames = frames[np.unique(np.linspace(0, len(frames) - 1, min(len(frames), config.max_frames)).round().astype(int))]
    body, ious = playback.shaped.body, {}
    with progress(f"masks of {view.id}", len(frames)) as advance:
        for frame, moment in zip(frames.tolist(), playback.moments(t_s[frames]), strict=True):
            advance()
            if moment.reasons:
                continue
            mask = _sized(paths[frame], view)
            drawn = silhouette(camera, moment.vertices_m, body.faces, mask.person.shape[::-1], view.picture_from_px)
            ious[frame] = mask_iou(drawn, mask, config.erode_px)
    return ious


def _sized(path: Path, view: View) -> Mask:
    """A mask, refused where it cannot be of the view's pictures."""
    mask = read_mask(path)
    found: Any = mask.person.shape[::-1]
    if view.picture_from_px == SAME_PX and found != view.size_px:
        problem = f"it is {found[0]}x{found[1]} px, the view's pictures are {view.size_px[0]}x{view.size_px[1]}"
        raise InputError(str(path), problem, "give masks of the size of the pictures")
    return mask
