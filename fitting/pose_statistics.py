"""Statistics of human poses and of their accelerations, measured from motion capture.

`fitting/data/cmu_pose_statistics.npz` was made by `python -m dataset.pose_statistics` from CMU's motion capture
database; `fitting/data/README.md` says how, and under what terms.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from core.arrays import Bool, Float
from core.errors import InputError
from core.files import read_npz
from fitting.pose_density import GaussianDensity
from fitting.prior import pose_prior

CMU_FILE = Path(__file__).parent / "data" / "cmu_pose_statistics.npz"
SCHEMA = "action-motifs/pose-statistics/1"
NUM_POSE = 69  # rotation vectors of joints 1 to 23
_LIMBS = ("hip", "knee", "shoulder", "elbow")
_COUNTED = 0.5  # of a correlation
_NARROWED = 0.75  # `Weights.rest_scale`, which narrows the table, whose spreads hold extremes; these are measured


@dataclass(frozen=True, eq=False)
class PoseStatistics:
    """How people hold and move their joints: SMPL's local rotation vectors of joints 1 to 23, radians.

    Attributes:
        mean: of the rotation vectors, joint after joint.
        covariance: of them; positive definite. Components that were not measured are independent of all others, with
            mean zero and the deviations of `fitting.prior.pose_prior`.
        measured: components that the motion capture has.
        acceleration: deviation of one axis' second differences at 30 instants a second, times 900: the translation
            (m/s^2), then joints 0 to 23 (rad/s^2, of rotation increments); NaN where not measured.
        joints: names of joints 1 to 23.
        source: where the numbers come from, with the acknowledgement that its terms ask for.
    """

    mean: Float[np.ndarray, "69"]
    covariance: Float[np.ndarray, "69 69"]
    measured: Bool[np.ndarray, "69"]
    acceleration: Float[np.ndarray, "25"]
    joints: tuple[str, ...]
    source: str

    def density(self) -> GaussianDensity:
        """What the fit takes over: how hips, knees, shoulders and elbows are held, and go together.

        Skeletons agree on the bones of limbs, which retargeting aligns; how trunk, head and feet are turned at rest
        differs between them by 10 to 20 degrees, more than they move. There, and where nothing was measured, the table
        of `fitting.prior` stays. Others move otherwise than CMU's 13 people: deviations lie halfway to the table's, on
        a logarithmic scale, and correlations count by half. As they are, they hold 56 % of another data set's arms
        within their 95 % bounds; so, 97 % and more.
        """
        table = pose_prior().sigma[1:].ravel()
        limbs = np.repeat([joint.split("_")[-1] in _LIMBS for joint in self.joints], 3) & self.measured
        own = np.sqrt(np.diag(self.covariance))
        correlation = np.where(np.outer(limbs, limbs), _COUNTED * self.covariance / np.outer(own, own), 0.0)
        np.fill_diagonal(correlation, 1.0)
        deviation = np.where(limbs, np.sqrt(own * np.maximum(own, table)) / _NARROWED, table)
        return GaussianDensity(np.where(limbs, self.mean, 0.0), correlation * np.outer(deviation, deviation))

    def to_arrays(self) -> dict[str, np.ndarray]:
        """As stored: the covariance as deviations and correlations in single precision."""
        deviation = np.sqrt(np.diag(self.covariance))
        correlation = self.covariance / np.outer(deviation, deviation)
        return {
            "schema": np.array(SCHEMA),
            "mean": self.mean.astype(np.float32),
            "deviation": deviation.astype(np.float32),
            "correlation": correlation[np.tril_indices(NUM_POSE, -1)].astype(np.float32),
            "measured": self.measured,
            "acceleration": self.acceleration.astype(np.float32),
            "joints": np.array(self.joints),
            "source": np.array(self.source),
        }


def load_pose_statistics(path: Path) -> PoseStatistics:
    """Reads what `PoseStatistics.to_arrays` gave.

    Raises:
        InputError: if the file is missing or damaged.
    """
    data = read_npz(path)
    sizes = {"mean": (69,), "deviation": (69,), "correlation": (2346,), "measured": (69,), "acceleration": (25,)}
    wrong = [name for name, shape in sizes.items() if name not in data or data[name].shape != shape]
    if wrong or str(data.get("schema")) != SCHEMA or len(data.get("joints", ())) != 23:
        problem = f"{wrong[0] if wrong else 'schema or joints'} missing or of another size"
        raise InputError(str(path), problem, "make it again with `python -m dataset.pose_statistics`")
    correlation = np.eye(NUM_POSE)
    correlation[np.tril_indices(NUM_POSE, -1)] = data["correlation"]
    correlation = correlation + np.tril(correlation, -1).T
    deviation = data["deviation"].astype(np.float64)
    covariance = correlation * np.outer(deviation, deviation)
    if not np.isfinite(covariance).all() or np.linalg.eigvalsh(covariance)[0] <= 0:
        raise InputError(str(path), "its covariance is not positive definite", "take the file that was released")
    return PoseStatistics(
        data["mean"].astype(np.float64),
        covariance,
        data["measured"].astype(bool),
        data["acceleration"].astype(np.float64),
        tuple(str(joint) for joint in data["joints"]),
        str(data["source"]),
    )


@cache
def cmu_pose_statistics() -> PoseStatistics:
    """The statistics that come with the package."""
    return load_pose_statistics(CMU_FILE)
