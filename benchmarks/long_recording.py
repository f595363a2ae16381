"""An hour of one person: how long triangulation and fit take, what memory they need, and whether time grows in line.

`python benchmarks/long_recording.py [--seed N] [--minutes 60] [--against 10] [--views 8] [--workers 2]`: simulated
keypoints of a person in a furnished room (`simulation.unfilmed`: noise of which half stays for a third of a second, 2 %
outliers, exchanged sides, frames without a person) go through the very stages, `motifs triangulate` and `motifs fit`,
pictures left out. `linear` is the time a minute of the long recording over that of the short one. Memory is that of all
processes together, sampled while the stages run. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from core.files import read_npz
from fitting import fit, triangulate
from fitting.sequence import load_smpl
from simulation.unfilmed import UnfilmedConfig, make_unfilmed

CHI2_95 = 7.815  # of three degrees of freedom


def measure(minutes: float, seed: int, views: int, workers: int) -> dict[str, float]:
    """Seconds of both stages, and errors against the truth."""
    with tempfile.TemporaryDirectory() as folder:
        session = Path(folder) / "session"
        config = UnfilmedConfig(seed=seed, duration_s=60 * minutes, num_views=views)
        made = multiprocessing.get_context("spawn").Process(target=make_unfilmed, args=(session, config))
        made.start()
        made.join()
        with MemoryOfTree() as memory:
            start = time.perf_counter()
            triangulate.run(session, workers=workers)
            middle = time.perf_counter()
            fit.run(session, fit.FitConfig(num_overlays=0), workers=workers)
            end = time.perf_counter()
        truth, found = read_npz(session / "truth" / "smpl.npz"), load_smpl(session / "07_smpl" / "smpl.npz")
        offset = found.joints_m - truth["joints_m"]
        squared = np.einsum("tji,tjik,tjk->tj", offset, np.linalg.inv(found.joint_covariance), offset)
        return {
            "triangulate_s": middle - start,
            "fit_s": end - middle,
            "minutes": (end - start) / 60,
            "fps": len(found) / (end - start),
            "mean_mm": 1000 * float(np.linalg.norm(offset, axis=-1).mean()),
            "inside": float((squared < CHI2_95).mean()),
            "valid": float(found.frame_valid.mean()),
            "memory_gib": memory.peak_gib,
        }


class MemoryOfTree:
    """Samples the resident memory of this process and of all that it started, twice a second; Linux alone."""

    def __init__(self) -> None:
        self.peak_gib, self._ended = 0.0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> MemoryOfTree:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.5):
            parents, resident = {}, {}
            for status in Path("/proc").glob("[0-9]*/status"):
                try:
                    fields = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
                except (OSError, ValueError):  # it has ended meanwhile
                    continue
                pid = int(status.parent.name)
                parents[pid] = int(fields["PPid"])
                resident[pid] = int(fields.get("VmRSS", "0 kB").split()[0])
            tree = {os.getpid()}
            while more := {pid for pid, parent in parents.items() if parent in tree} - tree:
                tree |= more
            self.peak_gib = max(self.peak_gib, sum(resident.get(pid, 0) for pid in tree) / 2**20)


def main() -> None:
    """Prints a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--against", type=float, default=10.0, help="length of the short recording, minutes")
    parser.add_argument("--views", type=int, default=8)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    rows = {}
    names = {
        "minutes": 8,
        "triangulate s": 14,
        "fit s": 8,
        "frames/s": 9,
        "mean mm": 8,
        "inside": 7,
        "valid": 6,
        "GiB": 5,
    }
    print(" ".join(f"{name:>{width}}" for name, width in names.items()))
    for minutes in (given.against, given.minutes):
        rows[minutes] = row = measure(minutes, given.seed, given.views, given.workers)
        print(
            f"{minutes:8.1f} {row['triangulate_s']:14.1f} {row['fit_s']:8.1f} {row['fps']:9.0f} {row['mean_mm']:8.2f} "
            f"{row['inside']:7.3f} {row['valid']:6.3f} {row['memory_gib']:5.2f}",
            flush=True,
        )
    short, long = rows[given.against], rows[given.minutes]
    result = {**long, "linear": (long["minutes"] / given.minutes) / (short["minutes"] / given.against)}
    print(json.dumps({key: round(value, 3) for key, value in result.items()}))


if __name__ == "__main__":
    main()
