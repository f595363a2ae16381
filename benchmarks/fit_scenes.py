"""Simulated sessions fitted by the very stages, and what came of them: shared by the benchmarks of the fit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.errors import GateError
from core.files import read_npz
from core.skeletons import SMPL_24
from core.transforms import geodesic, so3_exp
from fitting import fit, triangulate
from fitting.sequence import SmplSequence, load_smpl
from fitting.stand_in import stand_in_body
from simulation.unfilmed import Mover, UnfilmedConfig, make_unfilmed

CHI2_95, SIGMAS_95 = 7.815, 1.96  # of three degrees of freedom, and of one
FEET = [SMPL_24.idx(name) for name in ("left_ankle", "right_ankle", "left_foot", "right_foot")]


@dataclass(frozen=True, eq=False)
class Fitted:
    """A fit beside the truth, over frames and joints.

    Attributes:
        error_m: distance of each joint.
        turned_rad: angle of each joint's orientation in the world.
        inside: whether the error lies in the stated 95 % ellipsoid.
        axes_inside: share of its three components inside their stated bounds.
        hidden: frames in which no room camera saw anything below the knees.
        sequence: the fit.
    """

    error_m: np.ndarray
    turned_rad: np.ndarray
    inside: np.ndarray
    axes_inside: np.ndarray
    hidden: np.ndarray
    sequence: SmplSequence


def make(folder: Path, config: UnfilmedConfig, workers: int, mover: Mover | None = None) -> None:
    """A session up to its triangulated points."""
    make_unfilmed(folder, config, mover=mover)
    triangulate.run(folder, workers=workers)


def fitted(folder: Path, *, feet: bool, workers: int, pose_prior: str = fit.FitConfig.pose_prior) -> Fitted:
    """The fit of a session; what a gate refused is measured all the same, aloud."""
    out = folder / "07_smpl"
    config = fit.FitConfig(num_overlays=0, feet=feet, pose_prior=pose_prior)
    try:
        fit.run(folder, config, workers=workers, redo=True)
    except GateError as error:
        print(f"refused: {error}")
        out = folder / "07_smpl.refused"
    truth, found = read_npz(folder / "truth" / "smpl.npz"), load_smpl(out / "smpl.npz")
    posed = stand_in_body().with_shape(found.betas).with_rotations(so3_exp(found.poses.reshape(-1, 24, 3)), found.trans)
    offset = found.joints_m - truth["joints_m"]
    squared = np.einsum("tji,tjik,tjk->tj", offset, np.linalg.inv(found.joint_covariance), offset)
    sigma = np.sqrt(np.einsum("tjii->tji", found.joint_covariance))
    return Fitted(
        error_m=np.linalg.norm(offset, axis=-1),
        turned_rad=geodesic(posed.world_rotations, truth["world_rotations"].astype(float)),
        inside=squared < CHI2_95,
        axes_inside=(np.abs(offset) < SIGMAS_95 * sigma).mean(axis=-1),
        hidden=truth["hidden"],
        sequence=found,
    )
