"""Body shape from RGB-D scans of an A-pose: files in, betas with their covariance out, or a refusal that says why.

The Action Motif Dataset finds each subject's betas so (arXiv 2604.28173: four depth cameras around an A-pose), and
holds them in all that follows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from core.errors import InputError
from fitting.person_shape import ScannedShape
from fitting.scan_files import PointCloud, Unit, read_ply
from fitting.scan_fit import ScanFit, fit_scans
from fitting.scan_objective import ScanLossConfig
from fitting.scan_parts import PARTS
from fitting.scan_person import PersonCloud, Up, find_person
from fitting.scan_quality import ScanGates, refuse, scan_figures
from fitting.smpl import BodyModel

_SEED = 0  # of which points are kept: the same files give the same bytes
_DRESSED = 0.5  # share of a part's points on clothes from which the part is called dressed


@dataclass(frozen=True)
class ScanConfig:
    """How scans are read, fitted and refused.

    Attributes:
        scan_unit: of the files' coordinates; PLY files do not state it.
        scan_up: the axis that points up; "floor" finds it from the floor that the person stands on.
        scan_poses: whether the files are views of one moment in one frame (together), or each is a capture of its own,
            in its own pose and frame (apart).
        scan_points: most points of a capture that are fitted.
        loss: how they are believed.
        gates: when the result is refused.
    """

    scan_unit: Unit = "m"
    scan_up: Up = "floor"
    scan_poses: Literal["together", "apart"] = "together"
    scan_points: int = 3000
    loss: ScanLossConfig = dataclasses.field(default_factory=ScanLossConfig)
    gates: ScanGates = dataclasses.field(default_factory=ScanGates)


@dataclass(frozen=True, eq=False)
class ScanShape:
    """What scans tell of a person's shape.

    Attributes:
        fit: shape, poses and residuals.
        people: each capture's points as they were fitted.
        scans: names of the files.
        figures: what the gates looked at, and what else is worth knowing.
    """

    fit: ScanFit
    people: tuple[PersonCloud, ...]
    scans: tuple[str, ...]
    figures: dict[str, float]

    def scanned(self, body: BodyModel, subject: str) -> ScannedShape:
        """What is combined with sessions."""
        return ScannedShape(self.fit.state.betas, self.fit.covariance, subject, body.sha256, self.scans)

    def __str__(self) -> str:
        f = self.figures
        dressed = [part for part in PARTS if f[f"dressed {part}"] > _DRESSED]
        tall = f"{f['height_m']:.3f} m ± {1000 * f['height_sigma_m']:.0f} mm tall"
        return f"{tall}, {100 * f['seen']:.0f} % of the surface seen, dressed: {', '.join(dressed) or 'nowhere'}"


def shape_from_scans(paths: Sequence[Path], body: BodyModel, config: ScanConfig) -> ScanShape:
    """The shape of the person in PLY files.

    Raises:
        InputError: if a file cannot be read or nobody is found in it.
        GateError: if the fit is not believable.
    """
    clouds = [read_ply(path, config.scan_unit) for path in paths]
    if len({path.resolve() for path in paths}) < len(paths):
        raise InputError("scans", "a file is given twice", "give every file once")
    return fit_clouds(clouds, body, config)


def fit_clouds(clouds: Sequence[PointCloud], body: BodyModel, config: ScanConfig) -> ScanShape:
    """`shape_from_scans` for points that are in memory."""
    rng = np.random.default_rng(_SEED)
    captures = [_joined(clouds)] if config.scan_poses == "together" else list(clouds)
    people = tuple(
        _fewer(find_person(c.name, c.points_m, c.normals, config.scan_up, rng), config.scan_points, rng)
        for c in captures
    )
    fit = fit_scans(body, people, config.loss)
    figures = scan_figures(body, fit, people)
    refuse("; ".join(capture.name for capture in captures), body, people, figures, config.loss, config.gates)
    return ScanShape(fit, people, tuple(cloud.name for cloud in clouds), figures)


def _joined(clouds: Sequence[PointCloud]) -> PointCloud:
    """All views as one cloud; normals count if every view has them."""
    points = np.concatenate([cloud.points_m for cloud in clouds])
    normals = [cloud.normals for cloud in clouds if cloud.normals is not None]
    joined = np.concatenate(normals) if len(normals) == len(clouds) else None
    return PointCloud(", ".join(cloud.name for cloud in clouds), points, joined)


def _fewer(person: PersonCloud, most: int, rng: np.random.Generator) -> PersonCloud:
    kept = rng.permutation(len(person.points_m))[:most]
    normals = None if person.normals is None else person.normals[kept]
    return dataclasses.replace(person, points_m=person.points_m[kept], normals=normals)
