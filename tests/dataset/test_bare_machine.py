"""Reading a dataset needs numpy and h5py alone: a GPU machine has no more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_ABSENT = ("scipy", "rich", "jaxtyping", "cv2", "av", "torch", "trimesh", "smplx", "matplotlib", "tyro", "pycolmap")
_PROGRAM = f"""
import sys
for name in {_ABSENT}:
    sys.modules[name] = None  # importing it fails
from pathlib import Path
from dataset.loader import WindowSampler, local_joints_at
from dataset.shards import AmdDataset
dataset = AmdDataset(Path(sys.argv[1]))
batch = WindowSampler(dataset, "train", 2.0, 5.0, seed=0, batch_size=2).batch(0)
assert batch["features"].shape == (2, 10, 271)
assert len(local_joints_at(dataset, dataset.clips[0].id)) == dataset.clips[0].num_frames
"""


def test_windows_come_with_numpy_and_h5py_alone(built: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    call = [sys.executable, "-c", _PROGRAM, str(built)]
    done = subprocess.run(call, cwd=root, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
