"""One lens from pictures of a known board: start values from nothing, robust refinement, and what the data can carry.

The start is a search over focal lengths, each judged by how well the board's poses explain the pictures (Zhang 2000
without its closed form, which fails for wide lenses). Then the project's own bundle adjustment solves lens and poses
with weak priors, drops pictures that do not fit, and states the standard deviation of every parameter.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from calibration.bundle import BundleConfig, BundleResult, solve_bundle
from calibration.initial import find_pairs
from calibration.lens_prior import weak_lens_prior
from calibration.resection import PointRays, refine_poses
from calibration.scene import Observations, Scene
from core.arrays import Bool, Float
from core.cameras import Lens, LensModel
from core.errors import GateError
from core.transforms import SE3

_FEW_VIEWS = 6  # below it, high orders of the distortion rest on their priors
_FEW_VIEWS_DISTORTION = 0.3  # factor on the priors' standard deviations then
_SEARCH_VIEWS = 16
_COVERAGE_CELLS = 8
# focal length over image width: from a 150 degree fisheye to a long telephoto
_FOCAL_SEARCH = np.geomspace(0.2, 4.0, 32)


@dataclass(frozen=True, eq=False)
class LensSolution:
    """A calibrated lens and how well it is known.

    Attributes:
        lens: the lens.
        params_sigma: (p,) standard deviation of `lens.params`.
        rms_px: root mean square reprojection error of the pictures kept.
        view_rms_px: (views,) that of every picture; NaN for pictures without a pose.
        used: (views,) pictures kept.
        residual_px: (n, 2) of every corner; NaN in pictures not kept.
        coverage: share of an 8 x 8 grid over the image in which corners lie.
        tilt_deg: spread of the board's orientations about the viewing direction: near 0 when all are fronto-parallel.
        notes: what a reader should know (priors that carry weight, pictures dropped).
    """

    lens: Lens
    params_sigma: Float[np.ndarray, "p"]
    rms_px: float
    view_rms_px: Float[np.ndarray, "views"]
    used: Bool[np.ndarray, "views"]
    residual_px: Float[np.ndarray, "n 2"]
    coverage: float
    tilt_deg: float
    notes: tuple[str, ...]

    @property
    def focal_sigma(self) -> float:
        """Relative standard deviation of the focal length, the worse of the two."""
        return float((self.params_sigma[:2] / self.lens.params[:2]).max())


def calibrate_lens(
    observations: Observations, num_views: int, model: LensModel, size_px: tuple[int, int], *, item: str = "lens"
) -> LensSolution:
    """Solves a lens from pictures of one rigid board.

    Args:
        observations: corners; `image_idx` is the picture, the target is the same in all.
        num_views: number of pictures.
        model: lens model.
        size_px: image width and height.
        item: name of the camera, for messages.

    Raises:
        GateError: if fewer than two pictures show enough of the board, or they do not determine the lens.
    """
    lens, poses = _search(observations, num_views, model, size_px, item)
    used = np.isfinite(poses.t[:, 0])
    result = _refine(lens, poses, observations, used, focal_only=True)
    keep = used
    for _ in range(3):
        lens, poses = result.scene.lenses[0], result.scene.world_from_cam
        poses = _choose_poses(lens, poses, observations, used)
        keep = _fitting_views(lens, poses, observations, used)
        result = _refine(lens, poses, observations, keep, focal_only=False)
        if (keep == used).all():
            break
        used = keep
    return _describe(result, observations, keep)


def lenses_from_boards(
    corners_px: Float[np.ndarray, "views boards points 2"],
    points_m: Float[np.ndarray, "points 3"],
    model: LensModel,
    size_px: tuple[int, int],
) -> tuple[Lens, ...]:
    """Lenses of all cameras from the same table of corners (NaN where not seen)."""
    lenses = []
    for view, corners in enumerate(corners_px):
        board, point = np.nonzero(np.isfinite(corners[..., 0]))
        xy = corners[board, point].astype(float)
        seen = Observations(board, np.zeros_like(board), points_m[point].astype(float), xy, np.full(len(board), 0.3))
        lenses.append(calibrate_lens(seen, corners.shape[0], model, size_px, item=f"camera {view}").lens)
    return tuple(lenses)


def _search(
    observations: Observations, num_views: int, model: LensModel, size_px: tuple[int, int], item: str
) -> tuple[Lens, SE3]:
    """The focal length that explains the pictures best, and the pictures' poses (views,) under it."""
    count = np.bincount(observations.image_idx, minlength=num_views)
    chosen = np.argsort(-count, kind="stable")[:_SEARCH_VIEWS]
    some = observations[np.isin(observations.image_idx, chosen)]
    best, best_cost = None, np.inf
    for ratio in _FOCAL_SEARCH:
        lens = _plain_lens(model, size_px, ratio * max(size_px))
        poses = _first_poses(lens, some, num_views)
        if not np.isfinite(poses.t).any():
            continue
        cost = float(np.median(_errors_px(lens, poses, some)))
        if cost < best_cost:
            best, best_cost = lens, cost
    poses = SE3(np.full((num_views, 3, 3), np.nan), np.full((num_views, 3), np.nan))
    if best is not None:
        poses = _first_poses(best, observations, num_views)
    if best is None or np.isfinite(poses.t[:, 0]).sum() < 2:
        raise GateError(
            item,
            f"only {int((count >= 4).sum())} of {num_views} pictures show the board, which do not determine a lens",
            "take 10 to 20 sharp pictures of the whole board, tilted to all sides",
        )
    return best, poses


