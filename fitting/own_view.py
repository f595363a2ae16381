"""What a foot camera sees of its wearer: keypoints from a camera that moves, in the fit like those of a room camera.

The camera looks up the leg, so it tells about shins, knees and arms where room cameras are covered. Its pose in every
frame is its egomotion's; in the camera's own frame the term is that of a camera at rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from capture.keypoints import Keypoints2d, clean, load_keypoints
from core.arrays import Float, Int
from core.cameras import Camera, Lens, Rig
from core.clock import resample
from core.errors import InputError
from core.skeletons import Skeleton
from core.transforms import SE3
from fitting.observations import MAX_GAP_FRAMES
from fitting.rays import Rays, rays_of
from fitting.residuals import PointTerm, reprojection_term

_SAVED = ("xy", "scale", "weight")
_LEAST_COMMON = 3  # joints that a detection must share with the points for their distance to tell whose it is


def own_view_term(
    rays: Rays, world_from_cam: SE3, points_m: Float[np.ndarray, "frames points 3"], sigma_px: float, scale_px: float
) -> PointTerm:
    """`reprojection_term` of a moving camera.

    Args:
        rays: its keypoints in its own frame, one view of (frames * points).
        world_from_cam: its pose in each frame, (frames,).
        points_m: landmarks in the world.
        sigma_px: standard deviation of a good keypoint's coordinate.
        scale_px: the error at which a keypoint has lost three quarters of its pull.
    """
    R = world_from_cam.R[:, None]
    in_cam = np.einsum("tji,tlj->tli", world_from_cam.R, points_m - world_from_cam.t[:, None])
    term = reprojection_term(rays, in_cam, sigma_px, scale_px)
    gradient = (R @ term.gradient[..., None])[..., 0]
    return PointTerm(term.cost, gradient, R @ term.hessian @ np.swapaxes(R, -1, -2))


def own_rays(
    lens: Lens, xy_px: Float[np.ndarray, "frames points 2"], score: Float[np.ndarray, "frames points"], min_score: float
) -> Rays:
    """Keypoints of one foot camera as rays in its own frame."""
    rig = Rig((Camera("own", lens, SE3(np.eye(3), np.zeros(3))),))
    return rays_of(rig, xy_px.reshape(1, -1, 2), score.reshape(1, -1), min_score)


def own_keypoints(
    path: Path,
    skeleton: Skeleton,
    times_s: Float[np.ndarray, "n"],
    t_s: Float[np.ndarray, "frames"],
    rate: float,
    expected_px: Float[np.ndarray, "frames joints 2"],
) -> tuple[Float[np.ndarray, "frames joints 2"], Float[np.ndarray, "frames joints"]]:
    """The wearer's keypoints at the instants of the fit.

    Args:
        path: the view's keypoints of everybody.
        skeleton: that of the room views.
        times_s: its frame times on the session clock.
        t_s: instants of the fit.
        rate: frames a second of the view.
        expected_px: where the triangulated points would be in it, NaN where none is known: of several people, the
            wearer is the one nearest to them.

    Raises:
        InputError: if the joints are others than those of the room views.
    """
    found = load_keypoints(path)
    if found.skeleton.name != skeleton.name:
        problem = f"its joints are {found.skeleton.name}, those of the room views {skeleton.name}"
        raise InputError(str(path), problem, "detect all views alike, or leave this file out")
    num = min(found.num_frames, len(times_s))
    found = _either_side(clean(found.xy_px[:num], found.score[:num], skeleton))
    near = np.clip(np.searchsorted(t_s, times_s[:num]), 0, len(t_s) - 1)
    one = found.person(_wearer(found, expected_px[near]))
    packed = np.concatenate([one.xy_px[:, 0], one.score[:, 0, :, None]], axis=-1).astype(float)
    packed = resample(packed, times_s[:num], t_s, max_gap_s=MAX_GAP_FRAMES / rate)
    return packed[..., :2], np.where(np.isfinite(packed).all(axis=-1), packed[..., 2], 0.0)


def _either_side(found: Keypoints2d) -> Keypoints2d:
    """Everybody as detected and, after them, with left and right exchanged: the nearer one will be taken."""
    mirror = found.skeleton.swap_idx
    xy_px = np.concatenate([found.xy_px, found.xy_px[:, :, mirror]], axis=1)
    return Keypoints2d(xy_px, np.concatenate([found.score, found.score[:, :, mirror]], axis=1), found.skeleton)


def _wearer(found: Keypoints2d, expected_px: np.ndarray) -> Int[np.ndarray, "frames"]:
    """The person of each frame nearest to what is expected; the surest where nothing is; -1 where nobody was seen."""
    off = np.linalg.norm(found.xy_px - expected_px[:, None], axis=-1)
    common = np.isfinite(off).sum(axis=-1) >= _LEAST_COMMON
    distance = np.where(common, np.ma.median(np.ma.masked_invalid(off), axis=-1).filled(np.inf), np.inf)
    unsure = -np.nan_to_num(found.score).sum(axis=-1)
    ranked = np.where(np.isfinite(distance).any(axis=1, keepdims=True), distance, unsure)
    return np.where(found.valid.any(axis=(1, 2)), ranked.argmin(axis=1), -1)


def saved(view: str, rays: Rays) -> dict[str, np.ndarray]:
    """Arrays under the names that `loaded` reads."""
    return {f"own {name} {view}": getattr(rays, name) for name in _SAVED}


def loaded(view: str, arrays: Mapping[str, np.ndarray]) -> Rays | None:
    """What `saved` gave of a view; None if it gave nothing."""
    if f"own xy {view}" not in arrays:
        return None
    xy, scale, weight = (arrays[f"own {name} {view}"] for name in _SAVED)
    return Rays(xy, scale, weight > 0, weight, np.eye(3)[None], np.zeros((1, 3)))


def joined(parts: Sequence[Rays]) -> Rays:
    """The same camera's keypoints of one stretch after the other."""
    xy, scale, weight = (np.concatenate([getattr(part, name) for part in parts], axis=-1) for name in _SAVED)
    return Rays(xy, scale, weight > 0, weight, parts[0].R, parts[0].t)
