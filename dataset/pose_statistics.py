"""`python -m dataset.pose_statistics CMU --out FILE`: pose statistics for the fit from CMU's motion capture.

Every take of the folder or archive, CMU's own AMC or B. Hahne's BVH, is retargeted and looked at 30 times a second, as
it is and mirrored. A frame weighs one over the root of its subject's number of frames, so that nobody who was recorded
long decides alone. How far correlations are shrunk, and the deviation that is added for what retargeting gets wrong, is
what predicts each subject best from the others (mean log-likelihood a frame).

Components that the takes do not have are left to `fitting.prior`: toes, hands, and collars, which their skeleton keeps
still; wrists but for the turn of the forearm; spine2 and spine3, whose share of the trunk's bend it puts elsewhere.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.arrays import Bool, Float
from core.errors import InputError, MotifsError
from core.files import write_npz
from core.parallel import processes
from core.skeletons import SMPL_24
from core.transforms import so3_log
from dataset.archives import unpacked
from dataset.importers.mocap import read_motion
from dataset.importers.takes import Take
from dataset.retarget import retarget
from dataset.sources import Source, find_sources
from fitting.pose_statistics import NUM_POSE, PoseStatistics
from fitting.prior import pose_prior
from fitting.smpl import NUM_JOINTS
from fitting.stand_in import stand_in_body

_RATE_HZ = 30
_STILL = ("foot", "hand", "collar")
_SHRINKAGES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3)
_FLOORS_DEG = (2.0, 3.0, 4.0, 6.0, 8.0)
# the largest hundredth of a joint's accelerations holds the capture's flips (feet by 2000 rad/s^2), and is left out
_KEPT_SHARE = 0.99
_MIRROR = np.array([1.0, -1.0, -1.0])
_SOURCE = (
    "Mean, covariance and accelerations of poses in {takes} takes ({frames} frames at 30 Hz, {subjects} subjects) of "
    "CMU's motion capture database, {bvh} of them in B. Hahne's BVH conversion, retargeted to SMPL; shrinkage "
    "{shrinkage}, added deviation {floor} deg; accelerations without the largest hundredth. The data used in this "
    "project was obtained from mocap.cs.cmu.edu. The database was created with funding from NSF EIA-0196217. CMU's "
    "terms: free for use in research and commercial projects worldwide."
)


@dataclass(frozen=True, eq=False)
class Sample:
    """Frames of one take, 30 a second, and their mirror images.

    Attributes:
        subject: who moves.
        converted: whether a BVH conversion was read, not CMU's own file.
        poses: rotation vectors of joints 1 to 23.
        accelerations: of the translation and joints 0 to 23, each axis, m/s^2 and rad/s^2.
    """

    subject: str
    converted: bool
    poses: Float[np.ndarray, "frames 69"]
    accelerations: Float[np.ndarray, "steps 25 3"]


def sample_take(source: Source) -> Sample:
    """Retargets a take and looks at it 30 times a second."""
    motion, skeleton, _ = read_motion(source.path, source.take.lead_in)
    step = motion.rate / _RATE_HZ
    if step.denominator != 1:
        raise InputError(source.item, f"{motion.rate} Hz is no multiple of {_RATE_HZ}", "leave it out")
    found = retarget(motion, skeleton, stand_in_body(), source.item)
    rotations, trans = found.posed.rotations[:: int(step)], found.trans[:: int(step)]
    poses = so3_log(rotations[:, 1:])
    mirrored = (poses * _MIRROR)[:, SMPL_24.swap_idx[1:] - 1]
    turns = np.diff(so3_log(np.swapaxes(rotations[:-1], -1, -2) @ rotations[1:]), axis=0)
    moved = np.concatenate([np.diff(trans, 2, axis=0)[:, None], turns], axis=1) * _RATE_HZ**2
    converted = source.path.suffix.lower() == ".bvh"
    return Sample(source.take.subject, converted, np.concatenate([poses, mirrored]).reshape(-1, NUM_POSE), moved)


def measured_components() -> Bool[np.ndarray, "69"]:
    """What the takes have; see the module."""
    measured = np.ones((NUM_JOINTS, 3), dtype=bool)
    for j, joint in enumerate(SMPL_24.joints):
        part = joint.removeprefix("left_").removeprefix("right_")
        measured[j] = part not in (*_STILL, "spine2", "spine3")
        if part == "wrist":
            measured[j, 1:] = False
    return measured[1:].ravel()


@dataclass(frozen=True, eq=False)
class Moments:
    """Weighted sums of a subject's poses."""

    weight: float
    first: Float[np.ndarray, "n"]
    second: Float[np.ndarray, "n n"]

    def __add__(self, other: Moments) -> Moments:
        return Moments(self.weight + other.weight, self.first + other.first, self.second + other.second)

    def gaussian(self, shrinkage: float, floor: float) -> tuple[Float[np.ndarray, "n"], Float[np.ndarray, "n n"]]:
        """Mean and covariance, its correlations shrunk and a deviation (radians) added."""
        mean = self.first / self.weight
        covariance = self.second / self.weight - np.outer(mean, mean)
        spread = np.diag(np.diag(covariance))
        return mean, (1 - shrinkage) * covariance + shrinkage * spread + floor**2 * np.eye(len(mean))

    def log_likelihood(self, mean: Float[np.ndarray, "n"], covariance: Float[np.ndarray, "n n"]) -> float:
        """Mean log-likelihood of these poses under a Gaussian."""
        own, scatter = self.gaussian(0.0, 0.0)
        scatter = scatter + np.outer(own - mean, own - mean)
        return float(-0.5 * (np.linalg.slogdet(covariance)[1] + np.trace(np.linalg.solve(covariance, scatter))))