def _plain_lens(model: LensModel, size_px: tuple[int, int], focal_px: float) -> Lens:
    from core.cameras import NUM_DISTORTIONS

    centre = ((size_px[0] - 1) / 2, (size_px[1] - 1) / 2)
    return Lens(model, size_px, (focal_px, focal_px), centre, (0.0,) * NUM_DISTORTIONS[model])


def _first_poses(lens: Lens, observations: Observations, num_views: int) -> SE3:
    """The best candidate of every picture, `board_from_cam` (views,); NaN where there is none."""
    poses = SE3(np.full((num_views, 3, 3), np.nan), np.full((num_views, 3), np.nan))
    for pair in find_pairs(observations, lens.unproject(observations.xy_px)):
        pose = pair.cam_from_target[0].inverse()
        poses.R[pair.image], poses.t[pair.image] = pose.R, pose.t
    return poses


def _errors_px(lens: Lens, poses: SE3, observations: Observations) -> np.ndarray:
    """Reprojection errors (n,), 1000 px where the lens cannot see a point or the picture has no pose."""
    row = poses[observations.image_idx]
    points = np.einsum("nji,nj->ni", row.R, observations.points_m - row.t)
    error = np.linalg.norm(lens.project(points) - observations.xy_px, axis=-1)
    return np.where(np.isfinite(error), error, 1000.0)


def _choose_poses(lens: Lens, poses: SE3, observations: Observations, used: np.ndarray) -> SE3:
    """Refines both candidates of every picture under the better lens and keeps, with the pose so far, the best one."""
    views = [int(v) for v in np.flatnonzero(used)]
    starts = [poses[v] for v in views]
    for pair in find_pairs(observations, lens.unproject(observations.xy_px)):
        for k in range(len(pair.cam_from_target)):
            starts.append(pair.cam_from_target[k].inverse())
            views.append(pair.image)
    rows = [np.flatnonzero(observations.image_idx == view) for view in views]
    flat = np.concatenate(rows)
    pose_idx = np.repeat(np.arange(len(views)), [len(r) for r in rows])
    data = PointRays(pose_idx, observations.points_m[flat], observations.xy_px[flat], observations.sigma_px[flat])
    refined = refine_poses(lens, SE3.stack(starts), data)
    chosen = SE3(np.full_like(poses.R, np.nan), np.full_like(poses.t, np.nan))
    for k in np.argsort(-refined.chi2):  # the best comes last and stays
        chosen.R[views[k]], chosen.t[views[k]] = refined.world_from_cam.R[k], refined.world_from_cam.t[k]
    return chosen


def _view_rms(lens: Lens, poses: SE3, observations: Observations) -> np.ndarray:
    """Root of the median squared error of every picture, scaled to a standard deviation a coordinate."""
    error = _errors_px(lens, poses, observations)
    rms = np.full(len(poses), np.nan)
    for view in np.unique(observations.image_idx):
        # the median of a Rayleigh distribution is 1.1774 sigma
        rms[view] = np.median(error[observations.image_idx == view]) / 1.1774
    return np.where(np.isfinite(poses.t[:, 0]), rms, np.nan)


