"""Every way in which a rig fails: solved within its uncertainty, refused by the right name, or silently wrong.

`python benchmarks/failure_scenes.py [--seed 1] [--seeds 3] [--only NAME]`. Each scene (`simulation.failure_scenes`)
goes through the rig stage's own mathematics and gates. Solved is right if every camera lies within `SIGMAS` of its
stated standard deviations and one millimetre; refused is right if the scene has something wrong and the first line
that a user reads names it. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass

import numpy as np

from calibration.align import align_poses, pose_errors, rig_poses
from calibration.rig_health import RigLimits
from calibration.rig_import import measured_on, refined
from calibration.rig_keypoints import KeypointRefinement
from calibration.rig_solution import RigSolution, World, solve_from_targets
from core.errors import MotifsError
from simulation.failure_scenes import FAILURES, FailureScene

SIGMAS = 5.0
FLOOR_MM, FLOOR_DEG = 1.0, 0.02  # below which nobody measures


@dataclass(frozen=True)
class Outcome:
    """What became of a scene.

    Attributes:
        verdict: `solved`, `refused`, `wrong` (silently) or `misnamed`.
        words: the refusal, or nothing.
        error_mm: of the worst camera's place.
        sigma_mm: stated, of the same camera.
        error_deg: of the worst camera's orientation.
        sigma_deg: stated, of the same camera.
        seconds: wall time.
    """

    verdict: str
    words: str
    error_mm: float = np.nan
    sigma_mm: float = np.nan
    error_deg: float = np.nan
    sigma_deg: float = np.nan
    seconds: float = np.nan

    @property
    def right(self) -> bool:
        """Whether a user is served."""
        return self.verdict in ("solved", "refused")


def judge(scene: FailureScene) -> Outcome:
    """Solves a scene and compares the outcome with the truth."""
    start = time.perf_counter()
    try:
        solution, method = _solve(scene)
    except MotifsError as error:
        return _refusal(scene, str(error), time.perf_counter() - start)
    refused = [h for h in solution.health(RigLimits(), method) if not h.ok]
    seconds = time.perf_counter() - start
    if refused:
        return _refusal(scene, "; ".join(f"{h.item} {h}" for h in refused), seconds)
    return _measured(scene, solution, seconds)


def _solve(scene: FailureScene) -> tuple[RigSolution, str]:
    if scene.reference is not None:
        assert scene.person is not None  # imported rigs are refined on one
        solution = refined(scene.reference, scene.person, KeypointRefinement(sigma_px=3.0))
        return measured_on(solution, scene.person), "keypoints"
    world: World = "target" if scene.gravity else "first_camera"
    solution = solve_from_targets(scene.scene.sightings, scene.scene.targets, world=world)
    return (solution if scene.person is None else measured_on(solution, scene.person)), "targets"


def _refusal(scene: FailureScene, words: str, seconds: float) -> Outcome:
    """A refusal is right if something is wrong and its first words, which the user reads, name it."""
    named = any(name in words.split(";")[0] for name in scene.blame)
    return Outcome("refused" if named else "misnamed", words, seconds=seconds)


def _measured(scene: FailureScene, solution: RigSolution, seconds: float) -> Outcome:
    truth, ours = scene.scene.rig, rig_poses(solution.rig)
    covariance = np.stack([solution.covariance[name] for name in truth.ids])
    if not scene.gravity:  # the world is that of the camera whose pose is held
        held = int(np.einsum("nii->n", covariance).argmin())
        true = rig_poses(truth)
        truth_poses = ours[held] @ true[held].inverse() @ true
    else:
        truth_poses = rig_poses(truth)
    if scene.reference is not None:
        ours = align_poses(ours, truth_poses)[0] @ ours
    errors = pose_errors(ours, truth_poses)
    sigma_m = np.sqrt(np.maximum(np.linalg.eigvalsh(covariance[:, 3:, 3:])[:, -1], 0))
    sigma_rad = np.sqrt(np.maximum(np.linalg.eigvalsh(covariance[:, :3, :3])[:, -1], 0))
    millimetres, degrees = 1000 * errors.centre_m, np.degrees(errors.rotation_rad)
    within = (millimetres < SIGMAS * 1000 * sigma_m + FLOOR_MM).all()
    within &= (degrees < SIGMAS * np.degrees(sigma_rad) + FLOOR_DEG).all()
    k, r = int(millimetres.argmax()), int(degrees.argmax())
    return Outcome(
        "solved" if within else "wrong",
        "",
        float(millimetres[k]),
        float(1000 * sigma_m[k]),
        float(degrees[r]),
        float(np.degrees(sigma_rad[r])),
        seconds,
    )


def main() -> None:
    """Prints a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    print(
        f"{'scene':32} {'seed':>4} {'outcome':9} {'error mm':>9} {'sigma':>7} {'deg':>7} {'sigma':>7} {'s':>5}  named"
    )
    counts = {"solved": 0, "refused": 0, "wrong": 0, "misnamed": 0}
    for name, maker in FAILURES.items():
        if options.only not in name:
            continue
        for seed in range(options.seed, options.seed + options.seeds):
            o = judge(maker(np.random.default_rng(seed)))
            counts[o.verdict] += 1
            figures = f"{o.error_mm:9.2f} {o.sigma_mm:7.2f} {o.error_deg:7.3f} {o.sigma_deg:7.3f} {o.seconds:5.1f}"
            print(f"{name:32} {seed:4} {o.verdict:9} {figures}  {o.words.split(';')[0][:110]}", flush=True)
    total = sum(counts.values())
    right = counts["solved"] + counts["refused"]
    print(json.dumps({"scenes": total, "right": right, "silently_wrong": counts["wrong"], **counts}))


if __name__ == "__main__":
    main()
