"""Motion capture onto SMPL's skeleton: clips a second, error of the joints, and what was refused.

`python benchmarks/import_motion.py ARCHIVE... [--every 10] [--workers 2]`: each folder or archive is a dataset of its
own, of which every tenth file is imported as `motifs build` does it, shards, checksums and statistics included,
unpacking not. `joints` is the mean distance of SMPL's joints from the source's (skeletons place hips, spine and
shoulders otherwise in the same body), `limbs` the same of arms and legs, `worst` the joints of the worst clip; frames
weigh alike. `refused` is the share of files that could not be read, `left out` of time that was, in clips shorter than
a second. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dataset.archives import unpacked
from dataset.build import build_from
from dataset.importers.reading import read_source
from dataset.schema import Clip
from dataset.settings import BuildConfig
from dataset.shards import AmdDataset
from dataset.sources import Source, find_sources
from fitting.stand_in import stand_in_body


def read(sources: Mapping[str, Source], item: str) -> list[Clip]:
    """The sequences of a file."""
    return read_source(sources[item], stand_in_body, "original")


def measure(path: Path, every: int, workers: int) -> dict[str, float]:
    """Figures of one dataset."""
    with unpacked([path]) as folders, tempfile.TemporaryDirectory() as out:
        sources = find_sources(folders)
        items = list(sources)[::every]
        begin = time.perf_counter()
        config = BuildConfig(max_failed_fraction=1.0)
        made = build_from(items, partial(read, sources), Path(out) / "amd", config, workers=workers)
        seconds = time.perf_counter() - begin
        dataset = AmdDataset(Path(out) / "amd")
        clips = [dataset.read(info.id) for info in dataset.clips]
    stated: list[Any] = [clip.labels.provenance["error_mm"] for clip in clips]
    errors = np.array([[error["joints"], error["limbs"]] for error in stated])
    frames = np.array([len(clip) for clip in clips])
    joints_mm, limbs_mm = np.average(errors, axis=0, weights=frames)
    left_out_s, kept_s = sum(s.duration_s for s in dataset.info.skipped), sum(info.duration_s for info in dataset.clips)
    return {
        "files": len(items),
        "clips_per_s": len(items) / seconds,
        "frames_per_s": float(frames.sum()) / seconds,
        "joints_mm": joints_mm,
        "limbs_mm": limbs_mm,
        "worst_mm": errors[:, 0].max(),
        "refused": len(made.failed) / len(items),
        "left_out": left_out_s / (left_out_s + kept_s),
    }


def main() -> None:
    """Prints a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", type=Path, nargs="+", help="folders or archives of motion capture files")
    parser.add_argument("--every", type=int, default=10)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    result: dict[str, float] = {}
    for number, path in enumerate(given.sources):
        name, row = path.name.partition(".")[0], measure(path, given.every, given.workers)
        if number == 0:
            print(f"{'':24}" + "".join(f"{key:>13}" for key in row))
        print(f"{name:24}" + "".join(f"{value:13.3f}" for value in row.values()), flush=True)
        result |= {f"{name.replace('-', '_')}_{key}": round(float(value), 3) for key, value in row.items()}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
