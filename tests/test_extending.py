"""The examples of `docs/extending.md`: each is applied to a copy of the code, short, and does what it says."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PATCHES = ROOT / "examples" / "extending"
PACKAGES = ("core", "capture", "calibration", "fitting", "dataset", "model", "motifs", "simulation")

DETECTOR = """
from pathlib import Path

import numpy as np

from capture.detectors import guess_format, read_keypoints
from capture.session import View
from core.errors import InputError
from core.skeletons import COCO_17

path = Path("table.csv")
head = "scorer,a,a,a,a,a,a\\nbodyparts,nose,nose,nose,tail,tail,tail\\ncoords,x,y,likelihood,x,y,likelihood\\n"
path.write_text(head + "0,10,20,.9,1,2,.5\\n1,,,,1,2,.5\\n2,12,20,.8,1,2,.5\\n")
assert guess_format(path) == "deeplabcut"
found = read_keypoints(path, "deeplabcut", COCO_17)
assert found.num_frames == 3
nose = COCO_17.idx("nose")
assert np.array_equal(found.xy_px[:, 0, nose], [[10, 20], [np.nan, np.nan], [12, 20]], equal_nan=True)
assert found.score[:, 0, nose].tolist() == [np.float32(0.9), 0, np.float32(0.8)]
assert (found.score[:, 0].sum(axis=1) < 1).all()  # no joint of a person is called tail
View("a", "room", (64, 48), keypoints="table.csv", keypoints_format="deeplabcut", keypoints_skeleton="COCO_17")
for damage in ("0,10,twenty,.9,1,2,.5\\n", "0,10\\n"):
    path.write_text(head + damage)
    try:
        read_keypoints(path, "deeplabcut", COCO_17)
    except InputError as error:
        assert "table.csv" in str(error)
    else:
        raise SystemExit(f"{damage!r} was read")
"""

LENS = """
import numpy as np

from calibration.formats.contents import perspective_coefficients
from calibration.lens_solver import calibrate_lens
from calibration.scene import Observations
from core.cameras import Camera, Lens
from core.errors import InputError
from core.transforms import SE3

rng = np.random.default_rng(0)
for k in (-0.3, 0.05):
    lens = Lens("division", (1280, 960), (900.0, 905.0), (640.0, 470.0), (k,))
    px = rng.uniform(0, 1, size=(200, 2)) * (np.array(lens.size_px) - 1)
    points = 2 * lens.unproject(px)
    np.testing.assert_allclose(lens.project(points), px, atol=1e-9)
    _, by_point, by_params = lens.project_with_jacobian(points)
    steps = 1e-6 * np.eye(5)
    numeric = [(lens.project(points + d) - lens.project(points - d)) / 2e-6 for d in steps[:3, :3]]
    np.testing.assert_allclose(by_point, np.stack(numeric, axis=-1), atol=1e-5)
    at = [lens.with_params(lens.params + d).project(points) - lens.with_params(lens.params - d).project(points)
          for d in steps]
    np.testing.assert_allclose(by_params, np.stack(at, axis=-1) / 2e-6, atol=1e-5)

truth = Lens("division", (1280, 960), (900.0, 905.0), (640.0, 470.0), (-0.3,))
board = np.stack([*np.meshgrid(0.04 * np.arange(9), 0.04 * np.arange(6)), np.zeros((6, 9))], axis=-1).reshape(-1, 3)
board -= board.mean(axis=0)
parts = []
for view in range(20):
    ray = truth.unproject((np.array(truth.size_px) * rng.uniform(0.2, 0.8, 2))[None])[0]
    turned = SE3.from_rotvec(np.array([*rng.uniform(-0.5, 0.5, 2), rng.uniform(-3, 3)]), rng.uniform(0.4, 0.9) * ray)
    px = truth.project(turned.apply(board)) + 0.05 * rng.standard_normal((len(board), 2))
    rows = np.flatnonzero(truth.contains(px))
    parts.append(Observations(np.full(len(rows), view), np.zeros(len(rows), int), board[rows], px[rows],
                              np.full(len(rows), 0.05)))
found = calibrate_lens(Observations.concatenate(parts), 20, "division", truth.size_px)
assert abs(found.rms_px - 0.05) < 0.01, found.rms_px
assert (np.abs(found.lens.params - truth.params) < 5 * np.sqrt(np.diag(found.covariance))).all(), found.lens
try:  # formats that cannot hold it say so
    perspective_coefficients(Camera("a", truth, SE3.identity()), "Kalibr")
