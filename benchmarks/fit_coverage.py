"""Whether the fit's stated uncertainties hold: shares of true errors inside the stated 95 % bounds.

`python benchmarks/fit_coverage.py [--seed N] [--sessions 8] [--seconds 20]`: simulated sessions
(`simulation.unfilmed`), each another person and motion. `plain` is eight views; `four views` half of them; `offsets` a
detector that means other places by its joints than the body model does, by 7 mm along each axis; `hidden` has
everything below the knees hidden for 5 s out of 15, with foot cameras. Half of a keypoint's noise stays for a third of
a second. `ellipsoid` counts joints inside their 95 % ellipsoid, `axes` components inside their own bounds, `lowest` and
`highest` are those shares of single joints over all sessions. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
from fit_scenes import Fitted, fitted, make  # beside this file

from fitting.fit import FitConfig
from simulation.unfilmed import UnfilmedConfig

SCENES: dict[str, dict[str, float | bool]] = {
    "plain": {},
    "four views": {"num_views": 4},
    "offsets": {"offset_sigma_m": 0.007},
    "hidden": {"foot_cameras": True, "hidden_s": 5.0},
}


def row(found: list[Fitted]) -> dict[str, float]:
    """Shares over all sessions of a scene."""
    inside, axes, error = (
        np.concatenate([getattr(one, name) for one in found]) for name in ("inside", "axes_inside", "error_m")
    )
    return {
        "ellipsoid": float(inside.mean()),
        "axes": float(axes.mean()),
        "lowest": float(axes.mean(axis=0).min()),
        "highest": float(axes.mean(axis=0).max()),
        "mean_mm": 1000 * float(error.mean()),
    }


def main() -> None:
    """Prints a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1, help="of the first session; the others follow")
    parser.add_argument("--sessions", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--only", default="", help="scenes that begin with this")
    parser.add_argument("--pose-prior", default=FitConfig.pose_prior, help="as of `motifs fit`")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    result: dict[str, float] = {}
    print(f"{'':12}" + "".join(f"{name:>11}" for name in ("ellipsoid", "axes", "lowest", "highest", "mean mm")))
    for name, settings in SCENES.items():
        if not name.startswith(given.only):
            continue
        found = []
        for seed in range(given.seed, given.seed + given.sessions):
            with tempfile.TemporaryDirectory() as folder:
                config = UnfilmedConfig(seed=seed, duration_s=given.seconds, **settings)  # type: ignore[arg-type]
                make(Path(folder) / "session", config, given.workers)
                feet = config.foot_cameras
                found.append(
                    fitted(Path(folder) / "session", feet=feet, workers=given.workers, pose_prior=given.pose_prior)
                )
        values = row(found)
        print(f"{name:12}" + "".join(f"{value:11.3f}" for value in values.values()), flush=True)
        result |= {f"{name.replace(' ', '_')}_{key}": value for key, value in values.items()}
    print(json.dumps({key: round(value, 4) for key, value in result.items()}))


if __name__ == "__main__":
    main()
