"""What a solved lens is worth: its uncertainty over the image, where corners lie, and what the residuals still show.

A parameter that the model lacks (a richer distortion, a stretched or bent board) is judged without solving again: the
score test asks how far the residuals' own gradient would move it from zero, and by how much the cost would fall.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from calibration.lens_bundle import LensBundle, LensBundleConfig, Prior, solve_lens
from calibration.planar_pose import Pictures
from core.arrays import Float, Int
from core.cameras import NUM_DISTORTIONS, Lens, LensModel
from core.transforms import SE3, hat

_CELLS = 8  # along each side of the image
_RICHER: dict[LensModel, LensModel] = {"pinhole": "radtan", "radtan": "rational"}
_SIGNIFICANT = 5.0  # standard deviations from which a finding is taken for real
_WORTH_SAYING = 0.97  # share of the residuals that a richer model would leave, below which it is mentioned
_BENT_M = 0.0003  # sag of a board in millimetres is common; below this it hardly moves a corner


@dataclass(frozen=True, eq=False)
class Score:
    """What an extra parameter set would do.

    Attributes:
        value: (q,) where one Newton step takes it from zero.
        sigma: (q,) its standard deviation.
        rms_ratio: residuals left over residuals now.
    """

    value: Float[np.ndarray, "q"]
    sigma: Float[np.ndarray, "q"]
    rms_ratio: float

    @property
    def significance(self) -> Float[np.ndarray, "q"]:
        """Distance from zero in standard deviations."""
        return np.abs(self.value) / np.maximum(self.sigma, 1e-300)


def score(bundle: LensBundle, prior: Prior, extra: Float[np.ndarray, "views m 2 q"]) -> Score:
    """Tests parameters that are zero in a solution.

    Args:
        bundle: the solution.
        prior: of the lens in it.
        extra: derivatives of the pixels by the parameters, in the solution's layout; 0 where a corner is not seen.
    """
    normal, q = bundle.normal, extra.shape[-1]
    columns = (extra * normal.scale[..., None, None]).reshape(len(extra), -1, q)
    reduced = normal.reduced(0.0, np.concatenate([normal.by_lens, columns], axis=-1))
    S, b = reduced[0].sum(axis=0), reduced[1].sum(axis=0)
    p = len(S) - q
    S[:p, :p] += prior.information
    b[:p] += prior.information @ (bundle.lens.params - prior.mean)
    unit = 1 / np.sqrt(np.maximum(np.diag(S), 1e-300))
    inverse = unit[:, None] * np.linalg.pinv(S * unit[:, None] * unit, rcond=1e-12) * unit
    covariance = inverse[p:, p:]
    value = -(inverse @ b)[p:]
    fall = float(value @ np.linalg.lstsq(covariance, value, rcond=1e-12)[0])
    total = float((normal.residual**2).sum())
    return Score(
        value,
        np.sqrt(np.maximum(bundle.variance_factor * np.diag(covariance), 0.0)),
        float(np.sqrt(max(1 - fall / max(total, 1e-300), 0.0))),
    )


def board_stretch(bundle: LensBundle, prior: Prior, pictures: Pictures) -> tuple[float, float]:
    """By how much the board is longer along x than along y against its description (0.01 is 1 %), and the sigma."""
    along_x = _point_derivatives(bundle, bundle.board_from_cam.R[:, 0][:, None] * pictures.points_m[..., :1])
    found = score(bundle, prior, along_x[..., None])
    return float(found.value[0]), float(found.sigma[0])


def board_sag(bundle: LensBundle, prior: Prior, pictures: Pictures) -> tuple[float, float]:
    """How far the middle of the board lies off the plane of its rim along the worse of its sides, and the sigma (m)."""
    points = pictures.points_m[pictures.seen]
    middle = (points.max(axis=0) + points.min(axis=0)) / 2
    half = np.maximum(np.ptp(points, axis=0) / 2, 1e-9)
    into_board = bundle.board_from_cam.R[:, 2][:, None]  # its z axis in the camera
    off = ((pictures.points_m - middle) / half) ** 2
    extra = [_point_derivatives(bundle, into_board * (1 - off[..., k : k + 1])) for k in (0, 1)]
    found = score(bundle, prior, np.stack(extra, axis=-1))
    worse = int(found.significance.argmax())
    return float(found.value[worse]), float(found.sigma[worse])


def _point_derivatives(bundle: LensBundle, by_parameter: np.ndarray) -> np.ndarray:
    """Derivatives of pixels (views, m, 2) from those of points in the camera (views, m, 3)."""
    by_point = bundle.lens.project_with_jacobian(bundle.normal.points_in_cam)[1]
    moved = np.einsum("vmij,vmj->vmi", by_point, by_parameter)
    return np.where(bundle.normal.weight[..., None] > 0, moved, 0.0)


def richer_model(bundle: LensBundle, prior: Prior) -> tuple[LensModel, float] | None:
    """The next richer model and the share of the residuals it would leave; None where there is none."""
    richer = _RICHER.get(bundle.lens.model)
    if richer is None:
        return None
    own = len(bundle.lens.distortion)
    distortion = (*bundle.lens.distortion, *[0.0] * (NUM_DISTORTIONS[richer] - own))
    lens = dataclasses.replace(bundle.lens, model=richer, distortion=distortion)
    extra = lens.project_with_jacobian(bundle.normal.points_in_cam)[2][..., 4 + own :]
    return richer, score(bundle, prior, np.where(bundle.normal.weight[..., None, None] > 0, extra, 0.0)).rms_ratio


def remarks(bundle: LensBundle, prior: Prior, pictures: Pictures, rms_px: float) -> list[str]:
    """What the residuals show that the solution does not model, in words."""
    found = []
    richer = richer_model(bundle, prior)
    if richer is not None and richer[1] < _WORTH_SAYING:
        found.append(
            f"the residuals have structure: the {richer[0]} model would lower them from {rms_px:.3f} to "
            f"{rms_px * richer[1]:.3f} px"
        )
    sag, sigma = board_sag(bundle, prior, pictures)
    if abs(sag) > max(_SIGNIFICANT * sigma, _BENT_M):
        found.append(f"the board seems bent by {1000 * abs(sag):.1f} mm in its middle")
    return found


def other_zoom(lens: Lens, board_from_cam: SE3, picture: Pictures, limit_px: float) -> float | None:
    """The factor on the focal length under which a picture that does not fit would fit; None if there is none."""
    p = len(lens.params)
    alike = np.zeros((p, p))
    alike[:2, :2] = (1e3 / lens.focal_px[0]) ** 2 * np.array([[1.0, -1.0], [-1.0, 1.0]])
    far = LensBundleConfig(loss="huber", loss_sigmas=30.0)
    bundle = solve_lens(lens, board_from_cam, picture, Prior(lens.params, alike), np.arange(p) < 2, far)
    factor = bundle.lens.focal_px[0] / lens.focal_px[0]
    error = np.nanmedian(np.linalg.norm(bundle.residual_px, axis=-1))
    sigma = np.sqrt(bundle.covariance[0, 0]) / lens.focal_px[0]
    return float(factor) if error < limit_px and abs(factor - 1) > max(0.02, _SIGNIFICANT * sigma) else None


def projection_sigma_px(
    lens: Lens, covariance: Float[np.ndarray, "p p"], cells: tuple[int, int] = (16, 12)
) -> Float[np.ndarray, "rows columns"]:
    """Standard deviation of a coordinate with which far points are projected, over the image; NaN where no ray is.

    What a rotation of the camera would undo is no error of the lens: every rig calibration absorbs it.

    Args:
        lens: the lens.
        covariance: of its parameters.
        cells: columns and rows of the map.
    """
    (columns, rows), (width, height) = cells, lens.size_px
    u, v = np.meshgrid(
        (np.arange(columns) + 0.5) * width / columns - 0.5, (np.arange(rows) + 0.5) * height / rows - 0.5
    )
    rays = lens.unproject(np.stack([u, v], axis=-1).reshape(-1, 2))
    seen = np.isfinite(rays[:, 0])
    _, by_point, by_params = lens.project_with_jacobian(rays[seen])
    seen[seen] = usable = np.isfinite(by_point).all(axis=(1, 2)) & np.isfinite(by_params).all(axis=(1, 2))
    turn = (by_point[usable] @ hat(rays[seen])).reshape(-1, 3)
    J = by_params[usable].reshape(-1, len(covariance))
    J = (J - turn @ np.linalg.lstsq(turn, J, rcond=None)[0]).reshape(-1, 2, len(covariance))
    sigma = np.full(rows * columns, np.nan)
    sigma[seen] = np.sqrt(np.maximum(np.einsum("nij,jk,nik->n", J, covariance, J), 0.0) / 2)
    return sigma.reshape(rows, columns)


def corner_counts(size_px: tuple[int, int], xy_px: Float[np.ndarray, "n 2"]) -> Int[np.ndarray, "8 8"]:
    """Corners in each cell of an 8 x 8 grid over the image, rows first."""
    cell = np.clip(np.floor(_CELLS * (xy_px + 0.5) / np.array(size_px)).astype(int), 0, _CELLS - 1)
    return np.bincount(cell[:, 1] * _CELLS + cell[:, 0], minlength=_CELLS**2).reshape(_CELLS, _CELLS)


def tilt_spread_deg(board_from_cam: SE3) -> float:
    """Largest angle between the board's normals as the camera saw them: near 0 when all are fronto-parallel."""
    normals = board_from_cam.R[:, 2]  # the board's z axis in the camera
    return float(np.degrees(np.arccos(np.clip(normals @ normals.T, -1, 1).min())))
