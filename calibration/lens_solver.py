"""One lens from pictures of a known board: start values from nothing, robust refinement, and what the data can carry.

Pictures that do not fit are dropped with their reason. Of many pictures the few are kept that together say most of the
lens: greedily, each next one is the picture that shrinks the volume of the parameters' covariance most (D-optimality).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calibration.lens_bundle import LensBundle, LensBundleConfig, Prior, linearise, solve_lens
from calibration.lens_prior import weak_lens_prior
from calibration.lens_quality import corner_counts, other_zoom, tilt_spread_deg
from calibration.lens_start import best_poses, errors_px, search_lens
from calibration.planar_pose import Pictures
from calibration.scene import Observations
from core.arrays import Bool, Float, Int
from core.cameras import Lens, LensModel
from core.errors import GateError
from core.transforms import SE3

_FEW_VIEWS = 6  # below it, high orders of the distortion rest on their priors
_FEW_VIEWS_DISTORTION = 0.3  # factor on the priors' standard deviations then
_ROUNDS = 4  # of choosing poses and pictures
_MISFIT = 3.5  # times the error of the good pictures: a picture that is dropped
_GOOD_SHARE = 30  # percentile of the pictures' errors that stands for the good ones: of two kinds, the larger wins
_MISFIT_PX = 0.2  # and never one that fits better than this
MIN_WEIGHT = 0.1  # robust weight below which a corner counts as rejected: 9 standard deviations off
_MEDIAN_OF_RAYLEIGH = 1.1774  # in standard deviations of a coordinate
# far from the solution every residual is an outlier: the first passes listen to all
_FAR = LensBundleConfig(loss="huber", loss_sigmas=30.0, max_iterations=20, tolerance=1e-5)


@dataclass(frozen=True, eq=False)
class LensSolution:
    """A calibrated lens and how well it is known.

    Attributes:
        lens: the lens.
        covariance: (p, p) of `lens.params`, with the noise that the residuals show and the priors.
        rms_px: root mean square reprojection error of the corners kept, a coordinate.
        view_rms_px: (views,) that of every picture, from the median of its corners; NaN for pictures without a pose.
        board_from_cam: (views,) poses; NaN where there is none.
        used: (views,) pictures kept.
        dropped: (views,) why a picture was not used; empty for those that were.
        residual_px: (n, 2) of every corner, predicted minus seen; NaN in pictures without a pose.
        weight: (n,) of every corner; 0 in pictures not kept.
        bundle: the solution behind it, of the pictures kept.
        pictures: those pictures.
        prior: what was known of the lens beforehand.
        notes: what a reader should know (priors that carry weight, pictures dropped).
    """

    lens: Lens
    covariance: Float[np.ndarray, "p p"]
    rms_px: float
    view_rms_px: Float[np.ndarray, "views"]
    board_from_cam: SE3
    used: Bool[np.ndarray, "views"]
    dropped: tuple[str, ...]
    residual_px: Float[np.ndarray, "n 2"]
    weight: Float[np.ndarray, "n"]
    bundle: LensBundle
    pictures: Pictures
    prior: Prior
    notes: tuple[str, ...]

    @property
    def params_sigma(self) -> Float[np.ndarray, "p"]:
        """Standard deviation of `lens.params`."""
        return np.sqrt(np.diag(self.covariance))

    @property
    def focal_sigma(self) -> float:
        """Relative standard deviation of the focal length, the worse of the two."""
        return float((self.params_sigma[:2] / self.lens.params[:2]).max())

    @property
    def coverage(self) -> float:
        """Share of an 8 x 8 grid over the image in which corners of the pictures kept lie."""
        return float((corner_counts(self.lens.size_px, self.pictures.xy_px[self.pictures.seen]) > 0).mean())

    @property
    def tilt_deg(self) -> float:
        """Largest angle between two pictures' boards: near 0 when all are fronto-parallel."""
        return tilt_spread_deg(self.board_from_cam[self.used])