except InputError as error:
    assert "division" in str(error)
else:
    raise SystemExit("it was written as another lens")
"""

IMPORTER = """
from pathlib import Path

import numpy as np

from core.files import write_npz
from dataset.shards import AmdDataset
from motifs import cli

t = np.arange(90)[:, None] / 30
poses = np.concatenate([0.1 * np.sin(t + np.arange(66)), np.zeros((90, 90))], axis=1)
poses[:, 0] += np.pi / 2  # upright
write_npz(Path("walk_poses.npz"), {
    "poses": poses, "trans": np.concatenate([t, t * 0, t * 0 + 0.9], axis=1), "betas": np.zeros(16),
    "mocap_framerate": np.array(30.0), "gender": np.array("neutral"),
})
for call in ("build walk_poses.npz --out first", "export first --out trc --format trc", "build trc --out second"):
    assert cli.run(call.split()) == 0, call
assert not list(Path("trc").rglob("*.npz"))
first, second = (AmdDataset(Path(name)) for name in ("first", "second"))
(one,), (other,) = ([part.read(clip.id) for clip in part.clips] for part in (first, second))
apart = one.joints_m - other.joints_m
apart[..., 2] -= np.median(apart[..., 2])  # it is lowered onto the floor
assert np.abs(apart).max() < 0.03, apart
Path("trc/bad.trc").write_text("no table\\n")
assert cli.run("build trc/bad.trc --out third".split()) != 0
"""

BASELINE = """
import dataclasses
from pathlib import Path

import numpy as np
import torch

from core.files import write_npz
from model.baselines.pretraining import pretrain
from model.baselines.recipes import system_recipe
from model.baselines.skeletons import SkeletonBatch, System
from model.baselines.systems import build_system
from model.protocols.names import METHODS
from motifs import cli

recipe = system_recipe("pose_autoencoder", "cpu_10min")
system = build_system(recipe.system)
assert isinstance(system, System) and "pose_autoencoder" in METHODS
batch = SkeletonBatch(torch.randn(3, 1, 20, 22, 3), torch.ones(3, 1, 20, dtype=torch.bool))
batch.exists[1, 0, 10:] = False
batch.joints_m[1, 0, 10:] = float("nan")
loss = system.loss(batch, torch.Generator()).total
loss.backward()
assert all(torch.isfinite(p.grad).all() for p in system.parameters())
tokens = system.encode(batch)
assert tokens.z.shape == (3, 20, 64) and torch.equal(tokens.exists, batch.exists[:, 0])

t = np.arange(300)[:, None] / 30
poses = np.concatenate([0.1 * np.sin(t + np.arange(66)), np.zeros((300, 90))], axis=1)
for number in range(3):
    write_npz(Path(f"person{number}/walk_poses.npz"), {
        "poses": poses, "trans": np.concatenate([t, t * 0, t * 0 + 0.9], axis=1), "betas": np.zeros(16),
        "mocap_framerate": np.array(30.0), "gender": np.array("neutral"),
    })
options = ["--split.split-rule", "exact"]
assert cli.run(["build", "person0", "person1", "person2", "--out", "amd", *options]) == 0
short = dataclasses.replace(recipe, steps=30, batch_size=4)
result = pretrain(Path("amd"), short, Path("run"), device="cpu")
assert result.steps == 30
"""


@pytest.mark.parametrize(
    ("name", "check"),
    [("detector", DETECTOR), ("lens", LENS), ("importer", IMPORTER), ("baseline", BASELINE)],
)
def test_an_example_is_short_and_works(name: str, check: str, tmp_path: Path) -> None:
    patch = PATCHES / f"{name}.patch"
    added = [line for line in patch.read_text(encoding="utf-8").splitlines() if line.startswith("+")]
    assert sum(not line.startswith("+++") for line in added) < 60
    code, work = tmp_path / "code", tmp_path / "work"
    for package in PACKAGES:
        shutil.copytree(ROOT / package, code / package, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run(["git", "apply", "--whitespace=error", str(patch)], cwd=code, check=True)
    work.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(code), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    call = [sys.executable, "-c", check]
    answer = subprocess.run(call, cwd=work, env=environment, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr
