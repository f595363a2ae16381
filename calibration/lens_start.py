"""Start values of a lens from nothing: a search over focal lengths and shapes, each judged by how its poses fit.

Zhang's closed form (2000) fails for wide lenses; trying some thirty plain lenses does not, and with all pictures'
poses in closed form at once it costs little. Lenses of perspective models that are wide are tried as equidistant too,
and their polynomial is then fitted to that curve.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from calibration.planar_pose import Pictures, planar_poses
from calibration.resection import PointRays, pose_candidates, refine_poses
from core.arrays import Float
from core.cameras import NUM_DISTORTIONS, Lens, LensModel
from core.transforms import SE3

_SEARCH_VIEWS = 12
_SEARCH_POINTS = 20  # of each picture
# focal length over the longer image side, tried for each shape: from a 190 degree fisheye to a telephoto
_STEPS: dict[LensModel, np.ndarray] = {
    "pinhole": np.geomspace(0.3, 5.0, 14),
    "fisheye": np.geomspace(0.12, 4.0, 18),
}
_WIDE = 0.9  # below it, a perspective lens may bend lines so much that an equidistant one is nearer
_FINER = (0.9, 1.1)  # steps about the best one, within the distance to the next
_SHAPES: dict[LensModel, tuple[LensModel, ...]] = {
    "pinhole": ("pinhole",),
    "radtan": ("pinhole", "fisheye"),
    "rational": ("pinhole", "fisheye"),
    "fisheye": ("fisheye",),
}
# to which the equidistant curve is fitted: a polynomial of tan(theta) turns back early, a rational one does not
_WIDEST_RAD: dict[LensModel, float] = {"radtan": np.radians(55.0), "rational": np.radians(75.0)}
_UNSEEN_PX = 1000.0
_FLAT_M = 1e-9


def search_lens(pictures: Pictures, model: LensModel, size_px: tuple[int, int]) -> Lens | None:
    """The plain lens that explains pictures of a board best; None if no picture has a pose.

    Args:
        pictures: of one target; some, those with the most points, are tried.
        model: model of the lens returned; its distortion is zero, or that of an equidistant lens.
        size_px: image width and height.
    """
    some = _thinned(pictures[np.argsort(-pictures.seen.sum(axis=1), kind="stable")[:_SEARCH_VIEWS]])
    best: Lens | None = None
    best_cost, best_ratio = np.inf, np.inf

    def attempt(shape: LensModel, ratio: float) -> None:
        nonlocal best, best_cost, best_ratio
        lens = plain_lens(shape, size_px, ratio * max(size_px))
        cost = _median_error(lens, some)
        if cost < best_cost:
            best, best_cost, best_ratio = lens, cost, ratio

    for shape in _SHAPES[model]:
        if best is None or best_ratio < _WIDE:
            for ratio in _STEPS[shape]:
                attempt(shape, float(ratio))
    if best is None:
        return None
    shape, ratio = best.model, best_ratio
    for factor in _FINER:
        attempt(shape, ratio * factor)
    return _as_model(best, model)


def _thinned(pictures: Pictures) -> Pictures:
    """At most some twenty points of each picture, spread over it."""
    width = pictures.seen.shape[1]
    if width <= _SEARCH_POINTS:
        return pictures
    kept = np.unique(np.linspace(0, width - 1, _SEARCH_POINTS).round().astype(int))
    return Pictures(
        pictures.points_m[:, kept],
        pictures.xy_px[:, kept],
        pictures.sigma_px[:, kept],
        pictures.seen[:, kept],
        pictures.row[:, kept],
    )


def plain_lens(model: LensModel, size_px: tuple[int, int], focal_px: float) -> Lens:
    """A lens without distortion, its axis through the middle of the image."""
    centre = ((size_px[0] - 1) / 2, (size_px[1] - 1) / 2)
    return Lens(model, size_px, (focal_px, focal_px), centre, (0.0,) * NUM_DISTORTIONS[model])


def first_poses(lens: Lens, pictures: Pictures) -> tuple[SE3, SE3]:
    """Both `board_from_cam` candidates of every picture; NaN where there is none."""
    rays = lens.unproject(pictures.xy_px)
    depth = pictures.points_m[pictures.seen][:, 2]
    if not len(depth) or np.ptp(depth) <= _FLAT_M:
        return planar_poses(pictures.points_m, rays, pictures.seen)
    none = SE3(np.full((len(pictures), 3, 3), np.nan), np.full((len(pictures), 3), np.nan))
    for view, seen in enumerate(pictures.seen):
        usable = seen & np.isfinite(rays[view, :, 0])
        for pose in pose_candidates(pictures.points_m[view, usable], rays[view, usable])[:1]:
            none.R[view], none.t[view] = pose.inverse().R, pose.inverse().t
    return none, none


def errors_px(lens: Lens, board_from_cam: SE3, pictures: Pictures) -> Float[np.ndarray, "views m"]:
    """Reprojection errors; 1000 px where the lens cannot see a point or the picture has no pose, NaN in the padding."""
    points = (pictures.points_m - board_from_cam.t[:, None]) @ board_from_cam.R
    error = np.linalg.norm(lens.project(points) - pictures.xy_px, axis=-1)
    return np.where(pictures.seen, np.where(np.isfinite(error), error, _UNSEEN_PX), np.nan)


def best_poses(lens: Lens, pictures: Pictures, so_far: SE3 | None = None, *, iterations: int = 10) -> SE3:
    """Poses refined from every candidate, and from those so far, under a lens: the best of each picture.

    Args:
        lens: the lens.
        pictures: of one target.
        so_far: `board_from_cam` found before.
        iterations: steps of the refinement.

    Returns:
        `board_from_cam` (views,); NaN where a picture fixes none.
    """
    candidates = [*first_poses(lens, pictures), *([] if so_far is None else [so_far])]
    start = SE3(np.concatenate([c.R for c in candidates]), np.concatenate([c.t for c in candidates]))
    views = np.tile(np.arange(len(pictures)), len(candidates))
    known = np.flatnonzero(np.isfinite(start.t[:, 0]))
    chosen = SE3(np.full((len(pictures), 3, 3), np.nan), np.full((len(pictures), 3), np.nan))
    if not len(known):
        return chosen
    pose_idx, slot = np.nonzero(pictures.seen[views[known]])
    view = views[known][pose_idx]
    data = PointRays(pose_idx, pictures.points_m[view, slot], pictures.xy_px[view, slot], pictures.sigma_px[view, slot])
    refined = refine_poses(lens, start[known], data, iterations=iterations)
    for k in np.argsort(-refined.chi2, kind="stable"):  # the best comes last and stays
        chosen.R[views[known[k]]], chosen.t[views[known[k]]] = refined.world_from_cam.R[k], refined.world_from_cam.t[k]
    return chosen


def _median_error(lens: Lens, pictures: Pictures) -> float:
    pose = first_poses(lens, pictures)[0]
    if not np.isfinite(pose.t).any():
        return np.inf
    return float(np.nanmedian(errors_px(lens, pose, pictures)))


def _as_model(lens: Lens, model: LensModel) -> Lens:
    """An equidistant lens in a perspective model: r_d = theta as a polynomial in r = tan(theta), least squares."""
    if lens.model == model:
        return lens
    plain = plain_lens(model, lens.size_px, lens.focal_px[0])
    if lens.model == "pinhole":
        return plain
    corner = float(np.hypot(*lens.centre_px)) / lens.focal_px[0]  # angle of the image's corner
    theta = np.linspace(0.02, min(corner, _WIDEST_RAD[model]), 60)
    r = np.tan(theta)
    k1, k2, k3 = np.linalg.lstsq(np.stack([r**3, r**5, r**7], axis=-1), theta - r, rcond=None)[0]
    if model == "radtan":
        return dataclasses.replace(plain, distortion=(k1, k2, 0.0, 0.0, k3))
    # theta D(r^2) = r N(r^2) is linear in the coefficients of both
    columns = [r**3, r**5, -theta * r**2, -theta * r**4]
    n1, n2, d1, d2 = np.linalg.lstsq(np.stack(columns, axis=-1), theta - r, rcond=None)[0]
    return dataclasses.replace(plain, distortion=(n1, n2, 0.0, 0.0, 0.0, d1, d2, 0.0))