def calibrate_lens(
    observations: Observations,
    num_views: int,
    model: LensModel,
    size_px: tuple[int, int],
    *,
    item: str = "lens",
    max_views: int | None = None,
    start: Lens | None = None,
) -> LensSolution:
    """Solves a lens from pictures of one rigid board.

    Args:
        observations: corners; `image_idx` is the picture, the target is the same in all.
        num_views: number of pictures.
        model: lens model.
        size_px: image width and height.
        item: name of the camera, for messages.
        max_views: of more pictures, the ones that say most are kept; None for all.
        start: start values, for a lens that is nearly known; None to search for them.

    Raises:
        GateError: if fewer than two pictures show enough of the board, or they do not determine the lens.
    """
    o = observations
    pictures = Pictures.of(o.image_idx, o.points_m, o.xy_px, o.sigma_px, num_views)
    lens = search_lens(pictures, model, size_px) if start is None else start
    poses = None if lens is None else best_poses(lens, pictures, iterations=3)
    if lens is None or poses is None or np.isfinite(poses.t[:, 0]).sum() < 2:
        shown = int((pictures.seen.sum(axis=1) >= 4).sum())
        raise GateError(
            item,
            f"only {shown} of {num_views} pictures show the board, which do not determine a lens",
            "take 10 to 20 sharp pictures of the whole board, tilted to all sides",
        )
    chosen = np.isfinite(poses.t[:, 0])
    if max_views is not None and chosen.sum() > max_views:
        chosen = _spread(chosen, max_views)
        lens = _settle(lens, pictures, poses, chosen)[0].lens
        poses = best_poses(lens, pictures, poses)
        chosen = _most_informative(lens, pictures, poses, chosen, max_views)
    bundle, poses, used, prior = _settle(lens, pictures, poses, chosen)
    return _describe(bundle, poses, pictures, chosen, used, prior, len(o))


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


def _settle(
    lens: Lens, pictures: Pictures, poses: SE3, chosen: Bool[np.ndarray, "views"]
) -> tuple[LensBundle, SE3, Bool[np.ndarray, "views"], Prior]:
    """Solves with the pictures chosen, less those that turn out not to fit; poses of all pictures under the result."""
    used = chosen
    prior = _prior(lens, int(used.sum()))
    for free in (_focal_alone(lens), np.ones(len(lens.params), bool)):
        bundle = solve_lens(lens, poses[used], pictures[used], prior, free, _FAR)
        lens = bundle.lens
    for _ in range(_ROUNDS):
        poses = best_poses(lens, pictures, poses)
        keep = _fitting(lens, poses, pictures, chosen)
        prior = _prior(lens, int(keep.sum()))
        bundle = solve_lens(lens, poses[keep], pictures[keep], prior, np.ones(len(lens.params), bool))
        lens, same, used = bundle.lens, bool((keep == used).all()), keep
        poses.R[used], poses.t[used] = bundle.board_from_cam.R, bundle.board_from_cam.t
        if same:
            break
    return bundle, poses, used, prior


def _prior(lens: Lens, num_views: int) -> Prior:
    prior = weak_lens_prior((lens,), distortion_scale=_FEW_VIEWS_DISTORTION if num_views < _FEW_VIEWS else 1.0)
    return Prior(prior.mean[0], prior.information[0])


def _focal_alone(lens: Lens) -> Bool[np.ndarray, "p"]:
    return np.arange(len(lens.params)) < 2


def _fitting(lens: Lens, poses: SE3, pictures: Pictures, chosen: np.ndarray) -> Bool[np.ndarray, "views"]:
    """Pictures whose error is not far above the others'; the best two always stay."""
    rms = np.where(chosen, _view_rms(lens, poses, pictures), np.nan)
    limit = max(_MISFIT * float(np.nanpercentile(rms, _GOOD_SHARE)), _MISFIT_PX, float(np.sort(rms)[1]))
    with np.errstate(invalid="ignore"):
        return np.asarray(rms <= limit)


def _view_rms(lens: Lens, poses: SE3, pictures: Pictures) -> Float[np.ndarray, "views"]:
    """Root mean square of a coordinate's error in every picture, from the median; NaN without a pose."""
    known = np.isfinite(poses.t[:, 0])
    rms = np.full(len(pictures), np.nan)
    rms[known] = np.nanmedian(errors_px(lens, poses[known], pictures[known]), axis=1) / _MEDIAN_OF_RAYLEIGH
    return rms


def _spread(mask: Bool[np.ndarray, "n"], count: int) -> Bool[np.ndarray, "n"]:
    """`count` of the marked ones, evenly spread."""
    index = np.flatnonzero(mask)
    kept = np.zeros_like(mask)
    kept[index[np.linspace(0, len(index) - 1, count).round().astype(int)]] = True
    return kept


def _most_informative(
    lens: Lens, pictures: Pictures, poses: SE3, first: Bool[np.ndarray, "views"], count: int
) -> Bool[np.ndarray, "views"]:
    """The pictures that fit and together say most of the lens, chosen greedily by the determinant of information."""
    posed = np.isfinite(poses.t[:, 0])
    rms = _view_rms(lens, poses, pictures)
    with np.errstate(invalid="ignore"):
        fits = np.flatnonzero(posed & (rms <= max(_MISFIT * float(np.nanmedian(rms[first])), _MISFIT_PX)))
    if len(fits) <= count:
        return _spread(posed, count)
    free = np.ones(len(lens.params), bool)
    normal = linearise(lens, poses[fits], pictures[fits], free, LensBundleConfig())
    kept = np.zeros(len(pictures), bool)
    kept[fits[greedy_choice(normal.reduced(0.0)[0], _prior(lens, count).information, count)]] = True
    return kept


def greedy_choice(
    information: Float[np.ndarray, "n p p"], prior: Float[np.ndarray, "p p"], count: int
) -> Int[np.ndarray, "count"]:
    """Indices of `count` matrices whose sum with `prior` has, taken greedily, the largest determinant.

    Args:
        information: of each candidate.
        prior: known beforehand; may be singular.
        count: how many are wanted.
    """
    unit = 1 / np.sqrt(np.maximum(np.einsum("nii->i", information), 1e-300))
    scaled = information * unit[:, None] * unit
    total = prior * unit[:, None] * unit + 1e-9 * np.eye(len(prior))
    left, chosen = np.ones(len(information), bool), []
    for _ in range(count):
        gain = np.where(left, np.linalg.slogdet(total + scaled)[1], -np.inf)
        best = int(gain.argmax())
        chosen.append(best)
        left[best] = False
        total = total + scaled[best]
    return np.array(chosen)


def _describe(
    bundle: LensBundle,
    poses: SE3,
    pictures: Pictures,
    chosen: np.ndarray,
    used: np.ndarray,
    prior: Prior,
    num_rows: int,
) -> LensSolution:
    lens = bundle.lens
    known = np.isfinite(poses.t[:, 0])
    rms = _view_rms(lens, poses, pictures)
    all_residuals = linearise(lens, poses[known], pictures[known], np.ones(len(lens.params), bool), LensBundleConfig())
    residual, weight = np.full((num_rows, 2), np.nan), np.zeros(num_rows)
    for values, target, rows in (
        (all_residuals.residual_px, residual, pictures[known]),
        (bundle.weight, weight, pictures[used]),
    ):
        target[rows.row[rows.seen]] = values[rows.seen]
    kept = weight > MIN_WEIGHT
    median = float(np.nanmedian(rms[used]))
    zoom = [
        other_zoom(lens, poses[[k]], pictures[np.array([k])], _MISFIT * median) if misfit else None
        for k, misfit in enumerate((chosen & ~used & known).tolist())
    ]
    counts = pictures.seen.sum(axis=1).tolist()
    dropped = tuple(
        "" if used[k] else _why(counts[k], float(rms[k]), bool(chosen[k]), zoom[k], median) for k in range(len(counts))
    )
    few = int(used.sum()) < _FEW_VIEWS
    notes = [f"{int(used.sum())} pictures only: distortion and principal point lean on their priors"] if few else []
    if (wrong := np.flatnonzero(chosen & ~used)).size:
        notes.append(f"pictures {', '.join(map(str, wrong))} do not fit and were dropped")
    return LensSolution(
        lens=lens,
        covariance=bundle.covariance,
        rms_px=float(np.sqrt((residual[kept] ** 2).mean())),
        view_rms_px=rms,
        board_from_cam=poses,
        used=used,
        dropped=dropped,
        residual_px=residual,
        weight=weight,
        bundle=bundle,
        pictures=pictures[used],
        prior=prior,
        notes=tuple(notes),
    )


def _why(num_points: int, rms_px: float, chosen: bool, zoom: float | None, median_px: float) -> str:
    """Why a picture is not used."""
    if not num_points:
        return "no board found"
    if not np.isfinite(rms_px):
        return f"its {num_points} points fix no pose"
    if zoom is not None:
        return f"taken at another zoom or focus: it fits with {zoom:.2f} times the focal length"
    if chosen:
        return f"does not fit: {rms_px:.2f} px, the others {median_px:.2f} px"
    return "others say more of the lens"