def moments_of(poses: Float[np.ndarray, "frames n"]) -> Moments:
    """A subject's sums, the frames weighing one over the root of their number."""
    weight = 1 / np.sqrt(len(poses))
    return Moments(len(poses) * weight, weight * poses.sum(axis=0), weight * poses.T @ poses)


def choose(subjects: Sequence[Moments]) -> tuple[float, float]:
    """(shrinkage, floor in degrees) under which every subject is most likely given the others."""
    everyone = sum(subjects[1:], subjects[0])
    scores = {}
    for shrinkage in _SHRINKAGES:
        for floor_deg in _FLOORS_DEG:
            held_out = []
            for one in subjects:
                rest = Moments(everyone.weight - one.weight, everyone.first - one.first, everyone.second - one.second)
                held_out.append(one.log_likelihood(*rest.gaussian(shrinkage, np.deg2rad(floor_deg))))
            scores[shrinkage, floor_deg] = float(np.mean(held_out))
    return max(scores, key=lambda key: scores[key])


def statistics_of(samples: Sequence[Sample]) -> PoseStatistics:
    """The statistics of all takes."""
    measured = measured_components()
    names = sorted({sample.subject for sample in samples})
    poses = [np.concatenate([s.poses for s in samples if s.subject == name])[:, measured] for name in names]
    subjects = [moments_of(of_one) for of_one in poses]
    shrinkage, floor_deg = choose(subjects) if len(subjects) > 1 else (_SHRINKAGES[-1], _FLOORS_DEG[-1])
    mean = np.zeros(NUM_POSE)
    covariance = np.diag(pose_prior().sigma[1:].ravel() ** 2)
    mean[measured], covariance[np.ix_(measured, measured)] = sum(subjects[1:], subjects[0]).gaussian(
        shrinkage, np.deg2rad(floor_deg)
    )
    frames = sum(len(of_one) for of_one in poses) // 2
    counts = {"takes": len(samples), "bvh": sum(s.converted for s in samples), "subjects": len(names)}
    source = _SOURCE.format(**counts, frames=frames, shrinkage=shrinkage, floor=floor_deg)
    return PoseStatistics(mean, covariance, measured, _accelerations(samples), SMPL_24.joints[1:], source)


def _accelerations(samples: Sequence[Sample]) -> Float[np.ndarray, "25"]:
    """Root mean square over takes and axes, left and right alike, without the largest few; NaN where still."""
    counts = {name: sum(len(s.poses) for s in samples if s.subject == name) for name in {s.subject for s in samples}}
    weights = np.concatenate([np.full(len(s.accelerations), counts[s.subject] ** -0.5) for s in samples])
    squares = (np.concatenate([s.accelerations for s in samples]) ** 2).mean(axis=-1)
    kept = squares <= np.quantile(squares, _KEPT_SHARE, axis=0)
    mean = (weights[:, None] * kept * squares).sum(axis=0) / (weights[:, None] * kept).sum(axis=0)
    swap = np.concatenate([[0], 1 + SMPL_24.swap_idx])
    sigma = np.sqrt((mean + mean[swap]) / 2)
    known = np.concatenate([[True, True], measured_components().reshape(-1, 3).any(axis=1)])
    return np.where(known, sigma, np.nan)


def make_statistics(paths: Sequence[Path], workers: int = 1) -> PoseStatistics:
    """The statistics of every take of CMU's database under the paths.

    Raises:
        InputError: if there is none.
    """
    with unpacked(paths) as folders, processes(workers) as pool:
        takes = [source for source in find_sources(folders).values() if source.kind == "mocap" and _of_cmu(source.take)]
        if not takes:
            raise InputError(str(paths[0]), "no takes of CMU's database", "give the folder or archive of them")
        samples = list(map(sample_take, takes) if pool is None else pool.map(sample_take, takes, chunksize=4))
    return statistics_of([sample for sample in samples if len(sample.accelerations)])


def _of_cmu(take: Take) -> bool:
    return take.details.get("dataset") == "cmu-mocap"


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description="pose statistics for the fit from CMU's motion capture")
    parser.add_argument("sources", type=Path, nargs="+", help="folder or archive of CMU's BVH takes")
    parser.add_argument("--out", type=Path, required=True, help="file to write")
    parser.add_argument("--workers", type=int, default=2)
    wanted = parser.parse_args()
    try:
        found = make_statistics(wanted.sources, wanted.workers)
    except MotifsError as error:
        print(error, file=sys.stderr)
        return 1
    write_npz(wanted.out, found.to_arrays())
    print(f"{wanted.out}: {wanted.out.stat().st_size} bytes\n{found.source}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
