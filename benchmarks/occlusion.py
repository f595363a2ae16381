"""Feet that no room camera sees for five seconds at a time: the fit with foot cameras and without.

`python benchmarks/occlusion.py [--seed N] [--sessions 3] [--seconds 60] [--hidden 5] [--views 8]`: simulated sessions
(`simulation.unfilmed`) in which everything below the knees vanishes from every room view for `--hidden` seconds out of
15, as behind a table; the foot cameras' poses are off by 3 mm and 0.3 degrees, half of it for a third of a second.
Errors are those of the hidden frames: of ankles and feet in millimetres and degrees, and of all 24 joints. With
`--own-views` the foot cameras also see their wearer, in a third row. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
from fit_scenes import FEET, Fitted, fitted, make  # beside this file

from fitting.fit import FitConfig
from simulation.unfilmed import UnfilmedConfig

WITHOUT, WITH, OWN = "without foot cameras", "with foot cameras", "and what they see"


def row(found: list[Fitted]) -> dict[str, float]:
    """Figures of several sessions together."""
    error, turned, inside = (
        np.concatenate([getattr(one, name)[one.hidden] for one in found])
        for name in ("error_m", "turned_rad", "inside")
    )
    return {
        "feet_mm": 1000 * float(error[:, FEET].mean()),
        "feet_p95_mm": 1000 * float(np.percentile(error[:, FEET], 95)),
        "feet_deg": float(np.degrees(turned[:, FEET].mean())),
        "body_mm": 1000 * float(error.mean()),
        "feet_inside": float(inside[:, FEET].mean()),
        "inside": float(inside.mean()),
    }


def main() -> None:
    """Prints a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1, help="of the first session; the others follow")
    parser.add_argument("--sessions", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--hidden", type=float, default=5.0)
    parser.add_argument("--views", type=int, default=8)
    parser.add_argument("--own-views", action="store_true", help="foot cameras see their wearer too")
    parser.add_argument("--pose-prior", default=FitConfig.pose_prior, help="as of `motifs fit`")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    names = [WITHOUT, WITH, *([OWN] if given.own_views else [])]
    found: dict[str, list[Fitted]] = {name: [] for name in names}
    for seed in range(given.seed, given.seed + given.sessions):
        with tempfile.TemporaryDirectory() as folder:
            config = UnfilmedConfig(
                seed=seed,
                duration_s=given.seconds,
                num_views=given.views,
                foot_cameras=True,
                own_views=given.own_views,
                hidden_s=given.hidden,
            )
            make(Path(folder) / "session", config, given.workers)
            session = Path(folder) / "session"
            if given.own_views:
                found[OWN].append(fitted(session, feet=True, workers=given.workers, pose_prior=given.pose_prior))
                for path in session.glob("02_keypoints/*_foot.npz"):
                    path.unlink()
            for name, feet in ((WITHOUT, False), (WITH, True)):
                found[name].append(fitted(session, feet=feet, workers=given.workers, pose_prior=given.pose_prior))
    rows = {name: row(found[name]) for name in names}
    figures = list(rows[WITH])
    print(f"{'':22}" + "".join(f"{figure:>13}" for figure in figures))
    for name, values in rows.items():
        print(f"{name:22}" + "".join(f"{value:13.3f}" for value in values.values()))
    with_feet, without = rows[WITH], rows[WITHOUT]
    result = {**with_feet, **{f"without_{name}": value for name, value in without.items()}}
    if given.own_views:
        result |= {f"own_{name}": value for name, value in rows[OWN].items()}
    result["times_worse_mm"] = without["feet_mm"] / with_feet["feet_mm"]
    result["times_worse_deg"] = without["feet_deg"] / with_feet["feet_deg"]
    print(json.dumps({key: round(value, 3) for key, value in result.items()}))


if __name__ == "__main__":
    main()
