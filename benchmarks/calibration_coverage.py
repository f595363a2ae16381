"""Whether stated uncertainties are honest: over simulated rigs, the share of true errors inside the stated 95 % bounds.

`python benchmarks/calibration_coverage.py [--seed 1000] [--rigs 50] [--workers 2]`. Three kinds of rig: one board in
sixty places with known lenses, the same with free lenses, and a room with boards that hang and a rig of markers that is
carried past cameras with clocks of their own. Boards have no world, so truth and covariance are both relative to the
camera whose pose is held. Each number of a pose counts by itself. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np

from calibration.align import rig_poses
from calibration.boards import solve_boards
from calibration.rig_solution import solve_from_targets
from core.transforms import SE3
from simulation.board_rigs import board_rig
from simulation.target_scenes import film_all, room_stage

BOUND = 1.959964  # standard deviations of the two-sided 95 %
_START_PARAMS = np.array([0.01, 0.01, 10.0, 10.0, 0.03, 0.03, 0.0, 0.0, 0.0])  # how far start values of lenses are off

Scores = dict[str, np.ndarray]


def boards(seed: int, *, free_lenses: bool) -> Scores:
    """Errors over standard deviations of a rig that saw one moving board."""
    rng = np.random.default_rng(seed)
    made = board_rig(rng)
    lenses = tuple(camera.lens for camera in made.rig)
    start = lenses
    if free_lenses:
        off = _START_PARAMS * rng.standard_normal((len(lenses), len(_START_PARAMS)))
        off[:, :2] *= np.array([lens.focal_px for lens in lenses])
        start = tuple(lens.with_params(lens.params + o) for lens, o in zip(lenses, off, strict=True))
    result = solve_boards(made.rig.ids, start, made.corners_px, made.board_m, free_lenses=free_lenses).result
    into_first = result.scene.world_from_cam[0] @ rig_poses(made.rig)[0].inverse()
    scores = pose_scores(
        "camera", into_first @ rig_poses(made.rig), result.scene.world_from_cam, result.image_covariance
    )
    scores |= pose_scores(
        "board", into_first @ made.world_from_board, result.scene.world_from_target, result.target_covariance
    )
    if free_lenses:
        solved = np.stack([lens.params for lens in result.scene.lenses])
        z = (solved - np.stack([lens.params for lens in lenses])) / result.lens_sigma
        scores |= {"focal": z[:, :2].ravel(), "principal point": z[:, 2:4].ravel(), "distortion k1": z[:, 4]}
    return scores


def room(seed: int) -> Scores:
    """The same of a room in whose world a board lies, with a carried rig and unlocked clocks."""
    made = film_all(room_stage(), np.random.default_rng(seed))
    solution = solve_from_targets(made.sightings, made.targets)
    covariance = np.stack([solution.covariance[name] for name in made.rig.ids])
    scores = pose_scores("camera", rig_poses(made.rig), rig_poses(solution.rig.subset(made.rig.ids)), covariance)
    blocks = solution.target_blocks()
    names = [name for name in solution.world_from_target if name != "floor"]
    true, ours = (SE3.stack([d[name] for name in names]) for d in (made.world_from_target, solution.world_from_target))
    return scores | pose_scores("target", true, ours, np.stack([blocks[name] for name in names]))


def pose_scores(what: str, truth: SE3, ours: SE3, covariance: np.ndarray) -> Scores:
    """Every number of every pose that is not held: error over standard deviation."""
    sigma = np.sqrt(np.maximum(np.einsum("nii->ni", covariance), 0.0))
    free = sigma.min(axis=-1) > 0
    z = ours.local(truth)[free] / sigma[free]
    return {f"{what} rotation": z[:, :3].ravel(), f"{what} position": z[:, 3:].ravel()}


KINDS: dict[str, Callable[[int], Scores]] = {
    "known": partial(boards, free_lenses=False),
    "free": partial(boards, free_lenses=True),
    "moving": room,
}


def _one(job: tuple[str, int]) -> Scores:
    return KINDS[job[0]](job[1])


def main() -> None:
    """Prints a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--rigs", type=int, default=50)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kind", choices=[*KINDS, "all"], default="all")
    options = parser.parse_args()
    kinds = list(KINDS) if options.kind == "all" else [options.kind]
    figures: dict[str, float] = {}
    print(f"{'rigs':7} {'group':18} {'inside 95 %':>11} {'rms z':>6} {'numbers':>8}")
    with ProcessPoolExecutor(options.workers) as pool:
        for kind in kinds:
            jobs = [(kind, seed) for seed in range(options.seed, options.seed + options.rigs)]
            found = list(pool.map(_one, jobs))
            for group in found[0]:
                z = np.concatenate([scores[group] for scores in found])
                inside = float((np.abs(z) < BOUND).mean())
                print(f"{kind:7} {group:18} {100 * inside:11.1f} {np.sqrt((z**2).mean()):6.2f} {len(z):8}", flush=True)
                figures[f"{kind} {group}".replace(" ", "_")] = round(inside, 4)
    worst, best = min(figures.values()), max(figures.values())
    print(json.dumps({"rigs": options.rigs, "lowest": worst, "highest": best, **figures}))


if __name__ == "__main__":
    main()
