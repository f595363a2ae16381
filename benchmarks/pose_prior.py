"""Which pose prior the fit should have: captured motion that was in none of them, seen by few views or in part.

`python benchmarks/pose_prior.py AMD [--seed N] [--clips 12] [--priors anatomy cmu]`: clips of a dataset that
`motifs build` made of motion capture (Bandai Namco's for the prior of CMU's), replayed by random bodies before
simulated room cameras and a simulated detector. In `legs`, `arms` and `lower half` all views miss these for 2 s out of
5, and figures are of the joints missed, then; in `two views` of all. `inside` is the share of errors within their
stated 95 % ellipsoid. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from fit_scenes import Fitted, fitted, make  # beside this file

from core.skeletons import SMPL_24
from dataset.reclock import clip_at_rate
from dataset.shards import AmdDataset
from fitting.stand_in import stand_in_body
from simulation.replayed import ReplayedPerson, replayed
from simulation.unfilmed import BELOW_KNEES, UnfilmedConfig

_MIN_S, _MAX_S = 4.0, 12.0
_ROOM_M = (3.6, 3.0)  # what a pelvis may cover
_SHAPE_SPREAD = 0.9
_HIDDEN_S, _HIDDEN_EVERY_S = 2.0, 5.0
_ARMS, _LOWER = ("elbow", "wrist"), ("knee", *BELOW_KNEES)
# views, what keypoints are missed, and which of SMPL's joints they tell of
SCENES: dict[str, tuple[int, tuple[str, ...], tuple[str, ...]]] = {
    "eight views": (8, (), ()),
    "two views": (2, (), ()),
    "legs": (8, BELOW_KNEES, ("ankle", "foot")),
    "arms": (8, _ARMS, ("elbow", "wrist")),
    "lower half": (8, _LOWER, ("knee", "ankle", "foot")),
}


def people(dataset: AmdDataset, seed: int, count: int) -> Iterator[tuple[int, ReplayedPerson]]:
    """Random bodies that move as random clips do, at 30 Hz, of those long enough that stay in the room."""
    rng = np.random.default_rng([seed, 29])
    found = 0
    for clip_id in rng.permutation(sorted(info.id for info in dataset.clips if info.duration_s >= _MIN_S)):
        clip = clip_at_rate(dataset.read(str(clip_id)), Fraction(30))
        person = replayed(clip, stand_in_body(), _SHAPE_SPREAD * rng.normal(size=10))
        way = person.trans[: round(_MAX_S * person.rate_hz), :2]
        if (np.ptp(way, axis=0) < _ROOM_M).all():
            yield found, person
            found += 1
        if found == count:
            return


def counted(one: Fitted, joints: tuple[str, ...]) -> np.ndarray:
    """Frames and joints that a scene is about."""
    if not joints:
        return np.ones(one.error_m.shape, dtype=bool)
    return one.hidden[:, None] & np.array([name.split("_", 1)[-1] in joints for name in SMPL_24.joints])


def main() -> None:
    """Prints a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--seed", type=int, default=1, help="of clips, bodies and noise")
    parser.add_argument("--clips", type=int, default=12)
    parser.add_argument("--priors", nargs="+", default=["anatomy", "cmu"])
    parser.add_argument("--only", default="", help="scenes that begin with this")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    dataset = AmdDataset(given.dataset)
    result: dict[str, Any] = {}
    print(f"{'scene':12} {'prior':12} {'mean mm':>9} {'p95 mm':>9} {'inside':>9}")
    for scene, (views, missed, joints) in SCENES.items():
        if not scene.startswith(given.only):
            continue
        errors: dict[str, list[np.ndarray]] = {prior: [] for prior in given.priors}
        for number, person in people(dataset, given.seed, given.clips):
            config = UnfilmedConfig(
                seed=1000 * given.seed + number,
                duration_s=min(len(person.poses) / person.rate_hz, _MAX_S),
                num_views=views,
                hidden_s=_HIDDEN_S if missed else 0.0,
                hidden_every_s=_HIDDEN_EVERY_S,
                hidden_joints=missed,
            )
            with tempfile.TemporaryDirectory() as folder:
                session = Path(folder) / "session"
                make(session, config, given.workers, person)
                for prior in given.priors:
                    one = fitted(session, feet=False, workers=given.workers, pose_prior=prior)
                    of_it = counted(one, joints)
                    errors[prior].append(np.stack([one.error_m[of_it], one.inside[of_it]]))
        for prior, found in errors.items():
            error_m, inside = np.concatenate(found, axis=1)
            figures = {
                "mean_mm": 1000 * error_m.mean(),
                "p95_mm": 1000 * np.percentile(error_m, 95),
                "inside": inside.mean(),
            }
            print(f"{scene:12} {prior:12}" + "".join(f"{value:10.3f}" for value in figures.values()), flush=True)
            result |= {f"{scene.replace(' ', '_')}_{Path(prior).stem}_{name}": value for name, value in figures.items()}
    print(json.dumps({key: round(float(value), 3) for key, value in result.items()}))


if __name__ == "__main__":
    main()