def _fitting_views(lens: Lens, poses: SE3, observations: Observations, used: np.ndarray) -> np.ndarray:
    """Pictures whose error is not far above the others'; the best two always stay."""
    rms = _view_rms(lens, poses, observations)
    limit = max(3.0 * float(np.nanmedian(rms)), 0.5)
    keep = used & np.isfinite(rms) & (rms <= limit)
    return keep if keep.sum() >= 2 else used


def _refine(lens: Lens, poses: SE3, observations: Observations, used: np.ndarray, *, focal_only: bool) -> BundleResult:
    """Bundle adjustment of the lens and the poses of the pictures used; the board is held at the origin."""
    known = np.isfinite(poses.t[:, 0])
    filled = SE3(np.where(known[:, None, None], poses.R, np.eye(3)), np.where(known[:, None], poses.t, 0.0))
    scene = Scene.fixed_lenses((lens,), np.zeros(len(poses), int), filled, SE3.identity(1), held_targets=np.array([0]))
    few = int(used.sum()) < _FEW_VIEWS
    free = np.ones((1, len(lens.params)), bool)
    if focal_only:
        free[:, 2:] = False
    scene = dataclasses.replace(
        scene,
        image_free=np.repeat(used[:, None], 6, axis=1),
        lens_free=free,
        lens_prior=weak_lens_prior((lens,), distortion_scale=_FEW_VIEWS_DISTORTION if few else 1.0),
    )
    rows = used[observations.image_idx]
    # far from the solution every residual is an outlier: the first pass listens to all
    config = BundleConfig(loss="huber", loss_sigmas=30.0) if focal_only else BundleConfig()
    result = solve_bundle(scene, observations[rows], config)
    residual, weight = np.full((len(observations), 2), np.nan), np.zeros(len(observations))
    residual[rows], weight[rows] = result.residual_px, result.weight
    poses = SE3(
        np.where(known[:, None, None], result.scene.world_from_cam.R, np.nan),
        np.where(known[:, None], result.scene.world_from_cam.t, np.nan),
    )
    return dataclasses.replace(
        result,
        residual_px=residual,
        weight=weight,
        scene=dataclasses.replace(result.scene, world_from_cam=poses),
    )


def _describe(result: BundleResult, observations: Observations, used: np.ndarray) -> LensSolution:
    lens, poses = result.scene.lenses[0], result.scene.world_from_cam
    rows = used[observations.image_idx] & (result.weight > 0.1)
    rms = float(np.sqrt((result.residual_px[rows] ** 2).mean()))
    few = int(used.sum()) < _FEW_VIEWS
    notes = [f"{int(used.sum())} pictures only: distortion and principal point lean on their priors"] if few else []
    if (dropped := np.flatnonzero(np.isfinite(poses.t[:, 0]) & ~used)).size:
        notes.append(f"pictures {', '.join(map(str, dropped))} do not fit and were dropped")
    return LensSolution(
        lens=lens,
        params_sigma=result.lens_sigma[0],
        rms_px=rms,
        view_rms_px=_view_rms(lens, poses, observations),
        used=used,
        residual_px=result.residual_px,
        coverage=_coverage(lens.size_px, observations.xy_px[used[observations.image_idx]]),
        tilt_deg=_tilt_spread(poses[np.flatnonzero(used)]),
        notes=tuple(notes),
    )


def _coverage(size_px: tuple[int, int], xy_px: np.ndarray) -> float:
    cell = np.floor(_COVERAGE_CELLS * (xy_px + 0.5) / np.array(size_px)).astype(int)
    cell = np.clip(cell, 0, _COVERAGE_CELLS - 1)
    return len(np.unique(cell[:, 0] * _COVERAGE_CELLS + cell[:, 1])) / _COVERAGE_CELLS**2


def _tilt_spread(board_from_cam: SE3) -> float:
    """Largest angle between the board's normals as the camera saw them, degrees."""
    normals = board_from_cam.R[:, 2]  # the board's z axis in the camera
    cosine = np.clip(normals @ normals.T, -1, 1)
    return float(np.degrees(np.arccos(cosine.min())))
