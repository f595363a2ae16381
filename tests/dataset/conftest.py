"""A body of sticks that walks in a circle, and sessions and datasets made of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from core.files import write_json, write_npz
from core.skeletons import SMPL_24
from dataset.build import BuildConfig, build
from dataset.rotations import matrix_from_rotvec, rotvec_from_matrix, yaw_matrix
from dataset.shards import AmdDataset

# Rest offsets from the parent in SMPL's body frame: x left, y up, z forward, metres.
_OFFSETS = np.zeros((24, 3))
for _joint, _offset in {
    "left_hip": (0.07, -0.09, 0.0), "spine1": (0.0, 0.12, -0.02), "left_knee": (0.03, -0.38, 0.0),
    "spine2": (0.0, 0.13, 0.02), "left_ankle": (0.0, -0.42, -0.03), "spine3": (0.0, 0.06, 0.0),
    "left_foot": (0.03, -0.05, 0.12), "neck": (0.0, 0.21, -0.03), "left_collar": (0.08, 0.12, -0.02),
    "head": (0.0, 0.09, 0.05), "left_shoulder": (0.12, 0.04, -0.01), "left_elbow": (0.26, -0.01, 0.0),
    "left_wrist": (0.25, 0.01, 0.0), "left_hand": (0.08, -0.01, 0.0),
}.items():  # fmt: skip
    _OFFSETS[SMPL_24.idx(_joint)] = _offset
    if _joint.startswith("left_"):
        _OFFSETS[SMPL_24.idx(_joint.replace("left_", "right_"))] = np.array([-1.0, 1.0, 1.0]) * _offset

# world z up from SMPL's y up: x stays, y -> z, z (forward) -> -y
_UPRIGHT = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])


def stick_joints(poses: np.ndarray, pelvis: np.ndarray, scale: float = 1.0) -> np.ndarray:
    """Forward kinematics of the stick body."""
    rotations = matrix_from_rotvec(poses)
    world = np.empty_like(rotations)
    joints = np.empty((len(poses), 24, 3))
    world[:, 0], joints[:, 0] = rotations[:, 0], pelvis
    assert SMPL_24.parents is not None
    for j, parent in enumerate(SMPL_24.parents[1:], start=1):
        world[:, j] = world[:, parent] @ rotations[:, j]
        joints[:, j] = joints[:, parent] + scale * world[:, parent] @ _OFFSETS[j]
    return joints


def walk(num_frames: int, rate_hz: float, seed: int = 0, scale: float = 1.0) -> dict[str, np.ndarray]:
    """Poses, pelvis and joints of somebody walking in a circle of 1 m, the whole turn in 8 s."""
    rng = np.random.default_rng(seed)
    t = np.arange(num_frames) / rate_hz
    yaw = 2 * np.pi * t / 8.0 + rng.uniform(0, 2 * np.pi)
    phase = rng.uniform(0, 2 * np.pi, (1, 24, 3))
    poses = 0.3 * np.sin(2 * np.pi * 0.9 * t[:, None, None] + phase)
    poses[:, 0] = rotvec_from_matrix(yaw_matrix(yaw) @ _UPRIGHT)
    pelvis = np.stack([np.sin(yaw), -np.cos(yaw), 0.93 + 0.02 * np.sin(2 * t)], axis=1)
    return {"poses": poses, "pelvis": pelvis, "joints_m": stick_joints(poses, pelvis, scale), "yaw": yaw}


# what a stage's manifest holds at least; of it the fingerprint and the figures are read by `build`
MANIFEST = {
    "inputs": {}, "config": {}, "outputs": {}, "metrics": {"valid": 0.9, "mask_iou": {"cam1": {"median": 0.93}}},
    "health": [], "failed": {}, "timing": {"seconds": 1.0},
}  # fmt: skip


@pytest.fixture
def walker() -> Callable[..., dict[str, np.ndarray]]:
    """`walk(num_frames, rate_hz, seed, scale)`."""
    return walk


MakeSession = Callable[..., Path]


def session_maker(root: Path) -> MakeSession:
    """See `make_session`; the sessions lie under `root`."""

    def make(name: str, subject: str = "s1", num_frames: int = 300, seed: int = 0, **changes: np.ndarray) -> Path:
        folder = root / name
        motion = walk(num_frames, 30.0, seed)
        write_json(folder / "session.json", {"schema": "action-motifs/session/1", "id": name, "subject": subject})
        covariance = np.broadcast_to(np.diag([1e-4, 4e-4, 9e-4]), (num_frames, 24, 3, 3))
        arrays = {
            "t_s": 8.0 + np.arange(num_frames) / 30.0,
            "rate": np.array("30/1"),
            "poses": motion["poses"].reshape(num_frames, 72),
            "trans": motion["pelvis"],
            "betas": np.linspace(-1, 1, 10),
            "gender": np.array("neutral"),
            "body_model": np.array("sticks"),
            "body_sha256": np.array("5713"),
            "joints_m": motion["joints_m"],
            "joint_covariance": covariance,
            "joint_valid": np.ones((num_frames, 24), bool),
            "frame_valid": np.ones(num_frames, bool),
            "reasons": np.zeros(num_frames, np.int64),
            "contacts": np.zeros((num_frames, 4)),
        }
        write_npz(folder / "07_smpl" / "smpl.npz", {**arrays, **changes})
        write_json(folder / "07_smpl" / "manifest.json", {**MANIFEST, "fingerprint": f"fit-of-{name}"})
        return folder

    return make


@pytest.fixture
def make_session(tmp_path: Path) -> MakeSession:
    """Writes a fitted session: `make_session(name, subject, num_frames, seed, **arrays to replace)`."""
    return session_maker(tmp_path / "sessions")


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five subjects, 10 s to 14 s each, in several shards; not to be changed."""
    folder = tmp_path_factory.mktemp("built")
    make = session_maker(folder / "sessions")
    sessions = [make(f"rec{i}", f"s{i}", 300 + 30 * i, seed=i) for i in range(5)]
    build(sessions, folder / "amd", BuildConfig(shard_mb=0.5))
    return folder / "amd"


@pytest.fixture
def dataset(built: Path) -> AmdDataset:
    """The dataset of `built`."""
    return AmdDataset(built)


@pytest.fixture
def dataset_copy(built: Path, tmp_path: Path) -> AmdDataset:
    """The same in a folder of its own, to be damaged."""
    return AmdDataset(Path(shutil.copytree(built, tmp_path / "copy")))


@pytest.fixture
def read_meta() -> Callable[[Path, str], dict]:
    """Reads one of a dataset's small files."""
    return lambda path, name: json.loads((path / "meta" / name).read_text())
