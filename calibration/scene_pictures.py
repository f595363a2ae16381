"""The pictures a scene map is made of: still pictures of static cameras, and a choice of a walk-through's frames.

People are no part of the room. A static camera's still picture is the median of many frames, from which whatever moves
vanishes, with people left out of it where their joints are known; what is left of them, and what flickers, is masked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from capture.keypoints import Keypoints2d
from core.arrays import Bool, Float, Int, UInt8
from core.skeletons import Skeleton

_SMALL_PX = 320  # longer side of the pictures in which flow and sharpness are measured
_CORNERS = 200
_LIMB = 0.3  # width of a limb with clothes and blur, as a share of the extent of all joints in the picture
_LEAST_JOINTS = 3
_FLICKER_GRAY = 12.0  # spread in time above which a pixel shows no still thing
_LEAST_SEEN = 0.25  # share of the frames that must see past the people


@dataclass(frozen=True)
class PictureConfig:
    """Which pictures the map is made of.

    Attributes:
        still_frames: frames of a static camera whose median is its still picture.
        max_frames: frames of a walk-through at most.
        step: way of the picture, as a share of its width, after which another frame is taken.
        flow_every: frames of a walk-through between those that are looked at.
    """

    still_frames: int = 15
    max_frames: int = 120
    step: float = 0.06
    flow_every: int = 1


def person_mask(
    xy_px: Float[np.ndarray, "people joints 2"], skeleton: Skeleton, size_px: tuple[int, int]
) -> Bool[np.ndarray, "h w"]:
    """Where people are: capsules around their bones, wide enough for clothes, and a disc around every joint.

    Args:
        xy_px: joints; NaN where missing.
        skeleton: what they are.
        size_px: width and height of the picture.
    """
    import cv2

    mask = np.zeros((size_px[1], size_px[0]), np.uint8)
    bones = [(skeleton.idx(a), skeleton.idx(b)) for a, b in skeleton.bones]
    for joints in xy_px:
        found = np.isfinite(joints[:, 0])
        if found.sum() < _LEAST_JOINTS:
            continue
        extent = float(np.linalg.norm(np.ptp(joints[found], axis=0)))
        width = max(int(_LIMB * extent), 3)
        place = np.clip(np.rint(np.nan_to_num(joints)), -10_000, 10_000).astype(int)
        for a, b in bones:
            if found[a] and found[b]:
                cv2.line(mask, place[a].tolist(), place[b].tolist(), 255, width)
        for joint in place[found]:
            cv2.circle(mask, joint.tolist(), width // 2, 255, -1)
    return mask > 0


def still_picture(
    pictures: Sequence[UInt8[np.ndarray, "h w"]], people: Sequence[Bool[np.ndarray, "h w"] | None]
) -> tuple[UInt8[np.ndarray, "h w"], Bool[np.ndarray, "h w"]]:
    """What a static camera sees when nobody is there, and where that is known.

    Args:
        pictures: frames spread over the recording.
        people: where people are in each; None where nothing is known of them.
    """
    stack = np.stack(pictures).astype(np.float32)
    for picture, mask in zip(stack, people, strict=True):
        if mask is not None:
            picture[mask] = np.nan
    seen = np.isfinite(stack).mean(axis=0) >= _LEAST_SEEN
    stack[:, ~seen] = 0.0
    still = np.nanmedian(stack, axis=0)
    spread = np.nanmedian(np.abs(stack - still), axis=0)
    return np.clip(np.rint(still), 0, 255).astype(np.uint8), np.asarray(seen & (spread < _FLICKER_GRAY))


def choose_frames(
    pictures: Iterator[tuple[int, UInt8[np.ndarray, "h w"]]], config: PictureConfig
) -> Int[np.ndarray, "k"]:
    """Numbers of the sharpest frame of every stretch in which the picture moves by a step.

    Args:
        pictures: numbered frames of a moving camera, in order.
        config: settings.
    """
    import cv2

    numbers, sharp, moved, last = [], [], [], None
    for idx, gray in pictures:
        scale = _SMALL_PX / max(gray.shape)
        small = cv2.resize(gray, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else gray
        numbers.append(idx)
        sharp.append(float(cv2.Laplacian(small, cv2.CV_32F).var()))
        moved.append(0.0 if last is None else _flow(last, small) / small.shape[1])
        last = small
    if not numbers:
        return np.zeros(0, np.int64)
    # a frame that shares nothing with the last one counts as one step, not more: nothing lies between them
    way = np.cumsum(np.minimum(moved, config.step))
    stretch = np.floor(way / max(config.step, way[-1] / max(config.max_frames - 1, 1)) + 1e-9).astype(int)
    order = np.lexsort((-np.array(sharp), stretch))
    first = np.r_[True, np.diff(stretch[order]) > 0]
    return np.sort(np.array(numbers)[order[first]])


def _flow(before: np.ndarray, after: np.ndarray) -> float:
    """Median way of the corners that both pictures show, pixels; infinite if hardly any."""
    import cv2

    corners = cv2.goodFeaturesToTrack(before, _CORNERS, 0.01, 5)
    if corners is None:
        return np.inf
    found, status, _ = cv2.calcOpticalFlowPyrLK(before, after, corners, np.zeros_like(corners))
    kept = status.ravel() == 1
    if kept.sum() < len(corners) / 3:
        return np.inf
    return float(np.median(np.linalg.norm((found - corners).reshape(-1, 2)[kept], axis=-1)))


def people_in(
    keypoints: Keypoints2d | None, frame: int, size_px: tuple[int, int], picture_from_px: tuple[float, float, float]
) -> Bool[np.ndarray, "h w"] | None:
    """Where people are in a frame of a view's video; None if nothing is known.

    Args:
        keypoints: the view's joints.
        frame: number of the frame.
        size_px: width and height of the picture.
        picture_from_px: from the joints' pixels to the picture's (`View.picture_from_px`).
    """
    if keypoints is None or frame >= keypoints.num_frames:
        return None
    scale, dx, dy = picture_from_px
    return person_mask(keypoints.xy_px[frame] * scale + np.array([dx, dy]), keypoints.skeleton, size_px)
